//! Batches: the fast way in. The body is a stream: a part of it is read and checked while the one before goes to the disk, whose pace
//! is then the sender's, and no more than these two are in memory.

use super::State;
use super::batches::callbacks;
use super::error::{Code, Place, Problem};
use super::extract::{KeyedBody, Query, Room, media_type};
use super::lines::{Limits, Lines, too_large};
use super::once::Key;
use super::state::{check_payload, handler};
use super::wire::BatchAccepted;
use crate::model::batch::CallbackKind;
use crate::model::request::{BatchRequest, CallbackRequest, Input, Payload, TaskRequest, parse};
use crate::model::sweep::Sweep;
use crate::model::task::{NewTask, Origin};
use crate::model::{Time, name};
use crate::registry::snapshot::{Handler, Snapshot};
use crate::store::StoreError;
use axum::Json;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use http_body_util::BodyExt;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::sync::Arc;
use utoipa::IntoParams;

const LIMITS: Limits = Limits {
    line: 1 << 20,
    lines: 1_000_000,
    total: 1 << 30,
};
/// Submissions that are worked on together, at most.
const PART: usize = 500;
/// Bytes of them, about.
const PART_BYTES: usize = 1 << 20;
/// So many bytes have to come within the time that a whole body of another kind has: less is a client that stalls.
const PACE: usize = 16 << 10;

/// Parameters of a batch.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct BatchQuery {
    /// For people: 1 to 128 characters of A-Z a-z 0-9 . _ -
    #[param(value_type = Option<String>)]
    name: String,
    /// A task to submit once all have succeeded, by its name.
    #[param(value_type = Option<String>)]
    on_success: String,
    /// A task to submit once all have ended, if one failed.
    #[param(value_type = Option<String>)]
    on_failure: String,
    /// A task to submit once all have ended.
    #[param(value_type = Option<String>)]
    on_complete: String,
}

impl Input for BatchQuery {}

/// What goes for a batch as a whole.
struct About {
    name: Option<String>,
    /// In the order of [`CallbackKind::ALL`].
    callbacks: [Option<CallbackRequest>; 3],
}

impl BatchQuery {
    fn about(self) -> Result<About, Problem> {
        let name = match self.name.as_str() {
            "" => None,
            text if name::is_valid(text) => Some(self.name),
            text => return Err(Problem::invalid("/name", name::why_invalid("the name", text))),
        };
        let callbacks = [self.on_success, self.on_failure, self.on_complete].map(|task_name| {
            Some(task_name).filter(|name| !name.is_empty()).map(|task_name| CallbackRequest {
                task_name,
                payload: Payload::default(),
            })
        });
        Ok(About { name, callbacks })
    }
}

/// What the query and the body say together.
fn both(query: [Option<CallbackRequest>; 3], body: [Option<CallbackRequest>; 3]) -> Result<[Option<CallbackRequest>; 3], Problem> {
    let mut both = [None, None, None];
    for (n, (query, body)) in query.into_iter().zip(body).enumerate() {
        both[n] = one_of(CallbackKind::ALL[n].as_str(), query, body)?;
    }
    Ok(both)
}

fn one_of<T>(member: &str, query: Option<T>, body: Option<T>) -> Result<Option<T>, Problem> {
    match (query, body) {
        (Some(_), Some(_)) => Err(Problem::invalid(
            format!("/{member}"),
            format!("{member} is in the query and in the body; give it once"),
        )),
        (query, body) => Ok(body.or(query)),
    }
}

/// Submits a batch of tasks
///
/// All or none: the answer means that every one of them is on disk and will run; after any other answer, and where the connection breaks
/// before it, none of them will. As `application/x-ndjson` each line is a submission, and `errors` name the `line`; at most 1,000,000
/// lines, 1 MiB a line and 1 GiB in all, read as fast as the disk takes them. As JSON at most 16 MiB: a list of `tasks`, or a sweep, `task_name`
/// with a `payload` and a `grid`, of which every combination makes a task.
#[utoipa::path(post, path = "/tasks/batch", tag = "tasks",
    params(BatchQuery, ("Idempotency-Key" = Option<String>, Header, description = "Sent again under the same key within 24 h, the request gets the same answer and does nothing")),
    request_body(content((BatchRequest = "application/json"), (TaskRequest = "application/x-ndjson"))),
    responses(
        (status = 200, description = "Accepted", body = BatchAccepted),
        (status = 400), (status = 404), (status = 408), (status = 409), (status = 413), (status = 415), (status = 422), (status = 503),
    ))]
pub(crate) async fn submit(state: State, headers: HeaderMap, query: Query<BatchQuery>, request: Request) -> Response {
    match take_in(&state, &headers, query, request).await {
        Ok(accepted) => Json(accepted).into_response(),
        // What is left of the body is not read: the connection cannot be used again.
        Err(problem) => ([(header::CONNECTION, "close")], problem).into_response(),
    }
}

async fn take_in(state: &State, headers: &HeaderMap, query: Query<BatchQuery>, request: Request) -> Result<BatchAccepted, Problem> {
    let about = query.0.about()?;
    let _place = state.place_to_upload()?;
    let (mut source, about, keyed) = Source::open(state, headers, request, about).await?;
    if let Some(answer) = keyed.answered {
        return BatchAccepted::again(&answer);
    }
    if let Source::Lines(upload) = &mut source
        && let Some(answer) = upload.answered().await?
    {
        return BatchAccepted::again(&answer);
    }
    let reader = Reader {
        snapshot: state.registry.snapshot(),
        now: state.clock.now(),
    };
    let callbacks = callbacks(&reader.snapshot, about.callbacks, reader.now).await?;
    let mut staging = state.scheduler.stage();
    let mut part = reader.tasks(source.part().await?).await?;
    if part.is_empty() {
        return Err(source.empty());
    }
    while !part.is_empty() {
        let next = async { reader.tasks(source.part().await?).await };
        let (staged, next) = tokio::join!(staging.stage(part), next);
        staged?;
        part = next?;
    }
    let accepted = BatchAccepted {
        batch_id: staging.id().to_string(),
        count: staging.count(),
    };
    let key = keyed.key.or(source.into_key());
    let key = key.as_ref().map(|key| key.with_answer(accepted.to_answer()));
    match staging.publish(about.name, callbacks, key).await {
        Ok(_) => Ok(accepted),
        Err(StoreError::Answered(answer)) => BatchAccepted::again(&answer),
        Err(error) => Err(error.into()),
    }
}

/// The key of a body that was read whole, and what was answered to it before.
#[derive(Default)]
struct Keyed {
    key: Option<Key>,
    answered: Option<String>,
}

impl BatchAccepted {
    /// As it is kept with a request's key.
    fn to_answer(&self) -> String {
        format!("{} {}", self.batch_id, self.count)
    }

    /// The answer that was kept.
    fn again(answer: &str) -> Result<Self, Problem> {
        let kept = answer
            .split_once(' ')
            .and_then(|(id, count)| Some((id.to_owned(), count.parse().ok()?)));
        let (batch_id, count) = kept.ok_or_else(|| Problem::new(Code::Internal, "the answer of the first request cannot be read"))?;
        Ok(Self { batch_id, count })
    }
}

/// Where the submissions come from.
enum Source {
    Lines(Upload),
    Tasks(
        std::iter::Enumerate<std::vec::IntoIter<Box<RawValue>>>,
        #[expect(dead_code, reason = "held")] Room,
    ),
    Sweep {
        sweep: Sweep,
        next: u64,
        /// The members of each submission, all but its payload, ready to be ended.
        head: String,
        #[expect(dead_code, reason = "held")]
        room: Room,
    },
}

impl Source {
    /// By the body's content type; with what goes for the batch as a whole.
    async fn open(state: &State, headers: &HeaderMap, request: Request, about: About) -> Result<(Self, About, Keyed), Problem> {
        let kind = headers.get(header::CONTENT_TYPE);
        let kind = kind.map(|value| media_type(value.to_str().unwrap_or_default()));
        if kind.as_deref() == Some("application/x-ndjson") {
            let key = Key::of(headers, request.method(), request.uri(), state)?;
            let upload = Upload::new(state.clone(), request.into_body(), key)?;
            return Ok((Self::Lines(upload), about, Keyed::default()));
        }
        let KeyedBody {
            value: mut batch,
            room,
            key,
            answered,
        } = KeyedBody::<BatchRequest>::from_request(request, state)
            .await
            .map_err(|problem| match problem.code {
                Code::MediaType => Problem::new(
                    Code::MediaType,
                    "a batch is one submission a line, sent with `Content-Type: application/x-ndjson`, or `{\"tasks\": […]}` with `application/json`",
                ),
                _ => problem,
            })?;
        let in_body = [&mut batch.on_success, &mut batch.on_failure, &mut batch.on_complete].map(Option::take);
        let about = About {
            name: one_of("name", about.name, batch.name.take())?,
            callbacks: both(about.callbacks, in_body)?,
        };
        Ok((Self::of_json(batch, room)?, about, Keyed { key, answered }))
    }

    /// The key of a body of lines, which has been read to its end.
    fn into_key(self) -> Option<Key> {
        match self {
            Self::Lines(upload) => upload.key,
            Self::Tasks(..) | Self::Sweep { .. } => None,
        }
    }

    /// A list of tasks, or a grid that makes one.
    fn of_json(mut batch: BatchRequest, room: Room) -> Result<Self, Problem> {
        if let Some(tasks) = batch.tasks.take() {
            let stray = batch.grid.as_ref().map(|_| "grid");
            return match stray.or_else(|| batch.of_sweep().first().map(|(name, _)| *name)) {
                Some(member) => Err(Problem::invalid(
                    format!("/{member}"),
                    "is of a sweep; send either `tasks`, or `task_name` with a `grid`",
                )),
                None => Ok(Self::Tasks(tasks.into_iter().enumerate(), room)),
            };
        }
        let head = batch.of_sweep().into_iter().filter(|(name, _)| *name != "payload");
        let head = head.fold(String::from("{"), |head, (name, value)| format!("{head}\"{name}\":{value},"));
        let payload = batch.payload.take();
        let Some(grid) = batch.grid.take() else {
            return Err(Problem::invalid("", "has neither `tasks` nor a `grid`; send one of them"));
        };
        let sweep = Sweep::new(payload.as_ref().map_or("{}", |payload| payload.get()), grid)?;
        Ok(Self::Sweep {
            sweep,
            next: 0,
            head,
            room,
        })
    }

    /// The next submissions, as many as are worked on together; none at the end.
    async fn part(&mut self) -> Result<Vec<(Place, Bytes)>, Problem> {
        let (mut part, mut bytes) = (Vec::new(), 0);
        while part.len() < PART && bytes < PART_BYTES {
            let Some((place, text)) = self.next().await? else { break };
            bytes += text.len();
            part.push((place, text));
        }
        Ok(part)
    }

    async fn next(&mut self) -> Result<Option<(Place, Bytes)>, Problem> {
        match self {
            Self::Lines(upload) => Ok(upload.line().await?.map(|(number, line)| (Place::Line(number), line))),
            Self::Tasks(tasks, _) => Ok(tasks.next().map(|(index, task)| {
                let text: Box<str> = task.into();
                (Place::Task(index), text.into_boxed_bytes().into())
            })),
            Self::Sweep { sweep, next, head, .. } => {
                let combination = *next;
                *next += 1;
                let made = (combination < sweep.count()).then(|| format!("{head}\"payload\":{}}}", sweep.payload(combination)));
                Ok(made.map(|text| (Place::Combination(combination), text.into())))
            }
        }
    }

    fn empty(&self) -> Problem {
        match self {
            Self::Lines(_) => Problem::invalid("", "has no task; send one submission a line"),
            Self::Tasks(..) | Self::Sweep { .. } => Problem::invalid("/tasks", "has no task; send at least one"),
        }
    }
}

/// A body of lines on its way in.
struct Upload {
    state: State,
    body: Body,
    lines: Lines,
    key: Option<Key>,
}

impl Upload {
    /// One that announces itself as too large is not read at all.
    fn new(state: State, body: Body, key: Option<Key>) -> Result<Self, Problem> {
        if body.size_hint().lower() > LIMITS.total {
            return Err(too_large(&LIMITS));
        }
        let lines = Lines::new(LIMITS);
        Ok(Self { state, body, lines, key })
    }

    /// What was answered when this request was carried out before. Where its key is known, the body says whether it is the same, and is
    /// not checked again: its tasks may be gone or too late by now.
    async fn answered(&mut self) -> Result<Option<String>, Problem> {
        match &self.key {
            Some(key) if key.is_known(&self.state).await? => {}
            _ => return Ok(None),
        }
        while self.line().await?.is_some() {}
        let answered = match &self.key {
            Some(key) => key.answered(&self.state).await?,
            None => None,
        };
        let forgotten = || {
            Problem::new(
                Code::InFlight,
                "the first request with this `Idempotency-Key` was just forgotten; send it again",
            )
        };
        answered.map(Some).ok_or_else(forgotten)
    }

    async fn line(&mut self) -> Result<Option<(u64, Bytes)>, Problem> {
        loop {
            match self.lines.next()? {
                None if !self.lines.is_whole() => self.read().await?,
                found => return Ok(found),
            }
        }
    }

    /// Reads on. There is no limit on the whole, which may be long, but on each piece.
    async fn read(&mut self) -> Result<(), Problem> {
        let timeout = self.state.options().body_timeout();
        tokio::select! {
            read = tokio::time::timeout(timeout, piece(&mut self.body, &mut self.lines, &mut self.key)) => read.map_err(|_| {
                let sentence = format!("less than {} KiB of the body came within {} s", PACE >> 10, timeout.as_secs_f64());
                Problem::new(Code::Timeout, sentence)
            })?,
            () = self.state.stopped() => Err(Problem::new(
                Code::ShuttingDown,
                "the host is shutting down; send the whole batch again once it is back",
            )),
        }
    }
}

async fn piece(body: &mut Body, lines: &mut Lines, key: &mut Option<Key>) -> Result<(), Problem> {
    let mut read = 0;
    while read < PACE {
        match body.frame().await {
            None => {
                lines.finish();
                break;
            }
            Some(Ok(frame)) => {
                let bytes = frame.into_data().unwrap_or_default(); // trailers say nothing
                read += bytes.len();
                if let Some(key) = key {
                    key.update(&bytes);
                }
                lines.push(&bytes)?;
            }
            Some(Err(error)) => {
                tracing::debug!(%error, "a batch broke off");
                return Err(Problem::new(Code::BadJson, "the body broke off before its end"));
            }
        }
    }
    Ok(())
}

/// What all submissions of a batch are checked against.
struct Reader {
    snapshot: Arc<Snapshot>,
    now: Time,
}

/// A payload whose check takes longer than a moment, and who knows how.
type Unchecked = Option<(Arc<Handler>, Payload)>;

impl Reader {
    /// Reads and checks submissions where that holds up no other request.
    async fn tasks(&self, part: Vec<(Place, Bytes)>) -> Result<Vec<NewTask>, Problem> {
        let (snapshot, now) = (self.snapshot.clone(), self.now);
        let read = move || {
            let tasks = part.into_iter().map(|(place, text)| {
                let (task, unchecked) = task(&text, &snapshot, now).map_err(|problem| problem.within(place))?;
                Ok((place, task, unchecked))
            });
            tasks.collect::<Result<Vec<_>, Problem>>()
        };
        let read = tokio::task::spawn_blocking(read).await;
        let broken = |_| Problem::new(Code::Internal, "the body could not be read; the host's log says why");
        let mut tasks = Vec::new();
        for (place, task, unchecked) in read.map_err(broken)?? {
            if let Some((handler, mut payload)) = unchecked {
                let checked = check_payload(&handler, &mut payload).await;
                checked.map_err(|problem| problem.within(place))?;
            }
            tasks.push(task);
        }
        Ok(tasks)
    }
}

/// One submission.
fn task(text: &[u8], snapshot: &Snapshot, now: Time) -> Result<(NewTask, Unchecked), Problem> {
    let mut request: TaskRequest = parse(text)?;
    let handler = handler(snapshot, &request.task_name).map_err(|problem| problem.member("task_name"))?;
    request.check(&handler.definition, now)?;
    if request.unique.is_some() {
        return Err(Problem::invalid(
            "/unique",
            "a task of a batch cannot be unique: all of the batch is taken, or none; submit it alone",
        ));
    }
    let value = std::mem::take(&mut request.payload.value);
    let errors = handler.check_quickly(&value);
    let task = NewTask::from_submission(request.into(), Some(&handler.definition), Origin::Submitted, now);
    match errors {
        None => {
            let text = String::new(); // only what it says is checked
            Ok((task, Some((handler, Payload { text, value }))))
        }
        Some(errors) if errors.is_empty() => Ok((task, None)),
        Some(errors) => Err(Problem::payload(errors)),
    }
}

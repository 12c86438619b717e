//! Batches: the fast way in. The body is a stream: a part of it is read and checked while the one before goes to the disk, whose pace
//! is then the sender's, and no more than these two are in memory.

use super::State;
use super::error::{Code, Place, Problem};
use super::extract::{JsonBody, Query, Room, media_type};
use super::lines::{Limits, Lines, too_large};
use super::state::{check_payload, handler};
use super::submit::{check, submission};
use super::wire::BatchAccepted;
use crate::model::request::{BatchRequest, Input, Payload, TaskRequest, parse};
use crate::model::task::{NewTask, Origin};
use crate::model::{Time, name};
use crate::registry::snapshot::{Handler, Snapshot};
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
}

impl Input for BatchQuery {
    const LATER: &'static [&'static str] = &["on_success", "on_failure", "on_complete"];
}

impl BatchQuery {
    fn name(self) -> Result<Option<String>, Problem> {
        match self.name.as_str() {
            "" => Ok(None),
            text if name::is_valid(text) => Ok(Some(self.name)),
            text => Err(Problem::invalid("/name", name::why_invalid("the name", text))),
        }
    }
}

/// Submits a batch of tasks
///
/// All or none: the answer means that every one of them is on disk and will run; after any other answer, and where the connection breaks
/// before it, none of them will. As `application/x-ndjson` each line is a submission, and `errors` name the `line`; at most 1,000,000
/// lines, 1 MiB a line and 1 GiB in all, read as fast as the disk takes them. As JSON at most 16 MiB.
#[utoipa::path(post, path = "/tasks/batch", tag = "tasks", params(BatchQuery),
    request_body(content((BatchRequest = "application/json"), (TaskRequest = "application/x-ndjson"))),
    responses(
        (status = 200, description = "Accepted", body = BatchAccepted),
        (status = 400), (status = 404), (status = 408), (status = 413), (status = 415), (status = 422), (status = 503),
    ))]
pub(crate) async fn submit(state: State, headers: HeaderMap, query: Query<BatchQuery>, request: Request) -> Response {
    match take_in(&state, &headers, query, request).await {
        Ok(accepted) => Json(accepted).into_response(),
        // What is left of the body is not read: the connection cannot be used again.
        Err(problem) => ([(header::CONNECTION, "close")], problem).into_response(),
    }
}

async fn take_in(state: &State, headers: &HeaderMap, query: Query<BatchQuery>, request: Request) -> Result<BatchAccepted, Problem> {
    if headers.contains_key("idempotency-key") {
        return Err(Problem::later("Idempotency-Key"));
    }
    let name = query.0.name()?;
    let _place = state.place_to_upload()?;
    let (mut source, name) = Source::open(state, headers, request, name).await?;
    let reader = Reader {
        snapshot: state.registry.snapshot(),
        now: state.clock.now(),
    };
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
    let count = staging.count();
    let batch_id = staging.publish(name).await?.to_string();
    Ok(BatchAccepted { batch_id, count })
}

/// Where the submissions come from.
enum Source {
    Lines(Upload),
    Tasks(
        std::iter::Enumerate<std::vec::IntoIter<Box<RawValue>>>,
        #[expect(dead_code, reason = "held")] Room,
    ),
}

impl Source {
    /// By the body's content type; with the name that the batch goes by.
    async fn open(state: &State, headers: &HeaderMap, request: Request, name: Option<String>) -> Result<(Self, Option<String>), Problem> {
        let kind = headers.get(header::CONTENT_TYPE);
        let kind = kind.map(|value| media_type(value.to_str().unwrap_or_default()));
        if kind.as_deref() == Some("application/x-ndjson") {
            return Ok((Self::Lines(Upload::new(state.clone(), request.into_body())?), name));
        }
        let JsonBody(batch, room) = JsonBody::<BatchRequest>::from_request(request, state)
            .await
            .map_err(|problem| match problem.code {
                Code::MediaType => Problem::new(
                    Code::MediaType,
                    "a batch is one submission a line, sent with `Content-Type: application/x-ndjson`, or `{\"tasks\": […]}` with `application/json`",
                ),
                _ => problem,
            })?;
        Ok((Self::Tasks(batch.tasks.into_iter().enumerate(), room), batch.name.or(name)))
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
        }
    }

    fn empty(&self) -> Problem {
        match self {
            Self::Lines(_) => Problem::invalid("", "has no task; send one submission a line"),
            Self::Tasks(..) => Problem::invalid("/tasks", "has no task; send at least one"),
        }
    }
}

/// A body of lines on its way in.
struct Upload {
    state: State,
    body: Body,
    lines: Lines,
}

impl Upload {
    /// One that announces itself as too large is not read at all.
    fn new(state: State, body: Body) -> Result<Self, Problem> {
        if body.size_hint().lower() > LIMITS.total {
            return Err(too_large(&LIMITS));
        }
        let lines = Lines::new(LIMITS);
        Ok(Self { state, body, lines })
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
            read = tokio::time::timeout(timeout, piece(&mut self.body, &mut self.lines)) => read.map_err(|_| {
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

async fn piece(body: &mut Body, lines: &mut Lines) -> Result<(), Problem> {
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
    check(&request, &handler.definition, now)?;
    let value = std::mem::take(&mut request.payload.value);
    let errors = handler.check_quickly(&value);
    let task = NewTask::from_submission(submission(request), Some(&handler.definition), Origin::Submitted, now);
    match errors {
        None => {
            let text = String::new(); // only what it says is checked
            Ok((task, Some((handler, Payload { text, value }))))
        }
        Some(errors) if errors.is_empty() => Ok((task, None)),
        Some(errors) => Err(Problem::payload(errors)),
    }
}

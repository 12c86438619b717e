//! What the routes stand on.

use super::Options;
use super::error::{Code, Problem};
use super::once::InFlight;
use super::wire::Live;
use crate::clock::Clock;
use crate::model::Time;
use crate::model::request::Payload;
use crate::model::task::{Status, Task};
use crate::monitor::{Monitor, retention};
use crate::registry::Registry;
use crate::registry::snapshot::{Handler, Snapshot};
use crate::scheduler;
use crate::store::Store;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use std::convert::Infallible;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

/// The rooms that the API asks. One count to clone: every route, layer and request does.
#[derive(Clone)]
pub struct State(Arc<Rooms>);

/// What a [`State`] shares.
pub struct Rooms {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) registry: Registry,
    pub(crate) monitor: Monitor,
    pub(crate) scheduler: scheduler::Handle,
    pub(crate) clock: Clock,
    pub(crate) retention: retention::Options,
    options: Options,
    stopping: watch::Sender<bool>,
    /// KiB left for large bodies.
    room: Arc<Semaphore>,
    /// Clients that may still wait for a task's end.
    places: Arc<Semaphore>,
    /// Batches that may still be sent.
    uploads: Arc<Semaphore>,
    /// Keys of requests under way.
    pub(crate) in_flight: InFlight,
}

/// Batches that are taken in at once.
const UPLOADS: usize = 4;

impl std::ops::Deref for State {
    type Target = Rooms;

    fn deref(&self) -> &Rooms {
        &self.0
    }
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").field("options", &self.options).finish_non_exhaustive()
    }
}

impl State {
    /// Puts it together.
    pub fn new(
        store: Arc<dyn Store>,
        registry: Registry,
        monitor: Monitor,
        scheduler: scheduler::Handle,
        clock: Clock,
        retention: retention::Options,
        options: Options,
    ) -> Self {
        Self(Arc::new(Rooms {
            store,
            registry,
            monitor,
            scheduler,
            clock,
            retention,
            stopping: watch::Sender::new(false),
            room: Arc::new(Semaphore::new(kib(options.body_budget.as_u64()))),
            // Waiting takes a connection: half of them stay for those who do not.
            places: Arc::new(Semaphore::new(options.max_connections.div_ceil(2))),
            uploads: Arc::new(Semaphore::new(UPLOADS)),
            in_flight: InFlight::default(),
            options,
        }))
    }

    /// Says that the host is shutting down: it is not ready any more, takes nothing new, and clients that wait are answered.
    pub fn stop(&self) {
        self.stopping.send_replace(true);
    }

    /// Whether [`State::stop`] was called.
    pub(crate) fn is_stopping(&self) -> bool {
        *self.stopping.borrow()
    }

    /// Resolves once [`State::stop`] was called.
    pub(crate) async fn stopped(&self) {
        let _ = self.stopping.subscribe().wait_for(|stopping| *stopping).await;
    }

    /// Room for one large body beside the others.
    pub(crate) fn room_for(&self, bytes: usize) -> Result<OwnedSemaphorePermit, Problem> {
        let budget = self.options.body_budget.as_u64();
        if bytes as u64 > budget {
            return Err(Problem::new(
                Code::TooLarge,
                format!(
                    "the body takes about {} MiB of memory once it is read, more than the {} MiB of server.body_budget; send fewer or larger \
                     values, or a batch as lines (application/x-ndjson)",
                    bytes >> 20,
                    budget >> 20
                ),
            ));
        }
        let amount = u32::try_from(kib(bytes as u64)).unwrap_or(u32::MAX);
        self.room.clone().try_acquire_many_owned(amount).map_err(|_| {
            Problem::new(
                Code::Busy,
                "the host is working on as many large bodies as it has room for; send the request again in a second",
            )
        })
    }

    /// The right to wait for a task's end; `None` where too many wait.
    pub(crate) fn place_to_wait(&self) -> Option<OwnedSemaphorePermit> {
        self.places.clone().try_acquire_owned().ok()
    }

    /// The right to send a batch beside the others.
    pub(crate) fn place_to_upload(&self) -> Result<OwnedSemaphorePermit, Problem> {
        self.uploads.clone().try_acquire_owned().map_err(|_| {
            Problem::new(
                Code::Busy,
                format!("{UPLOADS} batches are being taken in, and no more at once; send the request again in a second"),
            )
        })
    }

    pub(crate) fn options(&self) -> &Options {
        &self.options
    }

    /// What answers add to these tasks, as of one moment.
    pub(crate) async fn view(&self, tasks: &[Task]) -> Result<View, Problem> {
        // While the whole queue is paused, due tasks stay where they are: no row says what holds them.
        let may_be_paused = tasks.iter().any(|task| task.status == Status::Pending && task.held.is_none());
        Ok(View {
            now: self.clock.now(),
            paused: may_be_paused && self.store.pauses().await?.iter().any(|(name, _)| name.is_empty()),
            snapshot: self.registry.snapshot(),
            monitor: self.monitor.clone(),
        })
    }

    /// Who handles tasks of this name.
    pub(crate) fn handler(&self, task_name: &str) -> Result<Arc<Handler>, Problem> {
        handler(&self.registry.snapshot(), task_name)
    }
}

/// Who handles tasks of this name, at the moment of the snapshot.
pub(crate) fn handler(snapshot: &Snapshot, task_name: &str) -> Result<Arc<Handler>, Problem> {
    match snapshot.handlers.get(task_name) {
        Some(handler) => Ok(handler.clone()),
        None if !snapshot.ready => Err(Problem::new(
            Code::NotReady,
            "the plugin directories are being read for the first time; send the request again in a second",
        )),
        None => Err(unknown_task(snapshot, task_name)),
    }
}

fn kib(bytes: u64) -> usize {
    usize::try_from(bytes.div_ceil(1 << 10)).unwrap_or(Semaphore::MAX_PERMITS)
}

/// The 404 for a task name, which shows the names that it may have been meant to be.
pub(crate) fn unknown_task(snapshot: &Snapshot, task_name: &str) -> Problem {
    let shown = super::error::shorten(task_name);
    let hint = match snapshot.near(task_name).as_slice() {
        [] => "GET /api/v1/scheduler/registry/tasks lists those that there are".to_owned(),
        near => format!("did you mean {}?", near.join(" or ")),
    };
    Problem::new(Code::UnknownTask, format!("no loaded plugin handles a task {shown:?}; {hint}"))
}

/// Checks a payload against the task's schema. What takes longer than a moment is done where it holds up no other request.
pub(crate) async fn check_payload(handler: &Arc<Handler>, payload: &mut Payload) -> Result<(), Problem> {
    let errors = match handler.check_quickly(&payload.value) {
        Some(errors) => errors,
        None => {
            let checked = handler.check_aside(std::mem::take(&mut payload.value)).await;
            let unchecked = || Problem::new(Code::Internal, "the payload could not be checked; the host's log says why");
            let (errors, value) = checked.ok_or_else(unchecked)?;
            payload.value = value;
            errors
        }
    };
    match errors {
        errors if errors.is_empty() => Ok(()),
        errors => Err(Problem::payload(errors)),
    }
}

impl FromRequestParts<State> for State {
    type Rejection = Infallible;

    async fn from_request_parts(_: &mut Parts, state: &State) -> Result<Self, Infallible> {
        Ok(state.clone())
    }
}

/// What answers add to stored tasks.
pub(crate) struct View {
    now: Time,
    paused: bool,
    snapshot: Arc<Snapshot>,
    monitor: Monitor,
}

impl View {
    /// For the record of one task.
    pub(crate) fn live(&self, task: &Task) -> Live {
        Live {
            now: self.now,
            paused: self.paused,
            progress: (task.status == Status::Running).then(|| self.monitor.progress(task.id)).flatten(),
            max_retries: self.max_retries(task),
        }
    }

    /// The definition's number of retries.
    pub(crate) fn max_retries(&self, task: &Task) -> Option<u32> {
        let handler = self.snapshot.handlers.get(&task.name);
        handler.map(|handler| handler.definition.retry.max_retries)
    }
}

//! Schedules become tasks when their time has come.

use super::due::{Part, Ready, is_late, unreadable, work_out};
use super::{Context, POLL, schedules};
use crate::model::Time;
use crate::model::ids::ScheduleId;
use crate::model::schedule::Schedule;
use crate::model::task::{Failure, NewTask, Origin, Submission};
use crate::registry::snapshot::Snapshot;
use crate::store::{FireSchedule, MadeFires, StoreError, read_schedule};
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinError, JoinSet};

/// Schedules that fire at once; more are looked for when they have.
const AT_ONCE: usize = 1_024;
/// Bytes of payloads that are on their way into the store together, about.
const MAX_MADE: usize = 64 << 20;
/// After so many that were worked out, others get their turn.
const TURN: usize = 16;
/// After one has ended, those that end within this are waited for before the next look.
const TOGETHER: Duration = Duration::from_millis(20);

/// What plugins may take to load before schedules fire without them: their tasks then lack the definition's defaults, and nobody has
/// checked their payloads.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) async fn run(context: &Context, mut stop: watch::Receiver<bool>) {
    tokio::select! {
        _ = stop.wait_for(|stop| *stop) => return,
        () = until_loaded(context) => {}
    }
    let mut fires = Fires::default();
    // What the clock showed last: before the first look, whatever the cursors were worked out by.
    let mut shown = Time::MAX_UTC;
    loop {
        let now = context.clock.now();
        if now < shown && !schedules::rewind(&*context.store, now).await {
            fires.failed = true;
        } else {
            shown = now;
        }
        let wait = tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => return,
            wait = fires.start_due(context) => wait,
        };
        tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => return,
            () = context.replan.notified() => {}
            () = fires.some_ended() => {}
            () = tokio::time::sleep(wait) => {}
        }
        if std::mem::take(&mut fires.failed) {
            let stopped = stop.wait_for(|stop| *stop);
            let _ = tokio::time::timeout(POLL, stopped).await; // still due, and the store is in trouble: not at once
        }
    }
}

/// Resolves when the plugins are loaded, or have taken too long.
pub(super) async fn until_loaded(context: &Context) {
    let mut changes = context.registry.changes();
    tokio::select! {
        _ = changes.wait_for(|_| context.registry.snapshot().ready) => {}
        () = tokio::time::sleep(PATIENCE) => {}
    }
}

/// Fires on their way into the store. One whose payload takes seconds to check holds up no other.
#[derive(Default)]
struct Fires {
    running: JoinSet<bool>,
    schedules: HashMap<tokio::task::Id, Vec<ScheduleId>>,
    /// Whether one could not be stored.
    failed: bool,
}

impl Fires {
    /// Starts those that are due and not under way; returns how long no other will be. What follows a fire is seen by the look after it.
    async fn start_due(&mut self, context: &Context) -> Duration {
        let now = context.clock.now();
        let under_way: HashSet<ScheduleId> = self.schedules.values().flatten().copied().collect();
        let (due, next) = match context.store.due_schedules(now, AT_ONCE + under_way.len()).await {
            Ok(found) => found,
            Err(error) => {
                tracing::error!(%error, "due schedules could not be read; trying again");
                return POLL;
            }
        };
        let free = AT_ONCE.saturating_sub(under_way.len());
        let snapshot = context.registry.snapshot();
        let mut due: Vec<Schedule> = due
            .into_iter()
            .filter(|schedule| !under_way.contains(&schedule.id))
            .take(free)
            .collect();
        // What takes long to work out holds up nobody who is on time.
        due.sort_by_key(|schedule| is_late(schedule, now));
        let mut part = Part::default();
        let mut calendars = HashMap::new();
        for (n, schedule) in due.into_iter().enumerate() {
            if n % TURN == TURN - 1 {
                tokio::task::yield_now().await;
            }
            let id = schedule.id;
            let planned = match read_schedule(&*context.store, &schedule, &mut calendars).await {
                Ok((request, rule)) => work_out(&*context.store, schedule, request, rule, now).await,
                Err(error) => match error.refusal() {
                    Ok(refusal) => {
                        self.write(context, part.add(unreadable(&schedule, &refusal, now)));
                        continue;
                    }
                    Err(error) => Err(error),
                },
            };
            let planned = match planned {
                Ok(planned) => planned,
                Err(error) => {
                    tracing::error!(schedule = %id, %error, "a schedule could not be fired; trying again");
                    self.failed = true;
                    continue;
                }
            };
            let mut checked = Box::pin(planned.checked(snapshot.clone()));
            // Most are ready as soon as they are asked for.
            match checked.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop())) {
                Poll::Ready(ready) => self.write(context, part.add(ready)),
                Poll::Pending => {
                    let context = context.clone();
                    self.spawn(vec![id], async move { write(context, vec![checked.await]).await });
                }
            }
        }
        self.write(context, part.ready);
        next.map_or(POLL, |next| (next - context.clock.now()).to_std().unwrap_or_default().min(POLL))
    }

    fn write(&mut self, context: &Context, part: Vec<Ready>) {
        if !part.is_empty() {
            self.spawn(part.iter().map(|ready| ready.fire.id).collect(), write(context.clone(), part));
        }
    }

    fn spawn(&mut self, schedules: Vec<ScheduleId>, fires: impl Future<Output = bool> + Send + 'static) {
        let task = self.running.spawn(fires);
        self.schedules.insert(task.id(), schedules);
    }

    /// Resolves when one has ended, and with it those that do so about now; never while none is under way.
    async fn some_ended(&mut self) {
        match self.running.join_next_with_id().await {
            Some(ended) => self.ended(ended),
            None => std::future::pending().await,
        }
        let together = tokio::time::Instant::now() + TOGETHER;
        while let Ok(Some(ended)) = tokio::time::timeout_at(together, self.running.join_next_with_id()).await {
            self.ended(ended);
        }
    }

    fn ended(&mut self, ended: Result<(tokio::task::Id, bool), JoinError>) {
        let (id, stored) = ended.unwrap_or_else(|error| (error.id(), false));
        self.schedules.remove(&id);
        self.failed |= !stored;
    }
}

/// Writes fires together or, should that fail, each alone; whether all cursors are where they have to be. One that somebody else moved is.
async fn write(context: Context, part: Vec<Ready>) -> bool {
    static ROOM: Semaphore = Semaphore::const_new(MAX_MADE >> 10);
    let bytes: usize = part.iter().map(Ready::bytes).sum();
    let kib = u32::try_from((bytes >> 10).min(MAX_MADE >> 10)).unwrap_or(0);
    let Ok(_room) = ROOM.acquire_many(kib).await else { return false };
    let fires: Vec<Arc<FireSchedule>> = part.into_iter().map(|ready| Arc::new(ready.made())).collect();
    if fires.len() > 1 {
        match context.store.fire_schedules(fires.clone()).await {
            Ok(fired) => {
                told(&context, fired);
                return true;
            }
            Err(error) => tracing::error!(%error, "schedules could not be fired together; trying each"),
        }
    }
    let mut all = true;
    for fire in fires {
        let schedule = fire.id;
        match context.store.fire_schedules(vec![fire]).await {
            Ok(fired) => told(&context, fired),
            Err(error) => {
                tracing::error!(%schedule, %error, "a schedule could not be fired; trying again");
                all = false;
            }
        }
    }
    all
}

/// Tells the worker what was stopped for the fires, and that there is something to do.
fn told(context: &Context, fired: Vec<Result<MadeFires, StoreError>>) {
    let stopped = fired.into_iter().flatten().flat_map(|fired| fired.stopped);
    stopped.for_each(|lease| context.worker.stop_cancelled(lease));
    context.wake.notify_one();
}

/// A task made by a rule. Nobody is there to be told that its payload is wrong, so it is born failed and says so itself.
pub(super) async fn new_task(snapshot: &Snapshot, submission: Submission, origin: Origin, now: Time) -> NewTask {
    let handler = snapshot.handlers.get(&submission.name);
    let errors = match (handler, serde_json::from_str::<Value>(&submission.payload)) {
        (Some(handler), Ok(payload)) => handler.errors(payload).await,
        _ => Vec::new(),
    };
    let mut task = NewTask::from_submission(submission, handler.map(|handler| handler.definition.as_ref()), origin, now);
    if let Some(first) = errors.first() {
        let error = format!(
            "the payload does not fit the task's schema: {} at {:?}",
            first.detail, first.pointer
        );
        task.stillborn = Some(Failure {
            code: "invalid_input".into(),
            error,
            details: Some(json!({ "errors": errors })),
        });
    }
    task
}

//! Schedules become tasks when their time has come.

use super::schedules;
use super::{Context, POLL};
use crate::model::Time;
use crate::model::alert::{AlertType, NewAlert};
use crate::model::ids::{ScheduleId, TaskId};
use crate::model::request::{CronTaskRequest, Refusal};
use crate::model::schedule::misfire::{self, MOST_AT_ONCE};
use crate::model::schedule::overlap::Overlap;
use crate::model::schedule::rule::Rule;
use crate::model::schedule::{COUNTED, Schedule, Skip};
use crate::model::task::{Failure, NewTask, Origin, Submission};
use crate::registry::snapshot::Snapshot;
use crate::store::{FireSchedule, MadeFires, ScheduleError, StoreError, read_schedule};
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};

/// Schedules that fire at once; more are looked for when they have.
const AT_ONCE: usize = 1_024;
/// Of them, those that are written together, at most: some milliseconds that all others wait for.
const PART: usize = 64;
/// After one has ended, those that end within this are waited for before the next look.
const TOGETHER: Duration = Duration::from_millis(20);

/// Bytes of payloads that the fires which one schedule missed make at once, about.
const MAX_MADE: usize = 64 << 20;
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
        let wait = fires.start_due(context).await;
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
        let mut ready = Vec::new();
        let mut calendars = HashMap::new();
        for schedule in due.into_iter().filter(|schedule| !under_way.contains(&schedule.id)).take(free) {
            let id = schedule.id;
            let read = match read_schedule(&*context.store, &schedule, &mut calendars).await {
                Err(ScheduleError::Store(error)) => {
                    tracing::error!(schedule = schedule.name, %error, "a schedule could not be fired; trying again");
                    self.failed = true;
                    continue;
                }
                Err(ScheduleError::Refused(refusal)) => Err(refusal),
                Ok(read) => Ok(read),
            };
            let mut fire = Box::pin(fire_of(snapshot.clone(), schedule, read, now));
            // Most are ready as soon as they are asked for.
            match fire.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop())) {
                Poll::Ready(fire) => ready.push(fire),
                Poll::Pending => {
                    let context = context.clone();
                    self.spawn(vec![id], async move { write(context, vec![fire.await]).await });
                }
            }
        }
        let mut ready = ready.into_iter().peekable();
        while ready.peek().is_some() {
            let part: Vec<FireSchedule> = ready.by_ref().take(PART).collect();
            self.spawn(part.iter().map(|fire| fire.id).collect(), write(context.clone(), part));
        }
        next.map_or(POLL, |next| (next - context.clock.now()).to_std().unwrap_or_default().min(POLL))
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
async fn write(context: Context, fires: Vec<FireSchedule>) -> bool {
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

/// Works out what is due of one schedule.
async fn fire_of(snapshot: Arc<Snapshot>, schedule: Schedule, read: Result<(CronTaskRequest, Rule), Refusal>, now: Time) -> FireSchedule {
    let mut fire = FireSchedule {
        id: schedule.id,
        seen: schedule.revision,
        fires: Vec::new(),
        skips: Vec::new(),
        overlap: Overlap::default(),
        next: None,
        now,
        alerts: Vec::new(),
    };
    let Some(cursor) = schedule.next_fire else { return fire };
    let (request, rule) = match read {
        Ok(read) => read,
        Err(refusal) => {
            tracing::error!(schedule = schedule.name, %refusal, "a schedule cannot be read any more; it does not fire until it is changed");
            let error = format!("schedule {:?} does not fire any more: {refusal}", schedule.name);
            fire.alerts.push(alert(AlertType::Absent, &schedule, error, now));
            return fire;
        }
    };
    let at_once = (MAX_MADE / request.payload.text.len().max(1)).clamp(1, MOST_AT_ONCE);
    let due = misfire::due(&rule, request.misfire.unwrap_or_default(), cursor, now, at_once);
    fire.overlap = request.overlap.unwrap_or_default();
    fire.next = due.next;
    fire.skips = rule.dropped(schedule.planned_at, now);
    if let Some(skip) = due.skipped {
        fire.alerts
            .push(alert(AlertType::Absent, &schedule, missed(&schedule.name, &skip), now));
        fire.skips.push(skip);
    }
    if let Some((last, calendar)) = due.fires.last().and_then(|last| Some((last, rule.unconfirmed(*last)?))) {
        let error = format!(
            "schedule {:?} fires on {}, and nobody has confirmed calendar {calendar:?} for that day; put a newer one",
            schedule.name,
            last.date_naive()
        );
        fire.alerts.push(alert(AlertType::Calendar, &schedule, error, now));
    }
    if !due.fires.is_empty() {
        let task = schedules::task_of(&snapshot, &schedule, &request, now).await;
        fire.fires = due.fires.iter().map(|at| (*at, schedules::copy_for(&task, *at))).collect();
    }
    fire
}

/// An alert about a schedule.
pub(super) fn alert(kind: AlertType, schedule: &Schedule, error: String, at: Time) -> NewAlert {
    NewAlert {
        kind,
        task_id: TaskId::of_schedule(schedule.id),
        task_name: schedule.task_name.clone(),
        error: Some(error),
        execution_time: None,
        at,
    }
}

fn missed(name: &str, skip: &Skip) -> String {
    let many = if skip.count == COUNTED { " or more" } else { "" };
    let (at, until) = (skip.at.to_rfc3339(), skip.until.to_rfc3339());
    format!(
        "schedule {name:?} missed {}{many} fires from {at} to {until}, which are not made up for",
        skip.count
    )
}

/// A task made by a rule. Nobody is there to be told that its payload is wrong, so it is born failed and says so itself.
pub(super) async fn new_task(snapshot: &Snapshot, submission: Submission, origin: Origin, now: Time) -> NewTask {
    let handler = snapshot.handlers.get(&submission.name);
    let errors = match (handler, serde_json::from_str::<Value>(&submission.payload)) {
        (Some(handler), Ok(payload)) => match handler.check_quickly(&payload) {
            Some(errors) => errors,
            None => handler.check_aside(payload).await.map(|(errors, _)| errors).unwrap_or_default(),
        },
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

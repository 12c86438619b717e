//! Schedules become tasks when their time has come.

use super::{Context, POLL};
use crate::model::Time;
use crate::model::cron::Cron;
use crate::model::ids::ScheduleId;
use crate::model::schedule::{Schedule, due_fire};
use crate::model::task::{Failure, NewTask, Origin, Submission};
use crate::registry::snapshot::Snapshot;
use crate::store::{FireSchedule, StoreError};
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};

/// Fires on their way into the store at once; their writes share commits.
const AT_ONCE: usize = 256;
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
    loop {
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
    schedules: HashMap<tokio::task::Id, ScheduleId>,
    /// Whether one could not be stored.
    failed: bool,
}

impl Fires {
    /// Starts those that are due and not under way; returns how long no other will be. What follows a fire is seen by the look after it.
    async fn start_due(&mut self, context: &Context) -> Duration {
        let now = context.clock.now();
        let (due, next) = match context.store.due_schedules(now, AT_ONCE + self.schedules.len()).await {
            Ok(found) => found,
            Err(error) => {
                tracing::error!(%error, "due schedules could not be read; trying again");
                return POLL;
            }
        };
        let under_way: HashSet<ScheduleId> = self.schedules.values().copied().collect();
        let free = AT_ONCE.saturating_sub(under_way.len());
        let snapshot = context.registry.snapshot();
        for schedule in due.into_iter().filter(|schedule| !under_way.contains(&schedule.id)).take(free) {
            let id = schedule.id;
            let task = self.running.spawn(fire(context.clone(), snapshot.clone(), schedule, now));
            self.schedules.insert(task.id(), id);
        }
        next.map_or(POLL, |next| (next - context.clock.now()).to_std().unwrap_or_default().min(POLL))
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

/// Fires one schedule; whether its cursor is where it has to be.
async fn fire(context: Context, snapshot: Arc<Snapshot>, schedule: Schedule, now: Time) -> bool {
    let Some(fire) = fire_of(&snapshot, &schedule, now).await else {
        return true;
    };
    match context.store.fire_schedule(fire).await {
        Ok(()) => context.wake.notify_one(),
        Err(StoreError::Conflict(_)) => {}
        Err(error) => {
            tracing::error!(schedule = schedule.name, %error, "a schedule could not be fired; trying again");
            return false;
        }
    }
    true
}

async fn fire_of(snapshot: &Snapshot, schedule: &Schedule, now: Time) -> Option<FireSchedule> {
    let due = schedule.next_fire?;
    let cron = match Cron::parse(&schedule.cron_expression) {
        Ok(cron) => cron,
        Err(error) => {
            tracing::error!(schedule = schedule.name, %error, "a stored schedule cannot be read; it will not fire again");
            return Some(FireSchedule {
                id: schedule.id,
                due,
                fire: None,
                next: None,
            });
        }
    };
    let found = due_fire(schedule, &cron, due, now);
    let fire = match found.fire {
        None => None,
        Some(at) => {
            let submission = Submission {
                name: schedule.task_name.clone(),
                payload: schedule.payload.clone(),
                priority: schedule.priority,
                tags: schedule.tags.clone(),
                ..Submission::default()
            };
            let mut task = new_task(snapshot, submission, Origin::Schedule(schedule.id), now).await;
            // Which fire it is, and not when somebody got round to it.
            task.trigger_time = at;
            Some((at, task))
        }
    };
    Some(FireSchedule {
        id: schedule.id,
        due,
        fire,
        next: found.next,
    })
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

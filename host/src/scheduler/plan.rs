//! Rules become tasks: schedules when their time has come, triggers when their event has.

use super::{Context, POLL};
use crate::model::Time;
use crate::model::attempt::InputError;
use crate::model::cron::Cron;
use crate::model::ids::{EventId, TaskId};
use crate::model::schedule::{Schedule, due_fire};
use crate::model::task::{Failure, NewTask, Origin, Submission};
use crate::model::trigger::{Trigger, merge};
use crate::registry::snapshot::{Handler, Snapshot};
use crate::store::{FireEvent, FireSchedule, StoreError};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Schedules that are fired before the next look; their writes share commits.
const AT_ONCE: usize = 256;

pub(super) async fn run(context: &Context, mut stop: watch::Receiver<bool>) {
    loop {
        let wait = fire_due(context).await;
        tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => return,
            () = context.replan.notified() => {}
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// Fires what is due; returns how long nothing will be.
async fn fire_due(context: &Context) -> Duration {
    let now = context.clock.now();
    let (due, next) = match context.store.due_schedules(now, AT_ONCE).await {
        Ok(found) => found,
        Err(error) => {
            tracing::error!(%error, "due schedules could not be read; trying again");
            return POLL;
        }
    };
    let more = due.len() == AT_ONCE;
    let mut fires = JoinSet::new();
    let snapshot = context.registry.snapshot();
    for schedule in due {
        let (store, snapshot) = (context.store.clone(), snapshot.clone());
        fires.spawn(async move {
            let Some(fire) = fire_of(&snapshot, &schedule, now).await else {
                return;
            };
            match store.fire_schedule(fire).await {
                Ok(()) | Err(StoreError::Conflict(_)) => {}
                Err(error) => tracing::error!(schedule = schedule.name, %error, "a schedule could not be fired; trying again"),
            }
        });
    }
    if !fires.is_empty() {
        fires.join_all().await;
        context.wake.notify_one();
    }
    match next {
        _ if more => Duration::ZERO,
        Some(next) => (next - context.clock.now()).to_std().unwrap_or_default().min(POLL),
        None => POLL,
    }
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
async fn new_task(snapshot: &Snapshot, submission: Submission, origin: Origin, now: Time) -> NewTask {
    let handler = snapshot.handlers.get(&submission.name);
    let errors = match (handler, serde_json::from_str::<Value>(&submission.payload)) {
        (Some(handler), Ok(payload)) => check(handler, payload).await,
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

/// The schema is a stranger's: what takes longer than a moment is checked where it holds up nobody.
async fn check(handler: &Arc<Handler>, payload: Value) -> Vec<InputError> {
    if let Some(errors) = handler.check_quickly(&payload) {
        return errors;
    }
    let handler = handler.clone();
    tokio::task::spawn_blocking(move || handler.check(&payload))
        .await
        .unwrap_or_default()
}

pub(super) async fn fire_event(context: &Context, event_type: String, data: String) -> Result<Vec<TaskId>, StoreError> {
    let triggers = context.store.triggers_of(&event_type).await?;
    let now = context.clock.now();
    let snapshot = context.registry.snapshot();
    let mut tasks = Vec::with_capacity(triggers.len());
    for trigger in &triggers {
        tasks.push((trigger.id, triggered(&snapshot, trigger, &data, now).await));
    }
    let event = FireEvent {
        id: EventId::new(now),
        event_type,
        data,
        now,
        tasks,
    };
    context.store.fire_event(event).await
}

async fn triggered(snapshot: &Snapshot, trigger: &Trigger, data: &str, now: Time) -> NewTask {
    let submission = Submission {
        name: trigger.task_name.clone(),
        payload: merge(&trigger.payload, data),
        priority: trigger.priority,
        tags: trigger.tags.clone(),
        ..Submission::default()
    };
    new_task(snapshot, submission, Origin::Trigger(trigger.id), now).await
}

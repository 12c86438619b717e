//! Triggers and events, as clients see them.

use super::task::ScheduledTask;
use crate::model::priority::Priority;
use crate::model::trigger::Trigger;
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

impl ScheduledTask {
    /// A waiting task.
    pub(crate) fn of_task(task: crate::model::task::Task, now: DateTime<Utc>) -> Self {
        Self {
            task_id: task.id.to_string(),
            phase: Some(task.phase(now)),
            task_name: task.name,
            trigger_time: task.due_at.unwrap_or(task.trigger_time),
            priority: Some(task.priority.get()),
            kind: "task",
            status: task.status.as_str(),
            held: task.held,
            tags: task.tags,
            retry_count: Some(task.counters.retries),
            schedule_name: None,
            cron_expression: None,
        }
    }
}

/// A trigger: an event rule that creates tasks.
#[derive(Debug, Serialize, ToSchema)]
pub struct TriggerRecord {
    /// The same as `trigger_id`: what the creation answered.
    pub task_id: String,
    /// Its id, which survives updates.
    pub trigger_id: String,
    /// Unique; creating again under it updates.
    pub name: String,
    /// The definition's name.
    pub task_name: String,
    /// `registered`.
    #[schema(example = "registered")]
    pub status: &'static str,
    /// Which events it listens to.
    pub event_type: String,
    /// Under the event's data, whose members win.
    #[schema(value_type = Object)]
    pub payload: Option<Box<RawValue>>,
    /// Null: the definition's.
    pub priority: Option<u8>,
    /// United with the definition's.
    pub tags: Vec<String>,
    /// When it was first created.
    pub created_at: DateTime<Utc>,
    /// How often it fired.
    pub fired_count: u64,
    /// When it last fired.
    pub last_fired: Option<DateTime<Utc>>,
}

impl From<Trigger> for TriggerRecord {
    fn from(trigger: Trigger) -> Self {
        Self {
            task_id: trigger.id.to_string(),
            trigger_id: trigger.id.to_string(),
            name: trigger.name,
            task_name: trigger.task_name,
            status: "registered",
            event_type: trigger.event_type,
            payload: RawValue::from_string(trigger.payload).ok(),
            priority: trigger.priority.map(Priority::get),
            tags: trigger.tags,
            created_at: trigger.created_at,
            fired_count: trigger.fired_count,
            last_fired: trigger.last_fired,
        }
    }
}

/// A schedule or trigger that was removed.
#[derive(Debug, Serialize, ToSchema)]
pub struct Removed {
    /// Its id.
    pub id: String,
    /// `removed`.
    #[schema(example = "removed")]
    pub status: &'static str,
}

impl Removed {
    pub(crate) fn new(id: impl ToString) -> Self {
        Self {
            id: id.to_string(),
            status: "removed",
        }
    }
}

/// What an event set off.
#[derive(Debug, Serialize, ToSchema)]
pub struct Triggered {
    /// One task a trigger that listens.
    pub triggered_tasks: Vec<String>,
    /// How many.
    pub count: usize,
}

/// What an id names.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
#[expect(clippy::large_enum_variant, reason = "made once and written at once")]
pub enum AnyRecord {
    /// A task.
    Task(super::task::TaskRecord),
    /// A schedule.
    Schedule(super::schedule::ScheduleRecord),
    /// A trigger.
    Trigger(TriggerRecord),
}

/// The answer to a submission: the id at once, or the task's record where the client asked to wait.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
#[expect(clippy::large_enum_variant, reason = "made once and written at once")]
pub enum Submitted {
    /// Accepted.
    Accepted(super::task::Accepted),
    /// Waited for (`Prefer: wait=N`).
    Task(super::task::TaskRecord),
}

//! Triggers and events, as clients see them.

use super::task::{Live, ScheduledTask};
use crate::model::event::Source;
use crate::model::priority::Priority;
use crate::model::trigger::{Edits, Raw, Trigger};
use crate::scheduler::Delivered;
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

impl ScheduledTask {
    /// A waiting task.
    pub(crate) fn of_task(task: crate::model::task::Task, live: &Live) -> Self {
        Self {
            task_id: task.id.to_string(),
            phase: Some(task.phase(live.now)),
            task_name: task.name,
            trigger_time: task.due_at.unwrap_or(task.trigger_time),
            priority: Some(task.priority.get()),
            kind: "task",
            status: task.status.as_str(),
            held: live.held(task.held, task.status, task.due_at),
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
    /// `registered`, or `paused`.
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
    /// Only events for which it is true fire it; null: all do.
    pub filter: Option<String>,
    /// Seconds without an event after which its task runs; null: it runs at once.
    pub debounce: Option<f64>,
    /// What an operator changed of the members above; null where nothing is.
    #[schema(value_type = Option<Object>)]
    pub edits: Option<TriggerEdits>,
    /// When it was first created.
    pub created_at: DateTime<Utc>,
    /// How many events fired it.
    pub fired_count: u64,
    /// When it last fired.
    pub last_fired: Option<DateTime<Utc>>,
    /// How many events of its type its filter let pass by.
    pub skipped_count: u64,
    /// Why its filter could not be evaluated on the last event, where it could not.
    pub filter_error: Option<String>,
}

/// Members that an operator set.
#[derive(Debug, Serialize, ToSchema)]
pub struct TriggerEdits {
    /// Members of the payload.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub payload: Option<Raw>,
    /// 1 to 9.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<u8>,
    /// All of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tags: Option<Vec<String>>,
    /// CEL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
    /// Seconds; 0 for none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub debounce: Option<f64>,
}

impl From<Trigger> for TriggerRecord {
    fn from(trigger: Trigger) -> Self {
        let terms = trigger.terms().into_owned();
        let edits = (trigger.edits != Edits::default()).then(|| TriggerEdits {
            payload: trigger.edits.payload,
            priority: trigger.edits.priority.map(Priority::get),
            tags: trigger.edits.tags,
            filter: trigger.edits.filter,
            debounce: trigger.edits.debounce.map(|debounce| debounce.as_secs_f64()),
        });
        Self {
            task_id: trigger.id.to_string(),
            trigger_id: trigger.id.to_string(),
            name: trigger.name,
            task_name: trigger.task_name,
            status: if trigger.paused { "paused" } else { "registered" },
            event_type: trigger.event_type,
            payload: RawValue::from_string(terms.payload).ok(),
            priority: terms.priority.map(Priority::get),
            tags: terms.tags,
            filter: terms.filter,
            debounce: terms.debounce.map(|debounce| debounce.as_secs_f64()),
            edits,
            created_at: trigger.created_at,
            fired_count: trigger.fired_count,
            last_fired: trigger.last_fired,
            skipped_count: trigger.skipped_count,
            filter_error: trigger.filter_error,
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

/// What events set off.
#[derive(Debug, Serialize, ToSchema)]
pub struct Triggered {
    /// The tasks that carry their data: one a trigger that listens, and for several events in a row one that waits for them to cease.
    pub triggered_tasks: Vec<String>,
    /// How many.
    pub count: usize,
    /// Of a CloudEvent: whether its source and id were seen before, so that it changed nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duplicate: Option<bool>,
    /// Of a batch: what came of each, in their order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub events: Option<Vec<DeliveredEvent>>,
}

impl Triggered {
    pub(crate) fn of_tasks(triggered_tasks: Vec<String>) -> Self {
        Self {
            count: triggered_tasks.len(),
            triggered_tasks,
            duplicate: None,
            events: None,
        }
    }

    pub(crate) fn with_duplicate(self, duplicate: bool) -> Self {
        Self {
            duplicate: Some(duplicate),
            ..self
        }
    }

    pub(crate) fn with_events(self, events: Vec<DeliveredEvent>) -> Self {
        Self {
            events: Some(events),
            ..self
        }
    }
}

/// What came of one event of a batch.
#[derive(Debug, Serialize, ToSchema)]
pub struct DeliveredEvent {
    /// Its own id.
    pub id: String,
    /// Its source.
    pub source: String,
    /// Whether both were seen before, so that it changed nothing.
    pub duplicate: bool,
    /// The tasks that carry its data.
    pub triggered_tasks: Vec<String>,
}

impl From<(Source, Delivered)> for DeliveredEvent {
    fn from((source, delivered): (Source, Delivered)) -> Self {
        Self {
            id: source.id,
            source: source.uri,
            duplicate: delivered.duplicate,
            triggered_tasks: delivered.tasks.iter().map(ToString::to_string).collect(),
        }
    }
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

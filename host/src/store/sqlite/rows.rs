//! Between rows and the model: one column list for waiting and for ended tasks, read by one function.

use crate::model::Time;
use crate::model::attempt::{Attempt, OutcomeKind, Progress, Usage};
use crate::model::ids::{BatchId, NodeId, ScheduleId, TaskId, TriggerId, WorkflowId};
use crate::model::priority::Priority;
use crate::model::retry::Counters;
use crate::model::task::{Failure, Origin, Status, Task};
use crate::model::trigger::Trigger;
use rusqlite::Row;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// What both tables have, in the order in which [`task`] reads it; `history` is filled from `task` by it too.
pub(super) const SHARED: &str = "id, name, payload, priority, tags, trigger_at, submitted_at, started_at, attempt, retries, snoozes, losses, \
     timeout, max_retries, idempotent, execution_time, last_failure, failure, progress, plugin, origin_kind, origin, idempotency_key, batch, \
     workflow, depth, expires_at, deadline, fair";

/// The rest of the columns of a waiting or running task, in the order in which [`task`] reads them.
pub(super) const LIVE: &str = "CASE queue WHEN 3 THEN 1 ELSE 0 END, NULL, NULL, held, due_at";
/// The same of an ended one.
pub(super) const ENDED: &str = "status, completed_at, result, NULL, NULL";

const STATUSES: [Status; 5] = Status::ALL;

pub(super) fn status_number(status: Status) -> i64 {
    STATUSES.iter().position(|s| *s == status).map_or(0, |n| n as i64)
}

pub(super) fn status_of(number: u8) -> Status {
    STATUSES.get(usize::from(number)).copied().unwrap_or(Status::Failed)
}

pub(super) fn micros(time: Time) -> i64 {
    time.timestamp_micros()
}

pub(super) fn from_micros(micros: i64) -> Time {
    Time::from_timestamp_micros(micros).unwrap_or(Time::UNIX_EPOCH)
}

pub(super) fn micros_of(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

pub(super) fn duration(micros: i64) -> Duration {
    Duration::from_micros(micros.unsigned_abs())
}

pub(super) fn blob(row: &Row<'_>, index: usize) -> rusqlite::Result<[u8; 16]> {
    row.get(index)
}

/// Column text that this store wrote as JSON.
fn json<T: serde::de::DeserializeOwned>(index: usize, text: &str) -> rusqlite::Result<T> {
    serde_json::from_str(text).map_err(|error| rusqlite::Error::FromSqlConversionFailure(index, rusqlite::types::Type::Text, error.into()))
}

pub(super) fn optional_json<T: serde::de::DeserializeOwned>(row: &Row<'_>, index: usize) -> rusqlite::Result<Option<T>> {
    match row.get_ref(index)? {
        rusqlite::types::ValueRef::Null => Ok(None),
        value => json(index, value.as_str()?).map(Some),
    }
}

pub(super) fn tags_text(tags: &[String]) -> Option<String> {
    (!tags.is_empty()).then(|| serde_json::json!(tags).to_string())
}

pub(super) fn priority(value: i64) -> Priority {
    Priority::new(value).unwrap_or(Priority::NORMAL)
}

/// A failure as it is stored.
#[derive(Serialize, Deserialize)]
struct FailureRow {
    code: String,
    error: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    details: Option<serde_json::Value>,
}

pub(super) fn failure_text(failure: &Failure) -> String {
    let Failure { code, error, details } = failure.clone();
    serde_json::json!(FailureRow { code, error, details }).to_string()
}

/// Reads what [`failure_text`] wrote.
pub(super) fn failure(row: &Row<'_>, index: usize) -> rusqlite::Result<Option<Failure>> {
    let failure: Option<FailureRow> = optional_json(row, index)?;
    Ok(failure.map(|FailureRow { code, error, details }| Failure { code, error, details }))
}

pub(super) fn origin_columns(origin: Origin) -> (i64, Option<[u8; 16]>) {
    match origin {
        Origin::Submitted => (0, None),
        Origin::Schedule(id) => (1, Some(*id.as_bytes())),
        Origin::Trigger(id) => (2, Some(*id.as_bytes())),
        Origin::RetryOf(id) => (3, Some(*id.as_bytes())),
        Origin::Task(id) => (4, Some(*id.as_bytes())),
    }
}

pub(super) fn origin(kind: i64, id: Option<[u8; 16]>) -> Origin {
    match (kind, id) {
        (1, Some(id)) => Origin::Schedule(ScheduleId::from_bytes(id)),
        (2, Some(id)) => Origin::Trigger(TriggerId::from_bytes(id)),
        (3, Some(id)) => Origin::RetryOf(TaskId::from_bytes(id)),
        (4, Some(id)) => Origin::Task(TaskId::from_bytes(id)),
        _ => Origin::Submitted,
    }
}

/// Reads [`SHARED`] followed by [`LIVE`] or [`ENDED`].
pub(super) fn task(row: &Row<'_>) -> rusqlite::Result<Task> {
    let id = TaskId::from_bytes(blob(row, 0)?);
    let number = |index: usize| row.get::<_, u32>(index);
    let time = |index: usize| row.get::<_, Option<i64>>(index).map(|micros| micros.map(from_micros));
    let status: u8 = row.get(29)?;
    Ok(Task {
        id,
        name: row.get(1)?,
        payload: row.get(2)?,
        priority: priority(row.get(3)?),
        tags: optional_json(row, 4)?.unwrap_or_default(),
        trigger_time: from_micros(row.get(5)?),
        due_at: time(33)?,
        submitted_at: from_micros(row.get(6)?),
        started_at: time(7)?,
        attempt: number(8)?,
        counters: Counters {
            retries: number(9)?,
            snoozes: number(10)?,
            losses: number(11)?,
        },
        timeout: row.get::<_, Option<i64>>(12)?.map(duration),
        max_retries: row.get(13)?,
        idempotent: row.get(14)?,
        execution_time: row.get::<_, Option<i64>>(15)?.map(duration),
        last_failure: time(16)?,
        failure: failure(row, 17)?,
        progress: optional_json::<Progress>(row, 18)?,
        plugin: row.get(19)?,
        origin: origin(row.get(20)?, row.get(21)?),
        idempotency_key: row.get::<_, Option<[u8; 16]>>(22)?.map_or(id, TaskId::from_bytes),
        batch: row.get::<_, Option<[u8; 16]>>(23)?.map(BatchId::from_bytes),
        workflow: row.get::<_, Option<[u8; 16]>>(24)?.map(WorkflowId::from_bytes),
        depth: number(25)?,
        expires_at: time(26)?,
        deadline: time(27)?,
        limited: false,
        status: status_of(status),
        completed_at: time(30)?,
        result: row.get(31)?,
        held: row.get(32)?,
        attempts: Vec::new(),
    })
}

/// How an attempt ended; `None` while it runs.
pub(super) fn outcome(word: Option<String>) -> Option<OutcomeKind> {
    serde_json::from_value(word?.into()).ok()
}

pub(super) const ATTEMPT: &str =
    "number, outcome, started_at, ended_at, execution_time, fuel_used, peak_memory, error, plugin_digest, node, processor_wait";

/// Reads [`ATTEMPT`].
pub(super) fn attempt(row: &Row<'_>) -> rusqlite::Result<Attempt> {
    let outcome: String = row.get(1)?;
    let unsigned = |index: usize| row.get::<_, Option<i64>>(index).map(|n| n.map(i64::unsigned_abs));
    Ok(Attempt {
        number: row.get(0)?,
        outcome: self::outcome(Some(outcome)),
        started_at: from_micros(row.get(2)?),
        ended_at: Some(from_micros(row.get(3)?)),
        execution_time: row.get::<_, Option<i64>>(4)?.map(duration),
        usage: Usage {
            fuel_used: unsigned(5)?,
            peak_memory: unsigned(6)?,
            processor_wait: row.get::<_, Option<i64>>(10)?.map(duration),
        },
        error: row.get(7)?,
        plugin_digest: row.get(8)?,
        node: NodeId::from_bytes(blob(row, 9)?),
    })
}

/// A trigger is read from both of its tables.
pub(super) const TRIGGERS: &str = "trigger_rule JOIN trigger_state USING (id)";
pub(super) const TRIGGER: &str =
    "id, name, task_name, event_type, terms, edits, created_at, paused, fired_count, last_fired, skipped_count, filter_error";

/// Reads [`TRIGGER`].
pub(super) fn trigger(row: &Row<'_>) -> rusqlite::Result<Trigger> {
    Ok(Trigger {
        id: TriggerId::from_bytes(blob(row, 0)?),
        name: row.get(1)?,
        task_name: row.get(2)?,
        event_type: row.get(3)?,
        declared: json(4, row.get_ref(4)?.as_str()?)?,
        edits: optional_json(row, 5)?.unwrap_or_default(),
        created_at: from_micros(row.get(6)?),
        paused: row.get(7)?,
        fired_count: row.get::<_, i64>(8)?.unsigned_abs(),
        last_fired: row.get::<_, Option<i64>>(9)?.map(from_micros),
        skipped_count: row.get::<_, i64>(10)?.unsigned_abs(),
        filter_error: row.get(11)?,
    })
}

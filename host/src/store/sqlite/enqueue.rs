//! In: what is submitted, made by a rule, or tried again by a person.

use super::Failed;
use super::gates::gates;
use super::lanes;
use super::monitor::raise;
use super::once;
use super::rows::{self, failure_text, micros, origin_columns, tags_text};
use super::settle::{End, move_to_history};
use super::tasks::failed_task;
use super::timers;
use super::workflow;
use super::writer::Tx;
use crate::model::Time;
use crate::model::alert::{AlertType, NewAlert};
use crate::model::ids::{BatchId, TaskId, WorkflowId};
use crate::model::room::Load;
use crate::model::task::{Failure, NewTask, Status, Task};
use crate::store::{Offer, RequestKey, Result, StoreError};
use rusqlite::params;

/// Not yet due, due, running: see the table `task`.
const FUTURE: i64 = 0;
const DUE: i64 = 1;
const RUNNING: i64 = 3;

/// Keeps a task that somebody asked for once. Returns the id of the task that stands for it.
pub(super) fn submit(tx: &mut Tx<'_>, task: &NewTask, key: Option<&RequestKey>, offer: Option<&Offer>) -> Result<(TaskId, Option<Task>)> {
    if let Some(key) = key {
        once::admit(tx.db, key, task.submitted_at)?;
    }
    let (first, leased) = match once::unique(tx, task)? {
        Some(first) => (first, None),
        None => (task.id, enqueue(tx, task, offer)?),
    };
    if let Some(key) = key {
        let answer = key.answer.replace(&task.id.to_string(), &first.to_string());
        once::remember(tx, &RequestKey { answer, ..key.clone() }, task.submitted_at)?;
    }
    Ok((first, leased))
}

/// Keeps a task. Where it may run at once on the place that is offered, it is leased to it already, which saves the claim, and is given
/// back.
pub(super) fn enqueue(tx: &mut Tx<'_>, task: &NewTask, offer: Option<&Offer>) -> Result<Option<Task>> {
    let is_due = task.trigger_time <= task.submitted_at;
    let offer = match offer {
        Some(offer) if is_due && task.stillborn.is_none() && gates(tx)?.are_open(&task.name, &task.tags, &offer.handled) => {
            let burns = (offer.load)(&task.name) == Load::Burns;
            let waits = lanes::waits(tx.db, &offer.load, !burns)?;
            let is_first = !(waits.for_slot || burns && waits.for_processor.is_some());
            let is_held = is_first && (offer.hold)();
            // What waits for a processor waits for no slot.
            tx.crowded.set(waits.for_slot || is_first && !is_held && !burns);
            Some(offer).filter(|_| is_held)
        }
        _ => None,
    };
    let (origin_kind, origin) = origin_columns(task.origin);
    let key = (task.idempotency_key != task.id).then(|| *task.idempotency_key.as_bytes());
    let queue = match (is_due, offer) {
        (_, Some(_)) => RUNNING,
        (true, None) => DUE,
        (false, None) => FUTURE,
    };
    let started_at = offer.map(|_| micros(task.submitted_at));
    let failed = task.stillborn.as_ref();
    tx.db
        .prepare_cached(
            "INSERT INTO task (id, name, payload, priority, tags, queue, trigger_at, due_at, submitted_at, timeout, max_retries, idempotent,
               origin_kind, origin, idempotency_key, started_at, attempt_started_at, attempt, node, plugin, plugin_digest, attempt_idempotent,
               failure, last_failure, workflow, depth, expires_at, deadline, fair)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23, ?24, ?25,
               ?26, ?27, ?28)",
        )
        .and_then(|mut s| {
            s.execute(params![
                task.id.as_bytes(),
                task.name,
                task.payload,
                task.priority.get(),
                tags_text(&task.tags),
                queue,
                micros(task.trigger_time),
                micros(task.due_at()),
                micros(task.submitted_at),
                task.timeout.map(rows::micros_of),
                task.max_retries,
                task.idempotent,
                origin_kind,
                origin,
                key,
                started_at,
                i64::from(offer.is_some()),
                offer.map(|offer| offer.node.as_bytes()),
                offer.map(|offer| offer.handled.plugin.as_ref()),
                offer.map(|offer| offer.handled.plugin_digest.as_ref()),
                offer.map(|offer| task.idempotent.unwrap_or(offer.handled.idempotent)),
                failed.map(failure_text),
                failed.map(|_| micros(task.submitted_at)),
                task.workflow.as_ref().map(WorkflowId::as_bytes),
                task.depth,
                task.expires_at.map(micros),
                task.deadline.map(micros),
                task.fair_key().get(),
            ])
        })
        .failed()?;
    tx.committed.entered += 1;
    for tag in &task.tags {
        tx.db
            .prepare_cached("INSERT OR IGNORE INTO task_tag (tag, id) VALUES (?1, ?2)")
            .and_then(|mut s| s.execute(params![tag, task.id.as_bytes()]))
            .failed()?;
    }
    if task.expires_at.is_some() || task.deadline.is_some() {
        timers::set(tx, task)?;
    }
    if let Some(failure) = failed {
        bury(tx, task, failure)?;
    }
    Ok(offer.map(|offer| task.as_running(&offer.handled.plugin)))
}

/// A task that is known to be wrong ends as it is born.
fn bury(tx: &mut Tx<'_>, task: &NewTask, failure: &Failure) -> Result<()> {
    let at = task.submitted_at;
    let end = End {
        tagged: !task.tags.is_empty(),
        ..End::without_attempt(Status::Failed, at, task.ties())
    };
    move_to_history(tx, task.id, None, &end)?;
    raise(
        tx,
        &NewAlert {
            kind: AlertType::TaskFailure,
            task_id: task.id,
            task_name: task.name.clone(),
            error: Some(failure.error.clone()),
            execution_time: None,
            at,
        },
    )
}

pub(super) fn retry(tx: &mut Tx<'_>, id: TaskId, new_id: TaskId, now: Time) -> Result<()> {
    let seq = failed_task(tx.db, id, "be retried")?;
    type Found = (Option<[u8; 16]>, Option<[u8; 16]>, Option<[u8; 16]>);
    let (earlier, batch, workflow): Found = tx
        .db
        .prepare_cached("SELECT retried_by, batch, workflow FROM history WHERE seq = ?1")
        .and_then(|mut s| s.query_row([seq], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))))
        .failed()?;
    if let Some(earlier) = earlier {
        return Err(StoreError::Conflict(format!(
            "the task was retried before, as {}",
            TaskId::from_bytes(earlier)
        )));
    }
    if let Some(workflow) = workflow {
        return workflow::retry_task(tx, WorkflowId::from_bytes(workflow), id, new_id, now);
    }
    tx.db
        .prepare_cached(
            "INSERT INTO task (id, name, payload, priority, tags, queue, trigger_at, due_at, submitted_at, timeout, max_retries, idempotent,
               origin_kind, origin, idempotency_key, batch, depth, deadline, fair)
             SELECT ?2, name, payload, priority, tags, 1, ?3, ?3, ?3, timeout, max_retries, idempotent, 3, id, COALESCE(idempotency_key, id),
               batch, depth, deadline, fair
             FROM history WHERE seq = ?1",
        )
        .and_then(|mut s| s.execute(params![seq, new_id.as_bytes(), micros(now)]))
        .failed()?;
    tx.committed.entered += 1;
    tx.db
        .prepare_cached(
            "INSERT OR IGNORE INTO task_tag SELECT tags.value, ?2 FROM history, json_each(history.tags) AS tags WHERE history.seq = ?1",
        )
        .and_then(|mut s| s.execute(params![seq, new_id.as_bytes()]))
        .failed()?;
    tx.db
        .prepare_cached("UPDATE history SET dismissed = 1, retried_by = ?2 WHERE seq = ?1")
        .and_then(|mut s| s.execute(params![seq, new_id.as_bytes()]))
        .failed()?;
    timers::set_deadline_again(tx, new_id)?;
    once::stand_in(tx, id, new_id)?;
    // It counts as waiting again, and is counted anew when it ends.
    if let Some(batch) = batch {
        tx.batches.add(BatchId::from_bytes(batch), Status::Failed, -1, now);
    }
    Ok(())
}

//! Out: an attempt ends, and its task goes on or moves to history.

use super::Failed;
use super::follow::{self, Ended};
use super::gates::gates;
use super::monitor::raise;
use super::outbox;
use super::places;
use super::rows::{self, failure_text, micros, micros_of};
use super::tasks;
use super::writer::Tx;
use crate::model::Time;
use crate::model::attempt::{Outcome, OutcomeKind, Usage};
use crate::model::ids::{NodeId, TaskId};
use crate::model::retry::{Counters, Next};
use crate::model::task::{Failure, Status, Ties};
use crate::store::{Lease, Result, Settle, StoreError};
use rusqlite::{OptionalExtension, params};
use std::sync::LazyLock;

pub(super) fn settle(tx: &mut Tx<'_>, settle: &Settle) -> Result<()> {
    let error = settle.outcome.message();
    let failure = failure_of(settle, error.as_deref()).map(|failure| failure_text(&failure));
    let kind = settle.outcome.kind();
    let attempt = AttemptEnd {
        outcome: kind,
        started_at: settle.started_at,
        execution_time: settle.execution_time.map(micros_of),
        usage: settle.usage,
        error: error.as_deref(),
        progress: settle.progress.as_ref().map(|progress| serde_json::json!(progress).to_string()),
    };
    let id = settle.lease.task;
    if let Next::Pending { trigger_time, counters } = &settle.next {
        let again = Again {
            due_at: *trigger_time,
            counters: *counters,
            failure,
        };
        wait_again(tx, settle, &attempt, &again)?;
        if settle.ties.limited || gates(tx)?.has_limits() {
            places::leave(tx, id, false)?;
        }
    } else {
        let result = match &settle.outcome {
            Outcome::Ok { result } => Some(result.as_str()),
            _ => None,
        };
        let end = End {
            status: settle.next.status(),
            at: settle.now,
            result,
            failure,
            attempt: Some(attempt),
            tagged: settle.tagged,
            ties: settle.ties,
        };
        move_to_history(tx, id, Some(settle.lease), &end)?;
    }
    if kind == OutcomeKind::Ok {
        outbox::keep(tx, id, &settle.outbox, settle.now)?;
    }
    tasks::append_log(tx, id, &settle.task_name, &settle.log)?;
    if let Some(alert) = &settle.alert {
        raise(tx, alert)?;
    }
    // Last: what is added in memory is not undone with what was written.
    if let Some(execution_time) = settle.execution_time {
        tx.metrics.add(tx.db, &settle.task_name, kind, execution_time)?;
    }
    Ok(())
}

/// What the task's record will tell of this attempt, if it failed.
fn failure_of(settle: &Settle, error: Option<&str>) -> Option<Failure> {
    match &settle.next {
        Next::Failed { code, error } => Some(Failure {
            code: (*code).to_owned(),
            error: error.clone(),
            details: settle.outcome.details(),
        }),
        Next::Pending { .. } if settle.outcome.kind().is_failure() => Some(Failure {
            code: settle.outcome.code().to_owned(),
            error: error.unwrap_or_default().to_owned(),
            details: settle.outcome.details(),
        }),
        _ => None,
    }
}

/// What an attempt leaves; its number, its plugin and who ran it are in the task's row.
pub(super) struct AttemptEnd<'a> {
    outcome: OutcomeKind,
    /// When the guest began; `None` where nobody saw it, and the lease has to do.
    started_at: Option<Time>,
    execution_time: Option<i64>,
    usage: Usage,
    error: Option<&'a str>,
    progress: Option<String>,
}

/// How a task ends.
pub(super) struct End<'a> {
    pub(super) status: Status,
    pub(super) at: Time,
    pub(super) result: Option<&'a str>,
    /// JSON; `None` leaves what the last attempt that failed has left.
    pub(super) failure: Option<String>,
    /// The attempt that ran until now.
    pub(super) attempt: Option<AttemptEnd<'a>>,
    /// Whether the task has tags.
    pub(super) tagged: bool,
    /// Who has to hear of it.
    pub(super) ties: Ties,
}

impl End<'_> {
    /// Of a task that is not running.
    pub(super) fn without_attempt(status: Status, at: Time, ties: Ties) -> Self {
        Self {
            status,
            at,
            result: None,
            failure: None,
            attempt: None,
            tagged: true,
            ties,
        }
    }
}

/// Moves a task to history: a running one only under its fence. `OR FAIL`, since what fails takes the whole transaction back anyway:
/// without it, SQLite would copy each page first, to undo the statement alone.
pub(super) fn move_to_history(tx: &mut Tx<'_>, id: TaskId, fence: Option<Lease>, end: &End<'_>) -> Result<()> {
    static MOVE: LazyLock<String> = LazyLock::new(|| {
        format!(
            "INSERT OR FAIL INTO history ({shared}, status, completed_at, result, outcome, attempt_started_at, fuel_used, peak_memory, attempt_error,
               plugin_digest, node, processor_wait)
             SELECT id, name, payload, priority, tags, trigger_at, submitted_at, IIF(?7 IS NOT NULL AND attempt = 1, COALESCE(?8, started_at), started_at),
               attempt, retries, snoozes, losses, timeout, max_retries, idempotent, IIF(?7 IS NULL, execution_time, ?9),
               IIF(?6 IS NULL, last_failure, ?5), IIF(?4 = 2, NULL, COALESCE(?6, failure)), IIF(?7 IS NULL, progress, ?10), plugin, origin_kind,
               origin, idempotency_key, batch, workflow, depth, expires_at, deadline, fair,
               ?4, ?5, ?11, ?7, IIF(?7 IS NULL, NULL, COALESCE(?8, attempt_started_at)), ?12, ?13, ?14, IIF(?7 IS NULL, NULL, plugin_digest), node, ?15
             FROM task WHERE id = ?1 AND (?2 IS NULL OR (queue = 3 AND attempt = ?2 AND node = ?3))",
            shared = rows::SHARED
        )
    });
    let attempt = end.attempt.as_ref();
    let signed = |n: Option<u64>| n.map(u64::cast_signed);
    let moved = tx
        .db
        .prepare_cached(&MOVE)
        .and_then(|mut s| {
            s.execute(params![
                id.as_bytes(),
                fence.map(|fence| fence.attempt),
                fence.as_ref().map(|fence| fence.node.as_bytes()),
                rows::status_number(end.status),
                micros(end.at),
                end.failure,
                attempt.map(|attempt| attempt.outcome.as_str()),
                attempt.and_then(|attempt| attempt.started_at).map(micros),
                attempt.and_then(|attempt| attempt.execution_time),
                attempt.and_then(|attempt| attempt.progress.as_deref()),
                end.result,
                attempt.and_then(|attempt| signed(attempt.usage.fuel_used)),
                attempt.and_then(|attempt| signed(attempt.usage.peak_memory)),
                attempt.and_then(|attempt| attempt.error),
                attempt.and_then(|attempt| attempt.usage.processor_wait).map(micros_of),
            ])
        })
        .failed()?;
    if moved == 0 {
        return Err(StoreError::LeaseLost);
    }
    tx.committed.ended.push(id);
    if end.tagged {
        tx.db
            .prepare_cached(
                "INSERT OR IGNORE INTO history_tag SELECT tags.value, ?2, ?1, ?3, task.name
                 FROM task, json_each(task.tags) AS tags WHERE task.id = ?1",
            )
            .and_then(|mut s| s.execute(params![id.as_bytes(), micros(end.at), rows::status_number(end.status)]))
            .failed()?;
        tx.db
            .prepare_cached(
                "DELETE FROM task_tag WHERE id = ?1
                 AND tag IN (SELECT tags.value FROM task, json_each(task.tags) AS tags WHERE task.id = ?1)",
            )
            .and_then(|mut s| s.execute([id.as_bytes()]))
            .failed()?;
    }
    for sql in ["DELETE FROM task WHERE id = ?1", "DELETE FROM checkpoint WHERE task = ?1"] {
        tx.db.prepare_cached(sql).and_then(|mut s| s.execute([id.as_bytes()])).failed()?;
    }
    if end.ties.is_none() {
        return Ok(());
    }
    let ended = Ended {
        id,
        status: end.status,
        at: end.at,
        ties: end.ties,
    };
    follow::ended(tx, &ended)
}

/// When a task that goes on is due, and what it has been through.
struct Again {
    due_at: Time,
    counters: Counters,
    /// JSON.
    failure: Option<String>,
}

fn wait_again(tx: &Tx<'_>, settle: &Settle, attempt: &AttemptEnd<'_>, again: &Again) -> Result<()> {
    let Lease {
        task,
        attempt: number,
        node,
    } = settle.lease;
    let signed = |n: Option<u64>| n.map(u64::cast_signed);
    let ended = tx
        .db
        .prepare_cached(
            "INSERT OR FAIL INTO attempt SELECT id, attempt, ?4, COALESCE(?5, attempt_started_at), ?6, ?7, ?8, ?9, ?10, plugin_digest, node, ?11
             FROM task WHERE id = ?1 AND queue = 3 AND attempt = ?2 AND node = ?3",
        )
        .and_then(|mut s| {
            s.execute(params![
                task.as_bytes(),
                number,
                node.as_bytes(),
                attempt.outcome.as_str(),
                attempt.started_at.map(micros),
                micros(settle.now),
                attempt.execution_time,
                signed(attempt.usage.fuel_used),
                signed(attempt.usage.peak_memory),
                attempt.error,
                attempt.usage.processor_wait.map(micros_of)
            ])
        })
        .failed()?;
    if ended == 0 {
        return Err(StoreError::LeaseLost);
    }
    tx.kept.add_attempt(&settle.task_name, attempt.error);
    tx.db
        .prepare_cached(
            "UPDATE task SET queue = ?2, due_at = ?3, retries = ?4, snoozes = ?5, losses = ?6, node = NULL, attempt_started_at = NULL,
               started_at = IIF(attempt = 1, COALESCE(?12, started_at), started_at), execution_time = ?7, progress = ?8,
               failure = COALESCE(?9, failure), last_failure = IIF(?9 IS NULL, last_failure, ?10)
             WHERE id = ?1 AND attempt = ?11",
        )
        .and_then(|mut s| {
            s.execute(params![
                task.as_bytes(),
                i64::from(again.due_at <= settle.now),
                micros(again.due_at),
                again.counters.retries,
                again.counters.snoozes,
                again.counters.losses,
                attempt.execution_time,
                attempt.progress,
                again.failure,
                micros(settle.now),
                number,
                attempt.started_at.map(micros),
            ])
        })
        .failed()
        .map(drop)
}

pub(super) fn cancel(tx: &mut Tx<'_>, id: TaskId, now: Time) -> Result<Option<Lease>> {
    match cancel_tied(tx, id, now, |ties| ties) {
        // An attempt may have submitted it a moment ago.
        Err(StoreError::NotFound) => {
            outbox::fulfil_task(tx, id)?;
            cancel_tied(tx, id, now, |ties| ties)
        }
        cancelled => cancelled,
    }
}

/// As [`cancel`], of a step whose workflow knows.
pub(super) fn cancel_untied(tx: &mut Tx<'_>, id: TaskId, now: Time) -> Result<Option<Lease>> {
    cancel_tied(tx, id, now, |ties| Ties { workflow: None, ..ties })
}

/// As [`cancel`], of a task whose schedule is told once of many.
pub(super) fn cancel_unscheduled(tx: &mut Tx<'_>, id: TaskId, now: Time) -> Result<Option<Lease>> {
    cancel_tied(tx, id, now, |ties| Ties { schedule: None, ..ties })
}

fn cancel_tied(tx: &mut Tx<'_>, id: TaskId, now: Time, of: impl FnOnce(Ties) -> Ties) -> Result<Option<Lease>> {
    let found = tx
        .db
        .prepare_cached("SELECT attempt, node, attempt_started_at, batch, workflow, origin_kind, origin FROM task WHERE id = ?1")
        .and_then(|mut s| {
            s.query_row([id.as_bytes()], |row| {
                let running = row.get::<_, Option<[u8; 16]>>(1)?.zip(row.get::<_, Option<i64>>(2)?);
                Ok((row.get::<_, u32>(0)?, running, follow::ties(row, 3)?))
            })
            .optional()
        })
        .failed()?;
    let Some((attempt, running, ties)) = found else {
        return Err(tasks::ended_or_unknown(tx.db, id, "be cancelled"));
    };
    let mut end = End::without_attempt(Status::Cancelled, now, of(ties));
    let Some((node, started_at)) = running else {
        move_to_history(tx, id, None, &end)?;
        return Ok(None);
    };
    end.attempt = Some(AttemptEnd {
        outcome: OutcomeKind::Cancelled,
        started_at: None,
        execution_time: Some((micros(now) - started_at).max(0)), // the clock may have been set back
        usage: Usage::default(),
        error: Some("the task was cancelled"),
        progress: None,
    });
    let lease = Lease {
        task: id,
        attempt,
        node: NodeId::from_bytes(node),
    };
    move_to_history(tx, id, Some(lease), &end)?;
    Ok(Some(lease))
}

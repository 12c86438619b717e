//! The life of a task in SQL: in, cancelled, retried, out.

use super::Failed;
use super::monitor::raise;
use super::rows::{self, failure_text, micros, origin_columns, tags_text};
use super::writer::Tx;
use crate::model::Time;
use crate::model::alert::{AlertType, NewAlert};
use crate::model::attempt::{Attempt, LogLine, OutcomeKind, Usage};
use crate::model::ids::{NodeId, TaskId};
use crate::model::task::{NewTask, Status, Task};
use crate::store::{Handlers, Lease, Result, StoreError};
use rusqlite::{Connection, OptionalExtension, params};
use std::sync::LazyLock;

/// Why a due task without a handler is not offered to workers.
pub(super) const HANDLER_MISSING: &str = "handler missing";
/// Held tasks that one commit offers again, at most.
const RELEASED: usize = 2_000;
/// Bytes of payloads and results that one commit forgets, about: their pages have to be read to be freed.
const PRUNED_BYTES: u64 = 32 << 20;

pub(super) fn enqueue(tx: &Tx<'_>, task: &NewTask) -> Result<()> {
    let (origin_kind, origin) = origin_columns(task.origin);
    let key = (task.idempotency_key != task.id).then(|| *task.idempotency_key.as_bytes());
    let queue = i64::from(task.trigger_time <= task.submitted_at);
    tx.db
        .prepare_cached(
            "INSERT INTO task (id, name, payload, priority, tags, queue, trigger_at, due_at, submitted_at, timeout, max_retries, idempotent,
               origin_kind, origin, idempotency_key) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
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
                micros(task.submitted_at),
                task.timeout.map(rows::micros_of),
                task.max_retries,
                task.idempotent,
                origin_kind,
                origin,
                key
            ])
        })
        .failed()?;
    let seq = tx.db.last_insert_rowid();
    for tag in &task.tags {
        tx.db
            .prepare_cached("INSERT OR IGNORE INTO task_tag (tag, id) VALUES (?1, ?2)")
            .and_then(|mut s| s.execute(params![tag, task.id.as_bytes()]))
            .failed()?;
    }
    match &task.stillborn {
        None => Ok(()),
        Some(failure) => {
            let now = task.submitted_at;
            tx.db
                .prepare_cached("UPDATE task SET failure = ?2, last_failure = ?3 WHERE seq = ?1")
                .and_then(|mut s| s.execute(params![seq, failure_text(failure), micros(now)]))
                .failed()?;
            finish(tx, seq, task.id, Status::Failed, now, None)?;
            let (kind, error) = (AlertType::TaskFailure, Some(failure.error.clone()));
            raise(
                tx,
                &NewAlert {
                    kind,
                    task_id: task.id,
                    task_name: task.name.clone(),
                    error,
                    execution_time: None,
                    at: now,
                },
            )
        }
    }
}

/// Moves a task to history.
pub(super) fn finish(tx: &Tx<'_>, seq: i64, id: TaskId, status: Status, now: Time, result: Option<&str>) -> Result<()> {
    static MOVE: LazyLock<String> = LazyLock::new(|| {
        format!(
            "INSERT INTO history ({shared}, status, completed_at, result) SELECT {shared}, ?2, ?3, ?4 FROM task WHERE seq = ?1
             RETURNING tags IS NOT NULL",
            shared = rows::SHARED
        )
    });
    let tagged: bool = tx
        .db
        .prepare_cached(&MOVE)
        .and_then(|mut s| s.query_row(params![seq, rows::status_number(status), micros(now), result], |row| row.get(0)))
        .failed()?;
    if tagged {
        tx.db
            .prepare_cached(
                "INSERT OR IGNORE INTO history_tag SELECT tags.value, ?2, ?1 FROM task, json_each(task.tags) AS tags WHERE task.id = ?1",
            )
            .and_then(|mut s| s.execute(params![id.as_bytes(), micros(now)]))
            .failed()?;
        tx.db
            .prepare_cached(
                "DELETE FROM task_tag WHERE id = ?1 AND tag IN (SELECT tags.value FROM task, json_each(task.tags) AS tags WHERE task.id = ?1)",
            )
            .and_then(|mut s| s.execute([id.as_bytes()]))
            .failed()?;
    }
    tx.db
        .prepare_cached("DELETE FROM task WHERE seq = ?1")
        .and_then(|mut s| s.execute([seq]))
        .failed()?;
    tx.db
        .prepare_cached("DELETE FROM checkpoint WHERE task = ?1")
        .and_then(|mut s| s.execute([id.as_bytes()]))
        .failed()?;
    Ok(())
}

/// What an attempt leaves; its fence, its start and its plugin are in the task's row.
pub(super) struct AttemptEnd<'a> {
    pub(super) outcome: OutcomeKind,
    pub(super) ended_at: Time,
    pub(super) execution_time: Option<i64>,
    pub(super) usage: Usage,
    pub(super) error: Option<&'a str>,
}

/// Keeps the running attempt of a task as ended.
pub(super) fn end_attempt(tx: &Tx<'_>, seq: i64, end: &AttemptEnd<'_>) -> Result<()> {
    let signed = |n: Option<u64>| n.map(u64::cast_signed);
    tx.db
        .prepare_cached(
            "INSERT INTO attempt SELECT id, attempt, ?2, attempt_started_at, ?3, ?4, ?5, ?6, ?7, plugin_digest, node FROM task WHERE seq = ?1",
        )
        .and_then(|mut s| {
            s.execute(params![
                seq,
                end.outcome.as_str(),
                micros(end.ended_at),
                end.execution_time,
                signed(end.usage.fuel_used),
                signed(end.usage.peak_memory),
                end.error
            ])
        })
        .failed()
        .map(drop)
}

pub(super) fn cancel(tx: &Tx<'_>, id: TaskId, now: Time) -> Result<Option<Lease>> {
    let found = tx
        .db
        .prepare_cached("SELECT seq, attempt, node, attempt_started_at FROM task WHERE id = ?1")
        .and_then(|mut s| {
            s.query_row([id.as_bytes()], |row| {
                Ok((
                    row.get::<_, i64>(0)?,
                    row.get::<_, u32>(1)?,
                    row.get::<_, Option<[u8; 16]>>(2)?,
                    row.get::<_, Option<i64>>(3)?,
                ))
            })
            .optional()
        })
        .failed()?;
    let Some((seq, attempt, node, started_at)) = found else {
        return Err(ended_or_unknown(tx.db, id, "be cancelled"));
    };
    let lease = node.map(|node| Lease {
        task: id,
        attempt,
        node: NodeId::from_bytes(node),
    });
    if let (Some(_), Some(started_at)) = (lease, started_at) {
        let execution_time = (micros(now) - started_at).max(0); // the clock may have been set back
        let (outcome, error) = (OutcomeKind::Cancelled, Some("the task was cancelled"));
        end_attempt(
            tx,
            seq,
            &AttemptEnd {
                outcome,
                ended_at: now,
                execution_time: Some(execution_time),
                usage: Usage::default(),
                error,
            },
        )?;
        tx.db
            .prepare_cached("UPDATE task SET execution_time = ?2 WHERE seq = ?1")
            .and_then(|mut s| s.execute([seq, execution_time]))
            .failed()?;
    }
    finish(tx, seq, id, Status::Cancelled, now, None)?;
    Ok(lease)
}

fn ended_or_unknown(db: &Connection, id: TaskId, what: &str) -> StoreError {
    match ended(db, id) {
        Ok(Some((_, status))) => StoreError::Conflict(format!("the task has ended as {} and cannot {what}", status.as_str())),
        Ok(None) => StoreError::NotFound,
        Err(error) => error,
    }
}

fn ended(db: &Connection, id: TaskId) -> Result<Option<(i64, Status)>> {
    db.prepare_cached("SELECT seq, status FROM history WHERE id = ?1")
        .and_then(|mut s| {
            s.query_row([id.as_bytes()], |row| Ok((row.get(0)?, rows::status_of(row.get(1)?))))
                .optional()
        })
        .failed()
}

/// The row of a failed task, or why there is none.
fn failed_task(db: &Connection, id: TaskId, what: &str) -> Result<i64> {
    match ended(db, id)? {
        Some((seq, Status::Failed)) => Ok(seq),
        Some((_, status)) => Err(StoreError::Conflict(format!(
            "the task ended as {}; only a failed task can {what}",
            status.as_str()
        ))),
        None => {
            let live = db
                .prepare_cached("SELECT 1 FROM task WHERE id = ?1")
                .and_then(|mut s| s.exists([id.as_bytes()]))
                .failed()?;
            Err(if live {
                StoreError::Conflict(format!("the task has not ended; only a failed task can {what}"))
            } else {
                StoreError::NotFound
            })
        }
    }
}

pub(super) fn retry(tx: &Tx<'_>, id: TaskId, new_id: TaskId, now: Time) -> Result<()> {
    let seq = failed_task(tx.db, id, "be retried")?;
    let earlier: Option<[u8; 16]> = tx
        .db
        .prepare_cached("SELECT retried_by FROM history WHERE seq = ?1")
        .and_then(|mut s| s.query_row([seq], |row| row.get(0)))
        .failed()?;
    if let Some(earlier) = earlier {
        return Err(StoreError::Conflict(format!(
            "the task was retried before, as {}",
            TaskId::from_bytes(earlier)
        )));
    }
    tx.db
        .prepare_cached(
            "INSERT INTO task (id, name, payload, priority, tags, queue, trigger_at, due_at, submitted_at, timeout, max_retries, idempotent,
               origin_kind, origin, idempotency_key)
             SELECT ?2, name, payload, priority, tags, 1, ?3, ?3, ?3, timeout, max_retries, idempotent, 3, id, COALESCE(idempotency_key, id)
             FROM history WHERE seq = ?1",
        )
        .and_then(|mut s| s.execute(params![seq, new_id.as_bytes(), micros(now)]))
        .failed()?;
    tx.db
        .prepare_cached(
            "INSERT OR IGNORE INTO task_tag SELECT tags.value, ?2 FROM history, json_each(history.tags) AS tags WHERE history.seq = ?1",
        )
        .and_then(|mut s| s.execute(params![seq, new_id.as_bytes()]))
        .failed()?;
    tx.db
        .prepare_cached("UPDATE history SET dismissed = 1, retried_by = ?2 WHERE seq = ?1")
        .and_then(|mut s| s.execute(params![seq, new_id.as_bytes()]))
        .failed()
        .map(drop)
}

pub(super) fn dismiss(tx: &Tx<'_>, id: TaskId) -> Result<()> {
    let seq = failed_task(tx.db, id, "be taken off this list")?;
    let changed = tx
        .db
        .prepare_cached("UPDATE history SET dismissed = 1 WHERE seq = ?1 AND dismissed = 0")
        .and_then(|mut s| s.execute([seq]))
        .failed()?;
    if changed == 0 {
        return Err(StoreError::Conflict("the task is off the list already".into()));
    }
    Ok(())
}

/// Offers held tasks again whose handler is there now, so many at a time. Returns whether there may be more.
pub(super) fn release(tx: &Tx<'_>, handlers: &Handlers) -> Result<bool> {
    let mut left = RELEASED;
    for name in handlers.keys() {
        let released = tx
            .db
            .prepare_cached(
                "UPDATE task SET queue = 1, held = NULL WHERE seq IN (SELECT seq FROM task WHERE queue = 2 AND name = ?1 LIMIT ?2)",
            )
            .and_then(|mut s| s.execute(params![name, left as i64]))
            .failed()?;
        left = left.saturating_sub(released);
        if left == 0 {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The row and the task's name of a running attempt whose fence still holds.
pub(super) fn leased(db: &Connection, lease: Lease) -> Result<(i64, String)> {
    db.prepare_cached("SELECT seq, name FROM task WHERE id = ?1 AND queue = 3 AND attempt = ?2 AND node = ?3")
        .and_then(|mut s| {
            s.query_row(params![lease.task.as_bytes(), lease.attempt, lease.node.as_bytes()], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })
            .optional()
        })
        .failed()?
        .ok_or(StoreError::LeaseLost)
}

/// As [`leased`], but also where the attempt has ended.
pub(super) fn leased_or_ended(db: &Connection, lease: Lease) -> Result<()> {
    match leased(db, lease) {
        Err(StoreError::LeaseLost) => {}
        other => return other.map(drop),
    }
    let ended = db
        .prepare_cached("SELECT 1 FROM attempt WHERE task = ?1 AND number = ?2 AND node = ?3")
        .and_then(|mut s| s.exists(params![lease.task.as_bytes(), lease.attempt, lease.node.as_bytes()]))
        .failed()?;
    if ended { Ok(()) } else { Err(StoreError::LeaseLost) }
}

pub(super) fn append_log(tx: &Tx<'_>, id: TaskId, lines: &[LogLine]) -> Result<()> {
    if lines.is_empty() {
        return Ok(());
    }
    let text = serde_json::to_string(lines).map_err(|error| StoreError::Unavailable(error.to_string()))?;
    tx.db
        .prepare_cached("INSERT INTO log (task, lines) VALUES (?1, ?2)")
        .and_then(|mut s| s.execute(params![id.as_bytes(), text]))
        .failed()
        .map(drop)
}

pub(super) fn save_checkpoint(tx: &Tx<'_>, lease: Lease, data: &[u8]) -> Result<()> {
    leased(tx.db, lease)?;
    tx.db
        .prepare_cached("INSERT INTO checkpoint VALUES (?1, ?2) ON CONFLICT (task) DO UPDATE SET data = excluded.data")
        .and_then(|mut s| s.execute(params![lease.task.as_bytes(), data]))
        .failed()
        .map(drop)
}

pub(super) fn load_checkpoint(db: &Connection, id: TaskId) -> Result<Option<Vec<u8>>> {
    db.prepare_cached("SELECT data FROM checkpoint WHERE task = ?1")
        .and_then(|mut s| s.query_row([id.as_bytes()], |row| row.get(0)).optional())
        .failed()
}

/// One task, wherever it is, with its attempts; the running one last.
pub(super) fn task(db: &Connection, id: TaskId) -> Result<Task> {
    static LIVE: LazyLock<String> = LazyLock::new(|| {
        format!(
            "SELECT {}, {}, node, attempt_started_at, plugin_digest FROM task WHERE id = ?1",
            rows::SHARED,
            rows::LIVE
        )
    });
    static ENDED: LazyLock<String> = LazyLock::new(|| format!("SELECT {}, {} FROM history WHERE id = ?1", rows::SHARED, rows::ENDED));
    let live = db
        .prepare_cached(&LIVE)
        .and_then(|mut s| {
            s.query_row([id.as_bytes()], |row| {
                Ok((
                    rows::task(row)?,
                    row.get::<_, Option<[u8; 16]>>(28)?,
                    row.get::<_, Option<i64>>(29)?,
                    row.get(30)?,
                ))
            })
            .optional()
        })
        .failed()?;
    let (mut task, running) = match live {
        Some((task, node, started_at, digest)) => (task, node.zip(started_at).map(|running| (running, digest))),
        None => {
            let ended = db
                .prepare_cached(&ENDED)
                .and_then(|mut s| s.query_row([id.as_bytes()], rows::task).optional())
                .failed()?;
            (ended.ok_or(StoreError::NotFound)?, None)
        }
    };
    task.attempts = attempts(db, id)?;
    if let Some(((node, started_at), plugin_digest)) = running {
        task.attempts.push(Attempt {
            number: task.attempt,
            outcome: None,
            started_at: rows::from_micros(started_at),
            ended_at: None,
            execution_time: None,
            usage: Usage::default(),
            error: None,
            plugin_digest,
            node: NodeId::from_bytes(node),
        });
    }
    Ok(task)
}

fn attempts(db: &Connection, id: TaskId) -> Result<Vec<Attempt>> {
    static ATTEMPTS: LazyLock<String> = LazyLock::new(|| format!("SELECT {} FROM attempt WHERE task = ?1 ORDER BY number", rows::ATTEMPT));
    let mut query = db.prepare_cached(&ATTEMPTS).failed()?;
    query.query_map([id.as_bytes()], rows::attempt).and_then(Iterator::collect).failed()
}

/// Forgets old history, bounded so that no commit takes long.
pub(super) fn prune(tx: &Tx<'_>, before: Time, keep: u64, limit: usize) -> Result<u64> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let total: i64 = tx
        .db
        .prepare_cached("SELECT COALESCE(MAX(seq), 0) FROM history")
        .and_then(|mut s| s.query_row([], |r| r.get(0)))
        .failed()?;
    let newest_to_go = total - i64::try_from(keep).unwrap_or(i64::MAX);
    let mut old = tx
        .db
        .prepare_cached(
            "SELECT seq, id, octet_length(payload) + COALESCE(octet_length(result), 0) FROM history
             WHERE completed_at < ?1 AND seq <= ?2 ORDER BY completed_at, id LIMIT ?3",
        )
        .failed()?;
    let mut bytes = 0;
    let mut rows = old
        .query_map(params![micros(before), newest_to_go, limit], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, [u8; 16]>(1)?, row.get::<_, i64>(2)?))
        })
        .and_then(Iterator::collect::<rusqlite::Result<Vec<_>>>)
        .failed()?;
    rows.retain(|(_, _, size)| {
        let fits = bytes < PRUNED_BYTES;
        bytes += size.unsigned_abs();
        fits
    });
    let mut most = rows.len();
    for sql in [
        "DELETE FROM event WHERE id IN (SELECT id FROM event WHERE at < ?1 LIMIT ?2)",
        "DELETE FROM fire WHERE (schedule, at) IN (SELECT schedule, at FROM fire WHERE at < ?1 LIMIT ?2)",
    ] {
        let deleted = tx
            .db
            .prepare_cached(sql)
            .and_then(|mut s| s.execute(params![micros(before), limit]))
            .failed()?;
        most = most.max(deleted);
    }
    for (seq, id, _) in &rows {
        for sql in [
            "DELETE FROM history_tag WHERE id = ?1 AND (tag, completed_at) IN
               (SELECT tags.value, history.completed_at FROM history, json_each(history.tags) AS tags WHERE history.id = ?1)",
            "DELETE FROM attempt WHERE task = ?1",
            "DELETE FROM log WHERE task = ?1",
        ] {
            tx.db.prepare_cached(sql).and_then(|mut s| s.execute([id])).failed()?;
        }
        tx.db
            .prepare_cached("DELETE FROM history WHERE seq = ?1")
            .and_then(|mut s| s.execute([seq]))
            .failed()?;
    }
    Ok(most as u64)
}

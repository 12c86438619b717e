//! One task: read with its attempts; its fence, log and checkpoint.

use super::Failed;
use super::outbox;
use super::rows;
use super::writer::Tx;
use crate::model::attempt::{Attempt, LogLine, Usage};
use crate::model::ids::{NodeId, TaskId};
use crate::model::task::{Status, Task};
use crate::store::{Lease, Result, StoreError};
use rusqlite::{Connection, OptionalExtension, Row, params};
use std::sync::LazyLock;

pub(super) fn ended_or_unknown(db: &Connection, id: TaskId, what: &str) -> StoreError {
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
pub(super) fn failed_task(db: &Connection, id: TaskId, what: &str) -> Result<i64> {
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

/// Whether the fence of a running attempt still holds.
pub(super) fn leased(db: &Connection, lease: Lease) -> Result<()> {
    let holds = db
        .prepare_cached("SELECT 1 FROM task WHERE id = ?1 AND queue = 3 AND attempt = ?2 AND node = ?3")
        .and_then(|mut s| s.exists(params![lease.task.as_bytes(), lease.attempt, lease.node.as_bytes()]))
        .failed()?;
    if holds { Ok(()) } else { Err(StoreError::LeaseLost) }
}

/// As [`leased`], but also where the attempt has ended; the name of its task.
pub(super) fn leased_or_ended(db: &Connection, lease: Lease) -> Result<String> {
    db.prepare_cached(
        "SELECT name FROM task WHERE id = ?1 AND queue = 3 AND attempt = ?2 AND node = ?3
         UNION ALL SELECT COALESCE((SELECT name FROM task WHERE id = ?1), (SELECT name FROM history WHERE id = ?1)) FROM attempt
           WHERE task = ?1 AND number = ?2 AND node = ?3
         UNION ALL SELECT name FROM history WHERE id = ?1 AND attempt = ?2 AND node = ?3",
    )
    .and_then(|mut s| {
        let fence = params![lease.task.as_bytes(), lease.attempt, lease.node.as_bytes()];
        s.query_row(fence, |row| row.get(0)).optional()
    })
    .failed()?
    .ok_or(StoreError::LeaseLost)
}

pub(super) fn append_log(tx: &Tx<'_>, id: TaskId, name: &str, lines: &[LogLine]) -> Result<()> {
    if lines.is_empty() {
        return Ok(());
    }
    let text = serde_json::to_string(lines).map_err(|error| StoreError::Unavailable(error.to_string()))?;
    tx.db
        .prepare_cached("INSERT INTO log (task, lines) VALUES (?1, ?2)")
        .and_then(|mut s| s.execute(params![id.as_bytes(), text]))
        .failed()?;
    tx.kept.add_log(name, &text);
    Ok(())
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

/// One task, wherever it is, with its attempts; the running one, or the one that ended the task, last.
pub(super) fn task(db: &Connection, id: TaskId) -> Result<Task> {
    static LIVE: LazyLock<String> = LazyLock::new(|| {
        format!(
            "SELECT {}, {}, node, attempt_started_at, plugin_digest, NULL, NULL, NULL, NULL, NULL FROM task WHERE id = ?1",
            rows::SHARED,
            rows::LIVE
        )
    });
    static ENDED: LazyLock<String> = LazyLock::new(|| {
        format!(
            "SELECT {}, {}, node, attempt_started_at, plugin_digest, outcome, fuel_used, peak_memory, attempt_error, processor_wait
             FROM history WHERE id = ?1",
            rows::SHARED,
            rows::ENDED
        )
    });
    let found = |sql: &str| {
        let mut query = db.prepare_cached(sql)?;
        query
            .query_row([id.as_bytes()], |row| Ok((rows::task(row)?, last_attempt(row)?)))
            .optional()
    };
    let live = found(&LIVE).failed()?;
    let (mut task, last) = match live {
        Some(live) => live,
        None => match found(&ENDED).failed()? {
            Some(ended) => ended,
            None => return outbox::promised(db, id),
        },
    };
    task.attempts = attempts(db, id)?;
    if let Some(last) = last {
        task.attempts.push(Attempt {
            number: task.attempt,
            ended_at: task.completed_at,
            execution_time: last.outcome.and(task.execution_time),
            ..last
        });
    }
    Ok(task)
}

/// The attempt that stands in the task's own row, as far as it stands in columns of its own.
fn last_attempt(row: &Row<'_>) -> rusqlite::Result<Option<Attempt>> {
    let node: Option<[u8; 16]> = row.get(34)?;
    let started_at: Option<i64> = row.get(35)?;
    let Some((node, started_at)) = node.zip(started_at) else {
        return Ok(None);
    };
    let unsigned = |index: usize| row.get::<_, Option<i64>>(index).map(|n| n.map(i64::unsigned_abs));
    Ok(Some(Attempt {
        number: 0,
        outcome: rows::outcome(row.get(37)?),
        started_at: rows::from_micros(started_at),
        ended_at: None,
        execution_time: None,
        usage: Usage {
            fuel_used: unsigned(38)?,
            peak_memory: unsigned(39)?,
            processor_wait: row.get::<_, Option<i64>>(41)?.map(rows::duration),
        },
        error: row.get(40)?,
        plugin_digest: row.get(36)?,
        node: NodeId::from_bytes(node),
    }))
}

fn attempts(db: &Connection, id: TaskId) -> Result<Vec<Attempt>> {
    static ATTEMPTS: LazyLock<String> = LazyLock::new(|| format!("SELECT {} FROM attempt WHERE task = ?1 ORDER BY number", rows::ATTEMPT));
    let mut query = db.prepare_cached(&ATTEMPTS).failed()?;
    query.query_map([id.as_bytes()], rows::attempt).and_then(Iterator::collect).failed()
}

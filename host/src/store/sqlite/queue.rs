//! What waits, and why: counted over index entries, up to a bound.

use super::Failed;
use super::rows::from_micros;
use crate::model::ids::TaskId;
use crate::store::{COUNTED, Queue, Result, StoreError, Waiting};
use rusqlite::{Connection, OptionalExtension, params};

pub(super) fn waiting(db: &Connection, id: TaskId) -> Result<Waiting> {
    type Found = (i64, Option<String>, i64, i64);
    let found: Option<Found> = db
        .prepare_cached("SELECT queue, held_key, priority, due_at FROM task WHERE id = ?1")
        .and_then(|mut s| {
            s.query_row([id.as_bytes()], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))
                .optional()
        })
        .failed()?;
    let (queue, held_key, priority, due_at) = found.ok_or(StoreError::NotFound)?;
    let ahead = match queue {
        1 => Some(
            db.prepare_cached(
                "SELECT COUNT(*) FROM (SELECT 1 FROM task INDEXED BY task_due
                   WHERE queue = 1 AND (priority, due_at, id) < (?1, ?2, ?3) LIMIT ?4)",
            )
            .and_then(|mut s| {
                s.query_row(params![priority, due_at, id.as_bytes(), COUNTED.cast_signed()], |row| {
                    row.get::<_, i64>(0)
                })
            })
            .failed()?
            .unsigned_abs(),
        ),
        _ => None,
    };
    Ok(Waiting { held_key, ahead })
}

pub(super) fn queue(db: &Connection) -> Result<Queue> {
    let count = |rows: &str| -> Result<u64> {
        let sql = format!("SELECT COUNT(*) FROM (SELECT 1 FROM task {rows} LIMIT {COUNTED})");
        db.prepare_cached(&sql)
            .and_then(|mut s| s.query_row([], |row| row.get::<_, i64>(0)))
            .failed()
            .map(i64::unsigned_abs)
    };
    let mut queue = Queue {
        scheduled: count("INDEXED BY task_future WHERE queue = 0")?,
        held: count("INDEXED BY task_held WHERE queue = 2")?,
        running: count("INDEXED BY task_running WHERE queue = 3")?,
        ..Queue::default()
    };
    for (index, due) in queue.due.iter_mut().enumerate() {
        let priority = index + 1;
        *due = count(&format!("INDEXED BY task_due WHERE queue = 1 AND priority = {priority}"))?;
        let first: Option<i64> = db
            .prepare_cached("SELECT MIN(due_at) FROM task INDEXED BY task_due WHERE queue = 1 AND priority = ?1")
            .and_then(|mut s| s.query_row([priority as i64], |row| row.get(0)))
            .failed()?;
        queue.oldest_due_at = queue.oldest_due_at.into_iter().chain(first.map(from_micros)).min();
    }
    Ok(queue)
}

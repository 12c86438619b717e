//! What waits, and why: counted over index entries, up to a bound.

use super::Failed;
use super::rows::from_micros;
use crate::model::hold::Hold;
use crate::model::ids::TaskId;
use crate::store::{COUNTED, MOST_NAMES, Queue, Result, StoreError, Waiting};
use rusqlite::{Connection, OptionalExtension, params};

pub(super) fn waiting(db: &Connection, id: TaskId) -> Result<Waiting> {
    type Found = (i64, Option<String>, i64, i64, String, i64);
    let found: Option<Found> = db
        .prepare_cached("SELECT queue, held_key, priority, due_at, name, fair FROM task WHERE id = ?1")
        .and_then(|mut s| {
            s.query_row([id.as_bytes()], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?))
            })
            .optional()
        })
        .failed()?;
    let (queue, held_key, priority, due_at, name, fair) = found.ok_or(StoreError::NotFound)?;
    let ahead = match queue {
        1 => Some(
            db.prepare_cached(
                "SELECT COUNT(*) FROM (
                   SELECT 1 FROM (SELECT 1 FROM task INDEXED BY task_due WHERE queue = 1 AND priority < ?1 LIMIT ?5)
                   UNION ALL SELECT 1 FROM (SELECT 1 FROM task INDEXED BY task_due
                     WHERE queue = 1 AND priority = ?1 AND name = ?2 AND fair = ?3 AND due_at < ?4 LIMIT ?5) LIMIT ?5)",
            )
            .and_then(|mut s| {
                s.query_row(params![priority, name, fair, due_at, COUNTED.cast_signed()], |row| {
                    row.get::<_, i64>(0)
                })
            })
            .failed()?
            .unsigned_abs(),
        ),
        _ => None,
    };
    let held_by = held_key.as_deref().and_then(Hold::of).map(|(hold, _)| hold);
    let release_at = match held_key.filter(|_| held_by == Some(Hold::Rate)) {
        Some(key) => db
            .prepare_cached("SELECT release_at FROM bucket WHERE key = ?1 AND release_at IS NOT NULL")
            .and_then(|mut s| s.query_row([key], |row| row.get(0)).optional())
            .failed()?
            .map(from_micros),
        None => None,
    };
    Ok(Waiting {
        held_by,
        release_at,
        ahead,
    })
}

/// Held tasks, by what holds them.
fn held_by(db: &Connection) -> Result<Vec<(Hold, u64)>> {
    let mut query = db
        .prepare_cached(&format!(
            "SELECT COUNT(*) FROM (SELECT 1 FROM task INDEXED BY task_held WHERE queue = 2 AND held_key >= ?1 AND held_key < ?2 LIMIT {COUNTED})"
        ))
        .failed()?;
    let mut counts = Vec::new();
    for hold in Hold::ALL {
        let count: i64 = query.query_row([hold.as_str(), &hold.beyond()], |row| row.get(0)).failed()?;
        counts.push((hold, count.unsigned_abs()));
    }
    counts.retain(|(_, count)| *count > 0);
    Ok(counts)
}

fn due_by_task(db: &Connection) -> Result<Vec<(String, u64)>> {
    db.prepare_cached(&format!(
        "SELECT name, COUNT(*) AS many FROM
           (SELECT name FROM task INDEXED BY task_due WHERE queue = 1 ORDER BY priority, name LIMIT {COUNTED})
         GROUP BY name ORDER BY many DESC, name LIMIT {MOST_NAMES}"
    ))
    .and_then(|mut s| {
        s.query_map([], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?.unsigned_abs())))
            .and_then(Iterator::collect)
    })
    .failed()
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
        scheduled: count("INDEXED BY task_by_time WHERE queue < 3 AND queue = 0")?,
        held: count("INDEXED BY task_held WHERE queue = 2")?,
        running: count("INDEXED BY task_running WHERE queue = 3")?,
        held_by: held_by(db)?,
        due_by_task: due_by_task(db)?,
        oldest_held_at: db
            .prepare_cached("SELECT MIN(due_at) FROM task INDEXED BY task_by_time WHERE queue < 3 AND queue = 2")
            .and_then(|mut s| s.query_row([], |row| row.get::<_, Option<i64>>(0)))
            .failed()?
            .map(from_micros),
        oldest_due_at: db
            .prepare_cached("SELECT MIN(due_at) FROM task INDEXED BY task_by_time WHERE queue < 3 AND queue = 1")
            .and_then(|mut s| s.query_row([], |row| row.get::<_, Option<i64>>(0)))
            .failed()?
            .map(from_micros),
        ..Queue::default()
    };
    for (index, due) in queue.due.iter_mut().enumerate() {
        let priority = index + 1;
        *due = count(&format!("INDEXED BY task_due WHERE queue = 1 AND priority = {priority}"))?;
    }
    Ok(queue)
}

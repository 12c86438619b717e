//! Due rows that something holds: out of the due index, under the key of what they wait for, so that a million of them cost a claim
//! nothing.

use super::Failed;
use super::writer::Tx;
use crate::model::hold::Hold;
use crate::model::ids::TaskId;
use crate::model::priority::Pick;
use crate::store::{Handlers, Result};
use rusqlite::{Connection, OptionalExtension, Row, params};

/// Held rows that one intention offers again, at most: no more than a claim can hold again.
pub(super) const RELEASED: usize = 1_000;

/// Takes a waiting row out of the due index, until what it waits for is free.
pub(super) fn hold(tx: &Tx<'_>, seq: i64, why: &str, key: &str) -> Result<()> {
    tx.db
        .prepare_cached("UPDATE task SET queue = 2, held = ?2, held_key = ?3 WHERE seq = ?1")
        .and_then(|mut s| s.execute(params![seq, why, key]))
        .failed()
        .map(drop)
}

/// Offers a held row to workers again.
pub(super) fn offer(tx: &Tx<'_>, seq: i64) -> Result<()> {
    tx.db
        .prepare_cached("UPDATE task SET queue = 1, held = NULL, held_key = NULL WHERE seq = ?1")
        .and_then(|mut s| s.execute([seq]))
        .failed()
        .map(drop)
}

/// Offers held tasks that wait for this again, so many at most, the most urgent first. Returns how many.
pub(super) fn release_key(tx: &Tx<'_>, key: &str, limit: usize) -> Result<usize> {
    tx.db
        .prepare_cached(
            "UPDATE OR FAIL task SET queue = 1, held = NULL, held_key = NULL WHERE seq IN
               (SELECT seq FROM task WHERE queue = 2 AND held_key = ?1 ORDER BY priority, due_at, id LIMIT ?2)",
        )
        .and_then(|mut s| s.execute(params![key, i64::try_from(limit).unwrap_or(i64::MAX)]))
        .failed()
}

pub(super) const NEXT_HELD: &str = "SELECT seq, held_key, priority, due_at, id FROM task INDEXED BY task_held
     WHERE queue = 2 AND (held_key, priority, due_at, id) > (?1, ?2, ?3, ?4) AND held_key < ?5
     ORDER BY held_key, priority, due_at, id LIMIT ?6";

/// Offers again what waits under keys that begin so, some at a time and each once: what is held again meanwhile keeps its place, and is
/// passed over. Returns whether there is more of it.
pub(super) fn thaw(tx: &Tx<'_>, key: &str) -> Result<bool> {
    let Some((hold, name)) = Hold::of(key) else { return Ok(false) };
    let (from, to) = hold.range(name);
    type Place = (String, i64, i64, Vec<u8>);
    let place = |row: &Row<'_>, from: usize| Ok((row.get(from)?, row.get(from + 1)?, row.get(from + 2)?, row.get(from + 3)?));
    let (held_key, priority, due_at, id): Place = tx
        .db
        .prepare_cached("SELECT MAX(held_key, ?2), priority, due_at, id FROM thaw WHERE key = ?1")
        .and_then(|mut s| s.query_row([key, &from], |row| place(row, 0)))
        .failed()?;
    let mut query = tx.db.prepare_cached(NEXT_HELD).failed()?;
    let rows: Vec<(i64, Place)> = query
        .query_map(params![held_key, priority, due_at, id, to, RELEASED as i64], |row| {
            Ok((row.get(0)?, place(row, 1)?))
        })
        .and_then(Iterator::collect)
        .failed()?;
    for (seq, _) in &rows {
        offer(tx, *seq)?;
    }
    let Some((_, (held_key, priority, due_at, id))) = rows.last().filter(|_| rows.len() == RELEASED) else {
        return Ok(false);
    };
    tx.db
        .prepare_cached("UPDATE thaw SET held_key = ?2, priority = ?3, due_at = ?4, id = ?5 WHERE key = ?1")
        .and_then(|mut s| s.execute(params![key, held_key, priority, due_at, id]))
        .failed()?;
    Ok(true)
}

/// Offers held tasks again whose handler is there now, so many at a time. Returns whether there may be more.
pub(super) fn release(tx: &Tx<'_>, handlers: &Handlers) -> Result<bool> {
    let mut left = RELEASED;
    for name in handlers.keys() {
        left = left.saturating_sub(release_key(tx, &Hold::Handler.key(name, ""), left)?);
        if left == 0 {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Who is let in next of those that wait under a key: the most urgent, or the one that has been due longest.
pub(super) fn next(db: &Connection, key: &str, turn: Pick) -> Result<Option<(i64, TaskId)>> {
    let mut leap = db
        .prepare_cached(
            "SELECT seq, id, priority, due_at FROM task INDEXED BY task_held
             WHERE queue = 2 AND held_key = ?1 AND priority > ?2 ORDER BY priority, due_at, id LIMIT 1",
        )
        .failed()?;
    let mut best: Option<(i64, [u8; 16], i64)> = None;
    let mut priority = 0_i64;
    loop {
        let first = leap
            .query_row(params![key, priority], |row| {
                Ok((
                    row.get::<_, i64>(0)?,
                    row.get::<_, [u8; 16]>(1)?,
                    row.get::<_, i64>(2)?,
                    row.get::<_, i64>(3)?,
                ))
            })
            .optional()
            .failed()?;
        let Some((seq, id, at, due_at)) = first else { break };
        priority = at;
        if best.is_none_or(|(_, other, due)| (due_at, id) < (due, other)) {
            best = Some((seq, id, due_at));
        }
        if turn == Pick::MostUrgent {
            break;
        }
    }
    Ok(best.map(|(seq, id, _)| (seq, TaskId::from_bytes(id))))
}

/// The first key after this one under which something waits.
pub(super) fn key_after(db: &Connection, key: &str) -> Result<Option<String>> {
    db.prepare_cached("SELECT MIN(held_key) FROM task INDEXED BY task_held WHERE queue = 2 AND held_key > ?1")
        .and_then(|mut s| s.query_row([key], |row| row.get(0)))
        .failed()
}

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
               (SELECT seq FROM task WHERE queue = 2 AND held_key = ?1 ORDER BY priority, fair, due_at, id LIMIT ?2)",
        )
        .and_then(|mut s| s.execute(params![key, i64::try_from(limit).unwrap_or(i64::MAX)]))
        .failed()
}

pub(super) const NEXT_HELD: &str = "SELECT seq, held_key, priority, fair, due_at, id FROM task INDEXED BY task_held
     WHERE queue = 2 AND (held_key, priority, fair, due_at, id) > (?1, ?2, ?3, ?4, ?5) AND held_key < ?6
     ORDER BY held_key, priority, fair, due_at, id LIMIT ?7";

/// Offers again what waits under keys that begin so, some at a time and each once: what is held again meanwhile keeps its place, and is
/// passed over. Returns whether there is more of it.
pub(super) fn thaw(tx: &Tx<'_>, key: &str) -> Result<bool> {
    let Some((hold, name)) = Hold::of(key) else { return Ok(false) };
    let (from, to) = hold.range(name);
    type Place = (String, i64, i64, i64, Vec<u8>);
    let place = |row: &Row<'_>, from: usize| {
        Ok((
            row.get(from)?,
            row.get(from + 1)?,
            row.get(from + 2)?,
            row.get(from + 3)?,
            row.get(from + 4)?,
        ))
    };
    let (held_key, priority, fair, due_at, id): Place = tx
        .db
        .prepare_cached("SELECT MAX(held_key, ?2), priority, fair, due_at, id FROM thaw WHERE key = ?1")
        .and_then(|mut s| s.query_row([key, &from], |row| place(row, 0)))
        .failed()?;
    let mut query = tx.db.prepare_cached(NEXT_HELD).failed()?;
    let rows: Vec<(i64, Place)> = query
        .query_map(params![held_key, priority, fair, due_at, id, to, RELEASED as i64], |row| {
            Ok((row.get(0)?, place(row, 1)?))
        })
        .and_then(Iterator::collect)
        .failed()?;
    for (seq, _) in &rows {
        offer(tx, *seq)?;
    }
    let Some((_, (held_key, priority, fair, due_at, id))) = rows.last().filter(|_| rows.len() == RELEASED) else {
        return Ok(false);
    };
    tx.db
        .prepare_cached("UPDATE thaw SET held_key = ?2, priority = ?3, fair = ?4, due_at = ?5, id = ?6 WHERE key = ?1")
        .and_then(|mut s| s.execute(params![key, held_key, priority, fair, due_at, id]))
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

/// Keys under which it is remembered whose turn it was, at most; beyond that all begin anew.
const MOST_TURNS: usize = 10_000;

/// Whether anybody waits under a key.
pub(super) fn is_any(db: &Connection, key: &str) -> Result<bool> {
    db.prepare_cached("SELECT 1 FROM task INDEXED BY task_held WHERE queue = 2 AND held_key = ?1")
        .and_then(|mut s| s.exists([key]))
        .failed()
}

/// Who is let in next of those that wait under a key: of the most urgent, turn by turn of their fairness keys; or the one that has been due
/// longest among those whose turn it is, one a priority.
pub(super) fn next(tx: &Tx<'_>, key: &str, turn: Pick) -> Result<Option<(i64, TaskId)>> {
    let last = tx.held_turns.borrow().get(key).copied().unwrap_or(i64::MIN);
    let mut best: Option<Next> = None;
    let mut priority = 0;
    while let Some(most_urgent) = priority_after(tx.db, key, priority)? {
        priority = most_urgent;
        let first = match first_after(tx.db, key, priority, last)? {
            None => first_after(tx.db, key, priority, i64::MIN)?,
            found => found,
        };
        best = best.into_iter().chain(first).min_by_key(|next| (next.due_at, next.id));
        if turn == Pick::MostUrgent {
            break;
        }
    }
    let Some(next) = best else { return Ok(None) };
    let mut turns = tx.held_turns.borrow_mut();
    if turns.len() >= MOST_TURNS {
        turns.clear();
    }
    turns.insert(key.to_owned(), next.fair);
    Ok(Some((next.seq, TaskId::from_bytes(next.id))))
}

struct Next {
    seq: i64,
    id: [u8; 16],
    fair: i64,
    due_at: i64,
}

fn priority_after(db: &Connection, key: &str, priority: i64) -> Result<Option<i64>> {
    db.prepare_cached(
        "SELECT priority FROM task INDEXED BY task_held WHERE queue = 2 AND held_key = ?1 AND priority > ?2 ORDER BY priority LIMIT 1",
    )
    .and_then(|mut s| s.query_row(params![key, priority], |row| row.get(0)).optional())
    .failed()
}

fn first_after(db: &Connection, key: &str, priority: i64, fair: i64) -> Result<Option<Next>> {
    db.prepare_cached(
        "SELECT seq, id, fair, due_at FROM task INDEXED BY task_held
         WHERE queue = 2 AND held_key = ?1 AND priority = ?2 AND fair > ?3 ORDER BY fair, due_at, id LIMIT 1",
    )
    .and_then(|mut s| {
        let read = |row: &Row<'_>| {
            Ok(Next {
                seq: row.get(0)?,
                id: row.get(1)?,
                fair: row.get(2)?,
                due_at: row.get(3)?,
            })
        };
        s.query_row(params![key, priority, fair], read).optional()
    })
    .failed()
}

/// The first key after this one under which something waits.
pub(super) fn key_after(db: &Connection, key: &str) -> Result<Option<String>> {
    db.prepare_cached("SELECT MIN(held_key) FROM task INDEXED BY task_held WHERE queue = 2 AND held_key > ?1")
        .and_then(|mut s| s.query_row([key], |row| row.get(0)))
        .failed()
}

//! Places under limits: a row for each task that has one, so that no count can drift from what runs.
//!
//! Who leaves a place lets the next one in, in the same commit and with the place: whoever comes meanwhile cannot take it.

use super::Failed;
use super::held;
use super::writer::Tx;
use crate::model::hold::Hold;
use crate::model::ids::TaskId;
use crate::model::priority::pick;
use crate::store::Result;
use rusqlite::{Connection, params};

/// Gives a task a place; a token that was paid for a rate is kept as one.
pub(super) fn put(tx: &Tx<'_>, key: &str, id: TaskId) -> Result<()> {
    tx.db
        .prepare_cached("INSERT OR IGNORE INTO place VALUES (?1, ?2)")
        .and_then(|mut s| s.execute(params![key, id.as_bytes()]))
        .failed()
        .map(drop)
}

/// Whether a task has this place.
pub(super) fn has(db: &Connection, key: &str, task: TaskId) -> Result<bool> {
    db.prepare_cached("SELECT 1 FROM place WHERE key = ?1 AND task = ?2")
        .and_then(|mut s| s.exists(params![key, task.as_bytes()]))
        .failed()
}

/// Whether so many others have a place under this key.
pub(super) fn is_full(db: &Connection, key: &str, task: TaskId, max: u32) -> Result<bool> {
    let Some(before) = max.checked_sub(1) else { return Ok(true) };
    db.prepare_cached("SELECT 1 FROM place WHERE key = ?1 AND task <> ?2 LIMIT 1 OFFSET ?3")
        .and_then(|mut s| s.exists(params![key, task.as_bytes(), before]))
        .failed()
}

/// Places that are free under a key.
pub(super) fn free(db: &Connection, key: &str, max: u32) -> Result<usize> {
    let taken: u32 = db
        .prepare_cached("SELECT COUNT(*) FROM (SELECT 1 FROM place WHERE key = ?1 LIMIT ?2)")
        .and_then(|mut s| s.query_row(params![key, max], |row| row.get(0)))
        .failed()?;
    Ok(max.saturating_sub(taken) as usize)
}

/// The keys of all places of a task, and of the tokens that it paid for.
pub(super) fn of(db: &Connection, id: TaskId) -> Result<Vec<String>> {
    db.prepare_cached("SELECT key FROM place WHERE task = ?1")
        .and_then(|mut s| s.query_map([id.as_bytes()], |row| row.get(0)).and_then(Iterator::collect))
        .failed()
}

/// Takes a place from a task, and gives it to nobody.
pub(super) fn remove(tx: &Tx<'_>, key: &str, id: TaskId) -> Result<()> {
    tx.db
        .prepare_cached("DELETE FROM place WHERE key = ?1 AND task = ?2")
        .and_then(|mut s| s.execute(params![key, id.as_bytes()]))
        .failed()
        .map(drop)
}

/// Gives back the places of a task whose attempt has ended, or which is held, and lets the next ones in. What it paid for a rate it keeps
/// while it waits.
pub(super) fn leave(tx: &Tx<'_>, id: TaskId, keeps_tokens: bool) -> Result<()> {
    for key in of(tx.db, id)? {
        let is_token = Hold::Rate.has(&key);
        if is_token && keeps_tokens {
            continue;
        }
        remove(tx, &key, id)?;
        if !is_token {
            let_in(tx, &key, 1)?;
        }
    }
    Ok(())
}

/// Offers so many again that are held under a key, each with its place: nobody who comes later takes it. The most urgent first, but every
/// 16th is the one that has been due longest. Returns how many.
pub(super) fn let_in(tx: &Tx<'_>, key: &str, count: usize) -> Result<usize> {
    for done in 0..count {
        let turn = pick(tx.let_in.get());
        let Some((seq, id)) = held::next(tx, key, turn)? else {
            return Ok(done);
        };
        tx.let_in.set(tx.let_in.get() + 1);
        held::offer(tx, seq)?;
        put(tx, key, id)?;
    }
    Ok(count)
}

/// Forgets the places under a limit: they mean nothing without it.
pub(super) fn forget(tx: &Tx<'_>, limit: &str) -> Result<()> {
    let (from, to) = Hold::Limit.range(limit);
    tx.db
        .prepare_cached("DELETE FROM place WHERE key >= ?1 AND key < ?2")
        .and_then(|mut s| s.execute([from, to]))
        .failed()
        .map(drop)
}

//! What operators say of the queue: what is paused, and what is limited.

use super::Failed;
use super::buckets;
use super::places;
use super::rows::{duration, from_micros, micros, micros_of, optional_json};
use super::writer::Tx;
use crate::model::Time;
use crate::model::hold::Hold;
use crate::model::ids::TaskId;
use crate::model::limit::{Limit, MAX_LIMITS, Rate};
use crate::store::{Result, StoreError};
use rusqlite::{Connection, Row, params};

/// Pauses a task name, or with an empty name the whole queue. Returns whether it was not paused before.
pub(super) fn pause(tx: &mut Tx<'_>, name: &str, now: Time) -> Result<bool> {
    *tx.gates = None;
    let paused = tx
        .db
        .prepare_cached("INSERT OR IGNORE INTO pause VALUES (?1, ?2)")
        .and_then(|mut s| s.execute(params![name, micros(now)]))
        .failed()?;
    thawed(tx, &Hold::Pause.range(name).0)?;
    Ok(paused == 1)
}

/// The reverse of [`pause`]. Returns whether it was paused.
pub(super) fn resume(tx: &mut Tx<'_>, name: &str) -> Result<bool> {
    *tx.gates = None;
    let resumed = tx
        .db
        .prepare_cached("DELETE FROM pause WHERE name = ?1")
        .and_then(|mut s| s.execute([name]))
        .failed()?;
    if !name.is_empty() {
        must_thaw(tx, Hold::Pause, name)?;
    }
    Ok(resumed == 1)
}

/// What is paused since when, the whole queue under the empty name.
pub(super) fn pauses(db: &Connection) -> Result<Vec<(String, Time)>> {
    db.prepare_cached("SELECT name, at FROM pause ORDER BY name")
        .and_then(|mut s| {
            s.query_map([], |row| Ok((row.get(0)?, from_micros(row.get(1)?))))
                .and_then(Iterator::collect)
        })
        .failed()
}

/// Keeps a limit; what it held is looked at again.
pub(super) fn put(tx: &mut Tx<'_>, limit: &Limit) -> Result<bool> {
    let others: i64 = tx
        .db
        .prepare_cached("SELECT COUNT(*) FROM limit_rule WHERE name <> ?1")
        .and_then(|mut s| s.query_row([&limit.name], |row| row.get(0)))
        .failed()?;
    if others >= MAX_LIMITS as i64 {
        return Err(StoreError::Conflict(format!(
            "there are {others} limits, and no more are kept; remove one"
        )));
    }
    let before = limits(tx.db)?.into_iter().find(|other| other.name == limit.name);
    if before.as_ref() == Some(limit) {
        return Ok(false); // services put theirs at every start
    }
    tx.db
        .prepare_cached("INSERT OR REPLACE INTO limit_rule VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)")
        .and_then(|mut s| {
            s.execute(params![
                limit.name,
                limit.task_name,
                limit.tag,
                limit.key,
                limit.max_running,
                limit.rate.map(|rate| rate.count),
                limit.rate.map(|rate| micros_of(rate.per)),
                limit.weight,
            ])
        })
        .failed()?;
    let is_new = before.is_none();
    let same_places = before.as_ref().is_some_and(|before| before.counts_as(limit));
    if !same_places {
        recount(tx, limit)?;
    }
    if !same_places || before.is_none_or(|before| before.rate != limit.rate) {
        buckets::forget(tx, &limit.name)?;
    }
    look_again(tx, &limit.name)?;
    Ok(is_new)
}

/// Gives what runs already its places, in place of those that were had by another rule.
fn recount(tx: &Tx<'_>, limit: &Limit) -> Result<()> {
    places::forget(tx, &limit.name)?;
    if limit.max_running.is_none() {
        return Ok(());
    }
    let mut running = tx
        .db
        .prepare_cached("SELECT id, name, tags, payload FROM task INDEXED BY task_running WHERE queue = 3")
        .failed()?;
    let mut rows = running.query([]).failed()?;
    while let Some(row) = rows.next().failed()? {
        let tags: Vec<String> = optional_json(row, 2).failed()?.unwrap_or_default();
        let (name, payload): (String, String) = (row.get(1).failed()?, row.get(3).failed()?);
        if let Some(value) = limit.key_of(&payload).filter(|_| limit.matches(&name, &tags)) {
            let id = TaskId::from_bytes(row.get(0).failed()?);
            places::put(tx, &Hold::Limit.key(&limit.name, &value), id)?;
        }
    }
    Ok(())
}

/// Removes a limit; what it held may start.
pub(super) fn remove(tx: &mut Tx<'_>, name: &str) -> Result<()> {
    let removed = tx
        .db
        .prepare_cached("DELETE FROM limit_rule WHERE name = ?1")
        .and_then(|mut s| s.execute([name]))
        .failed()?;
    if removed == 0 {
        return Err(StoreError::NotFound);
    }
    buckets::forget(tx, name)?;
    places::forget(tx, name)?;
    look_again(tx, name)
}

fn look_again(tx: &mut Tx<'_>, name: &str) -> Result<()> {
    must_thaw(tx, Hold::Limit, name)?;
    must_thaw(tx, Hold::Rate, name)
}

/// Has all that waits under keys of a name offered again, from the first on, some in each claim: it may be a million.
fn must_thaw(tx: &mut Tx<'_>, hold: Hold, name: &str) -> Result<()> {
    *tx.gates = None;
    tx.db
        .prepare_cached("INSERT OR REPLACE INTO thaw (key) VALUES (?1)")
        .and_then(|mut s| s.execute([hold.range(name).0]))
        .failed()
        .map(drop)
}

/// Nothing waits any more under keys that begin so.
pub(super) fn thawed(tx: &mut Tx<'_>, key: &str) -> Result<()> {
    *tx.gates = None;
    tx.db
        .prepare_cached("DELETE FROM thaw WHERE key = ?1")
        .and_then(|mut s| s.execute([key]))
        .failed()
        .map(drop)
}

/// All limits by name.
pub(super) fn limits(db: &Connection) -> Result<Vec<Limit>> {
    db.prepare_cached("SELECT name, task_name, tag, key, max_running, rate_count, rate_per, weight FROM limit_rule ORDER BY name")
        .and_then(|mut s| s.query_map([], limit).and_then(Iterator::collect))
        .failed()
}

fn limit(row: &Row<'_>) -> rusqlite::Result<Limit> {
    let rate = row.get::<_, Option<u32>>(5)?.zip(row.get::<_, Option<i64>>(6)?);
    Ok(Limit {
        name: row.get(0)?,
        task_name: row.get(1)?,
        tag: row.get(2)?,
        key: row.get(3)?,
        max_running: row.get(4)?,
        rate: rate.map(|(count, per)| Rate { count, per: duration(per) }),
        weight: row.get(7)?,
    })
}

//! What may not start although it is due: the queue or a task name is paused, or a limit is full.
//!
//! Such a row leaves the due index and is held under a key (`pause/…/`, `task/…/`, `limit/…/…`, `rate/…/…`) until that is free, so that a
//! million of them cost a claim nothing. Who leaves a place under a limit lets the next one in, in the same commit; [`sweep`] is the slow
//! fallback for a turn that was lost. Places are rows tied to the task that takes them: no counter can drift from what runs.

use super::Failed;
use super::claim::release_key;
use super::rows::{from_micros, micros, micros_of};
use super::writer::Tx;
use crate::model::Time;
use crate::model::ids::TaskId;
use crate::model::limit::{Bucket, Limit, Rate};
use crate::model::task::Task;
use crate::store::{Handled, Handlers, Result, StoreError};
use rusqlite::{Connection, OptionalExtension, Row, params};
use std::collections::HashSet;
use std::sync::Arc;

/// Held rows that one intention offers again, at most.
const RELEASED: usize = 2_000;
/// Keys that one sweep looks at, at most.
const SWEPT: usize = 500;
/// Rate limits whose next token has come, looked at by one claim.
const REFILLED: i64 = 256;
/// A bucket that nobody took from for so long is full: no rate is over a longer time.
const FULL_AFTER: chrono::TimeDelta = chrono::TimeDelta::days(1);

/// The writer's copy of what is paused and limited.
#[derive(Debug, Default)]
pub(super) struct Gates {
    /// Whether nothing may start.
    pub(super) closed: bool,
    paused: HashSet<String>,
    limits: Vec<Limit>,
    /// Keys whose held rows are to be offered again.
    thaw: Vec<String>,
}

/// The gates as they stand, read anew after a change.
pub(super) fn gates(tx: &mut Tx<'_>) -> Result<Arc<Gates>> {
    if let Some(gates) = tx.gates {
        return Ok(gates.clone());
    }
    let gates = Arc::new(read(tx.db)?);
    *tx.gates = Some(gates.clone());
    Ok(gates)
}

fn read(db: &Connection) -> Result<Gates> {
    let text = |sql: &str| -> Result<Vec<String>> {
        let mut query = db.prepare_cached(sql).failed()?;
        query.query_map([], |row| row.get(0)).and_then(Iterator::collect).failed()
    };
    let mut paused: HashSet<String> = text("SELECT name FROM pause")?.into_iter().collect();
    Ok(Gates {
        closed: paused.remove(""),
        paused,
        limits: limits(db)?,
        thaw: text("SELECT key FROM thaw")?,
    })
}

impl Gates {
    /// Whether a task passes without a closer look.
    pub(super) fn are_open(&self, name: &str, tags: &[String], handled: &Handled) -> bool {
        let is_limited = || self.limits.iter().any(|limit| limit.matches(name, tags));
        !self.closed && handled.max_running.is_none() && !self.paused.contains(name) && !is_limited()
    }

    /// Whether any task of this name may be held: then its row is looked at before it is leased.
    fn concern(&self, name: &str, handled: &Handled) -> bool {
        let of_name = |limit: &Limit| limit.task_name.as_ref().is_none_or(|wanted| wanted == name);
        handled.max_running.is_some() || self.paused.contains(name) || self.limits.iter().any(of_name)
    }
}

/// Why a row is held, and until when: see [`super::claim::hold`].
pub(super) struct Closed {
    pub(super) why: String,
    pub(super) key: String,
}

/// Lets a due task pass and takes its places, or says what holds it. Returns whether it took a place.
pub(super) fn pass(tx: &mut Tx<'_>, gates: &Gates, task: &Task, handled: &Handled, now: Time) -> Result<std::result::Result<bool, Closed>> {
    if !gates.concern(&task.name, handled) {
        return Ok(Ok(false));
    }
    if gates.paused.contains(&task.name) {
        let key = format!("pause/{}/", task.name);
        return Ok(Err(Closed { why: "paused".into(), key }));
    }
    let mut places = Vec::new();
    let mut tokens = Vec::new();
    if let Some(max) = handled.max_running {
        let key = format!("task/{}/", task.name);
        if is_full(tx.db, &key, max)? {
            let why = format!("limit: {max} of {} may run at once", task.name);
            return Ok(Err(Closed { why, key }));
        }
        places.push(key);
    }
    for limit in gates.limits.iter().filter(|limit| limit.matches(&task.name, &task.tags)) {
        let Some(value) = limit.key_of(&task.payload) else { continue };
        match room(tx, limit, &value, now)? {
            Ok((place, token)) => {
                places.extend(place);
                tokens.extend(token);
            }
            Err(closed) => {
                // It may have been its turn at these: the next one has it now.
                for key in &places {
                    release_key(tx, key, 1)?;
                }
                return Ok(Err(closed));
            }
        }
    }
    for (key, bucket) in tokens {
        keep_bucket(tx, &key, bucket, None)?;
    }
    for key in &places {
        tx.db
            .prepare_cached("INSERT OR IGNORE INTO place VALUES (?1, ?2)")
            .and_then(|mut s| s.execute(params![key, task.id.as_bytes()]))
            .failed()?;
    }
    Ok(Ok(!places.is_empty()))
}

/// The place and the token that a task would take under a limit.
type Taken = (Option<String>, Option<(String, Bucket)>);

fn room(tx: &Tx<'_>, limit: &Limit, value: &str, now: Time) -> Result<std::result::Result<Taken, Closed>> {
    let shown = match value {
        "" => limit.name.clone(),
        value => format!("{} of {value}", limit.name),
    };
    let place = limit.max_running.map(|max| (max, format!("limit/{}/{value}", limit.name)));
    if let Some((max, key)) = &place
        && is_full(tx.db, key, *max)?
    {
        let why = format!("limit {shown}: {max} may run at once");
        return Ok(Err(Closed { why, key: key.clone() }));
    }
    let Some(rate) = limit.rate else {
        return Ok(Ok((place.map(|(_, key)| key), None)));
    };
    let key = format!("rate/{}/{value}", limit.name);
    let bucket = bucket(tx.db, &key, rate, now)?;
    match bucket.take() {
        Some(left) => Ok(Ok((place.map(|(_, key)| key), Some((key, left))))),
        None => {
            keep_bucket(tx, &key, bucket, Some(bucket.next(rate)))?;
            let why = format!("limit {shown}: {} may start in {} s", rate.count, rate.per.as_secs_f64());
            Ok(Err(Closed { why, key }))
        }
    }
}

/// Whether so many run under this key.
fn is_full(db: &Connection, key: &str, max: u32) -> Result<bool> {
    let Some(before) = max.checked_sub(1) else { return Ok(true) };
    db.prepare_cached("SELECT 1 FROM place WHERE key = ?1 LIMIT 1 OFFSET ?2")
        .and_then(|mut s| s.exists(params![key, before]))
        .failed()
}

fn bucket(db: &Connection, key: &str, rate: Rate, now: Time) -> Result<Bucket> {
    let kept = db
        .prepare_cached("SELECT tokens, at FROM bucket WHERE key = ?1")
        .and_then(|mut s| {
            s.query_row([key], |row| {
                Ok(Bucket {
                    tokens: row.get(0)?,
                    at: from_micros(row.get(1)?),
                })
            })
            .optional()
        })
        .failed()?;
    Ok(kept.map_or_else(|| Bucket::full(rate, now), |bucket| bucket.refilled(rate, now)))
}

fn keep_bucket(tx: &Tx<'_>, key: &str, bucket: Bucket, release_at: Option<Time>) -> Result<()> {
    tx.db
        .prepare_cached(
            "INSERT INTO bucket VALUES (?1, ?2, ?3, ?4) ON CONFLICT (key) DO UPDATE SET tokens = excluded.tokens, at = excluded.at,
               release_at = COALESCE(excluded.release_at, release_at)",
        )
        .and_then(|mut s| s.execute(params![key, bucket.tokens, micros(bucket.at), release_at.map(micros)]))
        .failed()
        .map(drop)
}

/// Gives back the places of a task whose attempt has ended, and lets the next ones in.
pub(super) fn leave(tx: &Tx<'_>, id: TaskId) -> Result<()> {
    let keys: Vec<String> = tx
        .db
        .prepare_cached("SELECT key FROM place WHERE task = ?1")
        .and_then(|mut s| s.query_map([id.as_bytes()], |row| row.get(0)).and_then(Iterator::collect))
        .failed()?;
    for key in keys {
        tx.db
            .prepare_cached("DELETE FROM place WHERE key = ?1 AND task = ?2")
            .and_then(|mut s| s.execute(params![key, id.as_bytes()]))
            .failed()?;
        release_key(tx, &key, 1)?;
    }
    Ok(())
}

/// Offers again what is held under keys that are free now, and what a refilled bucket lets start. Returns whether there is more of it,
/// and when the next token comes.
pub(super) fn thaw(tx: &mut Tx<'_>, gates: &Gates, now: Time) -> Result<(bool, Option<Time>)> {
    if let Some(key) = gates.thaw.first() {
        if release_range(tx, key)? < RELEASED {
            tx.db
                .prepare_cached("DELETE FROM thaw WHERE key = ?1")
                .and_then(|mut s| s.execute([key]))
                .failed()?;
            *tx.gates = None;
        }
        return Ok((true, None));
    }
    let has_rates = gates.limits.iter().any(|limit| limit.rate.is_some());
    if has_rates { refill(tx, gates, now) } else { Ok((false, None)) }
}

fn refill(tx: &Tx<'_>, gates: &Gates, now: Time) -> Result<(bool, Option<Time>)> {
    let due: Vec<String> = tx
        .db
        .prepare_cached("SELECT key FROM bucket WHERE release_at <= ?1 ORDER BY release_at LIMIT ?2")
        .and_then(|mut s| {
            s.query_map(params![micros(now), REFILLED], |row| row.get(0))
                .and_then(Iterator::collect)
        })
        .failed()?;
    for key in &due {
        let limit = gates.limits.iter().find(|limit| Some(limit.name.as_str()) == key.split('/').nth(1));
        let again = match limit.and_then(|limit| limit.rate) {
            Some(rate) => {
                let bucket = bucket(tx.db, key, rate, now)?;
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "a count of tokens, 0 to u32::MAX"
                )]
                let whole = ((bucket.tokens + 1e-9) as usize).max(1);
                let released = release_key(tx, key, whole)?;
                // What was let in takes its token as it starts; who is left waits for the one after these.
                (released == whole).then(|| bucket.next(rate).max(now + interval(rate)))
            }
            None => {
                release_range(tx, key)?;
                None
            }
        };
        tx.db
            .prepare_cached("UPDATE bucket SET release_at = ?2 WHERE key = ?1")
            .and_then(|mut s| s.execute(params![key, again.map(micros)]))
            .failed()?;
    }
    let next: Option<i64> = tx
        .db
        .prepare_cached("SELECT MIN(release_at) FROM bucket WHERE release_at IS NOT NULL")
        .and_then(|mut s| s.query_row([], |row| row.get(0)))
        .failed()?;
    Ok((due.len() as i64 == REFILLED, next.map(from_micros)))
}

/// Between two tokens.
fn interval(rate: Rate) -> chrono::TimeDelta {
    chrono::TimeDelta::microseconds(micros_of(rate.per) / i64::from(rate.count.max(1)) + 1)
}

/// Offers again some of what is held under keys that begin so. Every key is a word, a name and a rest, each before a slash.
fn release_range(tx: &Tx<'_>, key: &str) -> Result<usize> {
    let stem = key.split_inclusive('/').take(2).collect::<String>();
    let beyond = format!("{}0", stem.trim_end_matches('/')); // the character after a slash
    tx.db
        .prepare_cached(
            "UPDATE OR FAIL task SET queue = 1, held = NULL, held_key = NULL WHERE seq IN
               (SELECT seq FROM task WHERE queue = 2 AND held_key >= ?1 AND held_key < ?2 LIMIT ?3)",
        )
        .and_then(|mut s| s.execute(params![stem, beyond, RELEASED as i64]))
        .failed()
}

/// Looks through the keys under which something is held, from this one on, and lets in whoever has room: a turn can be lost to a task that
/// was cancelled in it. Returns where to go on; empty at the end.
pub(super) fn sweep(tx: &mut Tx<'_>, handlers: &Handlers, after: &str, now: Time) -> Result<String> {
    let gates = gates(tx)?;
    let mut key = after.to_owned();
    for _ in 0..SWEPT {
        let next: Option<String> = tx
            .db
            .prepare_cached("SELECT MIN(held_key) FROM task INDEXED BY task_held WHERE queue = 2 AND held_key > ?1")
            .and_then(|mut s| s.query_row([&key], |row| row.get(0)))
            .failed()?;
        let Some(next) = next else {
            tx.db
                .prepare_cached("DELETE FROM bucket WHERE release_at IS NULL AND at < ?1")
                .and_then(|mut s| s.execute([micros(now - FULL_AFTER)]))
                .failed()?;
            return Ok(String::new());
        };
        let mut words = next.split('/');
        let (kind, name) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let of_limit = || gates.limits.iter().find(|limit| limit.name == name);
        let free = match kind {
            "task" => free(tx.db, &next, handlers.get(name).and_then(|handled| handled.max_running))?,
            "limit" => free(tx.db, &next, of_limit().and_then(|limit| limit.max_running))?,
            "rate" if of_limit().is_none_or(|limit| limit.rate.is_none()) => RELEASED,
            "pause" if !gates.paused.contains(name) => RELEASED,
            _ => 0,
        };
        release_key(tx, &next, free)?;
        key = next;
    }
    Ok(key)
}

/// Places that are free under a key; without a limit all are.
fn free(db: &Connection, key: &str, max: Option<u32>) -> Result<usize> {
    let Some(max) = max else { return Ok(RELEASED) };
    let taken: u32 = db
        .prepare_cached("SELECT COUNT(*) FROM (SELECT 1 FROM place WHERE key = ?1 LIMIT ?2)")
        .and_then(|mut s| s.query_row(params![key, max], |row| row.get(0)))
        .failed()?;
    Ok(max.saturating_sub(taken) as usize)
}

fn must_thaw(tx: &mut Tx<'_>, key: &str) -> Result<()> {
    *tx.gates = None;
    tx.db
        .prepare_cached("INSERT OR IGNORE INTO thaw VALUES (?1)")
        .and_then(|mut s| s.execute([key]))
        .failed()
        .map(drop)
}

/// Pauses a task name, or with an empty name the whole queue. Returns whether it was not paused before.
pub(super) fn pause(tx: &mut Tx<'_>, name: &str, now: Time) -> Result<bool> {
    *tx.gates = None;
    let paused = tx
        .db
        .prepare_cached("INSERT OR IGNORE INTO pause VALUES (?1, ?2)")
        .and_then(|mut s| s.execute(params![name, micros(now)]))
        .failed()?;
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
        must_thaw(tx, &format!("pause/{name}/"))?;
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
pub(super) fn put_limit(tx: &mut Tx<'_>, limit: &Limit) -> Result<()> {
    let others: i64 = tx
        .db
        .prepare_cached("SELECT COUNT(*) FROM limit_rule WHERE name <> ?1")
        .and_then(|mut s| s.query_row([&limit.name], |row| row.get(0)))
        .failed()?;
    if others >= crate::model::limit::MAX_LIMITS as i64 {
        return Err(StoreError::Conflict(format!(
            "there are {others} limits, and no more are kept; remove one"
        )));
    }
    tx.db
        .prepare_cached("INSERT OR REPLACE INTO limit_rule VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")
        .and_then(|mut s| {
            s.execute(params![
                limit.name,
                limit.task_name,
                limit.tag,
                limit.key,
                limit.max_running,
                limit.rate.map(|rate| rate.count),
                limit.rate.map(|rate| micros_of(rate.per)),
            ])
        })
        .failed()?;
    look_again(tx, &limit.name)
}

/// Removes a limit; what it held may start.
pub(super) fn remove_limit(tx: &mut Tx<'_>, name: &str) -> Result<()> {
    let removed = tx
        .db
        .prepare_cached("DELETE FROM limit_rule WHERE name = ?1")
        .and_then(|mut s| s.execute([name]))
        .failed()?;
    if removed == 0 {
        return Err(StoreError::NotFound);
    }
    look_again(tx, name)
}

fn look_again(tx: &mut Tx<'_>, name: &str) -> Result<()> {
    tx.db
        .prepare_cached("DELETE FROM bucket WHERE key >= ?1 AND key < ?2")
        .and_then(|mut s| s.execute([format!("rate/{name}/"), format!("rate/{name}0")]))
        .failed()?;
    must_thaw(tx, &format!("limit/{name}/"))?;
    must_thaw(tx, &format!("rate/{name}/"))
}

/// All limits by name.
pub(super) fn limits(db: &Connection) -> Result<Vec<Limit>> {
    db.prepare_cached("SELECT name, task_name, tag, key, max_running, rate_count, rate_per FROM limit_rule ORDER BY name")
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
        rate: rate.map(|(count, per)| Rate {
            count,
            per: super::rows::duration(per),
        }),
    })
}

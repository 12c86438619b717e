//! What may not start although it is due: the queue or a task name is paused, or a limit is full.
//!
//! Such a row leaves the due index and is held under a key (`pause/NAME/`, `task/NAME/`, `limit/NAME/VALUE`, `rate/NAME/VALUE`) until that
//! is free, so that a million of them cost a claim nothing. (Rows are also held as `handler/NAME`, `schedule/ID` and `needs`, which other
//! files release.) A place under a limit is a row tied to the task that has it, so that no count can drift from what runs. Who leaves a
//! place lets the next one in, in the same commit and with the place: whoever comes meanwhile cannot take it. [`sweep`] is the slow
//! fallback.

use super::Failed;
use super::rows::{from_micros, micros, micros_of};
use super::writer::Tx;
use crate::model::Time;
use crate::model::ids::TaskId;
use crate::model::limit::{Bucket, Limit, Rate};
use crate::model::priority::{Pick, pick};
use crate::model::task::Task;
use crate::store::{Handled, Handlers, Result, StoreError, Swept};
use rusqlite::{Connection, OptionalExtension, Row, params};
use std::collections::HashSet;
use std::sync::Arc;

/// Held rows that one intention offers again, at most: no more than a claim can hold again.
const RELEASED: usize = 1_000;
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

    fn has_rates(&self) -> bool {
        self.limits.iter().any(|limit| limit.rate.is_some())
    }

    /// What holds tasks of this name whatever else they are.
    pub(super) fn paused(&self, name: &str) -> Option<Closed> {
        self.paused.contains(name).then(|| Closed {
            why: "paused".into(),
            key: format!("pause/{name}/"),
            at: None,
        })
    }

    /// Whether any task of this name may be held: then its row is looked at before it is leased.
    pub(super) fn concern(&self, name: &str, handled: &Handled) -> bool {
        let of_name = |limit: &Limit| limit.task_name.as_ref().is_none_or(|wanted| wanted == name);
        handled.max_running.is_some() || self.paused.contains(name) || self.limits.iter().any(of_name)
    }
}

/// Why a row is held, and what it waits for: see [`super::claim::hold`].
pub(super) struct Closed {
    pub(super) why: String,
    pub(super) key: String,
    /// Of a rate: when its next token comes.
    at: Option<Time>,
}

/// What a task that may start takes: places under limits, and tokens of rates.
#[derive(Default)]
pub(super) struct Taken {
    places: Vec<String>,
    tokens: Vec<(String, Bucket)>,
}

/// What a row is told: what it would take to start; or what holds it, and what it takes while it waits for that.
pub(super) type Look = std::result::Result<Taken, (Closed, Taken)>;

/// Whether a due task may start, and what it would take, or what holds it. Writes nothing.
///
/// What is taken is taken in one order for all tasks, and kept while the rest is waited for, so that no two wait for one another for ever:
/// tokens of rates, then places under limits with a key, then the others. So who waits for one of many values keeps no place from all.
pub(super) fn look(tx: &Tx<'_>, gates: &Gates, task: &Task, handled: &Handled, now: Time) -> Result<Look> {
    let mut taken = Taken::default();
    if !gates.concern(&task.name, handled) {
        return Ok(Ok(taken));
    }
    let matching = gates.limits.iter().filter(|limit| limit.matches(&task.name, &task.tags));
    let keyed: Vec<(&Limit, String)> = matching.filter_map(|limit| Some((limit, limit.key_of(&task.payload)?))).collect();
    for (limit, value) in &keyed {
        if let Some(closed) = token(tx.db, limit, value, task.id, now, &mut taken)? {
            return Ok(Err((closed, taken)));
        }
    }
    let of_limits = keyed.iter().filter_map(|(limit, value)| {
        let max = limit.max_running?;
        let why = || format!("limit {}: {max} may run at once", shown(limit, value));
        Some((limit.key.is_none(), format!("limit/{}/{value}", limit.name), max, why()))
    });
    let of_definition = handled.max_running.map(|max| {
        let why = format!("limit: {max} of {} may run at once", task.name);
        (true, format!("task/{}/", task.name), max, why)
    });
    let mut places: Vec<(bool, String, u32, String)> = of_limits.chain(of_definition).collect();
    places.sort();
    for (_, key, max, why) in places {
        if is_full(tx.db, &key, task.id, max)? {
            return Ok(Err((Closed { why, key, at: None }, taken)));
        }
        taken.places.push(key);
    }
    Ok(Ok(taken))
}

fn shown(limit: &Limit, value: &str) -> String {
    match value {
        "" => limit.name.clone(),
        value => format!("{} of {value}", limit.name),
    }
}

/// Adds the token that a task would take of a limit's rate, or says what holds it there.
fn token(db: &Connection, limit: &Limit, value: &str, task: TaskId, now: Time, taken: &mut Taken) -> Result<Option<Closed>> {
    let Some(rate) = limit.rate else { return Ok(None) };
    let key = format!("rate/{}/{value}", limit.name);
    if has_place(db, &key, task)? {
        return Ok(None); // it has its token
    }
    let (bucket, is_awaited) = bucket(db, &key, rate, now)?;
    match bucket.take().filter(|_| !is_awaited) {
        Some(left) => {
            taken.tokens.push((key, left));
            Ok(None)
        }
        None => {
            let (count, per) = (rate.count, rate.per.as_secs_f64());
            let why = format!("limit {}: {count} may start in {per} s", shown(limit, value));
            let at = Some(bucket.next(rate));
            Ok(Some(Closed { why, key, at }))
        }
    }
}

/// Takes what was found free. Returns whether it took a place.
pub(super) fn take(tx: &Tx<'_>, id: TaskId, taken: &Taken) -> Result<bool> {
    for (key, bucket) in &taken.tokens {
        keep_bucket(tx, key, *bucket)?;
        put_place(tx, key, id)?;
    }
    for key in &taken.places {
        put_place(tx, key, id)?;
    }
    Ok(!taken.places.is_empty() || !taken.tokens.is_empty())
}

fn put_place(tx: &Tx<'_>, key: &str, id: TaskId) -> Result<()> {
    tx.db
        .prepare_cached("INSERT OR IGNORE INTO place VALUES (?1, ?2)")
        .and_then(|mut s| s.execute(params![key, id.as_bytes()]))
        .failed()
        .map(drop)
}

/// Whether so many others have a place under this key.
fn is_full(db: &Connection, key: &str, task: TaskId, max: u32) -> Result<bool> {
    let Some(before) = max.checked_sub(1) else { return Ok(true) };
    db.prepare_cached("SELECT 1 FROM place WHERE key = ?1 AND task <> ?2 LIMIT 1 OFFSET ?3")
        .and_then(|mut s| s.exists(params![key, task.as_bytes(), before]))
        .failed()
}

fn has_place(db: &Connection, key: &str, task: TaskId) -> Result<bool> {
    db.prepare_cached("SELECT 1 FROM place WHERE key = ?1 AND task = ?2")
        .and_then(|mut s| s.exists(params![key, task.as_bytes()]))
        .failed()
}

/// The bucket as it stands, and whether somebody waits for its next token.
fn bucket(db: &Connection, key: &str, rate: Rate, now: Time) -> Result<(Bucket, bool)> {
    let kept = db
        .prepare_cached("SELECT tokens, at, release_at IS NOT NULL FROM bucket WHERE key = ?1")
        .and_then(|mut s| {
            s.query_row([key], |row| {
                let (tokens, at) = (row.get(0)?, from_micros(row.get(1)?));
                Ok((Bucket { tokens, at }, row.get(2)?))
            })
            .optional()
        })
        .failed()?;
    Ok(kept.map_or_else(
        || (Bucket::full(rate, now), false),
        |(bucket, is_awaited)| (bucket.refilled(rate, now), is_awaited),
    ))
}

fn keep_bucket(tx: &Tx<'_>, key: &str, bucket: Bucket) -> Result<()> {
    tx.db
        .prepare_cached(
            "INSERT INTO bucket VALUES (?1, ?2, ?3, NULL) ON CONFLICT (key) DO UPDATE SET tokens = excluded.tokens, at = excluded.at",
        )
        .and_then(|mut s| s.execute(params![key, bucket.tokens, micros(bucket.at)]))
        .failed()
        .map(drop)
}

/// Has who is held for want of a token looked at when there is one, unless somebody waits for it already.
pub(super) fn await_token(tx: &Tx<'_>, closed: &Closed) -> Result<()> {
    let Some(at) = closed.at else { return Ok(()) };
    // A bucket that nobody has taken from is full, whatever its rate.
    tx.db
        .prepare_cached(
            "INSERT INTO bucket VALUES (?1, 1e18, ?2, ?2) ON CONFLICT (key) DO UPDATE SET release_at = COALESCE(release_at, excluded.release_at)",
        )
        .and_then(|mut s| s.execute(params![closed.key, micros(at)]))
        .failed()
        .map(drop)
}

/// Gives back the places of a task whose attempt has ended, or which is held, and lets the next ones in. What it paid for a rate it keeps
/// while it waits.
pub(super) fn leave(tx: &Tx<'_>, id: TaskId, keeps_tokens: bool) -> Result<()> {
    let keys: Vec<String> = tx
        .db
        .prepare_cached("SELECT key FROM place WHERE task = ?1")
        .and_then(|mut s| s.query_map([id.as_bytes()], |row| row.get(0)).and_then(Iterator::collect))
        .failed()?;
    for key in keys {
        let is_token = key.starts_with("rate/");
        if is_token && keeps_tokens {
            continue;
        }
        tx.db
            .prepare_cached("DELETE FROM place WHERE key = ?1 AND task = ?2")
            .and_then(|mut s| s.execute(params![key, id.as_bytes()]))
            .failed()?;
        if !is_token {
            let_in(tx, &key, 1)?;
        }
    }
    Ok(())
}

/// Offers so many again that are held under a key, each with its place: nobody who comes later takes it. The most urgent first, but every
/// 16th is the one that has been due longest. Returns how many.
fn let_in(tx: &Tx<'_>, key: &str, count: usize) -> Result<usize> {
    for done in 0..count {
        let turn = pick(tx.let_in.get());
        let Some((seq, id)) = next_held(tx.db, key, turn)? else {
            return Ok(done);
        };
        tx.let_in.set(tx.let_in.get() + 1);
        tx.db
            .prepare_cached("UPDATE task SET queue = 1, held = NULL, held_key = NULL WHERE seq = ?1")
            .and_then(|mut s| s.execute([seq]))
            .failed()?;
        put_place(tx, key, id)?;
    }
    Ok(count)
}

fn next_held(db: &Connection, key: &str, turn: Pick) -> Result<Option<(i64, TaskId)>> {
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

/// Offers again what is held under keys that are free now, and what a refilled bucket lets start. Returns whether there is more of it.
pub(super) fn thaw(tx: &mut Tx<'_>, gates: &Gates, now: Time) -> Result<bool> {
    if let Some(key) = gates.thaw.first() {
        if release_range(tx, key)? < RELEASED {
            tx.db
                .prepare_cached("DELETE FROM thaw WHERE key = ?1")
                .and_then(|mut s| s.execute([key]))
                .failed()?;
            *tx.gates = None;
        }
        return Ok(true);
    }
    if gates.has_rates() { refill(tx, gates, now) } else { Ok(false) }
}

fn refill(tx: &Tx<'_>, gates: &Gates, now: Time) -> Result<bool> {
    let due: Vec<String> = tx
        .db
        .prepare_cached("SELECT key FROM bucket WHERE release_at <= ?1 ORDER BY release_at LIMIT ?2")
        .and_then(|mut s| {
            s.query_map(params![micros(now), REFILLED], |row| row.get(0))
                .and_then(Iterator::collect)
        })
        .failed()?;
    let mut left = RELEASED;
    for key in &due {
        if left == 0 {
            return Ok(true);
        }
        left = left.saturating_sub(refill_one(tx, gates, key, left, now)?);
    }
    Ok(due.len() as i64 == REFILLED)
}

/// When somebody who waits for a token is to be looked at.
pub(super) fn next_token(tx: &Tx<'_>, gates: &Gates) -> Result<Option<Time>> {
    if !gates.has_rates() {
        return Ok(None);
    }
    let next: Option<i64> = tx
        .db
        .prepare_cached("SELECT MIN(release_at) FROM bucket WHERE release_at IS NOT NULL")
        .and_then(|mut s| s.query_row([], |row| row.get(0)))
        .failed()?;
    Ok(next.map(from_micros))
}

/// Lets in as many as a bucket has tokens, each with its own. Returns how many.
fn refill_one(tx: &Tx<'_>, gates: &Gates, key: &str, most: usize, now: Time) -> Result<usize> {
    let limit = gates.limits.iter().find(|limit| Some(limit.name.as_str()) == key.split('/').nth(1));
    let Some(rate) = limit.and_then(|limit| limit.rate) else {
        set_release(tx, key, None)?;
        return release_range(tx, key);
    };
    let (mut bucket, _) = bucket(tx.db, key, rate, now)?;
    let mut released = 0;
    while released < most
        && let Some(left) = bucket.take()
        && let_in(tx, key, 1)? == 1
    {
        bucket = left;
        released += 1;
    }
    keep_bucket(tx, key, bucket)?;
    let is_held = next_held(tx.db, key, Pick::MostUrgent)?.is_some();
    set_release(tx, key, is_held.then(|| bucket.next(rate)))?;
    Ok(released)
}

fn set_release(tx: &Tx<'_>, key: &str, at: Option<Time>) -> Result<()> {
    tx.db
        .prepare_cached("UPDATE bucket SET release_at = ?2 WHERE key = ?1")
        .and_then(|mut s| s.execute(params![key, at.map(micros)]))
        .failed()
        .map(drop)
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

/// Looks through some of what may have been forgotten, from where the last look ended: who is held and has room, tasks that are unique no
/// more, full buckets. Returns where to go on.
pub(super) fn sweep(tx: &mut Tx<'_>, handlers: &Handlers, mut after: Swept, now: Time) -> Result<Swept> {
    let gates = gates(tx)?;
    after.held_key = sweep_held(tx, &gates, handlers, after.held_key, now)?;
    after.bucket = sweep_buckets(tx, after.bucket, now)?;
    after.unique = super::once::tidy(tx, after.unique, now)?;
    Ok(after)
}

fn sweep_held(tx: &Tx<'_>, gates: &Gates, handlers: &Handlers, mut key: String, now: Time) -> Result<String> {
    let mut left = RELEASED;
    for _ in 0..SWEPT {
        let next: Option<String> = tx
            .db
            .prepare_cached("SELECT MIN(held_key) FROM task INDEXED BY task_held WHERE queue = 2 AND held_key > ?1")
            .and_then(|mut s| s.query_row([&key], |row| row.get(0)))
            .failed()?;
        let Some(next) = next else { return Ok(String::new()) };
        let mut words = next.split('/');
        let (kind, name) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let of_limit = || gates.limits.iter().find(|limit| limit.name == name);
        let max = match kind {
            "task" => Some(handlers.get(name).and_then(|handled| handled.max_running)),
            "limit" => Some(of_limit().and_then(|limit| limit.max_running)),
            "rate" => {
                match of_limit().and_then(|limit| limit.rate) {
                    // Worked out anew: the clock may have been set back since.
                    Some(rate) => wait_anew(tx, &next, rate, now)?,
                    None => left = left.saturating_sub(super::claim::release_key(tx, &next, left)?),
                }
                None
            }
            "pause" if !gates.paused.contains(name) => Some(None),
            // What waits for a handler, its needs or an earlier fire is let in by them: there may be many keys of these.
            "handler" | "needs" | "schedule" => {
                key = format!("{kind}0");
                continue;
            }
            _ => None,
        };
        match max {
            Some(Some(max)) => left -= let_in(tx, &next, free(tx.db, &next, max)?.min(left))?,
            Some(None) => left -= super::claim::release_key(tx, &next, left)?,
            None => {}
        }
        if left == 0 {
            return Ok(key);
        }
        key = next;
    }
    Ok(key)
}

fn wait_anew(tx: &Tx<'_>, key: &str, rate: Rate, now: Time) -> Result<()> {
    let (bucket, _) = bucket(tx.db, key, rate, now)?;
    keep_bucket(tx, key, bucket)?;
    set_release(tx, key, Some(bucket.next(rate)))
}

/// Forgets buckets from which nobody took for long: they are full.
fn sweep_buckets(tx: &Tx<'_>, after: String, now: Time) -> Result<String> {
    let keys: Vec<(String, bool)> = tx
        .db
        .prepare_cached("SELECT key, release_at IS NULL AND at < ?2 FROM bucket WHERE key > ?1 ORDER BY key LIMIT ?3")
        .and_then(|mut s| {
            s.query_map(params![after, micros(now - FULL_AFTER), SWEPT as i64], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })
            .and_then(Iterator::collect)
        })
        .failed()?;
    for (key, _) in keys.iter().filter(|(_, is_full)| *is_full) {
        tx.db
            .prepare_cached("DELETE FROM bucket WHERE key = ?1")
            .and_then(|mut s| s.execute([key]))
            .failed()?;
    }
    let is_end = keys.len() < SWEPT;
    Ok(keys
        .into_iter()
        .next_back()
        .filter(|_| !is_end)
        .map_or_else(String::new, |(key, _)| key))
}

/// Places that are free under a key.
fn free(db: &Connection, key: &str, max: u32) -> Result<usize> {
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
    tx.db
        .prepare_cached("DELETE FROM thaw WHERE key = ?1")
        .and_then(|mut s| s.execute([format!("pause/{name}/")]))
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
    let before = limits(tx.db)?.into_iter().find(|other| other.name == limit.name);
    if before.as_ref() == Some(limit) {
        return Ok(()); // services put theirs at every start
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
    if before.is_none_or(|before| (before.rate, before.key) != (limit.rate, limit.key.clone())) {
        forget_buckets(tx, &limit.name)?;
    }
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
    forget_buckets(tx, name)?;
    look_again(tx, name)
}

/// Its rate begins anew, with full buckets; who waits for one is looked at again.
fn forget_buckets(tx: &Tx<'_>, name: &str) -> Result<()> {
    tx.db
        .prepare_cached("DELETE FROM bucket WHERE key >= ?1 AND key < ?2")
        .and_then(|mut s| s.execute([format!("rate/{name}/"), format!("rate/{name}0")]))
        .failed()
        .map(drop)
}

fn look_again(tx: &mut Tx<'_>, name: &str) -> Result<()> {
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

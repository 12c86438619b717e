//! The token buckets of rates, and who waits for their next tokens.

use super::Failed;
use super::held;
use super::places;
use super::rows::{from_micros, micros};
use super::writer::Tx;
use crate::model::Time;
use crate::model::hold::Hold;
use crate::model::limit::{Bucket, Limit, MAX_PER, Rate, UNTOUCHED};
use crate::store::Result;
use rusqlite::{Connection, OptionalExtension, params};

/// Rate limits whose next token has come, looked at by one claim.
const REFILLED: i64 = 256;

/// Buckets that one sweep looks at, at most.
const SWEPT: usize = 500;

/// The bucket as it stands, and whether somebody waits for its next token.
pub(super) fn read(db: &Connection, key: &str, rate: Rate, now: Time) -> Result<(Bucket, bool)> {
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

/// Keeps what is left in a bucket.
pub(super) fn keep(tx: &Tx<'_>, key: &str, bucket: Bucket) -> Result<()> {
    tx.db
        .prepare_cached(
            "INSERT INTO bucket VALUES (?1, ?2, ?3, NULL) ON CONFLICT (key) DO UPDATE SET tokens = excluded.tokens, at = excluded.at",
        )
        .and_then(|mut s| s.execute(params![key, bucket.tokens, micros(bucket.at)]))
        .failed()
        .map(drop)
}

/// Has who is held for want of a token looked at when there is one, unless somebody waits for it already.
pub(super) fn wait(tx: &Tx<'_>, key: &str, at: Time) -> Result<()> {
    tx.db
        .prepare_cached(
            "INSERT INTO bucket VALUES (?1, ?3, ?2, ?2) ON CONFLICT (key) DO UPDATE SET release_at = COALESCE(release_at, excluded.release_at)",
        )
        .and_then(|mut s| s.execute(params![key, micros(at), UNTOUCHED]))
        .failed()
        .map(drop)
}

/// Whether there may be buckets at all: each claim asks.
fn are_any(limits: &[Limit]) -> bool {
    limits.iter().any(|limit| limit.rate.is_some())
}

/// Lets in who waits for tokens that have come meanwhile. Returns whether there is more of it.
pub(super) fn refill(tx: &Tx<'_>, limits: &[Limit], now: Time) -> Result<bool> {
    if !are_any(limits) {
        return Ok(false);
    }
    let due: Vec<String> = tx
        .db
        .prepare_cached("SELECT key FROM bucket WHERE release_at <= ?1 ORDER BY release_at LIMIT ?2")
        .and_then(|mut s| {
            s.query_map(params![micros(now), REFILLED], |row| row.get(0))
                .and_then(Iterator::collect)
        })
        .failed()?;
    let mut left = held::RELEASED;
    for key in &due {
        if left == 0 {
            return Ok(true);
        }
        left = left.saturating_sub(refill_one(tx, limits, key, left, now)?);
    }
    Ok(due.len() as i64 == REFILLED)
}

/// Lets in as many as a bucket has tokens, each with its own. Returns how many.
fn refill_one(tx: &Tx<'_>, limits: &[Limit], key: &str, most: usize, now: Time) -> Result<usize> {
    let limit = limits.iter().find(|limit| Hold::of(key) == Some((Hold::Rate, &limit.name)));
    let Some(rate) = limit.and_then(|limit| limit.rate) else {
        set_release(tx, key, None)?;
        return held::release_key(tx, key, most);
    };
    let (mut bucket, _) = read(tx.db, key, rate, now)?;
    let mut released = 0;
    while released < most
        && let Some(left) = bucket.take()
        && places::let_in(tx, key, 1)? == 1
    {
        bucket = left;
        released += 1;
    }
    keep(tx, key, bucket)?;
    let is_held = held::is_any(tx.db, key)?;
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

/// When somebody who waits for a token is to be looked at.
pub(super) fn next_token(tx: &Tx<'_>, limits: &[Limit]) -> Result<Option<Time>> {
    if !are_any(limits) {
        return Ok(None);
    }
    let next: Option<i64> = tx
        .db
        .prepare_cached("SELECT MIN(release_at) FROM bucket WHERE release_at IS NOT NULL")
        .and_then(|mut s| s.query_row([], |row| row.get(0)))
        .failed()?;
    Ok(next.map(from_micros))
}

/// Works out anew when who waits for a token is looked at: the clock may have been set back since.
pub(super) fn wait_anew(tx: &Tx<'_>, key: &str, rate: Rate, now: Time) -> Result<()> {
    let (bucket, _) = read(tx.db, key, rate, now)?;
    keep(tx, key, bucket)?;
    set_release(tx, key, Some(bucket.next(rate)))
}

/// Its rate begins anew, with full buckets; who waits for one is looked at again.
pub(super) fn forget(tx: &Tx<'_>, name: &str) -> Result<()> {
    let (from, to) = Hold::Rate.range(name);
    tx.db
        .prepare_cached("DELETE FROM bucket WHERE key >= ?1 AND key < ?2")
        .and_then(|mut s| s.execute([from, to]))
        .failed()
        .map(drop)
}

/// Forgets buckets from which nobody took for long: they are full.
pub(super) fn sweep(tx: &Tx<'_>, after: String, now: Time) -> Result<String> {
    let keys: Vec<(String, bool)> = tx
        .db
        .prepare_cached("SELECT key, release_at IS NULL AND at < ?2 FROM bucket WHERE key > ?1 ORDER BY key LIMIT ?3")
        .and_then(|mut s| {
            s.query_map(params![after, micros(now - MAX_PER), SWEPT as i64], |row| {
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

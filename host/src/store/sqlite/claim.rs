//! From due to running, and what stands between: missing handlers, full memory, dead nodes.

use super::Failed;
use super::enqueue::is_anything_due;
use super::rows::{self, from_micros, micros};
use super::writer::Tx;
use crate::model::Time;
use crate::model::ids::{NodeId, TaskId};
use crate::model::priority::{Pick, pick};
use crate::model::retry::Counters;
use crate::model::task::Task;
use crate::store::{Claim, Claimed, Handled, Handlers, Lease, Orphan, Result};
use rusqlite::{OptionalExtension, Row, params};
use std::sync::LazyLock;

/// Why a due task without a handler is not offered to workers.
const HANDLER_MISSING: &str = "handler missing";
/// Held tasks that one commit offers again, at most.
const RELEASED: usize = 2_000;
/// Rows that one claim makes due, at most, so that a million tasks for the same second do not stop the house.
const PROMOTED: i64 = 2_000;
/// Rows that one claim files as held, at most.
const HELD: usize = 1_024;
/// Rows that one claim walks over because their names do not fit the memory left, at most: index entries, some milliseconds.
const PASSED_OVER: i64 = 20_000;

/// A due row as claiming sees it.
struct Due {
    seq: i64,
    name: String,
    key: (i64, i64, [u8; 16]),
}

fn due(row: &Row<'_>) -> rusqlite::Result<Due> {
    Ok(Due {
        seq: row.get(0)?,
        name: row.get(1)?,
        key: (row.get(2)?, row.get(3)?, row.get(4)?),
    })
}

pub(super) fn claim(tx: &Tx<'_>, claim: &Claim) -> Result<Claimed> {
    let mut claimed = Claimed {
        more: promote(tx, claim.now)?,
        ..Claimed::default()
    };
    let mut memory_left = claim.memory_left;
    let mut passed_over = PassedOver::default();
    let mut may_hold = HELD;
    while claimed.tasks.len() < claim.limit {
        let turn = pick(claim.started + claimed.tasks.len() as u64);
        let candidate = match turn {
            Pick::MostUrgent => most_urgent(tx, &passed_over)?,
            Pick::LongestDue => longest_due(tx)?,
        };
        let Some(candidate) = candidate else { break };
        let fits = claim
            .handlers
            .get(&candidate.name)
            .map(|handled| (handled, handled.memory <= memory_left));
        match fits {
            Some((handled, true)) => {
                memory_left -= handled.memory;
                claimed.tasks.push(lease(tx, claim, candidate.seq, handled)?);
                continue;
            }
            None if may_hold == 0 => {
                claimed.more = true;
                break;
            }
            None => {
                hold(tx, candidate.seq)?;
                may_hold -= 1;
            }
            // The longest due is not passed over: what is left of the memory is kept for it.
            Some((_, false)) if turn == Pick::LongestDue => break,
            // Nor does another of its name fit before an attempt ends, and that wakes the next claim.
            Some((_, false)) => passed_over.add(candidate),
        }
    }
    claimed.waiting = is_anything_due(tx.db)?;
    claimed.more |= claimed.tasks.len() == claim.limit && claimed.waiting;
    claimed.next_due = tx
        .db
        .prepare_cached("SELECT MIN(due_at) FROM task WHERE queue = 0")
        .and_then(|mut s| s.query_row([], |row| row.get::<_, Option<i64>>(0)))
        .failed()?
        .map(from_micros);
    Ok(claimed)
}

/// Moves rows whose time has come to the due index. Returns whether there may be more of them.
fn promote(tx: &Tx<'_>, now: Time) -> Result<bool> {
    let promoted = tx
        .db
        .prepare_cached(
            "UPDATE task SET queue = 1 WHERE seq IN
               (SELECT seq FROM task WHERE queue = 0 AND due_at <= ?1 ORDER BY due_at, id LIMIT ?2)",
        )
        .and_then(|mut s| s.execute(params![micros(now), PROMOTED]))
        .failed()?;
    Ok(promoted as i64 == PROMOTED)
}

/// What does not fit the memory left: the names, and the last row that was looked at, before which nothing fits.
struct PassedOver {
    names: Vec<String>,
    after: (i64, i64, [u8; 16]),
}

impl Default for PassedOver {
    fn default() -> Self {
        Self {
            names: Vec::new(),
            after: (0, i64::MIN, [0; 16]),
        }
    }
}

impl PassedOver {
    fn add(&mut self, row: Due) {
        self.names.push(row.name);
        self.after = row.key;
    }
}

pub(super) const MOST_URGENT: &str = "SELECT seq, name, priority, due_at, id FROM task INDEXED BY task_due
     WHERE queue = 1 AND (priority, due_at, id) > (?1, ?2, ?3) ORDER BY priority, due_at, id LIMIT 1";
pub(super) const MOST_URGENT_THAT_FITS: &str = "SELECT seq, name, priority, due_at, id FROM (
       SELECT seq, name, priority, due_at, id FROM task INDEXED BY task_due
       WHERE queue = 1 AND (priority, due_at, id) > (?1, ?2, ?3) ORDER BY priority, due_at, id LIMIT ?5)
     WHERE name NOT IN (SELECT value FROM json_each(?4)) ORDER BY priority, due_at, id LIMIT 1";

fn most_urgent(tx: &Tx<'_>, passed_over: &PassedOver) -> Result<Option<Due>> {
    let after = passed_over.after;
    if passed_over.names.is_empty() {
        return tx
            .db
            .prepare_cached(MOST_URGENT)
            .and_then(|mut s| s.query_row(params![after.0, after.1, after.2], due).optional())
            .failed();
    }
    let names = serde_json::json!(passed_over.names).to_string();
    tx.db
        .prepare_cached(MOST_URGENT_THAT_FITS)
        .and_then(|mut s| s.query_row(params![after.0, after.1, after.2, names, PASSED_OVER], due).optional())
        .failed()
}

/// The first of each priority's own range: nine looks at the index that is there anyway cost less than another index.
fn longest_due(tx: &Tx<'_>) -> Result<Option<Due>> {
    let mut first = tx
        .db
        .prepare_cached(
            "SELECT seq, name, priority, due_at, id FROM task INDEXED BY task_due WHERE queue = 1 AND priority = ?1 ORDER BY due_at, id LIMIT 1",
        )
        .failed()?;
    let mut longest: Option<Due> = None;
    for priority in 1..=9 {
        let found = first.query_row([priority], due).optional().failed()?;
        longest = longest.into_iter().chain(found).min_by_key(|due| (due.key.1, due.key.2));
    }
    Ok(longest)
}

fn lease(tx: &Tx<'_>, claim: &Claim, seq: i64, handled: &Handled) -> Result<Task> {
    static LEASE: LazyLock<String> = LazyLock::new(|| {
        format!(
            "UPDATE task SET queue = 3, attempt = attempt + 1, attempt_started_at = ?2, started_at = COALESCE(started_at, ?2), node = ?3,
               attempt_idempotent = COALESCE(idempotent, ?4), plugin = ?5, plugin_digest = ?6, progress = NULL
             WHERE seq = ?1 RETURNING {}, {}",
            rows::SHARED,
            rows::LIVE
        )
    });
    tx.db
        .prepare_cached(&LEASE)
        .and_then(|mut s| {
            let now = micros(claim.now);
            let (plugin, digest) = (handled.plugin.as_ref(), handled.plugin_digest.as_ref());
            s.query_row(
                params![seq, now, claim.node.as_bytes(), handled.idempotent, plugin, digest],
                rows::task,
            )
        })
        .failed()
}

fn hold(tx: &Tx<'_>, seq: i64) -> Result<()> {
    tx.db
        .prepare_cached("UPDATE task SET queue = 2, held = ?2 WHERE seq = ?1")
        .and_then(|mut s| s.execute(params![seq, HANDLER_MISSING]))
        .failed()
        .map(drop)
}

/// Offers held tasks again whose handler is there now, so many at a time. Returns whether there may be more.
pub(super) fn release(tx: &Tx<'_>, handlers: &Handlers) -> Result<bool> {
    let mut left = RELEASED;
    for name in handlers.keys() {
        let released = tx
            .db
            .prepare_cached(
                "UPDATE task SET queue = 1, held = NULL WHERE seq IN (SELECT seq FROM task WHERE queue = 2 AND name = ?1 LIMIT ?2)",
            )
            .and_then(|mut s| s.execute(params![name, left as i64]))
            .failed()?;
        left = left.saturating_sub(released);
        if left == 0 {
            return Ok(true);
        }
    }
    Ok(false)
}

/// With SQLite there is one node: the lock on the data directory proves that any other is dead.
pub(super) fn orphans(tx: &Tx<'_>, node: NodeId) -> Result<Vec<Orphan>> {
    tx.db
        .prepare_cached("DELETE FROM node WHERE id <> ?1")
        .and_then(|mut s| s.execute([node.as_bytes()]))
        .failed()?;
    let mut query = tx
        .db
        .prepare_cached(
            "SELECT id, attempt, node, name, retries, snoozes, losses, attempt_idempotent, due_at, tags IS NOT NULL
             FROM task WHERE queue = 3 AND node <> ?1",
        )
        .failed()?;
    query
        .query_map([node.as_bytes()], |row| {
            Ok(Orphan {
                lease: Lease {
                    task: TaskId::from_bytes(row.get(0)?),
                    attempt: row.get(1)?,
                    node: NodeId::from_bytes(row.get(2)?),
                },
                name: row.get(3)?,
                counters: Counters {
                    retries: row.get(4)?,
                    snoozes: row.get(5)?,
                    losses: row.get(6)?,
                },
                idempotent: row.get(7)?,
                due_at: from_micros(row.get(8)?),
                tagged: row.get(9)?,
            })
        })
        .and_then(Iterator::collect)
        .failed()
}

pub(super) fn renew(tx: &Tx<'_>, node: NodeId, until: Time) -> Result<()> {
    tx.db
        .prepare_cached("INSERT INTO node VALUES (?1, ?2) ON CONFLICT (id) DO UPDATE SET lease_until = excluded.lease_until")
        .and_then(|mut s| s.execute(params![node.as_bytes(), micros(until)]))
        .failed()
        .map(drop)
}

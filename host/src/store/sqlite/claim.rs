//! From due to running, and what stands between: missing handlers, full memory, dead nodes.

use super::Failed;
use super::buckets;
use super::enqueue::is_anything_due;
use super::follow;
use super::gates::{self, Gates, gates};
use super::held::hold;
use super::places;
use super::rows::{self, from_micros, micros};
use super::timers;
use super::writer::Tx;
use crate::model::Time;
use crate::model::hold::Hold;
use crate::model::ids::{NodeId, TaskId};
use crate::model::priority::{Pick, pick};
use crate::model::retry::Counters;
use crate::model::task::Task;
use crate::store::{Claim, Claimed, Lease, Orphan, Result, Room};
use rusqlite::{OptionalExtension, Row, params};
use std::collections::VecDeque;
use std::sync::LazyLock;

/// Why a due task without a handler is not offered to workers.
const HANDLER_MISSING: &str = "handler missing";
/// Rows that one claim makes due, at most, so that a million tasks for the same second do not stop the house.
const PROMOTED: i64 = 2_000;
/// Rows that one claim files as held, at most, and bytes of their payloads, about: each row is written anew.
const HELD: usize = 1_024;
const HELD_BYTES: usize = 16 << 20;
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

pub(super) fn claim(tx: &mut Tx<'_>, claim: &Claim) -> Result<Claimed> {
    let open = gates(tx)?;
    if open.closed {
        tx.crowded.set(false);
        return Ok(Claimed::default());
    }
    let thawed = gates::thaw(tx, &open, claim.now)?;
    let mut claimed = Claimed {
        more: promote(tx, claim.now)? || thawed,
        ..Claimed::default()
    };
    let room = (claim.hold)();
    let mut memory_left = room.memory;
    let mut urgent = Urgent::default();
    let (mut may_hold, mut held_bytes) = (HELD, 0);
    let (let_in, mut has_expired) = (tx.let_in.get(), false);
    while claimed.tasks.len() < room.slots {
        let turn = pick(claim.started + claimed.tasks.len() as u64);
        let candidate = match turn {
            Pick::MostUrgent => urgent.next(tx, room.slots - claimed.tasks.len())?,
            Pick::LongestDue => longest_due(tx)?,
        };
        let Some(candidate) = candidate else { break };
        if turn == Pick::LongestDue {
            urgent.taken.push(candidate.seq);
        }
        // What ends or holds rows writes as much as what leases them.
        let is_spent = may_hold == 0 || held_bytes >= HELD_BYTES;
        if is_spent && may_be_held(claim, &open, &candidate.name, memory_left) {
            claimed.more = true;
            break;
        }
        match start(tx, claim, &open, &candidate, memory_left)? {
            Start::Leased(task, memory) => {
                memory_left -= memory;
                claimed.tasks.push(*task);
            }
            Start::Held(bytes) => {
                held_bytes += bytes;
                may_hold -= 1;
            }
            Start::Expired => {
                has_expired = true;
                may_hold -= 1;
            }
            // The longest due is not passed over: what is left of the memory is kept for it.
            Start::TooLarge if turn == Pick::LongestDue => break,
            // Nor does another of its name fit before an attempt ends, and that wakes the next claim.
            Start::TooLarge => urgent.passed_over.push(candidate.name),
        }
    }
    // Who was let in meanwhile, and what follows what has expired, may stand before the rows that were read.
    claimed.more |= has_expired || tx.let_in.get() != let_in;
    (claim.give_back)(Room {
        slots: room.slots - claimed.tasks.len(),
        memory: memory_left,
    });
    claimed.waiting = is_anything_due(tx.db)?;
    tx.crowded.set(claimed.waiting);
    claimed.more |= claimed.tasks.len() == room.slots && claimed.waiting;
    claimed.next_due = tx
        .db
        .prepare_cached("SELECT MIN(due_at) FROM task WHERE queue = 0")
        .and_then(|mut s| s.query_row([], |row| row.get::<_, Option<i64>>(0)))
        .failed()?
        .map(from_micros);
    claimed.next_due = claimed.next_due.into_iter().chain(buckets::next_token(tx, open.limits())?).min();
    Ok(claimed)
}

/// Whether a row of this name would be looked at more closely than for its memory.
fn may_be_held(claim: &Claim, open: &Gates, name: &str, memory_left: u64) -> bool {
    let handled = claim.handlers.get(name);
    handled.is_none_or(|handled| handled.memory <= memory_left || open.concern(name, handled))
}

/// Moves rows whose time has come to the due index. Returns whether there may be more of them.
fn promote(tx: &Tx<'_>, now: Time) -> Result<bool> {
    let promoted = tx
        .db
        .prepare_cached(
            "UPDATE OR FAIL task SET queue = 1 WHERE seq IN
               (SELECT seq FROM task WHERE queue = 0 AND due_at <= ?1 ORDER BY due_at, id LIMIT ?2)",
        )
        .and_then(|mut s| s.execute(params![micros(now), PROMOTED]))
        .failed()?;
    Ok(promoted as i64 == PROMOTED)
}

/// Due rows in the order of urgency, read ahead: they change by nothing but this claim.
struct Urgent {
    ahead: VecDeque<Due>,
    /// The last row that was given out: the next are after it.
    after: (i64, i64, [u8; 16]),
    /// Names that do not fit the memory left.
    passed_over: Vec<String>,
    /// Rows that may stand in `ahead` and were taken as the longest due.
    taken: Vec<i64>,
}

impl Default for Urgent {
    fn default() -> Self {
        Self {
            ahead: VecDeque::new(),
            after: (0, i64::MIN, [0; 16]),
            passed_over: Vec::new(),
            taken: Vec::new(),
        }
    }
}

pub(super) const MOST_URGENT: &str = "SELECT seq, name, priority, due_at, id FROM task INDEXED BY task_due
     WHERE queue = 1 AND (priority, due_at, id) > (?1, ?2, ?3) ORDER BY priority, due_at, id LIMIT ?4";
pub(super) const MOST_URGENT_THAT_FITS: &str = "SELECT seq, name, priority, due_at, id FROM (
       SELECT seq, name, priority, due_at, id FROM task INDEXED BY task_due
       WHERE queue = 1 AND (priority, due_at, id) > (?1, ?2, ?3) ORDER BY priority, due_at, id LIMIT ?6)
     WHERE name NOT IN (SELECT value FROM json_each(?5)) ORDER BY priority, due_at, id LIMIT ?4";

impl Urgent {
    /// The next row whose name is not passed over; where more have to be read, so many at once.
    fn next(&mut self, tx: &Tx<'_>, ahead: usize) -> Result<Option<Due>> {
        loop {
            if self.ahead.is_empty() {
                self.read(tx, ahead)?;
            }
            let Some(row) = self.ahead.pop_front() else { return Ok(None) };
            self.after = row.key;
            if !self.taken.contains(&row.seq) && !self.passed_over.contains(&row.name) {
                return Ok(Some(row));
            }
        }
    }

    fn read(&mut self, tx: &Tx<'_>, limit: usize) -> Result<()> {
        let after = self.after;
        let limit = limit as i64;
        let mut query;
        let rows = if self.passed_over.is_empty() {
            query = tx.db.prepare_cached(MOST_URGENT).failed()?;
            query.query_map(params![after.0, after.1, after.2, limit], due)
        } else {
            let names = serde_json::json!(self.passed_over).to_string();
            query = tx.db.prepare_cached(MOST_URGENT_THAT_FITS).failed()?;
            query.query_map(params![after.0, after.1, after.2, limit, names, PASSED_OVER], due)
        };
        self.ahead = rows.and_then(Iterator::collect).failed()?;
        Ok(())
    }
}

/// The longest due of each priority's first: a leap through the index that is there anyway costs less than another index.
fn longest_due(tx: &Tx<'_>) -> Result<Option<Due>> {
    let mut leap = tx
        .db
        .prepare_cached(
            "SELECT seq, name, priority, due_at, id FROM task INDEXED BY task_due
             WHERE queue = 1 AND priority > ?1 ORDER BY priority, due_at, id LIMIT 1",
        )
        .failed()?;
    let mut longest: Option<Due> = None;
    let mut priority = 0;
    while let Some(first) = leap.query_row([priority], due).optional().failed()? {
        priority = first.key.0;
        longest = longest.into_iter().chain([first]).min_by_key(|due| (due.key.1, due.key.2));
    }
    Ok(longest)
}

/// What became of a due row.
enum Start {
    /// It runs, and is promised so many bytes.
    Leased(Box<Task>, u64),
    /// Something holds it; its payload has so many bytes.
    Held(usize),
    Expired,
    /// Nothing holds it but the memory left.
    TooLarge,
}

/// Leases a row, unless it has expired, something holds it, or it does not fit. Read and written in two: a row that an `UPDATE` returns
/// goes through a table of its own.
fn start(tx: &mut Tx<'_>, claim: &Claim, open: &Gates, due: &Due, memory_left: u64) -> Result<Start> {
    static READ: LazyLock<String> = LazyLock::new(|| format!("SELECT {}, {} FROM task WHERE seq = ?1", rows::SHARED, rows::LIVE));
    let Some(handled) = claim.handlers.get(&due.name) else {
        give_up(tx, due, HANDLER_MISSING, &Hold::Handler.key(&due.name, ""))?;
        return Ok(Start::Held(0));
    };
    if let Some(paused) = open.paused(&due.name) {
        give_up(tx, due, &paused.why, &paused.key)?;
        return Ok(Start::Held(0));
    }
    let fits = handled.memory <= memory_left;
    if !fits && !open.concern(&due.name, handled) {
        return Ok(Start::TooLarge);
    }
    let seq = due.seq;
    let mut waiting = tx
        .db
        .prepare_cached(&READ)
        .and_then(|mut s| s.query_row([seq], rows::task))
        .failed()?;
    if waiting.expires_at.is_some_and(|at| at <= claim.now) && timers::expire(tx, waiting.id, claim.now)? {
        return Ok(Start::Expired);
    }
    let taken = match gates::look(tx, open, &waiting, handled, claim.now)? {
        Ok(_) if !fits => return Ok(Start::TooLarge),
        Ok(taken) => taken,
        Err((closed, taken)) => {
            gates::take(tx, waiting.id, &taken)?;
            gates::leave_rest(tx, waiting.id, &closed, &taken)?;
            hold(tx, seq, &closed.why, &closed.key)?;
            gates::wait(tx, &closed)?;
            return Ok(Start::Held(waiting.payload.len()));
        }
    };
    waiting.limited = gates::take(tx, waiting.id, &taken)?;
    tx.db
        .prepare_cached(
            "UPDATE task SET queue = 3, attempt = attempt + 1, attempt_started_at = ?2, started_at = COALESCE(started_at, ?2), node = ?3,
               attempt_idempotent = COALESCE(idempotent, ?4), plugin = ?5, plugin_digest = ?6, progress = NULL
             WHERE seq = ?1",
        )
        .and_then(|mut s| {
            let now = micros(claim.now);
            let (plugin, digest) = (handled.plugin.as_ref(), handled.plugin_digest.as_ref());
            s.execute(params![seq, now, claim.node.as_bytes(), handled.idempotent, plugin, digest])
        })
        .failed()?;
    Ok(Start::Leased(Box::new(waiting.begun(&handled.plugin, claim.now)), handled.memory))
}

/// The same of a row that no limit holds: places that it may have go to the next.
fn give_up(tx: &Tx<'_>, due: &Due, why: &str, key: &str) -> Result<()> {
    hold(tx, due.seq, why, key)?;
    places::leave(tx, TaskId::from_bytes(due.key.2), true)
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
            "SELECT id, attempt, node, name, retries, snoozes, losses, attempt_idempotent, due_at, tags IS NOT NULL, batch, workflow,
               origin_kind, origin
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
                ties: follow::ties(row, 10)?,
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

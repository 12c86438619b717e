//! From due to running, and what stands between: missing handlers, full memory, dead nodes.

use super::Failed;
use super::buckets;
use super::follow;
use super::gates::{self, Gates, gates};
use super::held::hold;
use super::lanes::{self, Lanes};
use super::places;
use super::ring::Due;
use super::rows::{self, from_micros, micros};
use super::timers;
use super::writer::Tx;
use crate::model::Time;
use crate::model::hold::Hold;
use crate::model::ids::{NodeId, TaskId};
use crate::model::priority::Pick;
use crate::model::retry::Counters;
use crate::model::task::Task;
use crate::store::{Claim, Claimed, Lease, LoadOf, Orphan, Result};
use rusqlite::params;
use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

/// Why a due task without a handler is not offered to workers.
const HANDLER_MISSING: &str = "handler missing";
/// Rows that one claim makes due, at most, so that a million tasks for the same second do not stop the house.
const PROMOTED: i64 = 2_000;
/// Rows that one claim files as held, at most, and bytes of their payloads, about: each row is written anew.
const HELD: usize = 1_024;
const HELD_BYTES: usize = 16 << 20;

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
    let mut room = (claim.hold)();
    let load = as_found(&claim.load);
    let mut lanes = Lanes::new(&load, std::mem::take(tx.cursors), claim.started);
    let (mut may_hold, mut held_bytes) = (HELD, 0);
    let (let_in, mut has_expired) = (tx.let_in.get(), false);
    while let Some((due, turn)) = lanes.next(tx.db, &room)? {
        let memory_left = room.memory_for(rows::priority(due.priority));
        // What ends or holds rows writes as much as what leases them.
        let is_spent = may_hold == 0 || held_bytes >= HELD_BYTES;
        if is_spent && may_be_held(claim, &open, &due.name, memory_left) {
            claimed.more = true;
            break;
        }
        match start(tx, claim, &open, &due, memory_left)? {
            Start::Leased(task, memory) => {
                room.take(task.priority, memory, lanes.load(&due));
                lanes.started(&due, turn, open.weight(&task.name, &task.tags));
                claimed.tasks.push(*task);
            }
            Start::Held(bytes) => {
                held_bytes += bytes;
                may_hold -= 1;
                lanes.left(&due, turn);
            }
            Start::Expired => {
                has_expired = true;
                may_hold -= 1;
                lanes.left(&due, turn);
            }
            Start::TooLarge => {
                // The longest due is not passed over: what is left of the memory is kept for it, and for what is urgent.
                if turn == Pick::LongestDue {
                    room.keep_the_rest();
                }
                lanes.is_too_large(&due, turn);
            }
        }
    }
    (*tx.cursors, claimed.started) = lanes.end();
    // Who was let in meanwhile, and what follows what has expired, may stand before the rows that were read.
    claimed.more |= has_expired || tx.let_in.get() != let_in;
    (claim.give_back)(room.slots, room.memory);
    let waits = lanes::waits(tx.db, &claim.load, false)?;
    (claimed.waiting, claimed.waits_for_processor) = (waits.for_slot, waits.for_processor);
    tx.crowded.set(claimed.waiting);
    claimed.more |= room.slots == 0 && claimed.waiting;
    claimed.next_due = tx
        .db
        .prepare_cached("SELECT MIN(due_at) FROM task INDEXED BY task_by_time WHERE queue < 3 AND queue = 0")
        .and_then(|mut s| s.query_row([], |row| row.get::<_, Option<i64>>(0)))
        .failed()?
        .map(from_micros);
    claimed.next_due = claimed.next_due.into_iter().chain(buckets::next_token(tx, open.limits())?).min();
    Ok(claimed)
}

/// What attempts of a name are known to do, the same during one claim: what is learnt meanwhile would move a row to the other lane while
/// it is being started.
fn as_found(load: &LoadOf) -> LoadOf {
    let (load, found) = (load.clone(), Mutex::new(HashMap::new()));
    Arc::new(move |name| {
        let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
        *found.entry(name.to_owned()).or_insert_with(|| load(name))
    })
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
               (SELECT seq FROM task INDEXED BY task_by_time WHERE queue < 3 AND queue = 0 AND due_at <= ?1 ORDER BY due_at, id LIMIT ?2)",
        )
        .and_then(|mut s| s.execute(params![micros(now), PROMOTED]))
        .failed()?;
    Ok(promoted as i64 == PROMOTED)
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
        give_up(tx, due.seq, HANDLER_MISSING, &Hold::Handler.key(&due.name, ""))?;
        return Ok(Start::Held(0));
    };
    if let Some(paused) = open.paused(&due.name) {
        give_up(tx, due.seq, &paused.why, &paused.key)?;
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
fn give_up(tx: &Tx<'_>, seq: i64, why: &str, key: &str) -> Result<()> {
    hold(tx, seq, why, key)?;
    let id = tx
        .db
        .prepare_cached("SELECT id FROM task WHERE seq = ?1")
        .and_then(|mut s| s.query_row([seq], |row| row.get(0)))
        .failed()?;
    places::leave(tx, TaskId::from_bytes(id), true)
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

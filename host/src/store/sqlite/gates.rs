//! What may not start although it is due: the queue or a task name is paused, or a limit is full.
//!
//! Such a row is held until what it waits for is free. [`thaw`] offers what an operator's word freed, who leaves a place lets the next one
//! in, and [`sweep`] is the slow fallback for both.

use super::Failed;
use super::buckets;
use super::held;
use super::limits;
use super::places;
use super::writer::Tx;
use crate::model::Time;
use crate::model::hold::Hold;
use crate::model::ids::TaskId;
use crate::model::limit::{Bucket, Limit, Need, Rate, needs};
use crate::model::task::Task;
use crate::store::{Handled, Handlers, Result, Swept};
use rusqlite::Connection;
use std::collections::HashSet;
use std::sync::Arc;

/// Keys that one sweep looks at, at most.
const SWEPT: usize = 500;

/// The writer's copy of what is paused and limited.
#[derive(Debug, Default)]
pub(super) struct Gates {
    /// Whether nothing may start.
    pub(super) closed: bool,
    paused: HashSet<String>,
    limits: Vec<Limit>,
    /// Where the keys begin whose held rows are to be offered again.
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
        limits: limits::limits(db)?,
        thaw: text("SELECT key FROM thaw")?,
    })
}

impl Gates {
    /// Whether a task passes without a closer look.
    pub(super) fn are_open(&self, name: &str, tags: &[String], handled: &Handled) -> bool {
        let is_limited = || self.limits.iter().any(|limit| limit.matches(name, tags));
        !self.closed && handled.max_running.is_none() && !self.paused.contains(name) && !is_limited()
    }

    /// Whether a task that ends may have been given a place while it ran: one that is limited by more than its definition.
    pub(super) fn has_limits(&self) -> bool {
        !self.limits.is_empty()
    }

    /// All limits.
    pub(super) fn limits(&self) -> &[Limit] {
        &self.limits
    }

    /// What holds tasks of this name whatever else they are.
    pub(super) fn paused(&self, name: &str) -> Option<Closed> {
        self.paused.contains(name).then(|| Closed {
            why: "paused".into(),
            key: Hold::Pause.key(name, ""),
            at: None,
        })
    }

    /// How many turns in a row the fairness key of a task has: the most that a limit which matches it says.
    pub(super) fn weight(&self, name: &str, tags: &[String]) -> u32 {
        let matching = self
            .limits
            .iter()
            .filter(|limit| limit.weight.is_some() && limit.matches(name, tags));
        matching.filter_map(|limit| limit.weight).max().unwrap_or(1)
    }

    /// Whether any task of this name may be held: then its row is looked at before it is leased.
    pub(super) fn concern(&self, name: &str, handled: &Handled) -> bool {
        let of_name = |limit: &Limit| limit.task_name.as_ref().is_none_or(|wanted| wanted == name);
        handled.max_running.is_some() || self.paused.contains(name) || self.limits.iter().any(of_name)
    }
}

/// Why a row is held, and what it waits for: see [`held::hold`].
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
pub(super) fn look(tx: &Tx<'_>, gates: &Gates, task: &Task, handled: &Handled, now: Time) -> Result<Look> {
    let mut taken = Taken::default();
    if !gates.concern(&task.name, handled) {
        return Ok(Ok(taken));
    }
    let matching = gates.limits.iter().filter(|limit| limit.matches(&task.name, &task.tags));
    for need in needs(matching, &task.name, &task.payload, handled.max_running) {
        if let Some(closed) = look_at(tx.db, need, task.id, now, &mut taken)? {
            return Ok(Err((closed, taken)));
        }
    }
    Ok(Ok(taken))
}

/// Adds what a task would take, or says what holds it there.
fn look_at(db: &Connection, need: Need, task: TaskId, now: Time, taken: &mut Taken) -> Result<Option<Closed>> {
    match need {
        Need::Token { key, .. } if places::has(db, &key, task)? => Ok(None), // it has its token
        Need::Token { key, rate, why } => {
            let (bucket, is_awaited) = buckets::read(db, &key, rate, now)?;
            let Some(left) = bucket.take().filter(|_| !is_awaited) else {
                let at = Some(bucket.next(rate));
                return Ok(Some(Closed { why, key, at }));
            };
            taken.tokens.push((key, left));
            Ok(None)
        }
        Need::Place { key, max, why } if places::is_full(db, &key, task, max)? => Ok(Some(Closed { why, key, at: None })),
        Need::Place { key, .. } => {
            taken.places.push(key);
            Ok(None)
        }
    }
}

/// Takes what was found free. Returns whether it took a place.
pub(super) fn take(tx: &Tx<'_>, id: TaskId, taken: &Taken) -> Result<bool> {
    for (key, bucket) in &taken.tokens {
        buckets::keep(tx, key, *bucket)?;
        places::put(tx, key, id)?;
    }
    for key in &taken.places {
        places::put(tx, key, id)?;
    }
    Ok(!taken.places.is_empty() || !taken.tokens.is_empty())
}

/// Leaves the places that a task was given and cannot use yet: those that come after what it is held by in the order in which all take
/// them, and that of what holds it, which has fewer than when the place was given.
pub(super) fn leave_rest(tx: &Tx<'_>, id: TaskId, closed: &Closed, taken: &Taken) -> Result<()> {
    for key in places::of(tx.db, id)? {
        if Hold::Rate.has(&key) || taken.places.contains(&key) {
            continue;
        }
        places::remove(tx, &key, id)?;
        if key != closed.key {
            places::let_in(tx, &key, 1)?;
        }
    }
    Ok(())
}

/// Has who is held for want of a token looked at when there is one.
pub(super) fn wait(tx: &Tx<'_>, closed: &Closed) -> Result<()> {
    closed.at.map_or(Ok(()), |at| buckets::wait(tx, &closed.key, at))
}

/// Offers again what is held under keys that are free now, and what a refilled bucket lets start. Returns whether there is more of it.
pub(super) fn thaw(tx: &mut Tx<'_>, gates: &Gates, now: Time) -> Result<bool> {
    let more = buckets::refill(tx, &gates.limits, now)?;
    let Some(key) = gates.thaw.first() else { return Ok(more) };
    if !held::thaw(tx, key)? {
        limits::thawed(tx, key)?;
    }
    Ok(true)
}

/// Looks through some of what may have been forgotten, from where the last look ended: who is held and has room, tasks that are unique no
/// more, full buckets. Returns where to go on.
pub(super) fn sweep(tx: &mut Tx<'_>, handlers: &Handlers, mut after: Swept, now: Time) -> Result<Swept> {
    let gates = gates(tx)?;
    after.held_key = sweep_held(tx, &gates, handlers, after.held_key, now)?;
    after.bucket = buckets::sweep(tx, after.bucket, now)?;
    after.unique = super::once::tidy(tx, after.unique, now)?;
    Ok(after)
}

fn sweep_held(tx: &Tx<'_>, gates: &Gates, handlers: &Handlers, mut key: String, now: Time) -> Result<String> {
    let mut left = held::RELEASED;
    for _ in 0..SWEPT {
        let Some(next) = held::key_after(tx.db, &key)? else {
            return Ok(String::new());
        };
        let Some((hold, name)) = Hold::of(&next) else {
            key = next;
            continue;
        };
        let of_limit = || gates.limits.iter().find(|limit| limit.name == name);
        let room = match hold {
            Hold::Definition => Room::of(handlers.get(name).and_then(|handled| handled.max_running)),
            Hold::Limit => Room::of(of_limit().and_then(|limit| limit.max_running)),
            Hold::Rate => of_limit().and_then(|limit| limit.rate).map_or(Room::All, Room::At),
            Hold::Pause if gates.paused.contains(name) => Room::None,
            Hold::Pause => Room::All,
            // What waits for these is let in by them: there may be many keys.
            Hold::Handler | Hold::Schedule | Hold::Needs => {
                key = hold.beyond();
                continue;
            }
        };
        match room {
            Room::None => {}
            Room::Places(max) => left -= places::let_in(tx, &next, places::free(tx.db, &next, max)?.min(left))?,
            Room::At(rate) => buckets::wait_anew(tx, &next, rate, now)?,
            Room::All => left -= held::release_key(tx, &next, left)?,
        }
        if left == 0 {
            return Ok(key);
        }
        key = next;
    }
    Ok(key)
}

/// How many of those that wait under a key may be let in.
enum Room {
    None,
    /// As many as there are places free.
    Places(u32),
    /// Those whose tokens have come; they are let in when they have.
    At(Rate),
    /// Nothing holds them any more.
    All,
}

impl Room {
    fn of(max: Option<u32>) -> Self {
        max.map_or(Self::All, Self::Places)
    }
}

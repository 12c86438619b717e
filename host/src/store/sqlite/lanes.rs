//! Due tasks in two lanes: those that are expected to burn wait for a processor, and all others for nothing but a slot.
//!
//! In each lane what starts next is chosen by `model::priority::pick`: the most urgent, turn by turn of their fairness keys, but every 16th
//! time the one that has been due longest. So neither lane is in the other's way, however much waits in it.

use super::Failed;
use super::ring::{Cursor, Due, Ring};
use crate::model::priority::{Pick, Priority, pick};
use crate::model::room::{Load, Room};
use crate::store::{LoadOf, Result};
use rusqlite::{Connection, OptionalExtension, params};
use std::collections::HashMap;

/// Rows that have been due longest, of which one may be of the lane that looks for its own.
const FRONT: usize = 32;
/// Pairs of priority and name that are looked through for one of a lane; whoever has more has some of each.
const LOOKED_AT: usize = 256;

/// Whose turn it was last, by lane and priority.
pub(super) type Cursors = HashMap<(bool, i64), Cursor>;

pub(super) const NEXT_NAME: &str = "SELECT priority, name FROM task INDEXED BY task_due
     WHERE queue = 1 AND (priority, name) > (?1, ?2) ORDER BY priority, name LIMIT 1";
pub(super) const LONGEST_DUE: &str = "SELECT seq, name, priority, fair, due_at FROM task INDEXED BY task_by_time
     WHERE queue < 3 AND queue = 1 ORDER BY due_at, id LIMIT ?1";

/// The first due priority and name after these: a leap over all that has them.
fn next_name(db: &Connection, priority: i64, name: &str) -> Result<Option<(i64, String)>> {
    db.prepare_cached(NEXT_NAME)
        .and_then(|mut s| {
            s.query_row(params![priority, name], |row| Ok((row.get(0)?, row.get(1)?)))
                .optional()
        })
        .failed()
}

/// What is due and waits.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Waits {
    /// Whether anything waits for nothing but a slot.
    pub(super) for_slot: bool,
    /// The most urgent that waits for a processor.
    pub(super) for_processor: Option<Priority>,
}

/// Looks through what is due for what is in each lane; only for the first where the second does not matter.
pub(super) fn waits(db: &Connection, load: &LoadOf, only_for_slots: bool) -> Result<Waits> {
    let mut waits = Waits::default();
    let mut after = (0, String::new());
    for _ in 0..LOOKED_AT {
        let Some((priority, name)) = next_name(db, after.0, &after.1)? else {
            return Ok(waits);
        };
        if load(&name) != Load::Burns {
            waits.for_slot = true;
        } else if waits.for_processor.is_none() {
            waits.for_processor = Priority::new(priority);
        }
        if waits.for_slot && (only_for_slots || waits.for_processor.is_some()) {
            return Ok(waits);
        }
        after = (priority, name);
    }
    waits.for_slot = true;
    Ok(waits)
}

/// Both lanes, during one claim.
pub(super) struct Lanes<'a> {
    load: &'a LoadOf,
    cursors: Cursors,
    lanes: [Lane; 2],
}

struct Lane {
    burns: bool,
    /// Starts before, for the one-in-16 rule.
    started: u64,
    /// The rings opened so far, by priority.
    rings: Vec<Ring>,
    /// The first due priority and name that has not been looked at.
    after: (i64, String),
    /// Which of the rings is at turn.
    at: usize,
    /// What was looked at and not taken.
    peeked: Option<(Due, Pick)>,
    /// Whether nobody is taken out of turn in this claim any more.
    keeps_turns: bool,
}

impl<'a> Lanes<'a> {
    /// Both lanes, from where `cursors` say; so many of each were started before.
    pub(super) fn new(load: &'a LoadOf, cursors: Cursors, started: [u64; 2]) -> Self {
        let lane = |burns: bool| Lane {
            burns,
            started: started[usize::from(burns)],
            rings: Vec::new(),
            after: (0, String::new()),
            at: 0,
            peeked: None,
            keeps_turns: false,
        };
        Self {
            load,
            cursors,
            lanes: [lane(false), lane(true)],
        }
    }

    /// The row that starts next and finds room, and how it was chosen. It stays the next until it is said what became of it.
    pub(super) fn next(&mut self, db: &Connection, room: &Room) -> Result<Option<(Due, Pick)>> {
        let mut first: Option<(Due, Pick)> = None;
        for lane in &mut self.lanes {
            let Some((due, turn)) = lane.peek(db, self.load, &mut self.cursors, room)? else {
                continue;
            };
            let order = |due: &Due, turn: Pick| (turn != Pick::LongestDue, due.priority, due.due_at);
            if first.as_ref().is_none_or(|(other, of)| order(&due, turn) < order(other, *of)) {
                first = Some((due, turn));
            }
        }
        Ok(first)
    }

    /// What attempts of a row's name are known to do.
    pub(super) fn load(&self, due: &Due) -> Load {
        (self.load)(&due.name)
    }

    fn lane(&mut self, due: &Due) -> (&mut Lane, &mut Cursors) {
        let burns = self.load(due) == Load::Burns;
        (&mut self.lanes[usize::from(burns)], &mut self.cursors)
    }

    /// It was started; its key has so many turns in a row.
    pub(super) fn started(&mut self, due: &Due, turn: Pick, weight: u32) {
        let (lane, cursors) = self.lane(due);
        lane.started += 1;
        lane.left(due, turn, Some(weight), cursors);
    }

    /// It is due no more, and was not started.
    pub(super) fn left(&mut self, due: &Due, turn: Pick) {
        let (lane, cursors) = self.lane(due);
        lane.left(due, turn, None, cursors);
    }

    /// It finds no memory: no other of its name and priority would.
    pub(super) fn is_too_large(&mut self, due: &Due, turn: Pick) {
        let (lane, _) = self.lane(due);
        lane.peeked = None;
        match turn {
            Pick::LongestDue => lane.keeps_turns = true,
            Pick::MostUrgent => lane.ring(due.priority).into_iter().for_each(|ring| ring.pass_over(&due.name)),
        }
    }

    /// Whose turn it was last, and how many were started of each lane.
    pub(super) fn end(self) -> (Cursors, [u64; 2]) {
        (self.cursors, self.lanes.map(|lane| lane.started))
    }
}

impl Lane {
    fn peek(&mut self, db: &Connection, load: &LoadOf, cursors: &mut Cursors, room: &Room) -> Result<Option<(Due, Pick)>> {
        let fits = |due: &Due| Priority::new(due.priority).is_some_and(|priority| room.fits(priority, load(&due.name)));
        if let Some((due, turn)) = &self.peeked
            && fits(due)
        {
            return Ok(Some((due.clone(), *turn)));
        }
        if self.peeked.take().is_some_and(|(_, turn)| turn == Pick::LongestDue) {
            self.keeps_turns = true;
        }
        if pick(self.started) == Pick::LongestDue && !self.keeps_turns {
            self.peeked = self.longest_due(db, load, cursors)?.map(|due| (due, Pick::LongestDue));
            if let Some((due, turn)) = &self.peeked
                && fits(due)
            {
                return Ok(Some((due.clone(), *turn)));
            }
            self.keeps_turns = true;
        }
        while let Some(due) = self.most_urgent(db, load, cursors, room.slots)? {
            let finds_a_slot = Priority::new(due.priority).is_some_and(|priority| room.has_slot(priority));
            if finds_a_slot && load(&due.name) == Load::New && room.new == 0 {
                self.ring(due.priority).into_iter().for_each(|ring| ring.pass_over(&due.name));
                continue;
            }
            // Who is less urgent finds no more room than who is more so.
            let found = fits(&due);
            self.peeked = Some((due, Pick::MostUrgent));
            return Ok(self.peeked.clone().filter(|_| found));
        }
        Ok(None)
    }

    fn most_urgent(&mut self, db: &Connection, load: &LoadOf, cursors: &mut Cursors, left: usize) -> Result<Option<Due>> {
        loop {
            while let Some(ring) = self.rings.get_mut(self.at) {
                let cursor = cursors.entry((self.burns, ring.priority())).or_default();
                if let Some(due) = ring.peek(db, cursor, left)? {
                    return Ok(Some(due));
                }
                self.at += 1;
            }
            if !self.open(db, load, cursors)? {
                return Ok(None);
            }
        }
    }

    /// Opens the ring of the next priority of which something is due. False where there is none.
    fn open(&mut self, db: &Connection, load: &LoadOf, cursors: &mut Cursors) -> Result<bool> {
        let Some((priority, mut name)) = next_name(db, self.after.0, &self.after.1)? else {
            return Ok(false);
        };
        let mut names = Vec::new();
        loop {
            if (load(&name) == Load::Burns) == self.burns {
                names.push(name.clone());
            }
            let next = next_name(db, priority, &name)?;
            self.after = (priority, name);
            match next {
                Some((same, next)) if same == priority => name = next,
                _ => break,
            }
        }
        let cursor = cursors.entry((self.burns, priority)).or_default();
        self.rings.push(Ring::open(db, priority, names, cursor)?);
        Ok(true)
    }

    /// The row of this lane that has been due longest. Where very many of the other stand before it, the longest due of those whose turn
    /// it is, one a priority.
    fn longest_due(&mut self, db: &Connection, load: &LoadOf, cursors: &mut Cursors) -> Result<Option<Due>> {
        let mut query = db.prepare_cached(LONGEST_DUE).failed()?;
        let mut rows = query.query([FRONT as i64]).failed()?;
        let mut seen = 0;
        while let Some(row) = rows.next().failed()? {
            let read = || {
                Ok(Due {
                    seq: row.get(0)?,
                    name: row.get(1)?,
                    priority: row.get(2)?,
                    fair: row.get(3)?,
                    due_at: row.get(4)?,
                })
            };
            let due = read().failed()?;
            if (load(&due.name) == Load::Burns) == self.burns {
                return Ok(Some(due));
            }
            seen += 1;
        }
        if seen < FRONT {
            return Ok(None);
        }
        while self.open(db, load, cursors)? {}
        let mut longest: Option<Due> = None;
        for ring in &mut self.rings {
            let cursor = cursors.entry((self.burns, ring.priority())).or_default();
            let head = ring.peek(db, cursor, 1)?;
            longest = longest.into_iter().chain(head).min_by_key(|due| due.due_at);
        }
        Ok(longest)
    }

    fn ring(&mut self, priority: i64) -> Option<&mut Ring> {
        self.rings.iter_mut().find(|ring| ring.priority() == priority)
    }

    /// A row is due no more; where it was started, its key has so many turns.
    fn left(&mut self, due: &Due, turn: Pick, weight: Option<u32>, cursors: &mut Cursors) {
        self.peeked = None;
        let cursor = cursors.entry((self.burns, due.priority)).or_default();
        match turn {
            Pick::LongestDue => {
                if weight.is_some() {
                    cursor.owes(due.fair);
                }
                self.ring(due.priority).into_iter().for_each(|ring| ring.forget(due.seq));
            }
            Pick::MostUrgent => {
                if let Some(ring) = self.ring(due.priority) {
                    ring.took(due, weight, cursor);
                }
            }
        }
    }
}

//! In which order the due tasks of one priority start: turn by turn of their fairness keys, and within one key by time.
//!
//! The keys stand in a ring, and a cursor tells whose turn it was last. Nothing is written for it: whose turn is next is a leap through the
//! index, whatever the number of tasks and keys. Names stand before keys in that index, so that tasks whose name cannot start now cost
//! nothing, however many they are.

use super::Failed;
use crate::store::Result;
use rusqlite::{Connection, OptionalExtension, Row, params};
use std::collections::{HashMap, VecDeque};

/// Keys that are owed turns which they had out of their turn, remembered at most.
const MOST_DEBTS: usize = 4_096;

/// A due row as claiming sees it.
#[derive(Clone, Debug)]
pub(super) struct Due {
    pub(super) seq: i64,
    pub(super) name: String,
    pub(super) priority: i64,
    pub(super) fair: i64,
    pub(super) due_at: i64,
}

/// Whose turn it was last in one ring.
#[derive(Clone, Debug, Default)]
pub(super) struct Cursor {
    key: i64,
    /// How many turns that key has had in a row, where it has more to come.
    had: u32,
    /// Turns that a key had out of its turn: it is passed over as often.
    debts: HashMap<i64, u32>,
}

impl Cursor {
    /// Counts a start out of turn.
    pub(super) fn owes(&mut self, key: i64) {
        if self.debts.len() < MOST_DEBTS || self.debts.contains_key(&key) {
            *self.debts.entry(key).or_default() += 1;
        }
    }
}

pub(super) const NEXT_KEY: &str =
    "SELECT fair FROM task INDEXED BY task_due WHERE queue = 1 AND priority = ?1 AND name = ?2 AND fair > ?3 ORDER BY fair LIMIT 1";
pub(super) const FIRST_ROWS: &str = "SELECT seq, due_at FROM task INDEXED BY task_due
     WHERE queue = 1 AND priority = ?1 AND name = ?2 AND fair = ?3 ORDER BY due_at, seq LIMIT ?4";

fn next_key(db: &Connection, priority: i64, name: &str, after: i64) -> Result<Option<i64>> {
    db.prepare_cached(NEXT_KEY)
        .and_then(|mut s| s.query_row(params![priority, name, after], |row| row.get(0)).optional())
        .failed()
}

/// The due tasks of one priority, as far as their names may start.
pub(super) struct Ring {
    priority: i64,
    names: Vec<Name>,
    /// Those found so far, in the order of the ring, and which of them is at turn.
    keys: Vec<Key>,
    at: usize,
    /// Up to which key the ring goes once it has begun anew; with that it is whole.
    end: i64,
    begun_anew: bool,
    is_whole: bool,
}

struct Name {
    name: String,
    /// Its next key that has not been found yet.
    next: Option<i64>,
    is_passed_over: bool,
}

/// What is due under one key.
struct Key {
    key: i64,
    /// By name, as far as it was read.
    parts: Vec<(usize, VecDeque<(i64, i64)>)>,
    /// Starts in this turn.
    had: u32,
}

impl Ring {
    /// What is due of a priority and these names, from the key after the cursor's on.
    pub(super) fn open(db: &Connection, priority: i64, names: Vec<String>, cursor: &Cursor) -> Result<Self> {
        let is_at_turn = cursor.had > 0;
        let end = if is_at_turn { cursor.key - 1 } else { cursor.key };
        let mut ring = Self {
            priority,
            names: Vec::with_capacity(names.len()),
            keys: Vec::new(),
            at: 0,
            end,
            begun_anew: false,
            is_whole: false,
        };
        for name in names {
            let next = next_key(db, priority, &name, end)?;
            ring.names.push(Name {
                name,
                next,
                is_passed_over: false,
            });
        }
        if ring.find(db)? && is_at_turn && ring.keys[0].key == cursor.key {
            ring.keys[0].had = cursor.had;
        }
        Ok(ring)
    }

    /// Of what priority it is.
    pub(super) fn priority(&self) -> i64 {
        self.priority
    }

    /// The row whose turn it is; `left` says how many may be taken at most. It stays at turn until it is started, or leaves the due tasks.
    pub(super) fn peek(&mut self, db: &Connection, cursor: &mut Cursor, left: usize) -> Result<Option<Due>> {
        loop {
            if self.at == self.keys.len() {
                if self.keys.is_empty() && self.is_whole {
                    return Ok(None);
                }
                if self.is_whole || !self.find(db)? {
                    self.at = 0;
                    continue;
                }
            }
            let is_alone = self.is_whole && self.keys.len() == 1;
            let ahead = if self.is_whole { left.div_ceil(self.keys.len()) } else { 1 };
            if !is_alone && self.keys[self.at].had == 0 && self.pays(cursor) {
                self.at += 1;
                continue;
            }
            if let Some(due) = self.first(db, ahead.max(1))? {
                return Ok(Some(due));
            }
            self.keys.remove(self.at);
        }
    }

    /// Whether the key at turn has had this turn before: then it counts as had now, whether or not anybody is started after it.
    fn pays(&self, cursor: &mut Cursor) -> bool {
        let key = self.keys[self.at].key;
        let Some(debt) = cursor.debts.get_mut(&key) else { return false };
        *debt -= 1;
        if *debt == 0 {
            cursor.debts.remove(&key);
        }
        (cursor.key, cursor.had) = (key, 0);
        true
    }

    /// Finds the next key of the ring. False where all are found.
    fn find(&mut self, db: &Connection) -> Result<bool> {
        loop {
            let open = self.names.iter().filter(|name| !name.is_passed_over);
            let next = open.filter_map(|name| name.next).min();
            let next = next.filter(|key| !self.begun_anew || *key <= self.end);
            if let Some(key) = next {
                let mut parts = Vec::new();
                for (place, name) in self.names.iter_mut().enumerate().filter(|(_, name)| name.next == Some(key)) {
                    parts.push((place, VecDeque::new()));
                    name.next = next_key(db, self.priority, &name.name, key)?;
                }
                self.keys.push(Key { key, parts, had: 0 });
                return Ok(true);
            }
            if self.begun_anew {
                self.is_whole = true;
                return Ok(false);
            }
            self.begun_anew = true;
            for name in &mut self.names {
                name.next = next_key(db, self.priority, &name.name, i64::MIN)?;
            }
        }
    }

    /// The first row of the key at turn. Rows that were given out before have left the due tasks, or their name is passed over.
    fn first(&mut self, db: &Connection, ahead: usize) -> Result<Option<Due>> {
        let Key { key, parts, .. } = &mut self.keys[self.at];
        let mut first: Option<Due> = None;
        for (place, rows) in parts {
            let name = &self.names[*place];
            if name.is_passed_over {
                continue;
            }
            if rows.is_empty() {
                let read = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?));
                let limit = i64::try_from(ahead).unwrap_or(i64::MAX);
                let mut query = db.prepare_cached(FIRST_ROWS).failed()?;
                let found = query.query_map(params![self.priority, name.name, *key, limit], read);
                *rows = found.and_then(Iterator::collect).failed()?;
            }
            let Some((seq, due_at)) = rows.front() else { continue };
            if first.as_ref().is_none_or(|first| (*due_at, *seq) < (first.due_at, first.seq)) {
                first = Some(Due {
                    seq: *seq,
                    name: name.name.clone(),
                    priority: self.priority,
                    fair: *key,
                    due_at: *due_at,
                });
            }
        }
        Ok(first)
    }

    /// The row at turn has left the due tasks; where it was started, its key has had one of so many turns.
    pub(super) fn took(&mut self, due: &Due, of: Option<u32>, cursor: &mut Cursor) {
        let Some(key) = self.keys.get_mut(self.at) else { return };
        for (_, rows) in &mut key.parts {
            rows.pop_front_if(|(seq, _)| *seq == due.seq);
        }
        let Some(weight) = of else { return };
        key.had += 1;
        (cursor.key, cursor.had) = (key.key, key.had);
        if key.had >= weight {
            (key.had, cursor.had) = (0, 0);
            self.at += 1;
        }
    }

    /// A row has left the due tasks out of its turn.
    pub(super) fn forget(&mut self, seq: i64) {
        for (_, rows) in self.keys.iter_mut().flat_map(|key| &mut key.parts) {
            rows.retain(|(other, _)| *other != seq);
        }
    }

    /// Gives out no more rows of a name.
    pub(super) fn pass_over(&mut self, name: &str) {
        for other in self.names.iter_mut().filter(|other| other.name == name) {
            other.is_passed_over = true;
        }
    }
}

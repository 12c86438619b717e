//! What is kept of what has ended, how much that is, and how far the forgetting of it has come: a walk in small pieces, which never
//! begins anew at what it has to leave.

use crate::model::Time;
use crate::model::ids::TaskId;
use std::collections::BTreeMap;

/// What is to be kept. Whatever it says, the newest ended task of each schedule stays, and so do tasks that have not ended and the steps of
/// a workflow that is kept.
#[derive(Clone, Debug)]
pub struct Keep {
    /// What ended before this may go,
    pub before: Time,
    /// but not the last so many tasks that ended.
    pub newest: u64,
    /// Of all together. Beyond it the oldest goes, whatever else is said of it.
    pub bytes: u64,
    /// Task names of which something else is said.
    pub by_name: BTreeMap<String, KeepOf>,
}

/// What is to be kept of one task name.
#[derive(Clone, Copy, Debug)]
pub struct KeepOf {
    /// As of [`Keep`].
    pub before: Time,
    /// But not so many of the newest of this name; where left out, as of [`Keep`].
    pub newest: Option<u64>,
    /// Of the ended tasks of this name with their logs and attempts. Beyond it the oldest of them goes.
    pub bytes: Option<u64>,
}

impl Keep {
    /// All that is younger, and so many of the newest tasks, whatever their size.
    pub fn of(before: Time, newest: u64) -> Self {
        Self {
            before,
            newest,
            bytes: u64::MAX,
            by_name: BTreeMap::new(),
        }
    }

    /// What is to be kept of a task name.
    pub fn of_name(&self, name: &str) -> KeepOf {
        self.by_name.get(name).copied().unwrap_or(KeepOf {
            before: self.before,
            newest: None,
            bytes: None,
        })
    }
}

/// How many there are of something, and about how many bytes they take on the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    /// So many.
    pub count: u64,
    /// Of all of them.
    pub bytes: u64,
}

impl Sum {
    /// One more, of so many bytes.
    pub fn add(&mut self, bytes: u64) {
        self.count += 1;
        self.bytes += bytes;
    }
}

/// How much is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Ended tasks: payloads, results, failures.
    pub tasks: Sum,
    /// Attempts after which their task went on.
    pub attempts: Sum,
    /// Pieces of logs.
    pub logs: Sum,
    /// Checkpoints of tasks that have not ended.
    pub checkpoints: Sum,
    /// Events.
    pub events: Sum,
    /// By task name: its ended tasks, and the bytes of these and of all logs and attempts of the name.
    pub by_name: BTreeMap<String, Sum>,
    /// When the first of the ended tasks that are kept ended.
    pub oldest_ended_at: Option<Time>,
    /// When the first event that is kept came.
    pub oldest_event_at: Option<Time>,
}

impl Kept {
    /// All together.
    pub fn bytes(&self) -> u64 {
        [self.tasks, self.attempts, self.logs, self.checkpoints, self.events]
            .map(|sum| sum.bytes)
            .iter()
            .sum()
    }

    /// Whether it is more than some bound on bytes allows.
    pub fn is_over(&self, keep: &Keep) -> bool {
        let is_name_over = |(name, of): (&String, &KeepOf)| {
            let kept = self.by_name.get(name).map_or(0, |sum| sum.bytes);
            of.bytes.is_some_and(|bytes| kept > bytes)
        };
        self.bytes() > keep.bytes || keep.by_name.iter().any(is_name_over)
    }
}

/// What would be forgotten, as far as one look shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outdated {
    /// Ended tasks with their logs and attempts, by name.
    pub by_name: BTreeMap<String, Sum>,
    /// Events.
    pub events: Sum,
    /// Workflows; their tasks are among those above.
    pub workflows: u64,
    /// Whether there may be more.
    pub at_least: bool,
}

/// What one piece of forgetting did.
#[derive(Clone, Debug)]
pub struct Pruned {
    /// The greatest of the counts of what was forgotten.
    pub most: u64,
    /// Where the next piece goes on; none at the end of the walk.
    pub after: Option<Place>,
}

impl Pruned {
    /// Whether a walk has come to its end and nothing was left to forget in this piece of it.
    pub fn is_all(&self) -> bool {
        self.most == 0 && self.after.is_none()
    }
}

/// A place in the walk: first name by name, the oldest of each first, for what is too old or too much of its name; then the oldest of all,
/// for what is too much of all.
#[derive(Clone, Debug)]
pub enum Place {
    /// Among the ended tasks of a name.
    Name {
        /// Which.
        name: String,
        /// The last task that was looked at.
        after: EndedAt,
        /// How many of its tasks before here stay.
        stay: u64,
    },
    /// Among all ended tasks.
    All {
        /// The last task that was looked at.
        after: EndedAt,
    },
}

/// When a task ended, and which: the order in which they are walked.
pub type EndedAt = (Time, TaskId);

//! What is claimed, run and settled, and what is seen of what waits.

use crate::model::Time;
use crate::model::alert::NewAlert;
use crate::model::attempt::{LogLine, Outcome, Progress, Usage};
use crate::model::hold::Hold;
use crate::model::ids::{NodeId, TaskId};
use crate::model::outbox::Outbox;
use crate::model::priority::Priority;
use crate::model::retry::{Counters, Next};
use crate::model::room::{Load, Room};
use crate::model::task::{Task, Ties};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// What the timers of tasks came to.
#[derive(Clone, Debug, Default)]
pub struct Rung {
    /// How many tasks ended, since they had not begun in time.
    pub expired: usize,
    /// When the next timer rings.
    pub next: Option<Time>,
}

/// Where a sweep goes on: the keys after these.
#[derive(Clone, Debug, Default)]
pub struct Swept {
    /// Under which tasks are held.
    pub held_key: String,
    /// Of rates.
    pub bucket: String,
    /// Of unique tasks.
    pub unique: Vec<u8>,
}

/// What a waiting task waits for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    /// What holds it.
    pub held_by: Option<Hold>,
    /// Of a task that a rate holds: when the next one of those may start.
    pub release_at: Option<Time>,
    /// Of a due task that nothing holds: how many go before it, counted up to [`COUNTED`].
    pub ahead: Option<u64>,
}

/// What waits and runs. Each number is counted up to [`COUNTED`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Queue {
    /// Due and held by nothing, by priority from 1.
    pub due: [u64; 9],
    /// Not yet due.
    pub scheduled: u64,
    /// Due, but held.
    pub held: u64,
    /// Running.
    pub running: u64,
    /// Since when the longest due has been, of those that nothing holds.
    pub oldest_due_at: Option<Time>,
    /// The same of those that something holds.
    pub oldest_held_at: Option<Time>,
    /// Held tasks, by what holds them.
    pub held_by: Vec<(Hold, u64)>,
    /// Of the first [`COUNTED`] that are due and held by nothing: how many of each task name, at most [`MOST_NAMES`], the most frequent first.
    pub due_by_task: Vec<(String, u64)>,
}

/// Task names by which waiting tasks are counted.
pub const MOST_NAMES: usize = 100;

/// How far waiting tasks are counted: who has more has many.
pub const COUNTED: u64 = 10_000;

/// What claiming needs to know of a task name that this node can run.
#[derive(Clone, Debug, PartialEq)]
pub struct Handled {
    /// Memory cap of an attempt, in bytes.
    pub memory: u64,
    /// The definition's, for tasks that do not say.
    pub idempotent: bool,
    /// Attempts that may run at once.
    pub max_running: Option<u32>,
    /// The plugin that will run it.
    pub plugin: Arc<str>,
    /// `sha256:…` of its component.
    pub plugin_digest: Arc<str>,
}

/// The task names that a node can run.
pub type Handlers = HashMap<String, Handled>;

/// A place for one task on a node: where nothing else is due, it is leased as it enters, and no claim is needed.
pub struct Offer {
    /// Whose place it is.
    pub node: NodeId,
    /// What will run it.
    pub handled: Handled,
    /// What attempts of a name are known to do.
    pub load: LoadOf,
    /// Holds the place, and says whether there is one. Asked at the last moment, while the task is written: a place that waited for
    /// the commit before would stand empty for as long. Asked again, it says the same.
    pub hold: Box<dyn Fn() -> bool + Send + Sync>,
    /// Told once the task is on disk, whether or not anybody still waits for the answer: it is to be run in the place that was held,
    /// or waits for a claim. Must not block.
    pub kept: Box<dyn Fn(Option<Task>) + Send + Sync>,
}

/// What attempts of a name are known to do.
pub type LoadOf = Arc<dyn Fn(&str) -> Load + Send + Sync>;

/// Takes due tasks for a node: by priority, then turn by turn of their fairness keys, then by time; each 16th the longest due. Those that
/// are expected to burn and find no processor are passed over, and counted by themselves.
/// Due tasks without a handler here are filed as held on the way.
pub struct Claim {
    /// Who will run them.
    pub node: NodeId,
    /// What is due.
    pub now: Time,
    /// How many were started before, for the one-in-16 rule: of those that do not burn, and of those that do.
    pub started: [u64; 2],
    /// What attempts of a name are known to do.
    pub load: LoadOf,
    /// What the node can run.
    pub handlers: Arc<Handlers>,
    /// Holds what is free, and says how much. Asked at the last moment, as [`Offer::hold`] is; asked again, it says what is still held.
    pub hold: Box<dyn Fn() -> Room + Send + Sync>,
    /// Told how many slots and bytes of it were not taken: what enters in the same commit finds them free.
    pub give_back: Box<dyn Fn(usize, u64) + Send + Sync>,
}

/// What a claim found.
#[derive(Debug, Default)]
pub struct Claimed {
    /// Leased to the node, in the order to start them.
    pub tasks: Vec<Task>,
    /// Whether another claim would find more at once.
    pub more: bool,
    /// How many were started now and before, see [`Claim::started`].
    pub started: [u64; 2],
    /// Whether something that is due was left: for want of slots or memory.
    pub waiting: bool,
    /// The most urgent that is due and was left for want of a processor.
    pub waits_for_processor: Option<Priority>,
    /// When the next waiting task becomes due.
    pub next_due: Option<Time>,
}

/// A node's right to settle one attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Lease {
    /// Of this task.
    pub task: TaskId,
    /// This attempt.
    pub attempt: u32,
    /// By this node.
    pub node: NodeId,
}

/// The end of one attempt and the task's next state.
#[derive(Clone, Debug)]
pub struct Settle {
    /// The fence.
    pub lease: Lease,
    /// The task's name.
    pub task_name: String,
    /// Whether the task has tags.
    pub tagged: bool,
    /// Who has to hear of its end.
    pub ties: Ties,
    /// When the guest began; `None` where nobody saw it: the lease has to do.
    pub started_at: Option<Time>,
    /// How it ended.
    pub outcome: Outcome,
    /// What follows, as `model::retry` decided.
    pub next: Next,
    /// When.
    pub now: Time,
    /// Wall time of the guest; `None` where nobody saw it end.
    pub execution_time: Option<Duration>,
    /// Fuel and memory.
    pub usage: Usage,
    /// The last progress said.
    pub progress: Option<Progress>,
    /// Lines not yet kept by [`crate::store::Store::append_log`].
    pub log: Vec<LogLine>,
    /// An alert that the outcome is worth.
    pub alert: Option<NewAlert>,
    /// What the attempt sent; kept only where the outcome is ok.
    pub outbox: Outbox,
}

/// A running attempt whose node is gone.
#[derive(Clone, Debug)]
pub struct Orphan {
    /// The fence under which it is settled.
    pub lease: Lease,
    /// Of the task.
    pub name: String,
    /// What the task has been through.
    pub counters: Counters,
    /// Whether it may be repeated.
    pub idempotent: bool,
    /// Whether it has tags.
    pub tagged: bool,
    /// Who has to hear of its end.
    pub ties: Ties,
    /// When the attempt was due.
    pub due_at: Time,
}

//! The store: the only place where state lives, and every promise that is made about it.
//!
//! - An intention that returned `Ok` is on disk: it survives the death of the process and of the machine.
//! - Each intention is atomic. Many may share one commit; a refused one undoes only itself.
//! - A task's attempt is settled at most once: [`Store::settle`] compares the lease's fence (task, attempt number, node).
//! - A fire of a schedule is stored once: (schedule, fire time) is unique.
//! - Time is an argument. What happens next is decided in `model`; a driver holds SQL and no rule.

mod changes;
mod schedule;
pub mod sqlite;

pub use changes::{Calendars, Change, ScheduleError, change_schedule, read_schedule, replan, rule_of};
pub use schedule::{FireSchedule, Made, MadeFires, MakeFires, PutSchedule};

use crate::model::Time;
use crate::model::alert::{Alert, AlertType, NewAlert};
use crate::model::attempt::{LogLine, Outcome, Progress, Usage};
use crate::model::calendar::Calendar;
use crate::model::ids::{BatchId, EventId, NodeId, ScheduleId, TaskId, TriggerId};
use crate::model::metrics::Metrics;
use crate::model::retry::{Counters, Next};
use crate::model::schedule::{Fire, Schedule};
use crate::model::task::{NewTask, Status, Task, Ties};
use crate::model::trigger::Trigger;
use async_trait::async_trait;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

/// The `[store]` table.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// The folder for the database and all other private files.
    pub data: std::path::PathBuf,
}

impl Options {
    /// What each key means, for `--print-config`.
    pub const COMMENTS: &'static [(&'static str, &'static str)] = &[("data", "The folder for the database and all other private files.")];
}

impl Default for Options {
    fn default() -> Self {
        Self { data: "data".into() }
    }
}

/// Why an intention was not carried out. Nothing of it was kept.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no such thing.
    #[error("not found")]
    NotFound,
    /// Its state does not allow that; the sentence says what it is.
    #[error("{0}")]
    Conflict(String),
    /// Another attempt, node or a cancellation has the task now.
    #[error("the lease on this attempt is gone")]
    LeaseLost,
    /// A cursor that this store never gave out.
    #[error("this cursor is not one that a list returned")]
    BadCursor,
    /// Too much is queued up for the disk; try again soon.
    #[error("the store is busy")]
    Busy,
    /// The disk or database failed.
    #[error("the store failed: {0}")]
    Unavailable(String),
}

/// What every intention returns.
pub type Result<T> = std::result::Result<T, StoreError>;

/// What claiming needs to know of a task name that this node can run.
#[derive(Clone, Debug, PartialEq)]
pub struct Handled {
    /// Memory cap of an attempt, in bytes.
    pub memory: u64,
    /// The definition's, for tasks that do not say.
    pub idempotent: bool,
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
    /// Holds the place, and says whether there is one. Asked at the last moment, while the task is written: a place that waited for
    /// the commit before would stand empty for as long. Asked again, it says the same.
    pub hold: Box<dyn Fn() -> bool + Send + Sync>,
    /// Told once the task is on disk, whether or not anybody still waits for the answer: it is to be run in the place that was held,
    /// or waits for a claim. Must not block.
    pub kept: Box<dyn Fn(Option<Task>) + Send + Sync>,
}

/// What is free on a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Room {
    /// Attempts that may begin.
    pub slots: usize,
    /// Bytes of the memory budget.
    pub memory: u64,
}

/// Takes due tasks for a node: by priority, trigger time and id, each 16th the longest due.
/// Due tasks without a handler here are filed as held on the way.
pub struct Claim {
    /// Who will run them.
    pub node: NodeId,
    /// What is due.
    pub now: Time,
    /// How many were started before, for the one-in-16 rule.
    pub started: u64,
    /// What the node can run.
    pub handlers: Arc<Handlers>,
    /// Holds what is free, and says how much. Asked at the last moment, as [`Offer::hold`] is; asked again, it says what is still held.
    pub hold: Box<dyn Fn() -> Room + Send + Sync>,
    /// Told how much of it was not taken: what enters in the same commit finds it free.
    pub give_back: Box<dyn Fn(Room) + Send + Sync>,
}

/// What a claim found.
#[derive(Debug, Default)]
pub struct Claimed {
    /// Leased to the node, in the order to start them.
    pub tasks: Vec<Task>,
    /// Whether another claim would find more at once.
    pub more: bool,
    /// Whether something that is due was left: for want of slots or memory.
    pub waiting: bool,
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

/// A part of a batch on its way in.
#[derive(Clone, Debug)]
pub struct Stage {
    /// Of this batch.
    pub batch: BatchId,
    /// Who takes it in: what a dead node left half-staged is discarded.
    pub node: NodeId,
    /// How many of it were staged before.
    pub first_line: u64,
    /// The next ones. They enter as submitted by hand, and no earlier than the batch becomes whole.
    pub tasks: Vec<NewTask>,
}

/// What makes a batch whole.
#[derive(Clone, Debug)]
pub struct Publish {
    /// Which.
    pub batch: BatchId,
    /// For people.
    pub name: Option<String>,
    /// How many tasks were staged.
    pub count: u64,
    /// When they were accepted.
    pub now: Time,
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
    /// Lines not yet kept by [`Store::append_log`].
    pub log: Vec<LogLine>,
    /// An alert that the outcome is worth.
    pub alert: Option<NewAlert>,
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

/// An event with the tasks that its triggers make of it.
#[derive(Clone, Debug)]
pub struct FireEvent {
    /// The event's id.
    pub id: EventId,
    /// What happened.
    pub event_type: String,
    /// JSON text of an object.
    pub data: String,
    /// When it arrived.
    pub now: Time,
    /// One a trigger; those of triggers removed meanwhile are dropped.
    pub tasks: Vec<(TriggerId, NewTask)>,
}

/// Which tasks a list shows, and in which order.
#[derive(Clone, Debug)]
pub enum Listing {
    /// All: those that wait or run, newest first, then those that ended, latest first.
    All(Filter),
    /// Running, longest running first.
    Running,
    /// Waiting, next due first.
    Waiting,
    /// Waiting for a retry, or failed and not dismissed; latest failure first.
    Failed,
    /// Ended, latest first.
    History(Filter),
}

/// Narrows a list; members left `None` let all pass.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Exactly this status.
    pub status: Option<Status>,
    /// Exactly this name.
    pub task_name: Option<String>,
    /// Carries this tag.
    pub tag: Option<String>,
    /// Id or name begins so.
    pub prefix: Option<String>,
    /// Ended at or after this (history only).
    pub since: Option<Time>,
    /// Ended before this (history only).
    pub until: Option<Time>,
}

/// Which part of a list.
#[derive(Clone, Debug)]
pub struct PageRequest {
    /// At most so many, from 1.
    pub limit: usize,
    /// Where the last page ended: opaque.
    pub cursor: Option<String>,
}

/// A part of a list.
#[derive(Clone, Debug)]
pub struct Page<T> {
    /// In the list's order.
    pub items: Vec<T>,
    /// For the next page; `None` at the end.
    pub next: Option<String>,
}

/// Which open alerts a list shows.
#[derive(Clone, Debug, Default)]
pub struct AlertFilter {
    /// Only of this type.
    pub kind: Option<AlertType>,
    /// Only with a case at or after this.
    pub since: Option<Time>,
}

/// The calendar that a name stands for.
#[derive(Clone, Debug)]
pub struct NamedCalendar {
    /// What it says.
    pub calendar: Arc<Calendar>,
    /// When it was put; `None` for one that ships.
    pub updated_at: Option<Time>,
}

/// Calendars that users may put.
pub const MAX_CALENDARS: usize = 100;

/// Everything that is asked of a database, each as one atomic intention.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Keeps a task: the acknowledgement that it will run. It is leased to the place offered, if it can be, and otherwise waits for a
    /// claim.
    async fn enqueue(&self, task: NewTask, offer: Option<Offer>) -> Result<()>;
    /// Keeps a part of a batch, which nobody sees before [`Store::publish`]. Waits where too much is queued up for the disk.
    /// [`StoreError::Conflict`] where the batch was discarded meanwhile.
    async fn stage(&self, stage: Stage) -> Result<()>;
    /// Makes a batch whole, in one small write: the acknowledgement that all of it will run.
    async fn publish(&self, publish: Publish) -> Result<()>;
    /// Forgets some hundreds of what was staged of a batch that is not whole; one that is stays. Returns whether there is more of it.
    async fn discard(&self, batch: BatchId) -> Result<bool>;
    /// Batches that nodes other than `node` did not make whole.
    async fn half_staged(&self, node: NodeId) -> Result<Vec<BatchId>>;
    /// Makes tasks of some hundreds of a published batch, in their order, the oldest batch first. Returns how many: 0 when all are.
    async fn unfold(&self, now: Time) -> Result<u64>;
    /// Leases due tasks.
    async fn claim(&self, claim: Claim) -> Result<Claimed>;
    /// Ends an attempt. [`StoreError::LeaseLost`] where the fence no longer holds.
    async fn settle(&self, settle: Settle) -> Result<()>;
    /// Ends a task by request, whatever it is doing; returns the attempt that ran. [`StoreError::Conflict`] where it has ended.
    async fn cancel(&self, id: TaskId, now: Time) -> Result<Option<Lease>>;
    /// Submits a failed task again under `new_id`. [`StoreError::Conflict`] where it did not fail or was retried before.
    async fn retry(&self, id: TaskId, new_id: TaskId, now: Time) -> Result<()>;
    /// Takes a failed task off the list of failures. [`StoreError::Conflict`] where it did not fail or is off it.
    async fn dismiss(&self, id: TaskId) -> Result<()>;
    /// Offers held tasks of these names to workers again, some thousands at a time. Returns whether there may be more.
    async fn release(&self, handlers: Arc<Handlers>) -> Result<bool>;

    /// Keeps lines of an attempt that runs, or did: what a cancelled one says last comes after its settlement.
    async fn append_log(&self, lease: Lease, lines: Vec<LogLine>) -> Result<()>;
    /// Keeps a running attempt's checkpoint.
    async fn save_checkpoint(&self, lease: Lease, data: Vec<u8>) -> Result<()>;
    /// The checkpoint that an attempt of this task saved last.
    async fn load_checkpoint(&self, id: TaskId) -> Result<Option<Vec<u8>>>;

    /// Registers a node, or renews its lease until `until`.
    async fn renew(&self, node: NodeId, until: Time) -> Result<()>;
    /// Running attempts of nodes other than `node` whose lease ended.
    async fn orphans(&self, node: NodeId) -> Result<Vec<Orphan>>;

    /// One task with its attempts.
    async fn task(&self, id: TaskId) -> Result<Task>;
    /// Many tasks, without their attempts.
    async fn tasks(&self, listing: Listing, page: PageRequest) -> Result<Page<Task>>;
    /// The cursor for what comes after `task` in a list of this kind, for whoever shows less than a page of it.
    fn cursor(&self, listing: &Listing, task: &Task) -> String;
    /// The log of a task over all attempts, oldest line first.
    async fn log(&self, id: TaskId, page: PageRequest) -> Result<Page<LogLine>>;

    /// Writes a schedule. [`StoreError::Conflict`] where it is not the one that was seen.
    async fn put_schedule(&self, put: PutSchedule) -> Result<()>;
    /// Removes a schedule; its tasks stay.
    async fn remove_schedule(&self, id: ScheduleId) -> Result<()>;
    /// One schedule.
    async fn schedule(&self, id: ScheduleId) -> Result<Schedule>;
    /// One schedule, by its name.
    async fn schedule_named(&self, name: &str) -> Result<Schedule>;
    /// All schedules, oldest first.
    async fn schedules(&self, page: PageRequest) -> Result<Page<Schedule>>;
    /// The schedules that fire next, earliest first, at most so many.
    async fn upcoming_schedules(&self, limit: usize) -> Result<Vec<Schedule>>;
    /// Schedules whose cursor is not after `now`, earliest first, and the cursor of the first one after; fewer where they are large.
    async fn due_schedules(&self, now: Time, limit: usize) -> Result<(Vec<Schedule>, Option<Time>)>;
    /// Schedules whose cursor was worked out after `now`, at most so many: the clock was set back since.
    async fn schedules_ahead(&self, now: Time, limit: usize) -> Result<Vec<Schedule>>;
    /// Some of the schedules that go by a calendar, after `after`, in the order of their ids.
    async fn schedules_of(&self, calendar: &str, after: Option<ScheduleId>, limit: usize) -> Result<Vec<Schedule>>;
    /// Moves the cursors of schedules, and keeps what each fired with the tasks, and what it skipped. Each is atomic, and all share a commit:
    /// [`StoreError::Conflict`] of one that is not as it was seen leaves the others alone.
    async fn fire_schedules(&self, fires: Vec<FireSchedule>) -> Result<Vec<Result<MadeFires>>>;
    /// Makes fires that somebody asked for, as far as they have not been made.
    async fn make_fires(&self, asked: MakeFires) -> Result<MadeFires>;
    /// What a schedule did, latest first.
    async fn fires(&self, id: ScheduleId, page: PageRequest) -> Result<Page<Fire>>;

    /// Creates a trigger, or updates the one of its name; returns its id.
    async fn put_trigger(&self, trigger: Trigger) -> Result<TriggerId>;
    /// Removes a trigger; its tasks stay.
    async fn remove_trigger(&self, id: TriggerId) -> Result<()>;
    /// One trigger.
    async fn trigger(&self, id: TriggerId) -> Result<Trigger>;
    /// All triggers, oldest first.
    async fn triggers(&self, page: PageRequest) -> Result<Page<Trigger>>;
    /// Those that listen to `event_type`.
    async fn triggers_of(&self, event_type: &str) -> Result<Vec<Trigger>>;
    /// Keeps an event with its tasks; returns their ids.
    async fn fire_event(&self, event: FireEvent) -> Result<Vec<TaskId>>;

    /// Keeps a calendar under its name, where it goes before the one that ships under it; returns whether none was kept there before.
    /// [`StoreError::Conflict`] where [`MAX_CALENDARS`] are kept.
    async fn put_calendar(&self, calendar: Arc<Calendar>, now: Time) -> Result<bool>;
    /// Forgets a calendar that was put. [`StoreError::NotFound`] where there is none; one that ships is not there to be forgotten.
    async fn remove_calendar(&self, name: &str) -> Result<()>;
    /// The calendar that was put under this name, else the one that ships under it.
    async fn calendar(&self, name: &str) -> Result<NamedCalendar>;
    /// All calendars, by name.
    async fn calendars(&self) -> Result<BTreeMap<String, NamedCalendar>>;

    /// Attempts by task name: of all, or of one.
    async fn metrics(&self, task_name: Option<&str>) -> Result<BTreeMap<String, Metrics>>;
    /// Opens an alert, or counts one more case of an open one.
    async fn raise(&self, alert: NewAlert) -> Result<()>;
    /// Open alerts, latest case first.
    async fn alerts(&self, filter: AlertFilter, page: PageRequest) -> Result<Page<Alert>>;
    /// Closes open alerts, all or of one type; returns how many.
    async fn clear_alerts(&self, kind: Option<AlertType>) -> Result<u64>;

    /// Forgets events, fires, batches and ended tasks older than `before`, but never the newest `keep` tasks, nor any that has not ended;
    /// at most `limit` of each, and fewer where they are large. Returns the greatest of the counts: 0 when nothing is left to forget.
    async fn prune(&self, before: Time, keep: u64, limit: usize) -> Result<u64>;

    /// Which plugin owns which task name.
    async fn owners(&self) -> Result<HashMap<String, String>>;
    /// Gives a plugin these task names and no others. [`StoreError::Conflict`] names one that belongs to another plugin.
    async fn own(&self, plugin: &str, names: Vec<String>) -> Result<()>;

    /// Waits for what is under way and closes the files.
    async fn close(&self);
}

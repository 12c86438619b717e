//! The store: the only place where state lives, and every promise that is made about it.
//!
//! - An intention that returned `Ok` is on disk: it survives the death of the process and of the machine.
//! - Each intention is atomic. Many may share one commit; a refused one undoes only itself.
//! - A task's attempt is settled at most once: [`Store::settle`] compares the lease's fence (task, attempt number, node).
//! - A fire of a schedule is stored once: (schedule, fire time) is unique.
//! - Time is an argument. What happens next is decided in `model`; a driver holds SQL and no rule.

mod changes;
mod claim;
mod edits;
mod event;
mod flow;
mod lists;
mod prune;
mod reading;
mod schedule;
pub mod sqlite;

pub use changes::{Change, change_schedule, replan};
pub use claim::{
    COUNTED, Claim, Claimed, Handled, Handlers, Lease, LoadOf, MOST_NAMES, Offer, Orphan, Queue, Rung, Settle, Swept, Waiting,
};
pub use edits::Schemas;
pub use event::{Delivery, FireEvent, Fired, Firing, Listened};
pub use flow::{Batch, Callback, CallbackState, CancelledSome, Publish, Stage, Step, StepRetried, Workflow};
pub use lists::{AlertFilter, Filter, Listing, Page, PageRequest};
pub use prune::{EndedAt, Keep, KeepOf, Kept, Outdated, Place, Pruned, Sum};
pub use reading::{Calendars, ScheduleError, check_payload, read_schedule, read_terms, rule_of};
pub use schedule::{FireSchedule, Made, MadeFires, MakeFires, PutSchedule};

use crate::model::Time;
use crate::model::alert::{Alert, AlertType, NewAlert};
use crate::model::attempt::LogLine;
use crate::model::calendar::Calendar;
use crate::model::ids::{BatchId, NodeId, ScheduleId, TaskId, TriggerId, WorkflowId};
use crate::model::limit::Limit;
use crate::model::metrics::Metrics;
use crate::model::outbox::Undelivered;
use crate::model::overrides::Override;
use crate::model::schedule::{Fire, Schedule};
use crate::model::task::{NewTask, Task};
use crate::model::trigger::{Patch, Trigger};
use crate::model::workflow::NewWorkflow;
use async_trait::async_trait;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

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
    /// A request with this key was carried out before, with this answer.
    #[error("this request was carried out before")]
    Answered(String),
    /// A request with this key, but another body, was carried out before.
    #[error("another request was carried out under this key")]
    KeyReused,
    /// Too much is queued up for the disk; try again soon.
    #[error("the store is busy")]
    Busy,
    /// The disk or database failed.
    #[error("the store failed: {0}")]
    Unavailable(String),
}

/// What every intention returns.
pub type Result<T> = std::result::Result<T, StoreError>;

/// What makes a request that is sent again the same one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestKey {
    /// The client's.
    pub key: String,
    /// Of all that was asked.
    pub fingerprint: [u8; 32],
    /// What is answered if the request is carried out.
    pub answer: String,
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

/// What a commit did.
#[derive(Clone, Debug, Default)]
pub struct Committed {
    /// So many tasks came in.
    pub entered: u64,
    /// These ended.
    pub ended: Vec<TaskId>,
}

/// Hears of commits. Must not block: all that is written waits for it.
pub type Observer = Box<dyn Fn(&Committed) + Send + Sync>;

/// Everything that is asked of a database, each as one atomic intention.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Keeps a task: the acknowledgement that it will run. It is leased to the place offered, if it can be, and otherwise waits for a
    /// claim. Returns the id of the task that stands for it: another, where it is to be unique and its like is there.
    /// [`StoreError::Answered`] where a request with this key was carried out before.
    async fn enqueue(&self, task: NewTask, key: Option<RequestKey>, offer: Option<Offer>) -> Result<TaskId>;
    /// Lets a request pass that was not carried out before: otherwise [`StoreError::Answered`], or [`StoreError::KeyReused`].
    async fn admit(&self, key: RequestKey, now: Time) -> Result<()>;
    /// Ends some hundreds of waiting tasks that have expired, and raises alerts for those that are late.
    async fn ring(&self, now: Time) -> Result<Rung>;
    /// The slow fallback for hints that were lost: looks through some of the keys under which tasks are held, from this one on, lets in
    /// who has room, and forgets what binds nobody any more. Returns where to go on.
    async fn sweep(&self, handlers: Arc<Handlers>, after: Swept, now: Time) -> Result<Swept>;
    /// Starts no more tasks of this name, or with an empty name none at all. Returns whether that was not so before.
    async fn pause(&self, name: &str, now: Time) -> Result<bool>;
    /// The reverse of [`Store::pause`]. Returns whether it was paused.
    async fn resume(&self, name: &str) -> Result<bool>;
    /// What is paused since when, the whole queue under the empty name.
    async fn pauses(&self) -> Result<Vec<(String, Time)>>;
    /// What a waiting task waits for.
    async fn waiting(&self, id: TaskId) -> Result<Waiting>;
    /// What waits and runs.
    async fn queue(&self) -> Result<Queue>;
    /// Keeps a limit in place of the one of its name; returns whether there was none. [`StoreError::Conflict`] where there are too many.
    async fn put_limit(&self, limit: Limit) -> Result<bool>;
    /// Removes a limit; what it held may start.
    async fn remove_limit(&self, name: &str) -> Result<()>;
    /// All limits, by name.
    async fn limits(&self) -> Result<Vec<Limit>>;
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
    /// One batch that is whole.
    async fn batch(&self, id: BatchId) -> Result<Batch>;
    /// All of them, newest first, without their callbacks.
    async fn batches(&self, page: PageRequest) -> Result<Page<Batch>>;
    /// Says that what has not ended of a batch is to be cancelled. [`StoreError::Conflict`] where all has ended.
    async fn cancel_batch(&self, id: BatchId, now: Time) -> Result<()>;
    /// Cancels some hundreds of what is to be, see [`Store::cancel_batch`].
    async fn cancel_some(&self, now: Time) -> Result<CancelledSome>;

    /// Keeps a workflow with the tasks of all its steps: the acknowledgement that they will run, each in its turn.
    async fn submit_workflow(&self, workflow: NewWorkflow, key: Option<RequestKey>) -> Result<()>;
    /// One workflow with its steps.
    async fn workflow(&self, id: WorkflowId) -> Result<Workflow>;
    /// All of them, newest first, without their steps.
    async fn workflows(&self, page: PageRequest) -> Result<Page<Workflow>>;
    /// Cancels all steps that have not ended; returns the attempts that ran. [`StoreError::Conflict`] where all have ended.
    async fn cancel_workflow(&self, id: WorkflowId, now: Time) -> Result<Vec<Lease>>;
    /// Gives a step that failed or was cancelled a new task, and with it the steps after it that never had their turn.
    /// [`StoreError::Conflict`] where it has not ended, succeeded, or could not run; [`StoreError::NotFound`] also where it has no such step.
    async fn retry_step(&self, id: WorkflowId, key: String, now: Time) -> Result<StepRetried>;
    /// The results of the steps that this task of a workflow needed and that succeeded, JSON texts by key. [`StoreError::Conflict`] where
    /// they are larger than a handler is given.
    async fn needs(&self, id: TaskId) -> Result<BTreeMap<String, String>>;
    /// Leases due tasks.
    async fn claim(&self, claim: Claim) -> Result<Claimed>;
    /// Ends an attempt. [`StoreError::LeaseLost`] where the fence no longer holds.
    async fn settle(&self, settle: Arc<Settle>) -> Result<()>;
    /// What attempts sent and nobody delivered yet, oldest first, at most so many, without those in `skip`, which are being delivered. Of the
    /// events of one task only the first is under way: they are delivered in their order.
    async fn undelivered(&self, limit: usize, skip: Vec<i64>) -> Result<Vec<Undelivered>>;
    /// Whether there is more than `most` of it.
    async fn has_undelivered(&self, most: u32) -> Result<bool>;
    /// Delivers what stands at `seq` of the outbox and takes it out, in one commit. [`StoreError::Conflict`] where it was delivered before.
    async fn deliver(&self, seq: i64, delivery: Delivery) -> Result<()>;
    /// Ends a task by request, whatever it is doing; returns the attempt that ran. [`StoreError::Conflict`] where it has ended.
    async fn cancel(&self, id: TaskId, now: Time) -> Result<Option<Lease>>;
    /// Submits a failed task again under `new_id`, still in its batch; of a step of a workflow, as [`Store::retry_step`] does.
    /// [`StoreError::Conflict`] where it did not fail or was retried before.
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
    async fn remove_schedule(&self, id: ScheduleId, now: Time) -> Result<()>;
    /// Whether a schedule or trigger of this id was removed, as far as history is kept.
    async fn was_removed(&self, id: TaskId) -> Result<bool>;
    /// One schedule.
    async fn schedule(&self, id: ScheduleId) -> Result<Schedule>;
    /// One schedule, by its name.
    async fn schedule_named(&self, name: &str) -> Result<Schedule>;
    /// All schedules, oldest first.
    async fn schedules(&self, page: PageRequest) -> Result<Page<Schedule>>;
    /// The schedules that fire next, earliest first, without those that are paused.
    async fn upcoming_schedules(&self, page: PageRequest) -> Result<Page<Schedule>>;
    /// The cursor for what comes after a schedule in that list, for whoever shows less than a page of it.
    fn fire_cursor(&self, schedule: &Schedule) -> String;
    /// Schedules whose cursor is not after `now`, earliest first, and the cursor of the first one after; fewer where they are large.
    async fn due_schedules(&self, now: Time, limit: usize) -> Result<(Vec<Schedule>, Option<Time>)>;
    /// Schedules whose cursor was worked out after `now`, at most so many: the clock was set back since.
    async fn schedules_ahead(&self, now: Time, limit: usize) -> Result<Vec<Schedule>>;
    /// Some of the schedules that go by a calendar, after `after`, in the order of their ids.
    async fn schedules_of(&self, calendar: &str, after: Option<ScheduleId>, limit: usize) -> Result<Vec<Schedule>>;
    /// Moves the cursors of schedules, and keeps what each fired with the tasks, and what it skipped. Each is atomic, and all share a commit:
    /// [`StoreError::Conflict`] of one that is not as it was seen leaves the others alone. One that is unfinished stays due.
    async fn fire_schedules(&self, fires: Vec<Arc<FireSchedule>>) -> Result<Vec<Result<MadeFires>>>;
    /// Makes fires that somebody asked for, as far as they have not been made.
    async fn make_fires(&self, asked: MakeFires) -> Result<MadeFires>;
    /// What a schedule did, latest first.
    async fn fires(&self, id: ScheduleId, page: PageRequest) -> Result<Page<Fire>>;

    /// Creates a trigger, or updates what was declared of the one of its name; edits, pause and counts stay. Returns its id.
    /// [`StoreError::Conflict`] where the triggers that listen to its events would be too large together.
    async fn put_trigger(&self, trigger: Trigger) -> Result<TriggerId>;
    /// Removes a trigger; its tasks stay.
    async fn remove_trigger(&self, id: TriggerId, now: Time) -> Result<()>;
    /// One trigger.
    async fn trigger(&self, id: TriggerId) -> Result<Trigger>;
    /// The id of a trigger, by its name.
    async fn trigger_named(&self, name: &str) -> Result<TriggerId>;
    /// All triggers, oldest first.
    async fn triggers(&self, page: PageRequest) -> Result<Page<Trigger>>;
    /// Changes what an operator may change of a trigger, which no registration takes back; returns it as it is then.
    /// [`StoreError::Conflict`] as of [`Store::put_trigger`].
    async fn edit_trigger(&self, id: TriggerId, patch: Patch) -> Result<Trigger>;
    /// How much listens to `event_type`, paused or not.
    async fn listened(&self, event_type: &str) -> Result<Listened>;
    /// Those that listen to `event_type` and are not paused, by their ids.
    async fn triggers_of(&self, event_type: &str) -> Result<Vec<Trigger>>;
    /// Keeps events with their tasks, in their order and all in one transaction; what came of each. An event whose source and id were
    /// seen before changes nothing.
    async fn fire_events(&self, events: Vec<FireEvent>) -> Result<Vec<Fired>>;

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

    /// How much is kept.
    async fn kept(&self) -> Result<Kept>;
    /// What would be forgotten now, if this were to be kept: some thousands of tasks and events at most.
    async fn outdated(&self, keep: Keep) -> Result<Outdated>;
    /// Forgets some of what is not to be kept: at most `limit` of each kind, and fewer where they are large. It goes through the ended tasks
    /// piece by piece: `after` is where the piece before ended. Never goes a task that has not ended, a step of a workflow that is kept, or the
    /// newest ended task of a schedule that there is.
    async fn prune(&self, keep: &Keep, limit: usize, after: Option<Place>) -> Result<Pruned>;

    /// Keeps an operator's word on a task in place of the one before; an empty one takes it back.
    async fn put_override(&self, task_name: &str, word: Override) -> Result<()>;
    /// What operators said of tasks, by name. What cannot be read is left out.
    async fn overrides(&self) -> Result<BTreeMap<String, Override>>;
    /// Which plugin owns which task name.
    async fn owners(&self) -> Result<HashMap<String, String>>;
    /// Gives a plugin these task names and no others. [`StoreError::Conflict`] names one that belongs to another plugin.
    async fn own(&self, plugin: &str, names: Vec<String>) -> Result<()>;

    /// Has somebody told of each commit of this process in which tasks came in or ended, once it is durable. The first one stays.
    fn observe(&self, observer: Observer);
    /// Waits for what is under way and closes the files.
    async fn close(&self);
}

//! Batches and workflows as the store takes and gives them.

use crate::model::Time;
use crate::model::batch::{CallbackKind, Counts};
use crate::model::ids::{BatchId, NodeId, TaskId, WorkflowId};
use crate::model::task::{NewTask, Status};
use crate::model::workflow::{When, WorkflowStatus};
use crate::store::{Lease, RequestKey};

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
    /// What follows it, one of a kind at most.
    pub callbacks: Vec<Callback>,
    /// Carries it out once.
    pub key: Option<RequestKey>,
}

/// A task that follows a batch.
#[derive(Clone, Debug)]
pub struct Callback {
    /// When.
    pub kind: CallbackKind,
    /// The task, all but its time.
    pub task: NewTask,
    /// Whether its payload gets a member `batch` with the counts.
    pub told: bool,
}

/// A batch that is whole.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Its id.
    pub id: BatchId,
    /// For people.
    pub name: Option<String>,
    /// When it was accepted.
    pub submitted_at: Time,
    /// How many tasks it has, and how they ended.
    pub counts: Counts,
    /// How many run.
    pub running: u64,
    /// When all had ended for the first time.
    pub completed_at: Option<Time>,
    /// When somebody asked for its cancellation.
    pub cancelled_at: Option<Time>,
    /// Whether that is still under way.
    pub cancelling: bool,
    /// What follows it.
    pub callbacks: Vec<CallbackState>,
}

/// A task that follows a batch, or has.
#[derive(Clone, Debug)]
pub struct CallbackState {
    /// When.
    pub kind: CallbackKind,
    /// Its name.
    pub task_name: String,
    /// Its id, from the start.
    pub task: TaskId,
    /// When it was submitted.
    pub fired_at: Option<Time>,
}

/// What one piece of cancelling a batch did.
#[derive(Debug, Default)]
pub struct CancelledSome {
    /// Attempts that ran, to be stopped.
    pub running: Vec<Lease>,
    /// Whether there is more of this or another batch.
    pub more: bool,
}

/// A workflow, as lists show it.
#[derive(Clone, Debug)]
pub struct Workflow {
    /// Its id.
    pub id: WorkflowId,
    /// For people.
    pub name: Option<String>,
    /// Where it stands.
    pub status: WorkflowStatus,
    /// When it was accepted.
    pub submitted_at: Time,
    /// When all its steps had ended; `None` again while a retry runs.
    pub completed_at: Option<Time>,
    /// In the order of the request; empty in lists.
    pub steps: Vec<Step>,
}

/// One step of a workflow.
#[derive(Clone, Debug)]
pub struct Step {
    /// Its name within the workflow.
    pub key: String,
    /// Its latest task.
    pub task: TaskId,
    /// That task's name; `None` once it is forgotten.
    pub task_name: Option<String>,
    /// Where that task stands.
    pub status: Status,
    /// Whether it waits for its needs.
    pub blocked: bool,
    /// The keys of the steps before it.
    pub needs: Vec<String>,
    /// When it runs.
    pub when: When,
    /// When its first attempt began.
    pub started_at: Option<Time>,
    /// When it ended.
    pub completed_at: Option<Time>,
    /// Why it failed or was cancelled.
    pub error: Option<String>,
}

/// What a retry of a step made.
#[derive(Clone, Debug)]
pub struct StepRetried {
    /// The step's task before.
    pub before: TaskId,
    /// Its new one.
    pub task: TaskId,
    /// The keys of the steps after it that wait for their turn again.
    pub reset: Vec<String>,
}

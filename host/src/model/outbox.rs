//! What an attempt emits and submits: it becomes real in the commit that settles the attempt as ok, and never otherwise.
//!
//! That commit keeps it as it was asked for; it is delivered after it, each in a commit of its own, and by then it has its id.

use crate::model::ids::{EventId, TaskId, WorkflowId};

/// How long a chain may be in which each task or event was sent by an attempt of the task before: a loop would never end.
pub const MAX_DEPTH: u32 = 16;

/// What was sent. It was checked when it was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sent {
    /// An event.
    Event {
        /// The id that the guest was told.
        id: EventId,
        /// What happened.
        event_type: String,
        /// JSON text of an object.
        data: String,
    },
    /// A task.
    Task {
        /// The id that the guest was told.
        id: TaskId,
        /// JSON text of a request.
        request: String,
    },
    /// A workflow.
    Workflow {
        /// The id that the guest was told.
        id: WorkflowId,
        /// JSON text of a request.
        request: String,
    },
}

/// All that one attempt sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outbox {
    /// How deep what was sent stands: one deeper than who sent it.
    pub depth: u32,
    /// In the order in which it was asked for.
    pub sent: Vec<Sent>,
}

/// One thing that was sent and is not delivered yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Undelivered {
    /// Its place in the store's outbox.
    pub seq: i64,
    /// The task whose attempt sent it.
    pub parent: TaskId,
    /// How deep it stands.
    pub depth: u32,
    /// What it is.
    pub sent: Sent,
}

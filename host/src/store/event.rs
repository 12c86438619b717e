//! Events on their way in, what triggers make of them, and what attempts sent.

use crate::model::Time;
use crate::model::alert::NewAlert;
use crate::model::event::NewEvent;
use crate::model::ids::{EventId, TaskId, TriggerId};
use crate::model::task::NewTask;
use crate::model::workflow::NewWorkflow;
use std::time::Duration;

/// An event with what its triggers make of it.
#[derive(Clone, Debug)]
pub struct FireEvent {
    /// The event's id.
    pub id: EventId,
    /// What came in.
    pub event: NewEvent,
    /// When it arrived.
    pub now: Time,
    /// One a trigger that it fires; those of triggers removed or paused meanwhile are dropped.
    pub firings: Vec<Firing>,
    /// Triggers that let it pass by, and why where that was no decision of their filters.
    pub skipped: Vec<(TriggerId, Option<String>)>,
}

/// What one trigger makes of an event.
#[derive(Clone, Debug)]
pub struct Firing {
    /// The trigger.
    pub trigger: TriggerId,
    /// Its task; with a debounce it is due that much after the event.
    pub task: NewTask,
    /// Where the trigger's last task has not begun and was made for want of quiet, it takes this one's payload and waits for so long
    /// again, as `model::trigger::postponed` bounds it, and there is no new one.
    pub debounce: Option<Duration>,
}

/// What came of an event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fired {
    /// It has been seen before: nothing of it was kept.
    pub duplicate: bool,
    /// The tasks that carry its data.
    pub tasks: Vec<TaskId>,
}

/// The triggers that listen to a type of event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Listened {
    /// That they have together.
    pub bytes: u64,
    /// How many.
    pub triggers: u64,
}

/// What becomes of a thing that was sent.
#[derive(Clone, Debug)]
pub enum Delivery {
    /// An event with the tasks that its triggers make of it.
    Event(FireEvent),
    /// A task.
    Task(NewTask),
    /// A workflow.
    Workflow(NewWorkflow),
    /// Nothing: it cannot be delivered, and the alert says why.
    Refused(NewAlert),
}

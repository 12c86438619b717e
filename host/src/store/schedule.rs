//! What is asked of the store about schedules.

use crate::model::Time;
use crate::model::alert::NewAlert;
use crate::model::ids::{ScheduleId, TaskId};
use crate::model::schedule::overlap::Overlap;
use crate::model::schedule::{Schedule, Skip};
use crate::model::task::NewTask;
use crate::store::Lease;

/// Writes a schedule as it is to be: created, updated, edited, paused, or with another cursor.
#[derive(Clone, Debug)]
pub struct PutSchedule {
    /// As it is to be; its revision is counted by the store, and its last fire and task stay as they are.
    pub schedule: Schedule,
    /// The calendar that it goes by.
    pub calendar: Option<String>,
    /// The revision that whoever writes has seen; `None` for one that does not exist.
    pub seen: Option<u64>,
    /// Fires that make no task because of this.
    pub skips: Vec<Skip>,
    /// What an operator should hear of.
    pub alerts: Vec<NewAlert>,
}

/// All that is due of a schedule at one moment, made or recorded, and its cursor with it.
#[derive(Clone, Debug)]
pub struct FireSchedule {
    /// Which.
    pub id: ScheduleId,
    /// The revision that it has to have still, or somebody else was first.
    pub seen: u64,
    /// The fires to make, earliest first, each with its task. One that was made before is left as it is.
    pub fires: Vec<(Time, NewTask)>,
    /// Fires that make no task.
    pub skips: Vec<Skip>,
    /// Its rule for tasks of earlier fires that have not ended.
    pub overlap: Overlap,
    /// Where the cursor goes.
    pub next: Option<Time>,
    /// When.
    pub now: Time,
    /// What an operator should hear of.
    pub alerts: Vec<NewAlert>,
}

/// Fires that somebody asked for; the cursor stays.
#[derive(Clone, Debug)]
pub struct MakeFires {
    /// Of which schedule.
    pub id: ScheduleId,
    /// Earliest first, each with its task.
    pub fires: Vec<(Time, NewTask)>,
    /// The rule for tasks of earlier fires that have not ended.
    pub overlap: Overlap,
    /// When.
    pub now: Time,
}

/// What became of a fire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Made {
    /// It made this task.
    Task(TaskId),
    /// It had been made before, with this task.
    Before(TaskId),
    /// Its schedule's rule for tasks that have not ended left it out.
    LeftOut,
}

/// What became of fires.
#[derive(Clone, Debug, Default)]
pub struct MadeFires {
    /// In the order in which they were given.
    pub fires: Vec<(Time, Made)>,
    /// Attempts that were cancelled for them.
    pub stopped: Vec<Lease>,
    /// Whether earlier tasks are left to be cancelled, more than one commit may: the rest was not made, and the cursor stays. Ask again.
    pub unfinished: bool,
}

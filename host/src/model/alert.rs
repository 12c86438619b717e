//! Alerts: what an operator should look at.
//!
//! One open alert stands for all that is alike (type and task name); it counts, and names the latest case.

use crate::model::Time;
use crate::model::ids::{AlertId, TaskId};
use std::time::Duration;

/// What an alert is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AlertType {
    /// An attempt runs longer than expected.
    LongExecution,
    /// A task failed for good.
    TaskFailure,
    /// A task had not ended at its deadline.
    Late,
    /// A fire of a schedule was expected and did not happen; the case is the schedule's.
    Absent,
    /// A schedule fires on days that nobody has confirmed in its calendar, or the calendar has no day left for it; the case is the
    /// schedule's.
    Calendar,
    /// What an operator had changed of a schedule or trigger does not fit what was registered anew, and was dropped; the case is theirs.
    Edit,
}

impl AlertType {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::LongExecution,
        Self::TaskFailure,
        Self::Late,
        Self::Absent,
        Self::Calendar,
        Self::Edit,
    ];

    /// The word used in the API and in the store.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::LongExecution => "long_execution",
            Self::TaskFailure => "task_failure",
            Self::Late => "late",
            Self::Absent => "absent",
            Self::Calendar => "calendar",
            Self::Edit => "edit",
        }
    }

    /// The reverse of [`AlertType::as_str`].
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }
}

/// One case that is worth an alert.
#[derive(Clone, Debug)]
pub struct NewAlert {
    /// What it is about.
    pub kind: AlertType,
    /// The task it happened to; for some types the schedule, whose id then stands here.
    pub task_id: TaskId,
    /// Its name.
    pub task_name: String,
    /// One sentence.
    pub error: Option<String>,
    /// How long the attempt has run.
    pub execution_time: Option<Duration>,
    /// When.
    pub at: Time,
}

/// An open alert.
#[derive(Clone, Debug)]
pub struct Alert {
    /// Its id.
    pub id: AlertId,
    /// The latest case.
    pub latest: NewAlert,
    /// When the first case was seen.
    pub first_at: Time,
    /// How many cases.
    pub count: u64,
}

/// The longest that an attempt may run without an alert.
const LONG_EXECUTION: Duration = Duration::from_secs(300);

/// When a running attempt is worth a `long_execution`: the lesser of 300 s and 80 % of its timeout.
pub fn long_execution_after(timeout: Duration) -> Duration {
    LONG_EXECUTION.min(timeout.mul_f64(0.8))
}

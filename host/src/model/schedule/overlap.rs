//! What a fire does while tasks of the same schedule's earlier fires have not ended, their retries included.

use serde::{Deserialize, Serialize};

/// The choices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Overlap {
    /// One waits until the other has ended; more are skipped.
    #[default]
    QueueOne,
    /// Skipped.
    Skip,
    /// Waits until all before it have ended.
    QueueAll,
    /// Cancels what has not ended, and runs.
    CancelPrevious,
    /// Runs beside it.
    Allow,
}

/// What becomes of a fire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Its task may run at once.
    Make,
    /// Its task waits for the one before it.
    Hold,
    /// It makes no task.
    Skip,
    /// Its task may run at once, and those before it are cancelled.
    Replace,
}

/// Tasks of one schedule that have not ended, at most, before further fires are skipped whatever its rule.
pub const MOST_QUEUED: u64 = 10_000;

impl Overlap {
    /// How far those that have not ended have to be counted to decide.
    pub fn asks(self) -> u64 {
        match self {
            Self::Skip => 1,
            Self::QueueOne => 2,
            Self::QueueAll => MOST_QUEUED,
            Self::CancelPrevious | Self::Allow => 0,
        }
    }

    /// What becomes of a fire beside so many tasks of the schedule that wait or run.
    pub fn decide(self, not_ended: u64) -> Decision {
        match (self, not_ended) {
            (Self::CancelPrevious, _) => Decision::Replace,
            (Self::Allow, _) | (_, 0) => Decision::Make,
            (Self::QueueOne, 1) => Decision::Hold,
            (Self::QueueAll, n) if n < MOST_QUEUED => Decision::Hold,
            (Self::QueueOne | Self::QueueAll | Self::Skip, _) => Decision::Skip,
        }
    }

    /// The rule for fires that a person asks to make up for: all of them, and still not at once.
    pub fn for_backfill(self) -> Self {
        match self {
            Self::Allow => Self::Allow,
            _ => Self::QueueAll,
        }
    }
}

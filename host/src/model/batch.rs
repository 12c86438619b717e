//! How far a batch is, and which tasks follow it.

use crate::model::ids::BatchId;
use serde_json::json;

/// When a task follows a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallbackKind {
    /// All have succeeded; after retries by hand that may be later than the end.
    Success,
    /// All have ended, and one failed.
    Failure,
    /// All have ended.
    Complete,
}

impl CallbackKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Success, Self::Failure, Self::Complete];

    /// The member of the request.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Success => "on_success",
            Self::Failure => "on_failure",
            Self::Complete => "on_complete",
        }
    }
}

/// How many tasks a batch has, and how they ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// All.
    pub count: u64,
    /// Succeeded.
    pub success: u64,
    /// Failed.
    pub failed: u64,
    /// Cancelled.
    pub cancelled: u64,
}

impl Counts {
    /// How many have not ended.
    pub fn left(&self) -> u64 {
        self.count.saturating_sub(self.success + self.failed + self.cancelled)
    }

    /// Whether a task follows now that all have ended.
    pub fn let_follow(&self, kind: CallbackKind) -> bool {
        match kind {
            _ if self.left() > 0 => false,
            CallbackKind::Success => self.success == self.count,
            CallbackKind::Failure => self.failed > 0,
            CallbackKind::Complete => true,
        }
    }

    /// What a task that follows is told: a JSON object, merged into its payload.
    pub fn told(&self, batch: BatchId, name: Option<&str>) -> String {
        let Self {
            count,
            success,
            failed,
            cancelled,
        } = self;
        json!({ "batch": { "batch_id": batch.to_string(), "name": name, "count": count, "success": success, "failed": failed,
            "cancelled": cancelled } })
        .to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_follows_a_batch_waits_for_its_last_task_and_goes_by_how_all_ended() {
        let follow = |success, failed, cancelled| {
            let counts = Counts {
                count: 3,
                success,
                failed,
                cancelled,
            };
            CallbackKind::ALL.map(|kind| counts.let_follow(kind))
        };
        assert_eq!(follow(2, 0, 0), [false; 3]);
        assert_eq!(follow(1, 1, 0), [false; 3]);
        assert_eq!(follow(3, 0, 0), [true, false, true]);
        assert_eq!(follow(2, 1, 0), [false, true, true]);
        assert_eq!(follow(2, 0, 1), [false, false, true]);
    }
}

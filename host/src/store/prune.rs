//! How far the forgetting of old history has come: a walk in small pieces, which never begins anew at what it has to leave.

use crate::model::Time;
use crate::model::ids::TaskId;
use crate::model::task::Status;

/// What one piece of forgetting did.
#[derive(Clone, Copy, Debug)]
pub struct Pruned {
    /// The greatest of the counts of what was forgotten.
    pub most: u64,
    /// Where the next piece goes on among ended tasks; none at the end of the walk.
    pub after: Option<Place>,
}

impl Pruned {
    /// Whether a walk has come to its end and nothing was left to forget in this piece of it.
    pub fn is_all(&self) -> bool {
        self.most == 0 && self.after.is_none()
    }
}

/// A place among ended tasks, which are walked status by status, oldest first.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// Of which status.
    pub status: Status,
    /// When the last task that was looked at ended.
    pub ended_at: Time,
    /// That task.
    pub id: TaskId,
}

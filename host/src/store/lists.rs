//! Which part of which list is asked for.

use crate::model::Time;
use crate::model::alert::AlertType;
use crate::model::ids::BatchId;
use crate::model::task::Status;

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
    /// Came in with this batch.
    pub batch: Option<BatchId>,
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

impl<T> Default for Page<T> {
    fn default() -> Self {
        Self {
            items: Vec::new(),
            next: None,
        }
    }
}

/// Which open alerts a list shows.
#[derive(Clone, Debug, Default)]
pub struct AlertFilter {
    /// Only of this type.
    pub kind: Option<AlertType>,
    /// Only with a case at or after this.
    pub since: Option<Time>,
}

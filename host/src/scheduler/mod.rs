//! The loop that decides what starts when.

use crate::model::ids::TaskId;
use crate::store::{Lease, StoreError};
use serde_json::{Map, Value};

/// What the rest of the house may ask of the scheduler. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Handle;

impl Handle {
    /// Says that something may have become due. A hint: losing it costs a poll's delay.
    pub fn wake(&self) {}

    /// Says that a running attempt was cancelled and settled, so that its guest is stopped.
    pub fn stop_attempt(&self, lease: Lease) {
        let _ = lease;
    }

    /// Delivers an event: writes it with one task for each trigger that listens. Returns the tasks' ids.
    pub async fn fire_event(&self, event_type: &str, data: Map<String, Value>) -> Result<Vec<TaskId>, StoreError> {
        let _ = (event_type, data);
        Err(StoreError::NotFound)
    }
}

//! What follows in the same commit when a task ends: whoever it belongs to hears of it.

use super::fires;
use super::gates::gates;
use super::places;
use super::workflow;
use super::writer::Tx;
use crate::model::Time;
use crate::model::ids::{BatchId, TaskId, WorkflowId};
use crate::model::task::{Status, Ties};
use crate::store::Result;
use rusqlite::Row;

/// A task that has just moved to history.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ended {
    pub(super) id: TaskId,
    pub(super) status: Status,
    pub(super) at: Time,
    pub(super) ties: Ties,
}

/// Tells all that the task was tied to.
pub(super) fn ended(tx: &mut Tx<'_>, ended: &Ended) -> Result<()> {
    if ended.ties.limited || gates(tx)?.has_limits() {
        places::leave(tx, ended.id, false)?;
    }
    if let Some(batch) = ended.ties.batch {
        tx.batches.add(batch, ended.status, 1, ended.at);
    }
    if let Some(id) = ended.ties.workflow {
        workflow::step_ended(tx, id, ended.id, ended.status, ended.at)?;
    }
    if let Some(schedule) = ended.ties.schedule {
        fires::task_ended(tx, schedule)?;
    }
    Ok(())
}

/// Reads `batch, workflow, origin_kind, origin` from this column on. Whether it was limited is not in its row: it may have been.
pub(super) fn ties(row: &Row<'_>, from: usize) -> rusqlite::Result<Ties> {
    let id = |index: usize| row.get::<_, Option<[u8; 16]>>(from + index);
    Ok(Ties {
        batch: id(0)?.map(BatchId::from_bytes),
        workflow: id(1)?.map(WorkflowId::from_bytes),
        schedule: super::rows::origin(row.get(from + 2)?, id(3)?).schedule(),
        limited: true,
    })
}

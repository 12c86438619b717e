//! What attempts sent: kept in the commit that settles them, taken out in the commit that delivers it.

use super::Failed;
use super::enqueue::enqueue;
use super::events::fire_events;
use super::monitor::raise;
use super::rows;
use super::workflow;
use super::writer::Tx;
use crate::model::Time;
use crate::model::ids::{EventId, TaskId, WorkflowId};
use crate::model::outbox::{Outbox, Sent, Undelivered};
use crate::model::request::{TaskRequest, WorkflowRequest, parse};
use crate::model::task::{NewTask, Origin, Task};
use crate::model::workflow::{NewWorkflow, WorkflowStatus};
use crate::store::{Delivery, Result, StoreError, Workflow};
use rusqlite::{Connection, OptionalExtension, Row, params};
use std::collections::HashSet;

const EVENT: i64 = 0;
const TASK: i64 = 1;
const WORKFLOW: i64 = 2;

pub(super) fn keep(tx: &Tx<'_>, parent: TaskId, outbox: &Outbox, now: Time) -> Result<()> {
    for sent in &outbox.sent {
        let (kind, id, event_type, body) = match sent {
            Sent::Event { id, event_type, data } => (EVENT, id.as_bytes(), Some(event_type), data),
            Sent::Task { id, request } => (TASK, id.as_bytes(), None, request),
            Sent::Workflow { id, request } => (WORKFLOW, id.as_bytes(), None, request),
        };
        tx.db
            .prepare_cached("INSERT INTO outbox (parent, depth, kind, id, event_type, body, at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")
            .and_then(|mut s| {
                s.execute(params![
                    parent.as_bytes(),
                    outbox.depth,
                    kind,
                    id,
                    event_type,
                    body,
                    rows::micros(now)
                ])
            })
            .failed()?;
    }
    Ok(())
}

pub(super) fn undelivered(db: &Connection, limit: usize, skip: &[i64]) -> Result<Vec<Undelivered>> {
    let mut tellers = tellers(db, skip)?;
    let mut query = db
        .prepare_cached(
            "SELECT seq, parent, depth, kind, id, event_type, body FROM outbox WHERE seq NOT IN (SELECT value FROM json_each(?1)) ORDER BY seq",
        )
        .failed()?;
    let mut rows = query.query([serde_json::json!(skip).to_string()]).failed()?;
    let mut found = Vec::new();
    while found.len() < limit
        && let Some(row) = rows.next().failed()?
    {
        let is_event = row.get::<_, i64>(3).failed()? == EVENT;
        if is_event && !tellers.insert(rows::blob(row, 1).failed()?) {
            continue; // an earlier one of the same attempt goes first
        }
        found.push(read(row).failed()?);
    }
    Ok(found)
}

pub(super) fn has_more_than(db: &Connection, most: u32) -> Result<bool> {
    db.prepare_cached("SELECT 1 FROM outbox INDEXED BY outbox_by_id ORDER BY id LIMIT 1 OFFSET ?1")
        .and_then(|mut s| s.exists([most]))
        .failed()
}

/// Whose events stand at these places.
fn tellers(db: &Connection, places: &[i64]) -> Result<HashSet<[u8; 16]>> {
    let mut query = db
        .prepare_cached("SELECT parent FROM outbox WHERE seq = ?1 AND kind = ?2")
        .failed()?;
    let mut found = HashSet::new();
    for seq in places {
        found.extend(query.query_row([*seq, EVENT], |row| rows::blob(row, 0)).optional().failed()?);
    }
    Ok(found)
}

fn read(row: &Row<'_>) -> rusqlite::Result<Undelivered> {
    let (id, body) = (rows::blob(row, 4)?, row.get(6)?);
    let sent = match row.get(3)? {
        EVENT => Sent::Event {
            id: EventId::from_bytes(id),
            event_type: row.get(5)?,
            data: body,
        },
        WORKFLOW => Sent::Workflow {
            id: WorkflowId::from_bytes(id),
            request: body,
        },
        _ => Sent::Task {
            id: TaskId::from_bytes(id),
            request: body,
        },
    };
    Ok(Undelivered {
        seq: row.get(0)?,
        parent: TaskId::from_bytes(rows::blob(row, 1)?),
        depth: row.get(2)?,
        sent,
    })
}

/// What was promised under an id and is not delivered yet: how deep it stands, who sent it and when, and the request.
fn request_of(db: &Connection, kind: i64, id: &[u8; 16]) -> Result<(u32, Origin, Time, String)> {
    db.prepare_cached("SELECT depth, parent, at, body FROM outbox WHERE id = ?1 AND kind = ?2")
        .and_then(|mut s| {
            let read = |row: &Row<'_>| {
                let origin = Origin::Task(TaskId::from_bytes(rows::blob(row, 1)?));
                Ok((row.get(0)?, origin, rows::from_micros(row.get(2)?), row.get(3)?))
            };
            s.query_row(params![id, kind], read).optional()
        })
        .failed()?
        .ok_or(StoreError::NotFound)
}

fn promised_task(db: &Connection, id: TaskId) -> Result<NewTask> {
    let (depth, origin, at, body) = request_of(db, TASK, id.as_bytes())?;
    let request: TaskRequest = parse(body.as_bytes()).map_err(|_| StoreError::NotFound)?;
    Ok(NewTask {
        id,
        idempotency_key: id,
        depth,
        ..NewTask::from_submission(request.into(), None, origin, at)
    })
}

/// A task that was submitted and is not delivered yet: whoever was told its id may ask for it. What its definition adds comes with the
/// delivery.
pub(super) fn promised(db: &Connection, id: TaskId) -> Result<Task> {
    promised_task(db, id).map(|task| task.as_waiting())
}

fn promised_workflow(db: &Connection, id: WorkflowId) -> Result<NewWorkflow> {
    let (depth, origin, at, body) = request_of(db, WORKFLOW, id.as_bytes())?;
    let request: WorkflowRequest = parse(body.as_bytes()).map_err(|_| StoreError::NotFound)?;
    NewWorkflow::new(id, request, |_| None, (origin, depth), at).map_err(|_| StoreError::NotFound)
}

/// As [`promised`]; its steps come with the delivery, which gives them their tasks.
pub(super) fn promised_without_steps(db: &Connection, id: WorkflowId) -> Result<Workflow> {
    promised_workflow(db, id).map(|workflow| Workflow {
        id,
        name: workflow.name,
        status: WorkflowStatus::Running,
        submitted_at: workflow.submitted_at,
        completed_at: None,
        steps: Vec::new(),
    })
}

/// Makes a task of what was promised under this id: it is to be cancelled.
pub(super) fn fulfil_task(tx: &mut Tx<'_>, id: TaskId) -> Result<()> {
    let task = promised_task(tx.db, id)?;
    take_out(tx, id.as_bytes())?;
    enqueue(tx, &task, None).map(drop)
}

/// As [`fulfil_task`].
pub(super) fn fulfil_workflow(tx: &mut Tx<'_>, id: WorkflowId) -> Result<()> {
    let workflow = promised_workflow(tx.db, id)?;
    take_out(tx, id.as_bytes())?;
    workflow::submit(tx, &workflow)
}

fn take_out(tx: &Tx<'_>, id: &[u8; 16]) -> Result<()> {
    tx.db
        .prepare_cached("DELETE FROM outbox WHERE id = ?1")
        .and_then(|mut s| s.execute([id]))
        .failed()
        .map(drop)
}

pub(super) fn deliver(tx: &mut Tx<'_>, seq: i64, delivery: &Delivery) -> Result<()> {
    let taken = tx
        .db
        .prepare_cached("DELETE FROM outbox WHERE seq = ?1")
        .and_then(|mut s| s.execute([seq]))
        .failed()?;
    if taken == 0 {
        return Err(StoreError::Conflict("it was delivered before".into()));
    }
    match delivery {
        Delivery::Event(event) => fire_events(tx, std::slice::from_ref(event)).map(drop),
        Delivery::Task(task) => enqueue(tx, task, None).map(drop),
        Delivery::Workflow(new) => workflow::submit(tx, new),
        Delivery::Refused(alert) => raise(tx, alert),
    }
}

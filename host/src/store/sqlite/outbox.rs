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
use crate::model::request::{TaskRequest, parse};
use crate::model::task::{NewTask, Origin, Task};
use crate::store::{Delivery, Result, StoreError};
use rusqlite::{Connection, OptionalExtension, Row, params};

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
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    db.prepare_cached(
        "SELECT seq, parent, depth, kind, id, event_type, body FROM outbox WHERE seq NOT IN (SELECT value FROM json_each(?2)) ORDER BY seq LIMIT ?1",
    )
    .and_then(|mut s| {
        s.query_map(params![limit, serde_json::json!(skip).to_string()], read)
            .and_then(Iterator::collect)
    })
    .failed()
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

/// A task that was submitted and is not delivered yet: whoever was told its id may ask for it. What its definition adds comes with the
/// delivery.
pub(super) fn promised(db: &Connection, id: TaskId) -> Result<Task> {
    let found = db
        .prepare_cached("SELECT parent, depth, at, body FROM outbox WHERE id = ?1 AND kind = ?2")
        .and_then(|mut s| {
            let read = |row: &Row<'_>| Ok((rows::blob(row, 0)?, row.get(1)?, row.get(2)?, row.get::<_, String>(3)?));
            s.query_row(params![id.as_bytes(), TASK], read).optional()
        })
        .failed()?;
    let (parent, depth, at, body) = found.ok_or(StoreError::NotFound)?;
    let request: TaskRequest = parse(body.as_bytes()).map_err(|_| StoreError::NotFound)?;
    let origin = Origin::Task(TaskId::from_bytes(parent));
    let task = NewTask {
        id,
        idempotency_key: id,
        depth,
        ..NewTask::from_submission(request.into(), None, origin, rows::from_micros(at))
    };
    Ok(task.as_waiting())
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

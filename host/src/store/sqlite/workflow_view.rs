//! Workflows as they are looked at: by people, and by the steps that need results.

use super::outbox;
use super::rows::{self, from_micros, micros};
use super::workflow::{steps, variant};
use super::{Failed, page};
use crate::model::ids::{TaskId, WorkflowId};
use crate::model::task::Status;
use crate::model::workflow::{State, WorkflowStatus};
use crate::store::{Page, PageRequest, Result, Step, StoreError, Workflow};
use rusqlite::{Connection, OptionalExtension, Row, params};
use std::collections::BTreeMap;

/// Bytes of results that a step is given, at most.
const MAX_NEEDS_BYTES: usize = 16 << 20;

const WORKFLOW: &str = "id, name, status, submitted_at, completed_at";

fn read_workflow(row: &Row<'_>) -> rusqlite::Result<Workflow> {
    let status = variant(&WorkflowStatus::ALL, row, 2)?;
    Ok(Workflow {
        id: WorkflowId::from_bytes(rows::blob(row, 0)?),
        name: row.get(1)?,
        status: status.unwrap_or(WorkflowStatus::Running),
        submitted_at: from_micros(row.get(3)?),
        completed_at: row.get::<_, Option<i64>>(4)?.map(from_micros),
        steps: Vec::new(),
    })
}

pub(super) fn workflow_row(db: &Connection, id: WorkflowId) -> Result<Workflow> {
    db.prepare_cached(&format!("SELECT {WORKFLOW} FROM workflow WHERE id = ?1"))
        .and_then(|mut s| s.query_row([id.as_bytes()], read_workflow).optional())
        .failed()?
        .ok_or(StoreError::NotFound)
}

pub(super) fn workflow(db: &Connection, id: WorkflowId) -> Result<Workflow> {
    let mut workflow = match workflow_row(db, id) {
        Err(StoreError::NotFound) => return outbox::promised_without_steps(db, id),
        found => found?,
    };
    let steps = steps(db, id)?;
    let mut live = db
        .prepare_cached("SELECT name, queue = 3, started_at, NULL, failure FROM task WHERE id = ?1")
        .failed()?;
    let mut ended = db
        .prepare_cached("SELECT name, 0, started_at, completed_at, failure FROM history WHERE id = ?1")
        .failed()?;
    type Found = (Option<String>, bool, Option<i64>, Option<i64>, Option<String>);
    let read = |row: &Row<'_>| -> rusqlite::Result<Found> {
        let failure = rows::failure(row, 4)?.map(|failure| failure.error);
        Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, failure))
    };
    for (place, task) in steps.tasks.iter().enumerate() {
        let state = steps.states[place];
        let query = if state.is_final() { &mut ended } else { &mut live };
        let found = query.query_row([task.as_bytes()], read).optional().failed()?;
        let (task_name, runs, started_at, completed_at, error) = found.unwrap_or_default();
        workflow.steps.push(Step {
            key: steps.keys[place].clone(),
            task: *task,
            task_name,
            status: match state {
                State::Active if runs => Status::Running,
                State::Blocked | State::Active => Status::Pending,
                State::Success => Status::Success,
                State::Failed => Status::Failed,
                State::Cancelled | State::Skipped => Status::Cancelled,
            },
            blocked: state == State::Blocked,
            needs: steps.graph.needs(place).iter().map(|need| steps.keys[*need].clone()).collect(),
            when: steps.graph.when(place),
            started_at: started_at.map(from_micros),
            completed_at: completed_at.map(from_micros),
            error,
        });
    }
    Ok(workflow)
}

pub(super) fn workflows(db: &Connection, request: &PageRequest) -> Result<Page<Workflow>> {
    let (before, id) = page::decode(request.cursor.as_deref())?.unwrap_or((i64::MAX, [0xff; 16]));
    let sql = format!(
        "SELECT {WORKFLOW} FROM workflow INDEXED BY workflow_by_time WHERE (submitted_at, id) < (?1, ?2)
         ORDER BY submitted_at DESC, id DESC LIMIT ?3"
    );
    let items = db
        .prepare_cached(&sql)
        .and_then(|mut s| {
            s.query_map(params![before, id, page::sql_limit(request)], read_workflow)
                .and_then(Iterator::collect)
        })
        .failed()?;
    Ok(page::cut(items, request.limit, |workflow: &Workflow| {
        (micros(workflow.submitted_at), *workflow.id.as_bytes())
    }))
}

/// The results of what a step needed, by key.
pub(super) fn needs(db: &Connection, task: TaskId) -> Result<BTreeMap<String, String>> {
    let workflow: Option<Option<[u8; 16]>> = db
        .prepare_cached("SELECT workflow FROM task WHERE id = ?1")
        .and_then(|mut s| s.query_row([task.as_bytes()], |row| row.get(0)).optional())
        .failed()?;
    let Some(id) = workflow.flatten().map(WorkflowId::from_bytes) else {
        return Ok(BTreeMap::new());
    };
    let steps = steps(db, id)?;
    let Some(step) = steps.tasks.iter().position(|its| *its == task) else {
        return Ok(BTreeMap::new());
    };
    let mut results = BTreeMap::new();
    let mut bytes = 0;
    let succeeded = steps.graph.needs(step).iter().filter(|need| steps.states[**need] == State::Success);
    for &need in succeeded {
        let result: Option<Option<String>> = db
            .prepare_cached("SELECT result FROM history WHERE id = ?1")
            .and_then(|mut s| s.query_row([steps.tasks[need].as_bytes()], |row| row.get(0)).optional())
            .failed()?;
        let Some(result) = result.flatten() else { continue };
        bytes += result.len();
        if bytes > MAX_NEEDS_BYTES {
            return Err(StoreError::Conflict(format!(
                "the results of the steps that it needs have more than {} MiB together; let them return less, for example where the data can be found",
                MAX_NEEDS_BYTES >> 20
            )));
        }
        results.insert(steps.keys[need].clone(), result);
    }
    Ok(results)
}

//! Workflows: kept whole with the tasks of all their steps, and moved on in the commit in which a step ends.
//!
//! The rules are `model::workflow`'s. Here its words become rows: *run* releases the step's task to the workers, *skip* moves it to
//! history as cancelled.

use super::Failed;
use super::enqueue::enqueue;
use super::page;
use super::rows::{self, from_micros, micros};
use super::settle::{self, End, move_to_history};
use super::writer::Tx;
use crate::model::Time;
use crate::model::ids::{TaskId, WorkflowId};
use crate::model::task::{Failure, Status, Ties};
use crate::model::workflow::{BLOCKED, Change, Graph, NewWorkflow, NoRetry, State, When, WorkflowStatus};
use crate::store::{Lease, Page, PageRequest, Result, Step, StepRetried, StoreError, Workflow};
use rusqlite::{Connection, OptionalExtension, Row, params};
use std::collections::BTreeMap;

/// Bytes of results that a step is given, at most.
const MAX_NEEDS_BYTES: usize = 16 << 20;

/// Where a variant stands in the list of all.
fn number<T: PartialEq>(all: &[T], variant: &T) -> i64 {
    all.iter().position(|one| one == variant).map_or(0, |place| place as i64)
}

/// The variant that stands there.
fn variant<T: Copy>(all: &[T], row: &Row<'_>, index: usize) -> rusqlite::Result<Option<T>> {
    Ok(all.get(usize::from(row.get::<_, u8>(index)?)).copied())
}

/// The steps as far as they decide what comes next.
struct Steps {
    graph: Graph,
    keys: Vec<String>,
    tasks: Vec<TaskId>,
    states: Vec<State>,
    /// As they were read.
    before: Vec<State>,
}

fn steps(db: &Connection, id: WorkflowId) -> Result<Steps> {
    let mut query = db
        .prepare_cached("SELECT key, needs, condition, state, task FROM step WHERE workflow = ?1 ORDER BY place")
        .failed()?;
    let mut rows = query.query([id.as_bytes()]).failed()?;
    let (mut keys, mut needs, mut when, mut states, mut tasks) = (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
    while let Some(row) = rows.next().failed()? {
        keys.push(row.get(0).failed()?);
        needs.push(rows::optional_json::<Vec<usize>>(row, 1).failed()?.unwrap_or_default());
        when.push(variant(&When::ALL, row, 2).failed()?.unwrap_or(When::AllDone));
        states.push(variant(&State::ALL, row, 3).failed()?.unwrap_or(State::Skipped));
        tasks.push(TaskId::from_bytes(rows::blob(row, 4).failed()?));
    }
    let damaged = || StoreError::Unavailable(format!("the steps of workflow {id} cannot be read"));
    Ok(Steps {
        graph: Graph::of_checked(needs, when).ok_or_else(damaged)?,
        keys,
        tasks,
        before: states.clone(),
        states,
    })
}

impl Steps {
    /// Writes the states that changed, and where the workflow stands with them.
    fn keep(&self, tx: &Tx<'_>, id: WorkflowId, cancelled: bool, at: Time) -> Result<()> {
        let mut update = tx
            .db
            .prepare_cached("UPDATE step SET state = ?3, task = ?4 WHERE workflow = ?1 AND place = ?2")
            .failed()?;
        for (place, (state, before)) in self.states.iter().zip(&self.before).enumerate() {
            if state != before {
                update
                    .execute(params![
                        id.as_bytes(),
                        place as i64,
                        number(&State::ALL, state),
                        self.tasks[place].as_bytes()
                    ])
                    .failed()?;
            }
        }
        let status = self.graph.status(&self.states, cancelled);
        let completed_at = Some(micros(at)).filter(|_| status != WorkflowStatus::Running);
        tx.db
            .prepare_cached("UPDATE workflow SET status = ?2, completed_at = ?3, cancelled = ?4 WHERE id = ?1")
            .and_then(|mut s| {
                s.execute(params![
                    id.as_bytes(),
                    number(&WorkflowStatus::ALL, &status),
                    completed_at,
                    cancelled
                ])
            })
            .failed()
            .map(drop)
    }

    /// Carries out what follows.
    fn advance(&mut self, tx: &mut Tx<'_>, at: Time) -> Result<()> {
        for change in self.graph.advance(&mut self.states) {
            match change {
                Change::Run(step) => release(tx, self.tasks[step], at)?,
                Change::Skip(step) => skip(tx, self.tasks[step], &self.why(step), at)?,
            }
        }
        Ok(())
    }

    /// Why a step can never run.
    fn why(&self, step: usize) -> String {
        let needs = self.graph.needs(step).iter();
        let mut without_success = needs.filter(|need| self.states[**need].is_final() && self.states[**need] != State::Success);
        match without_success.next() {
            Some(need) => {
                let ended = if self.states[*need] == State::Failed {
                    "failed"
                } else {
                    "was cancelled"
                };
                format!("the step cannot run: {:?}, which it needs, {ended}", self.keys[*need])
            }
            None => "the step cannot run".to_owned(),
        }
    }
}

pub(super) fn submit(tx: &mut Tx<'_>, workflow: &NewWorkflow) -> Result<()> {
    let NewWorkflow {
        id,
        name,
        submitted_at: at,
        graph,
        ..
    } = workflow;
    tx.db
        .prepare_cached("INSERT INTO workflow (id, name, submitted_at) VALUES (?1, ?2, ?3)")
        .and_then(|mut s| s.execute(params![id.as_bytes(), name, micros(*at)]))
        .failed()?;
    for (place, step) in workflow.steps.iter().enumerate() {
        tx.db
            .prepare_cached("INSERT INTO step (workflow, place, key, needs, condition, state, task) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")
            .and_then(|mut s| {
                let needs = serde_json::json!(graph.needs(place)).to_string();
                let condition = number(&When::ALL, &graph.when(place));
                let blocked = number(&State::ALL, &State::Blocked);
                s.execute(params![
                    id.as_bytes(),
                    place as i64,
                    step.key,
                    needs,
                    condition,
                    blocked,
                    step.task.id.as_bytes()
                ])
            })
            .failed()?;
        enqueue(tx, &step.task, None)?;
        block(tx, step.task.id)?;
    }
    let mut steps = steps(tx.db, *id)?;
    steps.advance(tx, *at)?;
    steps.keep(tx, *id, false, *at)
}

/// Keeps the workers off a task until its needs have ended. Nothing is ever released by this key: it is released by its id.
fn block(tx: &Tx<'_>, id: TaskId) -> Result<()> {
    tx.db
        .prepare_cached("UPDATE task SET queue = 2, held = ?2, held_key = 'needs' WHERE id = ?1")
        .and_then(|mut s| s.execute(params![id.as_bytes(), BLOCKED]))
        .failed()
        .map(drop)
}

fn release(tx: &Tx<'_>, id: TaskId, now: Time) -> Result<()> {
    tx.db
        .prepare_cached("UPDATE task SET queue = 1, held = NULL, held_key = NULL, due_at = MAX(due_at, ?2) WHERE id = ?1")
        .and_then(|mut s| s.execute(params![id.as_bytes(), micros(now)]))
        .failed()
        .map(drop)
}

/// Ends a task before its turn. Nobody else has to hear of it: whoever calls this knows.
fn skip(tx: &mut Tx<'_>, id: TaskId, why: &str, at: Time) -> Result<()> {
    let failure = Failure {
        code: "cancelled".into(),
        error: why.to_owned(),
        details: None,
    };
    let end = End {
        failure: Some(rows::failure_text(&failure)),
        ..End::without_attempt(Status::Cancelled, at, Ties::default())
    };
    move_to_history(tx, id, None, &end)
}

/// A step's task has ended: what needs it hears of it.
pub(super) fn step_ended(tx: &mut Tx<'_>, id: WorkflowId, task: TaskId, status: Status, at: Time) -> Result<()> {
    let mut steps = steps(tx.db, id)?;
    let Some(step) = steps.tasks.iter().position(|its| *its == task) else {
        return Ok(()); // replaced, or of a workflow that was forgotten
    };
    steps.states[step] = State::of_end(status);
    steps.advance(tx, at)?;
    steps.keep(tx, id, false, at)
}

pub(super) fn cancel(tx: &mut Tx<'_>, id: WorkflowId, now: Time) -> Result<Vec<Lease>> {
    workflow_row(tx.db, id)?;
    let mut steps = steps(tx.db, id)?;
    if steps.states.iter().all(|state| state.is_final()) {
        return Err(StoreError::Conflict("all steps of the workflow have ended already".into()));
    }
    let mut running = Vec::new();
    for step in 0..steps.states.len() {
        match steps.states[step] {
            State::Blocked => {
                skip(tx, steps.tasks[step], "the workflow was cancelled", now)?;
                steps.states[step] = State::Skipped;
            }
            State::Active => {
                running.extend(settle::cancel_untied(tx, steps.tasks[step], now)?);
                steps.states[step] = State::Cancelled;
            }
            State::Success | State::Failed | State::Cancelled | State::Skipped => {}
        }
    }
    steps.keep(tx, id, true, now)?;
    Ok(running)
}

pub(super) fn retry_step(tx: &mut Tx<'_>, id: WorkflowId, key: &str, now: Time) -> Result<StepRetried> {
    workflow_row(tx.db, id)?;
    let steps = steps(tx.db, id)?;
    let step = steps.keys.iter().position(|its| its == key).ok_or(StoreError::NotFound)?;
    retry(tx, id, steps, step, TaskId::new(now), now)
}

/// The same of the step that this task was the latest of.
pub(super) fn retry_task(tx: &mut Tx<'_>, id: WorkflowId, task: TaskId, new_id: TaskId, now: Time) -> Result<()> {
    if workflow_row(tx.db, id).is_err() {
        return Err(StoreError::Conflict(
            "the workflow of the task is forgotten; submit it again".into(),
        ));
    }
    let steps = steps(tx.db, id)?;
    let step = steps.tasks.iter().position(|its| *its == task);
    let step = step.ok_or_else(|| StoreError::Conflict("the task was retried before: its step has a newer one".into()))?;
    retry(tx, id, steps, step, new_id, now).map(drop)
}

fn retry(tx: &mut Tx<'_>, id: WorkflowId, mut steps: Steps, step: usize, new_id: TaskId, now: Time) -> Result<StepRetried> {
    let key = steps.keys[step].clone();
    let reset = steps.graph.retry(step, &mut steps.states).map_err(|why| {
        StoreError::Conflict(match why {
            NoRetry::NotEnded => format!("step {key:?} has not ended"),
            NoRetry::Succeeded => format!("step {key:?} succeeded; only one that failed or was cancelled can be retried"),
            NoRetry::Needs(need) => format!(
                "step {key:?} could not run: {:?}, which it needs, did not succeed; retry that one, and this one follows",
                steps.keys[need]
            ),
        })
    })?;
    let before = steps.tasks[step];
    for &place in &reset {
        let new_id = if place == step { new_id } else { TaskId::new(now) };
        again(tx, steps.tasks[place], new_id, now)?;
        steps.tasks[place] = new_id;
        // Where it stands as it did before, its task still has to be written.
        tx.db
            .prepare_cached("UPDATE step SET task = ?3 WHERE workflow = ?1 AND place = ?2")
            .and_then(|mut s| s.execute(params![id.as_bytes(), place as i64, new_id.as_bytes()]))
            .failed()?;
    }
    steps.advance(tx, now)?;
    steps.keep(tx, id, false, now)?;
    let reset = reset.into_iter().filter(|place| *place != step);
    Ok(StepRetried {
        before,
        task: new_id,
        reset: reset.map(|place| steps.keys[place].clone()).collect(),
    })
}

/// A new task in the place of one that has ended, as it was submitted, and blocked.
fn again(tx: &Tx<'_>, ended: TaskId, new_id: TaskId, now: Time) -> Result<()> {
    let made = tx
        .db
        .prepare_cached(
            "INSERT INTO task (id, name, payload, priority, tags, queue, held, held_key, trigger_at, due_at, submitted_at, timeout,
               max_retries, idempotent, origin_kind, origin, idempotency_key, workflow, depth)
             SELECT ?2, name, payload, priority, tags, 2, ?4, 'needs', ?3, ?3, ?3, timeout,
               max_retries, idempotent, 3, id, COALESCE(idempotency_key, id), workflow, depth
             FROM history WHERE id = ?1",
        )
        .and_then(|mut s| s.execute(params![ended.as_bytes(), new_id.as_bytes(), micros(now), BLOCKED]))
        .failed()?;
    if made == 0 {
        return Err(StoreError::Unavailable(format!("the ended task {ended} of a step is gone")));
    }
    for sql in [
        "INSERT OR IGNORE INTO task_tag SELECT tags.value, ?2 FROM history, json_each(history.tags) AS tags WHERE history.id = ?1",
        "UPDATE history SET dismissed = 1, retried_by = ?2 WHERE id = ?1",
    ] {
        tx.db
            .prepare_cached(sql)
            .and_then(|mut s| s.execute(params![ended.as_bytes(), new_id.as_bytes()]))
            .failed()?;
    }
    Ok(())
}

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

fn workflow_row(db: &Connection, id: WorkflowId) -> Result<Workflow> {
    db.prepare_cached(&format!("SELECT {WORKFLOW} FROM workflow WHERE id = ?1"))
        .and_then(|mut s| s.query_row([id.as_bytes()], read_workflow).optional())
        .failed()?
        .ok_or(StoreError::NotFound)
}

pub(super) fn workflow(db: &Connection, id: WorkflowId) -> Result<Workflow> {
    let mut workflow = workflow_row(db, id)?;
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

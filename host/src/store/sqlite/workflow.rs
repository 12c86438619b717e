//! Workflows: kept whole with the tasks of all their steps, and moved on in the commit in which a step ends.
//!
//! The rules are `model::workflow`'s. Here its words become rows: *run* releases the step's task to the workers, *skip* moves it to
//! history as cancelled. How they are looked at is in `workflow_view`.

use super::Failed;
use super::enqueue::enqueue;
use super::outbox;
use super::rows::{self, micros};
use super::settle::{self, End, move_to_history};
use super::workflow_view::workflow_row;
use super::writer::Tx;
use crate::model::Time;
use crate::model::hold::Hold;
use crate::model::ids::{TaskId, WorkflowId};
use crate::model::task::{Failure, Status, Ties};
use crate::model::workflow::{BLOCKED, Change, Graph, NewWorkflow, NoRetry, State, When, WorkflowStatus};
use crate::store::{Lease, Result, StepRetried, StoreError};
use rusqlite::{Connection, Row, params};
use std::collections::HashMap;

/// Steps of workflows that the writer remembers, at most.
const REMEMBERED: usize = 20_000;

/// Where a variant stands in the list of all.
fn number<T: PartialEq>(all: &[T], variant: &T) -> i64 {
    all.iter().position(|one| one == variant).map_or(0, |place| place as i64)
}

/// The variant that stands there.
pub(super) fn variant<T: Copy>(all: &[T], row: &Row<'_>, index: usize) -> rusqlite::Result<Option<T>> {
    Ok(all.get(usize::from(row.get::<_, u8>(index)?)).copied())
}

/// The writer's copy of workflows under way: the end of one step of a thousand need not read the others.
#[derive(Default)]
pub(super) struct WorkflowBook {
    by_id: HashMap<WorkflowId, Steps>,
    /// How many steps they have.
    steps: usize,
}

impl WorkflowBook {
    fn take(&mut self, db: &Connection, id: WorkflowId) -> Result<Steps> {
        match self.by_id.remove(&id) {
            Some(known) => {
                self.steps -= known.keys.len();
                Ok(known)
            }
            None => steps(db, id),
        }
    }

    /// Remembers where a workflow stands that goes on. What is not put back is read again.
    fn put(&mut self, id: WorkflowId, mut steps: Steps) {
        if self.steps + steps.keys.len() > REMEMBERED {
            *self = Self::default();
        }
        steps.before.clone_from(&steps.states);
        self.steps += steps.keys.len();
        self.by_id.insert(id, steps);
    }
}

/// The steps as far as they decide what comes next.
pub(super) struct Steps {
    pub(super) graph: Graph,
    pub(super) keys: Vec<String>,
    pub(super) tasks: Vec<TaskId>,
    pub(super) states: Vec<State>,
    /// As they were read.
    before: Vec<State>,
}

pub(super) fn steps(db: &Connection, id: WorkflowId) -> Result<Steps> {
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
    fn keep(self, tx: &mut Tx<'_>, id: WorkflowId, cancelled: bool, at: Time) -> Result<()> {
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
            .failed()?;
        if status == WorkflowStatus::Running {
            tx.workflows.put(id, self);
        }
        Ok(())
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
        .prepare_cached("UPDATE task SET queue = 2, held = ?2, held_key = ?3 WHERE id = ?1")
        .and_then(|mut s| s.execute(params![id.as_bytes(), BLOCKED, Hold::Needs.key("", "")]))
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
    let mut steps = tx.workflows.take(tx.db, id)?;
    let Some(step) = steps.tasks.iter().position(|its| *its == task) else {
        return Ok(()); // replaced, or of a workflow that was forgotten
    };
    steps.states[step] = State::of_end(status);
    steps.advance(tx, at)?;
    steps.keep(tx, id, false, at)
}

pub(super) fn cancel(tx: &mut Tx<'_>, id: WorkflowId, now: Time) -> Result<Vec<Lease>> {
    match workflow_row(tx.db, id) {
        // An attempt may have submitted it a moment ago.
        Err(StoreError::NotFound) => outbox::fulfil_workflow(tx, id)?,
        found => drop(found?),
    }
    let mut steps = tx.workflows.take(tx.db, id)?;
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
    let steps = tx.workflows.take(tx.db, id)?;
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
    let steps = tx.workflows.take(tx.db, id)?;
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
    let reset = reset.into_iter().filter(|place| *place != step);
    let reset = reset.map(|place| steps.keys[place].clone()).collect();
    steps.keep(tx, id, false, now)?;
    Ok(StepRetried {
        before,
        task: new_id,
        reset,
    })
}

/// A new task in the place of one that has ended, as it was submitted, and blocked.
fn again(tx: &mut Tx<'_>, ended: TaskId, new_id: TaskId, now: Time) -> Result<()> {
    let made = tx
        .db
        .prepare_cached(
            "INSERT INTO task (id, name, payload, priority, tags, queue, held, held_key, trigger_at, due_at, submitted_at, timeout,
               max_retries, idempotent, origin_kind, origin, idempotency_key, workflow, depth, fair)
             SELECT ?2, name, payload, priority, tags, 2, ?4, ?5, ?3, ?3, ?3, timeout,
               max_retries, idempotent, 3, id, COALESCE(idempotency_key, id), workflow, depth, fair
             FROM history WHERE id = ?1",
        )
        .and_then(|mut s| {
            s.execute(params![
                ended.as_bytes(),
                new_id.as_bytes(),
                micros(now),
                BLOCKED,
                Hold::Needs.key("", "")
            ])
        })
        .failed()?;
    if made == 0 {
        return Err(StoreError::Unavailable(format!("the ended task {ended} of a step is gone")));
    }
    tx.committed.entered += 1;
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

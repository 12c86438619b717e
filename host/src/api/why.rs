//! Why a task does not run: what nobody's logs say.

use super::State;
use super::error::Problem;
use super::extract::Name;
use super::wire::{Reason, WhyRecord};
use crate::model::Time;
use crate::model::hold::Hold;
use crate::model::ids::TaskId;
use crate::model::task::{Status, Task};
use crate::store::{COUNTED, Waiting};
use axum::Json;

/// Says why a task does not run
///
/// All that stands in its way, what has to give way first at first.
#[utoipa::path(get, path = "/task/{task_id}/why", tag = "tasks", params(("task_id" = String, Path, description = "Id of a task")),
    responses((status = 200, description = "The reasons", body = WhyRecord), (status = 404), (status = 503)))]
pub(crate) async fn why(state: State, name: Name) -> Result<Json<WhyRecord>, Problem> {
    let id: TaskId = name.id("task")?;
    let task = state.store.task(id).await;
    let task = task.map_err(|error| Problem::of_store(error, "task", &name.0))?;
    let reasons = match task.status {
        Status::Pending => reasons(&state, &task).await?,
        Status::Running => stands_aside(&state, id).into_iter().collect(),
        _ => Vec::new(),
    };
    Ok(Json(WhyRecord {
        task_id: id.to_string(),
        status: task.status.as_str(),
        reasons,
    }))
}

fn reason(reason: &'static str, detail: impl Into<String>) -> Reason {
    Reason {
        reason,
        detail: detail.into(),
        at: None,
        steps: Vec::new(),
        ahead: None,
        waited: None,
    }
}

/// Of an attempt that has begun and has no processor.
fn stands_aside(state: &State, id: TaskId) -> Option<Reason> {
    let (is_aside, waited) = state.scheduler.processor_wait(id)?;
    let waited = waited.as_secs_f64();
    is_aside.then(|| Reason {
        waited: Some(waited),
        ..reason(
            "no_processor",
            format!("it has begun and waits for a processor, {waited:.1} s so far; its timeout does not run meanwhile"),
        )
    })
}

async fn reasons(state: &State, task: &Task) -> Result<Vec<Reason>, Problem> {
    let now = state.clock.now();
    let waiting = state.store.waiting(task.id).await.unwrap_or_default(); // it may just have ended
    let pauses = state.store.pauses().await?;
    let mut reasons = Vec::new();
    for (name, at) in pauses.iter().filter(|(name, _)| name.is_empty() || *name == task.name) {
        let what = if name.is_empty() {
            "the whole queue is".to_owned()
        } else {
            format!("{name} is")
        };
        let resume = if name.is_empty() {
            "taskhost queue resume".to_owned()
        } else {
            format!("taskhost queue resume {name}")
        };
        let detail = format!("{what} paused since {}; `{resume}` lets it go on", shown(*at));
        reasons.push(reason("paused", detail));
    }
    if !state.registry.snapshot().handlers.contains_key(&task.name) {
        let detail = format!("no loaded plugin handles {}; it runs once one does", task.name);
        reasons.push(reason("handler_missing", detail));
    }
    if let Some(due_at) = task.due_at.filter(|due| *due > now) {
        let detail = match task.counters.retries {
            0 => format!("it is due at {}", shown(due_at)),
            n => format!("its retry number {n} is due at {}", shown(due_at)),
        };
        reasons.push(Reason {
            at: Some(due_at),
            ..reason("due_later", detail)
        });
    }
    reasons.extend(held(state, task, &waiting).await?);
    if reasons.is_empty() {
        reasons.push(in_line(state, task, &waiting));
    }
    Ok(reasons)
}

/// What holds it besides pauses and missing handlers, which stand above as they are now.
async fn held(state: &State, task: &Task, waiting: &Waiting) -> Result<Option<Reason>, Problem> {
    let Some(hold) = waiting.held_by else { return Ok(None) };
    Ok(match hold {
        Hold::Handler | Hold::Pause => None,
        Hold::Schedule => Some(reason(reason_of(hold), "the task of the schedule's previous fire has not ended")),
        Hold::Needs => Some(blocked_by(state, task).await?),
        Hold::Definition | Hold::Limit | Hold::Rate => Some(Reason {
            at: waiting.release_at,
            ..reason(reason_of(hold), task.held.clone().unwrap_or_default())
        }),
    })
}

/// What holds a task, in the words of the API.
pub(super) fn reason_of(hold: Hold) -> &'static str {
    match hold {
        Hold::Handler => "handler_missing",
        Hold::Pause => "paused",
        Hold::Definition | Hold::Limit | Hold::Rate => "limit",
        Hold::Schedule => "previous_fire",
        Hold::Needs => "blocked_by",
    }
}

async fn blocked_by(state: &State, task: &Task) -> Result<Reason, Problem> {
    let mut steps = Vec::new();
    if let Some(id) = task.workflow {
        let workflow = state.store.workflow(id).await?;
        let mine = workflow.steps.iter().find(|step| step.task == task.id);
        let open = |key: &&String| workflow.steps.iter().any(|step| step.key == **key && !step.status.is_final());
        steps = mine
            .map(|step| step.needs.iter().filter(open).cloned().collect())
            .unwrap_or_default();
    }
    let detail = match steps.as_slice() {
        [step] => format!("it waits for the step {step}"),
        steps => format!("it waits for the steps {}", steps.join(", ")),
    };
    Ok(Reason {
        steps,
        ..reason(reason_of(Hold::Needs), detail)
    })
}

fn in_line(state: &State, task: &Task, waiting: &Waiting) -> Reason {
    let in_use = state.scheduler.in_use();
    let ahead = waiting.ahead.unwrap_or_default();
    let many = if ahead >= COUNTED { "at least " } else { "" };
    let before = format!("{many}{ahead} due tasks that are more urgent or of its own kind go before it, and others in turn");
    if state.scheduler.waits_for_processor(&task.name, task.priority) {
        let detail = format!(
            "tasks of {} burn: it waits until a processor is free; {} of {} burn, {} more wait for one; {before}",
            task.name, in_use.burning, in_use.processors, in_use.aside
        );
        return Reason {
            ahead: Some(ahead),
            ..reason("no_processor", detail)
        };
    }
    if ahead == 0 && in_use.slots_free > in_use.slots_kept {
        return reason("starting", "it is about to start");
    }
    let free_memory = in_use.memory.saturating_sub(in_use.memory_reserved);
    Reason {
        ahead: Some(ahead),
        ..reason(
            "no_slot",
            format!(
                "{before}; {} of {} slots are free on this host, {} of them kept for priorities 1 and 2, and {} of {} of memory (worker.memory_budget)",
                in_use.slots_free,
                in_use.slots,
                in_use.slots_kept,
                bytesize::ByteSize(free_memory),
                bytesize::ByteSize(in_use.memory)
            ),
        )
    }
}

fn shown(time: Time) -> String {
    time.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
}

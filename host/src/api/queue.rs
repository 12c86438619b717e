//! The queue as a whole: looked at, paused, resumed; and limits on what runs at once.

use super::State;
use super::error::{Code, Problem};
use super::extract::{JsonBody, Name, NoBody};
use super::why::reason_of;
use super::wire::{LimitRecord, Paused, QueueRecord, Removed};
use crate::model::hold::Hold;
use crate::model::name;
use crate::model::request::{LimitRequest, QueueRequest};
use crate::store::COUNTED;
use axum::Json;
use axum::http::StatusCode;
use std::collections::BTreeMap;

/// Shows what waits and runs
#[utoipa::path(get, path = "/queue", tag = "queue",
    responses((status = 200, description = "Now", body = QueueRecord), (status = 503)))]
pub(crate) async fn show(state: State) -> Result<Json<QueueRecord>, Problem> {
    let (queue, pauses) = (state.store.queue().await?, state.store.pauses().await?);
    let now = state.clock.now();
    let oldest = queue.oldest_due_at.into_iter().chain(queue.oldest_held_at).min();
    let in_use = state.scheduler.in_use();
    let burns = queue.due_by_task.iter().filter(|(name, _)| state.scheduler.burns(name));
    let waits_for_processor = burns.map(|(_, count)| count).sum();
    let rates = state.monitor.rates();
    Ok(Json(QueueRecord {
        paused: pauses.iter().any(|(name, _)| name.is_empty()),
        paused_at: pauses.iter().find(|(name, _)| name.is_empty()).map(|(_, at)| *at),
        paused_tasks: pauses.into_iter().filter(|(name, _)| !name.is_empty()).collect(),
        slots: in_use.slots,
        slots_free: in_use.slots_free,
        slots_kept: in_use.slots_kept,
        memory_budget: in_use.memory,
        memory_reserved: in_use.memory_reserved,
        processors: in_use.processors,
        burning: in_use.burning,
        standing_aside: in_use.aside,
        waits_for_processor,
        running: queue.running,
        due: queue.due.iter().sum(),
        due_by_priority: (1..).zip(queue.due).filter(|(_, count)| *count > 0).collect(),
        held: queue.held,
        scheduled: queue.scheduled,
        oldest_due_at: queue.oldest_due_at,
        held_by: held_by(&queue.held_by),
        due_by_task: queue.due_by_task.into_iter().collect(),
        oldest_held_at: queue.oldest_held_at,
        arrival_rate: rates.arrival,
        drain_rate: rates.drain,
        oldest_wait: oldest.map(|at| (now - at).as_seconds_f64().max(0.0)),
    }))
}

/// By the words of the API; a reason may have several keys.
fn held_by(counts: &[(Hold, u64)]) -> BTreeMap<&'static str, u64> {
    let mut held = BTreeMap::new();
    for (hold, count) in counts {
        let all = held.entry(reason_of(*hold)).or_insert(0_u64);
        *all = all.saturating_add(*count).min(COUNTED);
    }
    held
}

/// Starts nothing more, or no task of a name
///
/// What runs goes on. New tasks are taken and wait. The pause survives restarts.
#[utoipa::path(post, path = "/queue/pause", tag = "queue", request_body = Option<QueueRequest>,
    responses((status = 200, description = "On disk", body = Paused), (status = 400), (status = 408), (status = 413), (status = 415), (status = 503)))]
pub(crate) async fn pause(state: State, JsonBody(request, _room): JsonBody<QueueRequest>) -> Result<Json<Paused>, Problem> {
    let name = request.task_name.as_deref().unwrap_or_default();
    let changed = state.store.pause(name, state.clock.now()).await?;
    Ok(Json(Paused {
        status: "paused",
        changed,
        task_name: request.task_name,
    }))
}

/// Starts tasks again, all or those of a name
///
/// Each pause is taken back by itself: a name that is resumed waits on while the whole queue is paused, and the other way round.
#[utoipa::path(post, path = "/queue/resume", tag = "queue", request_body = Option<QueueRequest>,
    responses((status = 200, description = "On disk", body = Paused), (status = 400), (status = 408), (status = 413), (status = 415), (status = 503)))]
pub(crate) async fn resume(state: State, JsonBody(request, _room): JsonBody<QueueRequest>) -> Result<Json<Paused>, Problem> {
    let name = request.task_name.as_deref().unwrap_or_default();
    let changed = state.store.resume(name).await?;
    state.scheduler.wake();
    let whole = state.store.pauses().await?.iter().any(|(name, _)| name.is_empty());
    Ok(Json(Paused {
        status: if whole { "paused" } else { "running" },
        changed,
        task_name: request.task_name,
    }))
}

/// Lists the limits, by name
#[utoipa::path(get, path = "/limits", tag = "queue",
    responses((status = 200, description = "At most 1,000", body = Vec<LimitRecord>), (status = 503)))]
pub(crate) async fn limits(state: State) -> Result<Json<Vec<LimitRecord>>, Problem> {
    let limits = state.store.limits().await?;
    Ok(Json(limits.into_iter().map(Into::into).collect()))
}

/// Shows a limit
#[utoipa::path(get, path = "/limit/{name}", tag = "queue", params(("name" = String, Path, description = "Name of a limit")),
    responses((status = 200, description = "The limit", body = LimitRecord), (status = 404), (status = 503)))]
pub(crate) async fn limit(state: State, name: Name) -> Result<Json<LimitRecord>, Problem> {
    let mut limits = state.store.limits().await?.into_iter();
    let limit = limits.find(|limit| limit.name == name.0);
    limit
        .map(|limit| Json(limit.into()))
        .ok_or_else(|| Problem::unknown("limit", &name.0))
}

/// Creates or replaces a limit
///
/// It holds for attempts that start from now on; those that run already count, and go on.
#[utoipa::path(put, path = "/limit/{name}", tag = "queue", request_body = LimitRequest,
    params(("name" = String, Path, description = "1 to 128 characters of A-Z a-z 0-9 . _ -")),
    responses((status = 200, description = "Replaced", body = LimitRecord), (status = 201, description = "Created", body = LimitRecord),
        (status = 400), (status = 408), (status = 409), (status = 413), (status = 415), (status = 503)))]
pub(crate) async fn put_limit(
    state: State,
    name: Name,
    JsonBody(request, _room): JsonBody<LimitRequest>,
) -> Result<(StatusCode, Json<LimitRecord>), Problem> {
    if !name::is_valid(&name.0) {
        return Err(Problem::new(Code::InvalidValue, name::why_invalid("the name", &name.0)));
    }
    let limit = request.limit(name.0)?;
    let is_new = state.store.put_limit(limit.clone()).await?;
    state.scheduler.wake();
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(limit.into())))
}

/// Removes a limit
#[utoipa::path(delete, path = "/limit/{name}", tag = "queue", params(("name" = String, Path, description = "Name of a limit")),
    responses((status = 200, description = "Removed", body = Removed), (status = 400), (status = 404), (status = 503)))]
pub(crate) async fn remove_limit(state: State, name: Name, _: NoBody) -> Result<Json<Removed>, Problem> {
    let removed = state.store.remove_limit(&name.0).await;
    removed.map_err(|error| Problem::of_store(error, "limit", &name.0))?;
    state.scheduler.wake();
    Ok(Json(Removed::new(name.0)))
}

//! Triggers: event rules that create tasks. Registering one runs nothing.

use super::State;
use super::error::Problem;
use super::extract::{JsonBody, Name, NoBody, Query};
use super::page::{self, Listed};
use super::schedules::{derived_name, not_removed};
use super::tasks::PageQuery;
use super::wire::{Accepted, Removed, TriggerRecord};
use crate::model::ids::TriggerId;
use crate::model::request::{EventTriggerRequest, TriggerPatch};
use crate::model::trigger::{Patch, Terms, Trigger};
use crate::model::unique;
use axum::Json;
use axum::extract::OriginalUri;

/// Registers a trigger, or updates the one of its name
///
/// `task_id` in the answer is the trigger's id. Nothing runs before an event arrives. Sent twice it is the same trigger: an
/// `Idempotency-Key` is not needed and not looked at.
#[utoipa::path(post, path = "/task/event-trigger", tag = "triggers", request_body = EventTriggerRequest,
    responses((status = 200, description = "On disk", body = Accepted), (status = 400), (status = 404), (status = 408), (status = 413), (status = 415),
        (status = 503)))]
pub(crate) async fn create(state: State, JsonBody(request, _room): JsonBody<EventTriggerRequest>) -> Result<Json<Accepted>, Problem> {
    // The payload is half of what the handler gets: the schema is held against the whole when the event arrives.
    state.handler(&request.task_name)?;
    let name = request.name.clone().unwrap_or_else(|| name_of(&request));
    let trigger = Trigger::declare(&request, name, state.clock.now());
    let id = state.store.put_trigger(trigger).await?;
    Ok(Json(Accepted::new(id, "registered")))
}

/// Of all that a trigger is, in whatever order its tags are given; of its payload alone without more.
fn name_of(request: &EventTriggerRequest) -> String {
    let mut tags = request.tags.clone();
    tags.sort();
    let more = Terms {
        payload: unique::text(&request.payload.text),
        priority: request.priority,
        tags,
        filter: request.filter.clone(),
        debounce: request.debounce,
    };
    let content = match more {
        Terms {
            payload,
            priority: None,
            filter: None,
            debounce: None,
            tags,
        } if tags.is_empty() => payload,
        more => serde_json::to_string(&more).unwrap_or_default(),
    };
    derived_name(&request.task_name, [request.event_type.as_str(), &content])
}

/// Lists triggers, oldest first
#[utoipa::path(get, path = "/triggers", tag = "triggers", params(PageQuery),
    responses((status = 200, description = "Oldest first", body = Vec<TriggerRecord>), (status = 400), (status = 503)))]
pub(crate) async fn list(
    state: State,
    OriginalUri(uri): OriginalUri,
    Query(query): Query<PageQuery>,
) -> Result<Listed<Vec<TriggerRecord>>, Problem> {
    let page = state.store.triggers(query.request()?).await?;
    Ok(Listed {
        link: page::link(&uri, page.next.as_deref()),
        body: page.items.into_iter().map(Into::into).collect(),
    })
}

/// Shows a trigger
#[utoipa::path(get, path = "/trigger/{id}", tag = "triggers", params(("id" = String, Path, description = "Id or name of a trigger; what reads as a UUID is an id")),
    responses((status = 200, description = "Its record", body = TriggerRecord), (status = 404), (status = 503)))]
pub(crate) async fn get(state: State, name: Name) -> Result<Json<TriggerRecord>, Problem> {
    let trigger = state.store.trigger(find(&state, &name).await?).await;
    let trigger = trigger.map_err(|error| Problem::of_store(error, "trigger", &name.0))?;
    Ok(Json(trigger.into()))
}

/// Changes a trigger
///
/// A JSON merge patch (RFC 7396) over what was registered, the payload's members among it, at every level. The change is kept apart from
/// it, over later registrations and restarts; null takes it back; those of the payload have 1 MiB at most. One of the payload is dropped
/// where the trigger is registered for another task, and an `edit` alert tells so.
#[utoipa::path(patch, path = "/trigger/{id}", tag = "triggers", params(("id" = String, Path, description = "Id or name of a trigger; what reads as a UUID is an id")),
    request_body = TriggerPatch, responses((status = 200, description = "Its record after it", body = TriggerRecord), (status = 400), (status = 404),
        (status = 408), (status = 409), (status = 413), (status = 415), (status = 503)))]
pub(crate) async fn edit(
    state: State,
    name: Name,
    JsonBody(request, _room): JsonBody<TriggerPatch>,
) -> Result<Json<TriggerRecord>, Problem> {
    let patch = Patch {
        payload: request.payload.map(|payload| payload.map(|payload| payload.text)),
        priority: request.priority,
        tags: request.tags,
        filter: request.filter,
        debounce: request.debounce,
        paused: request.paused,
    };
    patch.check()?;
    apply(&state, &name, patch).await
}

/// Pauses a trigger
///
/// Events pass it by until it is resumed, over restarts and registrations.
#[utoipa::path(post, path = "/trigger/{id}/pause", tag = "triggers", params(("id" = String, Path, description = "Id or name of a trigger; what reads as a UUID is an id")),
    responses((status = 200, description = "Its record", body = TriggerRecord), (status = 400), (status = 404), (status = 503)))]
pub(crate) async fn pause(state: State, name: Name, _: NoBody) -> Result<Json<TriggerRecord>, Problem> {
    apply(&state, &name, paused(true)).await
}

/// Resumes a trigger
#[utoipa::path(post, path = "/trigger/{id}/resume", tag = "triggers", params(("id" = String, Path, description = "Id or name of a trigger; what reads as a UUID is an id")),
    responses((status = 200, description = "Its record", body = TriggerRecord), (status = 400), (status = 404), (status = 503)))]
pub(crate) async fn resume(state: State, name: Name, _: NoBody) -> Result<Json<TriggerRecord>, Problem> {
    apply(&state, &name, paused(false)).await
}

fn paused(paused: bool) -> Patch {
    Patch {
        paused: Some(paused),
        ..Patch::default()
    }
}

/// The trigger that a path names by its id or its name.
async fn find(state: &State, name: &Name) -> Result<TriggerId, Problem> {
    match name.0.parse() {
        Ok(id) => Ok(id),
        Err(_) => {
            let id = state.store.trigger_named(&name.0).await;
            id.map_err(|error| Problem::of_store(error, "trigger", &name.0))
        }
    }
}

async fn apply(state: &State, name: &Name, patch: Patch) -> Result<Json<TriggerRecord>, Problem> {
    let trigger = state.store.edit_trigger(find(state, name).await?, patch).await;
    let trigger = trigger.map_err(|error| Problem::of_store(error, "trigger", &name.0))?;
    Ok(Json(trigger.into()))
}

/// Removes a trigger
///
/// Tasks that it made stay. One that was removed before is a 409 under its id, and not known under its name.
#[utoipa::path(delete, path = "/trigger/{id}", tag = "triggers", params(("id" = String, Path, description = "Id or name of a trigger; what reads as a UUID is an id")),
    responses((status = 200, description = "Removed", body = Removed), (status = 400), (status = 404), (status = 409), (status = 503)))]
pub(crate) async fn remove(state: State, name: Name, _: NoBody) -> Result<Json<Removed>, Problem> {
    let id = find(&state, &name).await?;
    match state.store.remove_trigger(id, state.clock.now()).await {
        Ok(()) => Ok(Json(Removed::new(id))),
        Err(error) => Err(not_removed(&state, error, "trigger", &name).await),
    }
}

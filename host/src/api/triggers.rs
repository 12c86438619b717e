//! Triggers: event rules that create tasks. Registering one runs nothing.

use super::State;
use super::error::Problem;
use super::extract::{JsonBody, Name, Query};
use super::page::{self, Listed};
use super::schedules::derived_name;
use super::tasks::PageQuery;
use super::wire::{Accepted, Removed, TriggerRecord};
use crate::model::ids::TriggerId;
use crate::model::request::EventTriggerRequest;
use crate::model::trigger::Trigger;
use axum::Json;
use axum::extract::OriginalUri;

/// Registers a trigger, or updates the one of its name
///
/// `task_id` in the answer is the trigger's id. Nothing runs before an event arrives.
#[utoipa::path(post, path = "/task/event-trigger", tag = "triggers", request_body = EventTriggerRequest,
    responses((status = 200, description = "On disk", body = Accepted), (status = 400), (status = 404), (status = 408), (status = 413), (status = 415),
        (status = 503)))]
pub(crate) async fn create(state: State, JsonBody(request, _room): JsonBody<EventTriggerRequest>) -> Result<Json<Accepted>, Problem> {
    // The payload is half of what the handler gets: the schema is held against the whole when the event arrives.
    state.handler(&request.task_name)?;
    let now = state.clock.now();
    let event_type = request.event_type.into_string();
    let content = [event_type.as_str(), &request.payload.value.to_string()];
    let trigger = Trigger {
        id: TriggerId::new(now),
        name: request.name.unwrap_or_else(|| derived_name(&request.task_name, content)),
        task_name: request.task_name,
        event_type,
        payload: request.payload.text,
        priority: request.priority,
        tags: request.tags,
        created_at: now,
        fired_count: 0,
        last_fired: None,
    };
    let id = state.store.put_trigger(trigger).await?;
    Ok(Json(Accepted::new(id, "registered")))
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
#[utoipa::path(get, path = "/trigger/{id}", tag = "triggers", params(("id" = String, Path, description = "Id of a trigger")),
    responses((status = 200, description = "Its record", body = TriggerRecord), (status = 404), (status = 503)))]
pub(crate) async fn get(state: State, name: Name) -> Result<Json<TriggerRecord>, Problem> {
    let trigger = state.store.trigger(name.id("trigger")?).await;
    let trigger = trigger.map_err(|error| Problem::of_store(error, "trigger", &name.0))?;
    Ok(Json(trigger.into()))
}

/// Removes a trigger
///
/// Tasks that it made stay.
#[utoipa::path(delete, path = "/trigger/{id}", tag = "triggers", params(("id" = String, Path, description = "Id of a trigger")),
    responses((status = 200, description = "Removed", body = Removed), (status = 404), (status = 503)))]
pub(crate) async fn remove(state: State, name: Name) -> Result<Json<Removed>, Problem> {
    let id: TriggerId = name.id("trigger")?;
    let removed = state.store.remove_trigger(id).await;
    removed.map_err(|error| Problem::of_store(error, "trigger", &name.0))?;
    Ok(Json(Removed::new(id)))
}

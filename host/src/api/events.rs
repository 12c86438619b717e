//! Events: what happened outside, delivered to the triggers that listen.

use super::State;
use super::error::Problem;
use super::extract::{JsonBody, Name};
use super::wire::Triggered;
use crate::model::request::{EventData, EventType};
use axum::Json;

/// Delivers an event
///
/// Each trigger of this type makes a task of its payload with the event's data over it. The event and its tasks are on disk before
/// the answer.
#[utoipa::path(post, path = "/event/trigger/{event_type}", tag = "events", request_body = Option<EventData>,
    params(("event_type" = String, Path, description = "What happened; 1 to 256 characters of A-Z a-z 0-9 . _ : / -")),
    responses((status = 200, description = "The tasks", body = Triggered), (status = 400), (status = 408), (status = 413), (status = 415), (status = 503)))]
pub(crate) async fn trigger(
    state: State,
    name: Name,
    JsonBody(EventData(data), _room): JsonBody<EventData>,
) -> Result<Json<Triggered>, Problem> {
    let event_type = EventType::new(&name.0).map_err(|sentence| Problem::invalid("/event_type", sentence))?;
    let tasks = state.scheduler.fire_event(event_type.into_string(), data.text).await?;
    Ok(Json(Triggered {
        count: tasks.len(),
        triggered_tasks: tasks.iter().map(ToString::to_string).collect(),
    }))
}

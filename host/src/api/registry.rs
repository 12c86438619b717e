//! Task definitions: what can be submitted.

use super::State;
use super::error::Problem;
use super::extract::{JsonBody, Name, Query};
use super::page::{self, Listed};
use super::state::unknown_task;
use super::tasks::PageQuery;
use super::wire::DefinitionRecord;
use crate::model::overrides::Override;
use crate::model::request::Given;
use axum::Json;
use axum::extract::OriginalUri;

/// Lists task definitions, by name
#[utoipa::path(get, path = "/registry/tasks", tag = "plugins", params(PageQuery),
    responses((status = 200, description = "By name", body = Vec<DefinitionRecord>), (status = 400)))]
pub(crate) async fn list(
    state: State,
    OriginalUri(uri): OriginalUri,
    Query(query): Query<PageQuery>,
) -> Result<Listed<Vec<DefinitionRecord>>, Problem> {
    let (handlers, next) = page::of_map(&state.registry.snapshot().handlers, &query.request()?);
    Ok(Listed {
        body: handlers.iter().map(|handler| handler.as_ref().into()).collect(),
        link: page::link(&uri, next.as_deref()),
    })
}

/// Shows a task definition
#[utoipa::path(get, path = "/registry/task/{name}", tag = "plugins", params(("name" = String, Path, description = "Name of a task definition")),
    responses((status = 200, description = "The definition", body = DefinitionRecord), (status = 404)))]
pub(crate) async fn get(state: State, name: Name) -> Result<Json<DefinitionRecord>, Problem> {
    let snapshot = state.registry.snapshot();
    let handler = snapshot.handlers.get(&name.0);
    let handler = handler.ok_or_else(|| unknown_task(&snapshot, &name.0))?;
    Ok(Json(handler.as_ref().into()))
}

/// Overrides what a plugin says of a task
///
/// Members of the body change the override one by one (RFC 7396), and null takes one back; others stay. It holds for attempts that end or
/// start from now on, within the limits of the plugin's manifest, and survives restarts and new versions.
#[utoipa::path(patch, path = "/registry/task/{name}", tag = "plugins", request_body = Override,
    params(("name" = String, Path, description = "Name of a task definition")),
    responses((status = 200, description = "The definition as it is now", body = DefinitionRecord), (status = 400), (status = 404), (status = 408),
        (status = 413), (status = 415), (status = 503)))]
pub(crate) async fn edit(state: State, name: Name, JsonBody(patch, _room): JsonBody<Given>) -> Result<Json<DefinitionRecord>, Problem> {
    state.handler(&name.0)?;
    state.registry.override_task(name.0.clone(), patch).await?;
    state.scheduler.wake();
    Ok(Json(state.handler(&name.0)?.as_ref().into()))
}

//! Task definitions: what can be submitted.

use super::State;
use super::error::Problem;
use super::extract::{JsonBody, Name, Query};
use super::page::{self, Listed};
use super::state::unknown_task;
use super::tasks::PageQuery;
use super::wire::DefinitionRecord;
use crate::model::overrides::{Override, merge_patch};
use crate::model::request::{Input, parse};
use axum::Json;
use axum::extract::OriginalUri;
use serde::Deserialize;
use serde_json::{Map, Value};

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
pub(crate) async fn edit(state: State, name: Name, JsonBody(patch, _room): JsonBody<Edit>) -> Result<Json<DefinitionRecord>, Problem> {
    let handler = state.handler(&name.0)?;
    let mut word = serde_json::to_value(&handler.overridden).unwrap_or_default();
    merge_patch(&mut word, Value::Object(patch.0));
    let word: Override = parse(word.to_string().as_bytes())?;
    word.check().map_err(|why| {
        // A manifest is told the member with the reason; here the pointer says it.
        let (member, why) = why.split_once(' ').unwrap_or(("", &why));
        Problem::invalid(format!("/{}", member.replace('.', "/")), why)
    })?;
    state.registry.override_task(name.0.clone(), word).await?;
    state.scheduler.wake();
    Ok(Json(state.handler(&name.0)?.as_ref().into()))
}

/// A change of an override; what it comes to is read as a whole.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub(crate) struct Edit(Map<String, Value>);

impl Input for Edit {}

//! Plugins: what is loaded, and putting, removing and rereading them.

use super::State;
use super::error::{Code, Problem};
use super::extract::{Name, NoBody, Query, media_type, read_body};
use super::page::{self, Listed};
use super::tasks::PageQuery;
use super::wire::{PluginRecord, Removed};
use crate::model::name;
use crate::registry::MAX_COMPONENT;
use axum::Json;
use axum::extract::{OriginalUri, Request};
use axum::http::{StatusCode, header};

/// Lists plugins, by name
#[utoipa::path(get, path = "/plugins", tag = "plugins", params(PageQuery),
    responses((status = 200, description = "By name", body = Vec<PluginRecord>), (status = 400)))]
pub(crate) async fn list(
    state: State,
    OriginalUri(uri): OriginalUri,
    Query(query): Query<PageQuery>,
) -> Result<Listed<Vec<PluginRecord>>, Problem> {
    let (plugins, next) = page::of_map(&state.registry.snapshot().plugins, &query.request()?);
    Ok(Listed {
        body: plugins.iter().map(|plugin| (&**plugin).into()).collect(),
        link: page::link(&uri, next.as_deref()),
    })
}

/// Shows a plugin
#[utoipa::path(get, path = "/plugin/{name}", tag = "plugins", params(("name" = String, Path, description = "Name of a plugin")),
    responses((status = 200, description = "Its record", body = PluginRecord), (status = 404)))]
pub(crate) async fn get(state: State, name: Name) -> Result<Json<PluginRecord>, Problem> {
    let snapshot = state.registry.snapshot();
    let plugin = snapshot.plugins.get(&name.0).ok_or_else(|| Problem::unknown("plugin", &name.0))?;
    Ok(Json((&**plugin).into()))
}

/// Uploads a plugin, or its next version
///
/// The component is checked first. One that is refused leaves the version that runs alone.
#[utoipa::path(put, path = "/plugin/{name}", tag = "plugins",
    params(("name" = String, Path, description = "Name of the plugin: 1 to 128 characters of A-Z a-z 0-9 . _ -")),
    request_body(content(("application/wasm"), ("application/octet-stream")), description = "A WebAssembly component, at most 64 MiB"),
    responses((status = 200, description = "Replaced; live", body = PluginRecord), (status = 201, description = "New; live", body = PluginRecord),
        (status = 400), (status = 408), (status = 413), (status = 415), (status = 422, description = "The plugin was refused"),
        (status = 503)))]
pub(crate) async fn put(state: State, name: Name, request: Request) -> Result<(StatusCode, Json<PluginRecord>), Problem> {
    if !name::is_valid(&name.0) {
        return Err(Problem::invalid("/name", name::why_invalid("the plugin name", &name.0)));
    }
    let kind = request
        .headers()
        .get(header::CONTENT_TYPE)
        .map(|value| media_type(value.to_str().unwrap_or_default()));
    if kind.is_some_and(|kind| !matches!(kind.as_str(), "application/wasm" | "application/octet-stream")) {
        return Err(Problem::new(
            Code::MediaType,
            "the body is a component; send `Content-Type: application/wasm`",
        ));
    }
    let (bytes, _room) = read_body(request, MAX_COMPONENT, &state).await?;
    if bytes.is_empty() {
        return Err(Problem::invalid("", "is empty; send a WebAssembly component"));
    }
    let known = state.registry.snapshot().plugins.contains_key(&name.0);
    let plugin = state.registry.push(&name.0, bytes.into()).await?;
    let status = if known { StatusCode::OK } else { StatusCode::CREATED };
    Ok((status, Json((&*plugin).into())))
}

/// Removes a plugin
///
/// Its manifest stays; queued tasks wait for its return.
#[utoipa::path(delete, path = "/plugin/{name}", tag = "plugins", params(("name" = String, Path, description = "Name of a plugin")),
    responses((status = 200, description = "Removed", body = Removed), (status = 400), (status = 404), (status = 500), (status = 503)))]
pub(crate) async fn remove(state: State, name: Name, _: NoBody) -> Result<Json<Removed>, Problem> {
    state.registry.remove(&name.0).await?;
    Ok(Json(Removed::new(&name.0)))
}

/// Reads the plugin directories again
///
/// Answers once what is there is live or refused.
#[utoipa::path(post, path = "/plugins/reload", tag = "plugins",
    responses((status = 200, description = "All plugins, by name", body = Vec<PluginRecord>), (status = 400), (status = 500), (status = 503)))]
pub(crate) async fn reload(state: State, _: NoBody) -> Result<Json<Vec<PluginRecord>>, Problem> {
    state.registry.reload().await?;
    let snapshot = state.registry.snapshot();
    Ok(Json(snapshot.plugins.values().map(|plugin| (&**plugin).into()).collect()))
}

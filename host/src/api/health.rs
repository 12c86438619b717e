//! What the outside asks first: what is this, is it alive, can it work.

use super::State;
use super::error::{Code, Problem};
use super::wire::Health;
use axum::Json;

/// Says what this is
#[utoipa::path(get, path = "/", tag = "host", responses((status = 200, description = "A few lines of text", body = String)))]
pub(crate) async fn index() -> String {
    let (version, base) = (env!("CARGO_PKG_VERSION"), super::BASE);
    format!(
        "Taskhost {version}: task handlers as WebAssembly components, scheduled, run, retried and watched.\n\n\
         API       {base}\nDocument  /api/v1/openapi.json\nPlugins   {base}/plugins\nTasks     {base}/tasks\n\
         Alive     /healthz\nReady     /readyz\n"
    )
}

/// Says that the process answers
#[utoipa::path(get, path = "/healthz", tag = "host", responses((status = 200, description = "Alive", body = Health)))]
pub(crate) async fn alive() -> Json<Health> {
    Json(Health { status: "ok" })
}

/// Says whether the host takes work
#[utoipa::path(get, path = "/readyz", tag = "host", responses((status = 200, description = "Ready", body = Health), (status = 503)))]
pub(crate) async fn ready(state: State) -> Result<Json<Health>, Problem> {
    if state.is_stopping() {
        return Err(Problem::new(Code::ShuttingDown, "the host is shutting down"));
    }
    if !state.registry.snapshot().ready {
        return Err(Problem::new(Code::NotReady, "the plugin directories have not been read yet"));
    }
    Ok(Json(Health { status: "ready" }))
}

//! The HTTP door: routes, wire types, errors, the OpenAPI document.
//!
//! One file a resource. Every answer that is not the one asked for is a problem (`error`); everything that comes in is
//! bounded and checked as it is read (`extract`, `wire`). No rule of the house lives here.

mod alerts;
mod batch;
mod batches;
mod calendars;
mod error;
mod events;
mod export;
mod extract;
mod guard;
mod health;
mod history;
mod lines;
mod linger;
mod metrics;
mod once;
mod openapi;
mod page;
mod plugins;
mod queue;
mod registry;
mod retention;
mod schedules;
mod serve;
mod state;
mod submit;
mod tasks;
mod triggers;
mod weight;
mod why;
pub mod wire;
mod workflows;

pub use openapi::document;
pub use serve::{Options, serve};
pub use state::State;

use axum::Router;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// Where the scheduler's routes begin.
pub const BASE: &str = "/api/v1/scheduler";

/// All routes of the scheduler, each with its description.
fn scheduler_routes() -> OpenApiRouter<State> {
    OpenApiRouter::new()
        .routes(routes!(submit::submit))
        .routes(routes!(batch::submit))
        .routes(routes!(batches::list))
        .routes(routes!(batches::get, batches::cancel))
        .routes(routes!(batches::tasks))
        .routes(routes!(workflows::submit))
        .routes(routes!(workflows::list))
        .routes(routes!(workflows::get, workflows::cancel))
        .routes(routes!(workflows::retry))
        .routes(routes!(schedules::create))
        .routes(routes!(triggers::create))
        .routes(routes!(events::trigger))
        .routes(routes!(events::receive))
        .routes(routes!(tasks::status))
        .routes(routes!(tasks::cancel))
        .routes(routes!(tasks::running))
        .routes(routes!(tasks::scheduled))
        .routes(routes!(tasks::failed))
        .routes(routes!(tasks::dismiss))
        .routes(routes!(history::history))
        .routes(routes!(history::all))
        .routes(routes!(history::logs))
        .routes(routes!(tasks::retry))
        .routes(routes!(why::why))
        .routes(routes!(queue::show))
        .routes(routes!(queue::pause))
        .routes(routes!(queue::resume))
        .routes(routes!(queue::limits))
        .routes(routes!(queue::limit, queue::put_limit, queue::remove_limit))
        .routes(routes!(metrics::performance))
        .routes(routes!(retention::show))
        .routes(routes!(alerts::list))
        .routes(routes!(alerts::clear))
        .routes(routes!(schedules::list))
        .routes(routes!(schedules::preview))
        .routes(routes!(schedules::get, schedules::edit, schedules::remove))
        .routes(routes!(schedules::fires))
        .routes(routes!(schedules::pause))
        .routes(routes!(schedules::resume))
        .routes(routes!(schedules::run))
        .routes(routes!(schedules::backfill))
        .routes(routes!(triggers::list))
        .routes(routes!(triggers::get, triggers::edit, triggers::remove))
        .routes(routes!(triggers::pause))
        .routes(routes!(triggers::resume))
        .routes(routes!(calendars::list))
        .routes(routes!(calendars::get, calendars::put, calendars::remove))
        .routes(routes!(calendars::sessions))
        .routes(routes!(calendars::settlement_date))
        .routes(routes!(registry::list))
        .routes(routes!(registry::get, registry::edit))
        .routes(routes!(plugins::list))
        .routes(routes!(plugins::get, plugins::put, plugins::remove))
        .routes(routes!(plugins::reload))
}

/// All routes, with the document that describes them.
fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::with_openapi(openapi::frame())
        .nest(BASE, scheduler_routes())
        .routes(routes!(health::index))
        .routes(routes!(health::alive))
        .routes(routes!(health::ready))
        .routes(routes!(openapi::openapi))
}

/// The whole API over `state`.
pub fn router(state: State) -> Router {
    let (router, _) = routes().split_for_parts();
    router
        .fallback(guard::no_route)
        .method_not_allowed_fallback(guard::no_method)
        .layer(axum::middleware::from_fn_with_state(state.clone(), guard::guard))
        .with_state(state)
}

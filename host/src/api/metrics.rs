//! How long tasks take, by name.

use super::State;
use super::error::Problem;
use super::extract::Query;
use super::wire::{Measured, MetricsRecord};
use crate::model::request::Input;
use axum::Json;
use serde::Deserialize;
use std::collections::BTreeMap;
use utoipa::IntoParams;

/// Parameters of the metrics.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct MetricsQuery {
    /// Only of this task name.
    #[param(value_type = Option<String>)]
    task_name: String,
}

impl Input for MetricsQuery {}

/// Shows how long attempts took
///
/// An object by task name; with `task_name`, that one's alone. `{}` where nothing was measured.
#[utoipa::path(get, path = "/metrics/performance", tag = "monitor", params(MetricsQuery),
    responses((status = 200, description = "By name; with `task_name` its record", body = Measured), (status = 400),
        (status = 503)))]
pub(crate) async fn performance(state: State, Query(query): Query<MetricsQuery>) -> Result<Json<Measured>, Problem> {
    let name = Some(query.task_name.as_str()).filter(|name| !name.is_empty());
    let metrics = state.store.metrics(name).await?;
    let measured = metrics
        .into_iter()
        .filter_map(|(name, metrics)| Some((name, MetricsRecord::new(&metrics)?)));
    let mut records: BTreeMap<String, MetricsRecord> = measured.collect();
    Ok(Json(match name.and_then(|name| records.remove(name)) {
        Some(record) => Measured::One(record),
        None => Measured::ByName(records),
    }))
}

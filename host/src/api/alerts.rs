//! Open alerts: what an operator should look at.

use super::State;
use super::error::Problem;
use super::extract::{NoBody, Query};
use super::history::time;
use super::page::{self, Listed, MAX_LIMIT};
use super::wire::{AlertRecord, Cleared};
use crate::model::alert::AlertType;
use crate::model::request::Input;
use crate::store::AlertFilter;
use axum::Json;
use axum::extract::OriginalUri;
use serde::Deserialize;
use utoipa::IntoParams;

/// Parameters of the list of alerts.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct AlertQuery {
    /// `long_execution task_failure late absent calendar edit`.
    #[param(value_type = Option<String>)]
    alert_type: String,
    /// With a case at or after this; UTC where it has no offset.
    #[param(value_type = Option<String>, format = DateTime)]
    since: String,
    /// Only `false` in this version: there is no acknowledging yet.
    #[param(value_type = Option<bool>)]
    acknowledged: String,
    /// At most so many.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 1000)]
    limit: String,
    /// From the `Link` header of the page before.
    #[param(value_type = Option<String>)]
    cursor: String,
}

impl Input for AlertQuery {}

/// Parameters of clearing.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ClearQuery {
    /// Only this type: `long_execution task_failure late absent calendar edit`.
    #[param(value_type = Option<String>)]
    alert_type: String,
}

impl Input for ClearQuery {}

fn kind(text: &str) -> Result<Option<AlertType>, Problem> {
    page::word("alert_type", text, AlertType::parse, &AlertType::ALL.map(AlertType::as_str))
}

/// Lists open alerts, latest case first
#[utoipa::path(get, path = "/alerts", tag = "monitor", params(AlertQuery),
    responses((status = 200, description = "One stands for all alike", body = Vec<AlertRecord>), (status = 400), (status = 503)))]
pub(crate) async fn list(
    state: State,
    OriginalUri(uri): OriginalUri,
    Query(query): Query<AlertQuery>,
) -> Result<Listed<Vec<AlertRecord>>, Problem> {
    page::only_false("acknowledged", &query.acknowledged)?;
    let request = page::request(&query.limit, &query.cursor, MAX_LIMIT)?;
    let filter = AlertFilter {
        kind: kind(&query.alert_type)?,
        since: time("since", &query.since)?,
    };
    let page = state.store.alerts(filter, request).await?;
    Ok(Listed {
        link: page::link(&uri, page.next.as_deref()),
        body: page.items.into_iter().map(Into::into).collect(),
    })
}

/// Closes open alerts, all or of one type
#[utoipa::path(delete, path = "/alerts/clear", tag = "monitor", params(ClearQuery),
    responses((status = 200, description = "Closed", body = Cleared), (status = 400), (status = 503)))]
pub(crate) async fn clear(state: State, Query(query): Query<ClearQuery>, _: NoBody) -> Result<Json<Cleared>, Problem> {
    let cleared_count = state.store.clear_alerts(kind(&query.alert_type)?).await?;
    Ok(Json(Cleared { cleared_count }))
}

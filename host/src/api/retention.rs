//! What is kept of what has ended, and what a rule would forget: the one in force, or another before it is.

use super::State;
use super::error::Problem;
use super::extract::Query;
use super::wire::{KeepRecord, KeptRecord, RetentionRecord};
use crate::model::request::Input;
use crate::monitor::retention::{self, check_bytes, check_days};
use axum::Json;
use serde::Deserialize;
use std::fmt::Display;
use utoipa::IntoParams;

/// A rule to try. What is left out is as configured, and so are the rules of task names.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct RetentionQuery {
    /// Days, instead of those configured.
    #[param(value_type = Option<u32>, maximum = 36500)]
    retention_days: String,
    /// A number of the newest ended tasks, instead of the one configured.
    #[param(value_type = Option<u64>)]
    keep_newest: String,
    /// Bytes, such as `1073741824` or `1GiB`, instead of those configured.
    #[param(value_type = Option<String>)]
    keep_bytes: String,
}

impl Input for RetentionQuery {}

impl RetentionQuery {
    fn is_empty(&self) -> bool {
        [&self.retention_days, &self.keep_newest, &self.keep_bytes]
            .iter()
            .all(|text| text.is_empty())
    }

    fn rule(&self, configured: &retention::Options) -> Result<retention::Options, Problem> {
        let mut rule = configured.clone();
        let days = read(&self.retention_days, "retention_days", "must be a whole number of days", check_days)?;
        let newest = read(&self.keep_newest, "keep_newest", "must be a whole number of tasks", |_| Ok(()))?;
        let bytes = read(
            &self.keep_bytes,
            "keep_bytes",
            "must be a number of bytes, such as 1073741824 or 1GiB",
            check_bytes,
        )?;
        rule.retention_days = days.unwrap_or(rule.retention_days);
        rule.keep_newest = newest.unwrap_or(rule.keep_newest);
        rule.keep_bytes = bytes.unwrap_or(rule.keep_bytes);
        Ok(rule)
    }
}

/// Reads a parameter; a blank one is none.
fn read<T: std::str::FromStr + Copy>(
    text: &str,
    name: &str,
    what: &str,
    check: impl Fn(T) -> Result<(), String>,
) -> Result<Option<T>, Problem> {
    if text.trim().is_empty() {
        return Ok(None);
    }
    let invalid = |why: &dyn Display| Problem::invalid(format!("/{name}"), why.to_string());
    let value = text.trim().parse().map_err(|_| invalid(&what))?;
    check(value).map_err(|why| invalid(&why))?;
    Ok(Some(value))
}

/// Shows what is kept of what has ended, and what would be forgotten
///
/// With parameters, what would be forgotten if these were configured; nothing is. Bytes are about those on the disk.
#[utoipa::path(get, path = "/retention", tag = "monitor", params(RetentionQuery),
    responses((status = 200, description = "Now", body = RetentionRecord), (status = 400), (status = 503)))]
pub(crate) async fn show(state: State, Query(query): Query<RetentionQuery>) -> Result<Json<RetentionRecord>, Problem> {
    let rule = query.rule(&state.retention)?;
    let outdated = state.store.outdated(rule.keep(state.clock.now())).await?;
    let kept = state.store.kept().await?;
    Ok(Json(RetentionRecord {
        rule: KeepRecord::from(&rule),
        tried: !query.is_empty(),
        kept: KeptRecord::new(kept, rule.keep_bytes.as_u64()),
        would_drop: outdated.into(),
    }))
}

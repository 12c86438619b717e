//! What a workflow is asked for with.

use super::{Input, Payload, value};
use crate::model::priority::Priority;
use crate::model::workflow::{OnFailure, When};
use serde::Deserialize;
use std::time::Duration;
use utoipa::ToSchema;

/// Tasks that need one another's results: a directed graph without circles.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WorkflowRequest {
    /// For people.
    #[serde(default, deserialize_with = "value::rule_name")]
    #[schema(pattern = "^[A-Za-z0-9._-]{1,128}$")]
    pub name: Option<String>,
    /// In any order.
    #[schema(min_items = 1, max_items = 1000)]
    pub steps: Vec<StepRequest>,
    /// What a step without a `when` of its own does where a need did not succeed: under `cancel_descendants` it is cancelled, under
    /// `continue` it runs once all its needs have ended.
    #[serde(default)]
    #[schema(value_type = String, default = "cancel_descendants", example = "cancel_descendants")]
    pub on_failure: OnFailure,
}

impl Input for WorkflowRequest {}

/// One task of a workflow.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StepRequest {
    /// Its name within the workflow.
    #[schema(pattern = "^[A-Za-z0-9._-]{1,128}$", example = "prices")]
    pub key: String,
    /// The name of a task definition that a loaded plugin handles.
    #[schema(example = "data_sync")]
    pub task_name: String,
    /// Input of the handler; checked against its schema.
    #[serde(default)]
    #[schema(value_type = Object, default = json!({}))]
    pub payload: Payload,
    /// Keys of the steps before it, whose results its handler gets as `needs`.
    #[serde(default)]
    pub needs: Vec<String>,
    /// `all_success`: once every need succeeded. `all_done`: once every need has ended, however. `any_success`: as soon as one need
    /// succeeded. Left out, `on_failure` decides.
    #[serde(default)]
    #[schema(value_type = Option<String>, example = "all_success")]
    pub when: Option<When>,
    /// 1 (most urgent) to 9; the definition's where left out.
    #[serde(default, deserialize_with = "value::priority")]
    #[schema(value_type = Option<u8>, minimum = 1, maximum = 9)]
    pub priority: Option<Priority>,
    /// United with the definition's.
    #[serde(default, deserialize_with = "value::tags")]
    #[schema(max_items = 32)]
    pub tags: Vec<String>,
    /// Seconds that an attempt may take; no more than the definition allows.
    #[serde(default, deserialize_with = "value::seconds")]
    #[schema(value_type = Option<f64>, exclusive_minimum = 0)]
    pub timeout: Option<Duration>,
    /// Retries after the first attempt; the definition's where left out.
    #[serde(default, deserialize_with = "value::max_retries")]
    #[schema(maximum = 1000)]
    pub max_retries: Option<u32>,
    /// Whether an attempt that gave no answer may be repeated without asking a person.
    #[serde(default)]
    pub idempotent: Option<bool>,
}

//! What a batch is asked for with: a list of tasks, or a grid that makes one.

use super::{Input, Payload, value};
use crate::model::sweep::Grid;
use serde::Deserialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

/// Tasks to run, all or none: `tasks`, or `task_name` and `grid`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BatchRequest {
    /// Each as it would be submitted alone.
    #[schema(value_type = Option<Vec<super::TaskRequest>>, min_items = 1)]
    pub tasks: Option<Vec<Box<RawValue>>>,
    /// For people.
    #[serde(default, deserialize_with = "value::rule_name")]
    #[schema(pattern = "^[A-Za-z0-9._-]{1,128}$")]
    pub name: Option<String>,
    /// Submitted once all have succeeded.
    pub on_success: Option<CallbackRequest>,
    /// Submitted once all have ended, if one failed.
    pub on_failure: Option<CallbackRequest>,
    /// Submitted once all have ended.
    pub on_complete: Option<CallbackRequest>,
    /// JSON pointers (RFC 6901) into the payload, each with its values: every combination makes one task, the first pointer turning slowest.
    #[schema(value_type = Option<Object>, example = json!({"/params/fast": [5, 10], "/params/slow": [50, 100]}))]
    pub grid: Option<Grid>,
    /// Of a sweep: the name of a task definition that a loaded plugin handles.
    #[schema(value_type = Option<String>, example = "backtest")]
    pub task_name: Option<Box<RawValue>>,
    /// Of a sweep: what the grid's values are set in.
    #[schema(value_type = Option<Object>)]
    pub payload: Option<Box<RawValue>>,
    /// Of a sweep, as of a task; so are the next ones.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub trigger_time: Option<Box<RawValue>>,
    /// 1 (most urgent) to 9.
    #[schema(value_type = Option<u8>, minimum = 1, maximum = 9)]
    pub priority: Option<Box<RawValue>>,
    /// United with the definition's.
    #[schema(value_type = Option<Vec<String>>)]
    pub tags: Option<Box<RawValue>>,
    /// Seconds that an attempt may take.
    #[schema(value_type = Option<f64>)]
    pub timeout: Option<Box<RawValue>>,
    /// Retries after the first attempt.
    #[schema(value_type = Option<u32>)]
    pub max_retries: Option<Box<RawValue>>,
    /// Whether an attempt that gave no answer may be repeated without asking a person.
    #[schema(value_type = Option<bool>)]
    pub idempotent: Option<Box<RawValue>>,
    /// Where no attempt has begun by then, none does.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<Box<RawValue>>,
    /// Where the task has not ended by then, an alert is raised.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub deadline: Option<Box<RawValue>>,
    /// Whom its tasks take turns with; the batch itself where left out.
    #[schema(value_type = Option<String>, example = "/desk")]
    pub fair_key: Option<Box<RawValue>>,
}

impl Input for BatchRequest {}

impl BatchRequest {
    /// The members that only a sweep has, as far as they are given, besides its grid.
    pub fn of_sweep(&self) -> Vec<(&'static str, &RawValue)> {
        let members = [
            ("task_name", &self.task_name),
            ("payload", &self.payload),
            ("trigger_time", &self.trigger_time),
            ("priority", &self.priority),
            ("tags", &self.tags),
            ("timeout", &self.timeout),
            ("max_retries", &self.max_retries),
            ("idempotent", &self.idempotent),
            ("expires_at", &self.expires_at),
            ("deadline", &self.deadline),
            ("fair_key", &self.fair_key),
        ];
        let given = members.into_iter().filter_map(|(name, value)| Some((name, value.as_deref()?)));
        given.collect()
    }
}

/// A task that follows a batch.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CallbackRequest {
    /// The name of a task definition that a loaded plugin handles.
    #[schema(example = "performance_report")]
    pub task_name: String,
    /// Input of the handler. A member `batch`, `{batch_id, name, count, success, failed, cancelled}`, is added to it, unless it has one or
    /// the task's schema allows none.
    #[serde(default)]
    #[schema(value_type = Object, default = json!({}))]
    pub payload: Payload,
}

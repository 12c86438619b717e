//! What a plugin says of a task it handles, after the operator's limits were applied.

use crate::model::priority::Priority;
use crate::model::retry::RetryPolicy;
use std::time::Duration;

/// A named handler with its defaults: all that submission, scheduling and settling need to know of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Definition {
    /// Unique over all plugins.
    pub name: String,
    /// For people.
    pub description: String,
    /// Wall clock of an attempt where the submission names none.
    pub timeout: Duration,
    /// The longest timeout that a submission may ask for.
    pub max_timeout: Duration,
    /// CPU budget of an attempt; `None`: the timeout in seconds × 4 × 10¹⁰.
    pub fuel: Option<u64>,
    /// Cap on the linear memory of an attempt, in bytes.
    pub memory: u64,
    /// When and how often failed attempts are repeated.
    pub retry: RetryPolicy,
    /// Of tasks whose submission names none.
    pub priority: Priority,
    /// United with those of the submission.
    pub tags: Vec<String>,
    /// JSON Schema of the payload.
    pub input_schema: Option<serde_json::Value>,
    /// JSON Schema of the result.
    pub output_schema: Option<serde_json::Value>,
    /// Attempts that may run at once; `None`: as many as there are slots.
    pub max_concurrency: Option<u32>,
    /// Whether an attempt that gave no answer may be repeated without asking a person.
    pub idempotent: bool,
    /// The plugin that handles it.
    pub plugin: String,
    /// The version that the plugin says it has.
    pub plugin_version: String,
    /// `sha256:…` of the component.
    pub plugin_digest: String,
}

/// How many attempts of one task may be allowed at once, at most.
const MAX_CONCURRENCY: u32 = 10_000;

/// Checks a number of attempts that may run at once. The error is a sentence.
pub fn max_concurrency(value: i64) -> Result<u32, String> {
    let fits = u32::try_from(value).ok().filter(|n| (1..=MAX_CONCURRENCY).contains(n));
    fits.ok_or_else(|| format!("max_concurrency is {value}; it must be 1 to {MAX_CONCURRENCY}"))
}

/// Four times what a fast core burns in a second: the default budget is the timeout in seconds times this, so that the clock decides.
pub const FUEL_PER_SECOND: f64 = 4e10;

impl Definition {
    /// The CPU budget of an attempt that may run for `timeout`.
    pub fn fuel_for(&self, timeout: Duration) -> u64 {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a float beyond u64 saturates, which is meant"
        )]
        let default = (timeout.as_secs_f64() * FUEL_PER_SECOND) as u64;
        self.fuel.unwrap_or(default).max(1)
    }
}

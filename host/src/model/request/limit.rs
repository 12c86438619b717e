//! What a limit and a pause are asked for with.

use super::unique::check_pointer;
use super::{Input, Refusal, RefusalKind, value};
use crate::model::limit::{Limit, Rate};
use serde::Deserialize;
use std::time::Duration;
use utoipa::ToSchema;

/// The highest number that a limit may allow.
const MAX_COUNT: u32 = 1_000_000;
/// The longest time of a rate: a day.
const MAX_PER: Duration = Duration::from_secs(86_400);

/// How many tasks of a kind may run at once, or start in a time.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LimitRequest {
    /// Which tasks; all where it names none.
    #[serde(default, rename = "match")]
    pub matches: MatchRequest,
    /// JSON pointer (RFC 6901) into the payload: the limit holds for each of its values by itself, and not for a task without one.
    #[serde(default)]
    #[schema(example = "/desk")]
    pub key: Option<String>,
    /// Attempts that may run at once.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 1_000_000)]
    pub max_running: Option<u32>,
    /// Attempts that may start in a time.
    #[serde(default)]
    pub rate: Option<RateRequest>,
}

impl Input for LimitRequest {}

/// Which tasks a limit concerns: those that have all that it names.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MatchRequest {
    /// Of this name.
    #[serde(default, deserialize_with = "value::rule_name")]
    pub task_name: Option<String>,
    /// With this tag.
    #[serde(default)]
    pub tag: Option<String>,
}

/// At most so many in a time: a token bucket, full at first.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RateRequest {
    /// Starts; as many may come at once.
    #[schema(minimum = 1, maximum = 1_000_000)]
    pub count: u32,
    /// In so many seconds.
    #[serde(deserialize_with = "value::seconds")]
    #[schema(value_type = f64, exclusive_minimum = 0, maximum = 86_400)]
    pub per: Option<Duration>,
}

impl LimitRequest {
    /// The limit of this name.
    pub fn limit(self, name: String) -> Result<Limit, Refusal> {
        let refuse = |pointer: &str, sentence: String| Refusal::new(RefusalKind::Value, pointer, sentence);
        let counts = |n: u32| (1..=MAX_COUNT).contains(&n);
        if self.max_running.is_none() && self.rate.is_none() {
            return Err(refuse("", "has neither max_running nor rate, and so limits nothing".to_owned()));
        }
        if !self.max_running.is_none_or(counts) {
            return Err(refuse("/max_running", format!("must be a whole number from 1 to {MAX_COUNT}")));
        }
        if let Some(key) = &self.key {
            check_pointer(key).map_err(|sentence| refuse("/key", sentence))?;
        }
        if self.matches.tag.as_ref().is_some_and(|tag| tag.is_empty() || tag.len() > 512) {
            return Err(refuse("/match/tag", "must be a tag".to_owned()));
        }
        let rate = self.rate.map(|rate| {
            if !counts(rate.count) {
                return Err(refuse("/rate/count", format!("must be a whole number from 1 to {MAX_COUNT}")));
            }
            match rate.per.filter(|per| *per <= MAX_PER && *per >= Duration::from_millis(1)) {
                Some(per) => Ok(Rate { count: rate.count, per }),
                None => Err(refuse(
                    "/rate/per",
                    format!("must be a number of seconds from 0.001 to {}", MAX_PER.as_secs()),
                )),
            }
        });
        Ok(Limit {
            name,
            task_name: self.matches.task_name,
            tag: self.matches.tag,
            key: self.key,
            max_running: self.max_running,
            rate: rate.transpose()?,
        })
    }
}

/// What to pause or resume.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct QueueRequest {
    /// Only tasks of this name; the whole queue where left out.
    #[serde(default, deserialize_with = "value::rule_name")]
    pub task_name: Option<String>,
}

impl Input for QueueRequest {
    const EMPTY: &'static str = "{}";
}

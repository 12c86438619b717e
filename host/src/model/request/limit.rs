//! What a limit and a pause are asked for with.

use super::unique::check_pointer;
use super::{Input, Refusal, RefusalKind, value};
use crate::model::fair::MAX_WEIGHT;
use crate::model::limit::{Limit, MAX_PER, Rate};
use serde::Deserialize;
use serde::de::Deserializer;
use serde_json::Value;
use std::time::Duration;
use utoipa::ToSchema;

/// The highest number that a limit may allow.
const MAX_COUNT: u32 = 1_000_000;

/// How many tasks of a kind may run at once, or start in a time.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LimitRequest {
    /// Which tasks; `{}` for all.
    #[serde(default, rename = "match")]
    #[schema(value_type = MatchRequest)]
    pub matches: Option<MatchRequest>,
    /// JSON pointer (RFC 6901) into the payload: the limit holds for each of its values by itself, and not for a task without one.
    #[serde(default)]
    #[schema(example = "/desk")]
    pub key: Option<String>,
    /// Attempts that may run at once.
    #[serde(default, deserialize_with = "count")]
    #[schema(value_type = Option<u32>, minimum = 1, maximum = 1_000_000)]
    pub max_running: Option<u32>,
    /// Attempts that may start in a time.
    #[serde(default)]
    pub rate: Option<RateRequest>,
    /// How many starts the fairness keys of these tasks have for each of another key, while both wait; where several limits match, the
    /// highest. 1 where left out.
    #[serde(default, deserialize_with = "weight")]
    #[schema(value_type = Option<u32>, minimum = 1, maximum = 1_000)]
    pub weight: Option<u32>,
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
    #[serde(default, deserialize_with = "value::tag")]
    #[schema(max_length = 128)]
    pub tag: Option<String>,
}

/// At most so many in a time: a token bucket, full at first.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RateRequest {
    /// Starts; as many may come at once.
    #[serde(deserialize_with = "count")]
    #[schema(value_type = u32, minimum = 1, maximum = 1_000_000)]
    pub count: Option<u32>,
    /// In so many seconds.
    #[serde(deserialize_with = "value::seconds")]
    #[schema(value_type = f64, exclusive_minimum = 0, maximum = 86_400)]
    pub per: Option<Duration>,
}

impl LimitRequest {
    /// The limit of this name.
    pub fn limit(self, name: String) -> Result<Limit, Refusal> {
        let refuse = |pointer: &str, sentence: String| Refusal::new(RefusalKind::Value, pointer, sentence);
        // A limit that was meant for a few tasks must not hold up a whole host because of a member left out.
        let Some(matches) = self.matches else {
            return Err(refuse("/match", "is missing; say which tasks, or {} for all".to_owned()));
        };
        if self.max_running.is_none() && self.rate.is_none() && self.weight.is_none() {
            return Err(refuse(
                "",
                "has neither max_running nor rate nor weight, and so changes nothing".to_owned(),
            ));
        }
        if let Some(key) = &self.key {
            check_pointer(key).map_err(|sentence| refuse("/key", sentence))?;
        }
        let rate = self.rate.map(|rate| {
            let count = rate.count.ok_or_else(|| refuse("/rate/count", not_a_count()))?;
            match rate.per.filter(|per| *per <= MAX_PER && *per >= Duration::from_millis(1)) {
                Some(per) => Ok(Rate { count, per }),
                None => Err(refuse(
                    "/rate/per",
                    format!("must be a number of seconds from 0.001 to {}", MAX_PER.as_secs()),
                )),
            }
        });
        Ok(Limit {
            name,
            task_name: matches.task_name,
            tag: matches.tag,
            key: self.key,
            max_running: self.max_running,
            rate: rate.transpose()?,
            weight: self.weight,
        })
    }
}

fn not_a_count() -> String {
    format!("must be a whole number from 1 to {MAX_COUNT}")
}

fn count<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    let rule = |value: &Value| value.as_u64().and_then(|n| u32::try_from(n).ok());
    value::read(deserializer, |value| {
        rule(value).filter(|n| (1..=MAX_COUNT).contains(n)).ok_or_else(not_a_count)
    })
}

fn weight<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    let rule = |value: &Value| value.as_u64().and_then(|n| u32::try_from(n).ok());
    let not_a_weight = || format!("must be a whole number from 1 to {MAX_WEIGHT}; to stop tasks, pause their queue");
    value::read(deserializer, |value| {
        rule(value).filter(|n| (1..=MAX_WEIGHT).contains(n)).ok_or_else(not_a_weight)
    })
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

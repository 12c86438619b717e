//! What somebody asks for: a client over HTTP, a plugin, an operator's manifest. Read strictly and the same wherever it comes from.

mod batch;
mod cloud_event;
mod limit;
mod members;
mod read;
mod schedule;
mod strict;
mod submission;
mod unique;
mod value;
mod workflow;

pub use batch::{BatchRequest, CallbackRequest};
pub use cloud_event::{CloudEvent, MAX_EVENTS, is_json};
pub use limit::{LimitRequest, MatchRequest, QueueRequest, RateRequest};
pub use members::{Given, ScheduleEdit, check_once};
use read::without_position;
pub use read::{Input, Refusal, RefusalKind, parse, parse_pairs};
pub use schedule::{CronTaskRequest, PreviewRequest};
pub use unique::UniqueRequest;
pub use value::{EventType, Payload, not_a_time, parse_query_time, parse_time};
pub use workflow::{StepRequest, WorkflowRequest};

use crate::model::Time;
use crate::model::fair::FairKey;
use crate::model::priority::Priority;
use serde::Deserialize;
use std::time::Duration;
use utoipa::ToSchema;

/// A task to run.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TaskRequest {
    /// The name of a task definition that a loaded plugin handles.
    #[schema(example = "backtest")]
    pub task_name: String,
    /// Input of the handler; checked against its schema.
    #[serde(default)]
    #[schema(value_type = Object, default = json!({}))]
    pub payload: Payload,
    /// Not before this; RFC 3339, UTC where it has no offset. The past means now; at most ten years ahead.
    #[serde(default, deserialize_with = "value::time")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub trigger_time: Option<Time>,
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
    /// Where no attempt has begun by then, none does and the task fails as `expired`; RFC 3339. Not in the past, nor before `trigger_time`.
    #[serde(default, deserialize_with = "value::time")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<Time>,
    /// Where the task has not ended by then, a `late` alert is raised; RFC 3339. After now and `trigger_time`. Stops nothing.
    #[serde(default, deserialize_with = "value::time")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub deadline: Option<Time>,
    /// Due tasks of one priority start turn by turn of their fairness keys. A text, or where it begins with a slash a JSON pointer (RFC 6901)
    /// to a text or number of the payload; where left out the batch, workflow, schedule or trigger that the task came from, and
    /// submissions of their own take turns as one.
    #[serde(default, deserialize_with = "value::tag")]
    #[schema(max_length = 128, example = "/desk")]
    pub fair_key: Option<String>,
    /// One at a time of those that are alike.
    #[serde(default)]
    pub unique: Option<UniqueRequest>,
}

impl TaskRequest {
    /// Whom the task takes turns with, as far as the request says; the error is a sentence.
    fn fair(&self) -> Result<Option<FairKey>, String> {
        let named = |name: &String| FairKey::named(name, &self.payload.value, &self.payload.text);
        self.fair_key.as_ref().map(named).transpose()
    }
}

impl Input for TaskRequest {}

/// A stretch of time of which missing fires are to be made up for.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BackfillRequest {
    /// From this on; RFC 3339.
    #[serde(deserialize_with = "value::required_time")]
    #[schema(value_type = String, format = DateTime)]
    pub from: Time,
    /// Up to this, and not in the future.
    #[serde(deserialize_with = "value::required_time")]
    #[schema(value_type = String, format = DateTime)]
    pub to: Time,
}

impl Input for BackfillRequest {}

/// A task to run whenever an event of one type arrives.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EventTriggerRequest {
    /// The name of a task definition that a loaded plugin handles.
    #[schema(example = "risk_scan")]
    pub task_name: String,
    /// Which events, exactly.
    #[schema(value_type = String, pattern = "^[A-Za-z0-9._:/-]{1,256}$", example = "position_change")]
    pub event_type: EventType,
    /// Under the event's data, whose members win; the outcome is checked against the schema when the event arrives.
    #[serde(default)]
    #[schema(value_type = Object, default = json!({}))]
    pub payload: Payload,
    /// 1 (most urgent) to 9; the definition's where left out.
    #[serde(default, deserialize_with = "value::priority")]
    #[schema(value_type = Option<u8>, minimum = 1, maximum = 9)]
    pub priority: Option<Priority>,
    /// Creating a trigger again under its name updates it. Derived from the content where left out.
    #[serde(default, deserialize_with = "value::rule_name")]
    #[schema(pattern = "^[A-Za-z0-9._-]{1,128}$")]
    pub name: Option<String>,
    /// United with the definition's.
    #[serde(default, deserialize_with = "value::tags")]
    #[schema(max_items = 32)]
    pub tags: Vec<String>,
    /// A CEL expression over `type`, `source`, `time` and `data`; only events for which it is true fire the trigger. A missing member is
    /// no match.
    #[serde(default, deserialize_with = "value::filter")]
    #[schema(max_length = 4096, example = "data.delta > 1000000.0")]
    pub filter: Option<String>,
    /// Seconds: the task waits until no event has fired the trigger for so long, and runs with the last one's data; it waits at most ten
    /// times as long after the first.
    #[serde(default, deserialize_with = "value::debounce")]
    #[schema(value_type = Option<f64>, exclusive_minimum = 0, maximum = 86400)]
    pub debounce: Option<Duration>,
}

impl Input for EventTriggerRequest {}

/// A change of a trigger by its operator, kept over later registrations; null takes one back. Members left out stay as they are.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TriggerPatch {
    /// Members of the payload over the registered ones, at every level.
    #[serde(default, deserialize_with = "value::edit_of_payload")]
    #[schema(value_type = Option<Object>)]
    pub payload: Option<Option<Payload>>,
    /// 1 (most urgent) to 9.
    #[serde(default, deserialize_with = "value::edit_of_priority")]
    #[schema(value_type = Option<u8>, minimum = 1, maximum = 9)]
    pub priority: Option<Option<Priority>>,
    /// Instead of the registered ones.
    #[serde(default, deserialize_with = "value::edit_of_tags")]
    #[schema(value_type = Option<Vec<String>>, max_items = 32)]
    pub tags: Option<Option<Vec<String>>>,
    /// A CEL expression; `true` lets all events fire it.
    #[serde(default, deserialize_with = "value::edit_of_filter")]
    #[schema(value_type = Option<String>, max_length = 4096)]
    pub filter: Option<Option<String>>,
    /// Seconds; 0 for none.
    #[serde(default, deserialize_with = "value::edit_of_debounce")]
    #[schema(value_type = Option<f64>, minimum = 0, maximum = 86400)]
    pub debounce: Option<Option<Duration>>,
    /// Whether events pass it by.
    #[serde(default)]
    pub paused: Option<bool>,
}

impl Input for TriggerPatch {
    const EMPTY: &'static str = "{}";
}

/// What an event says: any JSON object. An empty body is an empty object.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(transparent)]
#[schema(value_type = Object)]
pub struct EventData(pub Payload);

impl Input for EventData {
    const EMPTY: &'static str = "{}";
}

//! A trigger: an event rule that creates tasks. Registering one runs nothing.

use crate::model::Time;
use crate::model::ids::TriggerId;
use crate::model::priority::Priority;
use serde_json::{Map, Value};

/// A trigger as it is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Trigger {
    /// Its id, which survives updates.
    pub id: TriggerId,
    /// Unique; creating again under it updates.
    pub name: String,
    /// Which task it creates.
    pub task_name: String,
    /// Which events it listens to, exactly.
    pub event_type: String,
    /// JSON text of an object.
    pub payload: String,
    /// `None`: the definition's.
    pub priority: Option<Priority>,
    /// United with the definition's.
    pub tags: Vec<String>,
    /// When it was first created.
    pub created_at: Time,
    /// How often it fired.
    pub fired_count: u64,
    /// When it last fired.
    pub last_fired: Option<Time>,
}

/// The payload of a firing: a copy of the trigger's with the event's members over it, one level deep; the event wins.
pub fn merge(payload: &Map<String, Value>, data: &Map<String, Value>) -> Map<String, Value> {
    let mut merged = payload.clone();
    merged.extend(data.iter().map(|(key, value)| (key.clone(), value.clone())));
    merged
}

#[cfg(test)]
mod tests {
    use super::merge;
    use serde_json::json;

    #[test]
    fn the_event_wins_and_the_trigger_stays_as_it_was() {
        let (payload, data) = (json!({"threshold": 1, "deep": {"a": 1}}), json!({"deep": {"b": 2}, "delta": 5}));
        let merged = merge(payload.as_object().unwrap(), data.as_object().unwrap());
        assert_eq!(
            serde_json::Value::Object(merged),
            json!({"threshold": 1, "deep": {"b": 2}, "delta": 5})
        );
        assert_eq!(payload["threshold"], 1);
    }
}

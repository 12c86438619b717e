//! A trigger: an event rule that creates tasks. Registering one runs nothing.

use crate::model::Time;
use crate::model::ids::TriggerId;
use crate::model::priority::Priority;
use serde_json::value::RawValue;
use std::collections::BTreeMap;

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

/// The payload of a firing: a copy of the trigger's with the event's members over it, one level deep; the event wins. Both are JSON
/// texts of objects, and the values keep the digits that they were written with.
pub fn merge(payload: &str, data: &str) -> String {
    let mut merged = members(payload);
    merged.extend(members(data));
    serde_json::to_string(&merged).expect("names and JSON texts are JSON")
}

/// What was checked when it came in; nothing, if it was damaged since.
fn members(object: &str) -> BTreeMap<String, &RawValue> {
    serde_json::from_str(object).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::merge;

    #[test]
    fn the_event_wins_and_every_digit_stays() {
        let payload = r#"{"threshold": 1, "deep": {"a": 1}, "limit": 0.10000000000000000001}"#;
        let data = r#"{"deep": {"b": 2}, "delta": 12345678901234567890123.5, "quo\"te": "x"}"#;
        assert_eq!(
            merge(payload, data),
            r#"{"deep":{"b": 2},"delta":12345678901234567890123.5,"limit":0.10000000000000000001,"quo\"te":"x","threshold":1}"#
        );
        assert_eq!(merge("{}", "{}"), "{}");
    }
}

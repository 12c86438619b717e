//! What makes a submission the only one of its kind.

use super::{Refusal, RefusalKind, value};
use crate::model::unique::{OnConflict, Unique, key};
use serde::Deserialize;
use serde::de::{Deserializer, Error};
use serde_json::Value;
use std::time::Duration;
use utoipa::ToSchema;

/// Members that count, at most.
const MAX_FIELDS: usize = 32;
/// The longest pointer, in bytes.
const MAX_POINTER: usize = 1_024;
/// The longest window: a leap year.
const MAX_WINDOW: Duration = Duration::from_secs(366 * 86_400);

/// One at a time of those that are alike: by task name and payload.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UniqueRequest {
    /// Members of the payload that have to be the same, as JSON pointers (RFC 6901); all of it where left out.
    #[serde(default, deserialize_with = "pointers")]
    #[schema(max_items = 32, example = json!(["/order_id"]))]
    pub fields: Vec<String>,
    /// Seconds for which the first one counts although it has ended; otherwise it counts while it waits or runs.
    #[serde(default, deserialize_with = "window")]
    #[schema(value_type = Option<f64>, exclusive_minimum = 0, maximum = 31_622_400)]
    pub window: Option<Duration>,
    /// What happens to the second: the answer names the first (`return`), it is refused (`reject`), or it takes the place of the first
    /// where that has not begun (`replace`).
    #[serde(default)]
    #[schema(value_type = String, default = "return", example = "return")]
    pub on_conflict: OnConflict,
}

impl UniqueRequest {
    /// A payload has each member that counts: otherwise all that lack it would be the same, and other work would be dropped as theirs.
    pub(super) fn check(&self, payload: &Value) -> Result<(), Refusal> {
        let missing = self.fields.iter().position(|field| payload.pointer(field).is_none());
        missing.map_or(Ok(()), |index| {
            let sentence = format!(
                "the payload has no member {}; give it one, or leave it out of unique.fields",
                self.fields[index]
            );
            Err(Refusal::new(RefusalKind::Value, format!("/unique/fields/{index}"), sentence))
        })
    }

    /// Of a task of this name with this payload.
    pub fn of(self, name: &str, payload: &str) -> Unique {
        Unique {
            key: key(name, payload, &self.fields),
            window: self.window,
            on_conflict: self.on_conflict,
        }
    }
}

/// The sentence for text that is no pointer.
pub(super) fn check_pointer(text: &str) -> Result<(), String> {
    if !text.starts_with('/') || text.len() > MAX_POINTER || text.chars().any(char::is_control) {
        return Err(format!(
            "must be a JSON pointer such as \"/order_id\" (RFC 6901) of at most {MAX_POINTER} bytes, without control characters"
        ));
    }
    if text.split('~').skip(1).any(|rest| !rest.starts_with(['0', '1'])) {
        return Err("has a ~ that is neither ~0 (for ~) nor ~1 (for /)".to_owned());
    }
    Ok(())
}

#[derive(Clone, Debug)]
struct Pointer(String);

impl<'de> Deserialize<'de> for Pointer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        check_pointer(&text).map_err(D::Error::custom)?;
        Ok(Self(text))
    }
}

fn pointers<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let given = Option::<Vec<Pointer>>::deserialize(deserializer)?.unwrap_or_default();
    if given.len() > MAX_FIELDS {
        return Err(D::Error::custom(format!("at most {MAX_FIELDS} members can count")));
    }
    Ok(given.into_iter().map(|pointer| pointer.0).collect())
}

fn window<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    match value::seconds(deserializer)? {
        Some(window) if window > MAX_WINDOW => Err(D::Error::custom(format!("must be at most {} s", MAX_WINDOW.as_secs()))),
        window => Ok(window),
    }
}

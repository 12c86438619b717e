//! Who takes turns with whom: due tasks of one priority start turn by turn of their fairness keys, however many each has.
//!
//! By default that is the batch, the workflow, the schedule or the trigger that a task came from, and submissions of their own stand
//! together. A submission may name another: a text, or a JSON pointer (RFC 6901) to a text or number of its payload.

use super::unique;
use serde_json::Value;
use sha2::{Digest, Sha256};

/// Most bytes of a text that turns are taken by.
const MAX_TEXT: usize = 1_024;
/// Most turns that one key may have before the next has its own.
pub const MAX_WEIGHT: u32 = 1_000;

/// A number that stands for a fairness key: those of two texts are as good as never the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FairKey(i64);

impl FairKey {
    /// That of submissions of their own.
    pub const SINGLE: Self = Self(0);

    /// As it is kept.
    pub fn get(self) -> i64 {
        self.0
    }

    /// Of whatever has this id: its end is random.
    pub fn of_id(id: &[u8; 16]) -> Self {
        let [.., a, b, c, d, e, f, g, h] = *id;
        Self::of_bytes([a, b, c, d, e, f, g, h])
    }

    /// Of a text.
    fn of_text(text: &str) -> Self {
        let [a, b, c, d, e, f, g, h, ..] = *Sha256::digest(text).first_chunk().unwrap_or(&[0; 32]);
        Self::of_bytes([a, b, c, d, e, f, g, h])
    }

    fn of_bytes(bytes: [u8; 8]) -> Self {
        Self(i64::from_be_bytes(bytes).max(i64::MIN + 1)) // the least stands for what is before all
    }

    /// Of what a submission names: a pointer where it begins with a slash, else the text itself. The error is a sentence.
    pub fn named(name: &str, payload: &Value, text: &str) -> Result<Self, String> {
        if !name.starts_with('/') {
            return Ok(Self::of_text(&format!("={name}")));
        }
        match payload.pointer(name) {
            None => Err(format!(
                "{name} is no member of the payload; name one that is there, or a text such as \"fx-desk\""
            )),
            Some(Value::Object(_) | Value::Array(_) | Value::Null) => Err(format!(
                "{name} must be a text, a number or a boolean of the payload, and no object, array or null"
            )),
            Some(Value::String(long)) if long.len() > MAX_TEXT => {
                Err(format!("{name} has {} bytes; tasks take turns by {MAX_TEXT} at most", long.len()))
            }
            Some(_) => Ok(Self::of_text(&unique::member(text, name).unwrap_or_default())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_a_text_or_what_a_pointer_points_at() {
        let text = r#"{"desk":"fx","other":"fx","n":1,"deep":{"x":[1]}}"#;
        let payload = serde_json::from_str(text).unwrap();
        let named = |name: &str| FairKey::named(name, &payload, text);
        assert_eq!(named("/desk"), named("/other"));
        assert_ne!(named("/desk"), named("/n"));
        assert_ne!(named("fx"), named("/desk"), "a text of the payload is not a text of the submission");
        for (name, why) in [("/none", "no member"), ("/deep", "no object"), ("/deep/x", "array")] {
            let error = named(name).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
        let long = format!(r#"{{"desk":"{}"}}"#, "x".repeat(1 << 20));
        let error = FairKey::named("/desk", &serde_json::from_str(&long).unwrap(), &long).unwrap_err();
        assert!(error.contains("1048576 bytes"), "{error}");
    }
}

//! What a guest gave back, turned into an outcome. Every word of it is the guest's, so every length is bounded here.

use crate::model::attempt::{Class, InputError, Outcome};
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use std::time::Duration;

/// Bytes of a message.
const MAX_MESSAGE: usize = 4 << 10;
/// Bytes of `details` that are read.
const MAX_DETAILS: usize = 256 << 10;
/// Levels of a result: most readers of JSON stop at 128, and a list that holds it adds some.
const MAX_DEPTH: usize = 100;
/// Complaints about one input.
const MAX_ERRORS: usize = 100;
/// Bytes of a pointer or detail.
const MAX_ERROR: usize = 1 << 10;
/// The longest that a handler may put off its own task.
const MAX_DELAY: Duration = Duration::from_secs(366 * 86_400);
/// How long a snooze takes that names no `retry_after`.
const SNOOZE: Duration = Duration::from_secs(60);

/// A failure as the contract has it, before it is believed.
#[derive(Debug, Default)]
pub(crate) struct Failure {
    pub kind: String,
    pub message: String,
    pub details: Option<String>,
}

/// A result counts if it is JSON and small enough.
pub(crate) fn result(text: String, limit: usize) -> Outcome {
    if text.len() > limit {
        return too_large(Some(text.len()), limit);
    }
    let mut reader = serde_json::Deserializer::from_str(&text);
    match (Plain { room: MAX_DEPTH }).deserialize(&mut reader).and_then(|()| reader.end()) {
        Ok(()) => Outcome::Ok { result: text },
        Err(error) => Outcome::Error {
            class: Class::Fatal,
            message: format!("the handler returned a result that is not JSON: {error}"),
        },
    }
}

/// JSON that every client can read: bounded in depth, and its numbers in range. One result that cannot be read would take the
/// lists that it stands in with it.
struct Plain {
    room: usize,
}

impl Plain {
    fn inside<E: Error>(&self) -> Result<usize, E> {
        let deeper = || E::custom(format_args!("it is nested deeper than {MAX_DEPTH} levels"));
        self.room.checked_sub(1).ok_or_else(deeper)
    }
}

impl<'de> DeserializeSeed<'de> for Plain {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Plain {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let room = self.inside()?;
        while items.next_element_seed(Plain { room })?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        let room = self.inside()?;
        while members.next_key_seed(Plain { room })?.is_some() {
            members.next_value_seed(Plain { room })?;
        }
        Ok(())
    }
}

/// The result was larger than allowed.
pub(crate) fn too_large(bytes: Option<usize>, limit: usize) -> Outcome {
    let size = bytes.map_or("far more".to_owned(), |bytes| format!("{bytes} bytes"));
    Outcome::Error {
        class: Class::ResultTooLarge,
        message: format!("the handler returned a result of {size}; the limit is {limit} bytes"),
    }
}

/// The class of a failure is the handler's; an unknown one counts as fatal.
pub(crate) fn failure(failure: &Failure) -> Outcome {
    let message = match cut(&failure.message, MAX_MESSAGE) {
        "" => "the handler failed without a message".to_owned(),
        message => message.to_owned(),
    };
    let details = failure.details.as_deref().filter(|text| text.len() <= MAX_DETAILS);
    let details: Value = details.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    let retry_after = retry_after(&details);
    let class = match failure.kind.as_str() {
        "retryable" => Class::Retryable { retry_after },
        "invalid_input" => Class::InvalidInput { errors: errors(&details) },
        "cancelled" => return Outcome::Cancelled,
        "snooze" => {
            let after = retry_after.unwrap_or(SNOOZE);
            return Outcome::Snooze { after, message };
        }
        _ => Class::Fatal,
    };
    Outcome::Error { class, message }
}

/// `retry_after` in seconds; one that is negative or no number is as good as none, a huge one is a year.
fn retry_after(details: &Value) -> Option<Duration> {
    let seconds = details.get("retry_after")?.as_f64().filter(|seconds| *seconds >= 0.0)?;
    Some(Duration::try_from_secs_f64(seconds).unwrap_or(MAX_DELAY).min(MAX_DELAY))
}

fn errors(details: &Value) -> Vec<InputError> {
    let list = details.get("errors").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let member = |error: &Value, name: &str| cut(error.get(name).and_then(Value::as_str).unwrap_or_default(), MAX_ERROR).to_owned();
    list.iter()
        .filter(|error| error.is_object())
        .take(MAX_ERRORS)
        .map(|error| InputError {
            pointer: member(error, "pointer"),
            detail: member(error, "detail"),
        })
        .collect()
}

/// The longest beginning of `text` that has at most `max` bytes.
pub(crate) fn cut(text: &str, max: usize) -> &str {
    &text[..text.floor_char_boundary(max)]
}

/// The longest end of `text` that has at most `max` bytes.
pub(crate) fn end(text: &str, max: usize) -> &str {
    &text[text.ceil_char_boundary(text.len().saturating_sub(max))..]
}

/// What a Rust guest said when it panicked, from the end of its stderr: `thread … panicked at PLACE:\nMESSAGE\nnote: …`.
pub(crate) fn panic_message(stderr: &str) -> Option<String> {
    let (_, panic) = stderr.rsplit_once("panicked at ")?;
    let (place, text) = panic.split_once(":\n")?;
    let text = text.split("\nnote: run with").next().unwrap_or(text);
    let text = text.split("\nstack backtrace:").next().unwrap_or(text).trim();
    if place.contains('\n') {
        return None;
    }
    Some(cut(&format!("the handler panicked: {text} (at {place})"), MAX_MESSAGE).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(kind: &str, details: &str) -> Outcome {
        failure(&Failure {
            kind: kind.into(),
            message: "no".into(),
            details: (!details.is_empty()).then(|| details.into()),
        })
    }

    fn retry(seconds: Option<f64>) -> Outcome {
        Outcome::Error {
            class: Class::Retryable {
                retry_after: seconds.map(Duration::from_secs_f64),
            },
            message: "no".into(),
        }
    }

    #[test]
    fn a_result_is_json_within_its_limit() {
        assert_eq!(result("{}".into(), 2), Outcome::Ok { result: "{}".into() });
        assert_eq!(result("[1]".into(), 2).code(), "result_too_large");
        assert_eq!(result("{".into(), 2).code(), "fatal");
        assert_eq!(result(String::new(), 2).code(), "fatal");
        let nested = |levels: usize| result(format!("{}{}", "[".repeat(levels), "]".repeat(levels)), 1 << 20);
        assert_eq!(nested(100).code(), "ok");
        assert_eq!((nested(101).code(), nested(100_000).code()), ("fatal", "fatal"));
        assert_eq!(result("1e999".into(), 9).code(), "fatal");
        assert_eq!(result(r#"{"a":[null,true,-1,1.5,"x"]} "#.into(), 99).code(), "ok");
    }

    #[test]
    fn the_kind_is_the_handlers_word() {
        assert_eq!(check("retryable", ""), retry(None));
        assert_eq!(check("retryable", r#"{"retry_after": 1.5}"#), retry(Some(1.5)));
        assert_eq!(check("cancelled", ""), Outcome::Cancelled);
        assert_eq!(check("fatal", "").code(), "fatal");
        assert_eq!(check("whatever", "").code(), "fatal");
        let Outcome::Snooze { after, .. } = check("snooze", r#"{"retry_after": 0}"#) else {
            panic!()
        };
        assert_eq!(after, Duration::ZERO);
        let Outcome::Snooze { after, .. } = check("snooze", "") else {
            panic!()
        };
        assert_eq!(after, SNOOZE);
    }

    #[test]
    fn bad_details_break_nothing() {
        for bad in [
            "{",
            "[]",
            "7",
            r#"{"retry_after": -1}"#,
            r#"{"retry_after": "x"}"#,
            r#"{"retry_after": null}"#,
        ] {
            assert_eq!(check("retryable", bad), retry(None), "{bad}");
        }
        assert_eq!(check("retryable", r#"{"retry_after": 1e300}"#), retry(Some(366.0 * 86_400.0)));
        for bad in [r#"{"errors": 7}"#, r#"{"errors": [7, null]}"#, r#"{"errors": {}}"#] {
            assert_eq!(
                check("invalid_input", bad).details().unwrap()["errors"],
                serde_json::json!([]),
                "{bad}"
            );
        }
    }

    #[test]
    fn lengths_are_bounded() {
        let long = "ä".repeat(10_000);
        let many = serde_json::json!({ "errors": vec![serde_json::json!({"pointer": "/x", "detail": "ä".repeat(1_000)}); 110] });
        let Outcome::Error {
            class: Class::InvalidInput { errors },
            ..
        } = check("invalid_input", &many.to_string())
        else {
            panic!()
        };
        assert_eq!(errors.len(), MAX_ERRORS);
        assert!(errors.iter().all(|error| error.detail.len() == MAX_ERROR));
        let outcome = failure(&Failure {
            message: long,
            ..Failure::default()
        });
        assert_eq!(outcome.message().unwrap().len(), MAX_MESSAGE);
    }

    #[test]
    fn a_panic_is_found_in_stderr() {
        let stderr = "noise\n\nthread '<unnamed>' (1) panicked at src/lib.rs:3:5:\nindex out of\nbounds\nnote: run with `RUST_BACKTRACE=1`";
        assert_eq!(
            panic_message(stderr).unwrap(),
            "the handler panicked: index out of\nbounds (at src/lib.rs:3:5)"
        );
        assert_eq!(panic_message("panicked at nowhere"), None);
    }
}

//! The values that members hold: read once, checked as they are read, so that a refusal knows its place.

use super::without_position;
use crate::model::filter::Filter;
use crate::model::priority::Priority;
use crate::model::trigger::MAX_DEBOUNCE;
use crate::model::{Time, name};
use chrono::{NaiveDate, NaiveDateTime, NaiveTime};
use serde::de::{Deserializer, Error};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use std::time::Duration;

/// Most tags of one task.
const MAX_TAGS: usize = 32;
/// The longest tag and the longest event type, in characters.
const MAX_TAG: usize = 128;
const MAX_EVENT_TYPE: usize = 256;
/// Most retries that a submission may ask for.
const MAX_RETRIES: u64 = 1_000;
/// Most fires that one look ahead shows.
const MAX_PREVIEW: u64 = 1_000;
/// Levels of a payload: most readers of JSON stop at 128, and a list of records that hold it adds some.
const MAX_DEPTH: usize = 100;

/// A payload: the object, and the text it was written as, in which big numbers keep all their digits.
#[derive(Clone, Debug, PartialEq)]
pub struct Payload {
    /// As the client wrote it.
    pub text: String,
    /// What it says.
    pub value: Value,
}

impl Default for Payload {
    fn default() -> Self {
        Self {
            text: "{}".to_owned(),
            value: Value::Object(Map::new()),
        }
    }
}

impl<'de> Deserialize<'de> for Payload {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        // Raw text is skipped without a bound on its depth; this reading has one.
        let value: Value = serde_json::from_str(raw.get()).map_err(|cause| D::Error::custom(without_position(&cause)))?;
        if !value.is_object() {
            return Err(D::Error::custom("must be a JSON object"));
        }
        if depth(&value) > MAX_DEPTH {
            return Err(D::Error::custom(format!("must not be nested deeper than {MAX_DEPTH} levels")));
        }
        let text = raw.get().to_owned();
        Ok(Self { text, value })
    }
}

/// Levels of nesting; the reader of JSON has bounded them before.
fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(members) => 1 + members.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

/// Reads a value that may be left out or null, with a rule of its own.
pub(super) fn read<'de, D: Deserializer<'de>, T>(
    deserializer: D,
    rule: impl FnOnce(&Value) -> Result<T, String>,
) -> Result<Option<T>, D::Error> {
    match Value::deserialize(deserializer)? {
        Value::Null => Ok(None),
        value => rule(&value).map(Some).map_err(D::Error::custom),
    }
}

pub(super) fn priority<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Priority>, D::Error> {
    let rule = |value: &Value| value.as_i64().and_then(Priority::new);
    read(deserializer, |value| {
        rule(value).ok_or_else(|| "must be a whole number from 1 (most urgent) to 9".to_owned())
    })
}

pub(super) fn time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Time>, D::Error> {
    read(deserializer, |value| value.as_str().and_then(parse_time).ok_or_else(not_a_time))
}

pub(super) fn required_time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Time, D::Error> {
    time(deserializer)?.ok_or_else(|| D::Error::custom(not_a_time()))
}

pub(super) fn preview_count<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<usize>, D::Error> {
    let rule = |value: &Value| {
        value
            .as_u64()
            .filter(|n| (1..=MAX_PREVIEW).contains(n))
            .and_then(|n| usize::try_from(n).ok())
    };
    read(deserializer, |value| {
        rule(value).ok_or_else(|| format!("must be a whole number from 1 to {MAX_PREVIEW}"))
    })
}

pub(super) fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let rule = |value: &Value| Duration::try_from_secs_f64(value.as_f64()?).ok().filter(|d| !d.is_zero());
    read(deserializer, |value| {
        rule(value).ok_or_else(|| "must be a number of seconds greater than 0".to_owned())
    })
}

pub(super) fn max_retries<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    let rule = |value: &Value| value.as_u64().filter(|n| *n <= MAX_RETRIES).and_then(|n| u32::try_from(n).ok());
    read(deserializer, |value| {
        rule(value).ok_or_else(|| format!("must be a whole number from 0 to {MAX_RETRIES}"))
    })
}

pub(super) fn rule_name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    read(deserializer, |value| match value.as_str() {
        Some(text) if name::is_valid(text) => Ok(text.to_owned()),
        Some(text) => Err(name::why_invalid("the name", text)),
        None => Err("must be text".to_owned()),
    })
}

/// Checked as it is read: what may stand in one is the model's business.
pub(super) fn filter<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    read(deserializer, |value| {
        let text = value.as_str().ok_or_else(|| "must be a CEL expression, as text".to_owned())?;
        Filter::compile(text).map(|_| text.to_owned())
    })
}

pub(super) fn debounce<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    read(deserializer, |value| {
        seconds_of_debounce(value)
            .filter(|debounce| !debounce.is_zero())
            .ok_or_else(|| format!("must be a number of seconds greater than 0, and at most {}", MAX_DEBOUNCE.as_secs()))
    })
}

/// To the microsecond, as the store keeps times.
fn seconds_of_debounce(value: &Value) -> Option<Duration> {
    let given = Duration::try_from_secs_f64(value.as_f64()?)
        .ok()
        .filter(|debounce| *debounce <= MAX_DEBOUNCE)?;
    let micros = u64::try_from(given.as_micros()).ok()?;
    Some(Duration::from_micros(if given.is_zero() { 0 } else { micros.max(1) }))
}

pub(super) fn edit_of_payload<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<Payload>>, D::Error> {
    let raw = Box::<RawValue>::deserialize(deserializer)?;
    if raw.get() == "null" {
        return Ok(Some(None));
    }
    Payload::deserialize(raw.as_ref())
        .map(|payload| Some(Some(payload)))
        .map_err(|cause| D::Error::custom(without_position(&cause)))
}

pub(super) fn edit_of_priority<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<Priority>>, D::Error> {
    priority(deserializer).map(Some)
}

pub(super) fn edit_of_tags<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<Vec<String>>>, D::Error> {
    match Option::<Vec<Tag>>::deserialize(deserializer)? {
        None => Ok(Some(None)),
        Some(given) => each_once(given).map(|tags| Some(Some(tags))),
    }
}

pub(super) fn edit_of_filter<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<String>>, D::Error> {
    filter(deserializer).map(Some)
}

pub(super) fn edit_of_debounce<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<Duration>>, D::Error> {
    let sentence = || format!("must be a number of seconds from 0 (none) to {}", MAX_DEBOUNCE.as_secs());
    read(deserializer, |value| seconds_of_debounce(value).ok_or_else(sentence)).map(Some)
}

/// A tag of a task.
#[derive(Clone, Debug)]
struct Tag(String);

impl<'de> Deserialize<'de> for Tag {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let fits = (1..=MAX_TAG).contains(&text.chars().count()) && !text.chars().any(char::is_control);
        if fits {
            Ok(Self(text))
        } else {
            Err(D::Error::custom(format!(
                "a tag has 1 to {MAX_TAG} characters and no control characters"
            )))
        }
    }
}

/// One that may be left out.
pub(super) fn tag<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Ok(Option::<Tag>::deserialize(deserializer)?.map(|tag| tag.0))
}

/// Each tag once, in the order given.
pub(super) fn tags<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    each_once(Vec::<Tag>::deserialize(deserializer)?)
}

fn each_once<E: Error>(given: Vec<Tag>) -> Result<Vec<String>, E> {
    if given.len() > MAX_TAGS {
        return Err(E::custom(format!("a task has at most {MAX_TAGS} tags")));
    }
    let mut tags = Vec::with_capacity(given.len());
    for Tag(text) in given {
        if !tags.contains(&text) {
            tags.push(text);
        }
    }
    Ok(tags)
}

/// What happened, in one word of a few characters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct EventType(String);

impl EventType {
    /// Checks it; the error is a sentence.
    pub fn new(text: &str) -> Result<Self, String> {
        let fits = |b: u8| b.is_ascii_alphanumeric() || b"._:/-".contains(&b);
        if (1..=MAX_EVENT_TYPE).contains(&text.len()) && text.bytes().all(fits) {
            Ok(Self(text.to_owned()))
        } else {
            Err(format!(
                "an event type has 1 to {MAX_EVENT_TYPE} characters of A-Z a-z 0-9 . _ : / -"
            ))
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The text.
    pub fn into_string(self) -> String {
        self.0
    }
}

impl<'de> Deserialize<'de> for EventType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

/// The sentence for text that is not a time.
pub fn not_a_time() -> String {
    "must be a time such as 2026-01-31T09:30:00Z (without an offset it is UTC)".to_owned()
}

/// Reads RFC 3339 and ISO 8601 as most languages write it: with an offset or without (UTC), with `T` or a space, to the
/// second or finer, or a date alone (its midnight). Kept to the microsecond, as the store does.
pub fn parse_time(text: &str) -> Option<Time> {
    const LOCAL: [&str; 4] = ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M"];
    let text = text.trim();
    let local = || LOCAL.iter().find_map(|form| NaiveDateTime::parse_from_str(text, form).ok());
    let date = || {
        NaiveDate::parse_from_str(text, "%Y-%m-%d")
            .ok()
            .map(|day| day.and_time(NaiveTime::MIN))
    };
    // Four digits of a year: chrono reads more, which nobody means.
    if !text.as_bytes().iter().take(4).all(u8::is_ascii_digit) || text.as_bytes().get(4) != Some(&b'-') {
        return None;
    }
    let time = chrono::DateTime::parse_from_rfc3339(text).ok().map(|time| time.to_utc());
    let time = time.or_else(|| local().or_else(date).map(|time| time.and_utc()))?;
    Time::from_timestamp_micros(time.timestamp_micros())
}

/// The same of a query string, in which an unescaped `+` has become a space.
pub fn parse_query_time(text: &str) -> Option<Time> {
    parse_time(text).or_else(|| {
        let (time, offset) = text.rsplit_once(' ')?;
        parse_time(&format!("{time}+{offset}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_with_and_without_an_offset() {
        for (text, expected) in [
            ("2026-01-31T09:30:00Z", Some("2026-01-31T09:30:00+00:00")),
            ("2026-01-31T09:30:00+02:00", Some("2026-01-31T07:30:00+00:00")),
            ("2026-01-31T09:30:00", Some("2026-01-31T09:30:00+00:00")),
            ("2026-01-31 09:30:00.123456", Some("2026-01-31T09:30:00.123456+00:00")),
            ("2026-01-31T09:30:00.123456789Z", Some("2026-01-31T09:30:00.123456+00:00")),
            ("2026-01-31T09:30", Some("2026-01-31T09:30:00+00:00")),
            ("2026-01-31", Some("2026-01-31T00:00:00+00:00")),
            ("9999-12-31T23:59:59Z", Some("9999-12-31T23:59:59+00:00")),
            ("2026-02-30T00:00:00Z", None),
            ("+12026-01-01T00:00:00Z", None),
            ("-001-01-01T00:00:00", None),
            ("20260131", None),
            ("tomorrow", None),
            ("1767225600", None),
            ("", None),
        ] {
            assert_eq!(parse_time(text).map(|time| time.to_rfc3339()).as_deref(), expected, "{text}");
        }
        let plus = parse_query_time("2026-01-31T09:30:00 02:00").unwrap();
        assert_eq!(plus.to_rfc3339(), "2026-01-31T07:30:00+00:00");
    }

    #[test]
    fn event_types_are_plain() {
        for good in ["daily_close", "com.example:positions/changed-1", &"x".repeat(256)] {
            assert!(EventType::new(good).is_ok(), "{good}");
        }
        for bad in ["", "a b", "ä", &"x".repeat(257), "a\n"] {
            assert!(EventType::new(bad).is_err(), "{bad}");
        }
    }
}

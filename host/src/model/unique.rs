//! Uniqueness: what makes two submissions the same, and what happens to the second.

use crate::model::ids::TaskId;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::time::Duration;

/// What happens to a submission whose like waits or runs, or was submitted within the window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnConflict {
    /// The answer names the first one.
    #[default]
    Return,
    /// It is refused.
    Reject,
    /// It takes the place of the first one, where that still waits.
    Replace,
}

/// How a task is unique.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unique {
    /// Tasks with the same are alike.
    pub key: [u8; 32],
    /// The first one counts for so long even where it has ended.
    pub window: Option<Duration>,
    /// What happens to the second.
    pub on_conflict: OnConflict,
}

/// What becomes of a submission whose like was submitted first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Second {
    /// It is made: the first one counts no more.
    Made,
    /// It is made, and the first one cancelled.
    Replaces,
    /// The first one stands for it.
    Returned,
    /// It is refused; the sentence says why.
    Refused(String),
}

impl OnConflict {
    /// What becomes of the second. The first one has begun, or waits; where that is unknown, it has ended, and counts only while the window
    /// of its submission is open.
    pub fn decide(self, first: TaskId, has_begun: Option<bool>, in_window: bool) -> Second {
        match (self, has_begun) {
            (_, None) if !in_window => Second::Made,
            (Self::Return, _) => Second::Returned,
            (Self::Replace, Some(false)) => Second::Replaces,
            (Self::Reject, _) => Second::Refused(format!("the task {first} is like this one, and `unique` allows one at a time")),
            (Self::Replace, _) => Second::Refused(format!(
                "the task {first} is like this one and has begun, so that it cannot be replaced"
            )),
        }
    }
}

/// The key of a task over its name and these members of its payload, JSON pointers (RFC 6901); over all of it where there are none. The
/// order of members and blanks do not matter, digits do: `1` and `1.0` differ. A member that is missing is unlike any value, and like any other that is missing; a submission is
/// checked to have what its key names.
pub fn key(name: &str, payload: &str, fields: &[String]) -> [u8; 32] {
    let mut hash = Sha256::new();
    part(&mut hash, name);
    let whole: Option<&RawValue> = serde_json::from_str(payload).ok();
    if fields.is_empty() {
        part(&mut hash, &whole.map(canonical).unwrap_or_default());
    }
    let mut sorted: Vec<&String> = fields.iter().collect();
    sorted.sort();
    sorted.dedup();
    for pointer in sorted {
        part(&mut hash, pointer);
        let found = whole.and_then(|value| at(value, pointer));
        part(&mut hash, &found.map(canonical).unwrap_or_default());
    }
    hash.finalize().into()
}

/// What a payload says, in the same text however it was written: see [`key`].
pub fn text(payload: &str) -> String {
    serde_json::from_str(payload).map(canonical).unwrap_or_default()
}

fn part(hash: &mut Sha256, text: &str) {
    hash.update(text.len().to_be_bytes());
    hash.update(text);
}

/// The member of a payload at a JSON pointer, as one text for all that say the same.
pub fn member(payload: &str, pointer: &str) -> Option<String> {
    let whole: &RawValue = serde_json::from_str(payload).ok()?;
    at(whole, pointer).map(canonical)
}

/// The value at a JSON pointer.
fn at<'a>(value: &'a RawValue, pointer: &str) -> Option<&'a RawValue> {
    let mut value = value;
    for token in pointer.split('/').skip(1) {
        let token = token.replace("~1", "/").replace("~0", "~");
        value = match value.get().as_bytes().first() {
            Some(b'{') => *serde_json::from_str::<BTreeMap<String, &RawValue>>(value.get()).ok()?.get(&token)?,
            Some(b'[') => *serde_json::from_str::<Vec<&RawValue>>(value.get())
                .ok()?
                .get(token.parse::<usize>().ok()?)?,
            _ => return None,
        };
    }
    Some(value)
}

/// The same text for what says the same: members by name, no blanks, strings written in one way, numbers as they were. A payload's
/// depth was bounded as it came in.
fn canonical(value: &RawValue) -> String {
    let text = value.get();
    match text.as_bytes().first() {
        Some(b'{') => {
            let members: BTreeMap<String, &RawValue> = serde_json::from_str(text).unwrap_or_default();
            let members: Vec<String> = members
                .iter()
                .map(|(name, value)| format!("{}:{}", serde_json::json!(name), canonical(value)))
                .collect();
            format!("{{{}}}", members.join(","))
        }
        Some(b'[') => {
            let items: Vec<&RawValue> = serde_json::from_str(text).unwrap_or_default();
            let items: Vec<String> = items.iter().map(|item| canonical(item)).collect();
            format!("[{}]", items.join(","))
        }
        Some(b'"') => serde_json::from_str::<String>(text).map_or_else(|_| text.to_owned(), |plain| serde_json::json!(plain).to_string()),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(payload: &str, fields: &[&str]) -> [u8; 32] {
        let fields: Vec<String> = fields.iter().map(|field| (*field).to_owned()).collect();
        key("t", payload, &fields)
    }

    #[test]
    fn what_says_the_same_is_the_same() {
        let all: &[&str] = &[];
        assert_eq!(
            of(r#"{"a":1,"b":[1,{"c":"x"}]}"#, all),
            of(r#" { "b" : [ 1 , {"c":"\u0078"} ] , "a":1 } "#, all)
        );
        assert_ne!(
            of(r#"{"a":12345678901234567890123}"#, all),
            of(r#"{"a":12345678901234567890124}"#, all)
        );
        assert_ne!(of(r#"{"a":1}"#, all), of(r#"{"a":"1"}"#, all));
        assert_ne!(
            of(r#"{"a":null}"#, &["/a"]),
            of("{}", &["/a"]),
            "a member that is missing is no null"
        );
        assert_ne!(key("t", "{}", &[]), key("u", "{}", &[]));
    }

    #[test]
    fn the_second_of_two_that_are_alike_goes_by_what_the_first_one_does() {
        let first = TaskId::from_bytes([7; 16]);
        let decide = |policy: OnConflict, has_begun, in_window| match policy.decide(first, has_begun, in_window) {
            Second::Made => "made",
            Second::Replaces => "replaces",
            Second::Returned => "returned",
            Second::Refused(_) => "refused",
        };
        for (policy, waits, runs, ended_in_window) in [
            (OnConflict::Return, "returned", "returned", "returned"),
            (OnConflict::Reject, "refused", "refused", "refused"),
            (OnConflict::Replace, "replaces", "refused", "refused"),
        ] {
            for in_window in [false, true] {
                assert_eq!(decide(policy, Some(false), in_window), waits);
                assert_eq!(decide(policy, Some(true), in_window), runs);
            }
            assert_eq!(decide(policy, None, true), ended_in_window);
            assert_eq!(decide(policy, None, false), "made");
        }
    }

    #[test]
    fn only_the_named_members_count() {
        let (one, other) = (r#"{"id":7,"deep":{"a/b":[1,2]},"at":1}"#, r#"{"at":2,"id":7,"deep":{"a/b":[9,2]}}"#);
        assert_eq!(of(one, &["/id", "/deep/a~1b/1"]), of(other, &["/deep/a~1b/1", "/id", "/id"]));
        assert_ne!(of(one, &["/id", "/deep/a~1b/0"]), of(other, &["/id", "/deep/a~1b/0"]));
        assert_ne!(of(one, &["/id"]), of(one, &["/at"]));
    }
}

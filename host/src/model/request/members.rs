//! Changes of documents, member by member. What is read as a map keeps the last of two members of one name; here that is refused at every
//! depth, as it is of all that is read as a type: nobody should have to guess which of two changes was made.

use super::{Input, Refusal, RefusalKind};
use crate::model::schedule::Members;
use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use std::collections::HashSet;
use std::fmt;

/// An object whose members are not read further, each of them given once.
#[derive(Clone, Debug, Default)]
pub struct Given(pub Members);

impl Input for Given {}

impl<'de> Deserialize<'de> for Given {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let read = deserializer.deserialize_map(Reader { of_schedule: false })?;
        Ok(Self(read.members))
    }
}

/// What an operator changes of a schedule, member by member; null takes a change back.
#[derive(Debug)]
pub struct ScheduleEdit {
    /// The members, as they were written.
    pub members: Members,
    /// Whether it is to be paused; as it is where left out.
    pub paused: Option<bool>,
}

impl Input for ScheduleEdit {}

impl<'de> Deserialize<'de> for ScheduleEdit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Reader { of_schedule: true })
    }
}

/// What can be edited of a schedule.
const MEMBERS: &[&str] = &[
    "cron_expression",
    "session",
    "timezone",
    "calendar",
    "on_closed",
    "dst_gap",
    "dst_overlap",
    "misfire",
    "overlap",
    "payload",
    "priority",
    "tags",
    "start",
    "end",
    "paused",
];

/// What makes a schedule the one that it is: refused too, with another sentence than what does not exist.
const FIXED: [&str; 2] = ["name", "task_name"];

struct Reader {
    /// Whether it is a schedule's.
    of_schedule: bool,
}

/// Reads the name of a member that may be edited.
struct Known;

impl<'de> DeserializeSeed<'de> for Known {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        let name = String::deserialize(deserializer)?;
        match MEMBERS.iter().chain(&FIXED).any(|known| *known == name) {
            true => Ok(name),
            false => Err(D::Error::unknown_field(&name, MEMBERS)),
        }
    }
}

impl<'de> Visitor<'de> for Reader {
    type Value = ScheduleEdit;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut given: A) -> Result<ScheduleEdit, A::Error> {
        let (mut members, mut paused) = (Members::new(), None);
        while let Some(name) = match self.of_schedule {
            true => given.next_key_seed(Known)?,
            false => given.next_key::<String>()?,
        } {
            let twice = if self.of_schedule && name == "paused" {
                paused.replace(given.next_value::<Option<bool>>()?).is_some()
            } else {
                members.insert(name.clone(), given.next_value::<Box<RawValue>>()?).is_some()
            };
            if twice {
                return Err(A::Error::custom(twice_given(&name)));
            }
        }
        Ok(ScheduleEdit {
            members,
            paused: paused.flatten(),
        })
    }
}

fn twice_given(name: &str) -> String {
    format!("duplicate field `{name}`")
}

/// Says where an object at any depth of a member has two members of one name.
pub fn check_once(name: &str, value: &str) -> Result<(), Refusal> {
    if !value.starts_with('{') {
        return Ok(());
    }
    let within = |refusal: Refusal| Refusal::new(RefusalKind::Value, format!("/{name}{}", refusal.pointer), refusal.sentence);
    super::parse::<Once>(value.as_bytes()).map(drop).map_err(within)
}

/// Any JSON, no object of which has two members of one name.
struct Once;

impl Input for Once {}

impl<'de> Deserialize<'de> for Once {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Self)
    }
}

impl<'de> Visitor<'de> for Once {
    type Value = Self;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self, A::Error> {
        while items.next_element::<Self>()?.is_some() {}
        Ok(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self, A::Error> {
        let mut seen = HashSet::new();
        while let Some(name) = members.next_key::<String>()? {
            if seen.contains(&name) {
                return Err(A::Error::custom(twice_given(&name)));
            }
            members.next_value::<Self>()?;
            seen.insert(name);
        }
        Ok(self)
    }
}

//! Changes of documents, member by member. What is read as a map keeps the last of two members of one name; here that is refused, as
//! it is of all that is read as a type.

use super::{Input, Refusal, RefusalKind};
use crate::model::schedule::Members;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::fmt;

/// An object whose members are not read further, each of them given once.
#[derive(Clone, Debug, Default)]
pub struct Given(pub Members);

impl Input for Given {}

impl<'de> Deserialize<'de> for Given {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let read = deserializer.deserialize_map(Reader { paused: false })?;
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
        deserializer.deserialize_map(Reader { paused: true })
    }
}

struct Reader {
    /// Whether the member `paused` is read.
    paused: bool,
}

impl<'de> Visitor<'de> for Reader {
    type Value = ScheduleEdit;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut given: A) -> Result<ScheduleEdit, A::Error> {
        let (mut members, mut paused) = (Members::new(), None);
        while let Some(name) = given.next_key::<String>()? {
            let twice = if self.paused && name == "paused" {
                paused.replace(given.next_value::<Option<bool>>()?).is_some()
            } else {
                members.insert(name.clone(), given.next_value::<Box<RawValue>>()?).is_some()
            };
            if twice {
                return Err(A::Error::custom(format!("duplicate field `{name}`")));
            }
        }
        Ok(ScheduleEdit {
            members,
            paused: paused.flatten(),
        })
    }
}

impl Given {
    /// Says where an object in one of the members has two of one name.
    pub fn check_within(&self, name: &str) -> Result<(), Refusal> {
        let Some(value) = self.0.get(name).filter(|value| value.get().starts_with('{')) else {
            return Ok(());
        };
        let read = super::parse::<Self>(value.get().as_bytes());
        let within = |refusal: Refusal| Refusal::new(RefusalKind::Value, format!("/{name}{}", refusal.pointer), refusal.sentence);
        read.map(drop).map_err(within)
    }
}

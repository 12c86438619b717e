//! A trigger: an event rule that creates tasks. Registering one runs nothing.
//!
//! What it was registered with and what an operator edited are kept apart, so that a service that registers its triggers at every start
//! takes back no edit.

use crate::model::Time;
use crate::model::ids::TriggerId;
use crate::model::patch::{check_length, merge_edits, merge_patch};
use crate::model::priority::Priority;
use crate::model::request::{EventTriggerRequest, Refusal, check_once};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

/// The longest time for which events are waited out.
pub const MAX_DEBOUNCE: Duration = Duration::from_secs(86_400);
/// A task that waits for events to cease waits at most so many times the debounce.
const MAX_POSTPONED: u32 = 10;

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
    /// As it was registered last.
    pub declared: Terms,
    /// What an operator changed.
    pub edits: Edits,
    /// Whether events pass it by.
    pub paused: bool,
    /// When it was first created.
    pub created_at: Time,
    /// How often it fired.
    pub fired_count: u64,
    /// When it last fired.
    pub last_fired: Option<Time>,
    /// How many events of its type its filter let pass by.
    pub skipped_count: u64,
    /// Why its filter could not be evaluated on the last event, where it could not.
    pub filter_error: Option<String>,
}

/// How a trigger makes its tasks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Terms {
    /// JSON text of an object.
    #[serde(with = "raw")]
    pub payload: String,
    /// `None`: the definition's.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "priority")]
    pub priority: Option<Priority>,
    /// United with the definition's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// A CEL expression; `None` lets all events of the type fire it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
    /// Its task waits until no event has fired it for so long; `None`: each event makes a task at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub debounce: Option<Duration>,
}

/// Members of [`Terms`] that an operator set; `None` leaves what was registered.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Edits {
    /// Members of the payload over those that were registered, at every level: JSON text of an object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payload: Option<Raw>,
    #[serde(skip_serializing_if = "Option::is_none", with = "priority")]
    /// Instead of the registered one.
    pub priority: Option<Priority>,
    /// Instead of the registered ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tags: Option<Vec<String>>,
    /// Instead of the registered one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
    /// Instead of the registered one; zero is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub debounce: Option<Duration>,
}

impl Edits {
    /// Of their JSON text.
    fn bytes(&self) -> usize {
        serde_json::to_string(self).map_or(0, |text| text.len())
    }
}

/// What is left of edits when their trigger is registered anew.
#[derive(Debug, Default)]
pub struct Fitted {
    /// What holds still.
    pub edits: Edits,
    /// What to tell of the rest.
    pub dropped: Option<String>,
}

/// A change of the edits: an outer `None` leaves a member as it is, an inner one takes its edit back.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Patch {
    /// A merge patch of the payload's edit: JSON text of an object.
    pub payload: Option<Option<String>>,
    /// From 1 to 9.
    pub priority: Option<Option<Priority>>,
    /// All of them.
    pub tags: Option<Option<Vec<String>>>,
    /// Checked.
    pub filter: Option<Option<String>>,
    /// Zero is none.
    pub debounce: Option<Option<Duration>>,
    /// Whether events pass it by.
    pub paused: Option<bool>,
}

impl Patch {
    /// Says what is wrong with it, whatever it is applied to.
    pub fn check(&self) -> Result<(), Refusal> {
        let Some(Some(payload)) = &self.payload else { return Ok(()) };
        check_length(payload).map_err(|refusal| Refusal {
            pointer: "/payload".to_owned(),
            ..refusal
        })?;
        check_once("payload", payload)
    }
}

impl Trigger {
    /// As somebody asks for it to be registered, under a name that is given or was worked out.
    pub fn declare(request: &EventTriggerRequest, name: String, now: Time) -> Self {
        Self {
            id: TriggerId::new(now),
            name,
            task_name: request.task_name.clone(),
            event_type: request.event_type.as_str().to_owned(),
            declared: Terms {
                payload: request.payload.text.clone(),
                priority: request.priority,
                tags: request.tags.clone(),
                filter: request.filter.clone(),
                debounce: request.debounce,
            },
            edits: Edits::default(),
            paused: false,
            created_at: now,
            fired_count: 0,
            last_fired: None,
            skipped_count: 0,
            filter_error: None,
        }
    }

    /// How it makes its tasks: as registered, with the edits over it.
    pub fn terms(&self) -> Cow<'_, Terms> {
        if self.edits == Edits::default() {
            return Cow::Borrowed(&self.declared);
        }
        let (declared, edits) = (&self.declared, &self.edits);
        let debounce = edits.debounce.or(declared.debounce);
        Cow::Owned(Terms {
            payload: match &edits.payload {
                Some(edit) => merge_patch(&declared.payload, &edit.0),
                None => declared.payload.clone(),
            },
            priority: edits.priority.or(declared.priority),
            tags: edits.tags.as_ref().unwrap_or(&declared.tags).clone(),
            filter: edits.filter.as_ref().or(declared.filter.as_ref()).cloned(),
            debounce: debounce.filter(|debounce| !debounce.is_zero()),
        })
    }

    /// What an operator changed of the trigger that this one, registered now, takes the place of, as far as it fits and has room: so many
    /// bytes. A payload is half of what a task gets, which no schema can be held against: what was meant for another task is not kept.
    pub fn fitted(&self, before: Self, room: usize) -> Fitted {
        let mut edits = before.edits;
        let why = if before.task_name != self.task_name {
            format!("it was meant for the task {:?}, and not for {:?}", before.task_name, self.task_name)
        } else if edits.bytes() > room {
            format!("the triggers that listen to {:?} have no room for it beside", self.event_type)
        } else {
            return Fitted { edits, dropped: None };
        };
        let dropped = edits.payload.take().map(|_| {
            format!(
                "trigger {:?} was registered anew, and an operator's edit of its payload was dropped: {why}; edit it again where it is still wanted",
                self.name
            )
        });
        Fitted { edits, dropped }
    }

    /// Applies what an operator asks for, or nothing of it.
    pub fn edit(&mut self, patch: Patch) -> Result<(), Refusal> {
        let edits = &mut self.edits;
        if let Some(patch) = patch.payload {
            let before = edits.payload.as_ref().map_or("{}", |edit| &edit.0);
            let edit = patch.map(|patch| merge_edits(before, &patch)).transpose()?;
            edits.payload = edit.filter(|edit| edit != "{}").map(Raw);
        }
        set(&mut edits.priority, patch.priority);
        set(&mut edits.tags, patch.tags);
        set(&mut edits.filter, patch.filter);
        set(&mut edits.debounce, patch.debounce);
        self.paused = patch.paused.unwrap_or(self.paused);
        Ok(())
    }
}

fn set<T>(edit: &mut Option<T>, change: Option<Option<T>>) {
    if let Some(change) = change {
        *edit = change;
    }
}

/// When the task of a debounced trigger is due that has waited since `first`, now that another event came: the debounce from now, and no
/// later than ten times it after the first event.
pub fn postponed(first: Time, now: Time, debounce: Duration) -> Time {
    (now + debounce).min(first + debounce.min(MAX_DEBOUNCE) * MAX_POSTPONED)
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

/// A JSON text that stands in a larger one as it was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Raw(#[serde(with = "raw")] pub String);

mod raw {
    use serde::de::{Deserialize, Deserializer};
    use serde::ser::{Error, Serialize, Serializer};
    use serde_json::value::RawValue;

    pub(super) fn serialize<S: Serializer>(text: &str, serializer: S) -> Result<S::Ok, S::Error> {
        let raw: &RawValue = serde_json::from_str(text).map_err(S::Error::custom)?;
        raw.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
        Box::<RawValue>::deserialize(deserializer).map(|raw| raw.get().to_owned())
    }
}

mod priority {
    use crate::model::priority::Priority;
    use serde::de::{Deserialize, Deserializer};
    use serde::ser::{Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(priority: &Option<Priority>, serializer: S) -> Result<S::Ok, S::Error> {
        priority.map(Priority::get).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Priority>, D::Error> {
        Option::<i64>::deserialize(deserializer).map(|number| number.and_then(Priority::new))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trigger() -> Trigger {
        Trigger {
            id: TriggerId::new(Time::UNIX_EPOCH),
            name: "t".into(),
            task_name: "echo".into(),
            event_type: "e".into(),
            declared: Terms {
                payload: r#"{"a":1.10,"b":{"c":2}}"#.into(),
                priority: Priority::new(3),
                tags: vec!["x".into()],
                filter: Some("data.a > 1".into()),
                debounce: Some(Duration::from_secs(5)),
            },
            edits: Edits::default(),
            paused: false,
            created_at: Time::UNIX_EPOCH,
            fired_count: 0,
            last_fired: None,
            skipped_count: 0,
            filter_error: None,
        }
    }

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

    #[test]
    fn edits_lie_over_what_was_registered_until_they_are_taken_back() {
        let mut trigger = trigger();
        assert_eq!(*trigger.terms(), trigger.declared);
        trigger
            .edit(Patch {
                payload: Some(Some(r#"{"a":1.20,"b":{"e":3.0},"d":4}"#.to_owned())),
                priority: Some(Priority::new(1)),
                tags: Some(Some(vec![])),
                filter: Some(Some("true".into())),
                debounce: Some(Some(Duration::ZERO)),
                paused: Some(true),
            })
            .unwrap();
        let kept: Edits = serde_json::from_str(&serde_json::to_string(&trigger.edits).unwrap()).unwrap();
        assert_eq!(kept, trigger.edits);
        let terms = trigger.terms().into_owned();
        assert_eq!(terms.payload, r#"{"a":1.20,"b":{"c":2,"e":3.0},"d":4}"#);
        assert_eq!(
            (terms.priority, terms.tags.len(), terms.filter.as_deref(), terms.debounce),
            (Priority::new(1), 0, Some("true"), None)
        );
        trigger
            .edit(Patch {
                payload: Some(Some(r#"{"a":null,"b":null}"#.to_owned())),
                priority: Some(None),
                filter: Some(None),
                debounce: Some(None),
                ..Patch::default()
            })
            .unwrap();
        let terms = trigger.terms().into_owned();
        assert_eq!(terms.payload, r#"{"a":1.10,"b":{"c":2},"d":4}"#);
        assert_eq!((terms.priority, terms.debounce), (Priority::new(3), Some(Duration::from_secs(5))));
        assert!(trigger.paused && trigger.edits.tags.is_some());
        let document = serde_json::to_string(&trigger.declared).unwrap();
        assert_eq!(serde_json::from_str::<Terms>(&document).unwrap(), trigger.declared);
    }

    #[test]
    fn registering_anew_keeps_the_edits_that_fit() {
        let mut before = trigger();
        before
            .edit(Patch {
                payload: Some(Some(r#"{"a":2}"#.into())),
                priority: Some(Priority::new(1)),
                ..Patch::default()
            })
            .unwrap();
        let room = serde_json::to_string(&before.edits).unwrap().len();
        let bare = Edits {
            payload: None,
            ..before.edits.clone()
        };
        let other = Trigger {
            task_name: "noop".into(),
            ..trigger()
        };
        for (anew, room, kept, why) in [
            (trigger(), room, &before.edits, None),
            (trigger(), room - 1, &bare, Some("\"e\" have no room for it")),
            (other, room, &bare, Some("meant for the task \"echo\", and not for \"noop\"")),
        ] {
            let fitted = anew.fitted(before.clone(), room);
            assert_eq!(fitted.edits, *kept);
            assert_eq!(
                fitted.dropped.as_deref().map(|told| why.is_some_and(|why| told.contains(why))),
                why.map(|_| true),
                "{:?}",
                fitted.dropped
            );
        }
    }

    #[test]
    fn a_stream_of_events_postpones_only_so_long() {
        let (first, second) = (Time::UNIX_EPOCH, Duration::from_secs(1));
        assert_eq!(postponed(first, first, second), first + second);
        assert_eq!(postponed(first, first + second * 4, second), first + second * 5);
        assert_eq!(postponed(first, first + second * 30, second), first + second * 10);
    }
}

//! Identifiers: one type a thing, so that a schedule's id cannot be taken for a task's.
//!
//! All are UUID version 7 (RFC 9562): sortable by creation, unique without a coordinator. To users they are opaque strings.

use crate::model::Time;
use std::sync::Mutex;
use uuid::{ContextV7, Timestamp, Uuid};

/// Orders ids made within the same millisecond, and keeps them growing when the clock steps back.
static CONTEXT: Mutex<ContextV7> = Mutex::new(ContextV7::new());

fn uuid_v7(now: Time) -> Uuid {
    let context = CONTEXT.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let seconds = u64::try_from(now.timestamp()).unwrap_or(0);
    Uuid::new_v7(Timestamp::from_unix(&*context, seconds, now.timestamp_subsec_nanos()))
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// A fresh id, greater than those made before it in this process.
            pub fn new(now: Time) -> Self {
                Self(uuid_v7(now))
            }

            /// As the store keeps it.
            pub fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(Uuid::from_bytes(bytes))
            }

            /// As the store keeps it.
            pub fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(f)
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(f)
            }
        }

        impl std::str::FromStr for $name {
            type Err = uuid::Error;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Uuid::parse_str(text).map(Self)
            }
        }
    };
}

id!(
    /// A task's id: the same over all its attempts.
    TaskId
);
id!(
    /// The id of tasks that were submitted together.
    BatchId
);
id!(
    /// The id of steps that were submitted together.
    WorkflowId
);
id!(
    /// A schedule's id.
    ScheduleId
);
id!(
    /// A trigger's id.
    TriggerId
);
id!(
    /// The id of an event that was delivered to triggers.
    EventId
);
id!(
    /// An alert's id.
    AlertId
);
id!(
    /// One start of a host process: random for each start, never a host name, so that a restarted node is another owner.
    NodeId
);

impl TaskId {
    /// A schedule where a task is expected: alerts are about either.
    pub fn of_schedule(id: ScheduleId) -> Self {
        Self(id.0)
    }

    /// The same of a trigger.
    pub fn of_trigger(id: TriggerId) -> Self {
        Self(id.0)
    }

    /// The smallest and the greatest id that begin with `prefix` (hexadecimal digits and hyphens of the written form).
    /// `None` where no id can begin so.
    pub fn range_of_prefix(prefix: &str) -> Option<(Self, Self)> {
        let digits: String = prefix.chars().filter(|c| *c != '-').collect();
        if digits.is_empty() || digits.len() > 32 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        let bound = |fill: char| {
            let mut text = digits.clone();
            text.extend(std::iter::repeat_n(fill, 32 - digits.len()));
            Uuid::parse_str(&text).ok().map(Self)
        };
        Some((bound('0')?, bound('f')?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_grow_even_within_one_instant() {
        let now = Time::UNIX_EPOCH;
        let ids: Vec<TaskId> = (0..1000).map(|_| TaskId::new(now)).collect();
        assert!(ids.is_sorted());
        assert_eq!(ids.iter().collect::<std::collections::HashSet<_>>().len(), 1000);
    }

    #[test]
    fn a_prefix_spans_just_its_ids() {
        let id: TaskId = "0192f0c1-2345-7abc-8def-0123456789ab".parse().unwrap();
        let (low, high) = TaskId::range_of_prefix("0192f0c1-23").unwrap();
        assert!(low <= id && id <= high);
        let (low, high) = TaskId::range_of_prefix("0192f0c2").unwrap();
        assert!(id < low && low < high);
        assert_eq!(TaskId::range_of_prefix("xyz"), None);
    }
}

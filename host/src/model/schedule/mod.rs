//! A schedule: a rule about time that creates tasks.
//!
//! What a schedule is comes from two documents: what was declared, by whoever registers it, maybe again at every start; and what an
//! operator edited since, member by member, which declaring again leaves alone. [`Schedule::effective`] lays one over the other.
//! When it fires is [`rule`]'s to say, which of the fires that are due are made is [`misfire`]'s, and what a fire does while tasks of
//! earlier ones have not ended is [`overlap`]'s.

pub mod misfire;
pub mod overlap;
pub mod rule;
pub mod timing;

use crate::model::Time;
use crate::model::alert::{AlertType, NewAlert};
use crate::model::ids::{ScheduleId, TaskId};
use crate::model::patch::{merge_edits, merge_patch, object};
use crate::model::request::{CronTaskRequest, Payload, Refusal, RefusalKind, check_once, parse};
use crate::model::zone::Zone;
use serde_json::value::{RawValue, to_raw_value};
use std::collections::BTreeMap;

/// Members of a document, each as it was written.
pub type Members = BTreeMap<String, Box<RawValue>>;

/// A schedule as it is kept.
#[derive(Clone, Debug)]
pub struct Schedule {
    /// Its id, which survives updates.
    pub id: ScheduleId,
    /// Unique; creating again under it updates.
    pub name: String,
    /// Which task it creates.
    pub task_name: String,
    /// The members that it was declared with: JSON text of an object.
    pub declared: String,
    /// The members that an operator changed: JSON text of an object.
    pub edits: Option<String>,
    /// When it was first created.
    pub created_at: Time,
    /// The cursor: the next fire. `None` once it has none left.
    pub next_fire: Option<Time>,
    /// When the cursor was worked out: what was dropped until then has been recorded.
    pub planned_at: Time,
    /// Since when it is paused.
    pub paused_at: Option<Time>,
    /// The latest fire that made a task.
    pub last_fire: Option<Time>,
    /// The task of the last fire.
    pub last_task: Option<TaskId>,
    /// Counts writes, so that nobody overwrites what he has not seen.
    pub revision: u64,
}

impl Schedule {
    /// What holds: the declared members under the operator's.
    pub fn effective(&self) -> Result<CronTaskRequest, Refusal> {
        match self.edits.as_deref() {
            None => parse(self.declared.as_bytes()),
            Some(edits) => effective(&members(&self.declared)?, &members(edits)?),
        }
    }

    /// The same with the payload as a text alone, and null for its value: a long one becomes many times its length where it is read, and
    /// only who holds it against a schema needs it read.
    pub fn terms(&self) -> Result<CronTaskRequest, Refusal> {
        let (mut declared, mut edits) = (members(&self.declared)?, members(self.edits.as_deref().unwrap_or("{}"))?);
        let payload = match (declared.remove("payload"), edits.remove("payload")) {
            (declared, Some(edit)) => merge_patch(declared.as_ref().map_or("{}", |payload| payload.get()), edit.get()),
            (Some(declared), None) => Box::<str>::from(declared).into(),
            (None, None) => Payload::default().text,
        };
        if !payload.starts_with('{') {
            return self.effective(); // which says what is wrong with it
        }
        let mut request = effective(&declared, &edits)?;
        request.payload = Payload {
            text: payload,
            value: serde_json::Value::Null,
        };
        Ok(request)
    }

    /// Bytes of what it is read from.
    pub fn bytes(&self) -> usize {
        self.declared.len() + self.edits.as_ref().map_or(0, String::len)
    }

    /// A case that an operator should look at.
    pub fn alert(&self, kind: AlertType, error: String, at: Time) -> NewAlert {
        NewAlert {
            kind,
            task_id: TaskId::of_schedule(self.id),
            task_name: self.task_name.clone(),
            error: Some(error),
            execution_time: None,
            at,
        }
    }
}

/// Lays edits over what was declared.
pub fn effective(declared: &Members, edits: &Members) -> Result<CronTaskRequest, Refusal> {
    let mut members = declared.clone();
    // One way to say when takes the place of the other.
    for (one, other) in [("cron_expression", "session"), ("session", "cron_expression")] {
        if edits.contains_key(one) {
            members.remove(other);
        }
    }
    parse(merge_patch(&text(&members), &text(edits)).as_bytes())
}

/// The members of a request, but for the name, as they are kept.
pub fn declared(request: &CronTaskRequest) -> Members {
    let mut members = Members::new();
    let mut keep = |member: &str, value: Option<serde_json::Result<Box<RawValue>>>| {
        if let Some(Ok(value)) = value {
            members.insert(member.to_owned(), value);
        }
    };
    fn raw<T: serde::Serialize>(value: Option<T>) -> Option<serde_json::Result<Box<RawValue>>> {
        value.map(|value| to_raw_value(&value))
    }
    keep("task_name", raw(Some(&request.task_name)));
    keep("payload", Some(RawValue::from_string(request.payload.text.clone())));
    keep("priority", raw(request.priority));
    keep("tags", raw(Some(&request.tags).filter(|tags| !tags.is_empty())));
    keep("cron_expression", raw(request.cron_expression.as_ref()));
    keep("session", raw(request.session));
    keep("timezone", raw(request.timezone.map(Zone::name)));
    keep("calendar", raw(request.calendar.as_ref()));
    keep("on_closed", raw(request.on_closed));
    keep("dst_gap", raw(request.dst_gap));
    keep("dst_overlap", raw(request.dst_overlap));
    keep("misfire", raw(request.misfire));
    keep("overlap", raw(request.overlap));
    keep("start", raw(request.start));
    keep("end", raw(request.end));
    members
}

/// Applies a merge patch to edits: null takes an edit back. Refuses what makes a schedule the one that it is.
pub fn patched(edits: Option<&str>, patch: &Members) -> Result<Members, Refusal> {
    if let Some(member) = ["name", "task_name"].into_iter().find(|member| patch.contains_key(*member)) {
        let sentence = format!("`{member}` cannot be changed; create another schedule");
        return Err(Refusal::new(RefusalKind::Value, format!("/{member}"), sentence));
    }
    let merged = merge_edits(edits.unwrap_or("{}"), &text(patch))?;
    patch.iter().try_for_each(|(name, value)| check_once(name, value.get()))?;
    let mut members = members(&merged)?;
    // No payload is less than an object: this edit changes none.
    members.retain(|member, value| member != "payload" || value.get() != "{}");
    Ok(members)
}

/// Reads an object, member by member.
pub fn members(text: &str) -> Result<Members, Refusal> {
    serde_json::from_str(text).map_err(|error| Refusal::new(RefusalKind::Json, "", error.to_string()))
}

/// The reverse of [`members`].
pub fn text(members: &Members) -> String {
    object(members.iter().map(|(member, value)| (member.as_str(), value.get())))
}

/// Why a fire made no task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SkipReason {
    /// It was found too late, and the schedule's rule for that left it out.
    Misfire,
    /// Tasks of earlier fires had not ended, and the schedule's rule for that left it out.
    Overlap,
    /// The schedule was paused.
    Paused,
    /// The calendar has no session on that day.
    Closed,
    /// The clocks went forward over its time.
    DstGap,
}

impl SkipReason {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Misfire, Self::Overlap, Self::Paused, Self::Closed, Self::DstGap];

    /// The word used in the API and in the store.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Misfire => "misfire",
            Self::Overlap => "overlap",
            Self::Paused => "paused",
            Self::Closed => "closed",
            Self::DstGap => "dst_gap",
        }
    }

    /// The reverse of [`SkipReason::as_str`].
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == word)
    }
}

/// Fires that were counted one by one, at most: a count of so many says that there were at least so many.
pub const COUNTED: u64 = 1_000;

/// Fires in a row that made no task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Skip {
    /// Why.
    pub reason: SkipReason,
    /// The first of them.
    pub at: Time,
    /// The last of them.
    pub until: Time,
    /// How many; [`COUNTED`] stands for that many or more.
    pub count: u64,
}

impl Skip {
    /// What is left of it where some fires have been made all the same, before the clock was set back: at most [`COUNTED`] of them are
    /// known. What was run by hand is no fire of the rule: those are at whole seconds.
    pub fn without(self, made: &[Time]) -> Option<Self> {
        let among = |at: &&Time| (self.at..=self.until).contains(*at) && at.timestamp_subsec_nanos() == 0;
        let count = match self.count {
            COUNTED.. => self.count, // or more
            count => count.saturating_sub(made.iter().filter(among).count() as u64),
        };
        (count > 0).then_some(Self { count, ..self })
    }

    /// A single one.
    pub fn one(reason: SkipReason, at: Time) -> Self {
        Self {
            reason,
            at,
            until: at,
            count: 1,
        }
    }
}

/// One line of what a schedule did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fire {
    /// It made a task.
    Made {
        /// Which fire.
        at: Time,
        /// Its task.
        task: TaskId,
    },
    /// It made none.
    Skipped(Skip),
}

impl Fire {
    /// Its time, or that of the first.
    pub fn at(&self) -> Time {
        match self {
            Self::Made { at, .. } => *at,
            Self::Skipped(skip) => skip.at,
        }
    }
}

#[cfg(test)]
mod tests;

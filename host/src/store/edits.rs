//! What becomes of an operator's edits when a service declares its schedule anew, and they do not fit any more.
//!
//! The declaration wins. Edits of when it fires only fit together and go together; an edit of the payload goes by itself. Of priority,
//! tags and the rules for missed and overlapping fires any edit fits any declaration. What was dropped is told by an alert.

use super::Store;
use super::changes::{Fires, timed};
use super::reading::{Read, Result, ScheduleError, check_payload};
use crate::model::Time;
use crate::model::alert::{AlertType, NewAlert};
use crate::model::attempt::InputError;
use crate::model::schedule::{self, Members, Schedule};
use async_trait::async_trait;
use serde_json::Value;

/// Whoever knows what the tasks take.
#[async_trait]
pub trait Schemas: Send + Sync {
    /// What is wrong with a payload by the schema of the task of this name; empty where nothing is, or nobody handles it.
    async fn misfits(&self, task_name: &str, payload: Value) -> Vec<InputError>;
}

/// A schedule that was declared anew, ready to be written, without the edits that do not fit; and what to tell of those.
pub(super) async fn fitted(
    store: &dyn Store,
    schemas: &dyn Schemas,
    before: Option<&Read>,
    declared: Schedule,
    now: Time,
) -> Result<(Read, Option<NewAlert>)> {
    let (mut read, mut told) = kept_timing(store, before, declared, now).await?;
    let schedule = &mut read.schedule;
    if let Some(edits) = edits_of(schedule).filter(|edits| edits.contains_key("payload"))
        && let Err(error) = check_payload(schemas, schedule).await
    {
        let refusal = error.refusal()?;
        schedule.edits = without(edits, |member| member == "payload");
        told.push(("payload".to_owned(), format!("{}: {refusal}", refusal.pointer)));
    }
    let alert = (!told.is_empty()).then(|| tell(schedule, &told, now));
    Ok((read, alert))
}

/// Members that were dropped, and why.
type Dropped = Vec<(String, String)>;

async fn kept_timing(store: &dyn Store, before: Option<&Read>, declared: Schedule, now: Time) -> Result<(Read, Dropped)> {
    let mut refused = match timed(store, before, declared.clone(), Fires::Again, now).await {
        Err(ScheduleError::Refused(refusal)) if declared.edits.is_some() => refusal,
        other => return Ok((other?, Dropped::new())),
    };
    // Those of when it fires; or, should another version of this program have kept what this one does not take, all of them.
    let why = format!("{}: {refused}", refused.pointer);
    let edits = edits_of(&declared).unwrap_or_default();
    for goes in [is_timing, |_: &str| true] {
        let schedule = Schedule {
            edits: without(edits.clone(), goes),
            ..declared.clone()
        };
        match timed(store, before, schedule, Fires::Again, now).await {
            Err(ScheduleError::Refused(refusal)) => refused = refusal,
            other => {
                let gone = edits.keys().filter(|member| goes(member)).cloned().collect::<Vec<_>>();
                return Ok((other?, vec![(gone.join(", "), why)]));
            }
        }
    }
    Err(refused.into())
}

fn is_timing(member: &str) -> bool {
    !["payload", "priority", "tags", "misfire", "overlap"].contains(&member)
}

fn edits_of(schedule: &Schedule) -> Option<Members> {
    schedule::members(schedule.edits.as_deref()?).ok()
}

fn without(mut edits: Members, goes: fn(&str) -> bool) -> Option<String> {
    edits.retain(|member, _| !goes(member));
    Some(edits).filter(|edits| !edits.is_empty()).map(|edits| schedule::text(&edits))
}

fn tell(schedule: &Schedule, dropped: &Dropped, now: Time) -> NewAlert {
    let told: Vec<String> = dropped.iter().map(|(members, why)| format!("of {members} ({why})")).collect();
    let error = format!(
        "schedule {:?} was declared anew, and an operator's edit {} does not fit it any more; it was dropped: edit it again where it is still wanted",
        schedule.name,
        told.join(" and ")
    );
    schedule.alert(AlertType::Edit, error, now)
}

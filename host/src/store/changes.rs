//! Changes to schedules, for whoever registers or operates them.
//!
//! Each is read, worked out by the rules of the model and written against the revision that was read; where somebody wrote meanwhile, it
//! is done again. So a schedule keeps its pause, its cursor and its operator's edits whoever declares it again.

use super::edits::{Schemas, fitted};
use super::reading::{Read, Result, ScheduleError, aside, check_payload};
use crate::model::Time;
use crate::model::alert::{AlertType, NewAlert};
use crate::model::ids::ScheduleId;
use crate::model::patch::takes_back;
use crate::model::request::{CronTaskRequest, Refusal, ScheduleEdit};
use crate::model::schedule::rule::Rule;
use crate::model::schedule::{self, Schedule, Skip};
use crate::store::{PutSchedule, Store, StoreError};

/// How often a change is tried that others get ahead of.
const TRIES: usize = 20;

/// A change to be made of what a schedule is by then.
pub enum Change<'a> {
    /// Create it, or update the one of its name.
    Put {
        /// Its name.
        name: &'a str,
        /// What it is to be; the payload has been checked.
        request: &'a CronTaskRequest,
    },
    /// Change members for good, whatever it is declared with again; null takes a change back.
    Edit {
        /// Which.
        id: ScheduleId,
        /// A merge patch of them.
        patch: &'a ScheduleEdit,
    },
    /// Make no fire until it is resumed.
    Pause(ScheduleId),
    /// Fire again, from the next fire on; those that were left out are recorded.
    Resume(ScheduleId),
}

/// Makes a change to a schedule at `now`, again and again while others get ahead of it.
pub async fn change_schedule(store: &dyn Store, schemas: &dyn Schemas, change: &Change<'_>, now: Time) -> Result<Schedule> {
    for _ in 1..TRIES {
        match try_change(store, schemas, change, now).await {
            Err(ScheduleError::Store(StoreError::Conflict(_))) => {}
            done => return done,
        }
    }
    try_change(store, schemas, change, now).await
}

async fn try_change(store: &dyn Store, schemas: &dyn Schemas, change: &Change<'_>, now: Time) -> Result<Schedule> {
    let id = match change {
        Change::Put { name, request } => {
            let before = match store.schedule_named(name).await {
                Err(StoreError::NotFound) => None,
                found => Some(Read::of(found?).await?),
            };
            let declared = declare(before.as_ref().map(|before| &before.schedule), name, request, now);
            let (declared, alert) = fitted(store, schemas, before.as_ref(), declared, now).await?;
            return Ok(put(store, before.as_ref(), declared, None, alert).await?);
        }
        Change::Edit { id, .. } | Change::Pause(id) | Change::Resume(id) => *id,
    };
    let before = Read::of(store.schedule(id).await?).await?;
    let (edited, paused) = match change {
        Change::Edit { patch, .. } => (edit(store, schemas, &before, patch, now).await?, patch.paused),
        Change::Pause(_) => (before.clone(), Some(true)),
        Change::Resume(_) | Change::Put { .. } => (before.clone(), Some(false)),
    };
    let is_edit = matches!(change, Change::Edit { .. });
    match paused.filter(|paused| *paused != before.schedule.paused_at.is_some()) {
        None if !is_edit => Ok(before.schedule),
        None => Ok(put(store, Some(&before), edited, None, None).await?),
        Some(true) => {
            let paused_at = Some(now);
            let paused = edited.with(|edited| Schedule { paused_at, ..edited });
            Ok(put(store, Some(&before), paused, None, None).await?)
        }
        Some(false) => {
            // What it left out, it left out by the rule that it was paused with.
            let skip = before.rule(store).await?.paused(before.schedule.next_fire, now);
            let next_fire = edited.rule(store).await?.next_after(now);
            let resumed = edited.with(|edited| Schedule {
                paused_at: None,
                next_fire,
                planned_at: now,
                ..edited
            });
            Ok(put(store, Some(&before), resumed, skip, None).await?)
        }
    }
}

async fn edit(store: &dyn Store, schemas: &dyn Schemas, before: &Read, patch: &ScheduleEdit, now: Time) -> Result<Read> {
    let (edits, members) = (before.schedule.edits.clone(), patch.members.clone());
    let (edits, fires) = aside(move || {
        let edits = schedule::patched(edits.as_deref(), &members)?;
        let edits = Some(edits).filter(|edits| !edits.is_empty()).map(|edits| schedule::text(&edits));
        let fires = match takes_back(&schedule::text(&members)) {
            true => Fires::Maybe,
            false => Fires::Again,
        };
        Ok::<_, Refusal>((edits, fires))
    })
    .await??;
    let schedule = Schedule {
        edits,
        ..before.schedule.clone()
    };
    let edited = timed(store, Some(before), schedule, fires, now).await?;
    if patch.members.get("payload").is_some_and(|given| given.get() != "null") {
        check_payload(schemas, &edited.schedule).await?;
    }
    Ok(edited)
}

/// Whether a schedule has to have a fire left.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Fires {
    /// Unless it fires by the same members as before: its calendar or its end took the fires, and neither who declares it again nor who
    /// edits something else is to blame.
    Again,
    /// What was declared may be over, and the edits that are taken back all that it still fired by.
    Maybe,
}

/// A schedule whose members changed, with the cursor that follows from them.
pub(super) async fn timed(store: &dyn Store, before: Option<&Read>, schedule: Schedule, fires: Fires, now: Time) -> Result<Read> {
    let changed = Read::of(schedule).await?;
    let rule = changed.rule(store).await?;
    let (next_fire, planned_at) = cursor(before, &changed, &rule, now);
    let as_before = before.is_some_and(|before| before.timing == changed.timing);
    if next_fire.is_none() && !as_before && fires == Fires::Again {
        return Err(rule.never(now).refusal().into());
    }
    Ok(changed.with(|schedule| Schedule {
        next_fire,
        planned_at,
        ..schedule
    }))
}

async fn put(
    store: &dyn Store,
    before: Option<&Read>,
    changed: Read,
    skip: Option<Skip>,
    alert: Option<NewAlert>,
) -> std::result::Result<Schedule, StoreError> {
    let told = alert.as_ref().and_then(|alert| alert.error.clone());
    let put = PutSchedule {
        calendar: changed.calendar(),
        schedule: changed.schedule.clone(),
        seen: before.map(|before| before.schedule.revision),
        skips: skip.into_iter().collect(),
        alerts: alert.into_iter().collect(),
    };
    store.put_schedule(put).await?;
    if let Some(error) = told {
        tracing::warn!(schedule = changed.schedule.name, "{error}");
    }
    Ok(changed.schedule)
}

/// The schedule that a request asks for: a new one, or the one of that name with what is declared now.
fn declare(before: Option<&Schedule>, name: &str, request: &CronTaskRequest, now: Time) -> Schedule {
    let task_name = request.task_name.clone();
    let declared = schedule::text(&schedule::declared(request));
    match before {
        Some(before) => Schedule {
            task_name,
            declared,
            ..before.clone()
        },
        None => Schedule {
            id: ScheduleId::new(now),
            name: name.to_owned(),
            task_name,
            declared,
            edits: None,
            created_at: now,
            next_fire: None,
            planned_at: now,
            paused_at: None,
            last_fire: None,
            last_task: None,
            revision: 0,
        },
    }
}

/// The cursor and what it was worked out by, for a schedule that is to have this timing. A fire that is overdue and still allowed stays
/// due, so that registering again at every start skips none.
fn cursor(before: Option<&Read>, changed: &Read, rule: &Rule, now: Time) -> (Option<Time>, Time) {
    let fires = || rule.next_after(now);
    let Some((Read { schedule, timing: Ok(was) }, timing)) = before.zip(changed.timing.as_ref().ok()) else {
        return (fires(), now);
    };
    if !was.same_beat(timing) {
        return (fires(), now);
    }
    let allowed = |at: &Time| *at <= now && timing.start.is_none_or(|start| start <= *at) && timing.end.is_none_or(|end| *at <= end);
    (schedule.next_fire.filter(allowed).or_else(fires), schedule.planned_at.min(now))
}

/// Works out the cursor of a schedule anew, again and again while others get ahead of it: theirs may follow from what was before. A fire
/// that is due stays so, and whoever is about to make it has to look again.
pub async fn replan(store: &dyn Store, mut schedule: Schedule, now: Time) -> std::result::Result<(), StoreError> {
    for _ in 1..TRIES {
        match try_replan(store, &schedule, now).await {
            Err(StoreError::Conflict(_)) => {}
            done => return done,
        }
        schedule = match store.schedule(schedule.id).await {
            Err(StoreError::NotFound) => return Ok(()),
            found => found?,
        };
    }
    try_replan(store, &schedule, now).await
}

async fn try_replan(store: &dyn Store, schedule: &Schedule, now: Time) -> std::result::Result<(), StoreError> {
    let due = schedule.next_fire.filter(|next| *next <= now);
    let ended = |kind: AlertType, why: String| schedule.next_fire.map(|_| schedule.alert(kind, why, now));
    let read = Read::of(schedule.clone()).await?;
    let (next_fire, planned_at, alert) = match read.rule(store).await {
        _ if due.is_some() => (due, schedule.planned_at.min(now), None),
        Ok(rule) => {
            let next_fire = rule.next_after(now);
            let why = rule.ended(&schedule.name, next_fire, now);
            (next_fire, now, why.and_then(|why| ended(AlertType::Calendar, why)))
        }
        // It does not fire; its record says why.
        Err(error) => {
            let refusal = error.refusal()?;
            let why = format!("schedule {:?} does not fire any more: {refusal}", schedule.name);
            (None, now, ended(AlertType::Absent, why))
        }
    };
    let planned = read.clone().with(|schedule| Schedule {
        next_fire,
        planned_at,
        ..schedule
    });
    put(store, Some(&read), planned, None, alert).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::attempt::InputError;
    use crate::model::request::parse;
    use crate::store::sqlite::Sqlite;
    use std::sync::Arc;

    struct NoSchemas;

    #[async_trait::async_trait]
    impl Schemas for NoSchemas {
        async fn misfits(&self, _: &str, _: serde_json::Value) -> Vec<InputError> {
            Vec::new()
        }
    }

    fn at(text: &str) -> Time {
        text.parse().unwrap()
    }

    async fn put(store: &dyn Store, members: &str, now: &str) -> Schedule {
        let request = parse::<CronTaskRequest>(format!(r#"{{"task_name":"t",{members}}}"#).as_bytes()).unwrap();
        let change = Change::Put {
            name: "s",
            request: &request,
        };
        change_schedule(store, &NoSchemas, &change, at(now)).await.unwrap();
        store.schedule_named("s").await.unwrap()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn an_overdue_fire_survives_an_update_that_still_allows_it() {
        let folder = tempfile::tempdir().unwrap();
        let store = Sqlite::open(folder.path()).unwrap();
        let hourly = r#""cron_expression":"0 * * * *""#;
        let first = put(&store, hourly, "2026-01-01T09:30:00Z").await;
        let ten = Some(at("2026-01-01T10:00:00Z"));
        assert_eq!(first.next_fire, ten);
        // Nobody fired it; the service registers again, with another payload, priority and end.
        for members in [
            hourly.to_owned(),
            format!(r#"{hourly},"payload":{{"n":1}},"priority":1"#),
            format!(r#"{hourly},"end":"2026-02-01T00:00:00Z""#),
        ] {
            let again = put(&store, &members, "2026-01-01T12:30:00Z").await;
            assert_eq!(
                (again.id, again.next_fire, again.planned_at),
                (first.id, ten, first.planned_at),
                "{members}"
            );
        }
        let later = format!(r#"{hourly},"start":"2026-01-01T11:00:00Z""#);
        let not_allowed = put(&store, &later, "2026-01-01T12:30:00Z").await;
        assert_eq!(not_allowed.next_fire, Some(at("2026-01-01T13:00:00Z")));
        let ahead = put(&store, hourly, "2026-01-01T12:40:00Z").await;
        assert_eq!(ahead.next_fire, not_allowed.next_fire);
        let another = put(&store, r#""cron_expression":"30 * * * *""#, "2026-01-01T13:10:00Z").await;
        assert_eq!(
            (another.next_fire, another.planned_at),
            (Some(at("2026-01-01T13:30:00Z")), at("2026-01-01T13:10:00Z"))
        );
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_cursor_is_worked_out_anew_also_where_somebody_wrote_meanwhile() {
        let folder = tempfile::tempdir().unwrap();
        let store = Sqlite::open(folder.path()).unwrap();
        let seen = put(&store, r#""cron_expression":"0 * * * *""#, "2026-01-01T09:30:00Z").await;
        put(&store, r#""cron_expression":"0 * * * *","priority":1"#, "2026-01-01T09:30:00Z").await;
        // Set back by an hour: no fire is due.
        let now = at("2026-01-01T08:30:00Z");
        replan(&store, seen.clone(), now).await.unwrap();
        let anew = store.schedule(seen.id).await.unwrap();
        assert_eq!((anew.next_fire, anew.planned_at), (Some(at("2026-01-01T09:00:00Z")), now));
        // Due: it stays so, and whoever saw it before does not make it by what he knows.
        replan(&store, anew.clone(), at("2026-01-01T09:10:00Z")).await.unwrap();
        let due = store.schedule(seen.id).await.unwrap();
        assert_eq!(
            (due.next_fire, due.planned_at, due.revision),
            (anew.next_fire, anew.planned_at, anew.revision + 1)
        );
        store.remove_schedule(seen.id, now).await.unwrap();
        replan(&store, due, now).await.unwrap();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn many_who_change_one_schedule_at_once_all_have_their_way() {
        let folder = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> = Arc::new(Sqlite::open(folder.path()).unwrap());
        let id = put(&*store, r#""cron_expression":"@daily""#, "2026-01-01T00:00:00Z").await.id;
        let edits = [
            r#"{"priority":1}"#,
            r#"{"timezone":"Asia/Tokyo"}"#,
            r#"{"overlap":"skip"}"#,
            r#"{"tags":["x"]}"#,
        ];
        let edits: Vec<_> = edits
            .map(|patch| {
                let store = store.clone();
                tokio::spawn(async move {
                    let patch = parse::<ScheduleEdit>(patch.as_bytes()).unwrap();
                    let change = Change::Edit { id, patch: &patch };
                    change_schedule(&*store, &NoSchemas, &change, at("2026-01-01T00:00:00Z")).await
                })
            })
            .into();
        for edit in edits {
            edit.await.unwrap().unwrap();
        }
        let edited = store.schedule(id).await.unwrap();
        assert_eq!(schedule::members(edited.edits.as_deref().unwrap()).unwrap().len(), 4);
        assert_eq!(edited.revision, 5);
    }
}

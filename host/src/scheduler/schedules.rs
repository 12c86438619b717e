//! What is asked about schedules: create, edit, pause, run now, make up for, look ahead.
//!
//! Each change is read, worked out and written against the revision that was read; where somebody wrote meanwhile, it is done again.

use super::{Handle, plan};
use crate::model::Time;
use crate::model::calendar::Calendar;
use crate::model::ids::{ScheduleId, TaskId};
use crate::model::request::{BackfillRequest, CronTaskRequest, PreviewRequest, Refusal, RefusalKind};
use crate::model::schedule::overlap::Overlap;
use crate::model::schedule::rule::Rule;
use crate::model::schedule::timing::Timing;
use crate::model::schedule::{self, Members, Schedule, Skip};
use crate::model::task::{NewTask, Origin, Submission};
use crate::registry::snapshot::Snapshot;
use crate::store::{Made, MakeFires, PutSchedule, Store, StoreError};
use chrono::TimeDelta;
use std::collections::HashMap;
use std::sync::Arc;

/// How often a change is tried that others get ahead of.
const TRIES: usize = 20;
/// Fires that one request makes up for, at most.
const MOST_BACKFILLED: usize = 1_000;
/// Bytes of payloads that one request makes.
const MAX_BACKFILLED: usize = 64 << 20;
/// Fires that are shown ahead where nobody says how many.
const PREVIEWED: usize = 5;
/// A cursor that was worked out less than so far ahead of the clock is left: the clock is set by a little all the time.
const SLACK: TimeDelta = TimeDelta::seconds(1);
/// Schedules that are looked at together.
const PART: usize = 256;

/// Why something was not done with a schedule. Nothing of it was kept.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ScheduleError {
    /// What was asked for is wrong; says where.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The store refused or failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

type Result<T> = std::result::Result<T, ScheduleError>;

fn refuse<T>(pointer: &str, sentence: impl Into<String>) -> Result<T> {
    Err(Refusal::new(RefusalKind::Value, pointer, sentence).into())
}

/// Calendars that were looked up together: one has many schedules.
pub(super) type Calendars = HashMap<String, Option<Arc<Calendar>>>;

/// What holds of a schedule, and its rule.
pub(super) async fn read(store: &dyn Store, schedule: &Schedule, calendars: &mut Calendars) -> Result<(CronTaskRequest, Rule)> {
    let request = schedule.effective()?;
    let rule = rule(store, &Timing::of(&request), calendars).await?;
    Ok((request, rule))
}

async fn rule(store: &dyn Store, timing: &Timing, calendars: &mut Calendars) -> Result<Rule> {
    let Some(name) = &timing.calendar else {
        return Ok(timing.rule(None)?);
    };
    if let Some(calendar) = calendars.get(name) {
        return Ok(timing.rule(calendar.clone())?);
    }
    let calendar = match store.calendar(name).await {
        Ok(found) => Some(found.calendar),
        Err(StoreError::NotFound) => None,
        Err(error) => return Err(error.into()),
    };
    calendars.insert(name.clone(), calendar.clone());
    Ok(timing.rule(calendar)?)
}

/// The task of a fire at any time.
pub(super) async fn task_of(snapshot: &Snapshot, schedule: &Schedule, request: &CronTaskRequest, now: Time) -> NewTask {
    let submission = Submission {
        name: schedule.task_name.clone(),
        payload: request.payload.text.clone(),
        priority: request.priority,
        tags: request.tags.clone(),
        ..Submission::default()
    };
    plan::new_task(snapshot, submission, Origin::Schedule(schedule.id), now).await
}

/// The same for the fire at `at`. Its trigger time tells which fire it is, and not when somebody got round to it.
pub(super) fn copy_for(task: &NewTask, at: Time) -> NewTask {
    let id = TaskId::new(task.submitted_at);
    NewTask {
        id,
        idempotency_key: id,
        trigger_time: at,
        ..task.clone()
    }
}

/// The fires after `after`, so many at most. A rule with a calendar may walk over decades: not where it holds up others.
async fn fires_of(rule: Rule, after: Time, until: Option<Time>, most: usize) -> Result<Vec<Time>> {
    let walk = move || {
        let fires = std::iter::successors(rule.next_after(after), |fire| rule.next_after(*fire));
        fires
            .take_while(|fire| until.is_none_or(|until| *fire <= until))
            .take(most)
            .collect()
    };
    let walked = tokio::task::spawn_blocking(walk).await;
    Ok(walked.map_err(|error| StoreError::Unavailable(error.to_string()))?)
}

/// Works out the cursors anew that stand where the clock was set back from; whether all could be.
pub(super) async fn rewind(store: &dyn Store, now: Time) -> bool {
    loop {
        let ahead = match store.schedules_ahead(now + SLACK, PART).await {
            Ok(ahead) if ahead.is_empty() => return true,
            Ok(ahead) => ahead,
            Err(error) => {
                tracing::error!(%error, "schedules could not be looked through after the clock was set back; trying again");
                return false;
            }
        };
        tracing::warn!(schedules = ahead.len(), "the clock was set back; cursors are worked out anew");
        for schedule in ahead {
            if let Err(error) = replan(store, schedule, now).await {
                tracing::error!(%error, "a cursor could not be worked out anew; trying again");
                return false;
            }
        }
    }
}

fn calendar_of(schedule: &Schedule) -> Option<String> {
    schedule.effective().ok().and_then(|request| request.calendar)
}

async fn replan(store: &dyn Store, schedule: Schedule, now: Time) -> std::result::Result<(), StoreError> {
    let next_fire = match read(store, &schedule, &mut Calendars::new()).await {
        Ok((_, rule)) => rule.next_after(now),
        // It does not fire; its record says why.
        Err(ScheduleError::Refused(_)) => None,
        Err(ScheduleError::Store(error)) => return Err(error),
    };
    let put = PutSchedule {
        calendar: calendar_of(&schedule),
        seen: Some(schedule.revision),
        schedule: Schedule {
            next_fire,
            planned_at: now,
            ..schedule
        },
        skips: Vec::new(),
    };
    match store.put_schedule(put).await {
        Ok(()) | Err(StoreError::Conflict(_)) => Ok(()),
        Err(error) => Err(error),
    }
}

/// The cursor and what it was worked out by, for a schedule that is to have this timing. A fire that is overdue and still allowed stays
/// due, so that registering again at every start skips none.
fn cursor(before: Option<&Schedule>, timing: &Timing, rule: &Rule, now: Time) -> (Option<Time>, Time) {
    let before = before.filter(|before| before.effective().is_ok_and(|request| Timing::of(&request).same_beat(timing)));
    let allowed = |at: &Time| *at <= now && timing.start.is_none_or(|start| start <= *at) && timing.end.is_none_or(|end| *at <= end);
    let overdue = before.and_then(|before| before.next_fire).filter(allowed);
    let planned_at = before.map_or(now, |before| before.planned_at.min(now));
    (overdue.or_else(|| rule.next_after(now)), planned_at)
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

/// A change to be made of what a schedule is by then.
enum Change<'a> {
    Put { name: &'a str, request: &'a CronTaskRequest },
    Edit { id: ScheduleId, patch: &'a Members },
    Pause(ScheduleId),
    Resume(ScheduleId),
}

impl Handle {
    /// Creates a schedule, or updates the one of its name: its id, pause, cursor and operator's edits stay. The caller has checked the
    /// payload.
    pub async fn put_schedule(&self, name: &str, request: &CronTaskRequest) -> Result<ScheduleId> {
        Ok(self.change(Change::Put { name, request }).await?.id)
    }

    /// Changes members of a schedule for good, whatever it is declared with again; null takes a change back. The caller has checked the
    /// payload.
    pub async fn edit_schedule(&self, id: ScheduleId, patch: &Members) -> Result<Schedule> {
        self.change(Change::Edit { id, patch }).await
    }

    /// Pauses a schedule; one that is paused stays so.
    pub async fn pause_schedule(&self, id: ScheduleId) -> Result<Schedule> {
        self.change(Change::Pause(id)).await
    }

    /// Lets a paused schedule fire again, from its next fire on; those that it left out are recorded.
    pub async fn resume_schedule(&self, id: ScheduleId) -> Result<Schedule> {
        self.change(Change::Resume(id)).await
    }

    /// Makes a change, again and again while others get ahead of it.
    async fn change(&self, change: Change<'_>) -> Result<Schedule> {
        for _ in 1..TRIES {
            match self.try_change(&change).await {
                Err(ScheduleError::Store(StoreError::Conflict(_))) => {}
                done => return done,
            }
        }
        self.try_change(&change).await
    }

    async fn try_change(&self, change: &Change<'_>) -> Result<Schedule> {
        let now = self.0.clock.now();
        let before = match change {
            Change::Put { name, .. } => match self.0.store.schedule_named(name).await {
                Err(StoreError::NotFound) => None,
                found => Some(found?),
            },
            Change::Edit { id, .. } | Change::Pause(id) | Change::Resume(id) => Some(self.0.store.schedule(*id).await?),
        };
        match (change, before) {
            (Change::Put { name, request }, before) => {
                let schedule = declare(before.as_ref(), name, request, now);
                self.write(before.as_ref(), schedule, now).await
            }
            (Change::Edit { patch, .. }, Some(before)) => {
                let edits = schedule::patched(before.edits.as_deref(), (*patch).clone())?;
                let edits = Some(edits).filter(|edits| !edits.is_empty());
                let schedule = Schedule {
                    edits: edits.as_ref().map(schedule::text),
                    ..before.clone()
                };
                self.write(Some(&before), schedule, now).await
            }
            (Change::Pause(_), Some(before)) if before.paused_at.is_none() => {
                let paused_at = Some(now);
                self.put(
                    Some(&before),
                    Schedule {
                        paused_at,
                        ..before.clone()
                    },
                    None,
                )
                .await
            }
            (Change::Resume(_), Some(before)) if before.paused_at.is_some() => {
                let (_, rule) = read(&*self.0.store, &before, &mut Calendars::new()).await?;
                let schedule = Schedule {
                    paused_at: None,
                    next_fire: rule.next_after(now),
                    planned_at: now,
                    ..before.clone()
                };
                self.put(Some(&before), schedule, rule.paused(before.next_fire, now)).await
            }
            (_, before) => Ok(before.ok_or(StoreError::NotFound)?),
        }
    }

    /// Writes a schedule whose members changed, with the cursor that follows from them.
    async fn write(&self, before: Option<&Schedule>, schedule: Schedule, now: Time) -> Result<Schedule> {
        let timing = Timing::of(&schedule.effective()?);
        let rule = rule(&*self.0.store, &timing, &mut Calendars::new()).await?;
        let (next_fire, planned_at) = cursor(before, &timing, &rule, now);
        if next_fire.is_none() {
            return refuse(timing.pointer(), "never fires between start and end");
        }
        let schedule = Schedule {
            next_fire,
            planned_at,
            ..schedule
        };
        self.put(before, schedule, None).await
    }

    async fn put(&self, before: Option<&Schedule>, schedule: Schedule, skip: Option<Skip>) -> Result<Schedule> {
        let put = PutSchedule {
            schedule: schedule.clone(),
            calendar: calendar_of(&schedule),
            seen: before.map(|before| before.revision),
            skips: skip.into_iter().collect(),
        };
        self.0.store.put_schedule(put).await?;
        self.0.replan.notify_one();
        Ok(schedule)
    }

    /// Makes a fire now, beside the rule; its overlap rule holds. Returns the task.
    pub async fn run_schedule(&self, id: ScheduleId) -> Result<TaskId> {
        let schedule = self.0.store.schedule(id).await?;
        let request = schedule.effective()?;
        let now = self.0.clock.now();
        let task = task_of(&self.0.registry.snapshot(), &schedule, &request, now).await;
        let made = self.make(id, vec![(now, task)], request.overlap.unwrap_or_default(), now).await?;
        match made.first() {
            Some((_, Made::Task(task))) => Ok(*task),
            _ => Err(StoreError::Conflict(
                "tasks of earlier fires have not ended, and the schedule's overlap leaves this one out; wait for them, cancel them, or \
                 change its overlap"
                    .into(),
            )
            .into()),
        }
    }

    /// Makes the fires of a stretch of time that have not been made, and says what became of each.
    pub async fn backfill(&self, id: ScheduleId, asked: BackfillRequest) -> Result<Vec<(Time, Made)>> {
        let schedule = self.0.store.schedule(id).await?;
        let (request, rule) = read(&*self.0.store, &schedule, &mut Calendars::new()).await?;
        let now = self.0.clock.now();
        if asked.to > now {
            return refuse("/to", "must not be in the future: those fires are still to come");
        }
        if asked.from > asked.to {
            return refuse("/to", "must not be before from");
        }
        let fires = fires_of(rule, asked.from - TimeDelta::microseconds(1), Some(asked.to), MOST_BACKFILLED + 1).await?;
        if fires.len() > MOST_BACKFILLED {
            return refuse(
                "/to",
                format!("there are more than {MOST_BACKFILLED} fires until then; ask for a shorter stretch"),
            );
        }
        if fires.len() * request.payload.text.len() > MAX_BACKFILLED {
            return refuse(
                "/to",
                format!(
                    "{} tasks with this payload are too much at once; ask for a shorter stretch",
                    fires.len()
                ),
            );
        }
        let task = task_of(&self.0.registry.snapshot(), &schedule, &request, now).await;
        let fires = fires.into_iter().map(|at| (at, copy_for(&task, at))).collect();
        let overlap = request.overlap.unwrap_or_default().for_backfill();
        self.make(id, fires, overlap, now).await
    }

    async fn make(&self, id: ScheduleId, fires: Vec<(Time, NewTask)>, overlap: Overlap, now: Time) -> Result<Vec<(Time, Made)>> {
        let fired = self.0.store.make_fires(MakeFires { id, fires, overlap, now }).await?;
        fired.stopped.into_iter().for_each(|lease| self.0.worker.stop_cancelled(lease));
        self.0.wake.notify_one();
        Ok(fired.fires)
    }

    /// The next fires of a schedule that may not exist.
    pub async fn preview(&self, asked: PreviewRequest) -> Result<Vec<Time>> {
        let rule = rule(&*self.0.store, &Timing::of_preview(&asked), &mut Calendars::new()).await?;
        let after = asked.after.unwrap_or_else(|| self.0.clock.now());
        fires_of(rule, after, None, asked.count.unwrap_or(PREVIEWED)).await
    }

    /// Works out the cursors of all schedules of a calendar anew, after it was changed.
    pub async fn calendar_changed(&self, name: &str) -> std::result::Result<(), StoreError> {
        let mut after = None;
        loop {
            let part = self.0.store.schedules_of(name, after, PART).await?;
            let Some(last) = part.last() else { break };
            after = Some(last.id);
            for schedule in part {
                let now = self.0.clock.now();
                // What is due is for the plan, which goes by the new one from then on.
                if schedule.next_fire.is_none_or(|next| next > now) {
                    replan(&*self.0.store, schedule, now).await?;
                }
            }
        }
        self.0.replan.notify_one();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::sqlite::Sqlite;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_clock_that_was_set_back_takes_the_cursors_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let store = Sqlite::open(folder.path()).unwrap();
        let at = |text: &str| text.parse::<Time>().unwrap();
        let request = crate::model::request::parse::<CronTaskRequest>(br#"{"task_name":"t","cron_expression":"0 * * * *"}"#).unwrap();
        // Worked out while the clock was a year ahead.
        let schedule = Schedule {
            next_fire: Some(at("2027-01-01T11:00:00Z")),
            planned_at: at("2027-01-01T10:00:00Z"),
            ..declare(None, "s", &request, at("2026-01-01T09:30:00Z"))
        };
        let put = PutSchedule {
            schedule: schedule.clone(),
            calendar: None,
            seen: None,
            skips: vec![],
        };
        store.put_schedule(put).await.unwrap();
        assert!(rewind(&store, at("2027-01-01T09:59:59.5Z")).await);
        let left = store.schedule(schedule.id).await.unwrap();
        assert_eq!(left.next_fire, schedule.next_fire, "the clock is set by a little all the time");
        let now = at("2026-01-01T10:30:00Z");
        assert!(rewind(&store, now).await);
        let rewound = store.schedule(schedule.id).await.unwrap();
        assert_eq!((rewound.next_fire, rewound.planned_at), (Some(at("2026-01-01T11:00:00Z")), now));
    }
}

//! What is asked about schedules: create, edit, pause, run now, make up for, look ahead.
//!
//! Changes are made in [`crate::store::change_schedule`]; here the plan hears of them.

use super::{Handle, plan};
use crate::model::Time;
use crate::model::ids::{ScheduleId, TaskId};
use crate::model::request::{BackfillRequest, CronTaskRequest, PreviewRequest, Refusal, RefusalKind, ScheduleEdit};
use crate::model::schedule::Schedule;
use crate::model::schedule::overlap::Overlap;
use crate::model::schedule::rule::{Never, Rule};
use crate::model::schedule::timing::Timing;
use crate::model::task::{NewTask, Origin, Submission};
use crate::registry::snapshot::Snapshot;
use crate::store::{Calendars, Change, Made, MakeFires, ScheduleError, Store, StoreError};
use crate::store::{change_schedule, check_payload, read_schedule, read_terms, replan, rule_of};
use chrono::TimeDelta;

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

type Result<T> = std::result::Result<T, ScheduleError>;

fn refuse<T>(pointer: &str, sentence: impl Into<String>) -> Result<T> {
    Err(Refusal::new(RefusalKind::Value, pointer, sentence).into())
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

impl Handle {
    /// Creates a schedule, or updates the one of its name: its id, pause and cursor stay, and so do an operator's edits that still fit.
    /// The caller has checked the payload.
    pub async fn put_schedule(&self, name: &str, request: &CronTaskRequest) -> Result<ScheduleId> {
        Ok(self.change(Change::Put { name, request }).await?.id)
    }

    /// Changes members of a schedule for good, whatever it is declared with again; null takes a change back.
    pub async fn edit_schedule(&self, id: ScheduleId, patch: &ScheduleEdit) -> Result<Schedule> {
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

    async fn change(&self, change: Change<'_>) -> Result<Schedule> {
        let snapshot = self.0.registry.snapshot();
        let changed = change_schedule(&*self.0.store, &*snapshot, &change, self.0.clock.now()).await?;
        self.0.replan.notify_one();
        Ok(changed)
    }

    /// Makes a fire now, beside the rule; its overlap rule holds. Returns the task.
    pub async fn run_schedule(&self, id: ScheduleId) -> Result<TaskId> {
        let schedule = self.0.store.schedule(id).await?;
        let request = read_terms(&schedule).await?;
        // What is wrong with it is told to whoever asks for a fire: its task would fail before it began.
        check_payload(&*self.0.registry.snapshot(), &schedule).await?;
        let now = self.0.clock.now();
        let task = task_of(&self.0.registry.snapshot(), &schedule, &request, now).await;
        let made = self.make(id, vec![(now, task)], request.overlap.unwrap_or_default(), now).await?;
        match made.first() {
            Some((_, Made::Task(task) | Made::Before(task))) => Ok(*task),
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
        let (request, rule) = read_schedule(&*self.0.store, &schedule, &mut Calendars::new()).await?;
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
        check_payload(&*self.0.registry.snapshot(), &schedule).await?;
        let task = task_of(&self.0.registry.snapshot(), &schedule, &request, now).await;
        let fires = fires.into_iter().map(|at| (at, copy_for(&task, at))).collect();
        let overlap = request.overlap.unwrap_or_default().for_backfill();
        self.make(id, fires, overlap, now).await
    }

    async fn make(&self, id: ScheduleId, fires: Vec<(Time, NewTask)>, overlap: Overlap, now: Time) -> Result<Vec<(Time, Made)>> {
        let asked = MakeFires { id, fires, overlap, now };
        // Only what is left to be cancelled is asked for again: no fire goes by `cancel_previous` when several are made up for.
        loop {
            let fired = self.0.store.make_fires(asked.clone()).await?;
            fired.stopped.into_iter().for_each(|lease| self.0.worker.stop_cancelled(lease));
            self.0.wake.notify_one();
            if !fired.unfinished {
                return Ok(fired.fires);
            }
        }
    }

    /// The next fires of a schedule that may not exist.
    pub async fn preview(&self, asked: PreviewRequest) -> Result<Vec<Time>> {
        let rule = rule_of(&*self.0.store, &Timing::of(&asked), &mut Calendars::new()).await?;
        let after = asked.after.unwrap_or_else(|| self.0.clock.now());
        let fires = fires_of(rule.clone(), after, None, asked.count.unwrap_or(PREVIEWED)).await?;
        if fires.is_empty() {
            // Who names a time may name one that is after the last fire.
            let fired = tokio::task::spawn_blocking(move || {
                (asked.after.is_some() && rule.fired_until(after))
                    .then_some(())
                    .ok_or_else(|| rule.never(after))
            });
            let fired = fired.await.map_err(|error| StoreError::Unavailable(error.to_string()))?;
            fired.map_err(Never::refusal)?;
        }
        Ok(fires)
    }

    /// Works out the cursors of all schedules of a calendar anew, after it was changed.
    pub async fn calendar_changed(&self, name: &str) -> std::result::Result<(), StoreError> {
        let mut after = None;
        loop {
            let part = self.0.store.schedules_of(name, after, PART).await?;
            let Some(last) = part.last() else { break };
            after = Some(last.id);
            for schedule in part {
                replan(&*self.0.store, schedule, self.0.clock.now()).await?;
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
        let put = Change::Put {
            name: "s",
            request: &request,
        };
        let schedule = change_schedule(&store, &Snapshot::default(), &put, at("2027-01-01T10:00:00Z"))
            .await
            .unwrap();
        assert_eq!(schedule.next_fire, Some(at("2027-01-01T11:00:00Z")));
        assert!(rewind(&store, at("2027-01-01T09:59:59.5Z")).await);
        let left = store.schedule(schedule.id).await.unwrap();
        assert_eq!(left.next_fire, schedule.next_fire, "the clock is set by a little all the time");
        let now = at("2026-01-01T10:30:00Z");
        assert!(rewind(&store, now).await);
        let rewound = store.schedule(schedule.id).await.unwrap();
        assert_eq!((rewound.next_fire, rewound.planned_at), (Some(at("2026-01-01T11:00:00Z")), now));
    }
}

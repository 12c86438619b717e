//! What is due of a schedule, and in which parts it is written.

use super::schedules;
use crate::model::Time;
use crate::model::alert::AlertType;
use crate::model::request::{CronTaskRequest, Refusal};
use crate::model::schedule::misfire::{self, MOST_AT_ONCE};
use crate::model::schedule::overlap::Overlap;
use crate::model::schedule::rule::Rule;
use crate::model::schedule::{COUNTED, Fire, Schedule, Skip};
use crate::model::task::NewTask;
use crate::registry::snapshot::Snapshot;
use crate::store::{FireSchedule, PageRequest, Store, StoreError};
use std::sync::Arc;

/// Schedules whose fires are written together, at most: some milliseconds that all others wait for.
const PART: usize = 64;
/// Bytes of payloads that are written together, about, unless one task has more; what one schedule missed beyond them is made after it.
const PART_BYTES: usize = 8 << 20;

/// Whether fires were missed: to work out which may take long.
pub(super) fn is_late(schedule: &Schedule, now: Time) -> bool {
    schedule.next_fire.is_some_and(|cursor| now - cursor > misfire::ON_TIME)
}

/// What is due of one schedule.
pub(super) struct Planned {
    schedule: Schedule,
    request: CronTaskRequest,
    fire: FireSchedule,
    times: Vec<Time>,
}

/// Works it out: aside where that may take long.
pub(super) async fn work_out(
    store: &dyn Store,
    schedule: Schedule,
    request: CronTaskRequest,
    rule: Rule,
    now: Time,
) -> Result<Planned, StoreError> {
    if !is_late(&schedule, now) {
        return Ok(due_of(schedule, request, &rule, &[], now));
    }
    let made = made(store, &schedule).await?;
    let due = tokio::task::spawn_blocking(move || due_of(schedule, request, &rule, &made, now)).await;
    due.map_err(|error| StoreError::Unavailable(error.to_string()))
}

/// Fires from the cursor on that were made before the clock was set back.
async fn made(store: &dyn Store, schedule: &Schedule) -> Result<Vec<Time>, StoreError> {
    if schedule.last_fire < schedule.next_fire {
        return Ok(Vec::new());
    }
    let limit = usize::try_from(COUNTED).unwrap_or(usize::MAX);
    let page = store.fires(schedule.id, PageRequest { limit, cursor: None }).await?;
    let made = page.items.iter().filter(|fire| matches!(fire, Fire::Made { .. }));
    Ok(made.map(Fire::at).collect())
}

fn due_of(schedule: Schedule, request: CronTaskRequest, rule: &Rule, made: &[Time], now: Time) -> Planned {
    let mut fire = no_fire(&schedule, now);
    let mut times = Vec::new();
    if let Some(cursor) = schedule.next_fire {
        let at_once = (PART_BYTES / request.payload.text.len().max(1)).clamp(1, MOST_AT_ONCE);
        let due = misfire::due(rule, request.misfire.unwrap_or_default(), cursor, now, at_once);
        fire.overlap = request.overlap.unwrap_or_default();
        fire.next = due.next;
        fire.skips = rule.dropped(schedule.planned_at, now);
        if let Some(skip) = due.skipped.and_then(|skip| skip.without(made)) {
            let error = missed(&schedule.name, &skip);
            fire.alerts.push(schedule.alert(AlertType::Absent, error, now));
            fire.skips.push(skip);
        }
        if let Some((last, calendar)) = due.fires.last().and_then(|last| Some((last, rule.unconfirmed(*last)?))) {
            let error = format!(
                "schedule {:?} fires on {}, and nobody has confirmed calendar {calendar:?} for that day; put a newer one",
                schedule.name,
                last.date_naive()
            );
            fire.alerts.push(schedule.alert(AlertType::Calendar, error, now));
        }
        if let Some(why) = rule.ended(&schedule.name, fire.next, now) {
            fire.alerts.push(schedule.alert(AlertType::Calendar, why, now));
        }
        times = due.fires;
    }
    Planned {
        schedule,
        request,
        fire,
        times,
    }
}

fn no_fire(schedule: &Schedule, now: Time) -> FireSchedule {
    FireSchedule {
        id: schedule.id,
        seen: schedule.revision,
        fires: Vec::new(),
        skips: Vec::new(),
        overlap: Overlap::default(),
        next: None,
        now,
        alerts: Vec::new(),
    }
}

/// What is due of one that cannot be read any more: nothing, and somebody hears of it.
pub(super) fn unreadable(schedule: &Schedule, refusal: &Refusal, now: Time) -> Ready {
    tracing::error!(schedule = schedule.name, %refusal, "a schedule cannot be read any more; it does not fire until it is changed");
    let error = format!("schedule {:?} does not fire any more: {refusal}", schedule.name);
    let mut fire = no_fire(schedule, now);
    fire.alerts.push(schedule.alert(AlertType::Absent, error, now));
    Ready {
        fire,
        task: None,
        times: Vec::new(),
    }
}

impl Planned {
    /// Makes the task that all its fires get, and holds its payload against the schema.
    pub(super) async fn checked(self, snapshot: Arc<Snapshot>) -> Ready {
        let task = match self.times.is_empty() {
            true => None,
            false => Some(schedules::task_of(&snapshot, &self.schedule, &self.request, self.fire.now).await),
        };
        Ready {
            fire: self.fire,
            task,
            times: self.times,
        }
    }
}

/// Fires before each has a task: they may be many, and their payload large.
pub(super) struct Ready {
    pub(super) fire: FireSchedule,
    task: Option<NewTask>,
    times: Vec<Time>,
}

impl Ready {
    pub(super) fn bytes(&self) -> usize {
        self.task.as_ref().map_or(0, |task| task.payload.len()) * self.times.len()
    }

    pub(super) fn made(self) -> FireSchedule {
        let copies = |task: NewTask| self.times.iter().map(move |at| (*at, schedules::copy_for(&task, *at)));
        FireSchedule {
            fires: self.task.into_iter().flat_map(copies).collect(),
            ..self.fire
        }
    }
}

/// What is to be written together.
#[derive(Default)]
pub(super) struct Part {
    pub(super) ready: Vec<Ready>,
    bytes: usize,
}

impl Part {
    /// Adds one, and returns what has no room for it beside.
    pub(super) fn add(&mut self, ready: Ready) -> Vec<Ready> {
        let bytes = ready.bytes();
        let is_full = self.ready.len() == PART || self.bytes + bytes > PART_BYTES;
        let full = if is_full { std::mem::take(self).ready } else { Vec::new() };
        self.bytes += bytes;
        self.ready.push(ready);
        full
    }
}

fn missed(name: &str, skip: &Skip) -> String {
    let many = if skip.count == COUNTED { " or more" } else { "" };
    let (at, until) = (skip.at.to_rfc3339(), skip.until.to_rfc3339());
    format!(
        "schedule {name:?} missed {}{many} fires from {at} to {until}, which are not made up for",
        skip.count
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ids::ScheduleId;
    use crate::model::task::{Origin, Submission};

    fn schedule(cursor: &str) -> Schedule {
        let cursor: Time = cursor.parse().unwrap();
        Schedule {
            id: ScheduleId::new(cursor),
            name: "s".into(),
            task_name: "t".into(),
            declared: "{}".into(),
            edits: None,
            created_at: cursor,
            next_fire: Some(cursor),
            planned_at: cursor,
            paused_at: None,
            last_fire: None,
            last_task: None,
            revision: 1,
        }
    }

    fn ready(fires: usize, payload: usize) -> Ready {
        let now: Time = "2026-01-01T00:00:00Z".parse().unwrap();
        let schedule = schedule("2026-01-01T00:00:00Z");
        let submission = Submission {
            name: "t".into(),
            payload: "x".repeat(payload),
            ..Submission::default()
        };
        Ready {
            task: Some(NewTask::from_submission(submission, None, Origin::Schedule(schedule.id), now)),
            fire: no_fire(&schedule, now),
            times: vec![now; fires],
        }
    }

    fn parts(ready: impl Iterator<Item = Ready>) -> Vec<usize> {
        let mut part = Part::default();
        let mut parts: Vec<usize> = ready.map(|ready| part.add(ready).len()).filter(|many| *many > 0).collect();
        parts.push(part.ready.len());
        parts
    }

    #[test]
    fn what_is_written_together_is_bounded_in_number_and_bytes() {
        assert_eq!(parts((0..100).map(|_| ready(1, 10))), [64, 36]);
        assert_eq!(parts((0..5).map(|_| ready(2, 2 << 20))), [2, 2, 1]);
        let larger_than_a_part = [ready(1, 10), ready(1, PART_BYTES + 1), ready(1, 10)];
        assert_eq!(parts(larger_than_a_part.into_iter()), [1, 1, 1]);
        assert_eq!(ready(3, 10).made().fires.len(), 3);
    }

    #[test]
    fn of_what_one_schedule_missed_a_part_is_made_at_once() {
        let now: Time = "2026-01-01T12:00:00Z".parse().unwrap();
        let text = format!(
            r#"{{"task_name":"t","cron_expression":"* * * * *","misfire":"all","payload":{{"x":"{}"}}}}"#,
            "x".repeat(1 << 20)
        );
        let request = crate::model::request::parse::<CronTaskRequest>(text.as_bytes()).unwrap();
        let rule = crate::model::schedule::timing::Timing::of(&request).rule(None).unwrap();
        let planned = due_of(schedule("2026-01-01T11:00:00Z"), request, &rule, &[], now);
        assert_eq!(planned.times.len(), 7);
        assert_eq!(
            planned.fire.next,
            Some("2026-01-01T11:07:00Z".parse().unwrap()),
            "the rest is due still"
        );
    }
}

//! A schedule: a cron rule that creates tasks.

use crate::model::Time;
use crate::model::cron::Cron;
use crate::model::ids::{ScheduleId, TaskId};
use crate::model::priority::Priority;
use crate::model::zone::{Dst, Zone};

/// A fire that was missed is still made up for within the longer of this and one period.
const MISFIRE_WINDOW: chrono::TimeDelta = chrono::TimeDelta::hours(24);

/// A schedule as it is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    /// Its id, which survives updates.
    pub id: ScheduleId,
    /// Unique; creating again under it updates.
    pub name: String,
    /// Which task it creates.
    pub task_name: String,
    /// As the user wrote it.
    pub cron_expression: String,
    /// JSON text of an object.
    pub payload: String,
    /// `None`: the definition's.
    pub priority: Option<Priority>,
    /// United with the definition's.
    pub tags: Vec<String>,
    /// No fire before this.
    pub start: Option<Time>,
    /// No fire after this.
    pub end: Option<Time>,
    /// When it was first created.
    pub created_at: Time,
    /// The next fire; `None` once it has none left.
    pub next_fire: Option<Time>,
    /// The last fire that made a task.
    pub last_fire: Option<Time>,
    /// The task of the last fire.
    pub last_task: Option<TaskId>,
}

impl Schedule {
    /// The first fire strictly after `after` that the schedule's start and end allow.
    pub fn fire_after(&self, cron: &Cron, after: Time) -> Option<Time> {
        let from = match self.start {
            Some(start) if start > after => start - chrono::TimeDelta::nanoseconds(1),
            _ => after,
        };
        Zone::UTC
            .next_after(from, Dst::AS_IT_PASSES, |local| cron.next_local(local))
            .filter(|fire| self.end.is_none_or(|end| *fire <= end))
    }
}

/// What to do at `now` with a schedule whose cursor stands at `due`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DueFire {
    /// The fire to make, if it is not too old.
    pub fire: Option<Time>,
    /// Where the cursor goes.
    pub next: Option<Time>,
}

/// Misfire policy `latest`: of the fires that were missed up to `now` only the last is made, and only within the longer of
/// 24 hours and one period of its time.
pub fn due_fire(schedule: &Schedule, cron: &Cron, due: Time, now: Time) -> DueFire {
    let next = schedule.fire_after(cron, now);
    let latest = match schedule.fire_after(cron, due) {
        Some(second) if second <= now => last_before(schedule, cron, second, now),
        _ => due,
    };
    let period = next.map_or(MISFIRE_WINDOW, |next| next - latest);
    let fire = (now - latest <= MISFIRE_WINDOW.max(period)).then_some(latest);
    DueFire { fire, next }
}

/// The last fire in `[from, now]`, where `from` is one: by halves, so that a second-by-second schedule that slept for a year costs
/// some dozens of looks instead of thirty million.
fn last_before(schedule: &Schedule, cron: &Cron, from: Time, now: Time) -> Time {
    let (mut last, mut end) = (from, now);
    // No fire is after `end`, and fires are whole seconds.
    while end - last >= chrono::TimeDelta::seconds(1) {
        let middle = last + (end - last) / 2;
        match schedule.fire_after(cron, middle).filter(|fire| *fire <= now) {
            Some(fire) => last = fire,
            None => end = middle,
        }
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Time {
        text.parse().unwrap()
    }

    fn schedule(expression: &str) -> (Schedule, Cron) {
        let created_at = at("2026-01-01T00:00:00Z");
        let schedule = Schedule {
            id: ScheduleId::new(created_at),
            name: "s".into(),
            task_name: "t".into(),
            cron_expression: expression.into(),
            payload: "{}".into(),
            priority: None,
            tags: vec![],
            start: None,
            end: None,
            created_at,
            next_fire: None,
            last_fire: None,
            last_task: None,
        };
        (schedule, Cron::parse(expression).unwrap())
    }

    #[test]
    fn a_fire_on_time_is_made_and_the_cursor_moves_on() {
        let (s, cron) = schedule("*/5 * * * *");
        let due = at("2026-01-01T00:05:00Z");
        let expected = DueFire {
            fire: Some(due),
            next: Some(at("2026-01-01T00:10:00Z")),
        };
        assert_eq!(due_fire(&s, &cron, due, at("2026-01-01T00:05:00.020Z")), expected);
    }

    #[test]
    fn after_a_pause_only_the_latest_fire_is_made_up_for() {
        let (s, cron) = schedule("* * * * * *");
        let now = at("2027-01-01T00:00:00.5Z");
        let found = due_fire(&s, &cron, at("2026-01-01T00:00:00Z"), now);
        assert_eq!(
            found,
            DueFire {
                fire: Some(at("2027-01-01T00:00:00Z")),
                next: Some(at("2027-01-01T00:00:01Z"))
            }
        );
    }

    #[test]
    fn the_last_fire_is_found_whatever_lies_between() {
        let (s, cron) = schedule("* * * 1 1 *");
        let last = at("2026-01-01T23:59:59Z");
        for now in ["2026-01-01T23:59:59Z", "2026-01-02T00:00:00Z", "2026-12-31T23:59:59.999Z"] {
            assert_eq!(last_before(&s, &cron, at("2026-01-01T00:00:00Z"), at(now)), last, "{now}");
        }
        assert_eq!(last_before(&s, &cron, last, last), last);
    }

    #[test]
    fn a_rare_fire_is_made_up_for_within_its_period_and_no_later() {
        let (s, cron) = schedule("0 0 1 * *");
        let due = at("2026-02-01T00:00:00Z");
        assert_eq!(due_fire(&s, &cron, due, at("2026-02-20T00:00:00Z")).fire, Some(due));
        let (mut s, cron) = schedule("0 0 * * *");
        s.end = Some(at("2026-02-01T00:00:00Z"));
        assert_eq!(
            due_fire(&s, &cron, due, at("2026-02-03T00:00:00Z")),
            DueFire { fire: None, next: None }
        );
    }

    #[test]
    fn start_and_end_bound_the_fires() {
        let (mut s, cron) = schedule("0 * * * *");
        s.start = Some(at("2026-01-02T00:00:00Z"));
        s.end = Some(at("2026-01-02T01:00:00Z"));
        assert_eq!(s.fire_after(&cron, at("2026-01-01T00:00:00Z")), s.start);
        assert_eq!(s.fire_after(&cron, at("2026-01-02T01:00:00Z")), None);
    }
}

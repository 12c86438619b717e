//! Looks whether schedules fire: one that stays overdue, whatever keeps it, is told as absent.

use super::Context;
use crate::model::Time;
use crate::model::alert::AlertType;
use crate::model::ids::ScheduleId;
use crate::store::Store;
use chrono::TimeDelta;
use std::collections::HashMap;
use std::time::Duration;
use tokio::sync::watch;

/// A cursor that is so late is overdue.
const OVERDUE: TimeDelta = TimeDelta::seconds(60);
/// Between two looks. Overdue at both is overdue: after a sleep or a jump of the clock, all are for a moment.
const EVERY: Duration = Duration::from_secs(15);
/// Schedules that one look tells of, at most.
const MOST: usize = 100;

/// The cursors of those that were overdue at a look, and whether that was told.
type Seen = HashMap<ScheduleId, (Time, bool)>;

pub(super) async fn run(context: &Context, mut stop: watch::Receiver<bool>) {
    let mut seen = Seen::new();
    loop {
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            () = tokio::time::sleep(EVERY) => {}
        }
        seen = look(&*context.store, context.clock.now(), seen).await;
    }
}

/// Tells of those that were overdue at the look before too, once; returns those that are, and whether they were told.
async fn look(store: &dyn Store, now: Time, before: Seen) -> Seen {
    let overdue = match store.due_schedules(now - OVERDUE, MOST).await {
        Ok((overdue, _)) => overdue,
        Err(error) => {
            tracing::error!(%error, "overdue schedules could not be read");
            return before;
        }
    };
    let mut seen = Seen::new();
    for schedule in overdue {
        let Some(cursor) = schedule.next_fire else { continue };
        let told = before.get(&schedule.id).filter(|(at, _)| *at == cursor).map(|(_, told)| *told);
        if told == Some(false) {
            let error = format!(
                "schedule {:?} should have fired at {} and has not",
                schedule.name,
                cursor.to_rfc3339()
            );
            tracing::error!(schedule = schedule.name, %cursor, "a schedule is overdue");
            if let Err(error) = store.raise(schedule.alert(AlertType::Absent, error, now)).await {
                tracing::error!(schedule = schedule.name, %error, "an alert could not be kept");
                continue;
            }
        }
        seen.insert(schedule.id, (cursor, told.is_some()));
    }
    seen
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::schedule::Schedule;
    use crate::store::sqlite::Sqlite;
    use crate::store::{AlertFilter, PageRequest, PutSchedule};

    #[tokio::test(flavor = "multi_thread")]
    async fn a_schedule_that_stays_overdue_is_told_once() {
        let folder = tempfile::tempdir().unwrap();
        let store = Sqlite::open(folder.path()).unwrap();
        let due: Time = "2026-01-01T00:00:00Z".parse().unwrap();
        let schedule = Schedule {
            id: ScheduleId::new(due),
            name: "s".into(),
            task_name: "t".into(),
            declared: "{}".into(),
            edits: None,
            created_at: due,
            next_fire: Some(due),
            planned_at: due,
            paused_at: None,
            last_fire: None,
            last_task: None,
            revision: 0,
        };
        let put = PutSchedule {
            schedule,
            calendar: None,
            seen: None,
            skips: vec![],
            alerts: vec![],
        };
        store.put_schedule(put).await.unwrap();
        let mut seen = Seen::new();
        let mut counts = Vec::new();
        for seconds in [30, 70, 85, 100, 115] {
            seen = look(&store, due + TimeDelta::seconds(seconds), seen).await;
            let page = PageRequest { limit: 10, cursor: None };
            let alerts = store.alerts(AlertFilter::default(), page).await.unwrap().items;
            counts.push(alerts.iter().map(|alert| alert.count).sum::<u64>());
        }
        assert_eq!(counts, [0, 0, 1, 1, 1]);
    }
}

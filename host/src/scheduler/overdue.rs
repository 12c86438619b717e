//! Looks whether schedules fire: one that stays overdue, whatever keeps it, is told as absent.

use super::{Context, plan};
use crate::model::Time;
use crate::model::alert::AlertType;
use crate::model::ids::ScheduleId;
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

pub(super) async fn run(context: &Context, mut stop: watch::Receiver<bool>) {
    let mut seen = HashMap::new();
    loop {
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            () = tokio::time::sleep(EVERY) => {}
        }
        seen = look(context, seen).await;
    }
}

/// Tells of those that were overdue at the look before too, once; returns those that are, and whether they were told.
async fn look(context: &Context, before: HashMap<ScheduleId, (Time, bool)>) -> HashMap<ScheduleId, (Time, bool)> {
    let now = context.clock.now();
    let overdue = match context.store.due_schedules(now - OVERDUE, MOST).await {
        Ok((overdue, _)) => overdue,
        Err(error) => {
            tracing::error!(%error, "overdue schedules could not be read");
            return before;
        }
    };
    let mut seen = HashMap::new();
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
            if let Err(error) = context.store.raise(plan::alert(AlertType::Absent, &schedule, error, now)).await {
                tracing::error!(schedule = schedule.name, %error, "an alert could not be kept");
                continue;
            }
        }
        seen.insert(schedule.id, (cursor, told.is_some()));
    }
    seen
}

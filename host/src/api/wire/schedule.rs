//! Schedules and their fires, as clients see them.

use super::task::ScheduledTask;
use crate::model::priority::Priority;
use crate::model::schedule::misfire::Misfire;
use crate::model::schedule::overlap::Overlap;
use crate::model::schedule::timing::{OnClosed, SessionRule};
use crate::model::schedule::{Fire, Schedule};
use crate::model::zone::{Fold, Gap, Zone};
use crate::store::Made;
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

/// A schedule: a rule about time that creates tasks.
#[derive(Debug, Serialize, ToSchema)]
pub struct ScheduleRecord {
    /// The same as `schedule_id`: what the creation answered.
    pub task_id: String,
    /// Its id, which survives updates.
    pub schedule_id: String,
    /// Unique; creating again under it updates.
    pub name: String,
    /// The definition's name.
    pub task_name: String,
    /// `scheduled`, `paused`, or `ended` once it has no fire left.
    #[schema(example = "scheduled")]
    pub status: &'static str,
    /// As it was written; null of one that follows sessions.
    pub cron_expression: Option<String>,
    /// Of one that follows the sessions of its calendar.
    pub session: Option<SessionRule>,
    /// Of the expression.
    #[schema(example = "UTC")]
    pub timezone: Option<&'static str>,
    /// By name.
    pub calendar: Option<String>,
    /// `skip`, `next` or `previous`; null without a calendar.
    #[schema(value_type = Option<String>)]
    pub on_closed: Option<OnClosed>,
    /// `run_after` or `skip`.
    #[schema(value_type = Option<String>)]
    pub dst_gap: Option<Gap>,
    /// `first`, `last` or `both`.
    #[schema(value_type = Option<String>)]
    pub dst_overlap: Option<Fold>,
    /// `latest`, `all` or `none`.
    #[schema(value_type = Option<String>)]
    pub misfire: Option<Misfire>,
    /// `queue_one`, `skip`, `queue_all`, `cancel_previous` or `allow`.
    #[schema(value_type = Option<String>)]
    pub overlap: Option<Overlap>,
    /// Input of each task.
    #[schema(value_type = Object)]
    pub payload: Option<Box<RawValue>>,
    /// Null: the definition's.
    pub priority: Option<u8>,
    /// United with the definition's.
    pub tags: Vec<String>,
    /// No fire before this.
    pub start: Option<DateTime<Utc>>,
    /// No fire after this.
    pub end: Option<DateTime<Utc>>,
    /// The members that an operator changed; they stay when it is declared again, as far as they fit.
    #[schema(value_type = Option<Object>)]
    pub edits: Option<Box<RawValue>>,
    /// Why it does not fire, where what is kept of it cannot be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// When it was first created.
    pub created_at: DateTime<Utc>,
    /// Since when it is paused.
    pub paused_at: Option<DateTime<Utc>>,
    /// The next fire; null while it is paused and once it has none left.
    pub next_fire: Option<DateTime<Utc>>,
    /// The latest fire that made a task.
    pub last_fire: Option<DateTime<Utc>>,
    /// The task of the latest fire.
    pub last_task_id: Option<String>,
    /// Its last fires, made and skipped, latest first; only where one schedule is shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fires: Option<Vec<FireRecord>>,
}

/// What of a schedule may be changed: its members, each of which null gives back. For the description alone: the change itself is read
/// member by member.
#[derive(Debug, ToSchema)]
#[schema(as = ScheduleEdit)]
pub struct ScheduleEditBody {
    /// Five fields, six with leading seconds, or `@daily` and its kin.
    #[schema(example = "30 17 * * 1-5")]
    pub cron_expression: Option<String>,
    /// A fire for each session of the calendar instead of an expression.
    pub session: Option<SessionRule>,
    /// The IANA time zone of the expression.
    #[schema(example = "Europe/London")]
    pub timezone: Option<String>,
    /// The name of a calendar.
    #[schema(example = "XNYS")]
    pub calendar: Option<String>,
    /// Where the calendar has no session that day.
    pub on_closed: Option<String>,
    /// Where the clocks go forward over a fixed hour.
    pub dst_gap: Option<String>,
    /// Where a fixed hour comes twice.
    pub dst_overlap: Option<String>,
    /// Of fires that were missed.
    pub misfire: Option<String>,
    /// While an earlier fire's task has not ended.
    pub overlap: Option<String>,
    /// Members of the input of each task, at every level, over those that were declared.
    #[schema(value_type = Option<Object>)]
    pub payload: Option<Box<RawValue>>,
    /// 1 (most urgent) to 9.
    #[schema(minimum = 1, maximum = 9)]
    pub priority: Option<u8>,
    /// In place of those that were declared.
    #[schema(max_items = 32)]
    pub tags: Option<Vec<String>>,
    /// No fire before this.
    pub start: Option<DateTime<Utc>>,
    /// No fire after this.
    pub end: Option<DateTime<Utc>>,
    /// Whether it is paused, as `/pause` and `/resume` say it too.
    pub paused: Option<bool>,
}

impl From<Schedule> for ScheduleRecord {
    fn from(schedule: Schedule) -> Self {
        let paused = schedule.paused_at.is_some();
        let (request, error) = match schedule.terms() {
            Ok(request) => (Some(request), None),
            Err(refusal) => (None, Some(format!("{}: {refusal}", refusal.pointer))),
        };
        let by_cron = request.as_ref().filter(|request| request.cron_expression.is_some());
        let gated = by_cron.filter(|request| request.calendar.is_some());
        let of = request.as_ref();
        Self {
            task_id: schedule.id.to_string(),
            schedule_id: schedule.id.to_string(),
            name: schedule.name,
            task_name: schedule.task_name,
            status: match schedule.next_fire {
                _ if paused => "paused",
                Some(_) => "scheduled",
                None => "ended",
            },
            session: of.and_then(|request| request.session),
            timezone: by_cron.map(|request| request.timezone.unwrap_or_default()).map(Zone::name),
            on_closed: gated.map(|request| request.on_closed.unwrap_or_default()),
            dst_gap: by_cron.map(|request| request.dst_gap.unwrap_or_default()),
            dst_overlap: by_cron.map(|request| request.dst_overlap.unwrap_or_default()),
            misfire: of.map(|request| request.misfire.unwrap_or_default()),
            overlap: of.map(|request| request.overlap.unwrap_or_default()),
            priority: of.and_then(|request| request.priority).map(Priority::get),
            start: of.and_then(|request| request.start),
            end: of.and_then(|request| request.end),
            calendar: of.and_then(|request| request.calendar.clone()),
            cron_expression: of.and_then(|request| request.cron_expression.clone()),
            tags: of.map(|request| request.tags.clone()).unwrap_or_default(),
            payload: request.and_then(|request| RawValue::from_string(request.payload.text).ok()),
            edits: schedule.edits.and_then(|edits| RawValue::from_string(edits).ok()),
            error,
            created_at: schedule.created_at,
            paused_at: schedule.paused_at,
            next_fire: schedule.next_fire.filter(|_| !paused),
            last_fire: schedule.last_fire,
            last_task_id: schedule.last_task.map(|id| id.to_string()),
            fires: None,
        }
    }
}

impl ScheduledTask {
    /// The next fire of a schedule, where it has one.
    pub(crate) fn of_schedule(schedule: Schedule) -> Option<Self> {
        let request = schedule.terms().ok();
        let (priority, tags, cron_expression) = request.map_or((None, Vec::new(), None), |request| {
            (request.priority.map(Priority::get), request.tags, request.cron_expression)
        });
        Some(Self {
            task_id: schedule.id.to_string(),
            task_name: schedule.task_name,
            trigger_time: schedule.next_fire?,
            priority,
            kind: "schedule",
            status: "scheduled",
            phase: None,
            held: None,
            tags,
            retry_count: None,
            schedule_name: Some(schedule.name),
            cron_expression,
        })
    }
}

/// What a schedule did at one of its times: it made a task, or it says why not.
#[derive(Debug, Serialize, ToSchema)]
pub struct FireRecord {
    /// Which fire; the first of those that were skipped in a row.
    pub at: DateTime<Utc>,
    /// The task that it made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task_id: Option<String>,
    /// Why it made none: `misfire overlap paused closed dst_gap`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "overlap")]
    pub skipped: Option<&'static str>,
    /// The last of those that were skipped in a row.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<DateTime<Utc>>,
    /// How many were skipped in a row; 1000 stands for that many or more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
}

impl From<Fire> for FireRecord {
    fn from(fire: Fire) -> Self {
        match fire {
            Fire::Made { at, task } => Self {
                at,
                task_id: Some(task.to_string()),
                skipped: None,
                until: None,
                count: None,
            },
            Fire::Skipped(skip) => Self {
                at: skip.at,
                task_id: None,
                skipped: Some(skip.reason.as_str()),
                until: Some(skip.until),
                count: Some(skip.count),
            },
        }
    }
}

/// The next fires of a schedule that may not exist.
#[derive(Debug, Serialize, ToSchema)]
pub struct Previewed {
    /// Earliest first; fewer than were asked for where there are no more.
    pub fires: Vec<DateTime<Utc>>,
}

/// What became of each fire of a stretch of time.
#[derive(Debug, Serialize, ToSchema)]
pub struct Backfilled {
    /// How many tasks were made.
    pub created: usize,
    /// Earliest first.
    pub fires: Vec<BackfilledFire>,
}

/// One of them.
#[derive(Debug, Serialize, ToSchema)]
pub struct BackfilledFire {
    /// Which fire.
    pub at: DateTime<Utc>,
    /// `created`, `existed` where it had been made before, or `overlap` where too many of the schedule's tasks have not ended.
    #[schema(example = "created")]
    pub status: &'static str,
    /// The task that it made, now or before.
    pub task_id: Option<String>,
}

impl From<Vec<(DateTime<Utc>, Made)>> for Backfilled {
    fn from(fires: Vec<(DateTime<Utc>, Made)>) -> Self {
        let fires: Vec<BackfilledFire> = fires
            .into_iter()
            .map(|(at, made)| {
                let (status, task_id) = match made {
                    Made::Task(task) => ("created", Some(task.to_string())),
                    Made::Before(task) => ("existed", Some(task.to_string())),
                    Made::LeftOut => ("overlap", None),
                };
                BackfilledFire { at, status, task_id }
            })
            .collect();
        let created = fires.iter().filter(|fire| fire.status == "created").count();
        Self { created, fires }
    }
}

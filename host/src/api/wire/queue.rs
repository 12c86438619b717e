//! The queue, its limits, and why a task waits, as clients see them.

use crate::model::limit::Limit;
use chrono::{DateTime, Utc};
use serde::Serialize;
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// What waits and runs on this host. Each number of waiting tasks is counted up to 10,000.
#[derive(Debug, Serialize, ToSchema)]
pub struct QueueRecord {
    /// Whether nothing is started.
    pub paused: bool,
    /// Since when.
    pub paused_at: Option<DateTime<Utc>>,
    /// Task names of which nothing is started, and since when.
    pub paused_tasks: BTreeMap<String, DateTime<Utc>>,
    /// Attempts that this host runs at once.
    pub slots: usize,
    /// How many of them are free.
    pub slots_free: usize,
    /// How many of them only priorities 1 and 2 may have.
    pub slots_kept: usize,
    /// Bytes of memory that running attempts may be promised together (`worker.memory_budget`).
    pub memory_budget: u64,
    /// Bytes that those that run are promised: each the cap of its task.
    pub memory_reserved: u64,
    /// Processors that attempts may burn on.
    pub processors: usize,
    /// Attempts that burn on one.
    pub burning: usize,
    /// Attempts that have begun and wait for a processor; their timeouts do not run.
    pub standing_aside: usize,
    /// Of the due tasks, those that are not begun before a processor is free, up to 10,000.
    pub waits_for_processor: u64,
    /// Attempts that run.
    pub running: u64,
    /// Due tasks that only wait for a slot.
    pub due: u64,
    /// The same, by priority from 1 to 9.
    pub due_by_priority: BTreeMap<u8, u64>,
    /// Due tasks that something holds: a missing handler, a pause, a limit, an earlier step or fire.
    pub held: u64,
    /// Tasks whose time has not come.
    pub scheduled: u64,
    /// The held ones by what holds them, in the words of `GET /task/{task_id}/why`.
    #[schema(example = json!({"limit": 12, "paused": 3}))]
    pub held_by: BTreeMap<&'static str, u64>,
    /// How many of each task name the first 10,000 due tasks are; the 100 most frequent names.
    pub due_by_task: BTreeMap<String, u64>,
    /// Since when the longest due has been, of those that only wait for a slot.
    pub oldest_due_at: Option<DateTime<Utc>>,
    /// Since when the longest due has been, of those that something holds.
    pub oldest_held_at: Option<DateTime<Utc>>,
    /// For how many seconds the longest due has waited, held or not.
    pub oldest_wait: Option<f64>,
    /// Tasks a second that came in, over the last minute of this host, from wherever.
    pub arrival_rate: f64,
    /// Tasks a second that ended, over the last minute of this host, however.
    pub drain_rate: f64,
}

/// What was paused or resumed.
#[derive(Debug, Serialize, ToSchema)]
pub struct Paused {
    /// `paused` or `running`: whether tasks of this name start, which they do not while the whole queue is paused.
    #[schema(example = "paused")]
    pub status: &'static str,
    /// The task name; null: the whole queue.
    pub task_name: Option<String>,
    /// Whether it was otherwise before; false of a name that nobody had paused.
    pub changed: bool,
}

/// A limit.
#[derive(Debug, Serialize, ToSchema)]
pub struct LimitRecord {
    /// Its name.
    pub name: String,
    /// Which tasks.
    #[serde(rename = "match")]
    pub matches: MatchRecord,
    /// The limit holds for each value of this member of the payload.
    pub key: Option<String>,
    /// Attempts that may run at once.
    pub max_running: Option<u32>,
    /// Attempts that may start in a time.
    pub rate: Option<RateRecord>,
    /// How many starts their fairness keys have for each of another key; null: 1.
    pub weight: Option<u32>,
}

/// Which tasks a limit concerns.
#[derive(Debug, Serialize, ToSchema)]
pub struct MatchRecord {
    /// Of this name.
    pub task_name: Option<String>,
    /// With this tag.
    pub tag: Option<String>,
}

/// At most so many in a time.
#[derive(Debug, Serialize, ToSchema)]
pub struct RateRecord {
    /// Starts.
    pub count: u32,
    /// In so many seconds.
    pub per: f64,
}

impl From<Limit> for LimitRecord {
    fn from(limit: Limit) -> Self {
        Self {
            name: limit.name,
            matches: MatchRecord {
                task_name: limit.task_name,
                tag: limit.tag,
            },
            key: limit.key,
            max_running: limit.max_running,
            rate: limit.rate.map(|rate| RateRecord {
                count: rate.count,
                per: rate.per.as_secs_f64(),
            }),
            weight: limit.weight,
        }
    }
}

/// Why a task does not run.
#[derive(Debug, Serialize, ToSchema)]
pub struct WhyRecord {
    /// Which.
    pub task_id: String,
    /// `pending running success failed cancelled`.
    #[schema(example = "pending")]
    pub status: &'static str,
    /// All that stands in its way, what has to give way first at first; empty where it runs or has ended.
    pub reasons: Vec<Reason>,
}

/// One thing that stands in a task's way.
#[derive(Debug, PartialEq, Serialize, ToSchema)]
pub struct Reason {
    /// `paused handler_missing due_later blocked_by previous_fire limit no_processor no_slot starting`.
    #[schema(example = "no_slot")]
    pub reason: &'static str,
    /// One sentence.
    pub detail: String,
    /// Of `due_later`: when. Of the `limit` of a rate: when the next of those that it holds may start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<DateTime<Utc>>,
    /// Of `blocked_by`: the steps that have not ended.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<String>,
    /// Of `no_processor` of a running attempt: for how many seconds it has waited in all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waited: Option<f64>,
    /// Of `no_slot` and `no_processor`: how many due tasks go before it, counted up to 10,000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ahead: Option<u64>,
}

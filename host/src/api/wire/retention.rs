//! What is kept of what has ended, as clients see it.

use crate::monitor::retention;
use crate::store::{Kept, Outdated, Sum};
use chrono::{DateTime, Utc};
use serde::Serialize;
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// Task names that are shown, at most: those with the most bytes.
const NAMES: usize = 100;

/// How long what has ended is kept, how much that is, and what would be forgotten now.
#[derive(Debug, Serialize, ToSchema)]
pub struct RetentionRecord {
    /// What is to be kept.
    pub rule: KeepRecord,
    /// Whether that rule is only tried: it is that of the request.
    pub tried: bool,
    /// What is kept.
    pub kept: KeptRecord,
    /// What would be forgotten now by that rule.
    pub would_drop: OutdatedRecord,
}

/// What is to be kept. Tasks that have not ended, steps of a workflow that is kept, and the newest ended task of each schedule always are.
#[derive(Debug, Serialize, ToSchema)]
pub struct KeepRecord {
    /// Days for which ended tasks and events are kept.
    pub retention_days: u32,
    /// So many of the newest ended tasks are kept however old they are.
    pub keep_newest: u64,
    /// Of all together; beyond it the oldest goes, whatever its age and number.
    pub keep_bytes: u64,
    /// What holds for task names instead; what is null holds as for all.
    pub tasks: BTreeMap<String, KeepOfRecord>,
}

/// What is to be kept of one task name.
#[derive(Debug, Serialize, ToSchema)]
pub struct KeepOfRecord {
    /// Days for which its ended tasks are kept.
    pub retention_days: Option<u32>,
    /// So many of its newest ended tasks are kept however old they are.
    pub keep_newest: Option<u64>,
    /// Of its ended tasks, with their logs and attempts.
    pub keep_bytes: Option<u64>,
}

impl From<&retention::Options> for KeepRecord {
    fn from(options: &retention::Options) -> Self {
        let of = |of: &retention::TaskOptions| KeepOfRecord {
            retention_days: of.retention_days,
            keep_newest: of.keep_newest,
            keep_bytes: of.keep_bytes.map(|bytes| bytes.as_u64()),
        };
        Self {
            retention_days: options.retention_days,
            keep_newest: options.keep_newest,
            keep_bytes: options.keep_bytes.as_u64(),
            tasks: options.tasks.iter().map(|(name, options)| (name.clone(), of(options))).collect(),
        }
    }
}

/// How many, and about how many bytes of the disk they take, with their indexes.
#[derive(Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct SumRecord {
    /// So many.
    pub count: u64,
    /// All of them together.
    pub bytes: u64,
}

impl From<Sum> for SumRecord {
    fn from(Sum { count, bytes }: Sum) -> Self {
        Self { count, bytes }
    }
}

/// What is kept.
#[derive(Debug, Serialize, ToSchema)]
pub struct KeptRecord {
    /// All together: this is what `keep_bytes` bounds.
    pub bytes: u64,
    /// How many of them are beyond `keep_bytes`.
    pub bytes_over: u64,
    /// By what they are.
    pub by_kind: KindsRecord,
    /// Ended tasks by name, with the bytes of their logs and attempts; the 100 names with the most bytes.
    pub by_task: BTreeMap<String, SumRecord>,
    /// When the first of the ended tasks that are kept ended.
    pub oldest_ended_at: Option<DateTime<Utc>>,
    /// When the first event that is kept came.
    pub oldest_event_at: Option<DateTime<Utc>>,
}

/// What is kept, by what it is.
#[derive(Debug, Serialize, ToSchema)]
pub struct KindsRecord {
    /// Ended tasks: payloads, results and errors.
    pub tasks: SumRecord,
    /// Attempts after which their task went on.
    pub attempts: SumRecord,
    /// Pieces of logs.
    pub logs: SumRecord,
    /// Checkpoints of tasks that have not ended.
    pub checkpoints: SumRecord,
    /// Events.
    pub events: SumRecord,
}

impl KeptRecord {
    pub(crate) fn new(kept: Kept, keep_bytes: u64) -> Self {
        let bytes = kept.bytes();
        Self {
            bytes,
            bytes_over: bytes.saturating_sub(keep_bytes),
            by_kind: KindsRecord {
                tasks: kept.tasks.into(),
                attempts: kept.attempts.into(),
                logs: kept.logs.into(),
                checkpoints: kept.checkpoints.into(),
                events: kept.events.into(),
            },
            by_task: largest(kept.by_name),
            oldest_ended_at: kept.oldest_ended_at,
            oldest_event_at: kept.oldest_event_at,
        }
    }
}

/// What would be forgotten.
#[derive(Debug, Serialize, ToSchema)]
pub struct OutdatedRecord {
    /// Ended tasks, with their logs and attempts.
    pub tasks: SumRecord,
    /// The same by name; the 100 names with the most bytes.
    pub by_task: BTreeMap<String, SumRecord>,
    /// Events.
    pub events: SumRecord,
    /// Workflows; their tasks are among those above.
    pub workflows: u64,
    /// Whether there may be more: some thousands are looked at.
    pub at_least: bool,
}

impl From<Outdated> for OutdatedRecord {
    fn from(outdated: Outdated) -> Self {
        let mut tasks = Sum::default();
        for sum in outdated.by_name.values() {
            tasks.count += sum.count;
            tasks.bytes += sum.bytes;
        }
        Self {
            tasks: tasks.into(),
            by_task: largest(outdated.by_name),
            events: outdated.events.into(),
            workflows: outdated.workflows,
            at_least: outdated.at_least,
        }
    }
}

fn largest(by_name: BTreeMap<String, Sum>) -> BTreeMap<String, SumRecord> {
    let mut all: Vec<(String, Sum)> = by_name.into_iter().collect();
    all.sort_by_key(|(_, sum)| std::cmp::Reverse(sum.bytes));
    all.truncate(NAMES);
    all.into_iter().map(|(name, sum)| (name, sum.into())).collect()
}

//! Tasks, as clients see them.

use crate::model::attempt::{Attempt, Progress};
use crate::model::task::{Origin, Phase, Status, Task};
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;
use std::time::Duration;
use utoipa::ToSchema;

/// The answer to a submission.
#[derive(Debug, Serialize, ToSchema)]
pub struct Accepted {
    /// The task's id; of a schedule or trigger, its id.
    pub task_id: String,
    /// `scheduled` of a task or schedule, `registered` of a trigger, `cancelled`, `dismissed`.
    #[schema(example = "scheduled")]
    pub status: &'static str,
    /// The failed task that this one repeats.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_of: Option<String>,
}

impl Accepted {
    /// An id and a word.
    pub(crate) fn new(id: impl ToString, status: &'static str) -> Self {
        Self {
            task_id: id.to_string(),
            status,
            retry_of: None,
        }
    }
}

/// The answer to a batch.
#[derive(Debug, Serialize, ToSchema)]
pub struct BatchAccepted {
    /// The batch's id.
    pub batch_id: String,
    /// How many tasks it has.
    pub count: u64,
}

/// How far a running task says it is.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProgressRecord {
    /// Units done.
    pub done: u64,
    /// Units in all, where known.
    pub total: Option<u64>,
    /// What is being done.
    pub message: String,
}

impl From<Progress> for ProgressRecord {
    fn from(progress: Progress) -> Self {
        let Progress { done, total, message } = progress;
        Self { done, total, message }
    }
}

/// One try at a task.
#[derive(Debug, Serialize, ToSchema)]
pub struct AttemptRecord {
    /// From 1.
    pub number: u32,
    /// `ok error snooze timeout out_of_fuel out_of_memory trap cancelled lost interrupted`; null while it runs.
    pub outcome: Option<&'static str>,
    /// When it began.
    pub started_at: DateTime<Utc>,
    /// When it was settled.
    pub ended_at: Option<DateTime<Utc>>,
    /// Seconds of wall time, without those that it waited for a processor.
    pub execution_time: Option<f64>,
    /// Seconds in which it could have gone on and had no processor; its timeout did not run meanwhile. Null where unknown.
    pub processor_wait: Option<f64>,
    /// CPU used; null where unknown.
    pub fuel_used: Option<u64>,
    /// Most memory held at once; null where nothing ran.
    pub peak_memory_bytes: Option<u64>,
    /// One sentence; null of an attempt that went well.
    pub error: Option<String>,
    /// `sha256:…` of the component that ran.
    pub plugin_digest: Option<String>,
    /// Which start of which host ran it.
    pub node: String,
}

impl From<Attempt> for AttemptRecord {
    fn from(attempt: Attempt) -> Self {
        Self {
            number: attempt.number,
            outcome: attempt.outcome.map(|outcome| outcome.as_str()),
            started_at: attempt.started_at,
            ended_at: attempt.ended_at,
            execution_time: attempt.execution_time.map(|time| time.as_secs_f64()),
            processor_wait: attempt.usage.processor_wait.map(|wait| wait.as_secs_f64()),
            fuel_used: attempt.usage.fuel_used,
            peak_memory_bytes: attempt.usage.peak_memory,
            error: attempt.error,
            plugin_digest: attempt.plugin_digest,
            node: attempt.node.to_string(),
        }
    }
}

/// What the record adds to what the store keeps.
#[derive(Debug)]
pub(crate) struct Live {
    /// Now.
    pub(crate) now: DateTime<Utc>,
    /// Whether the whole queue is paused.
    pub(crate) paused: bool,
    /// The running attempt's own word, fresher than the store's.
    pub(crate) progress: Option<Progress>,
    /// The definition's retries, until the task has a number of its own.
    pub(crate) max_retries: Option<u32>,
}

impl Live {
    /// What holds a task.
    pub(super) fn held(&self, held: Option<String>, status: Status, due_at: Option<DateTime<Utc>>) -> Option<String> {
        let by_all = || self.paused && status == Status::Pending && due_at.is_none_or(|at| at <= self.now);
        held.or_else(|| by_all().then(|| "the whole queue is paused".to_owned()))
    }
}

/// The whole record of a task.
#[derive(Debug, Serialize, ToSchema)]
pub struct TaskRecord {
    /// The same over all attempts.
    pub task_id: String,
    /// The definition's name.
    pub task_name: String,
    /// `pending running success failed cancelled`.
    #[schema(example = "success")]
    pub status: &'static str,
    /// The finer word, derived: `queued blocked scheduled retrying running ended`.
    #[schema(value_type = String, example = "ended")]
    pub phase: Phase,
    /// Why a due task is not started (`handler missing`).
    pub held: Option<String>,
    /// As it was submitted.
    #[schema(value_type = Object)]
    pub payload: Option<Box<RawValue>>,
    /// 1 (most urgent) to 9.
    pub priority: u8,
    /// The submission's and the definition's.
    pub tags: Vec<String>,
    /// When it was asked to run: the same over all attempts.
    pub trigger_time: DateTime<Utc>,
    /// When it was accepted.
    pub submitted_at: DateTime<Utc>,
    /// When its first attempt began.
    pub started_at: Option<DateTime<Utc>>,
    /// When it ended.
    pub completed_at: Option<DateTime<Utc>>,
    /// The same as `completed_at`.
    pub timestamp: Option<DateTime<Utc>>,
    /// Seconds that the last attempt took.
    pub execution_time: Option<f64>,
    /// What the handler returned.
    #[schema(value_type = serde_json::Value)]
    pub result: Option<Box<RawValue>>,
    /// Why it failed, in one sentence.
    pub error: Option<String>,
    /// An outcome, or `invalid_input fatal unknown_outcome expired result_too_large`.
    pub error_code: Option<String>,
    /// More about the error.
    #[schema(value_type = Option<Object>)]
    pub error_details: Option<Value>,
    /// Retries used.
    pub retry_count: u32,
    /// Retries allowed: the submission's number, or else its handler's; null where it names none and its handler is missing.
    pub max_retries: Option<u32>,
    /// When its next attempt is due, or the running one was; null once it has ended.
    pub due_at: Option<DateTime<Utc>>,
    /// When the next retry is due, while one is.
    pub next_retry_at: Option<DateTime<Utc>>,
    /// How far the running attempt says it is, or the last one was.
    pub progress: Option<ProgressRecord>,
    /// The plugin of the last attempt.
    pub plugin: Option<String>,
    /// The number of the running or last attempt; 0 before the first.
    pub attempt: u32,
    /// The submission's own limit, in seconds.
    pub timeout: Option<f64>,
    /// The submission's own word on repetition.
    pub idempotent: Option<bool>,
    /// The failed task that it repeats.
    pub retry_of: Option<String>,
    /// The schedule that made it.
    pub schedule_id: Option<String>,
    /// The trigger that made it.
    pub trigger_id: Option<String>,
    /// The task whose attempt submitted it.
    pub parent_task_id: Option<String>,
    /// The batch that it came in with.
    pub batch_id: Option<String>,
    /// The workflow that it is a step of.
    pub workflow_id: Option<String>,
    /// An attempt that has not begun by then never does.
    pub expires_at: Option<DateTime<Utc>>,
    /// An alert is raised where it has not ended by then.
    pub deadline: Option<DateTime<Utc>>,
    /// Stable over attempts and retries: what the handler sees.
    pub idempotency_key: String,
    /// All attempts; left out in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempts: Option<Vec<AttemptRecord>>,
}

/// JSON text that the host itself stored.
fn raw(text: String) -> Option<Box<RawValue>> {
    RawValue::from_string(text).ok()
}

impl TaskRecord {
    /// With its attempts.
    pub(crate) fn whole(mut task: Task, live: Live) -> Self {
        let attempts = std::mem::take(&mut task.attempts).into_iter().map(Into::into).collect();
        Self {
            attempts: Some(attempts),
            ..Self::listed(task, live)
        }
    }

    /// As lists show it.
    pub(crate) fn listed(task: Task, live: Live) -> Self {
        let phase = task.phase(live.now);
        let (error, error_code, error_details) = match task.failure {
            Some(failure) => (Some(failure.error), Some(failure.code), failure.details),
            None => (None, None, None),
        };
        let (mut retry_of, mut schedule_id, mut trigger_id, mut parent_task_id) = (None, None, None, None);
        match task.origin {
            Origin::Submitted => {}
            Origin::Schedule(id) => schedule_id = Some(id.to_string()),
            Origin::Trigger(id) => trigger_id = Some(id.to_string()),
            Origin::RetryOf(id) => retry_of = Some(id.to_string()),
            Origin::Task(id) => parent_task_id = Some(id.to_string()),
        }
        Self {
            task_id: task.id.to_string(),
            task_name: task.name,
            status: task.status.as_str(),
            phase,
            held: live.held(task.held, task.status, task.due_at),
            payload: raw(task.payload),
            priority: task.priority.get(),
            tags: task.tags,
            trigger_time: task.trigger_time,
            submitted_at: task.submitted_at,
            started_at: task.started_at,
            completed_at: task.completed_at,
            timestamp: task.completed_at,
            execution_time: task.execution_time.as_ref().map(Duration::as_secs_f64),
            result: task.result.and_then(raw),
            error,
            error_code,
            error_details,
            retry_count: task.counters.retries,
            max_retries: task.max_retries.or(live.max_retries),
            due_at: task.due_at,
            next_retry_at: if phase == Phase::Retrying { task.due_at } else { None },
            progress: live.progress.or(task.progress).map(Into::into),
            plugin: task.plugin,
            attempt: task.attempt,
            timeout: task.timeout.as_ref().map(Duration::as_secs_f64),
            idempotent: task.idempotent,
            retry_of,
            schedule_id,
            trigger_id,
            parent_task_id,
            batch_id: task.batch.map(|id| id.to_string()),
            workflow_id: task.workflow.map(|id| id.to_string()),
            expires_at: task.expires_at,
            deadline: task.deadline,
            idempotency_key: task.idempotency_key.to_string(),
            attempts: None,
        }
    }
}

/// A running task.
#[derive(Debug, Serialize, ToSchema)]
pub struct RunningTask {
    /// Its id.
    pub task_id: String,
    /// The definition's name.
    pub task_name: String,
    /// `running`.
    pub status: &'static str,
    /// When its first attempt began.
    pub started_at: Option<DateTime<Utc>>,
    /// 1 (most urgent) to 9.
    pub priority: u8,
    /// The number of the running attempt.
    pub attempt: u32,
    /// How far it says it is.
    pub progress: Option<ProgressRecord>,
    /// Retries used.
    pub retry_count: u32,
    /// Its tags.
    pub tags: Vec<String>,
    /// When it was accepted.
    pub submitted_at: DateTime<Utc>,
}

impl RunningTask {
    pub(crate) fn new(task: Task, progress: Option<Progress>) -> Self {
        Self {
            task_id: task.id.to_string(),
            task_name: task.name,
            status: Status::Running.as_str(),
            started_at: task.started_at,
            priority: task.priority.get(),
            attempt: task.attempt,
            progress: progress.or(task.progress).map(Into::into),
            retry_count: task.counters.retries,
            tags: task.tags,
            submitted_at: task.submitted_at,
        }
    }
}

/// What will run: a waiting task, or the next fire of a schedule.
#[derive(Debug, Serialize, ToSchema)]
pub struct ScheduledTask {
    /// The task's id, or the schedule's.
    pub task_id: String,
    /// The definition's name.
    pub task_name: String,
    /// When it is due.
    pub trigger_time: DateTime<Utc>,
    /// 1 (most urgent) to 9; null of a schedule that leaves it to the definition.
    pub priority: Option<u8>,
    /// `task` or `schedule`.
    #[schema(example = "task")]
    pub kind: &'static str,
    /// `pending` of a task, `scheduled` of a schedule.
    pub status: &'static str,
    /// Of a task: `queued scheduled retrying`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub phase: Option<Phase>,
    /// Why a due task is not started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held: Option<String>,
    /// Its tags.
    pub tags: Vec<String>,
    /// Retries used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_count: Option<u32>,
    /// Of a schedule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schedule_name: Option<String>,
    /// Of a schedule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cron_expression: Option<String>,
}

/// A task that failed: for good, or until its retry.
#[derive(Debug, Serialize, ToSchema)]
pub struct FailedTask {
    /// Its id.
    pub task_id: String,
    /// The definition's name.
    pub task_name: String,
    /// `retrying` or `permanently_failed`.
    #[schema(example = "permanently_failed")]
    pub status: &'static str,
    /// Retries used.
    pub retry_count: u32,
    /// Retries allowed, where known.
    pub max_retries: Option<u32>,
    /// When an attempt last failed.
    pub last_failure: Option<DateTime<Utc>>,
    /// One sentence.
    pub error: Option<String>,
    /// An outcome, or a finer word.
    pub error_code: Option<String>,
    /// When it is tried again.
    pub next_retry_at: Option<DateTime<Utc>>,
    /// 1 (most urgent) to 9.
    pub priority: u8,
    /// Its tags.
    pub tags: Vec<String>,
    /// When it was accepted.
    pub submitted_at: DateTime<Utc>,
}

impl FailedTask {
    pub(crate) fn new(task: Task, max_retries: Option<u32>) -> Self {
        let ended = task.status.is_final();
        let (error, error_code) = task.failure.map(|failure| (failure.error, failure.code)).unzip();
        Self {
            task_id: task.id.to_string(),
            task_name: task.name,
            status: if ended { "permanently_failed" } else { "retrying" },
            retry_count: task.counters.retries,
            max_retries: task.max_retries.or(max_retries),
            last_failure: task.last_failure.or(task.completed_at),
            error,
            error_code,
            next_retry_at: if ended { None } else { task.due_at },
            priority: task.priority.get(),
            tags: task.tags,
            submitted_at: task.submitted_at,
        }
    }
}

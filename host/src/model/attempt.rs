//! One try at a task, and how it ended.

use crate::model::Time;
use crate::model::ids::{NodeId, TaskId};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::time::Duration;

/// How an attempt ended, as a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutcomeKind {
    /// The handler returned a result.
    Ok,
    /// The handler returned an error.
    Error,
    /// The handler asked to be run again later; no retry is used up.
    Snooze,
    /// The wall clock ran out.
    Timeout,
    /// The CPU budget ran out.
    OutOfFuel,
    /// The memory cap was hit.
    OutOfMemory,
    /// The guest trapped: a panic, a bad access, a stack overflow.
    Trap,
    /// Somebody cancelled the task, or the handler itself did.
    Cancelled,
    /// The node died, or could not be heard of, while the attempt ran.
    Lost,
    /// The node was shut down or drained before the attempt ended.
    Interrupted,
}

impl OutcomeKind {
    /// The word used in the API and in the store.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Error => "error",
            Self::Snooze => "snooze",
            Self::Timeout => "timeout",
            Self::OutOfFuel => "out_of_fuel",
            Self::OutOfMemory => "out_of_memory",
            Self::Trap => "trap",
            Self::Cancelled => "cancelled",
            Self::Lost => "lost",
            Self::Interrupted => "interrupted",
        }
    }

    /// Whether the handler gave its own answer, so that a task that is not idempotent may go on from there.
    pub fn is_answer(self) -> bool {
        matches!(self, Self::Ok | Self::Error | Self::Snooze | Self::Cancelled)
    }

    /// Whether the attempt counts as a failure in the metrics.
    pub fn is_failure(self) -> bool {
        !matches!(self, Self::Ok | Self::Snooze | Self::Cancelled | Self::Interrupted)
    }
}

/// What is wrong with an input, and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputError {
    /// JSON pointer (RFC 6901) into the payload; empty for the whole.
    pub pointer: String,
    /// One sentence.
    pub detail: String,
}

/// Why a handler failed, in its own judgement.
#[derive(Clone, Debug, PartialEq)]
pub enum Class {
    /// May work later; `retry_after` wins over the policy's delay.
    Retryable {
        /// The handler's own delay.
        retry_after: Option<Duration>,
    },
    /// The payload can never work.
    InvalidInput {
        /// Where and why.
        errors: Vec<InputError>,
    },
    /// Can never work.
    Fatal,
    /// The result was larger than allowed.
    ResultTooLarge,
}

/// How an attempt ended, with all that it left.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// The result, as JSON text.
    Ok {
        /// JSON text.
        result: String,
    },
    /// The handler's error.
    Error {
        /// Its class, which decides about a retry.
        class: Class,
        /// One sentence.
        message: String,
    },
    /// Run again after this long.
    Snooze {
        /// How long to wait.
        after: Duration,
        /// Why.
        message: String,
    },
    /// The wall clock ran out.
    Timeout {
        /// The limit that was reached.
        limit: Duration,
    },
    /// The CPU budget ran out.
    OutOfFuel {
        /// The budget.
        limit: u64,
    },
    /// The memory cap was hit.
    OutOfMemory {
        /// The cap in bytes.
        limit: u64,
    },
    /// The guest trapped.
    Trap {
        /// One sentence.
        message: String,
        /// Backtrace and the end of stderr, for a person.
        details: Option<String>,
    },
    /// Cancelled.
    Cancelled,
    /// The node died.
    Lost,
    /// The node was stopped.
    Interrupted,
}

impl Outcome {
    /// The word for it.
    pub fn kind(&self) -> OutcomeKind {
        match self {
            Self::Ok { .. } => OutcomeKind::Ok,
            Self::Error { .. } => OutcomeKind::Error,
            Self::Snooze { .. } => OutcomeKind::Snooze,
            Self::Timeout { .. } => OutcomeKind::Timeout,
            Self::OutOfFuel { .. } => OutcomeKind::OutOfFuel,
            Self::OutOfMemory { .. } => OutcomeKind::OutOfMemory,
            Self::Trap { .. } => OutcomeKind::Trap,
            Self::Cancelled => OutcomeKind::Cancelled,
            Self::Lost => OutcomeKind::Lost,
            Self::Interrupted => OutcomeKind::Interrupted,
        }
    }

    /// One sentence for a person; `None` for ok.
    pub fn message(&self) -> Option<String> {
        Some(match self {
            Self::Ok { .. } => return None,
            Self::Error { message, .. } | Self::Snooze { message, .. } | Self::Trap { message, .. } => message.clone(),
            Self::Timeout { limit } => format!("the attempt was stopped at its timeout of {} s", limit.as_secs_f64()),
            Self::OutOfFuel { limit } => format!("the attempt used up its CPU budget of {limit} fuel"),
            Self::OutOfMemory { limit } => format!("the attempt asked for more than its memory cap of {limit} bytes"),
            Self::Cancelled => "the task was cancelled".to_owned(),
            Self::Lost => "the host process died while the attempt ran".to_owned(),
            Self::Interrupted => "the host was stopped before the attempt ended".to_owned(),
        })
    }

    /// The API's `error_code`: an outcome, or the finer word for a handler's error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Error {
                class: Class::InvalidInput { .. },
                ..
            } => "invalid_input",
            Self::Error { class: Class::Fatal, .. } => "fatal",
            Self::Error {
                class: Class::ResultTooLarge,
                ..
            } => "result_too_large",
            other => other.kind().as_str(),
        }
    }

    /// The API's `error_details`, as JSON.
    pub fn details(&self) -> Option<serde_json::Value> {
        match self {
            Self::Error {
                class: Class::InvalidInput { errors },
                ..
            } => Some(serde_json::json!({ "errors": errors })),
            Self::Error {
                class: Class::Retryable { retry_after: Some(after) },
                ..
            } => Some(serde_json::json!({ "retry_after": after.as_secs_f64() })),
            Self::Trap {
                details: Some(details), ..
            } => Some(serde_json::json!({ "trap": details })),
            _ => None,
        }
    }
}

/// What the sandbox measured of one attempt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Fuel burnt; `None` where it could not be read.
    pub fuel_used: Option<u64>,
    /// Most bytes of linear memory held at once; `None` where nothing ran.
    pub peak_memory: Option<u64>,
    /// How long it could have gone on and had no processor; `None` where nobody knows.
    pub processor_wait: Option<std::time::Duration>,
}

/// One try, as it is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Attempt {
    /// From 1.
    pub number: u32,
    /// How it ended; `None` while it runs.
    pub outcome: Option<OutcomeKind>,
    /// When the lease began.
    pub started_at: Time,
    /// When it was settled.
    pub ended_at: Option<Time>,
    /// Wall time of the guest.
    pub execution_time: Option<Duration>,
    /// Fuel and memory.
    pub usage: Usage,
    /// One sentence; `None` for ok.
    pub error: Option<String>,
    /// `sha256:…` of the component that ran.
    pub plugin_digest: Option<String>,
    /// Who ran it.
    pub node: NodeId,
}

/// What a handler may know of its attempt: the contract's `context.attempt`, in JSON.
#[derive(Clone, Debug, Serialize)]
pub struct Document {
    /// The same over all attempts.
    pub task_id: TaskId,
    /// From 1.
    pub attempt: u32,
    /// How many there may be.
    pub max_attempts: u32,
    /// When the task was asked to run.
    #[serde(serialize_with = "to_the_microsecond")]
    pub trigger_time: Time,
    /// When this attempt is stopped.
    #[serde(serialize_with = "to_the_microsecond")]
    pub timeout_at: Time,
    /// The same over attempts and retries by hand.
    pub idempotency_key: TaskId,
    /// The submission's and the definition's.
    pub tags: Vec<String>,
    /// The task whose attempt submitted this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent_task_id: Option<TaskId>,
    /// Results of the steps that it needed, by name.
    pub needs: BTreeMap<String, Box<RawValue>>,
}

impl Document {
    /// The text that the handler reads.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("names and JSON texts are JSON")
    }
}

fn to_the_microsecond<S: serde::Serializer>(time: &Time, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&time.to_rfc3339_opts(chrono::SecondsFormat::Micros, true))
}

/// How far an attempt says it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Units done.
    pub done: u64,
    /// Units in all, where known.
    pub total: Option<u64>,
    /// What is being done.
    pub message: String,
}

/// How urgent a line of the log is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Finest.
    Trace,
    /// For the author.
    Debug,
    /// For the operator.
    Info,
    /// Something is odd.
    Warn,
    /// Something failed.
    Error,
}

/// One line of an attempt's log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LogLine {
    /// When the host received it.
    pub time: Time,
    /// `info` for stdout, `error` for stderr.
    pub level: Level,
    /// From 1.
    pub attempt: u32,
    /// `log`, `stdout`, `stderr`, or `host` for the host's own notes.
    pub source: Source,
    /// The text, without its line break.
    pub message: String,
    /// The author's key-value pairs.
    #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
    pub fields: serde_json::Map<String, serde_json::Value>,
}

/// Where a line of the log came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// The log interface.
    Log,
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// The host.
    Host,
}

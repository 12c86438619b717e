//! The sandbox: one attempt in one fresh instance, and nothing that outlives it.
//!
//! The only room that knows wasmtime. What a guest asks of the rest of the house leaves as a [`HostCall`].
//!
//! - A guest can do what its imports allow and nothing else: see [`capabilities`].
//! - Fuel, memory, wall clock, log, result and call rate of an attempt are bounded: see [`Limits`].
//! - As many attempts burn at once as there are processors: see [`Processors`].
//! - No byte of a plugin is compiled in this process: see [`compile`].

mod answer;
mod bindings;
mod cache;
pub mod capabilities;
pub mod compile;
mod engine;
mod instance;
mod journal;
mod limits;
mod options;
mod outbox;
mod processors;
#[cfg(test)]
pub(crate) mod tests;
mod turns;

pub use engine::{Code, Engine, LoadError, MAX_COMPONENT, guest_runtime};
pub use options::Options;
pub use outbox::{Outgoing, Refused};
pub use processors::{Pace, Processors, Ticket};

use crate::model::attempt::{Document, LogLine, Outcome, Progress, Usage};
use async_trait::async_trait;
use capabilities::Grants;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};

/// The largest checkpoint, in bytes.
pub const MAX_CHECKPOINT: usize = 1 << 20;

/// What bounds one attempt.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Wall clock, host calls included; waits for a processor are not.
    pub timeout: Duration,
    /// CPU budget.
    pub fuel: u64,
    /// Bytes of linear memory, over all memories together.
    pub memory: u64,
    /// Bytes of the result.
    pub result: usize,
    /// Bytes of log lines, stdout and stderr together.
    pub log: usize,
    /// Host calls a second that pass without waiting.
    pub calls_per_second: u32,
}

/// One attempt to run.
#[derive(Debug)]
pub struct AttemptRequest {
    /// The task definition's name.
    pub task_name: String,
    /// JSON text.
    pub input: String,
    /// From 1.
    pub number: u32,
    /// What the guest's `context.attempt` answers; `None`: an empty object.
    pub document: Option<Document>,
    /// What bounds it.
    pub limits: Limits,
    /// What the guest's `context.is-cancelled` answers.
    pub cancelled: Arc<AtomicBool>,
    /// Where the guest's calls go. Bounded by the log limit, and as many checkpoints and requests as are answered.
    pub calls: mpsc::UnboundedSender<HostCall>,
    /// How far the guest says it is: the latest word only, since there may be ten thousand a second.
    pub progress: watch::Sender<Option<Progress>>,
    /// Its claim on the processors.
    pub ticket: Ticket,
}

/// What a guest asks of the host.
#[derive(Debug)]
pub enum HostCall {
    /// Keep a line.
    Log(LogLine),
    /// Keep a checkpoint; answered once it is durable, or with why not.
    SaveCheckpoint(Vec<u8>, oneshot::Sender<Result<(), String>>),
    /// Give the checkpoint back.
    LoadCheckpoint(oneshot::Sender<Option<Vec<u8>>>),
    /// Keep until the attempt is ok; answered with the id that it will have, or with why not.
    Send {
        /// Bounded in size, and otherwise as the guest wrote it.
        what: Outgoing,
        /// What the plugin may emit and submit.
        grants: Arc<Grants>,
        /// The answer.
        reply: oneshot::Sender<Result<String, Refused>>,
    },
}

/// How one attempt ended.
#[derive(Debug)]
pub struct Report {
    /// Guest failure is data.
    pub outcome: Outcome,
    /// What it used.
    pub usage: Usage,
    /// Wall time without what it waited for a processor.
    pub execution_time: Duration,
}

/// Code that can be run: a compiled plugin, or a script in a simulation.
#[async_trait]
pub trait Execute: Send + Sync + std::fmt::Debug + 'static {
    /// Runs one attempt to its end. Dropping the future stops the guest wherever it is.
    async fn execute(&self, request: AttemptRequest) -> Report;
}

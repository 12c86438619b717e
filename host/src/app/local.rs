//! One plugin without a server: loaded and run as a host of the same configuration would.

use crate::api::wire::PluginRecord;
use crate::clock::Clock;
use crate::config::{self, Loaded, Sources};
use crate::executor::{self, AttemptRequest, Engine, HostCall, Processors, Report, guest_runtime};
use crate::model::attempt::{Document, LogLine, Outcome};
use crate::model::ids::TaskId;
use crate::model::outbox::Sent;
use crate::registry;
use crate::registry::snapshot::{Handler, Plugin};
use crate::worker::{Accepts, Judge, Outbox};
use anyhow::{Context, bail};
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;
use tokio::sync::{mpsc, watch};

/// How one task went.
#[derive(Clone, Debug, Serialize)]
pub struct LocalRun {
    /// `ok`, `error`, `timeout`, …
    pub outcome: String,
    /// One sentence; `None` for ok.
    pub error: Option<String>,
    /// Pointers and such.
    pub error_details: Option<Value>,
    /// What the handler returned.
    pub result: Option<Box<RawValue>>,
    /// Lines with `time`, `level`, `source`, `message`.
    pub log: Vec<Value>,
    /// What the handler emitted: `{event_id, event_type, data}`. Here it reaches nobody.
    pub emitted: Vec<Value>,
    /// What the handler submitted: `{task_id, request}`. Here nothing comes of it.
    pub submitted: Vec<Value>,
    /// CPU burnt.
    pub fuel_used: Option<u64>,
    /// Most bytes held at once.
    pub peak_memory_bytes: Option<u64>,
    /// Seconds.
    pub execution_time: f64,
}

/// Loads a component as a host of this configuration would; returns the record that `GET /plugin/{name}` would show. A refusal is an
/// error.
pub fn check_plugin(file: &Path, sources: Sources) -> anyhow::Result<Value> {
    with_plugin(file, sources, |loaded| async move {
        Ok(serde_json::to_value(PluginRecord::from(&loaded.plugin))?)
    })
}

/// Runs one task under the limits that it would have in production.
pub fn run_plugin(file: &Path, task: &str, payload: String, sources: Sources) -> anyhow::Result<LocalRun> {
    let task = task.to_owned();
    with_plugin(file, sources, |loaded| async move {
        let Some(handler) = loaded.handlers.iter().find(|handler| handler.definition.name == task) else {
            bail!("the plugin has no task {task:?}; it has {}", loaded.plugin.tasks.join(", "));
        };
        let value: Value = serde_json::from_str(&payload).context("the payload is not JSON")?;
        let errors = handler.check(&value);
        if errors.is_empty() {
            return Ok(run(handler, payload, &loaded.limits).await);
        }
        Ok(LocalRun {
            outcome: "error".into(),
            error: Some("the payload does not fit the task's schema".into()),
            error_details: Some(json!({ "errors": errors })),
            result: None,
            log: Vec::new(),
            emitted: Vec::new(),
            submitted: Vec::new(),
            fuel_used: None,
            peak_memory_bytes: None,
            execution_time: 0.0,
        })
    })
}

/// A plugin as the host would have it.
struct Ready {
    plugin: Plugin,
    handlers: Vec<Arc<Handler>>,
    limits: executor::Options,
}

/// Loads the plugin and hands it on.
fn with_plugin<T, F>(file: &Path, sources: Sources, then: impl FnOnce(Ready) -> F) -> anyhow::Result<T>
where
    F: Future<Output = anyhow::Result<T>>,
{
    let Loaded { config, file: config_file } = config::load(sources)?;
    let cache = tempfile::tempdir()?;
    guest_runtime(1)?.block_on(async {
        let limits = config.executor;
        let engine = Engine::new(&limits, 1, cache.path().join("cache"), Clock::System)?;
        let context = registry::Context {
            config_file,
            data_dir: config.store.data,
            executor: limits.clone(),
        };
        let (plugin, handlers) = registry::load_one(file, engine, context, config.plugins).await?;
        then(Ready { plugin, handlers, limits }).await
    })
}

async fn run(handler: &Handler, input: String, options: &executor::Options) -> LocalRun {
    let definition = &handler.definition;
    let now = Clock::System.now();
    let (calls, mut asked) = mpsc::unbounded_channel();
    let id = TaskId::new(now);
    let document = Document {
        task_id: id,
        attempt: 1,
        max_attempts: 1,
        trigger_time: now,
        timeout_at: now + definition.timeout,
        idempotency_key: id,
        tags: definition.tags.clone(),
        parent_task_id: None,
        needs: std::collections::BTreeMap::new(),
    };
    let request = AttemptRequest {
        task_name: definition.name.clone(),
        input,
        number: 1,
        document: Some(document),
        limits: options.limits(definition.timeout, definition.fuel_for(definition.timeout), definition.memory),
        cancelled: Arc::default(),
        calls,
        progress: watch::channel(None).0,
        ticket: Processors::new(1, 1, Arc::default()).ticket(&definition.name, definition.priority),
    };
    let mut heard = Heard::default();
    let guest = handler.code.execute(request);
    tokio::pin!(guest);
    let report = loop {
        tokio::select! {
            biased;
            Some(call) = asked.recv() => {
                let more = std::iter::from_fn(|| asked.try_recv().ok());
                std::iter::once(call).chain(more).for_each(|call| heard.answer(call, options));
            }
            report = &mut guest => break report,
        }
    };
    while let Ok(call) = asked.try_recv() {
        heard.answer(call, options);
    }
    told(report, heard)
}

/// What the handler has said.
#[derive(Default)]
struct Heard {
    log: Vec<LogLine>,
    checkpoint: Option<Vec<u8>>,
    outbox: Outbox,
}

impl Heard {
    fn answer(&mut self, call: HostCall, limits: &executor::Options) {
        match call {
            HostCall::Log(line) => self.log.push(line),
            HostCall::SaveCheckpoint(data, reply) => {
                self.checkpoint = Some(data);
                let _ = reply.send(Ok(()));
            }
            HostCall::LoadCheckpoint(reply) => drop(reply.send(self.checkpoint.clone())),
            HostCall::Send { what, grants, reply } => {
                // Which other plugins the host will have is not known here.
                let accepts: Accepts = Arc::new(|_, _| Ok(None));
                let judge = Judge {
                    limits,
                    grants: &grants,
                    accepts: &accepts,
                    full: false,
                    depth: 0,
                    now: Clock::System.now(),
                };
                let _ = reply.send(self.outbox.take(what, &judge));
            }
        }
    }
}

/// What was emitted and what was submitted, as far as it would have become real.
fn sent(outcome: &Outcome, outbox: Outbox) -> (Vec<Value>, Vec<Value>) {
    let (mut emitted, mut submitted) = (Vec::new(), Vec::new());
    if !matches!(outcome, Outcome::Ok { .. }) {
        return (emitted, submitted);
    }
    let parsed = |text: &str| serde_json::from_str::<Value>(text).unwrap_or_default();
    for sent in outbox.sealed(0).sent {
        match sent {
            Sent::Event { id, event_type, data } => {
                emitted.push(json!({ "event_id": id, "event_type": event_type, "data": parsed(&data) }));
            }
            Sent::Task { id, request } => submitted.push(json!({ "task_id": id, "request": parsed(&request) })),
            Sent::Workflow { id, request } => submitted.push(json!({ "workflow_id": id, "request": parsed(&request) })),
        }
    }
    (emitted, submitted)
}

fn told(report: Report, heard: Heard) -> LocalRun {
    let (emitted, submitted) = sent(&report.outcome, heard.outbox);
    LocalRun {
        outcome: report.outcome.kind().as_str().to_owned(),
        error: report.outcome.message(),
        error_details: report.outcome.details(),
        result: match report.outcome {
            Outcome::Ok { result } => RawValue::from_string(result).ok(),
            _ => None,
        },
        log: heard.log.into_iter().map(|line| json!(line)).collect(),
        emitted,
        submitted,
        fuel_used: report.usage.fuel_used,
        peak_memory_bytes: report.usage.peak_memory,
        execution_time: report.execution_time.as_secs_f64(),
    }
}

//! One plugin without a server: the registry and the sandbox as the host has them, on a private folder that is gone afterwards.

use crate::api::wire::PluginRecord;
use crate::clock::Clock;
use crate::executor::{self, AttemptRequest, Engine, HostCall, Report, guest_runtime};
use crate::model::attempt::{LogLine, Outcome};
use crate::model::ids::TaskId;
use crate::registry::snapshot::{Handler, Snapshot};
use crate::registry::{self, Registry};
use crate::store::sqlite::Sqlite;
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
    /// CPU burnt.
    pub fuel_used: Option<u64>,
    /// Most bytes held at once.
    pub peak_memory_bytes: Option<u64>,
    /// Seconds.
    pub execution_time: f64,
}

/// Loads a component as the host would; returns the record that `GET /plugin/{name}` would show. A refusal is an error.
pub fn check_plugin(file: &Path) -> anyhow::Result<Value> {
    with_plugin(file, |snapshot, name| async move {
        let plugin = snapshot.plugins.get(&name).context("the plugin is gone")?;
        Ok(serde_json::to_value(PluginRecord::from(plugin.as_ref()))?)
    })
}

/// Runs one task under the limits that it would have in production.
pub fn run_plugin(file: &Path, task: &str, payload: String) -> anyhow::Result<LocalRun> {
    let task = task.to_owned();
    with_plugin(file, |snapshot, _| async move {
        let known = || snapshot.handlers.keys().cloned().collect::<Vec<_>>().join(", ");
        let Some(handler) = snapshot.handlers.get(&task) else {
            bail!("the plugin has no task {task:?}; it has {}", known());
        };
        let value: Value = serde_json::from_str(&payload).context("the payload is not JSON")?;
        let errors = handler.check(&value);
        if errors.is_empty() {
            return Ok(run(handler, payload).await);
        }
        Ok(LocalRun {
            outcome: "error".into(),
            error: Some("the payload does not fit the task's schema".into()),
            error_details: Some(json!({ "errors": errors })),
            result: None,
            log: Vec::new(),
            fuel_used: None,
            peak_memory_bytes: None,
            execution_time: 0.0,
        })
    })
}

/// Loads the plugin into a registry of its own and hands its snapshot on.
fn with_plugin<T, F>(file: &Path, then: impl FnOnce(Arc<Snapshot>, String) -> F) -> anyhow::Result<T>
where
    F: Future<Output = anyhow::Result<T>>,
{
    let name = file
        .file_stem()
        .and_then(|stem| stem.to_str())
        .context("a component is a file called NAME.wasm")?
        .to_owned();
    let folder = tempfile::tempdir()?;
    let plugins = folder.path().join("plugins");
    std::fs::create_dir(&plugins)?;
    let copy = plugins.join(format!("{name}.wasm"));
    std::fs::copy(file, &copy).with_context(|| format!("{} cannot be read", file.display()))?;
    // An old file is not taken for one that is still being written.
    std::fs::File::options()
        .write(true)
        .open(&copy)?
        .set_modified(std::time::SystemTime::UNIX_EPOCH)?;
    let manifest = file.with_extension("toml");
    if manifest.exists() {
        std::fs::copy(&manifest, plugins.join(format!("{name}.toml")))?;
    }
    let runtime = guest_runtime(1)?;
    runtime.block_on(async {
        let (data, options) = (folder.path().join("data"), executor::Options::default());
        let store = Arc::new(Sqlite::open(&data)?);
        let engine = Engine::new(&options, 1, data.join("cache"), Clock::System)?;
        let context = registry::Context {
            config_file: None,
            data_dir: data,
            executor: options,
        };
        let options = registry::Options {
            dirs: vec![plugins],
            ..registry::Options::default()
        };
        let (registry, _) = Registry::start(options, engine, store, Clock::System, context)?;
        registry.reload().await?;
        let snapshot = registry.snapshot();
        if let Some(error) = snapshot.plugins.get(&name).and_then(|plugin| plugin.error.clone()) {
            bail!("{error}");
        }
        let answer = then(snapshot, name).await;
        registry.stop().await;
        answer
    })
}

async fn run(handler: &Handler, input: String) -> LocalRun {
    let definition = &handler.definition;
    let now = Clock::System.now();
    let (calls, mut asked) = mpsc::unbounded_channel();
    let options = executor::Options::default();
    let id = TaskId::new(now);
    let document = json!({
        "task_id": id, "attempt": 1, "max_attempts": 1, "trigger_time": now, "timeout_at": now + definition.timeout,
        "idempotency_key": id, "tags": definition.tags, "needs": {},
    });
    let request = AttemptRequest {
        task_name: definition.name.clone(),
        input,
        number: 1,
        document: document.to_string(),
        limits: options.limits(definition.timeout, definition.fuel_for(definition.timeout), definition.memory),
        cancelled: Arc::default(),
        calls,
        progress: watch::channel(None).0,
    };
    let mut log = Vec::new();
    let mut checkpoint = None;
    let guest = handler.code.execute(request);
    tokio::pin!(guest);
    let report = loop {
        tokio::select! {
            biased;
            Some(call) = asked.recv() => {
                let more = std::iter::from_fn(|| asked.try_recv().ok());
                std::iter::once(call).chain(more).for_each(|call| answer(call, &mut log, &mut checkpoint));
            }
            report = &mut guest => break report,
        }
    };
    while let Ok(call) = asked.try_recv() {
        answer(call, &mut log, &mut checkpoint);
    }
    told(report, log)
}

fn answer(call: HostCall, log: &mut Vec<LogLine>, checkpoint: &mut Option<Vec<u8>>) {
    match call {
        HostCall::Log(line) => log.push(line),
        HostCall::SaveCheckpoint(data, reply) => {
            *checkpoint = Some(data);
            let _ = reply.send(Ok(()));
        }
        HostCall::LoadCheckpoint(reply) => drop(reply.send(checkpoint.clone())),
    }
}

fn told(report: Report, log: Vec<LogLine>) -> LocalRun {
    LocalRun {
        outcome: report.outcome.kind().as_str().to_owned(),
        error: report.outcome.message(),
        error_details: report.outcome.details(),
        result: match report.outcome {
            Outcome::Ok { result } => RawValue::from_string(result).ok(),
            _ => None,
        },
        log: log.into_iter().map(|line| json!(line)).collect(),
        fuel_used: report.usage.fuel_used,
        peak_memory_bytes: report.usage.peak_memory,
        execution_time: report.execution_time.as_secs_f64(),
    }
}

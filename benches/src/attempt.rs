//! Attempts in the product's own sandbox, with all limits on and nothing around it.

use anyhow::{Result, bail};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use taskhost::clock::Clock;
use taskhost::executor::capabilities::Grants;
use taskhost::executor::compile::CompileIn;
use taskhost::executor::{AttemptRequest, Code, Engine, Execute, Options, Processors, Report, guest_runtime};
use taskhost::model::attempt::Outcome;
use taskhost::model::priority::Priority;
use tokio::sync::{mpsc, watch};

const SLOTS: usize = 64;

/// A plugin that was loaded, and the threads that it runs on.
pub(crate) struct Sandbox {
    threads: tokio::runtime::Runtime,
    code: Arc<Code>,
    options: Options,
    _cache: tempfile::TempDir,
}

impl Sandbox {
    pub(crate) fn load(wasm: &Path) -> Result<Self> {
        let cache = tempfile::tempdir()?;
        let options = Options::default();
        let engine = Engine::with_compiler(&options, SLOTS, cache.path().to_owned(), Clock::System, CompileIn::Here)?;
        let threads = guest_runtime(2)?;
        let bytes: Arc<[u8]> = std::fs::read(wasm)?.into();
        // The digest only names the compiled code.
        let code = Arc::new(threads.block_on(engine.load(bytes, "noop", Grants::default()))?);
        Ok(Self {
            threads,
            code,
            options,
            _cache: cache,
        })
    }

    /// One attempt.
    pub(crate) fn run(&self, task: &str, input: &str, memory: u64) -> Result<Report> {
        let (code, request) = (self.code.clone(), request(&self.options, task, input, memory));
        // On a thread for guests, whose priority counts.
        let attempt = self.threads.spawn(async move { code.execute(request).await });
        Ok(self.threads.block_on(attempt)?)
    }
}

/// Microseconds of one attempt, with two threads at it.
pub(crate) fn micros(wasm: &Path, times: u32) -> Result<f64> {
    let sandbox = Sandbox::load(wasm)?;
    let begun = Instant::now();
    sandbox.threads.block_on(async {
        let threads = (0..2).map(|_| tokio::spawn(noops(sandbox.code.clone(), sandbox.options.clone(), times / 2)));
        for thread in threads.collect::<Vec<_>>() {
            thread.await??;
        }
        anyhow::Ok(())
    })?;
    Ok(begun.elapsed().as_secs_f64() * 2e6 / f64::from(times))
}

async fn noops(code: Arc<Code>, options: Options, times: u32) -> Result<()> {
    for _ in 0..times {
        let report = code.execute(request(&options, "noop", "{}", 2 << 20)).await;
        if !matches!(report.outcome, Outcome::Ok { .. }) {
            bail!("{report:?}");
        }
    }
    Ok(())
}

fn request(options: &Options, task: &str, input: &str, memory: u64) -> AttemptRequest {
    let (calls, _asked) = mpsc::unbounded_channel();
    let (progress, _told) = watch::channel(None);
    // As many as there are threads, as in the host.
    let processors = Processors::new(2, SLOTS, Arc::default());
    AttemptRequest {
        task_name: task.to_owned(),
        input: input.to_owned(),
        number: 1,
        document: None,
        limits: options.limits(Duration::from_secs(300), 3_000_000_000_000, memory),
        cancelled: Arc::default(),
        calls,
        progress,
        ticket: processors.ticket(task, Priority::NORMAL),
    }
}

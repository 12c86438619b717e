//! One attempt in the product's own sandbox, with all limits on and nothing around it.

use anyhow::{Result, bail};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use taskhost::clock::Clock;
use taskhost::executor::capabilities::Grants;
use taskhost::executor::compile::CompileIn;
use taskhost::executor::{AttemptRequest, Code, Engine, Execute, Options, guest_runtime};
use taskhost::model::attempt::Outcome;
use tokio::sync::{mpsc, watch};

const SLOTS: usize = 64;

/// Microseconds of one attempt, with two threads at it.
pub(crate) fn micros(wasm: &Path, times: u32) -> Result<f64> {
    let folder = tempfile::tempdir()?;
    let options = Options::default();
    let engine = Engine::with_compiler(&options, SLOTS, folder.path().to_owned(), Clock::System, CompileIn::Here)?;
    let guests = guest_runtime(2)?;
    let bytes: Arc<[u8]> = std::fs::read(wasm)?.into();
    // The digest only names the compiled code.
    let code = Arc::new(guests.block_on(engine.load(bytes, "noop", Grants::default()))?);
    let begun = Instant::now();
    guests.block_on(async {
        let threads = (0..2).map(|_| tokio::spawn(run(code.clone(), options.clone(), times / 2)));
        for thread in threads.collect::<Vec<_>>() {
            thread.await??;
        }
        anyhow::Ok(())
    })?;
    Ok(begun.elapsed().as_secs_f64() * 2e6 / f64::from(times))
}

async fn run(code: Arc<Code>, options: Options, times: u32) -> Result<()> {
    for number in 0..times {
        let (calls, _asked) = mpsc::unbounded_channel();
        let (progress, _told) = watch::channel(None);
        let report = code
            .execute(AttemptRequest {
                task_name: "noop".to_owned(),
                input: "{}".to_owned(),
                number,
                document: None,
                limits: options.limits(Duration::from_secs(300), 3_000_000_000_000, 2 << 20),
                cancelled: Arc::default(),
                calls,
                progress,
            })
            .await;
        if !matches!(report.outcome, Outcome::Ok { .. }) {
            bail!("{report:?}");
        }
    }
    Ok(())
}

//! The machine's floor: the least work that a durable, sandboxed task can cost here. It has no scheduling, retry, claim, history or
//! validation, so nobody could use it; it is a yardstick to run beside the product, and no design.
//!
//! | case | what it is |
//! |---|---|
//! | echo | HTTP alone: JSON in, JSON out |
//! | commit | the same with a durable insert (SQLite, `synchronous=FULL`, one writer thread, group commit) before the answer |
//! | live | commit, then a fresh instance, a call, and a durable settle; counted when settled |
//! | drain | tasks queued in memory, then run and settled: no claim, so an upper bound for a real drain |
//! | latency | idle, from submit to the guest's start, without HTTP |
//! | sandbox | new store, instance, call, drop; fuel, limits and WASI linked; 2 threads |

mod sandbox;
mod store;

use crate::load::{Load, Sample};
use anyhow::{Context, Result};
use axum::{Json, Router, routing::post};
use sandbox::{Sandbox, guest_runtime};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use store::{Task, Writer};
use tokio::sync::{Semaphore, mpsc};

/// What is done for a submission before and after its answer.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Mode {
    Echo,
    Commit,
    Live,
}

/// Guests alive at once.
const SLOTS: u32 = 64;

#[derive(serde::Deserialize)]
struct Submission {
    #[serde(rename = "task_name")]
    _task_name: String,
    payload: Box<serde_json::value::RawValue>,
}

struct Running {
    _folder: tempfile::TempDir,
    address: String,
    settled: Arc<AtomicU64>,
    started: Arc<Mutex<Option<Instant>>>,
    writer: Writer,
    gate: Arc<Semaphore>,
    api: tokio::runtime::Runtime,
    _guests: tokio::runtime::Runtime,
}

fn start(wasm: &Path, mode: Mode, open: bool) -> Result<Running> {
    let folder = tempfile::tempdir()?;
    let (hand_off, handed) = mpsc::unbounded_channel();
    let writer = Writer::open(&folder.path().join("db"), hand_off)?;
    let api = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let guests = guest_runtime(2)?;
    let (settled, started) = (Arc::new(AtomicU64::new(0)), Arc::new(Mutex::new(None)));
    let gate = Arc::new(Semaphore::new(if open { SLOTS as usize } else { 0 }));
    guests.spawn(run_tasks(
        handed,
        RunTasks {
            mode,
            gate: gate.clone(),
            writer: writer.clone(),
            sandbox: Sandbox::new(&std::fs::read(wasm)?, SLOTS)?,
            settled: settled.clone(),
            started: started.clone(),
        },
    ));
    let queue = writer.clone();
    let submit = move |Json(submission): Json<Submission>| {
        let queue = queue.clone();
        async move {
            let id = match mode {
                Mode::Echo => 1,
                _ => queue.enqueue(submission.payload.get().to_owned()).await,
            };
            Json(serde_json::json!({"task_id": id.to_string(), "status": "scheduled"}))
        }
    };
    let listener = api.block_on(tokio::net::TcpListener::bind("127.0.0.1:0"))?;
    let address = listener.local_addr()?.to_string();
    api.spawn(async move { axum::serve(listener, Router::new().route("/submit", post(submit))).await });
    Ok(Running {
        _folder: folder,
        address,
        settled,
        started,
        writer,
        gate,
        api,
        _guests: guests,
    })
}

#[derive(Clone)]
struct RunTasks {
    mode: Mode,
    gate: Arc<Semaphore>,
    writer: Writer,
    sandbox: Sandbox,
    settled: Arc<AtomicU64>,
    started: Arc<Mutex<Option<Instant>>>,
}

async fn run_tasks(mut handed: mpsc::UnboundedReceiver<Task>, with: RunTasks) {
    while let Some(task) = handed.recv().await {
        if with.mode != Mode::Live {
            continue;
        }
        let Ok(slot) = with.gate.clone().acquire_owned().await else {
            return;
        };
        let with = with.clone();
        tokio::spawn(async move {
            *with.started.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
            let run = with.sandbox.run("noop", &task.payload);
            let Ok(Ok(result)) = tokio::time::timeout(Duration::from_secs(300), run).await else {
                return;
            };
            drop(slot); // the slot is the guest's; the settle that follows shares a commit with others
            with.writer.settle(task.id, result).await;
            with.settled.fetch_add(1, Relaxed);
        });
    }
}

/// Submissions over HTTP. In [`Mode::Live`] the rate is that of settled tasks, at the end of the load.
pub(crate) fn served(wasm: &Path, mode: Mode, connections: usize, seconds: f64) -> Result<Sample> {
    let running = start(wasm, mode, true)?;
    let load = Load {
        address: running.address.clone(),
        path: "/submit".to_owned(),
        content_type: "application/json".to_owned(),
        headers: String::new(),
        body: crate::submission(""),
        connections,
        seconds,
        rate: None,
        ids: None,
    };
    let begun = Instant::now();
    let mut sample = load.run()?;
    if mode == Mode::Live {
        while running.settled.load(Relaxed) < sample.answers {
            std::thread::sleep(Duration::from_millis(1));
        }
        sample.per_second = sample.answers as f64 / begun.elapsed().as_secs_f64();
    }
    Ok(sample)
}

/// Tasks a second from a backlog in memory.
pub(crate) fn drain(wasm: &Path, tasks: u64) -> Result<f64> {
    const SUBMITTERS: u64 = 500;
    let running = start(wasm, Mode::Live, false)?;
    running.api.block_on(async {
        let submit = (0..SUBMITTERS).map(|_| {
            let writer = running.writer.clone();
            tokio::spawn(async move {
                for _ in 0..tasks / SUBMITTERS {
                    writer.enqueue("a".repeat(200)).await;
                }
            })
        });
        for submitter in submit.collect::<Vec<_>>() {
            submitter.await?;
        }
        anyhow::Ok(())
    })?;
    let begun = Instant::now();
    running.gate.add_permits(SLOTS as usize);
    while running.settled.load(Relaxed) < tasks / SUBMITTERS * SUBMITTERS {
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(tasks as f64 / begun.elapsed().as_secs_f64())
}

/// Milliseconds from submit to the guest's start on an idle machine, sorted.
pub(crate) fn latency(wasm: &Path, times: usize) -> Result<Vec<f64>> {
    let running = start(wasm, Mode::Live, true)?;
    let mut found = Vec::new();
    running.api.block_on(async {
        for _ in 0..times {
            let begun = Instant::now();
            running.writer.enqueue("a".repeat(200)).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
            let started = running.started.lock().unwrap_or_else(PoisonError::into_inner).take();
            found.push((started.context("no guest started")? - begun).as_secs_f64() * 1e3);
        }
        anyhow::Ok(())
    })?;
    found.sort_by(f64::total_cmp);
    Ok(found)
}

/// Microseconds of one attempt, with two threads at it.
pub(crate) fn attempt(wasm: &Path, times: u32) -> Result<f64> {
    let sandbox = Sandbox::new(&std::fs::read(wasm)?, SLOTS)?;
    let guests = guest_runtime(2)?;
    let begun = Instant::now();
    guests.block_on(async {
        let threads = (0..2).map(|_| {
            let sandbox = sandbox.clone();
            tokio::spawn(async move {
                for _ in 0..times / 2 {
                    sandbox.run("noop", "{}").await?;
                }
                anyhow::Ok(())
            })
        });
        for thread in threads.collect::<Vec<_>>() {
            thread.await??;
        }
        anyhow::Ok(())
    })?;
    Ok(begun.elapsed().as_secs_f64() * 2e6 / f64::from(times))
}

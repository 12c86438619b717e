//! The load generator: keep-alive connections in a process of its own, on one thread, so that it costs little and the same whatever
//! it drives.
//!
//! Closed loop: each connection sends its next request when it has the answer to the last; this finds the capacity. Open loop:
//! requests are due at a fixed rate and their time counts from when they were due, whether a connection was free or not, so that a
//! stall is not left out of its own statistics (no coordinated omission).

use crate::client::{Head, head, value};
use anyhow::{Context, Result, bail};
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// What to send, and how.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Load {
    pub(crate) address: String,
    pub(crate) path: String,
    pub(crate) content_type: String,
    /// Further ones, each with its line's end.
    #[serde(default)]
    pub(crate) headers: String,
    pub(crate) body: String,
    pub(crate) connections: usize,
    pub(crate) seconds: f64,
    /// Requests a second; `None`: a closed loop.
    pub(crate) rate: Option<f64>,
    /// Where to write the ids of acknowledged tasks, 16 bytes each.
    #[serde(default)]
    pub(crate) ids: Option<PathBuf>,
}

/// What came of it. Times in milliseconds.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Sample {
    /// Answers that were a 200; rate and times are theirs.
    pub(crate) answers: u64,
    /// Answers that were a 429 or 503, by status.
    pub(crate) refused: BTreeMap<u16, u64>,
    /// Those among them that did not say when to come again.
    pub(crate) without_retry_after: u64,
    /// Requests of an open loop that were due and found no free connection until the end.
    pub(crate) unsent: f64,
    pub(crate) per_second: f64,
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
}

impl Load {
    /// Runs in a process of its own.
    pub(crate) fn run(&self) -> Result<Sample> {
        self.start()?.end()
    }

    /// Starts that process.
    pub(crate) fn start(&self) -> Result<Running> {
        let process = Command::new(std::env::current_exe()?)
            .args(["load", &serde_json::to_string(self)?])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        Ok(Running(Some(process)))
    }

    /// Runs here; the process does nothing else.
    pub(crate) fn run_here(self) -> Result<Sample> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        tokio::task::LocalSet::new().block_on(&runtime, self.all())
    }

    async fn all(self) -> Result<Sample> {
        let request = format!(
            "POST {} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: {}\r\n{}content-length: {}\r\n\r\n{}",
            self.path,
            self.content_type,
            self.headers,
            self.body.len(),
            self.body
        );
        let shared = Rc::new(Shared {
            times: RefCell::new(Histogram::new_with_bounds(1, 600_000_000, 3)?),
            refused: RefCell::default(),
            without_retry_after: Cell::new(0),
            sent: Cell::new(0),
            ids: RefCell::default(),
            begun: Instant::now(),
            load: self,
            request,
        });
        let connections = (0..shared.load.connections).map(|_| tokio::task::spawn_local(connection(shared.clone())));
        for connection in connections.collect::<Vec<_>>() {
            connection.await??;
        }
        let elapsed = shared.begun.elapsed().as_secs_f64();
        if let Some(path) = &shared.load.ids {
            std::fs::write(path, shared.ids.borrow().as_slice())?;
        }
        let due = shared.load.rate.map_or(0.0, |rate| rate * shared.load.seconds);
        let times = shared.times.borrow();
        let at = |quantile: f64| times.value_at_quantile(quantile) as f64 / 1e3;
        Ok(Sample {
            answers: times.len(),
            refused: shared.refused.borrow().clone(),
            without_retry_after: shared.without_retry_after.get(),
            unsent: (due - shared.sent.get() as f64).max(0.0),
            per_second: times.len() as f64 / elapsed,
            p50: at(0.5),
            p99: at(0.99),
            p999: at(0.999),
        })
    }
}

/// A load that is under way, until this is dropped.
pub(crate) struct Running(Option<Child>);

impl Running {
    /// Whether it has ended.
    pub(crate) fn is_over(&mut self) -> Result<bool> {
        let process = self.0.as_mut().context("a process")?;
        Ok(process.try_wait()?.is_some())
    }

    /// Waits for its end.
    pub(crate) fn end(mut self) -> Result<Sample> {
        let out = self.0.take().context("a process")?.wait_with_output()?;
        if !out.status.success() {
            bail!("the load generator failed: {}", String::from_utf8_lossy(&out.stderr));
        }
        Ok(serde_json::from_slice(&out.stdout)?)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(mut process) = self.0.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

struct Shared {
    load: Load,
    request: String,
    begun: Instant,
    times: RefCell<Histogram<u64>>,
    refused: RefCell<BTreeMap<u16, u64>>,
    without_retry_after: Cell<u64>,
    /// Requests that were taken by a connection.
    sent: Cell<u64>,
    ids: RefCell<Vec<u8>>,
}

impl Shared {
    /// When the next request is due; `None` at the end.
    fn next_due(&self) -> Option<Instant> {
        let number = self.sent.get();
        let now = Instant::now();
        let due = match self.load.rate {
            None => now,
            Some(rate) => self.begun + Duration::from_secs_f64(number as f64 / rate),
        };
        let end = self.begun + Duration::from_secs_f64(self.load.seconds);
        if due >= end || now >= end {
            return None;
        }
        self.sent.set(number + 1);
        Some(due)
    }

    fn acknowledged(&self, due: Instant, body: &[u8]) -> Result<()> {
        self.times.borrow_mut().record(u64::try_from(due.elapsed().as_micros())?.max(1))?;
        if self.load.ids.is_some() {
            self.ids.borrow_mut().extend(task_id(body).context("an answer without a task_id")?);
        }
        Ok(())
    }

    fn refused(&self, status: u16, text: &[u8]) -> Result<()> {
        *self.refused.borrow_mut().entry(status).or_default() += 1;
        if value(std::str::from_utf8(text)?, "retry-after").is_none() {
            self.without_retry_after.set(self.without_retry_after.get() + 1);
        }
        Ok(())
    }
}

/// The bytes of the id in `{"task_id":"…"`.
fn task_id(body: &[u8]) -> Option<[u8; 16]> {
    let text = std::str::from_utf8(body).ok()?.strip_prefix(r#"{"task_id":""#)?;
    let digits: String = text.chars().take_while(|c| *c != '"').filter(|c| *c != '-').collect();
    u128::from_str_radix(&digits, 16).ok().map(u128::to_be_bytes)
}

async fn connection(shared: Rc<Shared>) -> Result<()> {
    let mut stream = TcpStream::connect(&shared.load.address).await?;
    stream.set_nodelay(true)?;
    let mut buffer = Vec::with_capacity(4_096);
    while let Some(due) = shared.next_due() {
        if due > Instant::now() {
            tokio::time::sleep_until(due.into()).await;
        }
        stream.write_all(shared.request.as_bytes()).await?;
        let head = answer(&mut stream, &mut buffer).await?;
        match head.status {
            200 => shared.acknowledged(due, &buffer[head.end..])?,
            429 | 503 => shared.refused(head.status, &buffer[..head.end])?,
            _ => bail!("{}", String::from_utf8_lossy(&buffer)),
        }
    }
    Ok(())
}

/// Reads one whole answer.
async fn answer(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Result<Head> {
    buffer.clear();
    loop {
        if stream.read_buf(buffer).await? == 0 {
            bail!("the host hung up");
        }
        if let Some(head) = head(buffer)?
            && buffer.len() >= head.whole
        {
            return Ok(head);
        }
    }
}

//! The load generator: keep-alive connections in a process of its own, on one thread, so that it costs little and the same whatever
//! it drives.
//!
//! Closed loop: each connection sends its next request when it has the answer to the last; this finds the capacity. Open loop:
//! requests are due at a fixed rate and their time counts from when they were due, whether a connection was free or not, so that a
//! stall is not left out of its own statistics (no coordinated omission).

use anyhow::{Context, Result, bail};
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use std::cell::{Cell, RefCell};
use std::process::{Command, Stdio};
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
    pub(crate) body: String,
    pub(crate) connections: usize,
    pub(crate) seconds: f64,
    /// Requests a second; `None`: a closed loop.
    pub(crate) rate: Option<f64>,
}

/// What came of it. Times in milliseconds.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Sample {
    pub(crate) answers: u64,
    /// Answers that were a 429 or 503.
    pub(crate) refused: u64,
    pub(crate) per_second: f64,
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
}

impl Load {
    /// Runs in a process of its own.
    pub(crate) fn run(&self) -> Result<Sample> {
        let out = Command::new(std::env::current_exe()?)
            .args(["load", &serde_json::to_string(self)?])
            .stderr(Stdio::inherit())
            .output()?;
        if !out.status.success() {
            bail!("the load generator failed");
        }
        Ok(serde_json::from_slice(&out.stdout)?)
    }

    /// Runs here; the process does nothing else.
    pub(crate) fn run_here(self) -> Result<Sample> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        tokio::task::LocalSet::new().block_on(&runtime, self.all())
    }

    async fn all(self) -> Result<Sample> {
        let request = format!(
            "POST {} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: {}\r\ncontent-length: {}\r\n\r\n{}",
            self.path,
            self.content_type,
            self.body.len(),
            self.body
        );
        let shared = Rc::new(Shared {
            times: RefCell::new(Histogram::new_with_bounds(1, 60_000_000, 3)?),
            refused: Cell::new(0),
            sent: Cell::new(0),
            begun: Instant::now(),
            load: self,
            request,
        });
        let connections = (0..shared.load.connections).map(|_| tokio::task::spawn_local(connection(shared.clone())));
        for connection in connections.collect::<Vec<_>>() {
            connection.await??;
        }
        let elapsed = shared.begun.elapsed().as_secs_f64();
        let times = shared.times.borrow();
        let at = |quantile: f64| times.value_at_quantile(quantile) as f64 / 1e3;
        Ok(Sample {
            answers: times.len(),
            refused: shared.refused.get(),
            per_second: times.len() as f64 / elapsed,
            p50: at(0.5),
            p99: at(0.99),
            p999: at(0.999),
        })
    }
}

struct Shared {
    load: Load,
    request: String,
    begun: Instant,
    times: RefCell<Histogram<u64>>,
    refused: Cell<u64>,
    /// Requests of an open loop that were taken by a connection.
    sent: Cell<u64>,
}

impl Shared {
    /// When the next request is due; `None` at the end.
    fn next_due(&self) -> Option<Instant> {
        let due = match self.load.rate {
            None => Instant::now(),
            Some(rate) => {
                let number = self.sent.replace(self.sent.get() + 1);
                self.begun + Duration::from_secs_f64(number as f64 / rate)
            }
        };
        (due.duration_since(self.begun).as_secs_f64() < self.load.seconds).then_some(due)
    }
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
        match answer(&mut stream, &mut buffer).await? {
            200 => shared.times.borrow_mut().record(u64::try_from(due.elapsed().as_micros())?.max(1))?,
            429 | 503 => shared.refused.set(shared.refused.get() + 1),
            _ => bail!("{}", String::from_utf8_lossy(&buffer)),
        }
    }
    Ok(())
}

/// Reads one whole answer; returns its status.
async fn answer(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Result<u16> {
    buffer.clear();
    loop {
        if stream.read_buf(buffer).await? == 0 {
            bail!("the host hung up");
        }
        if let Some((status, length)) = head(buffer)?
            && buffer.len() >= length
        {
            return Ok(status);
        }
    }
}

/// The status, and the length of head and body together, once the head is whole.
fn head(buffer: &[u8]) -> Result<Option<(u16, usize)>> {
    let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") else {
        return Ok(None);
    };
    let text = std::str::from_utf8(&buffer[..end])?;
    let status = text.split(' ').nth(1).and_then(|status| status.parse().ok()).context("a status")?;
    let length = text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>())
    });
    Ok(Some((status, end + 4 + length.context("an answer without a length")??)))
}

/// One request; the body of a 200.
pub(crate) fn get(address: &str, path: &str) -> Result<Vec<u8>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut stream = TcpStream::connect(address).await?;
        stream
            .write_all(format!("GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n").as_bytes())
            .await?;
        let mut buffer = Vec::new();
        match answer(&mut stream, &mut buffer).await? {
            200 => {
                let end = buffer.windows(4).position(|window| window == b"\r\n\r\n").context("a head")?;
                Ok(buffer.split_off(end + 4))
            }
            status => bail!("GET {path}: {status}"),
        }
    })
}

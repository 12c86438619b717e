//! A closed loop over keep-alive connections: each sends its next request when it has the answer to the last.

use anyhow::{Context, Result, bail};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// What to send, and how.
pub(crate) struct Load {
    pub(crate) address: String,
    pub(crate) connections: usize,
    pub(crate) span: Duration,
    pub(crate) request: String,
}

/// What came of it.
#[derive(Clone, Copy)]
pub(crate) struct Sample {
    pub(crate) answers: usize,
    pub(crate) per_second: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
}

impl Load {
    /// Runs it. Any answer but a 200 is an error: a refused submission is no throughput.
    pub(crate) fn run(&self) -> Result<Sample> {
        let begun = Instant::now();
        let times = std::thread::scope(|scope| {
            let clients: Vec<_> = (0..self.connections).map(|_| scope.spawn(|| self.client(begun))).collect();
            clients
                .into_iter()
                .map(|client| client.join().unwrap_or_else(|_| bail!("a client died")))
                .collect::<Result<Vec<_>>>()
        })?;
        let elapsed = begun.elapsed().as_secs_f64();
        let mut times: Vec<f64> = times.into_iter().flatten().collect();
        times.sort_by(f64::total_cmp);
        let at = |percent: usize| times.get(times.len() * percent / 100).copied().unwrap_or(0.0);
        Ok(Sample {
            answers: times.len(),
            per_second: times.len() as f64 / elapsed,
            p50_ms: at(50),
            p99_ms: at(99),
        })
    }

    fn client(&self, begun: Instant) -> Result<Vec<f64>> {
        let mut stream = TcpStream::connect(&self.address)?;
        stream.set_nodelay(true)?;
        let mut times = Vec::new();
        let mut buffer = Vec::with_capacity(4_096);
        while begun.elapsed() < self.span {
            let asked = Instant::now();
            stream.write_all(self.request.as_bytes())?;
            let head = answer(&mut stream, &mut buffer)?;
            if !head.starts_with("HTTP/1.1 200") {
                bail!("{}", String::from_utf8_lossy(&buffer));
            }
            times.push(asked.elapsed().as_secs_f64() * 1e3);
        }
        Ok(times)
    }
}

/// Reads one whole answer; returns its head.
fn answer(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Result<String> {
    buffer.clear();
    let mut piece = [0; 4_096];
    loop {
        let read = stream.read(&mut piece)?;
        if read == 0 {
            bail!("the host hung up");
        }
        buffer.extend_from_slice(&piece[..read]);
        let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") else {
            continue;
        };
        let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
        let length = head.lines().find_map(|line| {
            line.to_ascii_lowercase()
                .strip_prefix("content-length:")
                .map(|n| n.trim().to_owned())
        });
        let length: usize = length.context("an answer without a length")?.parse()?;
        if buffer.len() >= end + 4 + length {
            return Ok(head);
        }
    }
}

/// One request, the whole answer as text.
pub(crate) fn get(address: &str, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n").as_bytes())?;
    let mut buffer = Vec::new();
    answer(&mut stream, &mut buffer)?;
    Ok(String::from_utf8_lossy(&buffer).into_owned())
}

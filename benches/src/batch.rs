//! Batches of tasks dated ahead: how many a second are acknowledged, and what that takes of memory.

use crate::host::Host;
use crate::table::{Runs, alone};
use crate::{AHEAD, Bench, submission};
use anyhow::{Context, Result, bail};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Instant;

/// One upload of a hundred thousand lines and one of a million, each to a host of its own.
pub(crate) fn run(Bench { built, .. }: &Bench) -> Result<()> {
    for lines in [100_000, 1_000_000] {
        let mut resident = Vec::new();
        let per_second = Runs::of(|_| {
            let host = Host::start(built, &[])?;
            let begun = Instant::now();
            upload(&host, lines)?;
            let taken = begun.elapsed().as_secs_f64();
            resident.push(host.rss()?);
            Ok(lines as f64 / taken)
        })?;
        alone(&format!("batch of {lines}, acknowledged per s"), 1, 0, &per_second);
        alone(&format!("batch of {lines}, resident after, MiB"), 1, 0, &Runs::sorted(resident));
    }
    Ok(())
}

/// Sends so many submissions and returns with the acknowledgement of all.
fn upload(host: &Host, lines: usize) -> Result<()> {
    const TOGETHER: usize = 500;
    let line = submission(AHEAD) + "\n";
    let mut stream = TcpStream::connect(&host.address)?;
    let head = format!(
        "POST /api/v1/scheduler/tasks/batch HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/x-ndjson\r\ncontent-length: {}\r\n\r\n",
        line.len() * lines
    );
    stream.write_all(head.as_bytes())?;
    let piece = line.repeat(TOGETHER);
    for _ in 0..lines / TOGETHER {
        stream.write_all(piece.as_bytes())?;
    }
    let mut answer = [0; 1_024];
    let read = stream.read(&mut answer)?;
    let answer = std::str::from_utf8(&answer[..read]).context("text")?;
    if !answer.starts_with("HTTP/1.1 200") {
        bail!("{answer}");
    }
    Ok(())
}

//! Three times what it can do, for a minute: whether memory stays flat, work goes on, and what was acknowledged is done once.

use crate::Bench;
use crate::host::Host;
use crate::load::{Load, Sample};
use crate::table::{Runs, alone, row, told};
use anyhow::Result;
use rusqlite::{Connection, OpenFlags};
use std::path::Path;
use std::time::{Duration, Instant};

const CONNECTIONS: usize = 1_000;
/// Runs of a usual length that the load lasts: a minute where they take four seconds.
const LENGTH: f64 = 15.0;

/// Capacity in a closed loop of 32 connections; then three times that, due at its rate whether or not a connection is free.
pub(crate) fn run(bench: &Bench) -> Result<()> {
    let capacity = Host::start(&bench.built, &[])?.live(32, bench.seconds)?.per_second;
    let host = Host::start(&bench.built, &[])?;
    let files = tempfile::tempdir()?;
    let load = Load {
        rate: Some(3.0 * capacity),
        ids: Some(files.path().join("ids")),
        ..host.load("", CONNECTIONS, bench.seconds * LENGTH)
    };
    let begun = Instant::now();
    let mut running = load.start()?;
    let mut resident = vec![host.rss()?];
    while !running.is_over()? {
        std::thread::sleep(Duration::from_secs(1));
        resident.push(host.rss()?);
    }
    let settled = host.metrics("noop")?.0;
    let goodput = settled as f64 / begun.elapsed().as_secs_f64();
    let sample = running.end()?;
    let (left, begun) = (sample.answers.saturating_sub(settled), Instant::now());
    host.settled("noop", sample.answers)?;
    let drained = begun.elapsed().as_secs_f64();
    tell(&sample, capacity, goodput, load.seconds);
    alone("left to do at the end", CONNECTIONS, 0, &Runs::one(left as f64));
    alone("done with that after, s", CONNECTIONS, 1, &Runs::one(drained));
    let third = resident.len().div_ceil(3);
    let part = |from: usize| Runs::sorted(resident[from..(from + third).min(resident.len())].to_vec());
    row("resident, MiB", CONNECTIONS, 0, &part(resident.len() - third), &part(0));
    let folder = host.kill()?;
    told(
        "acknowledged, and settled once as success",
        &once(&files.path().join("ids"), &crate::host::database(folder.path()))?,
    );
    Ok(())
}

fn tell(sample: &Sample, capacity: f64, goodput: f64, seconds: f64) {
    let one = Runs::one;
    let refusals: u64 = sample.refused.values().sum();
    row(
        "offered, per s",
        CONNECTIONS,
        0,
        &one((sample.answers + refusals) as f64 / seconds),
        &one(capacity),
    );
    row("acknowledged, per s", CONNECTIONS, 0, &one(sample.per_second), &one(capacity));
    row("settled, per s", CONNECTIONS, 0, &one(goodput), &one(capacity));
    alone(
        "due and never sent, since no connection was free",
        CONNECTIONS,
        0,
        &one(sample.unsent),
    );
    let mut statuses: Vec<String> = sample.refused.iter().map(|(status, count)| format!("{count} × {status}")).collect();
    statuses.push(format!("{} without Retry-After", sample.without_retry_after));
    told("refused", &statuses.join(", "));
    alone("answer p50 since it was due, ms", CONNECTIONS, 0, &one(sample.p50));
    alone("answer p99 since it was due, ms", CONNECTIONS, 0, &one(sample.p99));
}

/// Holds the acknowledged ids against the history.
fn once(ids: &Path, database: &Path) -> Result<String> {
    let bytes = std::fs::read(ids)?;
    let mut acknowledged: Vec<&[u8]> = bytes.chunks(16).collect();
    acknowledged.sort_unstable();
    let db = Connection::open_with_flags(database, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    let mut query = db.prepare("SELECT id FROM history WHERE status = 2 AND attempt = 1 ORDER BY id")?;
    let settled: Vec<[u8; 16]> = query.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
    let others: u64 = db.query_row(
        "SELECT (SELECT COUNT(*) FROM history WHERE status <> 2 OR attempt <> 1) + (SELECT COUNT(*) FROM task)",
        [],
        |row| row.get::<_, i64>(0).map(i64::unsigned_abs),
    )?;
    let are_equal = acknowledged.iter().copied().eq(settled.iter().map(|id| id.as_slice()));
    Ok(format!(
        "{}, {}: {} (others: {others})",
        acknowledged.len(),
        settled.len(),
        if are_equal { "the same" } else { "NOT THE SAME" }
    ))
}

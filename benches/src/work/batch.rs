//! A batch on a host of its own: submitted at once, waited for, and told from what the store kept of each task.

use crate::Bench;
use crate::host::{BASE, Host, database, fresh};
use anyhow::{Context, Result, bail};
use rusqlite::{Connection, OpenFlags};
use serde_json::Value;
use std::path::Path;
use std::time::{Duration, Instant};
use taskhost::clock::Clock;

/// Between two looks at how far a batch is: rare enough to cost nothing, since its end is told by its tasks.
const LOOK: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(900);

/// A task that ended. Times in milliseconds since its batch was sent.
pub(super) struct Record {
    pub(super) name: String,
    pub(super) payload: String,
    pub(super) priority: u8,
    pub(super) submitted: f64,
    pub(super) started: f64,
    pub(super) ended: f64,
    pub(super) succeeded: bool,
    /// Whether its last attempt ran out of time.
    pub(super) timed_out: bool,
    /// How often it was begun.
    pub(super) attempts: u32,
}

/// What came of a batch.
pub(super) struct Ran {
    pub(super) records: Vec<Record>,
    /// From its first byte to its last settlement.
    pub(super) seconds: f64,
    /// Seconds of the processors that the host took meanwhile.
    pub(super) processor: f64,
    /// The share of the cores that neither the host nor this took.
    pub(super) other: f64,
}

/// A host whose guest may read the samples.
pub(super) fn working_host(bench: &Bench) -> Result<Host> {
    let folder = fresh(&bench.built)?;
    let samples = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .context("the project")?
        .join("samples");
    let manifest = format!("[capabilities]\nfs = [{{ host = {samples:?}, guest = \"/samples\", mode = \"ro\" }}]\n");
    std::fs::write(folder.path().join("plugins/noop.toml"), manifest)?;
    Host::start_in(&bench.built, folder, &[])
}

/// Sends a batch; returns its id.
pub(super) fn send(host: &Host, lines: &str) -> Result<String> {
    let answer = host.client()?.ask_lines(&format!("POST {BASE}/tasks/batch"), lines)?;
    let accepted: Value = serde_json::from_slice(&answer.body)?;
    Ok(accepted["batch_id"].as_str().context("a batch_id")?.to_owned())
}

/// Runs a batch to its end on a fresh host.
pub(super) fn run(bench: &Bench, lines: &[String]) -> Result<Ran> {
    let host = working_host(bench)?;
    let (machine, own, processor) = (machine_time()?, own_time()?, host.processor_time()?);
    let (sent, begun) = (Clock::System.now().timestamp_micros(), Instant::now());
    let batch = send(&host, &lines.concat())?;
    loop {
        std::thread::sleep(LOOK);
        let record = host.get(&format!("/batch/{batch}"))?;
        if record["completed_at"].is_string() {
            break;
        }
        if begun.elapsed() > LONGEST {
            bail!("after a quarter of an hour: {record}");
        }
    }
    let elapsed = begun.elapsed().as_secs_f64();
    let processor = (host.processor_time()? - processor).as_secs_f64();
    let others = machine_time()? - machine - processor - (own_time()? - own);
    let records = records(&database(host.kill()?.path()), sent)?;
    Ok(Ran {
        seconds: records.iter().map(|record| record.ended).fold(0.0, f64::max) / 1e3,
        records,
        processor,
        other: (others / elapsed / super::cores() as f64).max(0.0),
    })
}

/// All that ended, from the store of a host that is no more. `sent`: microseconds of the epoch.
pub(super) fn records(database: &Path, sent: i64) -> Result<Vec<Record>> {
    let db = Connection::open_with_flags(database, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    let mut query = db.prepare(
        "SELECT name, payload, priority, submitted_at - ?1, COALESCE(started_at, completed_at) - ?1, completed_at - ?1, status = 2,
                COALESCE(outcome, '') = 'timeout', attempt
         FROM history",
    )?;
    let records = query.query_map([sent], |row| {
        let ms = |column| row.get::<_, i64>(column).map(|micros| micros as f64 / 1e3);
        Ok(Record {
            name: row.get(0)?,
            payload: row.get(1)?,
            priority: row.get(2)?,
            submitted: ms(3)?,
            started: ms(4)?,
            ended: ms(5)?,
            succeeded: row.get(6)?,
            timed_out: row.get(7)?,
            attempts: row.get(8)?,
        })
    })?;
    Ok(records.collect::<Result<_, _>>()?)
}

/// Seconds of the processors that all of the machine's work took so far.
fn machine_time() -> Result<f64> {
    let stat = std::fs::read_to_string("/proc/stat")?;
    let ticks: f64 = stat
        .split_whitespace()
        .skip(1)
        .take(3)
        .filter_map(|ticks| ticks.parse::<f64>().ok())
        .sum();
    Ok(ticks / rustix::param::clock_ticks_per_second() as f64)
}

/// Seconds of them that this process took.
fn own_time() -> Result<f64> {
    crate::host::processor_time("self").map(|time| time.as_secs_f64())
}

//! A plugin is exchanged under full load: how soon the new version runs, and who notices.

use crate::Bench;
use crate::host::Host;
use crate::table::{RUNS, Runs, alone, row, told};
use anyhow::{Context, Result};
use rusqlite::{Connection, OpenFlags};
use std::path::Path;
use std::time::Duration;
use taskhost::clock::Clock;

const CONNECTIONS: usize = 32;

/// Without an exchange; with a version that nobody has compiled yet; and with one that was compiled before. Three turns on one host.
pub(crate) fn run(bench: &Bench) -> Result<()> {
    let host = Host::start(&bench.built, &[])?;
    let component = std::fs::read(&bench.built.guest)?;
    let mut answers = [(); 3].map(|()| Vec::new());
    let mut first = [(); 2].map(|()| Vec::new());
    for turn in 0..RUNS {
        answers[0].push(loaded(bench, &host, None)?.0);
        // The version that the turn before has ended with is the component as it is.
        for (place, version) in [version(&component, turn)?, component.clone()].iter().enumerate() {
            let (p999, after) = loaded(bench, &host, Some(version))?;
            answers[place + 1].push(p999);
            first[place].push(after.context("the new version never ran")?);
        }
    }
    let [without, new, known] = answers.map(Runs::sorted);
    let [new_first, known_first] = first.map(Runs::sorted);
    alone("new version: from its copy to its first task, ms", CONNECTIONS, 0, &new_first);
    alone("compiled before: from its copy to its first task, ms", CONNECTIONS, 0, &known_first);
    row("new version: answer p99.9, ms", CONNECTIONS, 2, &new, &without);
    row("compiled before: answer p99.9, ms", CONNECTIONS, 2, &known, &without);
    let failed = host.pages("/tasks/history?status=failed", usize::MAX)?.len();
    let (count, rate) = host.metrics("noop")?;
    told(
        "tasks, failed ones, share of attempts that failed",
        &format!("{count}, {failed}, {rate}"),
    );
    Ok(())
}

/// The component with a section that means nothing, so that it is another one.
fn version(component: &[u8], number: usize) -> Result<Vec<u8>> {
    let name = format!("version-{number}");
    let length = u8::try_from(name.len())?;
    let section = [&[0, length + 1, length], name.as_bytes()].concat();
    Ok([component, &section].concat())
}

/// The p99.9 of the answers of one run, and the milliseconds from the copy of a version to its first task.
fn loaded(bench: &Bench, host: &Host, version: Option<&Vec<u8>>) -> Result<(f64, Option<f64>)> {
    let before = host.metrics("noop")?.0;
    let running = host.load("", CONNECTIONS, bench.seconds).start()?;
    std::thread::sleep(Duration::from_secs_f64(bench.seconds / 4.0));
    let copied = Clock::System.now().timestamp_micros();
    if let Some(version) = version {
        let temporary = host.plugins().join(".noop.new");
        std::fs::write(&temporary, version)?;
        std::fs::rename(temporary, host.plugins().join("noop.wasm"))?;
    }
    let sample = running.end()?;
    host.settled("noop", before + sample.answers)?;
    let ran = version.map(|_| first_on_another(&host.database(), copied)).transpose()?.flatten();
    Ok((sample.p999, ran.map(|ran| (ran - copied) as f64 / 1e3)))
}

/// When the first task began on another version than what ran before `copied`.
fn first_on_another(database: &Path, copied: i64) -> Result<Option<i64>> {
    let db = Connection::open_with_flags(database, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    Ok(db.query_row(
        "SELECT MIN(attempt_started_at) FROM history WHERE attempt_started_at >= ?1 AND plugin_digest <>
           (SELECT plugin_digest FROM history WHERE attempt_started_at < ?1 ORDER BY seq DESC LIMIT 1)",
        [copied],
        |row| row.get(0),
    )?)
}

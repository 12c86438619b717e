//! What a task costs that runs and does nothing: guests that sleep, all at once.

use crate::Bench;
use crate::host::Host;
use crate::table::{Runs, alone, told};
use anyhow::Result;
use std::time::{Duration, Instant};

const COUNTS: [u32; 2] = [1_000, 10_000];
/// How long each sleeps: longer than all of them take to be submitted.
const SECONDS: u64 = 60;

/// Memory for each task, once a thousand and once ten thousand of them run.
pub(crate) fn run(bench: &Bench) -> Result<()> {
    for count in COUNTS {
        parked(bench, count)?;
    }
    Ok(())
}

fn parked(bench: &Bench, count: u32) -> Result<()> {
    let slots = count.to_string();
    let variables = [
        ("TASKHOST_WORKER_SLOTS", slots.as_str()),
        ("TASKHOST_WORKER_MEMORY_BUDGET", "32GiB"),
    ];
    let host = Host::start(&bench.built, &variables)?;
    let idle = host.rss()?;
    let begun = Instant::now();
    let mut client = host.client()?;
    for _ in 0..count {
        crate::host::submit(&mut client, "sleep", &format!(r#"{{"ms":{}}}"#, SECONDS * 1_000))?;
    }
    let mut running = 0;
    while running < count as usize && begun.elapsed() < Duration::from_secs(SECONDS) {
        std::thread::sleep(Duration::from_millis(200));
        running = running.max(host.pages("/tasks/running", usize::MAX)?.len());
    }
    let (with, tables, mappings) = (host.rss()?, host.page_tables()?, host.mappings()?);
    host.settled("sleep", u64::from(count))?;
    let ended = host.pages("/tasks/history?task_name=sleep&status=success&limit=1000", usize::MAX)?;
    let errors = host.log()?.lines().filter(|line| line.contains("ERROR")).count();
    let name = |figure: &str| format!("{count} parked: {figure}");
    told(
        &name("running at once, ended well"),
        &format!("{running}, {} (errors in the log: {errors})", ended.len()),
    );
    let per_task = (with - idle) / f64::from(count);
    alone(&name("resident in all, MiB"), 0, 0, &Runs::one(with));
    alone(&name("resident for each, MiB"), 0, 3, &Runs::one(per_task));
    alone(&name("page tables, MiB"), 0, 0, &Runs::one(tables));
    told(&name("mappings"), &mappings.to_string());
    Ok(())
}

//! The plain cases: what one host does with no-ops.

use crate::host::Host;
use crate::load::Sample;
use crate::table::{RUNS, Runs, alone, beside, row, samples};
use crate::{AHEAD, Bench, attempt, floor};
use anyhow::{Context, Result};
use chrono::TimeDelta;
use std::time::Instant;
use taskhost::clock::Clock;

const CONNECTIONS: [usize; 3] = [1, 32, 256];
/// Tasks of a backlog.
const BACKLOG: u64 = 100_000;
/// Seconds in which a backlog is submitted, before any of it is due.
const FILLING: i64 = 20;

/// Runs ours and the floor's turn by turn, so that a slow minute of the machine hits both.
fn side_by_side(ours: impl Fn() -> Result<Sample>, floor: impl Fn() -> Result<Sample>) -> Result<[Vec<Sample>; 2]> {
    let mut found = [Vec::new(), Vec::new()];
    for _ in 0..RUNS {
        found[0].push(ours()?);
        found[1].push(floor()?);
    }
    Ok(found)
}

/// What HTTP alone costs here.
pub(crate) fn echo(Bench { built, seconds, .. }: &Bench) -> Result<()> {
    for connections in CONNECTIONS {
        let floor = Runs::of(|_| Ok(floor::served(&built.guest, floor::Mode::Echo, connections, *seconds)?.per_second))?;
        beside("echo, per s", connections, 0, &floor);
    }
    Ok(())
}

/// The sandbox alone: store, instance, call, drop.
pub(crate) fn attempt(Bench { built, .. }: &Bench) -> Result<()> {
    const TIMES: u32 = 100_000;
    let ours = Runs::of(|_| attempt::micros(&built.guest, TIMES))?;
    let floor = Runs::of(|_| floor::attempt(&built.guest, TIMES))?;
    row("one attempt, µs", 0, 1, &ours, &floor);
    Ok(())
}

/// Acknowledged submissions of tasks dated ahead, so that nothing runs.
pub(crate) fn submit(Bench { built, seconds, .. }: &Bench) -> Result<()> {
    for connections in CONNECTIONS {
        let ours = || Host::start(built, &[])?.load(AHEAD, connections, *seconds).run();
        let floor = || floor::served(&built.guest, floor::Mode::Commit, connections, *seconds);
        samples("submit", connections, &side_by_side(ours, floor)?);
    }
    Ok(())
}

/// Tasks from submit to durable done: the clock stops when the last one is settled.
pub(crate) fn live(Bench { built, seconds, .. }: &Bench) -> Result<()> {
    for connections in CONNECTIONS {
        let ours = || Host::start(built, &[])?.live(connections, *seconds);
        let floor = || floor::served(&built.guest, floor::Mode::Live, connections, *seconds);
        samples("live", connections, &side_by_side(ours, floor)?);
    }
    Ok(())
}

/// A stored backlog, from the moment when it is due.
pub(crate) fn drain(Bench { built, .. }: &Bench) -> Result<()> {
    let ours = Runs::of(|_| drained(&Host::start(built, &[])?))?;
    let floor = Runs::of(|_| floor::drain(&built.guest, BACKLOG))?;
    row("drain, per s", 0, 0, &ours, &floor);
    Ok(())
}

/// Tasks a second of a backlog that is filled for this.
pub(crate) fn drained(host: &Host) -> Result<f64> {
    let before = host.metrics("noop")?.0;
    let due = Clock::System.now() + TimeDelta::seconds(FILLING);
    let members = format!(r#","trigger_time":"{}""#, due.to_rfc3339());
    let mut filled = 0;
    while filled < BACKLOG {
        filled += host.load(&members, 64, 1.0).run()?.answers;
    }
    let early = (due - Clock::System.now())
        .to_std()
        .context("the backlog was due before it was whole")?;
    std::thread::sleep(early);
    let begun = Instant::now();
    host.settled("noop", before + filled)?;
    Ok(filled as f64 / begun.elapsed().as_secs_f64())
}

/// Resident memory, and how long a start takes.
pub(crate) fn memory(Bench { built, .. }: &Bench) -> Result<()> {
    let ready = |host: &Host| Runs::one(host.ready_after.as_secs_f64() * 1e3);
    let host = Host::start(built, &[])?;
    alone("start to ready, compiling, ms", 0, 0, &ready(&host));
    alone("resident, idle, MiB", 0, 0, &Runs::one(host.rss()?));
    host.load("", 32, 3.0).run()?;
    alone("resident, after 3 s of load, MiB", 32, 0, &Runs::one(host.rss()?));
    let host = Host::start_in(built, host.kill()?, &[])?;
    alone("start to ready after a kill, ms", 0, 0, &ready(&host));
    alone("resident, after that, MiB", 0, 0, &Runs::one(host.rss()?));
    Ok(())
}

//! Handlers that burn CPU beside others: what is left to each, and whether the host still answers.

use crate::Bench;
use crate::host::{BASE, Host, submit};
use crate::load::Load;
use crate::table::{RUNS, Runs, row};
use anyhow::Result;
use std::time::{Duration, Instant};

/// Connections that wait for the end of what they have submitted, so that as many burn CPU.
const BURNING: usize = 2;
/// Thousands of turns of one of them: some milliseconds.
const TURNS: u32 = 5_000;
const LOOPS: usize = 50;
const REQUESTS: usize = 500;

/// Guests that burn CPU alone and beside no-ops at a third of the capacity; then the host's own answers beside fifty endless loops.
pub(crate) fn run(bench: &Bench) -> Result<()> {
    let mut rates = [Vec::new(), Vec::new()];
    let mut answers = [Vec::new(), Vec::new()];
    for _ in 0..RUNS {
        let host = Host::start(&bench.built, &[])?;
        let capacity = host.live(32, bench.seconds)?.per_second;
        let noops = Load {
            rate: Some(capacity / 3.0),
            ..host.load("", 32, bench.seconds)
        };
        rates[1].push(burning(&host, bench.seconds).run()?.per_second);
        answers[1].push(noops.run()?.p99);
        let running = noops.start()?;
        rates[0].push(burning(&host, bench.seconds).run()?.per_second);
        answers[0].push(running.end()?.p99);
    }
    let ([beside, alone], [noops_beside, noops_alone]) = (rates.map(Runs::sorted), answers.map(Runs::sorted));
    row(
        "CPU-bound tasks beside no-ops at a third of capacity, per s",
        BURNING,
        0,
        &beside,
        &alone,
    );
    row("those no-ops, answer p99, ms", 32, 2, &noops_beside, &noops_alone);
    loops(bench)
}

fn burning(host: &Host, seconds: f64) -> Load {
    Load {
        headers: "prefer: wait=60\r\n".to_owned(),
        body: format!(r#"{{"task_name":"spin","payload":{{"thousands":{TURNS}}}}}"#),
        ..host.load("", BURNING, seconds)
    }
}

fn loops(bench: &Bench) -> Result<()> {
    let host = Host::start(&bench.built, &[])?;
    let idle = health(&host)?;
    let mut client = host.client()?;
    let ids = (0..LOOPS)
        .map(|_| submit(&mut client, "spin", "{}"))
        .collect::<Result<Vec<String>>>()?;
    while host.pages("/tasks/running", LOOPS)?.len() < LOOPS {
        std::thread::sleep(Duration::from_millis(10));
    }
    let looped = health(&host)?;
    for id in ids {
        client.ask(&format!("DELETE {BASE}/task/cancel/{id}"), "", "")?;
    }
    for (per_mille, name) in [(500, "p50"), (990, "p99"), (999, "worst")] {
        let [looped, idle] = [&looped, &idle].map(|times| Runs::one(times.at(per_mille)));
        row(&format!("/healthz beside {LOOPS} endless loops, {name}, ms"), 1, 2, &looped, &idle);
    }
    Ok(())
}

/// Milliseconds of answers, a hundred requests a second.
pub(crate) fn health(host: &Host) -> Result<Runs> {
    let mut client = host.client()?;
    let mut times = Vec::with_capacity(REQUESTS);
    for _ in 0..REQUESTS {
        let begun = Instant::now();
        client.get("/healthz")?;
        times.push(begun.elapsed().as_secs_f64() * 1e3);
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(Runs::sorted(times))
}

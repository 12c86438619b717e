//! From submit to the guest's start and to durable done, on an idle host and under load: from the tasks' own records.

use crate::host::Host;
use crate::load::Load;
use crate::table::{PERCENTILES, RUNS, Runs, alone, row};
use crate::{Bench, floor};
use anyhow::Result;

/// Tasks of one run on an idle host, fifty a second.
const TASKS: usize = 300;
/// Tasks that are looked at under load: the last ones.
const SAMPLED: usize = 2_000;
const CONNECTIONS: usize = 32;

/// Idle beside the floor; then at 30 % and at 80 % of what a closed loop of 32 connections comes to on the same host.
pub(crate) fn run(bench: &Bench) -> Result<()> {
    idle(bench)?;
    let mut found = [30, 80].map(|percent| (percent, Vec::new()));
    let mut capacities = Vec::new();
    for _ in 0..RUNS {
        let host = Host::start(&bench.built, &[])?;
        let capacity = host.live(CONNECTIONS, bench.seconds)?.per_second;
        capacities.push(capacity);
        for (percent, waits) in &mut found {
            let load = Load {
                rate: Some(capacity * f64::from(*percent) / 100.0),
                ..host.load("", CONNECTIONS, bench.seconds)
            };
            waits.push(waits_of(&host, &load, SAMPLED)?);
        }
    }
    alone("capacity, per s", CONNECTIONS, 0, &Runs::sorted(capacities));
    for (percent, waits) in found {
        for (place, event) in ["start", "settlement"].into_iter().enumerate() {
            for (per_mille, name) in PERCENTILES {
                let runs = Runs::sorted(waits.iter().map(|waits| waits[place].at(per_mille)).collect());
                alone(&format!("at {percent} %, submit to {event}, {name}, ms"), CONNECTIONS, 2, &runs);
            }
        }
    }
    Ok(())
}

/// The waits of the last tasks of a load, once all of it is settled.
fn waits_of(host: &Host, load: &Load, tasks: usize) -> Result<[Runs; 2]> {
    let before = host.metrics("noop")?.0;
    host.settled("noop", before + load.run()?.answers)?;
    host.waits(tasks)
}

/// Fifty tasks a second; the waits for their start and for their settlement.
pub(crate) fn steady_waits(host: &Host) -> Result<[Runs; 2]> {
    let load = Load {
        rate: Some(50.0),
        ..host.load("", 1, TASKS as f64 / 50.0)
    };
    waits_of(host, &load, TASKS)
}

fn idle(bench: &Bench) -> Result<()> {
    let (mut ours, mut floors) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        ours.push(steady_waits(&Host::start(&bench.built, &[])?)?);
        floors.push(Runs::sorted(floor::latency(&bench.built.guest, TASKS)?));
    }
    for (per_mille, name) in PERCENTILES {
        let floor = Runs::sorted(floors.iter().map(|waits| waits.at(per_mille)).collect());
        for (place, event) in ["start", "settlement"].into_iter().enumerate() {
            let runs = Runs::sorted(ours.iter().map(|waits| waits[place].at(per_mille)).collect());
            row(&format!("idle, submit to {event}, {name}, ms"), 1, 2, &runs, &floor);
        }
    }
    Ok(())
}

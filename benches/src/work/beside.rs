//! What is quick, beside what burns: no-ops, the host's own answers, and what is urgent among burners.

use super::batch::{records, send, working_host};
use super::mix::{Burn, HUNDRED, burns, lines};
use crate::Bench;
use crate::host::{BASE, Host, database};
use crate::latency::steady_waits;
use crate::load::Load;
use crate::neighbour::health;
use crate::table::{PERCENTILES, RUNS, Runs, row};
use anyhow::{Result, ensure};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Burners in flight: many for each core, and fewer than slots, so that what they leave is a matter of the cores alone.
const IN_FLIGHT: usize = 32;
const BURN: f64 = 50.0;
/// The share of the cores that the mix needs which comes in beside the no-ops, some tasks at a time.
const MIX: f64 = 0.6;
const TOGETHER: usize = 10;
/// How long urgent tasks are measured, how long a pause is between two, and what waits beside them: seconds of the cores.
const URGENT: Duration = Duration::from_secs(8);
const PAUSE: Duration = Duration::from_millis(100);
const BACKLOG: f64 = 30.0;

/// Rows of all of these.
pub(super) fn run(bench: &Bench, burn: &Burn) -> Result<()> {
    let [mut waits, mut beside_burners, mut beside_mix] = [const { Vec::new() }; 3];
    let (mut rates, mut answers) = ([const { Vec::new() }; 2], [const { Vec::new() }; 2]);
    let mut urgent = [const { Vec::new() }; 2];
    for _ in 0..RUNS {
        {
            let host = working_host(bench)?;
            waits.push(steady_waits(&host)?);
            answers[1].push(health(&host)?.at(990));
            rates[1].push(host.live(32, bench.seconds)?.per_second);
            let mut burning = burners(&host, burn).start()?;
            std::thread::sleep(Duration::from_secs(1));
            beside_burners.push(steady_waits(&host)?);
            answers[0].push(health(&host)?.at(990));
            rates[0].push(host.live(32, bench.seconds)?.per_second);
            ensure!(!burning.is_over()?, "the burners ended before what was measured beside them");
        }
        beside_mix.push(while_the_mix_comes(&working_host(bench)?, burn)?);
        for (place, backlog) in [BACKLOG, 0.0].into_iter().enumerate() {
            urgent[place].push(urgent_ones(bench, burn, backlog)?);
        }
    }
    for (name, connections, beside) in [
        (format!("{IN_FLIGHT} burners"), IN_FLIGHT, &beside_burners),
        (format!("the mix at {:.0} % of the cores", MIX * 100.0), TOGETHER, &beside_mix),
    ] {
        rows(&format!("no-ops beside {name}"), connections, beside, &waits);
    }
    rows(&format!("urgent burners of {BURN:.0} ms among others"), 1, &urgent[0], &urgent[1]);
    let ([beside, alone_], [looped, idle]) = (rates.map(Runs::sorted), answers.map(Runs::sorted));
    row(
        &format!("no-ops beside {IN_FLIGHT} burners, closed loop, per s"),
        32,
        0,
        &beside,
        &alone_,
    );
    row(&format!("/healthz beside {IN_FLIGHT} burners, p99, ms"), 1, 2, &looped, &idle);
    Ok(())
}

/// The waits of some runs for the start and for the settlement, beside the same alone.
fn rows(case: &str, connections: usize, beside: &[[Runs; 2]], idle: &[[Runs; 2]]) {
    for (place, event) in ["start", "settlement"].into_iter().enumerate() {
        for (per_mille, name) in PERCENTILES {
            let [beside, idle] = [beside, idle].map(|runs| Runs::sorted(runs.iter().map(|waits| waits[place].at(per_mille)).collect()));
            row(&format!("{case}, submit to {event}, {name}, ms"), connections, 2, &beside, &idle);
        }
    }
}

/// As many burners as are in flight, until this is dropped.
fn burners(host: &Host, burn: &Burn) -> Load {
    const FOR_EVER: f64 = 3_600.0;
    Load {
        headers: "prefer: wait=60\r\n".to_owned(),
        body: burn.line(BURN, ""),
        ..host.load("", IN_FLIGHT, FOR_EVER)
    }
}

/// The waits of no-ops while some of the mix comes in now and then.
fn while_the_mix_comes(host: &Host, burn: &Burn) -> Result<[Runs; 2]> {
    let lines = lines(HUNDRED, Some(burn));
    let every = Duration::from_secs_f64(burns(TOGETHER) / 1e3 / super::cores() as f64 / MIX);
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let feed = scope.spawn(|| -> Result<()> {
            let mut due = Instant::now();
            for some in lines.chunks(TOGETHER).cycle() {
                if is_over.load(Ordering::Relaxed) {
                    break;
                }
                send(host, &some.concat())?;
                due += every;
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
            }
            Ok(())
        });
        std::thread::sleep(Duration::from_secs(1));
        let waits = steady_waits(host);
        is_over.store(true, Ordering::Relaxed);
        feed.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        waits
    })
}

/// The waits of urgent burners that come one after the other while so many seconds of others wait.
fn urgent_ones(bench: &Bench, burn: &Burn, backlog: f64) -> Result<[Runs; 2]> {
    const PRIORITY: u8 = 1;
    let host = working_host(bench)?;
    if backlog > 0.0 {
        let tasks = super::whole(backlog * super::cores() as f64 * 1e3 / BURN);
        send(&host, &burn.line(BURN, "").repeat(tasks))?;
        std::thread::sleep(Duration::from_secs(1));
    }
    let mut client = host.client()?;
    let body = burn.line(BURN, &format!(r#","priority":{PRIORITY}"#));
    let begun = Instant::now();
    while begun.elapsed() < URGENT {
        client.ask(&format!("POST {BASE}/task/submit"), "prefer: wait=60\r\n", &body)?;
        std::thread::sleep(PAUSE);
    }
    let records = records(&database(host.kill()?.path()), 0)?;
    let urgent = || records.iter().filter(|record| record.priority == PRIORITY);
    Ok([
        Runs::sorted(urgent().map(|record| record.started - record.submitted).collect()),
        Runs::sorted(urgent().map(|record| record.ended - record.submitted).collect()),
    ])
}

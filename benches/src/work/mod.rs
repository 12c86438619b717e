//! Tasks that do something: a mix of them at once, burners alone, burners that take long, and what is quick beside all of these.
//!
//! The ideal that they are held against is cores that do nothing but the tasks' own work.

mod batch;
mod beside;
mod mix;

use crate::Bench;
use crate::table::{RUNS, Runs, alone, row, told};
use anyhow::{Context, Result, bail};
use batch::{Ran, Record, run as run_batch};
use mix::{Burn, HUNDRED, KINDS};
use serde::Serialize;
use std::collections::BTreeMap;

/// Hundreds of tasks of the mix for each second of a usual run.
const HUNDREDS: f64 = 5.0;
/// Tasks that only burn for each second of a usual run, and milliseconds of each: two hundred are more than all slots.
const BURNERS: f64 = 50.0;
const BURN: f64 = 250.0;
/// Tasks that burn for long; milliseconds of each for each second of a usual run; and the multiple of their time that they may take.
const LONG: usize = 100;
const LONG_BURN: f64 = 125.0;
const PATIENCE: f64 = 3.0;

/// All parts.
pub(crate) fn run(bench: &Bench) -> Result<()> {
    let burn = Burn::calibrate(bench)?;
    mix(bench, &burn)?;
    burners(bench, &burn)?;
    long(bench, &burn)?;
    beside::run(bench, &burn)
}

/// For who runs the same on peers: `lines N` prints a batch of N tasks, `run N` runs it here once and prints its figures as JSON.
pub(crate) fn for_peers(mut arguments: impl Iterator<Item = String>) -> Result<()> {
    let what = arguments.next().context("lines or run")?;
    let tasks: usize = arguments.next().context("how many tasks")?.parse()?;
    match what.as_str() {
        "lines" => print!("{}", mix::lines(tasks, None).concat()),
        "run" => {
            let bench = Bench::new(1.0, 1.0)?;
            let lines = mix::lines(tasks, Some(&Burn::calibrate(&bench)?));
            println!("{}", serde_json::to_string(&Figures::of(&run_batch(&bench, &lines)?))?);
        }
        other => bail!("lines or run, and not {other}"),
    }
    Ok(())
}

pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// A count, rounded up.
#[expect(clippy::cast_possible_truncation, reason = "it has no fractions")]
fn whole(count: f64) -> usize {
    count.ceil() as usize
}

/// What is told of a mix, of a peer too.
#[derive(Serialize)]
struct Figures {
    per_second: f64,
    /// In hundredths of the tasks.
    failed: f64,
    /// Attempts besides the first ones.
    repeated: u32,
    /// In hundredths of the time of all cores: what no burn had.
    lost: f64,
    /// Milliseconds of the processors for each task, without the burns.
    spent: f64,
    /// In hundredths of the time of all cores: what neither this nor the measuring took.
    other: f64,
    /// Of each kind, from the first byte of the batch, in milliseconds: p50 and p99 to its start, and to its end.
    lateness: BTreeMap<&'static str, [f64; 4]>,
}

/// One of them: its name, its digits and how it is read.
type Figure = (&'static str, usize, fn(&Figures) -> f64);

impl Figures {
    fn of(ran: &Ran) -> Self {
        let tasks = ran.records.len() as f64;
        let (mut failed, mut repeated, mut burnt) = (0, 0, 0.0);
        let mut times = [const { (Vec::new(), Vec::new()) }; KINDS.len()];
        for record in &ran.records {
            failed += u32::from(!record.succeeded);
            repeated += record.attempts.saturating_sub(1);
            if let Some(kind) = KINDS.iter().position(|kind| kind.is(&record.name, &record.payload)) {
                burnt += if record.succeeded { KINDS[kind].burns() } else { 0.0 };
                times[kind].0.push(record.started);
                times[kind].1.push(record.ended);
            }
        }
        let lateness = KINDS.iter().zip(times).map(|(kind, (started, ended))| {
            let (started, ended) = (Runs::sorted(started), Runs::sorted(ended));
            (kind.name, [started.at(500), started.at(990), ended.at(500), ended.at(990)])
        });
        Self {
            per_second: tasks / ran.seconds,
            failed: 100.0 * f64::from(failed) / tasks,
            repeated,
            lost: 100.0 * (1.0 - burnt / 1e3 / ran.seconds / cores() as f64),
            spent: (ran.processor * 1e3 - burnt) / tasks,
            other: 100.0 * ran.other,
            lateness: lateness.collect(),
        }
    }
}

/// A mix of work, all of it due at once.
fn mix(bench: &Bench, burn: &Burn) -> Result<()> {
    let tasks = whole(bench.seconds * HUNDREDS) * HUNDRED;
    let lines = mix::lines(tasks, Some(burn));
    let runs = (0..RUNS)
        .map(|_| Ok(Figures::of(&run_batch(bench, &lines)?)))
        .collect::<Result<Vec<_>>>()?;
    let of = |value: fn(&Figures) -> f64| Runs::sorted(runs.iter().map(value).collect());
    let ideal = tasks as f64 * 1e3 * cores() as f64 / mix::burns(tasks);
    row(
        &format!("mix of {tasks}, per s"),
        1,
        1,
        &of(|run| run.per_second),
        &Runs::one(ideal),
    );
    let figures: [Figure; 5] = [
        ("failed, %", 1, |run| run.failed),
        ("repeated attempts", 0, |run| f64::from(run.repeated)),
        ("of the cores lost, %", 1, |run| run.lost),
        ("processor besides the burns, ms a task", 2, |run| run.spent),
        ("other work on the cores, %", 1, |run| run.other),
    ];
    for (name, digits, value) in figures {
        alone(&format!("the mix: {name}"), 1, digits, &of(value));
    }
    for kind in &KINDS {
        let at = |which: usize| Runs::sorted(runs.iter().map(|run| run.lateness[kind.name][which]).collect()).median();
        told(
            &format!("{}: due to start, to settlement, p50 / p99, ms", kind.name),
            &format!("{:.0} / {:.0}, {:.0} / {:.0}", at(0), at(1), at(2), at(3)),
        );
    }
    Ok(())
}

/// More burners than there are slots, and what of the cores' time they have while any of them burns.
fn burners(bench: &Bench, burn: &Burn) -> Result<()> {
    let tasks = whole(bench.seconds * BURNERS);
    let lines = vec![burn.line(BURN, ""); tasks];
    let [mut guests, mut left, mut host, mut other] = [const { Vec::new() }; 4];
    for _ in 0..RUNS {
        let ran = run_batch(bench, &lines)?;
        let succeeded = ran.records.iter().filter(|record| record.succeeded).count();
        let all = ran.seconds * cores() as f64;
        guests.push(succeeded as f64 * BURN / 1e3 / all);
        left.push(succeeded as f64 * BURN / 1e3 / all / (1.0 - ran.other));
        host.push(ran.processor / all);
        other.push(100.0 * ran.other);
    }
    let name = |what: &str| format!("{tasks} burners of {BURN:.0} ms: {what}");
    let one = Runs::one(1.0);
    row(&name("share of the cores' time in guests"), 1, 3, &Runs::sorted(guests), &one);
    row(&name("the same of what other work left"), 1, 3, &Runs::sorted(left), &one);
    row(&name("share of it in the whole host"), 1, 3, &Runs::sorted(host), &one);
    alone(&name("other work on the cores, %"), 1, 1, &Runs::sorted(other));
    Ok(())
}

/// Many that burn for long, with a timeout that each would keep if it had a core: none may run into it for waiting.
fn long(bench: &Bench, burn: &Burn) -> Result<()> {
    let ms = bench.seconds * LONG_BURN;
    let timeout = PATIENCE * ms / 1e3;
    // Without retries, whose delays of minutes would say nothing more.
    let line = burn.line(ms, &format!(r#","timeout":{timeout},"max_retries":0"#));
    let ran = run_batch(bench, &vec![line; LONG])?;
    let share = |is: fn(&Record) -> bool| Runs::one(100.0 * ran.records.iter().filter(|record| is(record)).count() as f64 / LONG as f64);
    let name = |what: &str| format!("{LONG} burners of {ms:.0} ms, timeout {timeout:.2} s: {what}");
    alone(&name("failed, %"), 1, 1, &share(|record| !record.succeeded));
    alone(&name("timed out, %"), 1, 1, &share(|record| record.timed_out));
    let ideal = ms / 1e3 * LONG as f64 / cores() as f64;
    if ran.records.iter().all(|record| record.succeeded) {
        row(&name("to the last end, s"), 1, 1, &Runs::one(ran.seconds), &Runs::one(ideal));
    }
    alone(&name("other work on the cores, %"), 1, 1, &Runs::one(100.0 * ran.other));
    Ok(())
}

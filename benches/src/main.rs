//! How fast Taskhost is: the real binary, driven over HTTP, beside the least that the same work costs on this machine.
//!
//! `taskhost-bench [--seconds S] [case…]` prints a table: medians and ranges of three runs, and the ratio to the floor of the same run.

mod attempt;
mod batch;
mod floor;
mod host;
mod load;

use anyhow::{Context, Result, bail};
use host::{Built, Host};
use load::{Load, Sample};
use taskhost::clock::Clock;

const RUNS: usize = 3;
const CASES: [&str; 8] = ["echo", "submit", "batch", "live", "drain", "latency", "attempt", "memory"];
const CONNECTIONS: [usize; 3] = [1, 32, 256];
/// Tasks of a backlog.
const BACKLOG: u64 = 100_000;
/// Seconds in which a backlog is submitted, before any of it is due.
const FILLING: i64 = 20;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1).peekable();
    if arguments.next_if(|word| word == "load").is_some() {
        let load: Load = serde_json::from_str(&arguments.next().context("a load")?)?;
        println!("{}", serde_json::to_string(&load.run_here()?)?);
        return Ok(());
    }
    let seconds = match arguments.next_if(|word| word == "--seconds") {
        None => 4.0,
        Some(_) => arguments.next().context("--seconds takes a number")?.parse()?,
    };
    let mut cases: Vec<String> = arguments.collect();
    if let Some(unknown) = cases.iter().find(|case| !CASES.contains(&case.as_str())) {
        bail!("there is no case {unknown}; there are {}", CASES.join(" "));
    }
    if cases.is_empty() {
        cases = CASES.map(str::to_owned).to_vec();
    }
    let built = Built::new()?;
    println!("| case | connections | Taskhost, median (range) | floor, median (range) | ratio |\n|---|---|---|---|---|");
    for case in cases {
        match case.as_str() {
            "echo" => echo(&built, seconds)?,
            "submit" => submit(&built, seconds)?,
            "batch" => batch::batch(&built)?,
            "live" => live(&built, seconds)?,
            "drain" => drain(&built)?,
            "latency" => latency(&built)?,
            "attempt" => attempt(&built)?,
            _ => memory(&built)?,
        }
    }
    Ok(())
}

/// A submission of 200 bytes.
pub(crate) fn submission(members: &str) -> String {
    format!(r#"{{"task_name":"noop","payload":{{"x":"{}"}}{members}}}"#, "a".repeat(165))
}

/// Median and range of some runs.
struct Runs(Vec<f64>);

impl Runs {
    fn of(run: impl FnMut(usize) -> Result<f64>) -> Result<Self> {
        Ok(Self::sorted((0..RUNS).map(run).collect::<Result<_>>()?))
    }

    fn sorted(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        Self(values)
    }

    fn median(&self) -> f64 {
        self.0[self.0.len() / 2]
    }

    fn text(&self, digits: usize) -> String {
        let (low, high) = (self.0[0], self.0[self.0.len() - 1]);
        format!("{:.digits$} ({low:.digits$} to {high:.digits$})", self.median())
    }
}

fn row(case: &str, connections: usize, digits: usize, ours: &Runs, floor: &Runs) {
    let ratio = ours.median() / floor.median();
    println!(
        "| {case} | {connections} | {} | {} | {ratio:.2} |",
        ours.text(digits),
        floor.text(digits)
    );
}

/// Runs ours and the floor's turn by turn, so that a slow minute of the machine hits both.
fn side_by_side(ours: impl Fn() -> Result<Sample>, floor: impl Fn() -> Result<Sample>) -> Result<[Vec<Sample>; 2]> {
    let mut found = [Vec::new(), Vec::new()];
    for _ in 0..RUNS {
        found[0].push(ours()?);
        found[1].push(floor()?);
    }
    Ok(found)
}

/// A figure of a sample: its name, its digits and how it is read.
type Figure = (&'static str, usize, fn(&Sample) -> f64);

fn rows(case: &str, connections: usize, [ours, floor]: &[Vec<Sample>; 2]) {
    let of = |samples: &[Sample], value: fn(&Sample) -> f64| Runs::sorted(samples.iter().map(value).collect());
    let figures: [Figure; 4] = [
        ("per s", 0, |sample| sample.per_second),
        ("answer p50, ms", 2, |sample| sample.p50),
        ("answer p99, ms", 2, |sample| sample.p99),
        ("answer p99.9, ms", 2, |sample| sample.p999),
    ];
    for (name, digits, value) in figures {
        row(&format!("{case}, {name}"), connections, digits, &of(ours, value), &of(floor, value));
    }
}

/// What HTTP alone costs here.
fn echo(built: &Built, seconds: f64) -> Result<()> {
    for connections in CONNECTIONS {
        let floor = Runs::of(|_| Ok(floor::served(&built.guest, floor::Mode::Echo, connections, seconds)?.per_second))?;
        println!("| echo, per s | {connections} | | {} | |", floor.text(0));
    }
    Ok(())
}

/// The sandbox alone: store, instance, call, drop.
fn attempt(built: &Built) -> Result<()> {
    const TIMES: u32 = 100_000;
    let ours = Runs::of(|_| attempt::micros(&built.guest, TIMES))?;
    let floor = Runs::of(|_| floor::attempt(&built.guest, TIMES))?;
    row("one attempt, µs", 0, 1, &ours, &floor);
    Ok(())
}

/// Acknowledged submissions of tasks dated ahead, so that nothing runs.
fn submit(built: &Built, seconds: f64) -> Result<()> {
    for connections in CONNECTIONS {
        let ours = || {
            Host::start(built, &[])?
                .load(r#","trigger_time":"2034-01-01T00:00:00Z""#, connections, seconds)
                .run()
        };
        let floor = || floor::served(&built.guest, floor::Mode::Commit, connections, seconds);
        rows("submit", connections, &side_by_side(ours, floor)?);
    }
    Ok(())
}

/// Tasks from submit to durable done: the clock stops when the last one is settled.
fn live(built: &Built, seconds: f64) -> Result<()> {
    for connections in CONNECTIONS {
        let ours = || {
            let host = Host::start(built, &[])?;
            let begun = std::time::Instant::now();
            let sample = host.load("", connections, seconds).run()?;
            host.settled(sample.answers)?;
            let per_second = sample.answers as f64 / begun.elapsed().as_secs_f64();
            Ok(Sample { per_second, ..sample })
        };
        let floor = || floor::served(&built.guest, floor::Mode::Live, connections, seconds);
        rows("live", connections, &side_by_side(ours, floor)?);
    }
    Ok(())
}

/// A stored backlog, from the moment when it is due.
fn drain(built: &Built) -> Result<()> {
    let ours = Runs::of(|_| {
        let host = Host::start(built, &[])?;
        let due = Clock::System.now() + chrono::TimeDelta::seconds(FILLING);
        let members = format!(r#","trigger_time":"{}""#, due.to_rfc3339());
        let mut filled = 0;
        while filled < BACKLOG {
            filled += host.load(&members, 64, 1.0).run()?.answers;
        }
        let early = (due - Clock::System.now())
            .to_std()
            .context("the backlog was due before it was whole")?;
        std::thread::sleep(early);
        let begun = std::time::Instant::now();
        host.settled(filled)?;
        Ok(filled as f64 / begun.elapsed().as_secs_f64())
    })?;
    let floor = Runs::of(|_| floor::drain(&built.guest, BACKLOG))?;
    row("drain, per s", 0, 0, &ours, &floor);
    Ok(())
}

/// From submit to the guest's start and to durable done, on an idle host: from the tasks' own records.
fn latency(built: &Built) -> Result<()> {
    const TASKS: usize = 300;
    let (mut starts, mut ends) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
    let mut floors = [Vec::new(), Vec::new()];
    for _ in 0..RUNS {
        let host = Host::start(built, &[])?;
        let load = Load {
            rate: Some(50.0),
            ..host.load("", 1, TASKS as f64 / 50.0)
        };
        host.settled(load.run()?.answers)?;
        let (mut start, mut end) = (Vec::new(), Vec::new());
        for task in host.get(&format!("/tasks/history?limit={TASKS}"))?.as_array().context("a list")? {
            let time = |member: &str| -> Result<f64> {
                let time: chrono::DateTime<chrono::Utc> = task[member].as_str().context("a time")?.parse()?;
                Ok(time.timestamp_micros() as f64 / 1e3)
            };
            start.push(time("started_at")? - time("submitted_at")?);
            end.push(time("completed_at")? - time("submitted_at")?);
        }
        for (found, values) in [
            (&mut starts, start),
            (&mut ends, end),
            (&mut floors, floor::latency(&built.guest, TASKS)?),
        ] {
            let sorted = Runs::sorted(values);
            found[0].push(sorted.median());
            found[1].push(sorted.0[sorted.0.len() * 99 / 100]);
        }
    }
    for (place, name) in ["p50", "p99"].into_iter().enumerate() {
        let [starts, ends, floors] = [&starts, &ends, &floors].map(|found| Runs::sorted(found[place].clone()));
        row(&format!("idle, submit to start, {name}, ms"), 1, 2, &starts, &floors);
        row(&format!("idle, submit to settlement, {name}, ms"), 1, 2, &ends, &floors);
    }
    Ok(())
}

/// Resident memory, and how long a start takes.
fn memory(built: &Built) -> Result<()> {
    let host = Host::start(built, &[])?;
    println!(
        "| start to ready, compiling, ms | | {:.0} | | |",
        host.ready_after.as_secs_f64() * 1e3
    );
    println!("| resident, idle, MiB | | {:.0} | | |", host.rss()?);
    host.load("", 32, 3.0).run()?;
    println!("| resident, after 3 s of load, MiB | | {:.0} | | |", host.rss()?);
    let host = host.restart(built)?;
    println!(
        "| start to ready after a kill, ms | | {:.0} | | |",
        host.ready_after.as_secs_f64() * 1e3
    );
    println!("| resident, after that, MiB | | {:.0} | | |", host.rss()?);
    Ok(())
}

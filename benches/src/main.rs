//! How fast Taskhost is: the real binary, driven over HTTP, beside the least that the same work costs on this machine, or beside
//! itself under other circumstances.
//!
//! `taskhost-bench [--seconds S] [--scale F] [case…]` prints tables: medians and ranges of three runs, and the ratio of two columns.

mod attempt;
mod batch;
mod client;
mod fill;
mod floor;
mod fuel;
mod growth;
mod host;
mod latency;
mod load;
mod neighbour;
mod overload;
mod parked;
mod plain;
mod reload;
mod schedules;
mod table;
mod work;

use anyhow::{Context, Result, bail};
use host::Built;
use load::Load;

/// What all cases are given.
pub(crate) struct Bench {
    built: Built,
    /// How long one run of a load takes.
    seconds: f64,
    /// The share of the rows that `growth` fills a store with.
    scale: f64,
}

impl Bench {
    fn new(seconds: f64, scale: f64) -> Result<Self> {
        let built = Built::new()?;
        Ok(Self { built, seconds, scale })
    }
}

/// A case: its name, the two columns of its table, and what is run.
type Case = (&'static str, [&'static str; 2], fn(&Bench) -> Result<()>);

const BESIDE_THE_FLOOR: [&str; 2] = ["Taskhost, median (range)", "floor, median (range)"];

const CASES: &[Case] = &[
    ("echo", BESIDE_THE_FLOOR, plain::echo),
    ("submit", BESIDE_THE_FLOOR, plain::submit),
    ("batch", BESIDE_THE_FLOOR, batch::run),
    ("live", BESIDE_THE_FLOOR, plain::live),
    ("drain", BESIDE_THE_FLOOR, plain::drain),
    ("latency", BESIDE_THE_FLOOR, latency::run),
    ("attempt", BESIDE_THE_FLOOR, plain::attempt),
    ("memory", BESIDE_THE_FLOOR, plain::memory),
    ("fuel", BESIDE_THE_FLOOR, fuel::run),
    ("parked", BESIDE_THE_FLOOR, parked::run),
    ("reload", ["with a reload, median (range)", "without, median (range)"], reload::run),
    (
        "neighbour",
        ["beside each other, median (range)", "alone, median (range)"],
        neighbour::run,
    ),
    ("work", ["Taskhost, median (range)", "the cores' all, or alone"], work::run),
    (
        "overload",
        ["under three times that load", "capacity; of memory, the first third"],
        overload::run,
    ),
    (
        "schedules",
        ["beside a million tasks and 100,000 schedules", "beside one of each"],
        schedules::run,
    ),
    ("growth", ["full, median (range)", "small, median (range)"], growth::run),
];

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1).peekable();
    if arguments.next_if(|word| word == "load").is_some() {
        let load: Load = serde_json::from_str(&arguments.next().context("a load")?)?;
        println!("{}", serde_json::to_string(&load.run_here()?)?);
        return Ok(());
    }
    if arguments.next_if(|word| word == "mix").is_some() {
        return work::for_peers(arguments);
    }
    let mut option = |name: &str, default: f64| -> Result<f64> {
        match arguments.next_if(|word| word == name) {
            None => Ok(default),
            Some(_) => Ok(arguments.next().with_context(|| format!("{name} takes a number"))?.parse()?),
        }
    };
    let (seconds, scale) = (option("--seconds", 4.0)?, option("--scale", 1.0)?);
    let names: Vec<String> = arguments.collect();
    let known = |name: &str| CASES.iter().find(|case| case.0 == name);
    let cases: Vec<&Case> = match names.as_slice() {
        [] => CASES.iter().collect(),
        names => names
            .iter()
            .map(|name| {
                let all: Vec<&str> = CASES.iter().map(|case| case.0).collect();
                known(name).with_context(|| format!("there is no case {name}; there are {}", all.join(" ")))
            })
            .collect::<Result<_>>()?,
    };
    if !(scale > 0.0 && seconds > 0.0) {
        bail!("--seconds and --scale are above 0");
    }
    let bench = Bench::new(seconds, scale)?;
    let mut columns = None;
    for (_, wanted, run) in cases {
        if columns.replace(wanted) != Some(wanted) {
            table::header(*wanted);
        }
        run(&bench)?;
    }
    Ok(())
}

/// The member of a submission that is far ahead, so that nothing runs.
pub(crate) const AHEAD: &str = r#","trigger_time":"2034-01-01T00:00:00Z""#;

/// A submission of 200 bytes.
pub(crate) fn submission(members: &str) -> String {
    format!(r#"{{"task_name":"noop","payload":{{"x":"{}"}}{members}}}"#, "a".repeat(165))
}

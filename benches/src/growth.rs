//! What a store that has grown costs: the same figures on a host that has little and on one that has what some weeks leave.
//!
//! The small host holds a page of each list, so that the answers are of the same size.

use crate::fill::{Amounts, Middle, fill};
use crate::host::{BASE, Host, Variables, database};
use crate::load::Sample;
use crate::table::{PERCENTILES, RUNS, Runs, alone, row, samples};
use crate::{AHEAD, Bench, latency, plain};
use anyhow::Result;
use std::time::{Duration, Instant};
use taskhost::clock::Clock;

const SMALL: Amounts = Amounts {
    ahead: 1_000,
    held: 1_000,
    schedules: 1_000,
    finished: 25_000,
};
const FULL: Amounts = Amounts {
    ahead: 1_000_000,
    held: 1_000_000,
    schedules: 10_000,
    finished: 10_000_000,
};
/// Calls of each route, and seconds after which there are no more of them.
const CALLS: usize = 400;
const PATIENCE: Duration = Duration::from_secs(10);
const CONNECTIONS: usize = 32;
const DEFAULTS: Variables<'static> = &[];

/// What was found on one host.
struct Found {
    lists: Vec<(&'static str, Runs)>,
    waits: [Runs; 2],
    live: Vec<Sample>,
    drained: f64,
    submitted: Vec<Sample>,
}

/// All figures on both hosts; then how long the full one takes to come back from a kill.
pub(crate) fn run(bench: &Bench) -> Result<()> {
    let (small, _) = on(bench, SMALL)?;
    let (full, host) = on(bench, full(bench.scale))?;
    for ((name, full), (_, small)) in full.lists.iter().zip(&small.lists) {
        for (per_mille, percentile) in PERCENTILES {
            let [full, small] = [full, small].map(|times| Runs::one(times.at(per_mille)));
            row(&format!("{name}, {percentile}, ms"), 1, 2, &full, &small);
        }
    }
    for (per_mille, percentile) in PERCENTILES {
        for (place, event) in ["start", "settlement"].into_iter().enumerate() {
            let [full, small] = [&full, &small].map(|found| Runs::one(found.waits[place].at(per_mille)));
            row(&format!("idle, submit to {event}, {percentile}, ms"), 1, 2, &full, &small);
        }
    }
    samples("live", CONNECTIONS, &[full.live, small.live]);
    row("drain, per s", 0, 0, &Runs::one(full.drained), &Runs::one(small.drained));
    samples("submit", CONNECTIONS, &[full.submitted, small.submitted]);
    comes_back(bench, host)
}

fn full(scale: f64) -> Amounts {
    #[expect(clippy::cast_possible_truncation, reason = "a count of rows has no fractions")]
    let scaled = |full: u64, small: u64| ((full as f64 * scale) as u64).max(small);
    Amounts {
        ahead: scaled(FULL.ahead, SMALL.ahead),
        held: scaled(FULL.held, SMALL.held),
        schedules: scaled(FULL.schedules, SMALL.schedules),
        finished: scaled(FULL.finished, SMALL.finished),
    }
}

/// Fills a host and takes all figures: first those that leave the store as it is.
fn on(bench: &Bench, amounts: Amounts) -> Result<(Found, Host)> {
    let folder = Host::start(&bench.built, DEFAULTS)?.kill()?; // it has made the tables
    let begun = Instant::now();
    let middle = fill(&database(folder.path()), amounts, Clock::System.now())?;
    let bytes = std::fs::metadata(database(folder.path()))?.len();
    eprintln!("{} MiB filled in {:.0} s", bytes >> 20, begun.elapsed().as_secs_f64());
    let host = Host::start_in(&bench.built, folder, DEFAULTS)?;
    let lists = lists(&host, &middle)?;
    let waits = latency::steady_waits(&host)?;
    let live = (0..RUNS).map(|_| host.live(CONNECTIONS, bench.seconds)).collect::<Result<_>>()?;
    let drained = plain::drained(&host)?;
    let submitted = (0..RUNS)
        .map(|_| host.load(AHEAD, CONNECTIONS, bench.seconds).run())
        .collect::<Result<_>>()?;
    let found = Found {
        lists,
        waits,
        live,
        drained,
        submitted,
    };
    Ok((found, host))
}

/// Milliseconds of each route, over a connection that is kept alive.
fn lists(host: &Host, middle: &Middle) -> Result<Vec<(&'static str, Runs)>> {
    let (waiting, finished) = (&middle.waiting, &middle.finished);
    let since = middle.completed_at.format("%Y-%m-%dT%H:%M:%SZ");
    let routes = [
        ("/tasks, 1,000", "/tasks".to_owned()),
        ("/tasks, 100", "/tasks?limit=100".into()),
        ("/tasks of a status", "/tasks?limit=100&status=failed".into()),
        ("/tasks, pending", "/tasks?limit=100&status=pending".into()),
        ("/tasks of a name", "/tasks?limit=100&task_name=import_03".into()),
        ("/tasks with a tag", "/tasks?limit=100&tag=nightly".into()),
        ("/tasks with a rare tag", "/tasks?limit=100&tag=rare".into()),
        ("/tasks whose name begins so", "/tasks?limit=100&q=imp".into()),
        ("/tasks whose id begins so", format!("/tasks?limit=100&q={}", &finished[..8])),
        ("/tasks, deep", format!("/tasks?limit=100&cursor=e{}", middle.finished_cursor)),
        ("/tasks/running", "/tasks/running".into()),
        ("/tasks/scheduled, 1,000", "/tasks/scheduled".into()),
        ("/tasks/scheduled, 100", "/tasks/scheduled?limit=100".into()),
        (
            "/tasks/scheduled, deep",
            format!("/tasks/scheduled?limit=100&cursor={}", middle.waiting_cursor),
        ),
        (
            "/tasks/scheduled, deep in the schedules",
            format!("/tasks/scheduled?limit=100&cursor={}", middle.schedule_cursor),
        ),
        ("/tasks/failed, 1,000", "/tasks/failed".into()),
        ("/tasks/failed, 100", "/tasks/failed?limit=100".into()),
        ("/tasks/history, 1,000", "/tasks/history?limit=1000".into()),
        ("/tasks/history, 100", "/tasks/history".into()),
        ("/tasks/history of a name", "/tasks/history?task_name=import_03".into()),
        ("/tasks/history of a status", "/tasks/history?status=failed".into()),
        (
            "/tasks/history of both",
            "/tasks/history?status=cancelled&task_name=import_03".into(),
        ),
        ("/tasks/history with a tag", "/tasks/history?tag=nightly".into()),
        (
            "/tasks/history with a tag, of a name",
            "/tasks/history?tag=nightly&task_name=import_03".into(),
        ),
        (
            "/tasks/history with a tag, of a status",
            "/tasks/history?tag=nightly&status=cancelled".into(),
        ),
        ("/tasks/history until a time", format!("/tasks/history?until={since}")),
        ("/tasks/history, deep", format!("/tasks/history?cursor={}", middle.finished_cursor)),
        ("/task/status of one that waits", format!("/task/status/{waiting}")),
        ("/task/status of one that ended", format!("/task/status/{finished}")),
        ("/metrics/performance", "/metrics/performance".into()),
        ("/metrics/performance of a name", "/metrics/performance?task_name=import_03".into()),
        ("/alerts", "/alerts".into()),
        ("/schedules, 1,000", "/schedules".into()),
        ("/schedules, 100", "/schedules?limit=100".into()),
    ];
    let mut client = host.client()?;
    let mut found = Vec::new();
    for (name, path) in routes {
        let path = format!("{BASE}{path}");
        let mut times = Vec::with_capacity(CALLS);
        let all = Instant::now();
        while times.len() < CALLS && all.elapsed() < PATIENCE {
            let begun = Instant::now();
            client.get(&path)?;
            times.push(begun.elapsed().as_secs_f64() * 1e3);
        }
        found.push((name, Runs::sorted(times)));
    }
    Ok(found)
}

/// A kill in the midst of work, and the way back.
fn comes_back(bench: &Bench, mut host: Host) -> Result<()> {
    let (mut ready, mut done) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        let load = host.load("", CONNECTIONS, 60.0).start()?;
        std::thread::sleep(Duration::from_secs(1));
        let folder = host.kill()?;
        drop(load);
        host = Host::start_in(&bench.built, folder, DEFAULTS)?;
        let body = crate::submission("");
        host.client()?
            .ask(&format!("POST {BASE}/task/submit"), "prefer: wait=60\r\n", &body)?;
        done.push(host.begun.elapsed().as_secs_f64() * 1e3);
        ready.push(host.ready_after.as_secs_f64() * 1e3);
    }
    alone("full: start to ready after a kill under load, ms", 0, 0, &Runs::sorted(ready));
    alone("full: start to the first task done after that, ms", 0, 0, &Runs::sorted(done));
    alone("full: resident, after that, MiB", 0, 0, &Runs::one(host.rss()?));
    Ok(())
}

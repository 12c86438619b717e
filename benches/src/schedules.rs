//! What schedules and events cost beside little else, and beside a million waiting tasks and a hundred thousand schedules: what is due is
//! found by an index, whatever waits.

use crate::Bench;
use crate::client::Client;
use crate::fill::{Amounts, fill};
use crate::host::{BASE, Host, database};
use crate::table::{PERCENTILES, Runs, row};
use anyhow::{Context, Result};
use chrono::{DateTime, Datelike, SubsecRound, TimeDelta, Timelike, Utc};
use serde_json::Value;
use std::time::{Duration, Instant};
use taskhost::clock::Clock;

const SMALL: Amounts = Amounts {
    ahead: 1,
    held: 0,
    schedules: 1,
    finished: 1_000,
};
const FULL: Amounts = Amounts {
    ahead: 1_000_000,
    held: 0,
    schedules: 100_000,
    finished: 1_000,
};
/// Schedules that fire in the same second, and triggers of the same event.
const MANY: u64 = 10_000;
/// How long a host is watched that does nothing, or fires once a second.
const WATCHED: Duration = Duration::from_secs(20);
/// Of each kind of event.
const EVENTS: usize = 3;

/// What was found on one host.
struct Found {
    at_rest: f64,
    late: Runs,
    submitted: f64,
    settled: f64,
    events: Vec<(&'static str, Runs)>,
}

/// All figures on both hosts.
pub(crate) fn run(bench: &Bench) -> Result<()> {
    let (small, full) = (on(bench, SMALL)?, on(bench, FULL)?);
    let one = |case: &str, digits, of: fn(&Found) -> f64| row(case, 1, digits, &Runs::one(of(&full)), &Runs::one(of(&small)));
    one("at rest, processor time, ms a second", 1, |found| found.at_rest);
    for (per_mille, percentile) in PERCENTILES {
        let [full, small] = [&full, &small].map(|found| Runs::one(found.late.at(per_mille)));
        row(
            &format!("a fire each second, to its task's start, {percentile}, ms"),
            1,
            2,
            &full,
            &small,
        );
    }
    one("10,000 schedules due at once, until the last task is there, ms", 0, |found| {
        found.submitted
    });
    one("the same, until the last task has ended, ms", 0, |found| found.settled);
    for ((case, full), (_, small)) in full.events.iter().zip(&small.events) {
        row(case, 1, 1, full, small);
    }
    Ok(())
}

fn on(bench: &Bench, amounts: Amounts) -> Result<Found> {
    let folder = Host::start(&bench.built, &[])?.kill()?; // it has made the tables
    fill(&database(folder.path()), amounts, Clock::System.now())?;
    let host = Host::start_in(&bench.built, folder, &[])?;
    std::thread::sleep(Duration::from_secs(2));
    let spent = host.processor_time()?;
    std::thread::sleep(WATCHED);
    let at_rest = (host.processor_time()? - spent).as_secs_f64() * 1e3 / WATCHED.as_secs_f64();
    let late = late(&host)?;
    let (submitted, settled) = at_once(&host)?;
    Ok(Found {
        at_rest,
        late,
        submitted,
        settled,
        events: events(&host)?,
    })
}

fn post(client: &mut Client, path: &str, body: &str) -> Result<Value> {
    let answer = client.ask(&format!("POST {BASE}{path}"), "", body)?;
    Ok(serde_json::from_slice(&answer.body)?)
}

fn time(task: &Value, member: &str) -> Result<DateTime<Utc>> {
    Ok(task[member].as_str().context("a time")?.parse()?)
}

fn millis(time: TimeDelta) -> f64 {
    time.as_seconds_f64() * 1e3
}

/// Milliseconds from each fire of a schedule that fires once a second to the start of its task.
fn late(host: &Host) -> Result<Runs> {
    let body = r#"{"name":"tick","task_name":"noop","cron_expression":"* * * * * *"}"#;
    let schedule = post(&mut host.client()?, "/task/cron", body)?;
    std::thread::sleep(WATCHED);
    let id = schedule["task_id"].as_str().context("an id")?;
    host.client()?.ask(&format!("DELETE {BASE}/task/cancel/{id}"), "", "")?;
    let count = usize::try_from(WATCHED.as_secs())? - 1; // the last may run
    let tasks = host.pages(&format!("/tasks/history?task_name=noop&limit={count}"), count)?;
    let waits: Result<Vec<f64>> = tasks
        .iter()
        .map(|task| Ok(millis(time(task, "started_at")? - time(task, "trigger_time")?)))
        .collect();
    Ok(Runs::sorted(waits?))
}

/// Milliseconds from the moment at which many schedules are due until all their tasks were on disk, and until all were settled.
fn at_once(host: &Host) -> Result<(f64, f64)> {
    let mut client = host.client()?;
    let before = host.metrics("noop")?.0;
    // A whole second that comes after all of them are there.
    let due = Clock::System.now().trunc_subsecs(0) + TimeDelta::seconds(30);
    let (second, minute, hour, day, month) = (due.second(), due.minute(), due.hour(), due.day(), due.month());
    for number in 0..MANY {
        let body = format!(r#"{{"name":"herd_{number}","task_name":"noop","cron_expression":"{second} {minute} {hour} {day} {month} *"}}"#);
        post(&mut client, "/task/cron", &body)?;
    }
    host.settled("noop", before + MANY)?;
    let count = usize::try_from(MANY)?;
    let tasks = host.pages("/tasks/history?task_name=noop&limit=1000", count)?;
    let last = |member: &str| -> Result<f64> {
        let times: Result<Vec<f64>> = tasks.iter().take(count).map(|task| Ok(millis(time(task, member)? - due))).collect();
        Ok(Runs::sorted(times?).at(1_000))
    };
    Ok((last("submitted_at")?, last("completed_at")?))
}

/// Milliseconds of the answer to an event that many triggers hear, all of which it fires, or of which their filters let none.
fn events(host: &Host) -> Result<Vec<(&'static str, Runs)>> {
    let mut client = host.client()?;
    for number in 0..MANY {
        for (event_type, filter) in [
            ("loud", String::new()),
            ("quiet", format!(r#","filter":"data.n > {MANY} + {number}""#)),
        ] {
            let body = format!(r#"{{"name":"{event_type}_{number}","task_name":"noop","event_type":"{event_type}"{filter}}}"#);
            post(&mut client, "/task/event-trigger", &body)?;
        }
    }
    [
        ("an event with 10,000 triggers, each a task, answer, ms", "loud", MANY),
        (
            "an event with 10,000 triggers, none of whose filters lets it pass, answer, ms",
            "quiet",
            0,
        ),
    ]
    .into_iter()
    .map(|(case, event_type, count)| {
        let mut times = Vec::new();
        for _ in 0..EVENTS {
            let before = host.metrics("noop")?.0;
            let begun = Instant::now();
            post(&mut client, &format!("/event/trigger/{event_type}"), r#"{"n":1}"#)?;
            times.push(begun.elapsed().as_secs_f64() * 1e3);
            host.settled("noop", before + count)?;
        }
        Ok((case, Runs::sorted(times)))
    })
    .collect()
}

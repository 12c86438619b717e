//! `queue` and `limit`: what waits and runs, stopping and going on, and how much may run at once.

use super::client::{Client, segment};
use super::list::{done, show};
use super::table::{self, As, Column};
use super::{Failure, json, print, print_raw, tell};
use clap::{Args, Subcommand};
use serde_json::Value;

const QUEUE_EXAMPLES: &str = "Examples:
  taskhost queue
  taskhost queue pause
  taskhost queue resume settlement";

const LIMIT_EXAMPLES: &str = "Examples:
  taskhost limit put risk --task risk_scan --max-running 4
  taskhost limit put per-desk --task backtest --key /desk --max-running 1
  taskhost limit put vendor --tag vendor --rate 10/60

A rate is COUNT/SECONDS. With --key the limit holds for each value of that member of the payload by itself.";

/// What `queue` understands.
#[derive(Debug, Args)]
#[command(after_help = QUEUE_EXAMPLES)]
pub(super) struct Queue {
    #[command(subcommand)]
    command: Option<QueueCommand>,
}

#[derive(Debug, Subcommand)]
enum QueueCommand {
    /// Show what waits and runs.
    Show,
    /// Start nothing more, or no task of a name. What runs goes on.
    Pause {
        /// Only tasks of this name.
        #[arg(value_name = "NAME")]
        task_name: Option<String>,
    },
    /// Start tasks again.
    Resume {
        /// Only tasks of this name.
        #[arg(value_name = "NAME")]
        task_name: Option<String>,
    },
}

/// What `limit` understands.
#[derive(Debug, Subcommand)]
pub(super) enum Limit {
    /// List the limits.
    List,
    /// Create or replace a limit.
    #[command(after_help = LIMIT_EXAMPLES)]
    Put(Put),
    /// Remove a limit.
    Remove {
        /// Its name.
        name: String,
    },
}

/// What `limit put` understands.
#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("which").required(true).multiple(true).args(["task", "tag", "all"])))]
pub(super) struct Put {
    /// Its name.
    name: String,
    /// Only tasks of this name.
    #[arg(long, value_name = "NAME")]
    task: Option<String>,
    /// Only tasks with this tag.
    #[arg(long, value_name = "TAG")]
    tag: Option<String>,
    /// All tasks of the host.
    #[arg(long, conflicts_with_all = ["task", "tag"])]
    all: bool,
    /// For each value of this member of the payload by itself.
    #[arg(long, value_name = "POINTER")]
    key: Option<String>,
    /// Attempts that may run at once.
    #[arg(long, value_name = "N")]
    max_running: Option<u32>,
    /// Attempts that may start in a time.
    #[arg(long, value_name = "COUNT/SECONDS", value_parser = rate)]
    rate: Option<(u32, f64)>,
    /// Starts that the fairness keys of these tasks have for each of another key.
    #[arg(long, value_name = "N")]
    weight: Option<u32>,
}

fn rate(text: &str) -> Result<(u32, f64), &'static str> {
    let read = || {
        let (count, seconds) = text.split_once('/')?;
        Some((
            count.parse().ok()?,
            seconds.parse().ok().filter(|s: &f64| s.is_finite() && *s > 0.0)?,
        ))
    };
    read().ok_or("must be COUNT/SECONDS, such as 10/60")
}

const LIMITS: &[Column] = &[
    ("NAME", &["name"], As::Text(40)),
    ("MATCH", &["match"], As::Match),
    ("KEY", &["key"], As::Text(40)),
    ("RUNNING", &["max_running"], As::Text(9)),
    ("RATE", &["rate"], As::Rate),
    ("WEIGHT", &["weight"], As::Text(6)),
];

const ORDER: &[&str] = &[
    "paused",
    "slots",
    "slots_free",
    "slots_kept",
    "memory_budget",
    "memory_reserved",
    "processors",
    "burning",
    "standing_aside",
    "running",
    "due",
    "waits_for_processor",
    "held",
    "scheduled",
    "oldest_wait",
    "arrival_rate",
    "drain_rate",
    "due_by_priority",
    "due_by_task",
    "held_by",
];

impl Queue {
    pub(super) fn run(self, client: &Client) -> Result<(), Failure> {
        let (verb, what, task_name) = match self.command {
            None | Some(QueueCommand::Show) => {
                let answer = client.get("/queue", &[])?;
                return match client.json {
                    true => print_raw(&answer.bytes),
                    false => table::record(&answer.bytes, ORDER, &[]),
                };
            }
            Some(QueueCommand::Pause { task_name }) => ("pause", "paused", task_name),
            Some(QueueCommand::Resume { task_name }) => ("resume", "resumed", task_name),
        };
        let body = json::Body::new().with("task_name", task_name.as_ref()).finish();
        let answer = client.post(&format!("/queue/{verb}"), &body)?;
        let name = task_name.as_deref();
        done(client, &answer, what, name.unwrap_or("the queue"))?;
        if let Some(note) = note(&answer.value()?, verb, name).filter(|_| !client.json) {
            tell(&note);
        }
        Ok(())
    }
}

/// What of an answer to `pause` or `resume` one would not expect.
fn note(answer: &Value, verb: &str, name: Option<&str>) -> Option<String> {
    let what = table::plain(name.unwrap_or("the queue"));
    match (verb, name) {
        ("resume", Some(_)) if answer["status"] == "paused" => Some(format!(
            "{what} waits on: the whole queue is paused; resume it with `taskhost queue resume`"
        )),
        _ if answer["changed"] != false => None,
        ("resume", _) => Some(format!("{what} was not paused")),
        _ => Some(format!("{what} was paused before")),
    }
}

impl Limit {
    pub(super) fn run(self, client: &Client) -> Result<(), Failure> {
        match self {
            Self::List => show(client, &client.get("/limits", &[])?, LIMITS, "no limit"),
            Self::Put(put) => {
                let matches = match put.all {
                    true => serde_json::json!({}),
                    false => serde_json::json!({ "task_name": put.task, "tag": put.tag }),
                };
                let rate = put.rate.map(|(count, per)| serde_json::json!({ "count": count, "per": per }));
                let body = json::Body::new()
                    .with("match", Some(&matches))
                    .with("key", put.key.as_ref())
                    .with("max_running", put.max_running.as_ref())
                    .with("weight", put.weight.as_ref())
                    .with("rate", rate.as_ref());
                let path = format!("/limit/{}", segment(&put.name));
                let answer = client.put(&path, "application/json", body.finish().as_bytes())?;
                done(client, &answer, "kept", &put.name)
            }
            Self::Remove { name } => done(
                client,
                &client.delete(&format!("/limit/{}", segment(&name)), &[])?,
                "removed",
                &name,
            ),
        }
    }
}

/// Why a task does not run, a reason a line.
pub(super) fn why(client: &Client, id: &str) -> Result<(), Failure> {
    let answer = client.get(&format!("/task/{}/why", segment(id)), &[])?;
    if client.json {
        return print_raw(&answer.bytes);
    }
    let told = answer.value()?;
    let reasons = told["reasons"].as_array().cloned().unwrap_or_default();
    if reasons.is_empty() {
        let status = table::plain(told["status"].as_str().unwrap_or_default());
        return print(&match status.as_str() {
            "success" | "failed" | "cancelled" => format!("the task has ended: {status}"),
            _ => format!("the task is {status}"),
        });
    }
    for reason in &reasons {
        let text = |member: &str| table::plain(reason[member].as_str().unwrap_or_default());
        print(&format!("{}: {}", text("reason"), text("detail")))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::rate;

    #[test]
    fn a_rate_is_a_count_in_seconds() {
        assert_eq!(rate("10/60"), Ok((10, 60.0)));
        assert_eq!(rate("1/0.5"), Ok((1, 0.5)));
        for bad in ["", "10", "x/1", "1/0", "1/-1", "-1/1", "1/inf"] {
            assert!(rate(bad).is_err(), "{bad}");
        }
    }
}

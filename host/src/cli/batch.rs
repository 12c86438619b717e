//! `batch`: hands in many tasks at once, all or none, and says how far they are.

use super::answer::Answer;
use super::client::{Client, segment};
use super::list::{Page, done, show};
use super::table::{self, As, Column};
use super::{Failure, print, print_raw};
use clap::Subcommand;
use serde_json::Value;
use std::fs::File;
use std::io::{IsTerminal, Read, Write};
use std::time::Duration;

/// Between two looks at a batch that is waited for.
const POLL: Duration = Duration::from_millis(200);
/// A host that restarts meanwhile is given this many looks.
const PATIENCE: u32 = 150;

const SUBMIT_EXAMPLES: &str = "Examples:
  taskhost batch submit tasks.ndjson --name nightly --on-complete performance_report
  jq -c '.books[] | {task_name: \"settlement\", payload: .}' books.json | taskhost batch submit -

Each line is a submission: {\"task_name\": …, \"payload\": {…}}, with the members that the API takes for a task. Either all of them are
taken, and the batch's id and their number are printed, or none, and the line that is wrong is named.";

/// What `batch` understands.
#[derive(Debug, Subcommand)]
pub(super) enum Batch {
    /// Submit a file of tasks, one JSON object a line.
    #[command(after_help = SUBMIT_EXAMPLES)]
    Submit {
        /// Where the tasks are, FILE or @FILE; - for stdin.
        #[arg(value_name = "FILE|-")]
        file: String,
        /// The batch's name, for people.
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
        /// A task to submit once all have succeeded.
        #[arg(long, value_name = "TASK")]
        on_success: Option<String>,
        /// A task to submit once all have ended, if one failed.
        #[arg(long, value_name = "TASK")]
        on_failure: Option<String>,
        /// A task to submit once all have ended.
        #[arg(long, value_name = "TASK")]
        on_complete: Option<String>,
        /// Wait until all have ended; the exit code is 1 unless all succeeded.
        #[arg(long)]
        wait: bool,
    },
    /// Show how far a batch is.
    Status {
        /// Its id.
        id: String,
    },
    /// List batches, newest first.
    List(Page),
    /// List the tasks of a batch.
    Tasks {
        /// Its id.
        id: String,
        #[command(flatten)]
        page: Page,
    },
    /// Cancel what has not ended of a batch.
    Cancel {
        /// Its id.
        id: String,
    },
}

const BATCHES: &[Column] = &[
    ("ID", &["batch_id"], As::Text(64)),
    ("NAME", &["name"], As::Text(32)),
    ("STATUS", &["status"], As::State),
    ("TASKS", &["count"], As::Text(10)),
    ("PENDING", &["pending"], As::Text(10)),
    ("RUNNING", &["running"], As::Text(10)),
    ("SUCCESS", &["success"], As::Text(10)),
    ("FAILED", &["failed"], As::Text(10)),
    ("CANCELLED", &["cancelled"], As::Text(10)),
    ("ENDED", &["completed_at"], As::Time),
];

const RECORD: &[&str] = &[
    "batch_id",
    "name",
    "status",
    "count",
    "pending",
    "running",
    "success",
    "failed",
    "cancelled",
];

const CALLBACKS: &[Column] = &[
    ("ON", &["on"], As::Text(12)),
    ("TASK", &["task_name"], As::Text(32)),
    ("ID", &["task_id"], As::Text(64)),
    ("SUBMITTED", &["fired_at"], As::Time),
];

impl Batch {
    pub(super) fn run(self, client: &Client) -> Result<(), Failure> {
        match self {
            Self::Submit {
                file,
                name,
                on_success,
                on_failure,
                on_complete,
                wait,
            } => {
                let query = [
                    ("name", name.as_deref()),
                    ("on_success", on_success.as_deref()),
                    ("on_failure", on_failure.as_deref()),
                    ("on_complete", on_complete.as_deref()),
                ];
                accepted(
                    client,
                    &client.stream("/tasks/batch", &query, "application/x-ndjson", open(&file)?)?,
                    wait,
                )
            }
            Self::Status { id } => status(client, &client.get(&path(&id), &[])?),
            Self::List(page) => {
                let limit = page.limit();
                let query = [("limit", limit.as_deref()), ("cursor", page.cursor())];
                show(client, &client.get("/batches", &query)?, BATCHES, "no batch")
            }
            Self::Tasks { id, page } => {
                let limit = page.limit();
                let query = [("limit", limit.as_deref()), ("cursor", page.cursor())];
                show(
                    client,
                    &client.get(&format!("{}/tasks", path(&id)), &query)?,
                    super::task::TASKS,
                    "no task",
                )
            }
            Self::Cancel { id } => done(client, &client.delete(&path(&id), &[])?, "cancelling", &id),
        }
    }
}

fn path(id: &str) -> String {
    format!("/batch/{}", segment(id))
}

/// Prints the id and the number of tasks of a batch that was taken; then, if it is wanted, how it ended.
pub(super) fn accepted(client: &Client, answer: &Answer, wait: bool) -> Result<(), Failure> {
    let batch = answer.value()?;
    let (Value::String(id), Value::Number(count)) = (&batch["batch_id"], &batch["count"]) else {
        return Err(Failure::Failed(
            "the answer names no batch; is --url that of a Taskhost?".to_owned(),
        ));
    };
    if !wait {
        return match client.json {
            true => print_raw(&answer.bytes),
            false => print(&format!("{} {count}", table::plain(id))),
        };
    }
    let ended = end_of(client, id)?;
    status(client, &ended)?;
    match ended.value()?["status"].as_str() {
        Some("success") => Ok(()),
        _ => Err(Failure::Told),
    }
}

/// Asks again and again until all have ended. On a terminal it says how far they are.
fn end_of(client: &Client, id: &str) -> Result<Answer, Failure> {
    let mut left = PATIENCE;
    loop {
        match client.get(&path(id), &[]) {
            Ok(answer) => {
                left = PATIENCE;
                let batch = answer.value()?;
                let ended = !["running", "cancelling"].iter().any(|word| batch["status"] == *word);
                draw(&batch, ended);
                if ended {
                    return Ok(answer);
                }
            }
            Err(Failure::Unreachable(_)) if left > 0 => left -= 1,
            Err(Failure::Failed(text) | Failure::Unreachable(text)) => {
                return Err(Failure::Failed(format!("{text}\n  the batch is {}", table::plain(id))));
            }
            Err(other) => return Err(other),
        }
        std::thread::sleep(POLL);
    }
}

fn draw(batch: &Value, ended: bool) {
    const WIDTH: usize = 30;
    let mut terminal = std::io::stderr();
    if !terminal.is_terminal() {
        return;
    }
    let number = |member: &str| batch[member].as_u64().unwrap_or(0);
    let (over, count) = (number("success") + number("failed") + number("cancelled"), number("count").max(1));
    let full = usize::try_from(over.saturating_mul(WIDTH as u64) / count)
        .unwrap_or(WIDTH)
        .min(WIDTH);
    let bar = format!("[{}{}]", "=".repeat(full), " ".repeat(WIDTH - full));
    let end = if ended { "\n" } else { "" };
    // That nobody sees it is no failure.
    let _ = write!(terminal, "\r{bar} {over} of {count}, {} failed {end}", number("failed"));
}

fn status(client: &Client, answer: &Answer) -> Result<(), Failure> {
    if client.json {
        return print_raw(&answer.bytes);
    }
    table::record(&answer.bytes, RECORD, &["callbacks"])?;
    match answer.value()?["callbacks"].as_array() {
        Some(callbacks) if !callbacks.is_empty() => {
            print("")?;
            table::list(CALLBACKS, callbacks)
        }
        _ => Ok(()),
    }
}

fn open(file: &str) -> Result<Box<dyn Read>, Failure> {
    if file == "-" {
        return Ok(Box::new(std::io::stdin()));
    }
    let file = file.strip_prefix('@').unwrap_or(file);
    match File::open(file) {
        Ok(file) => Ok(Box::new(file)),
        Err(error) => Err(Failure::Usage(format!("{file} cannot be read: {error}"))),
    }
}

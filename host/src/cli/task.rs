//! `task`: looks at tasks, cancels and retries them.

use super::answer::Answer;
use super::client::{Client, segment};
use super::list::{Page, done, show};
use super::submit::print_id;
use super::table::{self, As, Column};
use super::{Failure, print, print_raw, tell};
use clap::{Args, Subcommand};
use serde_json::Value;

const LIST_EXAMPLES: &str = "Examples:
  taskhost task list --status running
  taskhost task list --name settlement --tag nightly --limit 20
  taskhost task list --q 0192f0c1";

const HISTORY_EXAMPLES: &str = "Examples:
  taskhost task history --status failed --since 2026-01-31
  taskhost task history --name backtest --limit 1000 --json > backtests.json";

/// What `task` understands.
#[derive(Debug, Subcommand)]
pub(super) enum Task {
    /// Show everything about a task, or a schedule or trigger.
    Status {
        /// Its id.
        id: String,
    },
    /// Print what a task wrote.
    Logs {
        /// Its id.
        id: String,
        #[command(flatten)]
        page: Page,
    },
    /// Cancel a task, or remove a schedule or trigger.
    Cancel {
        /// Its id.
        id: String,
    },
    /// Run a failed task again as a new one; prints its id.
    Retry {
        /// Its id.
        id: String,
    },
    /// Say why a task does not run.
    Why {
        /// Its id.
        id: String,
    },
    /// List all tasks, newest first.
    #[command(after_help = LIST_EXAMPLES)]
    List(List),
    /// List ended tasks, newest first.
    #[command(after_help = HISTORY_EXAMPLES)]
    History(History),
}

/// Filters of `task list`.
#[derive(Debug, Args)]
pub(super) struct List {
    /// pending, running, success, failed or cancelled.
    #[arg(long, value_name = "STATUS")]
    status: Option<String>,
    /// The task's name.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// One of its tags.
    #[arg(long, value_name = "TAG")]
    tag: Option<String>,
    /// How its id or name begins.
    #[arg(long, value_name = "TEXT")]
    q: Option<String>,
    #[command(flatten)]
    page: Page,
}

/// Filters of `task history`.
#[derive(Debug, Args)]
pub(super) struct History {
    /// The task's name.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// success, failed or cancelled.
    #[arg(long, value_name = "STATUS")]
    status: Option<String>,
    /// Ended then or later.
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Ended before.
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// One of its tags.
    #[arg(long, value_name = "TAG")]
    tag: Option<String>,
    #[command(flatten)]
    page: Page,
}

pub(super) const TASKS: &[Column] = &[
    ("ID", &["task_id"], As::Text(64)),
    ("TASK", &["task_name"], As::Text(32)),
    ("STATUS", &["status"], As::State),
    ("PHASE", &["phase"], As::State),
    ("PRIO", &["priority"], As::Text(2)),
    ("DUE", &["due_at", "trigger_time"], As::Time),
    ("ENDED", &["completed_at"], As::Time),
    ("TOOK", &["execution_time"], As::Seconds),
    ("NOTE", &["error", "held"], As::Text(60)),
];

const ENDED: &[Column] = &[
    ("ID", &["task_id"], As::Text(64)),
    ("TASK", &["task_name"], As::Text(32)),
    ("STATUS", &["status"], As::State),
    ("ENDED", &["completed_at"], As::Time),
    ("TOOK", &["execution_time"], As::Seconds),
    ("RETRIES", &["retry_count"], As::Text(5)),
    ("TAGS", &["tags"], As::Text(30)),
    ("ERROR", &["error"], As::Text(60)),
];

const ATTEMPTS: &[Column] = &[
    ("ATTEMPT", &["number"], As::Text(5)),
    ("OUTCOME", &["outcome"], As::State),
    ("STARTED", &["started_at"], As::Time),
    ("TOOK", &["execution_time"], As::Seconds),
    ("FUEL", &["fuel_used"], As::Text(20)),
    ("MEMORY", &["peak_memory_bytes"], As::Bytes),
    ("PLUGIN", &["plugin_digest"], As::Digest),
    ("ERROR", &["error"], As::Text(60)),
];

/// What one wants to know first of a task, a schedule or a trigger.
const RECORD: &[&str] = &[
    "task_id",
    "name",
    "task_name",
    "status",
    "phase",
    "held",
    "error",
    "error_code",
    "result",
    "progress",
    "cron_expression",
    "session",
    "event_type",
    "next_fire",
    "last_fire",
    "priority",
    "tags",
    "submitted_at",
    "trigger_time",
    "started_at",
    "completed_at",
    "execution_time",
];

impl Task {
    pub(super) fn run(self, client: &Client) -> Result<(), Failure> {
        match self {
            Self::Status { id } => status(client, &id),
            Self::Logs { id, page } => {
                let limit = page.limit();
                let query = [("limit", limit.as_deref()), ("cursor", page.cursor())];
                logs(client, &client.get(&format!("/task/{}/logs", segment(&id)), &query)?)
            }
            Self::Cancel { id } => done(
                client,
                &client.delete(&format!("/task/cancel/{}", segment(&id)), &[])?,
                "cancelled",
                &id,
            ),
            Self::Retry { id } => print_id(client, &client.post(&format!("/task/{}/retry", segment(&id)), "{}")?),
            Self::Why { id } => super::queue::why(client, &id),
            Self::List(filter) => {
                let limit = filter.page.limit();
                let query = [
                    ("status", filter.status.as_deref()),
                    ("task_name", filter.name.as_deref()),
                    ("tag", filter.tag.as_deref()),
                    ("q", filter.q.as_deref()),
                    ("limit", limit.as_deref()),
                    ("cursor", filter.page.cursor()),
                ];
                show(client, &client.get("/tasks", &query)?, TASKS, "no task")
            }
            Self::History(filter) => {
                let limit = filter.page.limit();
                let query = [
                    ("task_name", filter.name.as_deref()),
                    ("status", filter.status.as_deref()),
                    ("since", filter.since.as_deref()),
                    ("until", filter.until.as_deref()),
                    ("tag", filter.tag.as_deref()),
                    ("limit", limit.as_deref()),
                    ("cursor", filter.page.cursor()),
                ];
                show(client, &client.get("/tasks/history", &query)?, ENDED, "no ended task")
            }
        }
    }
}

fn status(client: &Client, id: &str) -> Result<(), Failure> {
    let answer = client.get(&format!("/task/status/{}", segment(id)), &[])?;
    if client.json {
        return print_raw(&answer.bytes);
    }
    let task = answer.value()?;
    // `timestamp` repeats `completed_at`; `schedule fires` shows the fires of a schedule.
    table::record(&answer.bytes, RECORD, &["timestamp", "attempts", "attempt", "fires"])?;
    match task["attempts"].as_array() {
        Some(attempts) if !attempts.is_empty() => {
            print("")?;
            table::list(ATTEMPTS, attempts)
        }
        _ => Ok(()),
    }
}

fn logs(client: &Client, answer: &Answer) -> Result<(), Failure> {
    if client.json {
        print_raw(&answer.bytes)?;
        answer.tell_next();
        return Ok(());
    }
    let lines = answer.list()?;
    if lines.is_empty() {
        tell("nothing was logged");
    }
    for line in &lines {
        print(&log_line(line))?;
    }
    answer.tell_next();
    Ok(())
}

/// One line of a log: when, how grave, where from unless logged, what, and its fields.
pub(super) fn log_line(line: &Value) -> String {
    let text = |member: &str| line[member].as_str().unwrap_or_default();
    let source = Some(text("source"))
        .filter(|source| !["log", ""].contains(source))
        .map(|source| format!("[{source}] "))
        .unwrap_or_default();
    let time = table::short_time(text("time"));
    let mut shown = format!(
        "{time} {:5} {source}{}",
        text("level").to_uppercase(),
        table::plain(text("message"))
    );
    for (name, value) in line["fields"].as_object().into_iter().flatten() {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        shown.push_str(&table::plain(&format!(" {name}={value}")));
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_log_line_says_when_how_grave_and_what() {
        let line = json!({"time": "2026-01-31T09:30:00.5Z", "level": "info", "source": "log", "message": "line\u{7} 2", "fields": {"number": "2"}});
        assert_eq!(log_line(&line), "2026-01-31 09:30:00Z INFO  line\\u{7} 2 number=2");
        let line = json!({"time": "2026-01-31T09:30:00Z", "level": "error", "source": "stderr", "message": "x"});
        assert_eq!(log_line(&line), "2026-01-31 09:30:00Z ERROR [stderr] x");
    }
}

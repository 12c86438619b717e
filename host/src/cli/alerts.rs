//! `alerts`: what went wrong, and putting it away.

use super::client::Client;
use super::list::{Page, show};
use super::table::{As, Column};

use super::{Failure, print, print_raw};
use clap::{Args, Subcommand};

const EXAMPLES: &str = "Examples:
  taskhost alerts list --type task_failure --since 2026-01-31
  taskhost alerts clear --type long_execution";

/// What `alerts` understands.
#[derive(Debug, Subcommand)]
pub(super) enum Alerts {
    /// List the alerts, newest first.
    #[command(after_help = EXAMPLES)]
    List(List),
    /// Put alerts away.
    Clear {
        /// Only this kind: task_failure, long_execution, late, absent, calendar or edit.
        #[arg(long = "type", value_name = "T")]
        kind: Option<String>,
    },
}

/// Filters of `alerts list`.
#[derive(Debug, Args)]
pub(super) struct List {
    /// Only this kind: task_failure, long_execution, late, absent, calendar or edit.
    #[arg(long = "type", value_name = "T")]
    kind: Option<String>,
    /// Seen then or later.
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    #[command(flatten)]
    page: Page,
}

const ALERTS: &[Column] = &[
    ("ALERT", &["alert_id"], As::Text(64)),
    ("TYPE", &["type"], As::State),
    ("TASK", &["task_name"], As::Text(32)),
    ("COUNT", &["count"], As::Text(12)),
    ("LAST", &["timestamp"], As::Time),
    ("TASK ID", &["task_id"], As::Text(64)),
    ("RAN", &["execution_time"], As::Seconds),
    ("ERROR", &["error"], As::Text(60)),
];

impl Alerts {
    pub(super) fn run(self, client: &Client) -> Result<(), Failure> {
        match self {
            Self::List(filter) => {
                let limit = filter.page.limit();
                let query = [
                    ("alert_type", filter.kind.as_deref()),
                    ("since", filter.since.as_deref()),
                    ("limit", limit.as_deref()),
                    ("cursor", filter.page.cursor()),
                ];
                show(client, &client.get("/alerts", &query)?, ALERTS, "no alert")
            }
            Self::Clear { kind } => {
                let answer = client.delete("/alerts/clear", &[("alert_type", kind.as_deref())])?;
                if client.json {
                    return print_raw(&answer.bytes);
                }
                print(&format!("cleared {}", answer.value()?["cleared_count"]))
            }
        }
    }
}

//! `trigger` and `event`: rules that create tasks when something happens, and what sets them off.

use super::client::{Client, segment};
use super::list::{Page, done, show};
use super::submit::print_id;
use super::table::{self, As, Column};

use super::{Failure, json, print, print_raw, tell};
use clap::{Args, Subcommand};

const TRIGGER_EXAMPLES: &str = "Examples:
  taskhost trigger add --task risk_scan --event position_change --priority 2
  taskhost event emit position_change --data '{\"delta\": 1500000}'";

const EMIT_EXAMPLES: &str = "Examples:
  taskhost event emit daily_close
  taskhost event emit market_data_update --data @update.json

Prints the ids of the tasks that it set off; the data is laid over each trigger's payload.";

/// What `trigger` understands.
#[derive(Debug, Subcommand)]
pub(super) enum Trigger {
    /// Create or update a trigger; prints its id.
    #[command(after_help = TRIGGER_EXAMPLES)]
    Add(AddTrigger),
    /// List the triggers.
    List(Page),
    /// Remove a trigger.
    Remove {
        /// Its id.
        id: String,
    },
}

/// What `event` understands.
#[derive(Debug, Subcommand)]
pub(super) enum Event {
    /// Set off the triggers of an event.
    #[command(after_help = EMIT_EXAMPLES)]
    Emit {
        /// What happened.
        #[arg(value_name = "TYPE")]
        kind: String,
        /// Its data, a JSON object.
        #[arg(long, value_name = "JSON|@FILE|-", allow_hyphen_values = true)]
        data: Option<String>,
    },
}

/// What all rules have.
#[derive(Debug, Args)]
pub(super) struct Rule {
    /// The task's name.
    #[arg(long, value_name = "NAME")]
    task: String,
    /// The rule's own name.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// The task's input, a JSON object.
    #[arg(long, value_name = "JSON|@FILE|-", allow_hyphen_values = true)]
    payload: Option<String>,
    /// 1 (most urgent) to 9.
    #[arg(long, value_name = "P", value_parser = clap::value_parser!(u8).range(1..=9))]
    priority: Option<u8>,
    /// A tag; may be given again.
    #[arg(long = "tag", value_name = "T")]
    tags: Vec<String>,
}

/// What `trigger add` understands.
#[derive(Debug, Args)]
pub(super) struct AddTrigger {
    #[command(flatten)]
    rule: Rule,
    /// The event that sets it off.
    #[arg(long, value_name = "TYPE")]
    event: String,
}

const TRIGGERS: &[Column] = &[
    ("ID", &["trigger_id", "task_id"], As::Text(64)),
    ("NAME", &["name"], As::Text(32)),
    ("TASK", &["task_name"], As::Text(32)),
    ("EVENT", &["event_type"], As::Text(40)),
    ("FIRED", &["fired_count"], As::Text(12)),
    ("LAST", &["last_fired"], As::Time),
    ("PRIO", &["priority"], As::Text(2)),
    ("TAGS", &["tags"], As::Text(30)),
];

impl Rule {
    pub(super) fn body(&self) -> Result<json::Body, Failure> {
        let payload = json::optional_object("--payload", self.payload.as_ref())?;
        Ok(json::Body::new()
            .with("task_name", Some(&self.task))
            .with("name", self.name.as_ref())
            .with("payload", payload.as_ref())
            .with("priority", self.priority.as_ref())
            .with_tags(&self.tags))
    }
}

impl Trigger {
    pub(super) fn run(self, client: &Client) -> Result<(), Failure> {
        match self {
            Self::Add(add) => {
                let body = add.rule.body()?.with("event_type", Some(&add.event));
                print_id(client, &client.post("/task/event-trigger", &body.finish())?)
            }
            Self::List(page) => {
                let limit = page.limit();
                let answer = client.get("/triggers", &[("limit", limit.as_deref()), ("cursor", page.cursor())])?;
                show(client, &answer, TRIGGERS, "no trigger")
            }
            Self::Remove { id } => done(client, &client.delete(&format!("/trigger/{}", segment(&id)), &[])?, "removed", &id),
        }
    }
}

impl Event {
    pub(super) fn run(self, client: &Client) -> Result<(), Failure> {
        let Self::Emit { kind, data } = self;
        let data = json::optional_object("--data", data.as_ref())?;
        let body = data.as_ref().map_or("{}", |data| data.get());
        let answer = client.post(&format!("/event/trigger/{}", segment(&kind)), body)?;
        if client.json {
            return print_raw(&answer.bytes);
        }
        let fired = answer.value()?;
        let ids = fired["triggered_tasks"].as_array().cloned().unwrap_or_default();
        if ids.is_empty() {
            tell(&format!("no trigger waits for {kind}"));
        }
        for id in &ids {
            print(&table::shown(As::Text(64), id))?;
        }
        Ok(())
    }
}

//! `trigger` and `event`: rules that create tasks when something happens, and what sets them off.

use super::client::{Client, segment};
use super::list::{Page, done, show};
use super::submit::print_id;
use super::table::{self, As, Column};

use super::{Failure, json, print, print_raw, tell};
use clap::{Args, Subcommand};

const TRIGGER_EXAMPLES: &str = "Examples:
  taskhost trigger add --task risk_scan --event position_change --priority 2
  taskhost trigger add --task risk_scan --event position_change --filter 'data.delta > 1000000.0' --debounce 5
  taskhost event emit position_change --data '{\"delta\": 1500000}'

The filter is a CEL expression over type, source, time and data.";

const EMIT_EXAMPLES: &str = "Examples:
  taskhost event emit daily_close
  taskhost event emit market_data_update --data @update.json
  taskhost event emit fill --data @fill.json --source /desk/fx --id 4711

Prints the ids of the tasks that it set off; the data is laid over each trigger's payload.";

/// What `trigger` understands.
#[derive(Debug, Subcommand)]
pub(super) enum Trigger {
    /// Create or update a trigger; prints its id.
    #[command(after_help = TRIGGER_EXAMPLES)]
    Add(AddTrigger),
    /// Change a trigger for good, over what it is declared with now and later.
    Edit(EditTrigger),
    /// List the triggers.
    List(Page),
    /// Let events pass a trigger by.
    Pause {
        /// Its id or name.
        id: String,
    },
    /// Let events fire a trigger again.
    Resume {
        /// Its id or name.
        id: String,
    },
    /// Remove a trigger.
    Remove {
        /// Its id or name.
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
        /// Who tells it: a reference to a URI. An event of the same source and id is delivered once.
        #[arg(long, value_name = "URI", requires = "id")]
        source: Option<String>,
        /// Its id, unique in its source.
        #[arg(long, value_name = "ID", requires = "source")]
        id: Option<String>,
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
    #[command(flatten)]
    input: Input,
}

/// What a rule gives its tasks.
#[derive(Debug, Args)]
pub(super) struct Input {
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

/// What an edit of a rule takes back.
#[derive(Debug, Args)]
pub(super) struct Reset {
    /// Take back what was edited of this member, such as priority or payload; may be given again.
    #[arg(long = "reset", value_name = "MEMBER")]
    members: Vec<String>,
}

/// What `trigger edit` understands.
#[derive(Debug, Args)]
pub(super) struct EditTrigger {
    /// Its id or name.
    id: String,
    #[command(flatten)]
    input: Input,
    #[command(flatten)]
    terms: Terms,
    #[command(flatten)]
    reset: Reset,
}

/// What `trigger add` understands.
#[derive(Debug, Args)]
pub(super) struct AddTrigger {
    #[command(flatten)]
    rule: Rule,
    /// The event that sets it off.
    #[arg(long, value_name = "TYPE")]
    event: String,
    #[command(flatten)]
    terms: Terms,
}

/// Which events set a trigger off, and when.
#[derive(Debug, Args)]
struct Terms {
    /// Only events for which this is true, such as 'data.delta > 1000000.0'.
    #[arg(long, value_name = "CEL")]
    filter: Option<String>,
    /// Wait until no event has come for so many seconds, and run once with the last one.
    #[arg(long, value_name = "SECONDS")]
    debounce: Option<f64>,
}

const TRIGGERS: &[Column] = &[
    ("ID", &["trigger_id", "task_id"], As::Text(64)),
    ("NAME", &["name"], As::Text(32)),
    ("TASK", &["task_name"], As::Text(32)),
    ("EVENT", &["event_type"], As::Text(40)),
    ("STATUS", &["status"], As::Text(10)),
    ("FILTER", &["filter"], As::Text(40)),
    ("FIRED", &["fired_count"], As::Text(12)),
    ("LAST", &["last_fired"], As::Time),
    ("PRIO", &["priority"], As::Text(2)),
    ("TAGS", &["tags"], As::Text(30)),
];

impl Rule {
    pub(super) fn body(&self) -> Result<json::Body, Failure> {
        let body = json::Body::new()
            .with("task_name", Some(&self.task))
            .with("name", self.name.as_ref());
        self.input.members(body)
    }
}

impl Input {
    pub(super) fn members(&self, body: json::Body) -> Result<json::Body, Failure> {
        let payload = json::optional_object("--payload", self.payload.as_ref())?;
        Ok(body
            .with("payload", payload.as_ref())
            .with("priority", self.priority.as_ref())
            .with_tags(&self.tags))
    }
}

impl Terms {
    fn members(&self, body: json::Body) -> json::Body {
        body.with("filter", self.filter.as_ref()).with("debounce", self.debounce.as_ref())
    }
}

impl Reset {
    /// The merge patch that takes these back beside what `body` changes.
    pub(super) fn patch(&self, body: json::Body) -> Result<String, Failure> {
        let reset = |body: json::Body, member: &String| body.with(member, Some(&serde_json::Value::Null));
        match self.members.iter().fold(body, reset).finish() {
            empty if empty == "{}" => Err(Failure::Usage("say what to change: at least one option is needed".to_owned())),
            patch => Ok(patch),
        }
    }
}

impl Trigger {
    pub(super) fn run(self, client: &Client) -> Result<(), Failure> {
        match self {
            Self::Add(add) => {
                let body = add.terms.members(add.rule.body()?.with("event_type", Some(&add.event)));
                print_id(client, &client.post("/task/event-trigger", &body.finish())?)
            }
            Self::Edit(edit) => {
                let body = edit.terms.members(edit.input.members(json::Body::new())?);
                let path = format!("/trigger/{}", segment(&edit.id));
                done(client, &client.patch(&path, &edit.reset.patch(body)?)?, "edited", &edit.id)
            }
            Self::List(page) => {
                let limit = page.limit();
                let answer = client.get("/triggers", &[("limit", limit.as_deref()), ("cursor", page.cursor())])?;
                show(client, &answer, TRIGGERS, "no trigger")
            }
            Self::Pause { id } => done(
                client,
                &client.post(&format!("/trigger/{}/pause", segment(&id)), "")?,
                "paused",
                &id,
            ),
            Self::Resume { id } => done(
                client,
                &client.post(&format!("/trigger/{}/resume", segment(&id)), "")?,
                "resumed",
                &id,
            ),
            Self::Remove { id } => done(client, &client.delete(&format!("/trigger/{}", segment(&id)), &[])?, "removed", &id),
        }
    }
}

impl Event {
    pub(super) fn run(self, client: &Client) -> Result<(), Failure> {
        let Self::Emit { kind, data, source, id } = self;
        let data = json::optional_object("--data", data.as_ref())?;
        let answer = match source.zip(id) {
            Some((source, id)) => {
                let body = json::Body::new()
                    .with("specversion", Some("1.0"))
                    .with("type", Some(&kind))
                    .with("source", Some(&source))
                    .with("id", Some(&id))
                    .with("data", data.as_ref());
                client.post_as("/events", "application/cloudevents+json", &body.finish())?
            }
            None => client.post(
                &format!("/event/trigger/{}", segment(&kind)),
                data.as_ref().map_or("{}", |data| data.get()),
            )?,
        };
        if client.json {
            return print_raw(&answer.bytes);
        }
        let fired = answer.value()?;
        let ids = fired["triggered_tasks"].as_array().cloned().unwrap_or_default();
        if fired["duplicate"] == true {
            tell("an event of this source and id was delivered before; nothing was done");
        } else if ids.is_empty() {
            tell(&format!("no trigger waits for {kind}"));
        }
        for id in &ids {
            print(&table::shown(As::Text(64), id))?;
        }
        Ok(())
    }
}

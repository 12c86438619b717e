//! `schedule`: rules about time that create tasks.

use super::client::{Client, segment};
use super::list::{Page, done, show};
use super::rules::{Input, Reset, Rule};
use super::submit::print_id;
use super::table::{self, As, Column};
use super::{Failure, json, print, print_raw, tell};
use clap::{ArgGroup, Args, Subcommand};
use serde_json::{Value, json};

const ADD_EXAMPLES: &str = "Examples:
  taskhost schedule add --task settlement --cron '30 17 * * 1-5' --timezone Europe/London --name settle-london
  taskhost schedule add --task performance_report --calendar XNYS --session close+1800
  taskhost schedule add --task data_sync --cron '*/10 * * * * *' --overlap skip --payload @sync.json

The same name again updates the schedule; what was edited by hand stays, as far as it still fits.";

const EDIT_EXAMPLES: &str = "Examples:
  taskhost schedule edit 019b8d1e-6a00-7c52-9d6e-0d6a0e4c3b11 --cron '0 9 * * *' --overlap skip
  taskhost schedule edit settle-london --payload '{\"limit\": 5}'
  taskhost schedule edit 019b8d1e-6a00-7c52-9d6e-0d6a0e4c3b11 --reset cron_expression --reset overlap

A payload changes the members that it names, at every level.";

const PREVIEW_EXAMPLES: &str = "Examples:
  taskhost schedule preview --cron '30 2 * * *' --timezone America/New_York --count 10
  taskhost schedule preview --calendar XNYS --session close+1800 --after 2026-11-25";

/// What `schedule` understands.
#[derive(Debug, Subcommand)]
pub(super) enum Schedule {
    /// Create or update a schedule; prints its id.
    #[command(after_help = ADD_EXAMPLES)]
    Add(Box<Add>),
    /// Change a schedule for good, over what it is declared with now and later.
    #[command(after_help = EDIT_EXAMPLES)]
    Edit(Box<Edit>),
    /// List the schedules.
    List(Page),
    /// Show when a schedule would fire; nothing is kept.
    #[command(after_help = PREVIEW_EXAMPLES)]
    Preview(Preview),
    /// Show what a schedule did, latest first: its tasks, and its skipped fires with the reason.
    Fires {
        /// Its id or name.
        id: String,
        #[command(flatten)]
        page: Page,
    },
    /// Stop firing until it is resumed.
    Pause {
        /// Its id or name.
        id: String,
    },
    /// Fire again, from the next fire on.
    Resume {
        /// Its id or name.
        id: String,
    },
    /// Fire now, beside the rule; prints the task's id.
    Run {
        /// Its id or name.
        id: String,
    },
    /// Make the missing fires of a stretch of time.
    Backfill {
        /// Its id or name.
        id: String,
        /// From this on.
        #[arg(long, value_name = "TIME")]
        from: String,
        /// Up to this.
        #[arg(long, value_name = "TIME")]
        to: String,
    },
    /// Remove a schedule.
    Remove {
        /// Its id or name.
        id: String,
    },
}

/// What a schedule fires by.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("fires").required(true).args(["cron", "session"])))]
struct When {
    /// When: five fields, six with seconds first, or @daily and the like.
    #[arg(long, value_name = "EXPR")]
    cron: Option<String>,
    /// Relative to each session of the calendar: open or close, and seconds after (+) or before (-) it.
    #[arg(long, value_name = "EDGE[+SECONDS]", value_parser = session, requires = "calendar")]
    session: Option<Value>,
}

/// The same where it may stay as it is.
#[derive(Debug, Args)]
struct OtherWhen {
    /// When: five fields, six with seconds first, or @daily and the like.
    #[arg(long, value_name = "EXPR", conflicts_with = "session")]
    cron: Option<String>,
    /// Relative to each session of the calendar: open or close, and seconds after (+) or before (-) it.
    #[arg(long, value_name = "EDGE[+SECONDS]", value_parser = session)]
    session: Option<Value>,
}

/// How that is read.
#[derive(Debug, Args)]
struct Timing {
    /// The IANA time zone of the expression; UTC where left out.
    #[arg(long, value_name = "ZONE")]
    timezone: Option<String>,
    /// The calendar that says on which days there are sessions.
    #[arg(long, value_name = "NAME")]
    calendar: Option<String>,
    /// On a day without a session: skip (the default), next or previous.
    #[arg(long, value_name = "CHOICE", value_parser = ["skip", "next", "previous"])]
    on_closed: Option<String>,
    /// Where the clocks go forward over a fixed hour: run_after (the default) or skip.
    #[arg(long, value_name = "CHOICE", value_parser = ["run_after", "skip"])]
    dst_gap: Option<String>,
    /// Where a fixed hour comes twice: first (the default), last or both.
    #[arg(long, value_name = "CHOICE", value_parser = ["first", "last", "both"])]
    dst_overlap: Option<String>,
    /// Not before.
    #[arg(long, value_name = "TIME")]
    start: Option<String>,
    /// Not after.
    #[arg(long, value_name = "TIME")]
    end: Option<String>,
}

/// What `schedule add` understands.
#[derive(Debug, Args)]
pub(super) struct Add {
    #[command(flatten)]
    rule: Rule,
    #[command(flatten)]
    when: When,
    #[command(flatten)]
    timing: Timing,
    #[command(flatten)]
    policy: Policy,
}

/// What `schedule edit` understands.
#[derive(Debug, Args)]
pub(super) struct Edit {
    /// Its id or name.
    id: String,
    #[command(flatten)]
    input: Input,
    #[command(flatten)]
    when: OtherWhen,
    #[command(flatten)]
    timing: Timing,
    #[command(flatten)]
    policy: Policy,
    #[command(flatten)]
    reset: Reset,
}

/// What becomes of fires that come too late or too early.
#[derive(Debug, Args)]
struct Policy {
    /// Of fires that were missed: latest (the default), all or none is made up for.
    #[arg(long, value_name = "CHOICE", value_parser = ["latest", "all", "none"])]
    misfire: Option<String>,
    /// While an earlier fire's task has not ended: queue_one (the default), skip, queue_all, cancel_previous or allow.
    #[arg(long, value_name = "CHOICE", value_parser = ["queue_one", "skip", "queue_all", "cancel_previous", "allow"])]
    overlap: Option<String>,
}

/// What `schedule preview` understands.
#[derive(Debug, Args)]
pub(super) struct Preview {
    #[command(flatten)]
    when: When,
    #[command(flatten)]
    timing: Timing,
    /// How many fires.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1_000))]
    count: Option<u16>,
    /// Strictly after this; now where left out.
    #[arg(long, value_name = "TIME")]
    after: Option<String>,
}

fn session(text: &str) -> Result<Value, String> {
    let at = text.find(['+', '-']).unwrap_or(text.len());
    let (edge, offset) = text.split_at(at);
    let offset: Option<i32> = if offset.is_empty() { Some(0) } else { offset.parse().ok() };
    match (edge, offset) {
        ("open" | "close", Some(offset)) => Ok(json!({ "edge": edge, "offset": offset })),
        _ => Err("must be open or close and seconds, such as close+1800 or open-600".to_owned()),
    }
}

const SCHEDULES: &[Column] = &[
    ("ID", &["schedule_id", "task_id"], As::Text(64)),
    ("NAME", &["name"], As::Text(32)),
    ("TASK", &["task_name"], As::Text(32)),
    ("WHEN", &["cron_expression", "session"], As::When),
    ("ZONE", &["timezone"], As::Text(24)),
    ("CALENDAR", &["calendar"], As::Text(16)),
    ("STATUS", &["status"], As::Text(9)),
    ("NEXT", &["next_fire"], As::Time),
    ("LAST", &["last_fire"], As::Time),
    ("PRIO", &["priority"], As::Text(2)),
    ("TAGS", &["tags"], As::Text(30)),
];

const FIRES: &[Column] = &[
    ("AT", &["at"], As::Time),
    ("TASK", &["task_id"], As::Text(64)),
    ("SKIPPED", &["skipped"], As::Text(8)),
    ("UNTIL", &["until"], As::Time),
    ("COUNT", &["count"], As::Text(8)),
];

const BACKFILLED: &[Column] = &[
    ("AT", &["at"], As::Time),
    ("STATUS", &["status"], As::Text(8)),
    ("TASK", &["task_id"], As::Text(64)),
];

fn when(cron: Option<&String>, session: Option<&Value>, body: json::Body) -> json::Body {
    body.with("cron_expression", cron).with("session", session)
}

impl Policy {
    fn members(&self, body: json::Body) -> json::Body {
        body.with("misfire", self.misfire.as_ref()).with("overlap", self.overlap.as_ref())
    }
}

impl Timing {
    fn members(&self, body: json::Body) -> json::Body {
        body.with("timezone", self.timezone.as_ref())
            .with("calendar", self.calendar.as_ref())
            .with("on_closed", self.on_closed.as_ref())
            .with("dst_gap", self.dst_gap.as_ref())
            .with("dst_overlap", self.dst_overlap.as_ref())
            .with("start", self.start.as_ref())
            .with("end", self.end.as_ref())
    }
}

impl Schedule {
    pub(super) fn run(self, client: &Client) -> Result<(), Failure> {
        let of = |id: &str, what: &str| format!("/schedule/{}{what}", segment(id));
        match self {
            Self::Add(add) => {
                let body = when(add.when.cron.as_ref(), add.when.session.as_ref(), add.rule.body()?);
                let body = add.policy.members(add.timing.members(body));
                print_id(client, &client.post("/task/cron", &body.finish())?)
            }
            Self::Edit(edit) => {
                let body = edit.input.members(json::Body::new())?;
                let body = when(edit.when.cron.as_ref(), edit.when.session.as_ref(), body);
                let patch = edit.reset.patch(edit.policy.members(edit.timing.members(body)))?;
                done(client, &client.patch(&of(&edit.id, ""), &patch)?, "edited", &edit.id)
            }
            Self::List(page) => {
                let limit = page.limit();
                let answer = client.get("/schedules", &[("limit", limit.as_deref()), ("cursor", page.cursor())])?;
                show(client, &answer, SCHEDULES, "no schedule")
            }
            Self::Preview(preview) => preview.run(client),
            Self::Fires { id, page } => {
                let limit = page.limit();
                let answer = client.get(&of(&id, "/fires"), &[("limit", limit.as_deref()), ("cursor", page.cursor())])?;
                show(client, &answer, FIRES, "it has not fired yet")
            }
            Self::Pause { id } => done(client, &client.post(&of(&id, "/pause"), "{}")?, "paused", &id),
            Self::Resume { id } => done(client, &client.post(&of(&id, "/resume"), "{}")?, "resumed", &id),
            Self::Run { id } => print_id(client, &client.post(&of(&id, "/run"), "{}")?),
            Self::Backfill { id, from, to } => {
                let body = json::Body::new().with("from", Some(&from)).with("to", Some(&to));
                let answer = client.post(&of(&id, "/backfill"), &body.finish())?;
                if client.json {
                    return print_raw(&answer.bytes);
                }
                let answer = answer.value()?;
                let fires = answer["fires"].as_array().cloned().unwrap_or_default();
                if fires.is_empty() {
                    tell("no fire in that time");
                    return Ok(());
                }
                table::list(BACKFILLED, &fires)
            }
            Self::Remove { id } => done(client, &client.delete(&of(&id, ""), &[])?, "removed", &id),
        }
    }
}

impl Preview {
    fn run(&self, client: &Client) -> Result<(), Failure> {
        let body = when(self.when.cron.as_ref(), self.when.session.as_ref(), json::Body::new());
        let body = self.timing.members(body);
        let body = body.with("count", self.count.as_ref()).with("after", self.after.as_ref());
        let answer = client.post("/schedule/preview", &body.finish())?;
        if client.json {
            return print_raw(&answer.bytes);
        }
        let fires = answer.value()?["fires"].as_array().cloned().unwrap_or_default();
        if fires.is_empty() {
            tell("no fire after that");
        }
        for fire in &fires {
            print(&table::shown(As::Text(64), fire))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_an_edge_and_seconds() {
        for (text, expected) in [
            ("close", Some(("close", 0))),
            ("close+1800", Some(("close", 1800))),
            ("open-600", Some(("open", -600))),
            ("noon", None),
            ("close+", None),
            ("close+1h", None),
            ("", None),
        ] {
            let expected = expected.map(|(edge, offset)| json!({ "edge": edge, "offset": offset }));
            assert_eq!(session(text).ok(), expected, "{text}");
        }
    }
}

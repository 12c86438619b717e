//! `workflow`: hands in steps that need one another, says where they stand, cancels them and takes them up again.

use super::answer::Answer;
use super::client::{Client, segment};
use super::list::{Page, done, show};
use super::table::{self, As, Column};
use super::{Failure, json, print, print_raw};
use clap::Subcommand;
use serde_json::Value;

const SUBMIT_EXAMPLES: &str = "Examples:
  taskhost workflow submit night.json

The file is what the API takes: {\"steps\": [{\"key\": \"prices\", \"task_name\": \"data_sync\", \"payload\": {…}},
{\"key\": \"risk\", \"task_name\": \"risk_scan\", \"needs\": [\"prices\"]}]}. The workflow's id is printed.";

/// What `workflow` understands.
#[derive(Debug, Subcommand)]
pub(super) enum Workflow {
    /// Submit a workflow, a JSON object.
    #[command(after_help = SUBMIT_EXAMPLES)]
    Submit {
        /// Where it is, FILE or @FILE; - for stdin.
        #[arg(value_name = "FILE|-")]
        file: String,
    },
    /// Show a workflow and its steps.
    Status {
        /// Its id.
        id: String,
    },
    /// List workflows, newest first.
    List(Page),
    /// Cancel the steps of a workflow that have not ended.
    Cancel {
        /// Its id.
        id: String,
    },
    /// Run a step that failed or was cancelled again, and what waits for it; prints the id of its new task.
    Retry {
        /// The workflow's id.
        id: String,
        /// The step's key.
        #[arg(value_name = "STEP")]
        key: String,
    },
}

const WORKFLOWS: &[Column] = &[
    ("ID", &["workflow_id"], As::Text(64)),
    ("NAME", &["name"], As::Text(32)),
    ("STATUS", &["status"], As::State),
    ("SUBMITTED", &["submitted_at"], As::Time),
    ("ENDED", &["completed_at"], As::Time),
];

const STEPS: &[Column] = &[
    ("STEP", &["key"], As::Text(32)),
    ("TASK", &["task_name"], As::Text(32)),
    ("STATUS", &["status"], As::State),
    ("NEEDS", &["needs"], As::Text(40)),
    ("ID", &["task_id"], As::Text(64)),
    ("ENDED", &["completed_at"], As::Time),
    ("NOTE", &["error"], As::Text(60)),
];

impl Workflow {
    pub(super) fn run(self, client: &Client) -> Result<(), Failure> {
        match self {
            Self::Submit { file } => {
                let body = json::document("the workflow", &file)?;
                let answer = client.post("/workflow", body.get())?;
                print_member(client, &answer, "workflow_id")
            }
            Self::Status { id } => status(client, &client.get(&path(&id), &[])?),
            Self::List(page) => {
                let limit = page.limit();
                let query = [("limit", limit.as_deref()), ("cursor", page.cursor())];
                show(client, &client.get("/workflows", &query)?, WORKFLOWS, "no workflow")
            }
            Self::Cancel { id } => done(client, &client.delete(&path(&id), &[])?, "cancelled", &id),
            Self::Retry { id, key } => {
                let answer = client.post(&format!("{}/step/{}/retry", path(&id), segment(&key)), "{}")?;
                print_member(client, &answer, "task_id")
            }
        }
    }
}

fn path(id: &str) -> String {
    format!("/workflow/{}", segment(id))
}

fn print_member(client: &Client, answer: &Answer, member: &str) -> Result<(), Failure> {
    if client.json {
        return print_raw(&answer.bytes);
    }
    match &answer.value()?[member] {
        Value::String(id) => print(&table::plain(id)),
        _ => Err(Failure::Failed(format!("the answer has no {member}; is --url that of a Taskhost?"))),
    }
}

fn status(client: &Client, answer: &Answer) -> Result<(), Failure> {
    if client.json {
        return print_raw(&answer.bytes);
    }
    table::record(&answer.bytes, &["workflow_id", "name", "status"], &["steps"])?;
    let workflow = answer.value()?;
    let steps = workflow["steps"].as_object().into_iter().flatten();
    let steps: Vec<Value> = steps
        .map(|(key, step)| {
            let mut step = step.clone();
            step["key"] = Value::from(key.as_str());
            step
        })
        .collect();
    print("")?;
    table::list(STEPS, &steps)
}

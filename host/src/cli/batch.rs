//! `batch`: hands in many tasks at once, all or none.

use super::client::Client;
use super::{Failure, print, print_raw, table};
use clap::Subcommand;
use serde_json::Value;
use std::fs::File;
use std::io::Read;

const SUBMIT_EXAMPLES: &str = "Examples:
  taskhost batch submit tasks.ndjson --name nightly
  jq -c '.books[] | {task_name: \"settlement\", payload: .}' books.json | taskhost batch submit -

Each line is a submission: {\"task_name\": …, \"payload\": {…}}, with the members that the API takes for a task. Either all of them are
taken, and the batch's id and their number are printed, or none, and the line that is wrong is named.";

/// What `batch` understands.
#[derive(Debug, Subcommand)]
pub(super) enum Batch {
    /// Submit a file of tasks, one JSON object a line.
    #[command(after_help = SUBMIT_EXAMPLES)]
    Submit {
        /// Where the tasks are; - for stdin.
        #[arg(value_name = "FILE|-")]
        file: String,
        /// The batch's name, for people.
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
    },
}

impl Batch {
    pub(super) fn run(self, client: &Client) -> Result<(), Failure> {
        let Self::Submit { file, name } = self;
        let query = [("name", name.as_deref())];
        let answer = client.stream("/tasks/batch", &query, "application/x-ndjson", open(&file)?)?;
        if client.json {
            return print_raw(&answer.bytes);
        }
        let batch = answer.value()?;
        match (&batch["batch_id"], &batch["count"]) {
            (Value::String(id), Value::Number(count)) => print(&format!("{} {count}", table::plain(id))),
            _ => Err(Failure::Failed(
                "the answer names no batch; is --url that of a Taskhost?".to_owned(),
            )),
        }
    }
}

fn open(file: &str) -> Result<Box<dyn Read>, Failure> {
    if file == "-" {
        return Ok(Box::new(std::io::stdin()));
    }
    match File::open(file) {
        Ok(file) => Ok(Box::new(file)),
        Err(error) => Err(Failure::Usage(format!("{file} cannot be read: {error}"))),
    }
}

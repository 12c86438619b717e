//! `submit`: hands in a task and, with `--wait`, stays until it has ended.

use super::answer::Answer;
use super::client::{Client, complaints, segment};
use super::{Failure, batch, json, print, print_raw, table, tell};
use clap::Args;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use std::time::Duration;

/// Between two looks at the task: short at first, since many tasks take no longer.
const FIRST_POLL: Duration = Duration::from_millis(5);
const LAST_POLL: Duration = Duration::from_millis(500);
/// A host that restarts while its task is waited for is given this many looks.
const PATIENCE: u32 = 60;

const EXAMPLES: &str = "Examples:
  taskhost submit echo --payload '{\"value\": 1}' --wait
  taskhost submit backtest --payload @backtest.json --priority 2 --tag nightly
  jq '.trades' book.json | taskhost submit settlement --payload - --at 2026-01-31T17:30:00Z
  taskhost submit backtest --payload @backtest.json --sweep /params/fast=5,10,20 --sweep /params/slow=50,100 --wait

Without --wait the id is printed; with it the result, and the exit code is 1 unless the task succeeded. With --sweep a batch is submitted:
its id and the number of its tasks are printed, or with --wait how they ended.";

/// What `submit` understands.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Submit {
    /// The task's name.
    name: String,
    /// Its input, a JSON object.
    #[arg(long, value_name = "JSON|@FILE|-", allow_hyphen_values = true)]
    payload: Option<String>,
    /// When to run it; without an offset in UTC [default: now].
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
    /// 1 (most urgent) to 9.
    #[arg(long, value_name = "P", value_parser = clap::value_parser!(u8).range(1..=9))]
    priority: Option<u8>,
    /// A tag; may be given again.
    #[arg(long = "tag", value_name = "T")]
    tags: Vec<String>,
    /// Seconds that an attempt may take.
    #[arg(long, value_name = "S", value_parser = duration, allow_negative_numbers = true)]
    timeout: Option<f64>,
    /// How often it is tried again.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=1_000))]
    max_retries: Option<u32>,
    /// If it has not begun by then, it never does.
    #[arg(long, value_name = "TIME")]
    expires_at: Option<String>,
    /// If it has not ended by then, an alert is raised.
    #[arg(long, value_name = "TIME")]
    deadline: Option<String>,
    /// Whom it takes turns with: a text, or a JSON pointer into the payload.
    #[arg(long, value_name = "TEXT|POINTER")]
    fair_key: Option<String>,
    /// One at a time of those with the same payload, or the same members of it (JSON pointers); may be given again.
    #[arg(long, value_name = "POINTER", num_args = 0..=1, default_missing_value = "", conflicts_with = "sweep")]
    unique: Vec<String>,
    /// Wait until it has ended and print its result.
    #[arg(long)]
    wait: bool,
    /// A member of the payload, or a JSON pointer, and its values; may be given again: every combination makes one task.
    #[arg(long, value_name = "FIELD=A,B,C", value_parser = swept, allow_hyphen_values = true)]
    sweep: Vec<Swept>,
    /// Of a sweep: its name, for people.
    #[arg(long, value_name = "NAME", requires = "sweep")]
    batch_name: Option<String>,
}

/// A place in the payload and the values that it takes.
#[derive(Clone, Debug)]
struct Swept {
    pointer: String,
    values: Vec<Box<RawValue>>,
}

/// Reads `FIELD=A,B,C`, in which each value is JSON, or else text; or `FIELD=[…]`, a JSON array.
fn swept(given: &str) -> Result<Swept, String> {
    let (field, values) = given
        .split_once('=')
        .filter(|(field, values)| !field.is_empty() && !values.is_empty())
        .ok_or("is not FIELD=A,B,C")?;
    let pointer = if field.starts_with('/') {
        field.to_owned()
    } else {
        format!("/{}", field.replace('~', "~0"))
    };
    if let Ok(values) = serde_json::from_str::<Vec<Box<RawValue>>>(values) {
        return Ok(Swept { pointer, values });
    }
    let value = |text: &str| {
        let text = text.trim();
        let quoted = || RawValue::from_string(Value::from(text).to_string());
        RawValue::from_string(text.to_owned())
            .or_else(|_| quoted())
            .map_err(|error| error.to_string())
    };
    let values = values.split(',').map(value).collect::<Result<_, String>>()?;
    Ok(Swept { pointer, values })
}

/// The places in the order in which they were given.
fn grid(sweep: &[Swept]) -> Result<Box<RawValue>, Failure> {
    let places = sweep.iter().fold(json::Body::new(), |body, place| {
        let name = Value::from(place.pointer.as_str()).to_string();
        body.with(&name[1..name.len() - 1], Some(&place.values))
    });
    RawValue::from_string(places.finish()).map_err(|error| Failure::Usage(format!("--sweep cannot be written as JSON: {error}")))
}

fn duration(text: &str) -> Result<f64, &'static str> {
    let seconds = text.parse().ok().filter(|seconds: &f64| seconds.is_finite() && *seconds > 0.0);
    seconds.ok_or("must be a number of seconds greater than 0")
}

impl Submit {
    pub(super) fn run(self, client: &Client) -> Result<(), Failure> {
        let payload = json::optional_object("--payload", self.payload.as_ref())?;
        let grid = if self.sweep.is_empty() { None } else { Some(grid(&self.sweep)?) };
        let fields: Vec<&String> = self.unique.iter().filter(|field| !field.is_empty()).collect();
        let unique = (!self.unique.is_empty()).then(|| serde_json::json!({ "fields": fields }));
        let body = json::Body::new()
            .with("task_name", Some(&self.name))
            .with("grid", grid.as_ref())
            .with("name", self.batch_name.as_ref())
            .with("payload", payload.as_ref())
            .with("trigger_time", self.at.as_ref())
            .with("priority", self.priority.as_ref())
            .with("timeout", self.timeout.as_ref())
            .with("max_retries", self.max_retries.as_ref())
            .with("expires_at", self.expires_at.as_ref())
            .with("deadline", self.deadline.as_ref())
            .with("fair_key", self.fair_key.as_ref())
            .with("unique", unique.as_ref())
            .with_tags(&self.tags)
            .finish();
        if grid.is_some() {
            return batch::accepted(client, &client.post("/tasks/batch", &body)?, self.wait);
        }
        let accepted = client.post("/task/submit", &body)?;
        if !self.wait {
            return print_id(client, &accepted);
        }
        // Whatever happens from here on, the id is known: a task that is submitted twice may pay twice.
        report(client, &end_of(client, &id_of(&accepted)?)?)
    }
}

/// Prints what was created: its id, or all of the answer.
pub(super) fn print_id(client: &Client, answer: &Answer) -> Result<(), Failure> {
    if client.json {
        return print_raw(&answer.bytes);
    }
    print(&table::plain(&id_of(answer)?))
}

fn id_of(answer: &Answer) -> Result<String, Failure> {
    let id = answer.value()?["task_id"].as_str().map(str::to_owned);
    id.ok_or_else(|| Failure::Failed("the answer names no task; is --url that of a Taskhost?".to_owned()))
}

/// Asks again and again until the task has ended.
fn end_of(client: &Client, id: &str) -> Result<Answer, Failure> {
    let (mut left, mut poll) = (PATIENCE, FIRST_POLL);
    loop {
        match client.get(&format!("/task/status/{}", segment(id)), &[]) {
            Ok(answer) => {
                left = PATIENCE;
                let status = &answer.value()?["status"];
                if ["success", "failed", "cancelled"].iter().any(|word| status == word) {
                    return Ok(answer);
                }
            }
            Err(Failure::Unreachable(_)) if left > 0 => left -= 1,
            Err(failure) => return Err(also_names(id, failure)),
        }
        std::thread::sleep(poll);
        poll = (poll * 2).min(LAST_POLL);
    }
}

/// The task goes on without us; how to find it must not be lost.
fn also_names(id: &str, failure: Failure) -> Failure {
    match failure {
        Failure::Failed(text) | Failure::Unreachable(text) => Failure::Failed(format!("{text}\n  the task is {}", table::plain(id))),
        other => other,
    }
}

/// Prints how a task ended: its result on stdout, why it has none on stderr.
fn report(client: &Client, answer: &Answer) -> Result<(), Failure> {
    /// The result as it is written.
    #[derive(Deserialize)]
    struct Ended<'a> {
        #[serde(borrow, default)]
        result: Option<&'a RawValue>,
    }
    let task = answer.value()?;
    let success = task["status"] == "success";
    if client.json {
        match print_raw(&answer.bytes) {
            // That nobody reads on does not make it a success.
            Err(Failure::Unread) if !success => {}
            printed => printed?,
        }
    } else if success {
        let ended: Option<Ended<'_>> = serde_json::from_slice(&answer.bytes).ok();
        print(&json::pretty(ended.and_then(|ended| ended.result).map_or("null", RawValue::get)))?;
    }
    if success {
        return Ok(());
    }
    tell(&format!("error: {}", table::plain(&why(&task))));
    for complaint in complaints(&task["error_details"]["errors"]) {
        tell(&format!("  {}", table::plain(&complaint)));
    }
    Err(Failure::Told)
}

/// Why a task has no result, in one line.
fn why(task: &Value) -> String {
    let text = |member: &str| task[member].as_str().unwrap_or_default();
    let (id, error, code) = (text("task_id"), text("error"), text("error_code"));
    let happened = if task["status"] == "cancelled" { "was cancelled" } else { "failed" };
    let colon = if error.is_empty() { "" } else { ": " };
    let code = if code.is_empty() { String::new() } else { format!(" ({code})") };
    format!("task {id} {happened}{colon}{error}{code}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_sweep_keeps_its_order_and_its_digits() {
        let sweep = ["z=1.50,x y,true", "/a/b=[[1],{}]", "q\"~=-1"].map(|given| swept(given).unwrap());
        assert_eq!(
            grid(&sweep).unwrap().get(),
            r#"{"/z":[1.50,"x y",true],"/a/b":[[1],{}],"/q\"~0":[-1]}"#
        );
        for bad in ["a", "=1", "a="] {
            assert!(swept(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_failure_is_told_in_one_line() {
        let task = json!({"task_id": "t", "status": "failed", "error": "no luck", "error_code": "fatal"});
        assert_eq!(why(&task), "task t failed: no luck (fatal)");
        assert_eq!(
            why(&json!({"task_id": "t", "status": "cancelled", "error": null})),
            "task t was cancelled"
        );
    }
}

//! `retention`: what is kept of what has ended, and what would be forgotten.

use super::client::Client;
use super::table::{self, As, Column};
use super::{Failure, print, print_raw};
use clap::Args;
use serde_json::{Map, Value, json};

const EXAMPLES: &str = "Examples:
  taskhost retention
  taskhost retention --keep-bytes 1GiB

With options it shows what would be forgotten if [monitor] said so; nothing is forgotten by it.";

/// What `retention` understands.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Retention {
    /// Try another number of bytes.
    #[arg(long, value_name = "SIZE")]
    keep_bytes: Option<String>,
    /// Try another number of days.
    #[arg(long, value_name = "DAYS")]
    retention_days: Option<String>,
    /// Try another number of newest tasks.
    #[arg(long, value_name = "N")]
    keep_newest: Option<String>,
}

const RULES: &[Column] = &[
    ("RULE", &["name"], As::Text(128)),
    ("DAYS", &["retention_days"], As::Text(8)),
    ("NEWEST", &["keep_newest"], As::Text(20)),
    ("BYTES", &["keep_bytes"], As::Bytes),
];

const KINDS: &[Column] = &[
    ("KEPT", &["name"], As::Text(128)),
    ("COUNT", &["count"], As::Text(20)),
    ("BYTES", &["bytes"], As::Bytes),
];

const NAMES: &[Column] = &[
    ("TASK", &["name"], As::Text(128)),
    ("ENDED", &["count"], As::Text(20)),
    ("BYTES", &["bytes"], As::Bytes),
    ("WOULD GO", &["going"], As::Text(20)),
    ("BYTES", &["going_bytes"], As::Bytes),
];

impl Retention {
    pub(super) fn run(self, client: &Client) -> Result<(), Failure> {
        let query = [
            ("keep_bytes", self.keep_bytes.as_deref()),
            ("retention_days", self.retention_days.as_deref()),
            ("keep_newest", self.keep_newest.as_deref()),
        ];
        let answer = client.get("/retention", &query)?;
        if client.json {
            return print_raw(&answer.bytes);
        }
        let told = answer.value()?;
        table::list(RULES, &rules(&told["rule"]))?;
        print("")?;
        table::list(KINDS, &kinds(&told["kept"]))?;
        let names = names(&told);
        if !names.is_empty() {
            print("")?;
            table::list(NAMES, &names)?;
        }
        print(&format!("\n{}", would_go(&told)))
    }
}

fn members(value: &Value) -> Map<String, Value> {
    value.as_object().cloned().unwrap_or_default()
}

/// A record with its name.
fn named(name: &str, value: &Value) -> Value {
    let mut record = members(value);
    record.insert("name".to_owned(), json!(name));
    Value::Object(record)
}

fn rules(rule: &Value) -> Vec<Value> {
    let of_names = members(&rule["tasks"]);
    let of_names = of_names.iter().map(|(name, of)| named(name, of));
    std::iter::once(named("all", rule)).chain(of_names).collect()
}

fn kinds(kept: &Value) -> Vec<Value> {
    let kinds = ["tasks", "attempts", "logs", "checkpoints", "events"];
    let kinds = kinds.iter().map(|kind| named(kind, &kept["by_kind"][*kind]));
    kinds.chain([named("all", &json!({ "bytes": kept["bytes"] }))]).collect()
}

/// What is kept of each name, and what of it would go, the largest first.
fn names(told: &Value) -> Vec<Value> {
    let going = &told["would_drop"]["by_task"];
    let mut all: Vec<Value> = members(&told["kept"]["by_task"])
        .iter()
        .map(|(name, kept)| {
            let mut record = members(&named(name, kept));
            let going = &going[name.as_str()];
            record.insert("going".to_owned(), going["count"].clone());
            record.insert("going_bytes".to_owned(), going["bytes"].clone());
            Value::Object(record)
        })
        .collect();
    all.sort_by_key(|record| std::cmp::Reverse(record["bytes"].as_u64()));
    all
}

/// What would be forgotten, in a sentence.
fn would_go(told: &Value) -> String {
    let going = &told["would_drop"];
    let count = |value: &Value| value.as_u64().unwrap_or(0);
    let (tasks, events) = (count(&going["tasks"]["count"]), count(&going["events"]["count"]));
    let bytes = count(&going["tasks"]["bytes"]) + count(&going["events"]["bytes"]);
    let when = match told["tried"] == true {
        true => "By this rule, which is only tried,",
        false => "By this rule,",
    };
    if tasks + events + count(&going["workflows"]) == 0 {
        return format!("{when} nothing would go");
    }
    let at_least = match going["at_least"] == true {
        true => "at least ",
        false => "",
    };
    format!(
        "{when} {at_least}{tasks} ended tasks and {events} events would go, {}",
        table::bytes(bytes)
    )
}

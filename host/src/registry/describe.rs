//! What a plugin says of itself, checked and bounded: a document of a stranger becomes task definitions.
//!
//! The document grows with versions, so members that are not known are passed over; those that are known must be right.

use super::manifest::Limits;
use super::schema::{PatternsLeft, Schema};
use crate::executor;
use crate::model::definition::{Definition, max_concurrency};
use crate::model::name;
use crate::model::priority::Priority;
use crate::model::retry::RetryPolicy;
use bytesize::ByteSize;
use serde::Deserialize;
use serde_json::Value;
use std::collections::HashSet;
use std::time::{Duration, Instant};

/// The least memory that a component can start with: one page.
pub(super) const MIN_MEMORY: u64 = 64 << 10;
/// Tasks of one plugin.
const MAX_TASKS: usize = 256;
/// Tags of one task.
const MAX_TAGS: usize = 32;
/// Bytes of a version.
const MAX_VERSION: usize = 128;
/// Bytes of a description.
const MAX_DESCRIPTION: usize = 8 << 10;
/// Bytes of a schema.
const MAX_SCHEMA: usize = 256 << 10;
/// How long reading the document may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Of a task for which neither plugin nor manifest names one.
const TIMEOUT: Duration = Duration::from_secs(300);
/// Of a task for which neither plugin nor manifest names one.
const MEMORY: u64 = 128 << 20;

#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    version: Option<String>,
    #[serde(default)]
    description: Option<String>,
    tasks: Vec<Value>,
}

#[derive(Deserialize)]
struct TaskDocument {
    name: String,
    #[serde(default)]
    description: Option<String>,
    #[serde(default)]
    tags: Option<Vec<String>>,
    #[serde(default)]
    priority: Option<i64>,
    #[serde(default)]
    timeout: Option<f64>,
    #[serde(default)]
    fuel: Option<u64>,
    #[serde(default)]
    memory: Option<ByteSize>,
    #[serde(default)]
    input_schema: Option<Value>,
    #[serde(default)]
    output_schema: Option<Value>,
    #[serde(default)]
    retry: Option<RetryDocument>,
    #[serde(default)]
    max_concurrency: Option<i64>,
    #[serde(default)]
    idempotent: Option<bool>,
}

#[derive(Deserialize)]
struct RetryDocument {
    #[serde(default)]
    max_retries: Option<u32>,
    #[serde(default)]
    initial_delay: Option<f64>,
    #[serde(default)]
    backoff_factor: Option<f64>,
    #[serde(default)]
    max_delay: Option<f64>,
    #[serde(default)]
    jitter: Option<f64>,
    #[serde(default)]
    retry_on: Option<Vec<String>>,
}

/// Who speaks, and what bounds it.
pub(super) struct Speaker<'a> {
    /// The plugin's name: its file's stem.
    pub plugin: &'a str,
    /// `sha256:…` of the component.
    pub digest: &'a str,
    /// The manifest's.
    pub limits: Limits,
    /// The node's.
    pub executor: &'a executor::Options,
}

/// What a plugin handles.
#[derive(Debug)]
pub(super) struct Described {
    pub version: Option<String>,
    pub description: Option<String>,
    /// Each with its `input_schema`, compiled.
    pub tasks: Vec<(Definition, Option<Schema>)>,
}

/// Reads the document; the error is a sentence.
pub(super) fn parse(text: &str, speaker: &Speaker<'_>) -> Result<Described, String> {
    let document: Document = serde_json::from_str(text)
        .map_err(|error| format!("what `describe` answers is not the JSON document that the contract asks for: {error}"))?;
    bounded("the version", document.version.as_deref(), MAX_VERSION)?;
    bounded("the description", document.description.as_deref(), MAX_DESCRIPTION)?;
    let count = document.tasks.len();
    if !(1..=MAX_TASKS).contains(&count) {
        return Err(format!("the plugin describes {count} tasks; it must be 1 to {MAX_TASKS}"));
    }
    let version = document.version.clone().unwrap_or_default();
    let mut names = HashSet::new();
    let mut tasks = Vec::with_capacity(count);
    let mut patterns = PatternsLeft::default();
    let begun = Instant::now();
    for (index, task) in document.tasks.into_iter().enumerate() {
        let known = task.get("name").and_then(Value::as_str).filter(|known| name::is_valid(known));
        let which = known.map_or(format!("task number {}", index + 1), |known| format!("task {known:?}"));
        let task: TaskDocument = serde_json::from_value(task).map_err(|error| format!("{which}: {error}"))?;
        if !name::is_valid(&task.name) {
            return Err(name::why_invalid("the task name", &task.name));
        }
        if !names.insert(task.name.clone()) {
            return Err(format!("the plugin describes the {which} twice"));
        }
        if begun.elapsed() > PATIENCE {
            return Err(format!(
                "its schemas take longer than {} s to be read: make them simpler",
                PATIENCE.as_secs()
            ));
        }
        tasks.push(definition(task, speaker, &version, &mut patterns).map_err(|why| format!("{which}: {why}"))?);
    }
    Ok(Described {
        version: document.version,
        description: document.description,
        tasks,
    })
}

fn bounded(what: &str, text: Option<&str>, max: usize) -> Result<(), String> {
    match text.map_or(0, str::len) {
        length if length > max => Err(format!("{what} has {length} bytes; the limit is {max}")),
        _ => Ok(()),
    }
}

fn definition(
    task: TaskDocument,
    speaker: &Speaker<'_>,
    version: &str,
    patterns: &mut PatternsLeft,
) -> Result<(Definition, Option<Schema>), String> {
    bounded("the description", task.description.as_deref(), MAX_DESCRIPTION)?;
    let retry = retry(task.retry)?;
    let priority = task.priority.map_or(Some(Priority::NORMAL), Priority::new);
    let priority = priority.ok_or_else(|| format!("priority is {}; it must be 1 to 9", task.priority.unwrap_or_default()))?;
    let (input_schema, compiled) = schema("input_schema", task.input_schema, patterns)?;
    let (output_schema, _) = schema("output_schema", task.output_schema, patterns)?;
    let asked = Asked::new(task.timeout, task.fuel, task.memory)?;
    let max_timeout = at_most(speaker.limits.timeout, speaker.executor.max_timeout());
    let max_memory = at_most(speaker.limits.memory, speaker.executor.max_memory.as_u64());
    let definition = Definition {
        name: task.name,
        description: task.description.unwrap_or_default(),
        timeout: asked.timeout.or(speaker.limits.timeout).unwrap_or(TIMEOUT).min(max_timeout),
        max_timeout,
        fuel: asked.fuel.map(|fuel| at_most(speaker.limits.fuel, fuel)).or(speaker.limits.fuel),
        memory: asked.memory.or(speaker.limits.memory).unwrap_or(MEMORY).min(max_memory),
        retry,
        priority,
        tags: tags(task.tags.unwrap_or_default())?,
        input_schema,
        output_schema,
        max_concurrency: task.max_concurrency.map(max_concurrency).transpose()?,
        idempotent: task.idempotent.unwrap_or(true),
        plugin: speaker.plugin.to_owned(),
        plugin_version: version.to_owned(),
        plugin_digest: speaker.digest.to_owned(),
    };
    Ok((definition, compiled))
}

fn at_most<T: Ord>(bound: Option<T>, value: T) -> T {
    match bound {
        Some(bound) => bound.min(value),
        None => value,
    }
}

struct Asked {
    timeout: Option<Duration>,
    fuel: Option<u64>,
    memory: Option<u64>,
}

impl Asked {
    fn new(timeout: Option<f64>, fuel: Option<u64>, memory: Option<ByteSize>) -> Result<Self, String> {
        let timeout = match timeout.map(Duration::try_from_secs_f64) {
            None => None,
            Some(Ok(asked)) if !asked.is_zero() => Some(asked),
            Some(_) => {
                return Err(format!(
                    "timeout is {}; it must be seconds, more than 0",
                    timeout.unwrap_or_default()
                ));
            }
        };
        if fuel == Some(0) {
            return Err("fuel is 0; it must be more".to_owned());
        }
        let memory = memory.map(|memory| memory.as_u64());
        if let Some(memory) = memory.filter(|memory| *memory < MIN_MEMORY) {
            return Err(format!("memory is {memory} bytes; it must be {MIN_MEMORY} or more"));
        }
        Ok(Self { timeout, fuel, memory })
    }
}

fn retry(document: Option<RetryDocument>) -> Result<RetryPolicy, String> {
    let default = RetryPolicy::default();
    let Some(document) = document else { return Ok(default) };
    let policy = RetryPolicy {
        max_retries: document.max_retries.unwrap_or(default.max_retries),
        initial_delay: document.initial_delay.unwrap_or(default.initial_delay),
        backoff_factor: document.backoff_factor.unwrap_or(default.backoff_factor),
        max_delay: document.max_delay.unwrap_or(default.max_delay),
        jitter: document.jitter.unwrap_or(default.jitter),
        retry_on: document.retry_on.unwrap_or_default(),
    };
    policy.check()?;
    Ok(policy)
}

fn tags(mut tags: Vec<String>) -> Result<Vec<String>, String> {
    if tags.len() > MAX_TAGS {
        return Err(format!("it has {} tags; the limit is {MAX_TAGS}", tags.len()));
    }
    if let Some(bad) = tags.iter().find(|tag| !name::is_valid(tag)) {
        return Err(name::why_invalid("the tag", bad));
    }
    let mut seen = HashSet::new();
    tags.retain(|tag| seen.insert(tag.clone()));
    Ok(tags)
}

/// A schema that compiles.
fn schema(what: &str, schema: Option<Value>, patterns: &mut PatternsLeft) -> Result<(Option<Value>, Option<Schema>), String> {
    let Some(schema) = schema.filter(|schema| !schema.is_null()) else {
        return Ok((None, None));
    };
    bounded(what, Some(&schema.to_string()), MAX_SCHEMA)?;
    let compiled = Schema::compile(&schema, patterns);
    let compiled = compiled.map_err(|why| format!("{what} is not a JSON Schema that this host can use: {why}"))?;
    Ok((Some(schema), Some(compiled)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn describe(document: &Value, limits: Limits) -> Result<Described, String> {
        let speaker = Speaker {
            plugin: "p",
            digest: "sha256:0",
            limits,
            executor: &executor::Options::default(),
        };
        parse(&document.to_string(), &speaker)
    }

    fn task(members: Value) -> Result<Definition, String> {
        task_within(members, Limits::default())
    }

    fn task_within(mut members: Value, limits: Limits) -> Result<Definition, String> {
        if members.get("name").is_none() {
            members["name"] = "t".into();
        }
        Ok(describe(&json!({ "tasks": [members] }), limits)?.tasks.remove(0).0)
    }

    #[test]
    fn only_a_name_is_required() {
        let task = task(json!({})).unwrap();
        assert_eq!((task.timeout, task.memory, task.fuel), (TIMEOUT, MEMORY, None));
        assert_eq!((task.retry.max_retries, task.priority.get(), task.idempotent), (3, 5, true));
        assert_eq!(task.max_timeout, Duration::from_secs(86_400));
    }

    #[test]
    fn what_is_known_is_read_and_what_is_not_is_passed_over() {
        let task = task(json!({
            "description": "d", "tags": ["a", "b", "a"], "priority": 1, "timeout": 1.5, "fuel": 7, "memory": "2MiB", "colour": "red",
            "input_schema": {"type": "object"}, "retry": {"max_retries": 0, "shape": 1}, "max_concurrency": null, "idempotent": false
        }))
        .unwrap();
        assert_eq!(task.tags, ["a", "b"]);
        assert_eq!(
            (task.timeout, task.memory, task.fuel),
            (Duration::from_millis(1_500), 2 << 20, Some(7))
        );
        assert_eq!((task.retry.max_retries, task.priority.get(), task.idempotent), (0, 1, false));
    }

    #[test]
    fn the_operator_bounds_what_a_plugin_asks_for() {
        let limits = Limits {
            timeout: Some(Duration::from_secs(10)),
            fuel: Some(100),
            memory: Some(256 << 20),
        };
        let greedy = json!({"timeout": 1e9, "fuel": 1_000, "memory": "100GiB"});
        let bounded = task_within(greedy.clone(), limits).unwrap();
        assert_eq!(
            (bounded.timeout, bounded.max_timeout),
            (Duration::from_secs(10), Duration::from_secs(10))
        );
        assert_eq!((bounded.fuel, bounded.memory), (Some(100), 256 << 20));
        let silent = task_within(json!({}), limits).unwrap();
        assert_eq!((silent.fuel, silent.memory), (Some(100), 256 << 20));
        let free = task(greedy).unwrap();
        assert_eq!((free.timeout, free.memory), (Duration::from_secs(86_400), 1 << 30));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let many: Vec<Value> = (0..10_000).map(|n| json!({ "name": format!("t{n}") })).collect();
        for (document, word) in [
            (json!([]), "contract"),
            (json!({}), "tasks"),
            (json!({"tasks": []}), "0 tasks"),
            (json!({"tasks": many}), "10000 tasks"),
            (json!({"tasks": [{"name": "a"}, {"name": "a"}]}), "twice"),
            (json!({"tasks": [{"name": "a"}], "description": "x".repeat(10_000)}), "description"),
            (json!({"tasks": [{}]}), "task number 1"),
            (json!({"tasks": [7]}), "task number 1"),
        ] {
            let error = describe(&document, Limits::default()).unwrap_err();
            assert!(error.contains(word), "{error}");
        }
        for (members, word) in [
            (json!({"name": "<script>"}), "script"),
            (json!({"name": ""}), "task name"),
            (json!({"priority": 0}), "priority"),
            (json!({"priority": 10}), "priority"),
            (json!({"timeout": 0}), "timeout"),
            (json!({"timeout": -1}), "timeout"),
            (json!({"fuel": 0}), "fuel"),
            (json!({"memory": 1}), "memory"),
            (json!({"memory": "lots"}), "task \"t\""),
            (json!({"retry": {"max_retries": 5000}}), "max_retries"),
            (json!({"retry": {"initial_delay": -1.0}}), "initial_delay"),
            (json!({"tags": ["a b"]}), "tag"),
            (json!({"tags": vec!["a"; 33]}), "33 tags"),
            (json!({"max_concurrency": 0}), "max_concurrency is 0"),
            (json!({"input_schema": {"type": "thing"}}), "input_schema"),
            (json!({"output_schema": 7}), "output_schema"),
            (json!({"input_schema": {"$ref": "https://example.com/x.json"}}), "input_schema"),
            (json!({"input_schema": {"$ref": "file:///etc/passwd"}}), "input_schema"),
            (json!({"input_schema": {"pattern": "(a)\\1"}}), "input_schema"),
        ] {
            let error = task(members.clone()).unwrap_err();
            assert!(error.contains(word), "{members}: {error}");
        }
    }

    #[test]
    fn a_schema_that_refers_to_itself_ends() {
        for schema in [
            json!({"$ref": "#"}),
            json!({"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}),
            json!({"allOf": [{"$ref": "#"}]}),
            json!({"$dynamicAnchor": "x", "anyOf": [{"$dynamicRef": "#x"}]}),
        ] {
            if let Ok(schema) = Schema::compile(&schema, &mut PatternsLeft::default()) {
                let _ = schema.errors(&json!({}));
            }
        }
    }
}

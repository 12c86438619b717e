//! What `#[task]` makes of a function: its published definition, and a way to call it with JSON.

use crate::{Classify, Context, TaskError, TaskResult};
use schemars::{JsonSchema, generate::SchemaSettings};
use serde::Serialize;
use serde_json::{Map, Value};
use std::marker::PhantomData;

/// A task that a plugin handles. `#[task]` implements it for a type of the function's name.
pub trait Task {
    /// Under this name the task is submitted.
    const NAME: &'static str;

    /// What the plugin publishes about the task.
    fn definition() -> Definition;

    /// One attempt: JSON in, JSON out.
    ///
    /// # Errors
    /// Those of the handler, and `invalid_input` where the input does not fit the handler's type.
    fn run(context: &Context, input: &str) -> TaskResult<String>;
}

/// One entry of the `tasks` in the document that a plugin describes itself with. Holds what the author set, nothing else:
/// every default is the host's.
#[derive(Clone, PartialEq, Debug)]
pub struct Definition(Map<String, Value>);

impl Definition {
    #[doc(hidden)]
    pub fn new<Input: JsonSchema>(name: &str, description: &str) -> Self {
        let mut definition = Self(Map::new());
        definition.set("name", name);
        if !description.is_empty() {
            definition.set("description", description);
        }
        definition.set(
            "input_schema",
            SchemaSettings::draft2020_12()
                .for_deserialize()
                .into_generator()
                .into_root_schema_for::<Input>(),
        );
        definition
    }

    #[doc(hidden)]
    pub fn set(&mut self, member: &str, value: impl Serialize) {
        let value = serde_json::to_value(value).expect("numbers, texts and schemas always have a JSON form");
        self.0.insert(member.to_owned(), value);
    }

    #[doc(hidden)]
    pub fn set_retry(&mut self, member: &str, value: impl Into<Value>) {
        let retry = self.0.entry("retry").or_insert_with(|| Map::new().into());
        retry[member] = value.into();
    }

    #[doc(hidden)]
    pub fn set_output_schema(&mut self, schema: Option<Value>) {
        if let Some(schema) = schema {
            self.0.insert("output_schema".to_owned(), schema);
        }
    }

    /// The JSON object that is published: `name`, `description`, `input_schema`, and what else was set.
    pub fn into_json(self) -> Value {
        Value::Object(self.0)
    }
}

/// What a handler may return.
#[doc(hidden)]
pub trait Answer {
    type Output;

    fn write(self) -> TaskResult<String>;
}

impl<T: Serialize, E: Into<TaskError>> Answer for Result<T, E> {
    type Output = T;

    fn write(self) -> TaskResult<String> {
        serde_json::to_string(&self.map_err(Into::into)?).fatal()
    }
}

/// Finds out whether a concrete type has a schema: method lookup tries `HasSchema` first, since `NoSchema` needs one more
/// reference. So an output only has to implement `Serialize`.
#[doc(hidden)]
pub struct Probe<T>(PhantomData<T>);

impl<T> Probe<T> {
    #[expect(clippy::new_without_default, reason = "made by #[task] only")]
    pub fn new() -> Self {
        Self(PhantomData)
    }
}

#[doc(hidden)]
pub trait HasSchema {
    fn schema(&self) -> Option<Value>;
}

impl<T: JsonSchema> HasSchema for Probe<T> {
    fn schema(&self) -> Option<Value> {
        Some(
            SchemaSettings::draft2020_12()
                .for_serialize()
                .into_generator()
                .into_root_schema_for::<T>()
                .to_value(),
        )
    }
}

#[doc(hidden)]
pub trait NoSchema {
    fn schema(&self) -> Option<Value>;
}

impl<T> NoSchema for &Probe<T> {
    fn schema(&self) -> Option<Value> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::Task;
    use crate::{FailureKind, prelude::*};

    #[derive(Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    struct Input {
        /// How far to count.
        upto: u64,
        #[serde(default)]
        from: u64,
    }

    /// Counts, and says how far it is.
    #[task(timeout = 60, retries = 3, priority = 5, tags = ["demo"], memory = "128MiB", idempotent = false)]
    fn count(ctx: &Context, input: Input) -> TaskResult<u64> {
        for n in input.from..input.upto {
            ctx.progress(n, input.upto, "counting");
        }
        Ok(input.upto)
    }

    #[derive(Serialize)]
    struct WithoutSchema {
        sum: f64,
    }

    #[task(name = "demo.sum")]
    fn sum(_: &Context, input: Vec<f64>) -> Result<WithoutSchema, std::num::ParseIntError> {
        "1".parse::<u8>()?;
        Ok(WithoutSchema { sum: input.iter().sum() })
    }

    plugin!(count, sum);

    #[test]
    fn a_definition_holds_what_the_author_set_and_the_schemas() {
        let definition = count::definition().into_json();
        assert_eq!(
            definition,
            json!({
                "name": "count",
                "description": "Counts, and says how far it is.",
                "timeout": 60,
                "priority": 5,
                "tags": ["demo"],
                "memory": "128MiB",
                "idempotent": false,
                "retry": { "max_retries": 3 },
                "input_schema": {
                    "$schema": "https://json-schema.org/draft/2020-12/schema",
                    "title": "Input",
                    "type": "object",
                    "properties": {
                        "upto": { "description": "How far to count.", "type": "integer", "format": "uint64", "minimum": 0 },
                        "from": { "type": "integer", "format": "uint64", "minimum": 0, "default": 0 },
                    },
                    "required": ["upto"],
                    "additionalProperties": false,
                },
                "output_schema": {
                    "$schema": "https://json-schema.org/draft/2020-12/schema",
                    "title": "uint64", "type": "integer", "format": "uint64", "minimum": 0,
                },
            })
        );
    }

    #[test]
    fn an_output_without_a_schema_is_described_without_one() {
        let definition = sum::definition().into_json();
        let mut members: Vec<&String> = definition.as_object().unwrap().keys().collect();
        members.sort();
        assert_eq!(members, ["input_schema", "name"]);
        assert_eq!(definition["name"], "demo.sum");
    }

    #[test]
    fn an_attempt_is_json_in_and_json_out() {
        let ctx = Context::mock();
        assert_eq!(count::run(&ctx, r#"{"upto": 3}"#).unwrap(), "3");
        assert_eq!(sum::run(&ctx, "[1, 2.5]").unwrap(), r#"{"sum":3.5}"#);
        assert_eq!(count::run(&ctx, "{}").unwrap_err().kind(), FailureKind::InvalidInput);
    }

    #[test]
    fn the_function_is_still_a_function() {
        assert_eq!(count(&Context::mock(), Input { upto: 2, from: 0 }).unwrap(), 2);
    }
}

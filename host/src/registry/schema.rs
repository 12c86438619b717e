//! A stranger's JSON Schema, held against payloads within bounds of time and memory.
//!
//! A schema of a few lines can ask for more work than a lifetime has (each definition refers twice to the next), and whoever checks a
//! payload serves requests meanwhile. The validator has no budget of its own, so schemas are given one more keyword, which counts, and
//! ends the check once too much was done. The validator comes to it last and leaves a schema at the first thing that is wrong, so it
//! stands in every schema for those that hold ([`STEP`]), and wherever one that does not hold is no end ([`MISS`]).

use crate::model::attempt::InputError;
use jsonschema::error::ValidationErrorKind;
use jsonschema::{Keyword, ValidationError, Validator};
use serde_json::{Map, Value, json};
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::{Duration, Instant};

/// Most complaints about one payload that are told at once.
const MAX_ERRORS: usize = 100;
/// Bytes of one complaint.
const MAX_DETAIL: usize = 1 << 10;
/// Regular expressions of one schema: compiled, each may take a megabyte.
const MAX_PATTERNS: usize = 100;
/// Schemas that one with `unevaluated…` in it may unfold to: the validator compiles each way to each of them by itself.
const MAX_UNFOLDED: usize = 1_000;
/// The keyword that counts, and holds.
const STEP: &str = "urn:taskhost:step";
/// The keyword that counts, and does not hold: one more way for an `anyOf` or `oneOf` to fail.
const MISS: &str = "urn:taskhost:miss";
/// Keywords whose value is an object of names, each with a schema.
const NAMED: [&str; 6] = [
    "properties",
    "patternProperties",
    "$defs",
    "definitions",
    "dependentSchemas",
    "dependencies",
];

/// How much a check may do.
#[derive(Clone, Copy, Debug)]
struct Effort {
    time: Duration,
    /// Visits of subschemas: each may leave a complaint behind, so they bound memory.
    steps: u32,
}

/// Enough for most payloads, and short enough to do between two requests.
const QUICK: Effort = Effort {
    time: Duration::from_millis(5),
    steps: 20_000,
};
/// Enough for the largest payload under any schema that is meant seriously.
const THOROUGH: Effort = Effort {
    time: Duration::from_secs(2),
    steps: 20_000_000,
};
/// For saying what is wrong, once it is known that something is.
const TELLING: Effort = Effort {
    time: Duration::from_secs(2),
    steps: 2_000_000,
};

/// A compiled schema.
#[derive(Debug)]
pub struct Schema(Validator);

impl Schema {
    /// Draft 2020-12, nothing fetched from anywhere, and patterns by an engine that cannot be made to backtrack.
    pub(super) fn compile(schema: &Value) -> Result<Self, String> {
        let patterns = jsonschema::PatternOptions::regex().size_limit(1 << 20).dfa_size_limit(1 << 20);
        let mut left = MAX_UNFOLDED;
        if is_unevaluated(schema) && !unfolds(schema, schema, &mut Vec::new(), &mut left) {
            return Err(format!(
                "with unevaluatedItems or unevaluatedProperties in it, it must unfold to at most {MAX_UNFOLDED} schemas by local references"
            ));
        }
        let mut counted = schema.clone();
        let mut found = 0;
        count_steps(&mut counted, &mut found)?;
        if found > MAX_PATTERNS {
            return Err(format!("it has {found} patterns; the limit is {MAX_PATTERNS}"));
        }
        let options = jsonschema::options()
            .with_draft(jsonschema::Draft::Draft202012)
            .with_keyword(STEP, |_, _, _| Ok(Box::new(Step { holds: true })))
            .with_keyword(MISS, |_, _, _| Ok(Box::new(Step { holds: false })))
            .with_pattern_options(patterns);
        options.build(&counted).map(Self).map_err(|error| error.to_string())
    }

    /// What is wrong with a payload; empty where nothing is. `None` where that takes longer than a moment.
    pub(super) fn quick_errors(&self, payload: &Value) -> Option<Vec<InputError>> {
        match within(QUICK, || self.0.is_valid(payload))? {
            true => Some(Vec::new()),
            false => within(QUICK, || self.tell(payload)),
        }
    }

    /// The same, to the end or to a complaint that there is none in sight. Takes seconds at worst.
    pub(super) fn errors(&self, payload: &Value) -> Vec<InputError> {
        let whole = |detail: &str| {
            vec![InputError {
                pointer: String::new(),
                detail: detail.to_owned(),
            }]
        };
        match within(THOROUGH, || self.0.is_valid(payload)) {
            Some(true) => Vec::new(),
            Some(false) => within(TELLING, || self.tell(payload))
                .unwrap_or_else(|| whole("does not fit the task's schema, in ways too many to be told")),
            None => {
                whole("takes too long to be held against the task's schema; send less, or ask the plugin's author for a simpler schema")
            }
        }
    }

    fn tell(&self, payload: &Value) -> Vec<InputError> {
        let complaints = self.0.iter_errors(payload).take(MAX_ERRORS);
        let complaints = complaints.map(|error| InputError {
            pointer: error.instance_path().to_string(),
            detail: match error.kind() {
                ValidationErrorKind::Not { .. } => "is what the schema says it must not be".to_owned(), // it would show the counters
                _ => cut(error.to_string()),
            },
        });
        complaints.collect()
    }
}

/// A complaint quotes what it complains of, which may be large.
fn cut(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(MAX_DETAIL));
    text
}

fn is_unevaluated(schema: &Value) -> bool {
    let named = |keyword: &str| matches!(keyword, "unevaluatedItems" | "unevaluatedProperties");
    match schema {
        Value::Array(items) => items.iter().any(is_unevaluated),
        Value::Object(members) => members.iter().any(|(keyword, value)| named(keyword) || is_unevaluated(value)),
        _ => false,
    }
}

/// Whether a schema with its references followed has no more schemas than are left. `within` holds the references that led here.
fn unfolds<'a>(schema: &'a Value, root: &'a Value, within: &mut Vec<&'a str>, left: &mut usize) -> bool {
    let members = match schema {
        Value::Array(items) => return items.iter().all(|item| unfolds(item, root, within, left)),
        Value::Object(_) if *left == 0 => return false,
        Value::Object(members) => members,
        _ => return true,
    };
    *left -= 1;
    members.iter().all(|(keyword, value)| match (keyword.as_str(), value) {
        ("$ref" | "$dynamicRef" | "$recursiveRef", Value::String(target)) => {
            let found = target.strip_prefix('#').and_then(|pointer| root.pointer(&percent_decoded(pointer)));
            if within.contains(&target.as_str()) {
                return found.is_some();
            }
            within.push(target);
            let fits = found.is_some_and(|found| unfolds(found, root, within, left));
            within.pop();
            fits
        }
        (_, value) => unfolds(value, root, within, left),
    })
}

/// Adds counters to whatever may come to be used as a schema, and counts the patterns.
fn count_steps(schema: &mut Value, patterns: &mut usize) -> Result<(), String> {
    match schema {
        Value::Array(items) => items.iter_mut().try_for_each(|item| count_steps(item, patterns)),
        Value::Object(members) => {
            for (keyword, value) in members.iter_mut() {
                match (keyword.as_str(), value) {
                    ("const" | "enum", _) => {} // data: nothing may be added, so nothing may refer to it
                    ("$ref" | "$dynamicRef" | "$recursiveRef", Value::String(target)) if is_data(target) => {
                        return Err(format!("{keyword} {target:?} refers to data, which is no schema"));
                    }
                    (named, Value::Object(schemas)) if NAMED.contains(&named) => {
                        *patterns += if named == "patternProperties" { schemas.len() } else { 0 };
                        schemas.values_mut().try_for_each(|schema| count_steps(schema, patterns))?;
                    }
                    (_, value) => count_steps(value, patterns)?,
                }
            }
            *patterns += usize::from(members.contains_key("pattern"));
            count_misses(members);
            members.insert(STEP.to_owned(), Value::Bool(true));
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Counts where the validator goes on although a subschema does not hold.
fn count_misses(members: &mut Map<String, Value>) {
    for ways in ["anyOf", "oneOf"] {
        match members.get_mut(ways) {
            Some(Value::Array(ways)) if !ways.is_empty() => ways.push(json!({ MISS: true })),
            _ => {}
        }
    }
    // An `anyOf` is looked at before these.
    if ["if", "not"].iter().any(|keyword| members.contains_key(*keyword)) && !members.contains_key("anyOf") {
        members.insert("anyOf".to_owned(), json!([{ STEP: true }]));
    }
    if let Some(contained) = members.get_mut("contains") {
        *contained = json!({ "anyOf": [contained.take(), { MISS: true }] });
    }
}

/// Whether a reference leads into a `const` or `enum`, however it is spelt.
fn is_data(target: &str) -> bool {
    let target = percent_decoded(target);
    let mut before = "";
    target.split(['/', '#']).any(|part| {
        let is_name = NAMED.contains(&before);
        before = if is_name { "" } else { part };
        !is_name && matches!(part, "const" | "enum")
    })
}

fn percent_decoded(text: &str) -> String {
    let mut parts = text.split('%');
    let mut decoded = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        match part.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                decoded.push(byte);
                decoded.extend_from_slice(&part.as_bytes()[2..]);
            }
            None => decoded.extend_from_slice(part.as_bytes()),
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

thread_local! {
    /// What the check under way on this thread may still do, and until when.
    static LEFT: Cell<Option<(u32, Instant)>> = const { Cell::new(None) };
}

/// What unwinds a check that did too much.
struct Spent;

/// Runs a check; `None` where it did too much.
fn within<T>(effort: Effort, check: impl FnOnce() -> T) -> Option<T> {
    LEFT.set(Instant::now().checked_add(effort.time).map(|until| (effort.steps, until)));
    let checked = catch_unwind(AssertUnwindSafe(check));
    LEFT.set(None);
    match checked {
        Ok(checked) => Some(checked),
        Err(cause) if cause.is::<Spent>() => None,
        Err(cause) => resume_unwind(cause),
    }
}

struct Step {
    holds: bool,
}

impl<'i> Keyword<'i> for Step {
    fn validate(&self, instance: &'i Value) -> Result<(), ValidationError<'i>> {
        match self.is_valid(instance) {
            true => Ok(()),
            false => Err(ValidationError::custom("does not fit")),
        }
    }

    fn is_valid(&self, _: &'i Value) -> bool {
        /// Steps between two looks at the clock.
        const LOOK: u32 = 16;
        let Some((left, until)) = LEFT.get() else { return self.holds };
        if left == 0 || (left % LOOK == 0 && Instant::now() > until) {
            resume_unwind(Box::new(Spent)); // as a panic, but without a word on stderr
        }
        LEFT.set(Some((left - 1, until)));
        self.holds
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn details(schema: &Value, payload: &Value) -> Vec<String> {
        let schema = Schema::compile(schema).unwrap();
        schema.errors(payload).into_iter().map(|error| error.detail).collect()
    }

    /// A schema in which each definition asks for the next as often as `twice` says it.
    fn doubling(twice: &str, last: &Value) -> Value {
        let mut definitions = Map::from_iter([("a0".to_owned(), last.clone())]);
        for n in 1..=64 {
            let next = format!("{{\"$ref\":\"#/$defs/a{}\"}}", n - 1);
            let schema = serde_json::from_str(&twice.replace("NEXT", &next)).unwrap();
            definitions.insert(format!("a{n}"), schema);
        }
        json!({"$defs": definitions, "$ref": "#/$defs/a64"})
    }

    #[test]
    fn a_schema_that_never_ends_is_given_up() {
        let deep = (0..100).fold(json!({}), |inner, _| json!([inner]));
        let begun = Instant::now();
        for (twice, last) in [
            (r#"{"allOf": [NEXT, NEXT]}"#, json!(true)),
            (r#"{"anyOf": [NEXT, NEXT]}"#, json!({"type": "string"})),
            (r#"{"oneOf": [NEXT, NEXT]}"#, json!({"type": "string"})),
            (r#"{"if": NEXT, "else": NEXT}"#, json!({"type": "string"})),
            (r#"{"not": NEXT, "allOf": [{"not": NEXT}]}"#, json!({"type": "string"})),
            (r#"{"not": {"not": NEXT}, "if": NEXT, "else": NEXT}"#, json!(false)),
            (
                r#"{"contains": NEXT, "minContains": 0, "allOf": [{"contains": NEXT}]}"#,
                json!(false),
            ),
            (r#"{"items": NEXT, "allOf": [{"items": NEXT}]}"#, json!(true)),
        ] {
            let schema = Schema::compile(&doubling(twice, &last)).unwrap();
            let errors = schema.errors(&deep);
            assert!(errors.iter().all(|error| error.detail.len() <= MAX_DETAIL), "{twice}: {errors:?}");
        }
        assert!(begun.elapsed() < Duration::from_secs(40), "{:?}", begun.elapsed());
        let schema = Schema::compile(&doubling(r#"{"anyOf": [NEXT, NEXT]}"#, &json!(false))).unwrap();
        assert!(schema.quick_errors(&deep).is_none());
        assert!(schema.errors(&deep)[0].detail.contains("too long"));
    }

    #[test]
    fn a_schema_that_never_compiles_is_refused() {
        let mut schema = doubling(r#"{"allOf": [NEXT, NEXT]}"#, &json!({"unevaluatedItems": true}));
        assert!(Schema::compile(&schema).unwrap_err().contains("unevaluatedItems"));
        schema["$defs"] = json!({"a64": {"properties": {"x": {"$ref": "#"}}}});
        schema["unevaluatedProperties"] = false.into();
        assert!(details(&schema, &json!({"x": {}})).is_empty());
        assert_eq!(details(&schema, &json!({"y": {}})).len(), 1);
    }

    #[test]
    fn the_keyword_that_counts_changes_nothing_else() {
        let schema = json!({
            "type": "object", "additionalProperties": false, "required": ["properties"],
            "properties": {"properties": {"const": {"a": 1}}, "const": {"enum": [{"b": 2}]}, "e": {"$ref": "#/properties/const"}}
        });
        assert!(details(&schema, &json!({"properties": {"a": 1}, "const": {"b": 2}, "e": {"b": 2}})).is_empty());
        assert_eq!(details(&schema, &json!({"properties": {"a": 2}, "x": 1})).len(), 2);
        assert_eq!(details(&json!(false), &json!({})).len(), 1);
    }

    #[test]
    fn nothing_escapes_the_count() {
        for target in ["#/const", "#/properties/a/enum/0", "#/c%6Fnst/a", "urn:x#/$defs/const/const"] {
            assert!(is_data(target), "{target}");
        }
        for target in [
            "#/$defs/const",
            "#/properties/enum",
            "#",
            "#/$defs/const_of",
            "#/$defs/properties/properties/const",
        ] {
            assert!(!is_data(target), "{target}");
        }
        let many: Vec<Value> = (0..101).map(|n| json!({ "pattern": format!("{n}") })).collect();
        assert!(Schema::compile(&json!({ "anyOf": many })).unwrap_err().contains("101 patterns"));
    }
}

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
/// Regular expressions of all schemas of one plugin.
const MAX_PATTERNS: usize = 100;
/// Bytes of one regular expression, compiled: `\S{0,20}` has more than 64 KiB.
const MAX_PATTERN: usize = 256 << 10;
/// Characters of a string that is held against a regular expression: one that is hard on the engine takes a microsecond for each.
const MAX_MATCHED: u64 = 64 << 10;
/// Bytes of text that are held against regular expressions between two requests.
const QUICK_TEXT: usize = 16 << 10;
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
pub struct Schema {
    validator: Validator,
    has_patterns: bool,
}

/// How many regular expressions a plugin may still have.
#[derive(Debug)]
pub(super) struct PatternsLeft(usize);

impl Default for PatternsLeft {
    fn default() -> Self {
        Self(MAX_PATTERNS)
    }
}

impl Schema {
    /// Draft 2020-12, nothing fetched from anywhere, and patterns by an engine that cannot be made to backtrack.
    pub(super) fn compile(schema: &Value, patterns_left: &mut PatternsLeft) -> Result<Self, String> {
        let patterns = jsonschema::PatternOptions::regex()
            .size_limit(MAX_PATTERN)
            .dfa_size_limit(MAX_PATTERN);
        let mut left = MAX_UNFOLDED;
        if is_unevaluated(schema) && !unfolds(schema, schema, &mut Vec::new(), &mut left) {
            return Err(format!(
                "with unevaluatedItems or unevaluatedProperties in it, it must unfold to at most {MAX_UNFOLDED} schemas by local references"
            ));
        }
        let mut counted = schema.clone();
        let mut found = 0;
        count_steps(&mut counted, &mut found)?;
        patterns_left.0 = patterns_left
            .0
            .checked_sub(found)
            .ok_or_else(|| format!("with its {found} patterns the plugin has more than {MAX_PATTERNS}"))?;
        // A match takes long enough to look at the clock before each.
        let look = if found == 0 { 16 } else { 1 };
        let options = jsonschema::options()
            .with_draft(jsonschema::Draft::Draft202012)
            .with_keyword(STEP, move |_, _, _| Ok(Box::new(Step { holds: true, look })))
            .with_keyword(MISS, move |_, _, _| Ok(Box::new(Step { holds: false, look })))
            .with_pattern_options(patterns);
        let validator = options.build(&counted).map_err(|error| error.to_string())?;
        Ok(Self {
            validator,
            has_patterns: found > 0,
        })
    }

    /// What is wrong with a payload; empty where nothing is. `None` where that takes longer than a moment.
    pub(super) fn quick_errors(&self, payload: &Value) -> Option<Vec<InputError>> {
        if self.has_patterns && !has_less_text(payload, &mut QUICK_TEXT.clone()) {
            return None;
        }
        match within(QUICK, || self.validator.is_valid(payload))? {
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
        if self.has_patterns && has_long_name(payload) {
            return whole("has a member whose name is too long to be held against the task's schema");
        }
        match within(THOROUGH, || self.validator.is_valid(payload)) {
            Some(true) => Vec::new(),
            Some(false) => within(TELLING, || self.tell(payload))
                .unwrap_or_else(|| whole("does not fit the task's schema, in ways too many to be told")),
            None => {
                whole("takes too long to be held against the task's schema; send less, or ask the plugin's author for a simpler schema")
            }
        }
    }

    fn tell(&self, payload: &Value) -> Vec<InputError> {
        let complaints = self.validator.iter_errors(payload).take(MAX_ERRORS);
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

/// A complaint quotes what it complains of, which may be large, and then says why.
fn cut(text: String) -> String {
    const ENDS: usize = MAX_DETAIL / 2 - 2;
    if text.len() <= MAX_DETAIL {
        return text;
    }
    let head = &text[..text.floor_char_boundary(ENDS)];
    let tail = &text[text.ceil_char_boundary(text.len() - ENDS)..];
    format!("{head}…{tail}")
}

/// Whether the strings and names in a payload have no more bytes than are left.
fn has_less_text(payload: &Value, left: &mut usize) -> bool {
    let mut take = |text: &str| {
        let rest = left.checked_sub(text.len());
        *left = rest.unwrap_or(0);
        rest.is_some()
    };
    match payload {
        Value::String(text) => take(text),
        Value::Array(items) => items.iter().all(|item| has_less_text(item, left)),
        Value::Object(members) => members.keys().all(|name| take(name)) && members.values().all(|value| has_less_text(value, left)),
        _ => true,
    }
}

fn has_long_name(payload: &Value) -> bool {
    match payload {
        Value::Array(items) => items.iter().any(has_long_name),
        Value::Object(members) => members
            .iter()
            .any(|(name, value)| name.len() as u64 > MAX_MATCHED || has_long_name(value)),
        _ => false,
    }
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
            guard_pattern(members);
            count_misses(members);
            members.insert(STEP.to_owned(), Value::Bool(true));
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Puts a count before a match, and keeps from it what is too long.
fn guard_pattern(members: &mut Map<String, Value>) {
    let Some(Value::String(pattern)) = members.get("pattern") else {
        return;
    };
    let guarded = json!({
        "if": { "type": "string", "minLength": MAX_MATCHED + 1 },
        "then": { "maxLength": MAX_MATCHED },
        "else": { "pattern": pattern }
    });
    if let Value::Array(all) = members.entry("allOf").or_insert_with(|| json!([])) {
        all.extend([json!({ STEP: true }), guarded]);
        members.remove("pattern");
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
    /// Steps between two looks at the clock.
    look: u32,
}

impl<'i> Keyword<'i> for Step {
    fn validate(&self, instance: &'i Value) -> Result<(), ValidationError<'i>> {
        match self.is_valid(instance) {
            true => Ok(()),
            false => Err(ValidationError::custom("does not fit")),
        }
    }

    fn is_valid(&self, _: &'i Value) -> bool {
        let Some((left, until)) = LEFT.get() else { return self.holds };
        if left == 0 || (left % self.look == 0 && Instant::now() > until) {
            resume_unwind(Box::new(Spent)); // as a panic, but without a word on stderr
        }
        LEFT.set(Some((left - 1, until)));
        self.holds
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compile(schema: &Value) -> Result<Schema, String> {
        Schema::compile(schema, &mut PatternsLeft::default())
    }

    fn details(schema: &Value, payload: &Value) -> Vec<String> {
        let schema = compile(schema).unwrap();
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
            let schema = compile(&doubling(twice, &last)).unwrap();
            let errors = schema.errors(&deep);
            assert!(errors.iter().all(|error| error.detail.len() <= MAX_DETAIL), "{twice}: {errors:?}");
        }
        assert!(begun.elapsed() < Duration::from_secs(40), "{:?}", begun.elapsed());
        let schema = compile(&doubling(r#"{"anyOf": [NEXT, NEXT]}"#, &json!(false))).unwrap();
        assert!(schema.quick_errors(&deep).is_none());
        assert!(schema.errors(&deep)[0].detail.contains("too long"));
    }

    #[test]
    fn a_schema_that_never_compiles_is_refused() {
        let mut schema = doubling(r#"{"allOf": [NEXT, NEXT]}"#, &json!({"unevaluatedItems": true}));
        assert!(compile(&schema).unwrap_err().contains("unevaluatedItems"));
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
    }

    #[test]
    fn patterns_are_few_small_and_held_against_little() {
        let many = |count| json!({ "anyOf": (0..count).map(|n| json!({ "pattern": format!("{n}") })).collect::<Vec<_>>() });
        assert!(compile(&many(101)).unwrap_err().contains("101 patterns"));
        let mut left = PatternsLeft::default();
        Schema::compile(&many(60), &mut left).unwrap();
        assert!(Schema::compile(&many(60), &mut left).is_err());
        for fine in [
            r"^\d{4}-\d{2}-\d{2}$",
            r"^[A-Za-z0-9._-]{1,128}$",
            r"^[\w.+-]+@[\w-]+\.\w+$",
            r"^\p{Lu}\S{0,20}$",
        ] {
            compile(&json!({ "pattern": fine })).unwrap_or_else(|why| panic!("{fine}: {why}"));
        }
        assert!(compile(&json!({ "pattern": r"\p{L}{1000}" })).is_err());
        let schema = json!({"properties": {"a": {"pattern": "^(x|y)*$", "allOf": [{"minLength": 1}]}}});
        assert!(details(&schema, &json!({"a": "xy", "b": "z".repeat(1 << 20)})).is_empty());
        assert!(details(&schema, &json!({"a": "z"}))[0].contains("^(x|y)*$"));
        assert_eq!(details(&schema, &json!({"a": ""})).len(), 1);
        let long = json!({"a": "x".repeat(65_537)});
        assert!(compile(&schema).unwrap().quick_errors(&long).is_none());
        assert!(details(&schema, &long)[0].contains("longer than 65536"));
        assert!(details(&schema, &json!({"x".repeat(65_537): 1}))[0].contains("too long"));
        // The hardest that fits: the host is held up for no longer than its budget.
        let hard = json!({ "items": { "anyOf": (0..100).map(|n| json!({ "pattern": format!("(.?){{20}}[{n}]$") })).collect::<Vec<_>>() } });
        let begun = Instant::now();
        details(&hard, &json!(vec!["a".repeat(65_536); 30]));
        assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
    }
}

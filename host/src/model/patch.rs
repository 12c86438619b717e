//! JSON merge patches (RFC 7396) over texts, in which numbers keep the digits that they were written with.

use crate::model::request::{Refusal, RefusalKind};
use serde_json::value::RawValue;
use std::collections::BTreeMap;

/// Bytes of an operator's edits of one rule, and of one change of them.
const MAX_EDITS: usize = 1 << 20;

/// Levels that are patched member by member; what lies deeper is replaced as a whole. No payload is taken that is nested so deep.
const MAX_DEPTH: usize = 120;

/// The text of an object with a patch over it, member by member at every level: null takes a member away, and what is no object is
/// replaced. Both are JSON texts; one that is damaged counts as null. Of the target only what the patch goes into is taken apart: it may
/// be long.
pub fn merge_patch(target: &str, patch: &str) -> String {
    merged(target, patch, Emptied::Stays)
}

fn merged(target: &str, patch: &str, emptied: Emptied) -> String {
    let patch = tree(patch, Apart::All);
    let mut target = tree(target, Apart::like(Some(&patch)));
    target.patch(patch, emptied);
    let mut text = String::new();
    target.write(&mut text);
    text
}

/// Merges a change into an operator's edits, in which null takes an edit back: an object that nulls left empty goes with what was in it,
/// since it would be an edit by itself. One that was given empty stays. Both are bounded: they are laid over what was declared whenever
/// that is used.
pub fn merge_edits(edits: &str, patch: &str) -> Result<String, Refusal> {
    check_length(patch)?;
    let merged = merged(edits, patch, Emptied::Goes);
    check_length(&merged).map(|()| merged)
}

/// Says that edits are too long, or one change of them.
pub fn check_length(edits: &str) -> Result<(), Refusal> {
    if edits.len() <= MAX_EDITS {
        return Ok(());
    }
    let sentence = format!(
        "the changes of one schedule or trigger may have {} MiB together; declare the payload anew instead, or take some back with null",
        MAX_EDITS >> 20
    );
    Err(Refusal::new(RefusalKind::Value, "", sentence))
}

/// Whether a change does nothing but take others back.
pub fn takes_back(patch: &str) -> bool {
    tree(patch, Apart::All).takes_back()
}

/// What becomes of an object that nulls left empty.
#[derive(Clone, Copy, PartialEq)]
enum Emptied {
    Stays,
    Goes,
}

/// Which objects are taken apart, member by member.
#[derive(Clone, Copy)]
enum Apart<'p> {
    All,
    None,
    /// Those that stand where these members have one.
    Like(&'p BTreeMap<String, Tree<'p>>),
}

impl<'p> Apart<'p> {
    fn like(tree: Option<&'p Tree<'p>>) -> Self {
        match tree {
            Some(Tree::Object(members)) => Self::Like(members),
            _ => Self::None,
        }
    }

    fn within(self, name: &str) -> Self {
        match self {
            Self::Like(members) => Self::like(members.get(name)),
            whole => whole,
        }
    }
}

/// JSON down to what is no object.
enum Tree<'a> {
    Object(BTreeMap<String, Tree<'a>>),
    Other(&'a str),
}

impl<'a> Tree<'a> {
    fn takes_back(&self) -> bool {
        match self {
            Self::Object(members) => !members.is_empty() && members.values().all(Self::takes_back),
            Self::Other(value) => *value == "null",
        }
    }

    /// Returns whether it is to go.
    fn patch(&mut self, patch: Self, emptied: Emptied) -> bool {
        let Self::Object(changes) = patch else {
            *self = patch;
            return false;
        };
        let is_new = matches!(self, Self::Other(_));
        if is_new {
            *self = Self::Object(BTreeMap::new());
        }
        let Self::Object(members) = self else { return false };
        let mut took = false;
        for (name, change) in changes {
            if let Self::Other("null") = change {
                took |= members.remove(&name).is_some() || is_new;
                continue;
            }
            let mut value = members.remove(&name).unwrap_or(Self::Other("null"));
            if value.patch(change, emptied) {
                took = true;
            } else {
                members.insert(name, value);
            }
        }
        emptied == Emptied::Goes && took && members.is_empty()
    }

    fn write(&self, text: &mut String) {
        match self {
            Self::Other(own) => text.push_str(own),
            Self::Object(members) => {
                text.push('{');
                for (name, value) in members {
                    begin_member(text, name);
                    value.write(text);
                }
                text.push('}');
            }
        }
    }
}

fn tree<'a>(text: &'a str, apart: Apart<'_>) -> Tree<'a> {
    // From here on it is known to be JSON.
    match serde_json::from_str::<&RawValue>(text) {
        Ok(raw) => Reader { text: raw.get(), at: 0 }.value(0, apart),
        Err(_) => Tree::Other("null"),
    }
}

/// Takes well-formed JSON apart in one pass, however deep its bulk lies: readers that keep a value's text read it again at each level.
struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn blanks(&mut self) {
        while self.peek().is_some_and(|byte| byte.is_ascii_whitespace()) {
            self.at += 1;
        }
    }

    fn value(&mut self, depth: usize, apart: Apart<'_>) -> Tree<'a> {
        self.blanks();
        if self.peek() == Some(b'{') && depth < MAX_DEPTH && !matches!(apart, Apart::None) {
            return self.object(depth, apart);
        }
        let from = self.at;
        self.pass();
        Tree::Other(&self.text[from..self.at])
    }

    fn object(&mut self, depth: usize, apart: Apart<'_>) -> Tree<'a> {
        let mut members = BTreeMap::new();
        self.at += 1;
        loop {
            self.blanks();
            match self.peek() {
                Some(b'"') => {
                    let from = self.at;
                    self.string();
                    let name: String = serde_json::from_str(&self.text[from..self.at]).unwrap_or_default();
                    self.blanks();
                    self.at += 1; // the colon
                    let value = self.value(depth + 1, apart.within(&name));
                    members.insert(name, value);
                }
                Some(b',') => self.at += 1,
                _ => {
                    self.at += 1;
                    return Tree::Object(members);
                }
            }
        }
    }

    fn string(&mut self) {
        self.at += 1;
        while let Some(byte) = self.peek() {
            self.at += if byte == b'\\' { 2 } else { 1 };
            if byte == b'"' {
                return;
            }
        }
    }

    /// Passes over one value.
    fn pass(&mut self) {
        let mut open = 0;
        while let Some(byte) = self.peek() {
            match byte {
                b'"' => self.string(),
                b'{' | b'[' => {
                    open += 1;
                    self.at += 1;
                }
                b'}' | b']' | b',' if open == 0 => return,
                b'}' | b']' => {
                    open -= 1;
                    self.at += 1;
                }
                byte if open == 0 && byte.is_ascii_whitespace() => return,
                _ => {
                    self.at += 1;
                    continue;
                }
            }
            if open == 0 {
                return;
            }
        }
    }
}

/// The text of an object with these members, which are JSON texts.
pub fn object<'a>(members: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let mut text = String::from("{");
    for (name, value) in members {
        begin_member(&mut text, name);
        text.push_str(value);
    }
    text.push('}');
    text
}

fn begin_member(text: &mut String, name: &str) {
    if !text.ends_with('{') {
        text.push(',');
    }
    text.push_str(&serde_json::Value::from(name).to_string());
    text.push(':');
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Map, Value};

    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i32>().prop_map(Value::from),
            r#"[a"\\\\{}\[\],: é]{0,4}"#.prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(r#"[ab"\\\\}]{0,2}"#, inner, 0..4)
                    .prop_map(|members| Value::Object(members.into_iter().collect::<Map<_, _>>())),
            ]
        })
    }

    /// As RFC 7396 says it.
    fn merged(target: Value, patch: Value) -> Value {
        let Value::Object(changes) = patch else { return patch };
        let mut members = match target {
            Value::Object(members) => members,
            _ => Map::new(),
        };
        for (name, change) in changes {
            let before = members.remove(&name).unwrap_or(Value::Null);
            if !change.is_null() {
                members.insert(name, merged(before, change));
            }
        }
        Value::Object(members)
    }

    proptest! {
        #[test]
        fn any_patch_does_as_the_standard_says(target in json(), patch in json(), pretty in any::<bool>()) {
            let text = |value: &Value| if pretty { serde_json::to_string_pretty(value).unwrap() } else { value.to_string() };
            let found: Value = serde_json::from_str(&merge_patch(&text(&target), &text(&patch))).unwrap();
            prop_assert_eq!(found, merged(target, patch));
        }
    }

    #[test]
    fn a_patch_changes_what_it_names_and_null_takes_it_away() {
        // The last seven are of RFC 7396 itself.
        for (target, patch, expected) in [
            (
                r#"{"a":1.10,"b":{"c":2,"d":3}}"#,
                r#"{"b":{"c":null,"e":1.50}}"#,
                r#"{"a":1.10,"b":{"d":3,"e":1.50}}"#,
            ),
            (r#"{"a":{"b":1}}"#, r#"{"a":[null,{"b":null}]}"#, r#"{"a":[null,{"b":null}]}"#),
            (
                r#"{"n":12345678901234567890.12345678901}"#,
                "{}",
                r#"{"n":12345678901234567890.12345678901}"#,
            ),
            (
                r#" { "a" : { "x]" : "\\" } , "b" : [ "}" , { "c" : "]" } ] } "#,
                r#"{"a":{"y": -1.5e3 }}"#,
                r#"{"a":{"x]":"\\","y":-1.5e3},"b":[ "}" , { "c" : "]" } ]}"#,
            ),
            (
                r#"{"a":{ "b" : 1 },"c":{ "d":{ "e":1 } }}"#,
                r#"{"c":{"f":null,"g":{}}}"#,
                r#"{"a":{ "b" : 1 },"c":{"d":{ "e":1 },"g":{}}}"#,
            ),
            (r#"{"q\"":1}"#, r#"{"q\"":2}"#, r#"{"q\"":2}"#),
            (r#"{"a":"b"}"#, r#"{"a":null}"#, "{}"),
            (r#"{"a":[{"b":"c"}]}"#, r#"{"a":[1]}"#, r#"{"a":[1]}"#),
            (r#"{"a":"foo"}"#, "null", "null"),
            (r#"{"a":"foo"}"#, r#""bar""#, r#""bar""#),
            (r#"{"e":null}"#, r#"{"a":1}"#, r#"{"a":1,"e":null}"#),
            ("[1,2]", r#"{"a":"b","c":null}"#, r#"{"a":"b"}"#),
            ("{}", r#"{"a":{"bb":{"ccc":null}}}"#, r#"{"a":{"bb":{}}}"#),
        ] {
            assert_eq!(merge_patch(target, patch), expected, "{target} {patch}");
        }
    }

    #[test]
    fn an_edit_that_is_taken_back_leaves_nothing_of_itself() {
        for (edits, patch, expected) in [
            (r#"{"a":{"b":1}}"#, r#"{"a":{"b":null}}"#, "{}"),
            (r#"{"a":{"b":{"c":1}},"d":2}"#, r#"{"a":{"b":{"c":null}}}"#, r#"{"d":2}"#),
            (r#"{"a":{"b":1,"c":2}}"#, r#"{"a":{"b":null}}"#, r#"{"a":{"c":2}}"#),
            (r#"{"a":{"b":1}}"#, r#"{"a":{"b":null,"c":{}}}"#, r#"{"a":{"c":{}}}"#),
            // There was none.
            ("{}", r#"{"a":{"b":{"c":null}}}"#, "{}"),
            (r#"{"a":1}"#, r#"{"a":{"b":null}}"#, "{}"),
            // Given empty.
            ("{}", r#"{"a":{}}"#, r#"{"a":{}}"#),
            (r#"{"a":{}}"#, r#"{"a":{"b":null}}"#, r#"{"a":{}}"#),
            (r#"{"a":{"b":{}}}"#, r#"{"a":{"c":null}}"#, r#"{"a":{"b":{}}}"#),
        ] {
            assert_eq!(merge_edits(edits, patch).unwrap(), expected, "{edits} {patch}");
        }
    }

    #[test]
    fn a_change_of_nothing_but_nulls_takes_back() {
        for (patch, expected) in [
            (r#"{"a":null}"#, true),
            (r#"{"a":null,"b":{"c":null}}"#, true),
            (r#"{"a":null,"b":{"c":null,"d":1}}"#, false),
            (r#"{"a":null,"b":{}}"#, false),
            (r#"{"a":[null]}"#, false),
            ("{}", false),
        ] {
            assert_eq!(takes_back(patch), expected, "{patch}");
        }
    }

    #[test]
    fn what_is_nested_beyond_measure_is_not_walked() {
        let deep = format!("{}1{}", r#"{"a":"#.repeat(200_000), "}".repeat(200_000));
        assert_eq!(merge_patch("{}", &deep), deep);
    }
}

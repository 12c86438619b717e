//! A sweep: a payload, and a grid of values for some of its places; every combination makes one task.
//!
//! The combinations are counted before any is made, and made one at a time: a million of them take no more memory than one. The payload
//! is cut into text and gaps once, so that what stands in it keeps every digit it was written with. The first place of the grid turns
//! slowest, as the outermost of nested loops would.

use crate::model::request::{Refusal, RefusalKind};
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// Most tasks of a sweep.
pub const MAX_COMBINATIONS: u64 = 1_000_000;
/// Most bytes of one payload that a sweep makes.
pub const MAX_PAYLOAD: u64 = 1 << 20;
/// Most bytes of all payloads of a sweep.
pub const MAX_BYTES: u64 = 1 << 30;
/// Most places that a grid sets.
pub const MAX_PLACES: usize = 32;
/// Most members between the payload and such a place.
const MAX_STEPS: usize = 32;

/// The values of each place, in the order in which they were written: JSON pointers and lists of JSON texts.
#[derive(Clone, Debug, Default)]
pub struct Grid(pub Vec<(String, Vec<Box<RawValue>>)>);

impl<'de> Deserialize<'de> for Grid {
    /// A map type would lose the order, which is that of the tasks, and what stands there twice.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Places;
        impl<'de> Visitor<'de> for Places {
            type Value = Grid;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object of JSON pointers, each with a list of values")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Grid, A::Error> {
                let mut places = Vec::new();
                while let Some(place) = map.next_entry()? {
                    places.push(place);
                    if places.len() > MAX_PLACES {
                        return Err(serde::de::Error::custom(format!("sets more than {MAX_PLACES} places")));
                    }
                }
                Ok(Grid(places))
            }
        }
        deserializer.deserialize_map(Places)
    }
}

/// A sweep that was checked: as many payloads as there are combinations.
#[derive(Debug)]
pub struct Sweep {
    /// The payload's text before the first gap, and after each.
    pieces: Vec<String>,
    /// Which place of the grid fills the gap after each piece but the last.
    gaps: Vec<usize>,
    /// The values of each place.
    values: Vec<Vec<Box<RawValue>>>,
    count: u64,
}

impl Sweep {
    /// Checks a grid against the payload, the JSON text of an object. What is wrong is told with its pointer into a request with a
    /// member `grid`.
    pub fn new(payload: &str, grid: Grid) -> Result<Self, Refusal> {
        if grid.0.is_empty() {
            return Err(fault("/grid", "names no place; give at least one JSON pointer with its values"));
        }
        let mut tree = Tree::parse(payload).ok_or_else(|| fault("/payload", "must be a JSON object"))?;
        let mut count = 1_u64;
        let mut values = Vec::with_capacity(grid.0.len());
        for (place, (pointer, its_values)) in grid.0.into_iter().enumerate() {
            let at = format!("/grid/{}", escaped(&pointer));
            let wrong = |sentence: String| fault(at.clone(), sentence);
            let path = path(&pointer).map_err(wrong)?;
            tree.open(&path, place).map_err(wrong)?;
            if its_values.is_empty() {
                return Err(wrong("has no value; give at least one".to_owned()));
            }
            count = count
                .checked_mul(its_values.len() as u64)
                .filter(|count| *count <= MAX_COMBINATIONS)
                .ok_or_else(|| {
                    let sentence = format!("makes more than {MAX_COMBINATIONS} combinations with the places before it; give fewer values");
                    fault(at.clone(), sentence)
                })?;
            values.push(its_values);
        }
        let (pieces, gaps) = tree.cut();
        let sweep = Self {
            pieces,
            gaps,
            values,
            count,
        };
        sweep.check_size()?;
        Ok(sweep)
    }

    fn check_size(&self) -> Result<(), Refusal> {
        let text: u64 = self.pieces.iter().map(|piece| piece.len() as u64).sum();
        let lengths = |place: &Vec<Box<RawValue>>| {
            let each = place.iter().map(|value| value.get().len() as u64);
            (each.clone().max().unwrap_or(0), each.sum::<u64>() / place.len().max(1) as u64 + 1)
        };
        let (most, mean) = self
            .values
            .iter()
            .map(lengths)
            .fold((text, text), |all, one| (all.0 + one.0, all.1 + one.1));
        if most > MAX_PAYLOAD {
            let sentence =
                format!("makes a payload of {most} bytes; {MAX_PAYLOAD} are allowed: send less, for example where the data can be found");
            return Err(fault("/grid", sentence));
        }
        if self.count.saturating_mul(mean) > MAX_BYTES {
            let sentence = format!(
                "makes {} payloads of about {mean} bytes; {MAX_BYTES} bytes are allowed in all: send less, for example where the data can be found",
                self.count
            );
            return Err(fault("/grid", sentence));
        }
        Ok(())
    }

    /// How many payloads there are.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The payload of a combination, from 0.
    pub fn payload(&self, combination: u64) -> String {
        // The digits of its number, each place with a base of its own; the last place is the last digit.
        let mut rest = combination;
        let mut chosen = vec![""; self.values.len()];
        for (choice, values) in chosen.iter_mut().zip(&self.values).rev() {
            let base = values.len() as u64;
            let digit = usize::try_from(rest % base).unwrap_or(0);
            *choice = values[digit].get();
            rest /= base;
        }
        let mut text = String::new();
        for (index, piece) in self.pieces.iter().enumerate() {
            text.push_str(piece);
            if let Some(place) = self.gaps.get(index) {
                text.push_str(chosen[*place]);
            }
        }
        text
    }
}

fn fault(pointer: impl Into<String>, sentence: impl Into<String>) -> Refusal {
    Refusal::new(RefusalKind::Value, pointer, sentence)
}

/// A JSON text, opened up as far as places lie in it.
enum Tree {
    Text(Box<RawValue>),
    Object(Vec<(String, Tree)>),
    Array(Vec<Tree>),
    Gap(usize),
}

impl Tree {
    fn parse(payload: &str) -> Option<Self> {
        let mut tree = Self::Text(serde_json::from_str(payload).ok()?);
        tree.unfold();
        matches!(tree, Self::Object(_)).then_some(tree)
    }

    /// Opens an object or array by one level.
    fn unfold(&mut self) {
        let Self::Text(raw) = self else { return };
        let text = raw.get();
        if text.starts_with('{') {
            let Ok(Members(members)) = serde_json::from_str(text) else { return };
            *self = Self::Object(members);
        } else if text.starts_with('[') {
            let Ok(items) = serde_json::from_str::<Vec<Box<RawValue>>>(text) else {
                return;
            };
            *self = Self::Array(items.into_iter().map(Self::Text).collect());
        }
    }

    /// Makes the gap for a place of the grid, and the objects on the way that are missing.
    fn open(&mut self, path: &[String], place: usize) -> Result<(), String> {
        let mut here = self;
        for (depth, token) in path.iter().enumerate() {
            here.unfold();
            let is_last = depth + 1 == path.len();
            here = match here {
                Self::Object(members) => {
                    let found = members.iter().position(|(name, _)| name == token);
                    let index = found.unwrap_or(members.len());
                    if found.is_none() {
                        members.push((token.clone(), Self::Object(Vec::new())));
                    }
                    &mut members[index].1
                }
                Self::Array(items) => {
                    let length = items.len();
                    let index = token.parse::<usize>().ok().filter(|n| n.to_string() == *token);
                    let item = index.and_then(|index| items.get_mut(index));
                    item.ok_or_else(|| format!("{token:?} is no item of the payload's list, which has {length}; they count from 0"))?
                }
                Self::Gap(_) => return Err("lies inside another place of the grid; set the outer one alone".to_owned()),
                Self::Text(raw) => {
                    let kind = kind(raw.get());
                    return Err(format!("leads through {kind} in the payload, in which nothing can be set"));
                }
            };
            if is_last {
                if here.has_gap() {
                    return Err("is another place of the grid, or around one; set each place once".to_owned());
                }
                *here = Self::Gap(place);
            }
        }
        Ok(())
    }

    fn has_gap(&self) -> bool {
        match self {
            Self::Gap(_) => true,
            Self::Text(_) => false,
            Self::Array(items) => items.iter().any(Self::has_gap),
            Self::Object(members) => members.iter().any(|(_, value)| value.has_gap()),
        }
    }

    fn cut(&self) -> (Vec<String>, Vec<usize>) {
        let (mut pieces, mut gaps) = (vec![String::new()], Vec::new());
        self.write(&mut pieces, &mut gaps);
        (pieces, gaps)
    }

    fn write(&self, pieces: &mut Vec<String>, gaps: &mut Vec<usize>) {
        fn push(pieces: &mut [String], text: &str) {
            if let Some(piece) = pieces.last_mut() {
                piece.push_str(text);
            }
        }
        match self {
            Self::Text(raw) => push(pieces, raw.get()),
            Self::Gap(place) => {
                gaps.push(*place);
                pieces.push(String::new());
            }
            Self::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    push(pieces, if index == 0 { "[" } else { "," });
                    item.write(pieces, gaps);
                }
                push(pieces, if items.is_empty() { "[]" } else { "]" });
            }
            Self::Object(members) => {
                for (index, (name, value)) in members.iter().enumerate() {
                    push(pieces, if index == 0 { "{" } else { "," });
                    push(pieces, &serde_json::Value::from(name.as_str()).to_string());
                    push(pieces, ":");
                    value.write(pieces, gaps);
                }
                push(pieces, if members.is_empty() { "{}" } else { "}" });
            }
        }
    }
}

/// The members of an object in their order; of those that stand there twice the last one, as readers of JSON take it.
struct Members(Vec<(String, Tree)>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Each;
        impl<'de> Visitor<'de> for Each {
            type Value = Members;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut places = std::collections::HashMap::new();
                let mut members: Vec<(String, Tree)> = Vec::new();
                while let Some((name, value)) = map.next_entry::<String, Box<RawValue>>()? {
                    let place = *places.entry(name.clone()).or_insert(members.len());
                    if place == members.len() {
                        members.push((name, Tree::Text(value)));
                    } else {
                        members[place].1 = Tree::Text(value);
                    }
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Each)
    }
}

/// The members that a JSON pointer (RFC 6901) goes through.
fn path(pointer: &str) -> Result<Vec<String>, String> {
    let Some(rest) = pointer.strip_prefix('/') else {
        return Err("is no JSON pointer to a member of the payload; write, for example, \"/window\" or \"/costs/fee\"".to_owned());
    };
    let tokens: Vec<&str> = rest.split('/').collect();
    if tokens.len() > MAX_STEPS {
        return Err(format!("leads through more than {MAX_STEPS} members"));
    }
    let unescaped = |token: &str| {
        let mut rest = token.split('~');
        let mut text = rest.next().unwrap_or_default().to_owned();
        for part in rest {
            let (escaped, end) = match part.as_bytes().first() {
                Some(b'0') => ('~', &part[1..]),
                Some(b'1') => ('/', &part[1..]),
                _ => return Err("has a ~ that is neither ~0 (for ~) nor ~1 (for /)".to_owned()),
            };
            text.push(escaped);
            text.push_str(end);
        }
        Ok(text)
    };
    tokens.into_iter().map(unescaped).collect()
}

/// A member's name as a part of a JSON pointer; of a long one the beginning.
fn escaped(name: &str) -> String {
    let shown: String = name.chars().take(100).collect();
    shown.replace('~', "~0").replace('/', "~1")
}

fn kind(text: &str) -> &'static str {
    match text.as_bytes().first() {
        Some(b'"') => "a text",
        Some(b't' | b'f') => "a truth value",
        Some(b'n') => "null",
        _ => "a number",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sweep(payload: &str, grid: &str) -> Result<Sweep, Refusal> {
        Sweep::new(payload, serde_json::from_str(grid).unwrap())
    }

    fn payloads(payload: &str, grid: &str) -> Vec<String> {
        let sweep = sweep(payload, grid).unwrap();
        (0..sweep.count()).map(|combination| sweep.payload(combination)).collect()
    }

    #[test]
    fn the_first_place_turns_slowest() {
        assert_eq!(
            payloads(r#"{"k":0}"#, r#"{"/z":[1,2],"/a":["x","y","z"]}"#),
            [
                r#"{"k":0,"z":1,"a":"x"}"#,
                r#"{"k":0,"z":1,"a":"y"}"#,
                r#"{"k":0,"z":1,"a":"z"}"#,
                r#"{"k":0,"z":2,"a":"x"}"#,
                r#"{"k":0,"z":2,"a":"y"}"#,
                r#"{"k":0,"z":2,"a":"z"}"#,
            ]
        );
    }

    #[test]
    fn places_are_set_where_they_lie_and_made_where_they_do_not() {
        for (payload, grid, expected) in [
            ("{}", r#"{"/a/b/c":[1]}"#, r#"{"a":{"b":{"c":1}}}"#),
            (
                r#"{"a":{"x":1,"b":2}}"#,
                r#"{"/a/b":[{"deep":[]}]}"#,
                r#"{"a":{"x":1,"b":{"deep":[]}}}"#,
            ),
            (
                r#"{"a":[1,{"b":2},3]}"#,
                r#"{"/a/1/b":[null],"/a/2":[4]}"#,
                r#"{"a":[1,{"b":null},4]}"#,
            ),
            (r#"{"a":{},"l":[]}"#, r#"{"/a/x":[1]}"#, r#"{"a":{"x":1},"l":[]}"#),
            (
                r#"{"a/b":1,"m~n":2,"":3}"#,
                r#"{"/a~1b":[7],"/m~0n":[8],"/":[9]}"#,
                r#"{"a/b":7,"m~n":8,"":9}"#,
            ),
            (r#"{"q\"":1}"#, r#"{"/a":[1]}"#, r#"{"q\"":1,"a":1}"#),
            (r#"{"a":1,"a":2}"#, r#"{"/b":[1]}"#, r#"{"a":2,"b":1}"#),
        ] {
            assert_eq!(payloads(payload, grid), [expected], "{payload} {grid}");
        }
    }

    #[test]
    fn every_digit_stays() {
        assert_eq!(
            payloads(r#"{"p": 0.10000000000000000001}"#, r#"{"/q":[12345678901234567890.50, 1e400]}"#),
            [
                r#"{"p":0.10000000000000000001,"q":12345678901234567890.50}"#,
                r#"{"p":0.10000000000000000001,"q":1e400}"#
            ]
        );
    }

    #[test]
    fn what_cannot_be_swept_is_told_where_it_stands() {
        for (payload, grid, pointer, word) in [
            ("{}", "{}", "/grid", "no place"),
            ("{}", r#"{"/a":[]}"#, "/grid/~1a", "no value"),
            ("{}", r#"{"":[1]}"#, "/grid/", "no JSON pointer"),
            ("{}", r#"{"a":[1]}"#, "/grid/a", "no JSON pointer"),
            ("{}", r#"{"/a~":[1]}"#, "/grid/~1a~0", "neither ~0"),
            (r#"{"a":1}"#, r#"{"/a/b":[1]}"#, "/grid/~1a~1b", "through a number"),
            (r#"{"a":[1]}"#, r#"{"/a/1":[1]}"#, "/grid/~1a~11", "which has 1"),
            (r#"{"a":[1]}"#, r#"{"/a/-":[1]}"#, "/grid/~1a~1-", "count from 0"),
            (r#"{"a":[1]}"#, r#"{"/a/00":[1]}"#, "/grid/~1a~100", "count from 0"),
            ("{}", r#"{"/a":[1],"/a":[2]}"#, "/grid/~1a", "each place once"),
            ("{}", r#"{"/a":[1],"/a/b":[2]}"#, "/grid/~1a~1b", "inside another"),
            ("{}", r#"{"/a/b":[1],"/a":[2]}"#, "/grid/~1a", "around one"),
            ("[1]", r#"{"/a":[1]}"#, "/payload", "object"),
        ] {
            let refusal = sweep(payload, grid).unwrap_err();
            assert_eq!(refusal.pointer, pointer, "{grid}: {refusal:?}");
            assert!(refusal.sentence.contains(word), "{grid}: {refusal:?}");
        }
    }

    #[test]
    fn too_much_is_refused_before_any_of_it_is_made() {
        let list = format!("[{}]", vec!["1"; 1_000].join(","));
        let grid = |places: usize| {
            let places: Vec<String> = (0..places).map(|place| format!(r#""/{place}":{list}"#)).collect();
            format!("{{{}}}", places.join(","))
        };
        assert_eq!(sweep("{}", &grid(2)).unwrap().count(), 1_000_000);
        let refusal = sweep("{}", &grid(3)).unwrap_err();
        assert!(
            refusal.pointer == "/grid/~12" && refusal.sentence.contains("1000000 combinations"),
            "{refusal:?}"
        );
        assert!(sweep("{}", &grid(20)).is_err()); // past what a number holds
        let long = format!(r#"{{"data":"{}"}}"#, "x".repeat(2_000));
        assert!(sweep(&long, &grid(2)).unwrap_err().sentence.contains("in all"));
        let long = format!(r#"{{"data":"{}"}}"#, "x".repeat(1 << 20));
        assert!(sweep(&long, r#"{"/a":[1]}"#).unwrap_err().sentence.contains("bytes"));
        let many: Vec<String> = (0..=MAX_PLACES).map(|place| format!(r#""/{place}":[1]"#)).collect();
        assert!(serde_json::from_str::<Grid>(&format!("{{{}}}", many.join(","))).is_err());
    }
}

//! A payload, opened up as far as a grid sets places in it; what is not opened stays the text that it was.

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// Most members between the payload and such a place.
const MAX_STEPS: usize = 32;

/// A JSON text, opened up as far as places lie in it.
pub(super) enum Tree {
    Text(Box<RawValue>),
    Object(Vec<(String, Tree)>),
    Array(Vec<Tree>),
    Gap(usize),
}

impl Tree {
    pub(super) fn parse(payload: &str) -> Option<Self> {
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
    pub(super) fn open(&mut self, path: &[String], place: usize) -> Result<(), String> {
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

    pub(super) fn cut(&self) -> (Vec<String>, Vec<usize>) {
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
pub(super) fn path(pointer: &str) -> Result<Vec<String>, String> {
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

fn kind(text: &str) -> &'static str {
    match text.as_bytes().first() {
        Some(b'"') => "a text",
        Some(b't' | b'f') => "a truth value",
        Some(b'n') => "null",
        _ => "a number",
    }
}

//! Strict reading: unknown members are refused, and what is wrong is told with its place. Members that the API promises for a later
//! version are refused with that reason: a type lists them in [`Input::LATER`].

use super::strict::{MARK, Strict};
use serde::de::DeserializeOwned;
use serde_path_to_error::{Path as MemberPath, Segment};

/// A type that is read from a request.
pub trait Input: DeserializeOwned {
    /// Members that the API names and this version does not honour yet.
    const LATER: &'static [&'static str] = &[];
    /// What an empty body means.
    const EMPTY: &'static str = "";
}

/// What kind of mistake a refusal is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalKind {
    /// The text is not JSON.
    Json,
    /// A value of the wrong type or out of range.
    Value,
    /// A member that does not exist.
    Unknown,
    /// A member that this version does not honour yet.
    Later,
}

/// Why a request was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{sentence}")]
pub struct Refusal {
    /// What kind of mistake it is.
    pub kind: RefusalKind,
    /// JSON pointer (RFC 6901) to it; empty for the whole.
    pub pointer: String,
    /// What is wrong there, for a person.
    pub sentence: String,
}

impl Refusal {
    /// Puts it together.
    pub fn new(kind: RefusalKind, pointer: impl Into<String>, sentence: impl Into<String>) -> Self {
        let (pointer, sentence) = (pointer.into(), sentence.into());
        Self { kind, pointer, sentence }
    }
}

/// Reads JSON; what is wrong is told with its pointer, or its line and column.
pub fn parse<T: Input>(text: &[u8]) -> Result<T, Refusal> {
    // Said of a value that is not read further, whatever else is wrong with it.
    let first = text.iter().find(|byte| !byte.is_ascii_whitespace());
    if first.is_some_and(|byte| b"[\"-0123456789tfn".contains(byte)) {
        return Err(Refusal::new(RefusalKind::Value, "", "must be a JSON object"));
    }
    let mut reader = serde_json::Deserializer::from_slice(text);
    let value: T = serde_path_to_error::deserialize(Strict(&mut reader)).map_err(|error| {
        let path = error.path().clone();
        let cause = error.into_inner();
        let told = without_position(&cause);
        if cause.classify() == serde_json::error::Category::Data || beyond(&told).is_some() {
            refusal::<T>(&path, &told)
        } else {
            bad_json(text, &cause)
        }
    })?;
    reader.end().map_err(|cause| bad_json(text, &cause))?;
    Ok(value)
}

/// Reads JSON that is no request of ours, as one value whose type has its own sentences; `shape` says what it has to be.
pub(super) fn parse_raw<T: DeserializeOwned>(text: &[u8], shape: &str) -> Result<T, Refusal> {
    let mut reader = serde_json::Deserializer::from_slice(text);
    let read = T::deserialize(&mut reader).and_then(|value| reader.end().map(|()| value));
    read.map_err(|cause| match cause.classify() {
        serde_json::error::Category::Data => {
            let sentence = without_position(&cause);
            let shape = if sentence.starts_with("invalid type") {
                shape.to_owned()
            } else {
                sentence
            };
            Refusal::new(RefusalKind::Value, "", shape)
        }
        _ => bad_json(text, &cause),
    })
}

fn bad_json(text: &[u8], cause: &serde_json::Error) -> Refusal {
    if text.is_empty() {
        return Refusal::new(RefusalKind::Json, "", "the body is empty; send a JSON object");
    }
    Refusal::new(RefusalKind::Json, "", format!("the body is not JSON: {cause}"))
}

/// `serde_json` ends its sentences with the position; the pointer says it better.
pub(super) fn without_position(cause: &serde_json::Error) -> String {
    let sentence = cause.to_string();
    match sentence.rfind(" at line ") {
        Some(end) => sentence[..end].to_owned(),
        None => sentence,
    }
}

/// What is JSON, and too much for its reader, which calls it none.
fn beyond(told: &str) -> Option<&'static str> {
    match told {
        "number out of range" => Some("is a number beyond any that can be kept"),
        "recursion limit exceeded" => Some("is nested too deeply"),
        _ => None,
    }
}

fn refusal<T: Input>(path: &MemberPath, sentence: &str) -> Refusal {
    let mut segments = path.iter();
    if let (Some(Segment::Map { key }), None) = (segments.next(), segments.next())
        && T::LATER.contains(&key.as_str())
    {
        let sentence = format!("`{key}` is not supported yet by this version; remove it");
        return Refusal::new(RefusalKind::Later, format!("/{key}"), sentence);
    }
    let (kind, member, sentence) = in_our_words(sentence);
    Refusal::new(kind, pointer(path) + &member, sentence)
}

/// What serde says, for who wrote a request and never saw our types; with the member that it is about where the path ends before it.
fn in_our_words(sentence: &str) -> (RefusalKind, String, String) {
    let of_member = |start: &str| sentence.strip_prefix(start)?.strip_suffix('`');
    if let Some(member) = of_member("missing field `") {
        return (RefusalKind::Value, format!("/{member}"), "is missing".to_owned());
    }
    if let Some(member) = of_member("duplicate field `") {
        return (RefusalKind::Value, format!("/{member}"), "is given twice; leave one out".to_owned());
    }
    if sentence.starts_with("unknown field ") {
        let known = sentence
            .rsplit_once(", expected ")
            .map(|(_, known)| known.trim_start_matches("one of "));
        let said = known.map_or_else(
            || "is unknown; leave it out".to_owned(),
            |known| format!("is unknown; it takes {}", known.replace('`', "")),
        );
        return (RefusalKind::Unknown, String::new(), said);
    }
    if let Some(said) = beyond(sentence) {
        return (RefusalKind::Value, String::new(), said.to_owned());
    }
    // The reader of JSON says first what it found.
    let expected = sentence.rsplit_once(MARK).map_or(sentence, |(_, expected)| expected);
    (RefusalKind::Value, String::new(), expected.to_owned())
}

/// RFC 6901.
fn pointer(path: &MemberPath) -> String {
    let mut pointer = String::new();
    for segment in path {
        pointer.push('/');
        match segment {
            Segment::Seq { index } => pointer.push_str(&index.to_string()),
            Segment::Map { key } => pointer.push_str(&key.replace('~', "~0").replace('/', "~1")),
            Segment::Enum { variant } => pointer.push_str(variant),
            Segment::Unknown => pointer.push('?'),
        }
    }
    pointer
}

/// Reads name-value pairs, all of them text.
pub fn parse_pairs<T: Input>(pairs: Vec<(String, String)>) -> Result<T, Refusal> {
    let reader = serde::de::value::MapDeserializer::<_, serde::de::value::Error>::new(pairs.into_iter());
    serde_path_to_error::deserialize(Strict(reader)).map_err(|error| refusal::<T>(error.path(), &error.inner().to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use serde_json::value::RawValue;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Sample {
        name: String,
        #[serde(default)]
        tags: Vec<u8>,
        #[serde(default)]
        raw: Option<Box<RawValue>>,
    }

    impl Input for Sample {
        const LATER: &'static [&'static str] = &["deadline"];
    }

    fn complaint(text: &str) -> (RefusalKind, String, String) {
        let refusal = parse::<Sample>(text.as_bytes()).expect_err(text);
        (refusal.kind, refusal.pointer, refusal.sentence)
    }

    #[test]
    fn a_complaint_names_the_member() {
        for (text, code, pointer, word) in [
            (r#"{"name":1}"#, RefusalKind::Value, "/name", "must be text"),
            (
                r#"{"name":"a","tags":[1,"x"]}"#,
                RefusalKind::Value,
                "/tags/1",
                "must be a whole number from 0 to 255",
            ),
            (
                r#"{"name":"a","nmae":1}"#,
                RefusalKind::Unknown,
                "/nmae",
                "is unknown; it takes name, tags, raw",
            ),
            (r#"{"name":"a","a/b":1}"#, RefusalKind::Unknown, "/a~1b", "is unknown"),
            (r#"{"name":"a","deadline":1}"#, RefusalKind::Later, "/deadline", "not supported yet"),
            (
                r#"{"name":"a","name":"b"}"#,
                RefusalKind::Value,
                "/name",
                "is given twice; leave one out",
            ),
            (r"{}", RefusalKind::Value, "/name", "is missing"),
            (r#"{"name":"#, RefusalKind::Json, "", "line 1 column 8"),
            (r#"{"name":"a"} x"#, RefusalKind::Json, "", "trailing"),
            ("", RefusalKind::Json, "", "empty"),
            ("x", RefusalKind::Json, "", "line 1 column 1"),
            (r#"["a",[],null]"#, RefusalKind::Value, "", "must be a JSON object"),
            (" null", RefusalKind::Value, "", "must be a JSON object"),
        ] {
            let (found, at, detail) = complaint(text);
            assert_eq!((found, at.as_str()), (code, pointer), "{text}: {detail}");
            assert!(detail.contains(word), "{text}: {detail}");
            assert!(pointer.is_empty() || !detail.contains("at line"), "{detail}");
        }
    }

    #[test]
    fn raw_values_survive_as_they_were_written() {
        let sample: Sample = parse(br#"{"name":"a","raw":{"n": 123456789012345678901234567890.10}}"#).unwrap();
        assert_eq!(sample.raw.unwrap().get(), r#"{"n": 123456789012345678901234567890.10}"#);
        assert_eq!((sample.name.as_str(), sample.tags.len()), ("a", 0));
    }

    #[test]
    fn a_query_refuses_what_it_does_not_know() {
        #[derive(Debug, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        #[derive(Default)]
        struct Filter {
            status: String,
        }
        impl Input for Filter {
            const LATER: &'static [&'static str] = &["batch_id"];
        }
        let query = |text: &str| {
            let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
            parse_pairs::<Filter>(pairs.map(|(k, v)| (k.to_owned(), v.to_owned())).collect())
        };
        assert_eq!(query("status=failed").unwrap().status, "failed");
        assert_eq!(query("").unwrap().status, "");
        assert_eq!(query("state=x").unwrap_err().kind, RefusalKind::Unknown);
        assert_eq!(query("batch_id=x").unwrap_err().kind, RefusalKind::Later);
        let twice = query("status=a&status=b").unwrap_err();
        assert_eq!((twice.kind, twice.pointer.as_str()), (RefusalKind::Value, "/status"));
    }
}

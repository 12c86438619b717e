//! CloudEvents 1.0 over HTTP: an event whose attributes are headers (binary), one in its own JSON envelope (structured), and a list of
//! those (batched).
//!
//! The official library reads data into a tree, in which long numbers lose digits, takes an envelope member that stands twice, and also
//! reads the old version 0.3; this reader keeps the data as it was written and says where an event is wrong.

use super::read::{Refusal, RefusalKind, parse_raw};
use super::value::{EventType, Payload};
use crate::model::Time;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use fluent_uri::{Uri, UriRef};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;
use std::collections::BTreeMap;

/// Most events of one batch.
pub const MAX_EVENTS: usize = 1_000;
/// Longest id, source and other text attribute, in bytes.
const MAX_TEXT: usize = 2_048;
/// Longest name of an attribute; the specification recommends 20.
const MAX_NAME: usize = 64;
/// Most attributes of one event.
const MAX_ATTRIBUTES: usize = 64;

/// An event as another system tells it.
#[derive(Clone, Debug, PartialEq)]
pub struct CloudEvent {
    /// What happened.
    pub event_type: EventType,
    /// Where: a reference to a URI.
    pub source: String,
    /// Unique among those of its source.
    pub id: String,
    /// When, if it says so.
    pub time: Option<Time>,
    /// What it says; an empty object where it says nothing.
    pub data: Payload,
}

impl CloudEvent {
    /// Reads an event in its envelope (`application/cloudevents+json`).
    pub fn structured(text: &[u8]) -> Result<Self, Refusal> {
        Self::from_envelope(parse_raw(text, "a CloudEvent is a JSON object")?)
    }

    /// Reads a list of such (`application/cloudevents-batch+json`), all or none.
    pub fn batched(text: &[u8]) -> Result<Vec<Self>, Refusal> {
        let list: Vec<Box<RawValue>> = parse_raw(text, "a batch of CloudEvents is a JSON array")?;
        if list.len() > MAX_EVENTS {
            return Err(value(
                "",
                format!("a batch has at most {MAX_EVENTS} events, and this one {}", list.len()),
            ));
        }
        let within = |index: usize, refusal: Refusal| Refusal::new(refusal.kind, format!("/{index}{}", refusal.pointer), refusal.sentence);
        let read = |text: &str| Self::structured(text.as_bytes());
        let events = list.iter().enumerate();
        events
            .map(|(index, event)| read(event.get()).map_err(|refusal| within(index, refusal)))
            .collect()
    }

    /// Reads an event whose attributes are headers, `ce-` taken off their names, and whose data is the body, which is JSON. A pointer
    /// into the attributes names the header.
    pub fn binary<'h>(headers: impl Iterator<Item = (&'h str, &'h [u8])>, body: &[u8]) -> Result<Self, Refusal> {
        let mut attributes = Attributes::default();
        for (name, text) in headers {
            let pointer = format!("/ce-{name}");
            if matches!(name, "data" | "datacontenttype" | "data_base64") {
                return Err(value(
                    pointer,
                    "is no header of a CloudEvent: the data is the body, and its type the Content-Type",
                ));
            }
            let text = header_text(text).ok_or_else(|| value(&pointer, "must be UTF-8 text, percent-encoded where it is not ASCII"))?;
            attributes
                .insert(name, Value::String(text))
                .map_err(|sentence| value(&pointer, sentence))?;
        }
        let data = if body.is_empty() {
            Payload::default()
        } else {
            parse_raw(body, "the data of an event is a JSON object")?
        };
        attributes.event(data).map_err(|refusal| {
            let pointer = refusal.pointer.replacen('/', "/ce-", 1);
            Refusal::new(refusal.kind, pointer, refusal.sentence)
        })
    }

    fn from_envelope(Envelope(mut members): Envelope) -> Result<Self, Refusal> {
        let mut take = |name: &str| members.remove(name).filter(|raw| raw.get() != "null");
        let (data, encoded) = (take("data"), take("data_base64"));
        let mut attributes = Attributes::default();
        for (name, raw) in &members {
            let pointer = format!("/{}", name.replace('~', "~0").replace('/', "~1"));
            let read: Value = serde_json::from_str(raw.get()).map_err(|_| value(&pointer, "cannot be read"))?;
            attributes.insert(name, read).map_err(|sentence| value(&pointer, sentence))?;
        }
        let data = match (data, encoded) {
            (Some(_), Some(_)) => return Err(value("/data_base64", "must not stand beside data; send one of them")),
            (Some(data), None) => read_data("/data", data.get().as_bytes())?,
            (None, Some(encoded)) => {
                let text: Option<String> = serde_json::from_str(encoded.get()).ok();
                let bytes = text.and_then(|text| BASE64_STANDARD.decode(text).ok());
                read_data(
                    "/data_base64",
                    &bytes.ok_or_else(|| value("/data_base64", "must be text in base64"))?,
                )?
            }
            (None, None) => Payload::default(),
        };
        if let Some(media_type) = attributes.0.get("datacontenttype").filter(|media_type| !is_json(media_type)) {
            return Err(value(
                "/datacontenttype",
                format!("must be JSON, such as application/json, and is {:?}", shown(media_type)),
            ));
        }
        attributes.event(data)
    }
}

fn read_data(pointer: &str, text: &[u8]) -> Result<Payload, Refusal> {
    parse_raw(text, "the data of an event is a JSON object").map_err(|refusal| Refusal::new(refusal.kind, pointer, refusal.sentence))
}

/// Whether a media type says JSON.
pub fn is_json(media_type: &str) -> bool {
    let plain = media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    plain == "application/json" || plain == "text/json" || (plain.contains('/') && plain.ends_with("+json"))
}

fn value(pointer: impl Into<String>, sentence: impl Into<String>) -> Refusal {
    Refusal::new(RefusalKind::Value, pointer, sentence)
}

fn shown(text: &str) -> String {
    text.chars().take(80).collect()
}

/// The members of an envelope as they were written; one that stands twice is refused.
struct Envelope(BTreeMap<String, Box<RawValue>>);

impl<'de> Deserialize<'de> for Envelope {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Envelope;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Envelope, A::Error> {
                let mut members = BTreeMap::new();
                while let Some((name, raw)) = map.next_entry::<String, Box<RawValue>>()? {
                    if members.len() > MAX_ATTRIBUTES {
                        return Err(A::Error::custom(format!("an event has at most {MAX_ATTRIBUTES} attributes")));
                    }
                    let twice = || A::Error::custom(format!("`{}` is given twice; leave one out", shown(&name)));
                    if members.contains_key(&name) {
                        return Err(twice());
                    }
                    members.insert(name, raw);
                }
                Ok(Envelope(members))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

/// Context attributes by name: those of the specification, and extensions, which are checked and not kept.
#[derive(Default)]
struct Attributes(BTreeMap<String, String>);

impl Attributes {
    fn insert(&mut self, name: &str, value: Value) -> Result<(), String> {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        if !(1..=MAX_NAME).contains(&name.len()) || !name.bytes().all(plain) {
            return Err(format!(
                "is no name of an attribute: those have 1 to {MAX_NAME} lower-case letters and digits; what the event says stands in data"
            ));
        }
        let text = match value {
            Value::Null => return Ok(()),
            Value::String(text) => text,
            Value::Bool(_) | Value::Number(_) if !KNOWN.contains(&name) => return Ok(()),
            _ if KNOWN.contains(&name) => return Err("must be text".into()),
            _ => return Err("must be text, a number or true or false; what has members stands in data".into()),
        };
        if text.len() > MAX_TEXT || text.chars().any(char::is_control) {
            return Err(format!("has at most {MAX_TEXT} bytes and no control characters"));
        }
        if text.is_empty() && KNOWN.contains(&name) {
            return Err("must not be empty".into());
        }
        if self.0.insert(name.to_owned(), text).is_some() {
            return Err("stands twice".into());
        }
        if self.0.len() > MAX_ATTRIBUTES {
            return Err(format!("is one too many: an event has at most {MAX_ATTRIBUTES} attributes"));
        }
        Ok(())
    }

    fn required(&mut self, name: &str) -> Result<String, Refusal> {
        let missing = || {
            value(
                format!("/{name}"),
                format!("must be given: a CloudEvent has {}", REQUIRED.join(", ")),
            )
        };
        self.0.remove(name).ok_or_else(missing)
    }

    fn event(mut self, data: Payload) -> Result<CloudEvent, Refusal> {
        let version = self.required("specversion")?;
        if version != "1.0" {
            return Err(value("/specversion", format!("must be \"1.0\", and is {:?}", shown(&version))));
        }
        let id = self.required("id")?;
        let source = self.required("source")?;
        if UriRef::parse(source.as_str()).is_err() {
            return Err(value(
                "/source",
                "must be a reference to a URI, such as /desk/fx or https://example.com/desk",
            ));
        }
        let event_type = EventType::new(&self.required("type")?).map_err(|sentence| value("/type", sentence))?;
        if self.0.get("dataschema").is_some_and(|uri| Uri::parse(uri.as_str()).is_err()) {
            return Err(value("/dataschema", "must be a URI, such as https://example.com/schema"));
        }
        let time = self.0.remove("time").map(|text| {
            let time = chrono::DateTime::parse_from_rfc3339(&text).ok();
            let time = time.and_then(|time| Time::from_timestamp_micros(time.timestamp_micros()));
            time.ok_or_else(|| value("/time", "must be a time as RFC 3339 writes it, such as 2026-01-31T09:30:00Z"))
        });
        Ok(CloudEvent {
            event_type,
            source,
            id,
            time: time.transpose()?,
            data,
        })
    }
}

const REQUIRED: [&str; 4] = ["specversion", "id", "source", "type"];
/// What the specification knows; all of it is text.
const KNOWN: [&str; 8] = [
    "specversion",
    "id",
    "source",
    "type",
    "time",
    "subject",
    "dataschema",
    "datacontenttype",
];

/// The value of a header: quotes around it are no part of it, and bytes may be percent-encoded.
fn header_text(bytes: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(bytes).ok()?.trim();
    let quoted = text.len() >= 2 && text.starts_with('"') && text.ends_with('"');
    let text = if quoted {
        unquote(&text[1..text.len() - 1])
    } else {
        text.to_owned()
    };
    percent_encoding::percent_decode_str(&text).decode_utf8().ok().map(Into::into)
}

/// A backslash in a quoted text stands before a character that is meant as it is.
fn unquote(text: &str) -> String {
    let mut chars = text.chars();
    let mut plain = String::with_capacity(text.len());
    while let Some(c) = chars.next() {
        plain.extend(if c == '\\' { chars.next() } else { Some(c) });
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn envelope(change: &[(&str, Value)]) -> String {
        let mut event = json!({"specversion": "1.0", "id": "1", "source": "/desk", "type": "fill"});
        for (name, value) in change {
            event[*name] = value.clone();
            if value == "gone" {
                event.as_object_mut().unwrap().remove(*name);
            }
        }
        event.to_string()
    }

    #[test]
    fn an_envelope_keeps_every_digit() {
        let text = r#"{"specversion":"1.0","id":"a-1","source":"https://x.test/desk?a=b","type":"fill","time":"2026-03-02T10:30:00+01:00",
            "datacontenttype":"application/json; charset=utf-8","subject":"s","traceparent":"00-1","sampledrate":3,"signed":true,"gone":null,
            "data":{"price": 12345678901234567890.10}}"#;
        let event = CloudEvent::structured(text.as_bytes()).unwrap();
        assert_eq!(event.data.text, r#"{"price": 12345678901234567890.10}"#);
        assert_eq!((event.id.as_str(), event.source.as_str()), ("a-1", "https://x.test/desk?a=b"));
        assert_eq!(event.time.unwrap().to_rfc3339(), "2026-03-02T09:30:00+00:00");
        let encoded = envelope(&[("data_base64", json!(BASE64_STANDARD.encode(r#"{"a":1}"#)))]);
        assert_eq!(CloudEvent::structured(encoded.as_bytes()).unwrap().data.text, r#"{"a":1}"#);
        assert_eq!(CloudEvent::structured(envelope(&[]).as_bytes()).unwrap().data.text, "{}");
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        for (change, pointer, word) in [
            (vec![("specversion", json!("gone"))], "/specversion", "must be given"),
            (vec![("specversion", json!("0.3"))], "/specversion", "1.0"),
            (vec![("specversion", json!(1.0))], "/specversion", "text"),
            (vec![("id", json!("gone"))], "/id", "must be given"),
            (vec![("id", json!(""))], "/id", "empty"),
            (vec![("id", json!(7))], "/id", "text"),
            (vec![("id", json!("x".repeat(3_000)))], "/id", "2048"),
            (vec![("source", json!("gone"))], "/source", "must be given"),
            (vec![("source", json!("a b"))], "/source", "URI"),
            (vec![("source", json!("\u{7}"))], "/source", "control"),
            (vec![("type", json!("a b"))], "/type", "event type"),
            (vec![("time", json!("2026-03-02"))], "/time", "RFC 3339"),
            (vec![("time", json!(5))], "/time", "text"),
            (vec![("subject", json!(""))], "/subject", "empty"),
            (vec![("dataschema", json!("/relative"))], "/dataschema", "URI"),
            (vec![("datacontenttype", json!("text/plain"))], "/datacontenttype", "JSON"),
            (vec![("data", json!([1]))], "/data", "JSON object"),
            (vec![("data", json!("text"))], "/data", "JSON object"),
            (vec![("data", json!({})), ("data_base64", json!("e30="))], "/data_base64", "beside"),
            (vec![("data_base64", json!("!"))], "/data_base64", "base64"),
            (
                vec![("data_base64", json!(BASE64_STANDARD.encode("[1]")))],
                "/data_base64",
                "JSON object",
            ),
            (vec![("Extension", json!(1))], "/Extension", "lower-case"),
            (vec![("a/b", json!(1))], "/a~1b", "lower-case"),
            (vec![("nested", json!({"a": 1}))], "/nested", "data"),
        ] {
            let refusal = CloudEvent::structured(envelope(&change).as_bytes()).expect_err(pointer);
            assert_eq!(refusal.pointer, pointer, "{}", refusal.sentence);
            assert!(refusal.sentence.contains(word), "{change:?}: {}", refusal.sentence);
        }
        let twice = r#"{"specversion":"1.0","id":"1","id":"2","source":"/desk","type":"fill"}"#;
        assert!(
            CloudEvent::structured(twice.as_bytes())
                .unwrap_err()
                .sentence
                .contains("given twice")
        );
        let many: BTreeMap<String, u8> = (0..100).map(|n| (format!("a{n}"), 1)).collect();
        assert!(
            CloudEvent::structured(serde_json::to_string(&many).unwrap().as_bytes())
                .unwrap_err()
                .sentence
                .contains("at most 64")
        );
    }

    #[test]
    fn a_batch_is_read_whole_or_refused_with_the_place() {
        let good = envelope(&[]);
        assert_eq!(CloudEvent::batched(format!("[{good},{good}]").as_bytes()).unwrap().len(), 2);
        assert_eq!(CloudEvent::batched(b"[]").unwrap().len(), 0);
        let bad = envelope(&[("data", json!(1))]);
        assert_eq!(
            CloudEvent::batched(format!("[{good},{bad}]").as_bytes()).unwrap_err().pointer,
            "/1/data"
        );
        assert!(CloudEvent::batched(good.as_bytes()).is_err());
        let many = format!("[{}]", vec!["1"; 1_001].join(","));
        assert!(CloudEvent::batched(many.as_bytes()).unwrap_err().sentence.contains("1000"));
        assert_eq!(CloudEvent::batched(b"[1]").unwrap_err().pointer, "/0");
        assert_eq!(CloudEvent::batched(b"[").unwrap_err().kind, RefusalKind::Json);
    }

    #[test]
    fn attributes_may_be_headers() {
        let headers: Vec<(&str, &[u8])> = vec![
            ("specversion", b"1.0"),
            ("id", b"\"a\\\"b\""),
            ("source", b"/desk/%C3%A9"),
            ("type", b"fill"),
            ("time", b"2026-03-02T10:30:00Z"),
            ("traceparent", b"x%20y"),
        ];
        let read = |headers: &[(&str, &[u8])], body: &str| {
            CloudEvent::binary(headers.iter().copied(), body.as_bytes()).map_err(|r| (r.pointer, r.sentence))
        };
        let event = read(&[&headers[..2], &[("source", b"/desk/x")], &headers[3..]].concat(), r#"{"a": 1.0}"#).unwrap();
        assert_eq!(
            (event.id.as_str(), event.source.as_str(), event.data.text.as_str()),
            ("a\"b", "/desk/x", r#"{"a": 1.0}"#)
        );
        // A reference to a URI is ASCII, however the header was encoded.
        assert_eq!(read(&headers, "{}").unwrap_err().0, "/ce-source");
        assert_eq!(read(&headers[..1], "").unwrap_err().0, "/ce-id");
        assert_eq!(read(&[("id", b"%FF")], "").unwrap_err().0, "/ce-id");
        assert_eq!(read(&[("datacontenttype", b"x")], "").unwrap_err().0, "/ce-datacontenttype");
        assert_eq!(read(&[("id", b"a"), ("id", b"b")], "").unwrap_err().0, "/ce-id");
        let body = read(&[&headers[..2], &[("source", b"/x")], &headers[3..]].concat(), "[1]").unwrap_err();
        assert_eq!((body.0.as_str(), body.1.contains("JSON object")), ("", true));
    }
}

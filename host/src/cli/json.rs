//! JSON that passes through without losing a digit: payloads on their way in, results on their way out.

use super::Failure;
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;
use std::io::Read;

/// Reads a JSON object that was given as itself, as `@FILE` or as `-` for stdin. `what` names it in a complaint.
pub(super) fn object(what: &str, given: &str) -> Result<Box<RawValue>, Failure> {
    let text = match given {
        "-" => {
            let mut text = String::new();
            let read = std::io::stdin().read_to_string(&mut text);
            read.map_err(|error| Failure::Usage(format!("{what} cannot be read from stdin: {error}")))?;
            text
        }
        _ => match given.strip_prefix('@') {
            Some(file) => {
                std::fs::read_to_string(file).map_err(|error| Failure::Usage(format!("{what} cannot be read from {file}: {error}")))?
            }
            None => given.to_owned(),
        },
    };
    // PowerShell writes files with a byte order mark.
    let text = text.trim_start_matches('\u{feff}').trim();
    let value: Value = serde_json::from_str(text).map_err(|error| Failure::Usage(format!("{what} is not valid JSON: {error}")))?;
    if !value.is_object() {
        return Err(Failure::Usage(format!("{what} must be a JSON object, such as '{{\"key\": 1}}'")));
    }
    RawValue::from_string(text.to_owned()).map_err(|error| Failure::Usage(format!("{what} is not valid JSON: {error}")))
}

/// The same for what usually is a file: as its name, `@FILE`, or `-` for stdin; or as itself.
pub(super) fn document(what: &str, given: &str) -> Result<Box<RawValue>, Failure> {
    match given {
        _ if given == "-" || given.starts_with('@') || given.trim_start().starts_with('{') => object(what, given),
        file => object(what, &format!("@{file}")),
    }
}

/// The same for an option that may be left out.
pub(super) fn optional_object(what: &str, given: Option<&String>) -> Result<Option<Box<RawValue>>, Failure> {
    given.map(|given| object(what, given)).transpose()
}

/// The body of a request, member by member; what is `None` is left out.
#[derive(Debug)]
pub(super) struct Body(String);

impl Body {
    pub(super) fn new() -> Self {
        Self(String::from("{"))
    }

    pub(super) fn with<T: Serialize + ?Sized>(mut self, name: &str, value: Option<&T>) -> Self {
        if let Some(text) = value.and_then(|value| serde_json::to_string(value).ok()) {
            let comma = if self.0.len() > 1 { "," } else { "" };
            self.0.push_str(&format!("{comma}\"{name}\":{text}"));
        }
        self
    }

    /// Tags, where there are any.
    pub(super) fn with_tags(self, tags: &[String]) -> Self {
        self.with("tags", Some(tags).filter(|tags| !tags.is_empty()))
    }

    pub(super) fn finish(mut self) -> String {
        self.0.push('}');
        self.0
    }
}

/// Lays out JSON over lines without reading its numbers, which may have more digits than a number here can hold.
pub(super) fn pretty(text: &str) -> String {
    let mut out = String::with_capacity(text.len() * 2);
    let mut depth = 0_usize;
    let (mut in_string, mut escaped) = (false, false);
    let newline = |out: &mut String, depth: usize| {
        out.push('\n');
        out.extend(std::iter::repeat_n("  ", depth));
    };
    let mut characters = text.chars().peekable();
    while let Some(c) = characters.next() {
        if in_string {
            match c {
                // JSON lets them stand as they are, and a terminal obeys them.
                '\u{7f}'..='\u{9f}' => out.push_str(&format!("\\u{:04x}", u32::from(c))),
                c => out.push(c),
            }
            in_string = escaped || c != '"';
            escaped = !escaped && c == '\\';
            continue;
        }
        match c {
            '"' => {
                in_string = true;
                out.push(c);
            }
            '{' | '[' => {
                out.push(c);
                while characters.next_if(|next| next.is_ascii_whitespace()).is_some() {}
                if let Some(end) = characters.next_if(|next| matches!(next, '}' | ']')) {
                    out.push(end);
                } else {
                    depth += 1;
                    newline(&mut out, depth);
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                newline(&mut out, depth);
                out.push(c);
            }
            ',' => {
                out.push(c);
                newline(&mut out, depth);
            }
            ':' => out.push_str(": "),
            c if c.is_ascii_whitespace() => {}
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_comes_from_the_line_or_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("payload.json");
        std::fs::write(&file, "\u{feff}{\"big\": 123456789012345678901234567890}\n").unwrap();
        let from_file = object("--payload", &format!("@{}", file.display())).unwrap();
        assert_eq!(from_file.get(), r#"{"big": 123456789012345678901234567890}"#);
        assert_eq!(object("--payload", " {} ").unwrap().get(), "{}");
        for given in [format!("@{}", file.display()), file.display().to_string()] {
            assert_eq!(document("the calendar", &given).unwrap().get(), from_file.get());
        }
        assert_eq!(document("the calendar", " {} ").unwrap().get(), "{}");
    }

    #[test]
    fn a_bad_payload_is_wrong_usage_and_says_why() {
        for (given, word) in [
            ("", "not valid JSON"),
            ("{", "not valid JSON"),
            ("{} {}", "not valid JSON"),
            ("[1]", "must be a JSON object"),
            ("null", "must be a JSON object"),
            ("@no/such/file", "no/such/file"),
        ] {
            match object("--payload", given) {
                Err(Failure::Usage(text)) => assert!(text.starts_with("--payload ") && text.contains(word), "{given}: {text}"),
                other => panic!("{given}: {other:?}"),
            }
        }
    }

    #[test]
    fn a_body_leaves_out_what_was_not_said_and_keeps_every_digit() {
        let payload = object("--payload", r#"{"price":0.1000000000000000055511151231257827}"#).unwrap();
        let body = Body::new()
            .with("task_name", Some("a\"b"))
            .with("priority", None::<&u8>)
            .with("payload", Some(&payload))
            .with_tags(&[]);
        assert_eq!(
            body.finish(),
            r#"{"task_name":"a\"b","payload":{"price":0.1000000000000000055511151231257827}}"#
        );
        assert_eq!(Body::new().with_tags(&["x".to_owned()]).finish(), r#"{"tags":["x"]}"#);
        assert_eq!(Body::new().finish(), "{}");
    }

    #[test]
    fn results_are_laid_out_as_serde_would_and_keep_every_digit() {
        let value = serde_json::json!({"a": [1, {"b": "x,:{}[]\\\" y"}], "empty": [], "none": {}, "t": true, "n": null});
        let expected = serde_json::to_string_pretty(&value).unwrap();
        assert_eq!(pretty(&value.to_string()), expected);
        assert_eq!(pretty(&expected), expected);
        assert_eq!(pretty("[\"\u{9b}31m\u{7f}\"]"), "[\n  \"\\u009b31m\\u007f\"\n]");
        assert_eq!(
            pretty("[ 123456789012345678901234567890 ]"),
            "[\n  123456789012345678901234567890\n]"
        );
    }
}

//! From the JSON of a task's input to the handler's type, with a JSON pointer to what does not fit.

use crate::{TaskError, TaskResult};
use serde::de::DeserializeOwned;
use serde_json::error::Category;
use serde_path_to_error::{Path, Segment};

/// Reads a task's input.
///
/// # Errors
/// `invalid_input` with a pointer to the member that does not fit; to the object around it, where a member is missing.
pub fn read<T: DeserializeOwned>(text: &str) -> TaskResult<T> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let value = serde_path_to_error::deserialize(&mut deserializer)
        .map_err(|error| TaskError::invalid(pointer(error.path()), detail(error.inner())))?;
    deserializer.end().map_err(|error| TaskError::invalid("", detail(&error)))?;
    Ok(value)
}

/// RFC 6901: `~` and `/` inside a name are escaped.
fn pointer(path: &Path) -> String {
    path.iter()
        .filter_map(|segment| match segment {
            Segment::Seq { index } => Some(format!("/{index}")),
            Segment::Map { key } => Some(format!("/{}", key.replace('~', "~0").replace('/', "~1"))),
            // The variant of an enum is no step in the JSON, or one that `Map` has already told.
            Segment::Enum { .. } | Segment::Unknown => None,
        })
        .collect()
}

/// Line and column help with broken JSON; a value of the wrong kind is told by its pointer.
fn detail(error: &serde_json::Error) -> String {
    let text = error.to_string();
    if error.classify() != Category::Data {
        return format!("not JSON: {text}");
    }
    let position = format!(" at line {} column {}", error.line(), error.column());
    text.strip_suffix(&position).map(str::to_owned).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prelude::*;
    use std::collections::BTreeMap;

    #[derive(Deserialize, Debug)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only read")]
    struct Input {
        bars: Vec<Bar>,
        #[serde(default)]
        names: BTreeMap<String, u8>,
    }

    #[derive(Deserialize, Debug)]
    #[expect(dead_code, reason = "only read")]
    struct Bar {
        close: f64,
    }

    fn refused(text: &str) -> (String, String) {
        let error = read::<Input>(text).unwrap_err();
        let member = error.invalid_input().remove(0);
        (member.pointer, member.detail)
    }

    #[test]
    fn the_pointer_leads_to_the_member_that_does_not_fit() {
        let (pointer, detail) = refused(r#"{"bars": [{"close": 1.0}, {"close": "x"}]}"#);
        assert_eq!(pointer, "/bars/1/close");
        assert_eq!(detail, "invalid type: string \"x\", expected f64");
        assert_eq!(refused(r#"{"bars": [], "names": {"a/b~c": 256}}"#).0, "/names/a~1b~0c");
    }

    #[test]
    fn a_missing_member_is_reported_at_the_object_that_misses_it() {
        assert_eq!(refused("{}"), (String::new(), "missing field `bars`".into()));
        assert_eq!(refused(r#"{"bars": [{}]}"#), ("/bars/0".into(), "missing field `close`".into()));
    }

    #[test]
    fn an_unknown_member_is_reported_by_its_name() {
        let (pointer, detail) = refused(r#"{"bars": [], "bar": 1}"#);
        assert_eq!(pointer, "/bar");
        assert!(detail.starts_with("unknown field `bar`, expected"), "{detail}");
    }

    #[test]
    fn what_is_no_json_is_invalid_as_a_whole() {
        for text in ["", "{", r#"{"bars": []} x"#] {
            let (pointer, detail) = refused(text);
            assert_eq!(pointer, "");
            assert!(detail.starts_with("not JSON"), "{detail}");
        }
    }
}

//! What a host answered: the bytes as they came, and where the list goes on.

use super::{Failure, tell};
use percent_encoding::percent_decode_str;
use serde_json::Value;
use ureq::http::HeaderMap;

/// A success.
#[derive(Debug)]
pub(super) struct Answer {
    /// The body, byte for byte.
    pub(super) bytes: Vec<u8>,
    /// The cursor of the next page.
    pub(super) next: Option<String>,
}

/// The cursor in `<…?cursor=…>; rel="next"`.
fn cursor(link: &str) -> Option<String> {
    let (target, _) = link
        .split(',')
        .find(|link| link.contains("rel=\"next\""))?
        .trim()
        .strip_prefix('<')?
        .split_once('>')?;
    let (_, query) = target.split_once('?')?;
    let value = query.split('&').find_map(|pair| pair.strip_prefix("cursor="))?;
    Some(percent_decode_str(value).decode_utf8().ok()?.into_owned())
}

impl Answer {
    pub(super) fn new(bytes: Vec<u8>, headers: &HeaderMap) -> Self {
        let next = headers.get("link").and_then(|link| cursor(link.to_str().ok()?));
        Self { bytes, next }
    }

    /// The body as JSON.
    pub(super) fn value(&self) -> Result<Value, Failure> {
        serde_json::from_slice(&self.bytes).map_err(|_| Failure::Failed("the answer is not JSON; is --url that of a Taskhost?".to_owned()))
    }

    /// The body as a list.
    pub(super) fn list(&self) -> Result<Vec<Value>, Failure> {
        match self.value()? {
            Value::Array(list) => Ok(list),
            _ => Err(Failure::Failed("the answer is no list; is --url that of a Taskhost?".to_owned())),
        }
    }

    /// Says how to get the next page, where there is one.
    pub(super) fn tell_next(&self) {
        if let Some(cursor) = &self.next {
            let plain = cursor.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~=/+:".contains(&b));
            let shown = if plain {
                cursor.clone()
            } else {
                format!("'{}'", cursor.replace('\'', r"'\''"))
            };
            tell(&format!("There is more; for the next page add --cursor {shown}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_page_is_read_from_the_link() {
        assert_eq!(cursor(r#"</tasks?limit=5&cursor=a%2F%26b>; rel="next""#).as_deref(), Some("a/&b"));
        assert_eq!(cursor(r#"</tasks?limit=5>; rel="next""#), None);
        assert_eq!(cursor(r#"</tasks?cursor=x>; rel="prev""#), None);
    }
}

//! Lists: `limit` and `cursor` in, one page and the link to the next one out.

use super::error::{Code, Problem};
use crate::store::PageRequest;
use axum::http::{HeaderMap, HeaderValue, Uri, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use std::ops::Bound;

/// The longest page, and the length of one where the request names none.
pub(crate) const MAX_LIMIT: usize = 1_000;

/// Reads the two parameters that every list takes.
pub(crate) fn request(limit: &str, cursor: &str, default: usize) -> Result<PageRequest, Problem> {
    let limit = match limit {
        "" => default,
        text => text
            .parse()
            .ok()
            .filter(|n| (1..=MAX_LIMIT).contains(n))
            .ok_or_else(|| Problem::invalid("/limit", format!("must be a whole number from 1 to {MAX_LIMIT}")))?,
    };
    let cursor = Some(cursor.to_owned()).filter(|text| !text.is_empty());
    Ok(PageRequest { limit, cursor })
}

/// A page with its link to the next, as JSON.
pub(crate) struct Listed<T> {
    pub(crate) body: T,
    pub(crate) link: HeaderMap,
}

impl<T: Serialize> IntoResponse for Listed<T> {
    fn into_response(self) -> Response {
        (self.link, axum::Json(self.body)).into_response()
    }
}

/// The `Link` header for the page after this one: the same request with another cursor.
pub(crate) fn link(uri: &Uri, next: Option<&str>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    if let Some(value) = next.and_then(|cursor| HeaderValue::from_str(&link_value(uri, cursor)).ok()) {
        headers.insert(header::LINK, value);
    }
    headers
}

fn link_value(uri: &Uri, cursor: &str) -> String {
    let kept = uri.query().unwrap_or_default().split('&');
    let kept = kept.filter(|pair| !pair.is_empty() && pair.split('=').next() != Some("cursor"));
    let mut query: Vec<String> = kept.map(escape_angles).collect();
    query.push(format!("cursor={}", escape(cursor)));
    format!("<{}?{}>; rel=\"next\"", uri.path(), query.join("&"))
}

/// What would end the address within the header is escaped, the rest stays as the client wrote it.
fn escape_angles(pair: &str) -> String {
    pair.replace('<', "%3C").replace('>', "%3E").replace('"', "%22")
}

/// Percent-encodes all but the unreserved characters of RFC 3986.
pub(crate) fn escape(text: &str) -> String {
    use std::fmt::Write;
    text.bytes().fold(String::new(), |mut escaped, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            let _ = write!(escaped, "%{byte:02X}");
        }
        escaped
    })
}

/// A page of what is in memory, keyed by name; its cursor is the last name of the page before.
pub(crate) fn of_map<V: Clone>(map: &std::collections::BTreeMap<String, V>, page: &PageRequest) -> (Vec<V>, Option<String>) {
    let from = page.cursor.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
    let mut rest = map.range::<str, _>((from, Bound::Unbounded));
    let items: Vec<(&String, &V)> = rest.by_ref().take(page.limit).collect();
    let next = rest.next().and(items.last()).map(|(name, _)| (*name).clone());
    (items.into_iter().map(|(_, value)| value.clone()).collect(), next)
}

/// A parameter that takes one of a few words.
pub(crate) fn word<T>(name: &str, text: &str, parse: impl Fn(&str) -> Option<T>, words: &[&str]) -> Result<Option<T>, Problem> {
    match text {
        "" => Ok(None),
        text => parse(text)
            .map(Some)
            .ok_or_else(|| Problem::invalid(format!("/{name}"), format!("must be one of {}", words.join(", ")))),
    }
}

/// A parameter that is `true` or `false`, of which this version only knows how to do `false`.
pub(crate) fn only_false(name: &str, text: &str) -> Result<(), Problem> {
    match text {
        "" | "false" => Ok(()),
        "true" => Err(Problem::later(&format!("{name}=true")).member(name)),
        _ => Err(Problem::at(Code::InvalidValue, format!("/{name}"), "must be true or false")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn limits_are_1_to_1000() {
        for (text, expected) in [("", Some(100)), ("1", Some(1)), ("1000", Some(1000))] {
            assert_eq!(request(text, "", 100).ok().map(|page| page.limit), expected);
        }
        for bad in ["0", "1001", "-1", "x", "1.5", "99999999999999999999"] {
            assert_eq!(request(bad, "", 100).unwrap_err().errors[0].pointer, "/limit", "{bad}");
        }
    }

    #[test]
    fn the_next_link_keeps_the_other_parameters() {
        for (uri, expected) in [
            ("/tasks", r#"</tasks?cursor=a%2F%26b>; rel="next""#),
            (
                "/tasks?limit=5&cursor=old&tag=x",
                r#"</tasks?limit=5&tag=x&cursor=a%2F%26b>; rel="next""#,
            ),
        ] {
            let headers = link(&uri.parse().unwrap(), Some("a/&b"));
            assert_eq!(headers[header::LINK], expected);
        }
        assert!(link(&"/tasks".parse().unwrap(), None).is_empty());
    }

    #[test]
    fn pages_of_a_map_join_up() {
        let map: BTreeMap<String, u8> = ["a", "b", "c"].into_iter().map(str::to_owned).zip(0..).collect();
        let page = |cursor: Option<&str>| PageRequest {
            limit: 2,
            cursor: cursor.map(str::to_owned),
        };
        assert_eq!(of_map(&map, &page(None)), (vec![0, 1], Some("b".to_owned())));
        assert_eq!(of_map(&map, &page(Some("b"))), (vec![2], None));
    }
}

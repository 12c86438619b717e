//! What comes in: JSON bodies, query strings and path segments, each bounded, each refused with a problem that names the
//! place.
//!
//! Unknown members are refused. Those that the API promises for a later version are refused with that reason: a type lists
//! them in [`Input::LATER`].

use super::State;
use super::error::{Code, Problem, shorten};
use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use serde_path_to_error::{Path as MemberPath, Segment};
use tokio::sync::OwnedSemaphorePermit;

/// The longest JSON body.
pub(crate) const MAX_JSON: usize = 16 << 20;
/// A body up to this length takes no room from the others, and is read where it arrives.
const SMALL: usize = 64 << 10;

/// A type that is read from a request.
pub(crate) trait Input: DeserializeOwned {
    /// Members that the API names and this version does not honour yet.
    const LATER: &'static [&'static str] = &[];
    /// What an empty body means.
    const EMPTY: &'static str = "";
}

/// A JSON body, and the room that it takes while it is worked on.
pub(crate) struct JsonBody<T>(pub(crate) T, pub(crate) Room);

/// Room for one large body; given back when dropped. `None` for a small one.
pub(crate) type Room = Option<OwnedSemaphorePermit>;

impl<T: Input + Send + 'static> FromRequest<State> for JsonBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &State) -> Result<Self, Problem> {
        check_json_type(request.headers())?;
        let (bytes, room) = read_body(request, MAX_JSON, state).await?;
        if bytes.is_empty() {
            return parse(T::EMPTY.as_bytes()).map(|value| Self(value, room));
        }
        if bytes.len() <= SMALL {
            return parse(&bytes).map(|value| Self(value, room));
        }
        let parsed = tokio::task::spawn_blocking(move || parse(&bytes)).await;
        let broken = |_| Problem::new(Code::Internal, "the body could not be read; the host's log says why");
        parsed.map_err(broken)?.map(|value| Self(value, room))
    }
}

/// A web page can send `text/plain` and forms to any host without asking it first; JSON it cannot.
fn check_json_type(headers: &HeaderMap) -> Result<(), Problem> {
    let Some(value) = headers.get(header::CONTENT_TYPE) else {
        return Ok(());
    };
    let kind = media_type(value.to_str().unwrap_or_default());
    if kind == "application/json" || (kind.starts_with("application/") && kind.ends_with("+json")) {
        return Ok(());
    }
    Err(Problem::new(
        Code::MediaType,
        format!(
            "the body is JSON, but its content type says {:?}; send `Content-Type: application/json`",
            shorten(&kind)
        ),
    ))
}

/// The media type of a header's value, without parameters.
pub(crate) fn media_type(value: &str) -> String {
    value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// Reads a whole body within its bounds in size and time. One that announces itself as too large is not read at all, and one for
/// which there is no room beside the other large ones has to come again.
pub(crate) async fn read_body(request: Request, limit: usize, state: &State) -> Result<(Bytes, Room), Problem> {
    let timeout = state.options().body_timeout();
    let too_large = || Problem::new(Code::TooLarge, format!("the body is larger than {} MiB", limit >> 20));
    let announced = request.headers().get(header::CONTENT_LENGTH);
    let announced = announced.and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|length| length > limit) {
        return Err(too_large());
    }
    let room = match announced.unwrap_or(limit) {
        small if small <= SMALL => None,
        large => Some(state.room_for(large)?),
    };
    let body: Limited<Body> = Limited::new(request.into_body(), limit);
    match tokio::time::timeout(timeout, body.collect()).await {
        Err(_) => Err(Problem::new(
            Code::Timeout,
            format!("the body did not arrive within {} s", timeout.as_secs_f64()),
        )),
        Ok(Ok(body)) => Ok((body.to_bytes(), room)),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(error)) => {
            tracing::debug!(%error, "a body broke off");
            Err(Problem::new(Code::BadJson, "the body broke off before its end"))
        }
    }
}

/// Reads JSON; what is wrong is told with its pointer, or its line and column.
pub(crate) fn parse<T: Input>(text: &[u8]) -> Result<T, Problem> {
    // Serde would take an array for an object, member by member in their order, and name our types to the client.
    let first = text.iter().find(|byte| !byte.is_ascii_whitespace());
    if first.is_some_and(|byte| b"[\"-0123456789tfn".contains(byte)) {
        return Err(Problem::invalid("", "must be a JSON object"));
    }
    let mut reader = serde_json::Deserializer::from_slice(text);
    let value: T = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let path = error.path().clone();
        let cause = error.into_inner();
        if cause.classify() == serde_json::error::Category::Data {
            refusal::<T>(&path, &without_position(&cause))
        } else {
            bad_json(text, &cause)
        }
    })?;
    reader.end().map_err(|cause| bad_json(text, &cause))?;
    Ok(value)
}

fn bad_json(text: &[u8], cause: &serde_json::Error) -> Problem {
    if text.is_empty() {
        return Problem::new(Code::BadJson, "the body is empty; send a JSON object");
    }
    Problem::new(Code::BadJson, format!("the body is not JSON: {cause}"))
}

/// `serde_json` ends its sentences with the position; the pointer says it better.
pub(crate) fn without_position(cause: &serde_json::Error) -> String {
    let sentence = cause.to_string();
    match sentence.rfind(" at line ") {
        Some(end) => sentence[..end].to_owned(),
        None => sentence,
    }
}

fn refusal<T: Input>(path: &MemberPath, sentence: &str) -> Problem {
    let mut segments = path.iter();
    if let (Some(Segment::Map { key }), None) = (segments.next(), segments.next())
        && T::LATER.contains(&key.as_str())
    {
        return Problem::later(key).member(key);
    }
    let code = if sentence.starts_with("unknown field") {
        Code::UnknownMember
    } else {
        Code::InvalidValue
    };
    Problem::at(code, pointer(path), sentence)
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

/// A query string. All its members are text, and a blank one counts as not given.
pub(crate) struct Query<T>(pub(crate) T);

impl<T: Input> FromRequestParts<State> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &State) -> Result<Self, Problem> {
        let pairs = axum::extract::Query::<Vec<(String, String)>>::try_from_uri(&parts.uri)
            .map_err(|error| Problem::new(Code::InvalidValue, format!("the query string cannot be read: {error}")))?;
        parse_query(pairs.0).map(Self)
    }
}

fn parse_query<T: Input>(pairs: Vec<(String, String)>) -> Result<T, Problem> {
    let reader = serde::de::value::MapDeserializer::<_, serde::de::value::Error>::new(pairs.into_iter());
    serde_path_to_error::deserialize(reader).map_err(|error| refusal::<T>(error.path(), &error.inner().to_string()))
}

/// A segment of the path, as text.
pub(crate) struct Name(pub(crate) String);

impl FromRequestParts<State> for Name {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &State) -> Result<Self, Problem> {
        let text = axum::extract::Path::<String>::from_request_parts(parts, state).await;
        text.map(|path| Self(path.0))
            .map_err(|_| Problem::new(Code::UnknownRoute, "the address is not UTF-8"))
    }
}

impl Name {
    /// As an id; text that cannot be one names nothing.
    pub(crate) fn id<I: std::str::FromStr>(&self, what: &str) -> Result<I, Problem> {
        self.0.parse().map_err(|_| Problem::unknown(what, &self.0))
    }
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

    fn complaint(text: &str) -> (Code, String, String) {
        let problem = parse::<Sample>(text.as_bytes()).expect_err(text);
        let pointer = problem.errors.first().map(|error| error.pointer.clone());
        (problem.code, pointer.unwrap_or_default(), problem.detail)
    }

    #[test]
    fn a_complaint_names_the_member() {
        for (text, code, pointer, word) in [
            (r#"{"name":1}"#, Code::InvalidValue, "/name", "expected a string"),
            (r#"{"name":"a","tags":[1,"x"]}"#, Code::InvalidValue, "/tags/1", "u8"),
            (r#"{"name":"a","nmae":1}"#, Code::UnknownMember, "/nmae", "unknown field"),
            (r#"{"name":"a","a/b":1}"#, Code::UnknownMember, "/a~1b", "unknown field"),
            (
                r#"{"name":"a","deadline":1}"#,
                Code::NotSupportedYet,
                "/deadline",
                "not supported yet",
            ),
            (r#"{"name":"a","name":"b"}"#, Code::InvalidValue, "", "duplicate field `name`"),
            (r"{}", Code::InvalidValue, "", "missing field `name`"),
            (r#"{"name":"#, Code::BadJson, "", "line 1 column 8"),
            (r#"{"name":"a"} x"#, Code::BadJson, "", "trailing"),
            ("", Code::BadJson, "", "empty"),
            ("x", Code::BadJson, "", "line 1 column 1"),
            (r#"["a",[],null]"#, Code::InvalidValue, "", "must be a JSON object"),
            (" null", Code::InvalidValue, "", "must be a JSON object"),
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
            parse_query::<Filter>(pairs.map(|(k, v)| (k.to_owned(), v.to_owned())).collect())
        };
        assert_eq!(query("status=failed").unwrap().status, "failed");
        assert_eq!(query("").unwrap().status, "");
        assert_eq!(query("state=x").unwrap_err().code, Code::UnknownMember);
        assert_eq!(query("batch_id=x").unwrap_err().code, Code::NotSupportedYet);
        assert_eq!(query("status=a&status=b").unwrap_err().code, Code::InvalidValue);
    }

    #[test]
    fn forms_and_plain_text_are_not_taken_for_json() {
        let check = |value: &str| check_json_type(&HeaderMap::from_iter([(header::CONTENT_TYPE, value.parse().unwrap())]));
        assert!(check("application/json; charset=utf-8").is_ok());
        assert!(check("application/cloudevents+json").is_ok());
        assert!(check_json_type(&HeaderMap::new()).is_ok());
        for form in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"] {
            assert!(check(form).is_err(), "{form}");
        }
    }
}

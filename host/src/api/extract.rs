//! What comes in: JSON bodies, query strings and path segments, each bounded, each refused with a problem that names the
//! place.
//!
//! Unknown members are refused: see [`crate::model::request`].

use super::State;
use super::error::{Code, Problem, shorten};
use super::once::Key;
use super::weight::weight;
use crate::model::request::{Input, Refusal, parse, parse_pairs};
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::Deserialize;
use tokio::sync::OwnedSemaphorePermit;

/// The longest JSON body.
pub(crate) const MAX_JSON: usize = 16 << 20;
/// A body up to this length takes no room from the others, and is read where it arrives.
pub(crate) const SMALL: usize = 64 << 10;
/// A body that takes no more than this in memory takes no room from the others either.
const LIGHT: usize = 256 << 10;

/// A JSON body, and the room that it takes while it is worked on.
pub(crate) struct JsonBody<T>(pub(crate) T, pub(crate) Room);

/// Room for one large body; given back when dropped. `None` for a small one.
pub(crate) type Room = Option<OwnedSemaphorePermit>;

impl<T: Input + Send + 'static> FromRequest<State> for JsonBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &State) -> Result<Self, Problem> {
        let (bytes, room) = read_json(request, state).await?;
        Ok(Self(parse_json(bytes).await?, room))
    }
}

/// A JSON body that is carried out once, where its headers name an `Idempotency-Key`.
pub(crate) struct KeyedBody<T> {
    pub(crate) value: T,
    pub(crate) room: Room,
    pub(crate) key: Option<Key>,
    /// What was answered when it was carried out before.
    pub(crate) answered: Option<String>,
}

impl<T: Input + Send + 'static> FromRequest<State> for KeyedBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &State) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        let mut key = Key::of(&parts.headers, &parts.method, &parts.uri, state)?;
        let (bytes, room) = read_json(Request::from_parts(parts, body), state).await?;
        let mut answered = None;
        if let Some(key) = &mut key {
            key.update(&bytes);
            answered = key.answered(state).await?;
        }
        let value = parse_json(bytes).await?;
        Ok(Self {
            value,
            room,
            key,
            answered,
        })
    }
}

/// The body of a request that takes none: nothing, or an empty object. What would be passed over might have been meant.
pub(crate) struct NoBody;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

impl Input for Nothing {}

impl FromRequest<State> for NoBody {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &State) -> Result<Self, Problem> {
        if request.body().is_end_stream() {
            return Ok(Self);
        }
        let (bytes, _room) = read_body(request, MAX_JSON, state).await?;
        if bytes.is_empty() {
            return Ok(Self);
        }
        let read = parse::<Nothing>(&bytes).map_err(|refusal| Refusal {
            sentence: "this request takes no members; leave the body out".to_owned(),
            ..refusal
        });
        read.map(|_| Self).map_err(Problem::from)
    }
}

async fn read_json(request: Request, state: &State) -> Result<(Bytes, Room), Problem> {
    check_json_type(request.headers())?;
    let (bytes, room) = read_body(request, MAX_JSON, state).await?;
    let room = room_as_values(&bytes, room, state).await?;
    Ok((bytes, room))
}

/// Room for what a text of JSON becomes.
pub(crate) async fn room_as_values(bytes: &Bytes, room: Room, state: &State) -> Result<Room, Problem> {
    let weight = match bytes.len() {
        0..=SMALL => weight(bytes),
        _ => {
            let bytes = bytes.clone();
            tokio::task::spawn_blocking(move || weight(&bytes)).await.unwrap_or(usize::MAX)
        }
    };
    match weight {
        light if light <= LIGHT => Ok(room),
        heavy => {
            drop(room);
            Ok(Some(state.room_for(heavy)?))
        }
    }
}

async fn parse_json<T: Input + Send + 'static>(bytes: Bytes) -> Result<T, Problem> {
    if bytes.is_empty() {
        return Ok(parse(T::EMPTY.as_bytes())?);
    }
    if bytes.len() <= SMALL {
        return Ok(parse(&bytes)?);
    }
    let parsed = tokio::task::spawn_blocking(move || parse::<T>(&bytes)).await;
    let broken = |_| Problem::new(Code::Internal, "the body could not be read; the host's log says why");
    Ok(parsed.map_err(broken)??)
}

/// A web page can send `text/plain` and forms to any host without asking it first; JSON it cannot.
pub(crate) fn check_json_type(headers: &HeaderMap) -> Result<(), Problem> {
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

/// A query string. All its members are text, and a blank one counts as not given.
pub(crate) struct Query<T>(pub(crate) T);

impl<T: Input> FromRequestParts<State> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &State) -> Result<Self, Problem> {
        let pairs = axum::extract::Query::<Vec<(String, String)>>::try_from_uri(&parts.uri)
            .map_err(|error| Problem::new(Code::InvalidValue, format!("the query string cannot be read: {error}")))?;
        Ok(Self(parse_pairs(pairs.0)?))
    }
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

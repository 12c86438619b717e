//! Every answer that is not the one asked for: `application/problem+json` (RFC 9457).
//!
//! `code` is for programs and never changes; `detail` is one sentence that a person can act on. What a database or a panic
//! said stays in the log.

use crate::model::attempt::InputError;
use crate::model::request::{Refusal, RefusalKind};
use crate::registry::RegistryError;
use crate::scheduler::EventError;
use crate::store::{ScheduleError, StoreError};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

/// What went wrong, for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    BadJson,
    InvalidValue,
    UnknownMember,
    NotSupportedYet,
    Forbidden,
    NotFound,
    UnknownTask,
    UnknownRoute,
    MethodNotAllowed,
    Timeout,
    Conflict,
    TooLarge,
    MediaType,
    InvalidPayload,
    KeyReused,
    InFlight,
    PluginRefused,
    Internal,
    Busy,
    StoreUnavailable,
    NotReady,
    ShuttingDown,
}

impl Code {
    /// The HTTP status, the word in `code` and the sentence in `title`.
    fn facts(self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Self::BadJson => (StatusCode::BAD_REQUEST, "bad_json", "The body is not JSON"),
            Self::InvalidValue => (StatusCode::BAD_REQUEST, "invalid_value", "A value is not allowed"),
            Self::UnknownMember => (StatusCode::BAD_REQUEST, "unknown_member", "A member is not known"),
            Self::NotSupportedYet => (StatusCode::BAD_REQUEST, "not_supported_yet", "This version cannot do that yet"),
            Self::Forbidden => (StatusCode::FORBIDDEN, "forbidden", "The request comes from another site"),
            Self::NotFound => (StatusCode::NOT_FOUND, "not_found", "There is no such thing"),
            Self::UnknownTask => (StatusCode::NOT_FOUND, "unknown_task", "No plugin handles this task"),
            Self::UnknownRoute => (StatusCode::NOT_FOUND, "unknown_route", "There is nothing at this address"),
            Self::MethodNotAllowed => (
                StatusCode::METHOD_NOT_ALLOWED,
                "method_not_allowed",
                "This address takes other methods",
            ),
            Self::Timeout => (StatusCode::REQUEST_TIMEOUT, "timeout", "The body came too slowly"),
            Self::Conflict => (StatusCode::CONFLICT, "conflict", "Its state does not allow that"),
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "too_large", "The body is too large"),
            Self::MediaType => (
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "unsupported_media_type",
                "The body has another content type",
            ),
            Self::InvalidPayload => (
                StatusCode::UNPROCESSABLE_ENTITY,
                "invalid_payload",
                "The payload does not fit the task's schema",
            ),
            Self::KeyReused => (StatusCode::UNPROCESSABLE_ENTITY, "key_reused", "The key belongs to another request"),
            Self::InFlight => (StatusCode::CONFLICT, "in_flight", "The same request is being carried out"),
            Self::PluginRefused => (StatusCode::UNPROCESSABLE_ENTITY, "plugin_refused", "The plugin was refused"),
            Self::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "internal", "The host made a mistake"),
            Self::Busy => (StatusCode::SERVICE_UNAVAILABLE, "busy", "The host is busy"),
            Self::StoreUnavailable => (StatusCode::SERVICE_UNAVAILABLE, "store_unavailable", "The store does not answer"),
            Self::NotReady => (StatusCode::SERVICE_UNAVAILABLE, "not_ready", "The host is not ready yet"),
            Self::ShuttingDown => (StatusCode::SERVICE_UNAVAILABLE, "shutting_down", "The host is shutting down"),
        }
    }

    fn status(self) -> StatusCode {
        self.facts().0
    }
}

/// One thing that is wrong with the input.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Complaint {
    /// JSON pointer (RFC 6901) into the body; for a query parameter, its name after a slash.
    #[schema(example = "/payload/bars/3/close")]
    pub(crate) pointer: String,
    /// One sentence.
    pub(crate) detail: String,
    /// The line of an NDJSON body, from 1; the pointer is then into that line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) line: Option<u64>,
}

impl Complaint {
    fn new(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self {
            pointer: pointer.into(),
            detail: detail.into(),
            line: None,
        }
    }
}

/// Which part of a body is spoken of, where it holds many of a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// A line of NDJSON, from 1.
    Line(u64),
    /// A member of `tasks`, from 0.
    Task(usize),
    /// A member of `steps`, from 0.
    Step(usize),
    /// What follows a batch.
    Callback(&'static str),
    /// What a sweep made, from 0.
    Combination(u64),
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Line(number) => write!(f, "line {number}"),
            Self::Task(index) => write!(f, "/tasks/{index}"),
            Self::Step(index) => write!(f, "/steps/{index}"),
            Self::Callback(member) => write!(f, "/{member}"),
            Self::Combination(number) => write!(f, "combination {number}"),
        }
    }
}

/// The body of every error.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
pub(crate) struct ProblemBody {
    /// `urn:taskhost:problem:` and the code.
    #[serde(rename = "type")]
    #[schema(example = "urn:taskhost:problem:unknown_task")]
    kind: String,
    /// The same for every problem of this code.
    title: &'static str,
    /// The HTTP status.
    #[schema(example = 404)]
    status: u16,
    /// One sentence that a person can act on.
    detail: String,
    /// For programs; never changes.
    #[schema(example = "unknown_task")]
    code: &'static str,
    /// Where the input is wrong.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<Complaint>,
}

/// An error on its way to the client.
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    pub(crate) code: Code,
    pub(crate) detail: String,
    pub(crate) errors: Vec<Complaint>,
}

impl Problem {
    pub(crate) fn new(code: Code, detail: impl Into<String>) -> Self {
        Self {
            code,
            detail: detail.into(),
            errors: Vec::new(),
        }
    }

    /// A complaint about one member of the body or query.
    pub(crate) fn at(code: Code, pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        let (pointer, detail) = (pointer.into(), detail.into());
        Self {
            code,
            detail: format!("{}: {detail}", if pointer.is_empty() { "the body" } else { &pointer }),
            errors: vec![Complaint::new(pointer, detail)],
        }
    }

    /// A 400 for the value of one member.
    pub(crate) fn invalid(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::at(Code::InvalidValue, pointer, detail)
    }

    /// Something that is promised, but not by this version.
    pub(crate) fn later(what: &str) -> Self {
        Self::new(
            Code::NotSupportedYet,
            format!("`{what}` is not supported yet by this version; remove it"),
        )
    }

    /// The same, where it is a member or parameter.
    pub(crate) fn member(mut self, name: &str) -> Self {
        self.errors.push(Complaint::new(format!("/{name}"), &self.detail));
        self
    }

    /// The same of a part of the body that was read as if it were the whole.
    pub(crate) fn within(mut self, place: Place) -> Self {
        let said = match self.detail.strip_prefix("the body") {
            Some(rest) => rest.to_owned(),
            None if matches!(place, Place::Task(_) | Place::Step(_) | Place::Callback(_)) && self.detail.starts_with('/') => self.detail,
            None => format!(": {}", self.detail),
        };
        // Each part is a text of one line to the reader of JSON.
        self.detail = format!("{place}{}", said.replace(" at line 1 column ", " at column "));
        if self.errors.is_empty() {
            self.errors.push(Complaint::new("", &self.detail));
        }
        for complaint in &mut self.errors {
            match place {
                Place::Line(number) => complaint.line = Some(number),
                Place::Combination(_) => {} // it points into the request as it is
                Place::Task(_) | Place::Step(_) | Place::Callback(_) => complaint.pointer = format!("{place}{}", complaint.pointer),
            }
        }
        self
    }

    /// A 404 for a thing that is asked for by its id or name.
    pub(crate) fn unknown(what: &str, id: &str) -> Self {
        Self::new(Code::NotFound, format!("there is no {what} {:?}", shorten(id)))
    }

    /// A payload against its task's schema.
    pub(crate) fn payload(errors: Vec<InputError>) -> Self {
        let errors: Vec<Complaint> = errors
            .into_iter()
            .map(|error| Complaint::new(format!("/payload{}", error.pointer), error.detail))
            .collect();
        let detail = match errors.as_slice() {
            [only] => format!("{}: {}", only.pointer, only.detail),
            many => format!("the payload breaks the task's schema in {} places", many.len()),
        };
        Self {
            code: Code::InvalidPayload,
            detail,
            errors,
        }
    }

    /// What the store said, of one thing that the request names.
    pub(crate) fn of_store(error: StoreError, what: &str, id: &str) -> Self {
        match error {
            StoreError::NotFound => Self::unknown(what, id),
            other => other.into(),
        }
    }
}

/// Enough of a client's text to recognise it.
pub(crate) fn shorten(text: &str) -> String {
    text.chars().take(80).collect()
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NotFound => Self::new(Code::NotFound, "there is no such thing"),
            StoreError::Conflict(sentence) => Self::new(Code::Conflict, sentence),
            StoreError::LeaseLost => Self::new(Code::Conflict, "the task changed at the same moment; look at it again"),
            StoreError::BadCursor => Self::invalid("/cursor", "is not one that this list returned; start again without it"),
            StoreError::Answered(_) => Self::new(Code::Conflict, "this request was carried out before"),
            StoreError::KeyReused => Self::new(
                Code::KeyReused,
                "another request was carried out under this `Idempotency-Key`; give each request a key of its own",
            ),
            StoreError::Busy => Self::new(Code::Busy, "too much is waiting for the disk; send the request again in a second"),
            StoreError::Unavailable(cause) => {
                tracing::error!(%cause, "the store failed");
                Self::new(
                    Code::StoreUnavailable,
                    "the store could not be read or written; the host's log says why",
                )
            }
        }
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let Refusal { kind, pointer, sentence } = refusal;
        match kind {
            RefusalKind::Json => Self::new(Code::BadJson, sentence),
            RefusalKind::Value => Self::at(Code::InvalidValue, pointer, sentence),
            RefusalKind::Unknown => Self::at(Code::UnknownMember, pointer, sentence),
            RefusalKind::Later => Self {
                errors: vec![Complaint::new(pointer, &sentence)],
                ..Self::new(Code::NotSupportedYet, sentence)
            },
        }
    }
}

impl From<ScheduleError> for Problem {
    fn from(error: ScheduleError) -> Self {
        match error {
            ScheduleError::Refused(refusal) => refusal.into(),
            ScheduleError::Payload(errors) => Self::payload(errors),
            ScheduleError::Store(error) => error.into(),
        }
    }
}

impl From<EventError> for Problem {
    fn from(error: EventError) -> Self {
        match error {
            EventError::TooLarge(sentence) => Self::new(Code::TooLarge, sentence),
            EventError::TooSlow(sentence) => Self::new(Code::Busy, sentence),
            EventError::Store(error) => error.into(),
        }
    }
}

impl From<RegistryError> for Problem {
    fn from(error: RegistryError) -> Self {
        match error {
            RegistryError::UnknownPlugin(name) => Self::unknown("plugin", &name),
            RegistryError::Refused(sentence) => Self::new(Code::PluginRefused, sentence),
            RegistryError::Patch(refusal) => refusal.into(),
            RegistryError::Store(error) => error.into(),
            RegistryError::Io(cause) => {
                tracing::error!(%cause, "a plugin directory failed");
                Self::new(
                    Code::Internal,
                    "a plugin directory could not be read or written; the host's log says why",
                )
            }
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (status, code, title) = self.code.facts();
        let body = ProblemBody {
            kind: format!("urn:taskhost:problem:{code}"),
            title,
            status: status.as_u16(),
            detail: self.detail,
            code,
            errors: self.errors,
        };
        let text = serde_json::to_vec(&body).unwrap_or_default();
        let mut response = (status, [(header::CONTENT_TYPE, "application/problem+json")], text).into_response();
        let headers = response.headers_mut();
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        // What is left of the body is not read: the connection cannot be used again.
        if matches!(self.code, Code::TooLarge | Code::Timeout) {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

/// The title of the problems that a status stands for, for the OpenAPI document.
pub(crate) fn title_of(status: u16) -> Option<&'static str> {
    const ALL: [Code; 12] = [
        Code::InvalidValue,
        Code::Forbidden,
        Code::NotFound,
        Code::MethodNotAllowed,
        Code::Timeout,
        Code::Conflict,
        Code::TooLarge,
        Code::MediaType,
        Code::InvalidPayload,
        Code::Internal,
        Code::Busy,
        Code::NotReady,
    ];
    ALL.into_iter()
        .find(|code| code.status().as_u16() == status)
        .map(|code| code.facts().2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_causes_are_not_told() {
        let problem = Problem::from(StoreError::Unavailable("disk I/O error at /var/lib".into()));
        assert!(!problem.detail.contains("/var/lib"));
        let response = problem.into_response();
        assert_eq!(response.status(), 503);
        assert_eq!(response.headers()["retry-after"], "1");
        assert_eq!(response.headers()["content-type"], "application/problem+json");
    }

    #[test]
    fn a_part_of_a_body_is_named_with_its_members() {
        let said = |problem: Problem, place: Place| {
            let problem = problem.within(place);
            let first = problem.errors[0].clone();
            (problem.detail, first.pointer, first.line)
        };
        let (line, task) = (Place::Line(7), Place::Task(7));
        let tell = |detail: &str, pointer: &str, line: Option<u64>| (detail.to_owned(), pointer.to_owned(), line);
        let member = Problem::invalid("/priority", "is wrong");
        assert_eq!(
            said(member.clone(), line),
            tell("line 7: /priority: is wrong", "/priority", Some(7))
        );
        assert_eq!(said(member, task), tell("/tasks/7/priority: is wrong", "/tasks/7/priority", None));
        let whole = Problem::invalid("", "must be a JSON object");
        assert_eq!(said(whole.clone(), line), tell("line 7: must be a JSON object", "", Some(7)));
        assert_eq!(said(whole, task), tell("/tasks/7: must be a JSON object", "/tasks/7", None));
        let broken = Problem::new(Code::BadJson, "the body is not JSON: expected value at line 1 column 3");
        assert_eq!(
            said(broken, line),
            tell("line 7 is not JSON: expected value at column 3", "", Some(7))
        );
        let unknown = Problem::new(Code::UnknownTask, "no plugin handles it").member("task_name");
        assert_eq!(
            said(unknown, task),
            tell("/tasks/7: no plugin handles it", "/tasks/7/task_name", None)
        );
    }

    #[test]
    fn a_schema_complaint_points_into_the_body() {
        let problem = Problem::payload(vec![InputError {
            pointer: "/upto".into(),
            detail: "is not a number".into(),
        }]);
        assert_eq!(problem.errors[0].pointer, "/payload/upto");
        assert_eq!(problem.detail, "/payload/upto: is not a number");
    }
}

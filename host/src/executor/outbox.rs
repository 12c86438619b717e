//! What a guest asks to be emitted or submitted, and why it is refused. The worker judges it, and keeps it until the attempt is ok.

use super::answer;
use crate::model::attempt::InputError;
use serde_json::Value;

/// Bytes of one request.
pub(super) const MAX_REQUEST: usize = 1 << 20;
/// Notes about refused grants in one attempt's log.
pub(super) const MAX_NOTES: usize = 10;

/// What a guest asks to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outgoing {
    /// Emit an event.
    Event {
        /// What happened.
        event_type: String,
        /// JSON text of an object, as far as the guest says.
        data: String,
    },
    /// Submit a task: the text of a request as for `POST /task/submit`, as far as the guest says.
    Task(String),
    /// Submit a workflow: the text of a request as for `POST /workflow`, as far as the guest says.
    Workflow(String),
}

impl Outgoing {
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Event { event_type, data } => event_type.len() + data.len(),
            Self::Task(request) | Self::Workflow(request) => request.len(),
        }
    }
}

/// Why a call was refused, as the guest is told.
#[derive(Clone, Debug, PartialEq)]
pub struct Refused {
    /// A kind of the contract: `denied`, `invalid_input`, `fatal`, `retryable`.
    pub kind: &'static str,
    /// One sentence.
    pub message: String,
    /// JSON object.
    pub details: Option<Value>,
}

impl Refused {
    /// Without details. The message is cut where it is too long.
    pub fn new(kind: &'static str, message: impl AsRef<str>) -> Self {
        Self {
            kind,
            message: answer::cut(message.as_ref(), 4 << 10).to_owned(),
            details: None,
        }
    }

    /// `invalid_input`, with what is wrong in the request: each pointer is a JSON pointer into it.
    pub fn invalid(errors: &[InputError]) -> Self {
        let message = match errors.first() {
            Some(InputError { pointer, detail }) if pointer.is_empty() => format!("the request is not accepted: {detail}"),
            Some(InputError { pointer, detail }) => format!("the request is not accepted: {detail} at {pointer:?}"),
            None => "the request is not accepted".to_owned(),
        };
        Self {
            details: Some(serde_json::json!({ "errors": errors })),
            ..Self::new("invalid_input", message)
        }
    }

    /// Whether the manifest does not grant it.
    pub(super) fn is_denial(&self) -> bool {
        self.kind == "denied"
    }
}

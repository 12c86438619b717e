//! How a task fails, and what the host does about it.
//!
//! The plain case must be the safe one: an error that comes up through `?` is retryable, since most are of the moment
//! (a file not there yet, a service down). What can never succeed has to be said: [`Classify`](crate::Classify) does so at the place where
//! the error appears, [`TaskError`]'s constructors where the handler finds out by itself.

use crate::Seconds;
use serde_json::{Map, Value};
use std::{error::Error, fmt};

/// What a handler returns.
pub type TaskResult<T> = Result<T, TaskError>;

/// At most so many members are reported by one invalid input; the rest is counted in the message.
const MAX_REPORTED: usize = 100;
/// Bytes of a pointer or detail that the host keeps.
const MAX_TEXT: usize = 1 << 10;
/// Bytes of all of them as JSON: the host drops `details` of more than 256 KiB.
const MAX_DETAILS: usize = 240 << 10;

/// What the host does with a failed attempt.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum FailureKind {
    /// Run again after the task's retry delay, or after [`retry_after`](crate::Classify::retry_after), while retries are left.
    Retryable,
    /// The input can never succeed: no retry.
    InvalidInput,
    /// Retrying is of no use: no retry.
    Fatal,
    /// The handler saw the cancellation and stopped.
    Cancelled,
    /// Not ready: run again later, without using up a retry (at most 1,000 times a task).
    Snooze,
}

impl FailureKind {
    /// The word of the contract: `retryable`, `invalid_input`, `fatal`, `cancelled` or `snooze`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Retryable => "retryable",
            Self::InvalidInput => "invalid_input",
            Self::Fatal => "fatal",
            Self::Cancelled => "cancelled",
            Self::Snooze => "snooze",
        }
    }
}

/// One member of the input that cannot be accepted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct InvalidMember {
    /// JSON pointer (RFC 6901) into the input, e.g. `/bars/3/close`; empty for the whole input.
    pub pointer: String,
    /// One sentence for a person.
    pub detail: String,
}

/// What is wrong with an input, collected so that a person mends it in one go.
///
/// ```
/// use taskhost_sdk::{InputErrors, prelude::*};
///
/// fn check(prices: &[f64]) -> TaskResult<()> {
///     let mut errors = InputErrors::default();
///     for (index, price) in prices.iter().enumerate().filter(|(_, price)| **price <= 0.0) {
///         errors.add(format!("/prices/{index}"), format!("{price} is no price"));
///     }
///     errors.finish()
/// }
/// let error = check(&[1.0, -2.0, 0.0]).unwrap_err();
/// assert_eq!(error.invalid_input().len(), 2);
/// assert_eq!(error.invalid_input()[1].pointer, "/prices/2");
/// ```
#[derive(Clone, Default, Debug)]
pub struct InputErrors(Vec<InvalidMember>);

impl InputErrors {
    /// Adds one. Beyond 100 they are dropped: stop checking once [`is_full`](Self::is_full).
    pub fn add(&mut self, pointer: impl Into<String>, detail: impl Into<String>) {
        if !self.is_full() {
            self.0.push(InvalidMember {
                pointer: pointer.into(),
                detail: detail.into(),
            });
        }
    }

    /// Whether nothing was found.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether there are as many as are reported.
    pub fn is_full(&self) -> bool {
        self.0.len() >= MAX_REPORTED
    }

    /// # Errors
    /// `invalid_input` with all that was added, in that order.
    pub fn finish(self) -> TaskResult<()> {
        if self.is_empty() {
            Ok(())
        } else {
            Err(TaskError::invalid_members(self.0))
        }
    }
}

/// Why an attempt failed.
///
/// Any [`std::error::Error`] becomes a retryable one through `?`, with its causes in the message.
///
/// ```
/// use taskhost_sdk::{FailureKind, prelude::*};
///
/// fn price(text: &str) -> TaskResult<f64> {
///     Ok(text.parse()?)
/// }
/// let error = price("much").unwrap_err();
/// assert_eq!(error.kind(), FailureKind::Retryable);
/// assert_eq!(error.message(), "invalid float literal");
/// ```
#[derive(Clone, PartialEq, Debug)]
pub struct TaskError {
    kind: FailureKind,
    message: String,
    details: Map<String, Value>,
    denied: bool,
}

impl TaskError {
    /// Fails the attempt; the task runs again while retries are left.
    pub fn retryable(message: impl Into<String>) -> Self {
        Self::new(FailureKind::Retryable, message)
    }

    /// Fails the task: retrying is of no use.
    pub fn fatal(message: impl Into<String>) -> Self {
        Self::new(FailureKind::Fatal, message)
    }

    /// Fails the task, since the member of the input at `pointer` (a JSON pointer, `""` for all of it) is not acceptable.
    ///
    /// ```
    /// use taskhost_sdk::{FailureKind, TaskError};
    /// let error = TaskError::invalid("/fast", "fast must be below slow");
    /// assert_eq!(error.kind(), FailureKind::InvalidInput);
    /// assert_eq!(error.message(), "/fast: fast must be below slow");
    /// ```
    pub fn invalid(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::invalid_members([InvalidMember {
            pointer: pointer.into(),
            detail: detail.into(),
        }])
    }

    /// Fails the task, since several members of the input are not acceptable. The first 100 are reported; give them in the
    /// order of the input.
    pub fn invalid_members(members: impl IntoIterator<Item = InvalidMember>) -> Self {
        let mut members = members.into_iter();
        let reported: Vec<InvalidMember> = members.by_ref().take(MAX_REPORTED).map(cut_member).collect();
        let rest = members.count();
        let mut message = match reported.first() {
            Some(first) if first.pointer.is_empty() => first.detail.clone(),
            Some(first) => format!("{}: {}", first.pointer, first.detail),
            None => "the input is invalid".to_owned(),
        };
        match reported.len().saturating_sub(1) + rest {
            0 => {}
            1 => message.push_str(" (and 1 more error)"),
            more => message.push_str(&format!(" (and {more} more errors)")),
        }
        let mut room = MAX_DETAILS;
        let errors: Vec<Value> = reported
            .into_iter()
            .map(|member| serde_json::json!({ "pointer": member.pointer, "detail": member.detail }))
            .take_while(|error| {
                let left = room.checked_sub(error.to_string().len());
                room = left.unwrap_or(0);
                left.is_some()
            })
            .collect();
        Self::new(FailureKind::InvalidInput, message).with_detail("errors", errors.into())
    }

    /// Says that the handler saw [`Context::is_cancelled`](crate::Context::is_cancelled) and stopped.
    pub fn cancelled() -> Self {
        Self::new(FailureKind::Cancelled, "stopped on request")
    }

    /// Makes a retryable error or a snooze run again after `seconds` instead of the task's own delay.
    #[must_use]
    pub fn after(self, seconds: impl Seconds) -> Self {
        self.with_detail("retry_after", seconds.seconds().into())
    }

    /// What the host will do.
    pub fn kind(&self) -> FailureKind {
        self.kind
    }

    /// One sentence for a person.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Seconds after which the task shall run again, where that was said.
    pub fn retry_after(&self) -> Option<f64> {
        self.details.get("retry_after").and_then(Value::as_f64)
    }

    /// The members of the input that are not acceptable; empty for every other kind.
    pub fn invalid_input(&self) -> Vec<InvalidMember> {
        let member = |error: &Value, name: &str| error[name].as_str().unwrap_or_default().to_owned();
        self.details
            .get("errors")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .map(|error| InvalidMember {
                pointer: member(error, "pointer"),
                detail: member(error, "detail"),
            })
            .collect()
    }

    /// The details of the contract: `retry_after`, `errors`.
    pub fn details(&self) -> &Map<String, Value> {
        &self.details
    }

    /// Whether the host refused a call because the plugin's manifest does not grant it. Its kind is fatal: who can do without goes on.
    ///
    /// ```
    /// use taskhost_sdk::{FailureKind, prelude::*};
    /// let error = Context::mock().denied().emit("strategy.promoted", &json!({})).unwrap_err();
    /// assert!(error.is_denied() && error.kind() == FailureKind::Fatal);
    /// assert!(!TaskError::fatal("no").is_denied());
    /// ```
    pub fn is_denied(&self) -> bool {
        self.denied
    }

    /// An error as the contract writes it; a kind that is unknown here counts as fatal.
    pub(crate) fn from_contract(kind: &str, message: String, details: Option<&str>) -> Self {
        const KINDS: [FailureKind; 5] = [
            FailureKind::Retryable,
            FailureKind::InvalidInput,
            FailureKind::Fatal,
            FailureKind::Cancelled,
            FailureKind::Snooze,
        ];
        let denied = kind == "denied";
        let kind = KINDS.into_iter().find(|known| known.as_str() == kind).unwrap_or(FailureKind::Fatal);
        let details = details.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
        Self {
            kind,
            message,
            details,
            denied,
        }
    }

    fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            details: Map::new(),
            denied: false,
        }
    }

    fn with_detail(mut self, name: &str, value: Value) -> Self {
        self.details.insert(name.to_owned(), value);
        self
    }
}

fn cut_member(mut member: InvalidMember) -> InvalidMember {
    for text in [&mut member.pointer, &mut member.detail] {
        text.truncate(text.floor_char_boundary(MAX_TEXT));
    }
    member
}

impl fmt::Display for TaskError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

// As in anyhow, `TaskError` itself is no `std::error::Error`: it could not be made from all of them otherwise.
impl<E: Error> From<E> for TaskError {
    fn from(error: E) -> Self {
        let mut message = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            let text = error.to_string();
            // Some errors already print their cause.
            if !message.contains(&text) {
                message.push_str(": ");
                message.push_str(&text);
            }
            cause = error.source();
        }
        Self::retryable(message)
    }
}

/// Not ready yet: the task runs again after `seconds` and uses up no retry.
///
/// ```
/// use taskhost_sdk::{FailureKind, prelude::*};
///
/// fn prices_of(day: &str) -> TaskResult<Vec<f64>> {
///     Err(snooze(30))
/// }
/// let error = prices_of("2026-03-02").unwrap_err();
/// assert_eq!((error.kind(), error.retry_after()), (FailureKind::Snooze, Some(30.0)));
/// ```
pub fn snooze(seconds: impl Seconds) -> TaskError {
    let seconds = seconds.seconds();
    TaskError::new(FailureKind::Snooze, format!("not ready; again in {seconds} s")).after(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Classify;
    use std::{io, time::Duration};

    #[derive(Debug)]
    struct Outer(io::Error);

    impl fmt::Display for Outer {
        fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str("reading prices")
        }
    }

    impl Error for Outer {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            Some(&self.0)
        }
    }

    #[test]
    fn an_error_passed_up_is_retryable_and_keeps_its_causes() {
        let fail = || -> TaskResult<()> { Err(Outer(io::Error::other("disk on fire")))? };
        let error = fail().unwrap_err();
        assert_eq!(error.kind(), FailureKind::Retryable);
        assert_eq!(error.message(), "reading prices: disk on fire");
        assert!(error.details().is_empty());
    }

    #[test]
    fn an_error_that_was_classified_keeps_its_class_on_the_way_up() {
        let fail = || -> TaskResult<()> {
            Err("no such account").fatal()?;
            Ok(())
        };
        assert_eq!(fail().unwrap_err(), TaskError::fatal("no such account"));
    }

    #[test]
    fn seconds_come_in_every_usual_form_and_are_never_negative() {
        for error in [snooze(30), snooze(30.0), snooze(30_u64), snooze(Duration::from_secs(30))] {
            assert_eq!(error.retry_after(), Some(30.0));
        }
        for seconds in [-1.0, f64::NAN, f64::INFINITY] {
            assert_eq!(snooze(seconds).retry_after(), Some(0.0));
        }
        let error = Err::<(), _>("busy").retry_after(2.5).unwrap_err();
        assert_eq!((error.kind(), error.retry_after()), (FailureKind::Retryable, Some(2.5)));
    }

    #[test]
    fn invalid_input_carries_pointers_and_is_capped() {
        let members = (0..150).map(|n| InvalidMember {
            pointer: format!("/trades/{n}"),
            detail: "bad".into(),
        });
        let error = TaskError::invalid_members(members);
        assert_eq!(error.message(), "/trades/0: bad (and 149 more errors)");
        assert_eq!(error.invalid_input().len(), 100);
        assert_eq!(
            error.details()["errors"][3],
            serde_json::json!({ "pointer": "/trades/3", "detail": "bad" })
        );
    }
    #[test]
    fn details_stay_within_what_the_host_takes() {
        let members = (0..200).map(|_| InvalidMember {
            pointer: "/ä".repeat(5_000),
            detail: "\u{1}".repeat(5_000),
        });
        let error = TaskError::invalid_members(members);
        let details = Value::Object(error.details().clone()).to_string();
        assert!((100 << 10..256 << 10).contains(&details.len()), "{}", details.len());
        assert!(error.message().ends_with("(and 199 more errors)") && error.message().len() < 4 << 10);
    }
}

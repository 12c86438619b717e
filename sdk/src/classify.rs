//! What an error means for the task, said at the place where it appears.

use crate::{TaskError, TaskResult};
use std::{fmt, time::Duration};

/// Says of an error, where it appears, what the host shall do about it.
///
/// On any `Result` whose error can be displayed (also `anyhow::Error`, `String`), and on `Option`, where `None` is the error.
///
/// ```
/// use taskhost_sdk::{FailureKind, prelude::*};
///
/// fn handle(text: &str) -> TaskResult<u64> {
///     let upto: u64 = text.parse().invalid("/upto")?;
///     let half = upto.checked_sub(10).fatal()?;
///     Ok(half)
/// }
/// assert_eq!(handle("x").unwrap_err().kind(), FailureKind::InvalidInput);
/// assert_eq!(handle("9").unwrap_err().kind(), FailureKind::Fatal);
/// ```
pub trait Classify<T> {
    /// Run again after the task's own delay, as `?` alone says of every `std::error::Error`.
    fn retryable(self) -> TaskResult<T>;

    /// Run again after `seconds`, while retries are left.
    fn retry_after(self, seconds: impl Seconds) -> TaskResult<T>;

    /// Fail the task: retrying is of no use.
    fn fatal(self) -> TaskResult<T>;

    /// Fail the task: the member of its input at `pointer` (a JSON pointer, `""` for all of it) is not acceptable.
    fn invalid(self, pointer: impl Into<String>) -> TaskResult<T>;
}

impl<T, E: fmt::Display> Classify<T> for Result<T, E> {
    // `{:#}` makes anyhow's errors, and others that follow it, print their causes.
    fn retryable(self) -> TaskResult<T> {
        self.map_err(|error| TaskError::retryable(format!("{error:#}")))
    }

    fn retry_after(self, seconds: impl Seconds) -> TaskResult<T> {
        self.retryable().map_err(|error| error.after(seconds))
    }

    fn fatal(self) -> TaskResult<T> {
        self.map_err(|error| TaskError::fatal(format!("{error:#}")))
    }

    fn invalid(self, pointer: impl Into<String>) -> TaskResult<T> {
        self.map_err(|error| TaskError::invalid(pointer, format!("{error:#}")))
    }
}

impl<T> Classify<T> for Option<T> {
    fn retryable(self) -> TaskResult<T> {
        self.ok_or("a value is missing").retryable()
    }

    fn retry_after(self, seconds: impl Seconds) -> TaskResult<T> {
        self.ok_or("a value is missing").retry_after(seconds)
    }

    fn fatal(self) -> TaskResult<T> {
        self.ok_or("a value is missing").fatal()
    }

    fn invalid(self, pointer: impl Into<String>) -> TaskResult<T> {
        self.ok_or("a value is missing").invalid(pointer)
    }
}

/// A duration in seconds: any of the usual numbers, or a [`Duration`]. What is negative or not finite counts as 0.
pub trait Seconds {
    /// Seconds, 0 or more and finite.
    fn seconds(self) -> f64;
}

impl Seconds for f64 {
    fn seconds(self) -> f64 {
        if self.is_finite() { self.max(0.0) } else { 0.0 }
    }
}

impl Seconds for Duration {
    fn seconds(self) -> f64 {
        self.as_secs_f64()
    }
}

macro_rules! whole_seconds {
    ($($number:ty),*) => {$(
        impl Seconds for $number {
            fn seconds(self) -> f64 {
                (self as f64).seconds()
            }
        }
    )*};
}
whole_seconds!(i32, i64, u32, u64, f32);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_where_something_is_needed_is_an_error_too() {
        let error = None::<u8>.invalid("/upto").unwrap_err();
        assert_eq!(error.message(), "/upto: a value is missing");
    }
}

//! What survives the retries of a task.

use crate::{Classify, TaskError, TaskResult, host::Host};
use serde::{Serialize, de::DeserializeOwned};

/// Bytes that survive the retries of one task and are gone when the task ends; from
/// [`Context::checkpoint`](crate::Context::checkpoint). Bounded in size by the host. A newer version of the plugin may read
/// what this one saved.
///
/// ```
/// use taskhost_sdk::prelude::*;
///
/// fn sum(ctx: &Context, upto: u64) -> TaskResult<u64> {
///     let (mut next, mut total): (u64, u64) = ctx.checkpoint().load()?.unwrap_or_default();
///     while next < upto {
///         total += next;
///         next += 1;
///         if next % 1000 == 0 { ctx.checkpoint().save(&(next, total))?; }
///     }
///     Ok(total)
/// }
/// let ctx = Context::mock().with_checkpoint(&(3, 100));
/// assert_eq!(sum(&ctx, 5)?, 107);
/// # Ok::<(), taskhost_sdk::TaskError>(())
/// ```
#[derive(Debug)]
pub struct Checkpoint<'a> {
    host: &'a Host,
}

impl<'a> Checkpoint<'a> {
    pub(crate) fn new(host: &'a Host) -> Self {
        Self { host }
    }

    /// What was saved last, by this attempt or an earlier one; `None` at first.
    ///
    /// # Errors
    /// `fatal` where what was saved does not fit `T`, e.g. since another version of the plugin saved it. Where starting over
    /// is right, say `.load().unwrap_or_default()`.
    pub fn load<T: DeserializeOwned>(&self) -> TaskResult<Option<T>> {
        self.load_bytes()
            .map(|bytes| serde_json::from_slice(&bytes))
            .transpose()
            .map_err(|error| TaskError::fatal(format!("the checkpoint does not fit: {error}")))
    }

    /// Replaces what was saved, as JSON.
    ///
    /// # Errors
    /// `fatal` where the value has no JSON form or is larger than the host allows.
    pub fn save<T: Serialize + ?Sized>(&self, value: &T) -> TaskResult<()> {
        self.save_bytes(&serde_json::to_vec(value).fatal()?)
    }

    /// As [`load`](Self::load), without interpreting the bytes.
    pub fn load_bytes(&self) -> Option<Vec<u8>> {
        self.host.load()
    }

    /// As [`save`](Self::save), with bytes of the plugin's own format.
    ///
    /// # Errors
    /// `fatal` where they are more than the host allows.
    pub fn save_bytes(&self, bytes: &[u8]) -> TaskResult<()> {
        self.host.save(bytes)
    }
}

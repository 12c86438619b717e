//! Write task handlers for Taskhost as plain functions; build them as WebAssembly components; test them without a server.
//!
//! A whole plugin:
//!
//! ```
//! use taskhost_sdk::prelude::*;
//!
//! #[derive(Deserialize, JsonSchema)]
//! struct Input { upto: u64 }
//!
//! /// Counts, and says how far it is.
//! #[task(timeout = 60, retries = 3, priority = 5, tags = ["demo"])]
//! fn count(ctx: &Context, input: Input) -> TaskResult<u64> {
//!     for n in 0..input.upto { ctx.progress(n, input.upto, "counting"); }
//!     Ok(input.upto)
//! }
//!
//! plugin!(count);
//! # fn main() {}
//! ```
//!
//! Its `Cargo.toml` needs `crate-type = ["cdylib", "rlib"]` under `[lib]` and this crate as its only dependency.
//! `cargo build --release --target wasm32-wasip2` makes the component; drop it into the host's `plugins/`. On the
//! native machine the same crate builds without any bindings, so that `cargo test` runs the handlers against
//! `Context::mock()`.
//!
//! What always holds:
//! * An attempt runs in a fresh sandbox: no state survives it but [`Context::checkpoint`].
//! * Delivery is at least once. Hand [`Context::idempotency_key`] to every system that must not see an effect twice.
//! * An error passed up by `?` is retried; the methods of [`Classify`] and the constructors of [`TaskError`] say otherwise.
//! * A panic ends the attempt as a trap; its message is on the attempt's stderr.
//! * A plugin that never emits or submits does not import those interfaces, so it needs no grant for them.

// The macros write `::taskhost_sdk`, also inside this crate's own tests.
extern crate self as taskhost_sdk;

mod checkpoint;
mod classify;
mod context;
mod error;
#[cfg(target_arch = "wasm32")]
mod guest;
mod input;
mod logger;
#[cfg(not(target_arch = "wasm32"))]
pub mod mock;
mod plugin;
mod request;
mod task;

#[cfg(target_arch = "wasm32")]
use guest as host;
#[cfg(not(target_arch = "wasm32"))]
use mock as host;

pub use checkpoint::Checkpoint;
pub use classify::{Classify, Seconds};
pub use context::Context;
pub use error::{FailureKind, InputErrors, InvalidMember, TaskError, TaskResult, snooze};
pub use log;
pub use request::{OnFailure, Step, Submission, When, Workflow};
pub use serde_json::{self, json};
pub use task::{Definition, Task};
pub use taskhost_sdk_macros::task;

/// Everything that a plugin usually needs: `use taskhost_sdk::prelude::*;`.
///
/// `Deserialize`, `Serialize` and `JsonSchema` are both the traits of serde and schemars and derives for them that work
/// without those crates among the plugin's dependencies.
pub mod prelude {
    pub use crate::both::{Deserialize, JsonSchema, Serialize};
    pub use crate::{Classify, Context, TaskError, TaskResult, json, log, plugin, snooze, task};
}

/// Traits of serde and schemars under the same names as this SDK's derives.
///
/// An explicit import wins over a glob, name space by name space: the traits come through the globs, the derives from here.
mod both {
    pub use schemars::*;
    pub use serde::{de::*, ser::*};
    pub use taskhost_sdk_macros::{Deserialize, JsonSchema, Serialize};
}

/// What the macros expand to. Not part of the interface: it may change in any release.
#[doc(hidden)]
pub mod __private {
    #[cfg(target_arch = "wasm32")]
    pub use crate::guest::{Failure, Guest, bindings, export, run};
    pub use crate::input::read;
    pub use crate::plugin::{are_distinct, describe};
    pub use crate::task::{Answer, HasSchema, NoSchema, Probe};
    pub use {schemars, serde};
}

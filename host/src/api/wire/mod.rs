//! Every JSON document that goes out, member for member. What comes in is in [`crate::model::request`].
//!
//! Members may be added here, never renamed: scripts and clients are written against them.

mod calendar;
mod flow;
mod list;
mod observe;
mod plugin;
mod queue;
mod retention;
mod rule;
mod schedule;
mod task;

pub use calendar::*;
pub use flow::*;
pub use list::*;
pub use observe::*;
pub use plugin::*;
pub use queue::*;
pub use retention::*;
pub use rule::*;
pub use schedule::*;
pub use task::*;

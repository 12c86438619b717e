//! Every JSON document that comes in or goes out, member for member.
//!
//! Members may be added here, never renamed: scripts and clients are written against them.

mod input;
mod list;
mod observe;
mod plugin;
mod rule;
mod task;
mod value;

pub use input::*;
pub use list::*;
pub use observe::*;
pub use plugin::*;
pub use rule::*;
pub use task::*;
pub(crate) use value::{EventType, Payload, not_a_time, parse_query_time};

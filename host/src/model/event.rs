//! An event: something that happened, told by a client or by an attempt, and delivered to the triggers that listen.

use crate::model::Time;

/// An event that has come in.
#[derive(Clone, Debug, PartialEq)]
pub struct NewEvent {
    /// What happened.
    pub event_type: String,
    /// Who tells it and under which id, both by CloudEvents; the same again is a duplicate.
    pub source: Option<Source>,
    /// When it happened, where it says so.
    pub time: Option<Time>,
    /// JSON text of an object.
    pub data: String,
    /// How many attempts led to it, each of a task that the one before made; 0 for what a client tells. Its tasks stand as deep.
    pub depth: u32,
}

/// What makes an event the same as one seen before.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Source {
    /// A reference to a URI.
    pub uri: String,
    /// Unique among those of its source.
    pub id: String,
}

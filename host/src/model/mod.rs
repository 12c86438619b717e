//! What Taskhost is about, as plain data and pure rules: no I/O, no clock, no other room.
//!
//! Time comes in as an argument and randomness as a number, so that every rule here can be tested by a table.

pub mod alert;
pub mod attempt;
pub mod batch;
pub mod calendar;
pub mod cron;
pub mod definition;
pub mod event;
pub mod fair;
pub mod filter;
pub mod hold;
pub mod ids;
pub mod limit;
pub mod metrics;
pub mod name;
pub mod outbox;
pub mod overrides;
pub mod patch;
pub mod priority;
pub mod request;
pub mod retry;
pub mod room;
pub mod schedule;
pub mod sweep;
pub mod task;
pub mod trigger;
pub mod unique;
pub mod workflow;
pub mod zone;

/// The only time type of the house: an instant in UTC.
pub type Time = chrono::DateTime<chrono::Utc>;

//! Every test that needs more than one room, in one binary: one link instead of a dozen.

mod harness;

mod bad_fields;
mod bad_input;
mod batch;
mod batches;
mod calendars;
mod cli;
mod clock;
mod durability;
mod edits;
mod events;
mod fairness;
mod gates;
mod http;
mod limits;
mod manifest;
mod once;
mod outbox;
mod plugins;
mod processors;
mod queue;
mod retention;
mod rules;
mod schedules;
mod shipped;
mod store;
mod tidy;
mod trace;
mod workflows;

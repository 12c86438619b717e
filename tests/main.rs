//! Every test that needs more than one room, in one binary: one link instead of a dozen.

mod harness;

mod bad_input;
mod batch;
mod batches;
mod calendars;
mod cli;
mod durability;
mod edits;
mod events;
mod fairness;
mod flow_store;
mod gates;
mod http;
mod limits;
mod manifest;
mod once;
mod outbox;
mod plugins;
mod queue;
mod rules;
mod schedules;
mod shipped;
mod store;
mod store_schedules;
mod tidy;
mod trace;
mod workflows;

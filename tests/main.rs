//! Every test that needs more than one room, in one binary: one link instead of a dozen.

mod harness;

mod bad_input;
mod batch;
mod calendars;
mod cli;
mod durability;
mod fairness;
mod http;
mod limits;
mod plugins;
mod rules;
mod schedules;
mod shipped;
mod store;
mod store_schedules;
mod tidy;
mod trace;

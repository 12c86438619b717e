//! Taskhost: task handlers as WebAssembly components, scheduled, run, retried and watched.
//!
//! The rooms, in the order in which they may import each other: `model` and `clock` know nothing of the rest; `store` and
//! `executor` know the model; `registry`, `worker`, `scheduler` and `monitor` stand on these; `api` and `cli` are the doors;
//! `app` puts them together. A test holds the table.

pub mod api;
pub mod app;
pub mod cli;
pub mod clock;
pub mod config;
pub mod executor;
pub mod model;
pub mod monitor;
pub mod registry;
pub mod scheduler;
pub mod store;
pub mod worker;

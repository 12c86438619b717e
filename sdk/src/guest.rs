//! Inside a component: the bindings of the contract, and the host as they show it.
//!
//! The bindings are for the larger world `plugin-full`. Calls are plain functions, not a table of them, so that the linker
//! drops what a plugin never calls: one that does not emit or submit imports neither interface.

use crate::{Context, TaskError, TaskResult, logger};
use bindings::taskhost::plugin::{checkpoint, context, events, log as attempt_log, tasks};
use std::time::Duration;

pub use bindings::export;
pub use bindings::exports::taskhost::plugin::handler::{Failure, Guest};

#[expect(missing_docs, reason = "generated; wit/task-plugin.wit is the documentation")]
pub mod bindings {
    wit_bindgen::generate!({
        path: "../wit",
        world: "plugin-full",
        pub_export_macro: true,
        export_macro_name: "export",
        default_bindings_module: "taskhost_sdk::__private::bindings",
    });
}

/// The host of this attempt: there is one, so this holds nothing.
#[derive(Debug)]
pub(crate) struct Host;

impl Host {
    pub(crate) fn attempt(&self) -> String {
        context::attempt()
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        context::is_cancelled()
    }

    pub(crate) fn remaining(&self) -> Option<Duration> {
        context::remaining_ms().map(Duration::from_millis)
    }

    pub(crate) fn progress(&self, done: u64, total: Option<u64>, message: &str) {
        context::progress(done, total, message);
    }

    pub(crate) fn save(&self, bytes: &[u8]) -> TaskResult<()> {
        checkpoint::save(bytes).map_err(from_host)
    }

    pub(crate) fn load(&self) -> Option<Vec<u8>> {
        checkpoint::load()
    }

    pub(crate) fn emit(&self, event_type: &str, data: &str) -> TaskResult<String> {
        events::emit(event_type, data).map_err(from_host)
    }

    pub(crate) fn submit(&self, request: &str) -> TaskResult<String> {
        tasks::submit(request).map_err(from_host)
    }

    pub(crate) fn submit_workflow(&self, request: &str) -> TaskResult<String> {
        tasks::submit_workflow(request).map_err(from_host)
    }
}

pub(crate) fn write_log(level: log::Level, message: String, fields: Vec<(String, String)>) {
    let level = match level {
        log::Level::Trace => attempt_log::Level::Trace,
        log::Level::Debug => attempt_log::Level::Debug,
        log::Level::Info => attempt_log::Level::Info,
        log::Level::Warn => attempt_log::Level::Warn,
        log::Level::Error => attempt_log::Level::Error,
    };
    attempt_log::write(level, &message, &fields);
}

/// One attempt.
pub fn run(handler: fn(&Context, &str) -> TaskResult<String>, input: &str) -> Result<String, Failure> {
    logger::install();
    let answer = handler(&Context::new(Host), input).map_err(Failure::from);
    // Nothing flushes stdout when the instance is dropped: a last line without its end would be lost.
    let _ = std::io::Write::flush(&mut std::io::stdout());
    answer
}

impl From<TaskError> for Failure {
    fn from(error: TaskError) -> Self {
        let details = (!error.details().is_empty()).then(|| serde_json::Value::Object(error.details().clone()).to_string());
        Self {
            kind: error.kind().as_str().to_owned(),
            message: error.message().to_owned(),
            details,
        }
    }
}

/// The failure of a call to the host, to be passed up by `?`.
fn from_host(failure: bindings::taskhost::plugin::types::Failure) -> TaskError {
    TaskError::from_contract(&failure.kind, failure.message, failure.details.as_deref())
}

//! What lists are made of: objects by id, and the lines of a log.

use crate::model::attempt::{Level, LogLine, Source};
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde::ser::Serializer;
use serde_json::Value;
use utoipa::ToSchema;

/// An object by id that keeps the list's order.
#[derive(Debug)]
pub(crate) struct ById<T>(pub(crate) Vec<(String, T)>);

impl<T: Serialize> Serialize for ById<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(id, value)| (id, value)))
    }
}

/// One line of a task's log.
#[derive(Debug, Serialize, ToSchema)]
pub struct LogRecord {
    /// When the host received it.
    pub time: DateTime<Utc>,
    /// `trace debug info warn error`.
    #[schema(value_type = String, example = "info")]
    pub level: Level,
    /// From 1.
    pub attempt: u32,
    /// `log`, `stdout`, `stderr`, or `host` for the host's own notes.
    #[schema(value_type = String, example = "log")]
    pub source: Source,
    /// The text.
    pub message: String,
    /// The author's key-value pairs.
    #[schema(value_type = Object)]
    pub fields: serde_json::Map<String, Value>,
}

impl From<LogLine> for LogRecord {
    fn from(line: LogLine) -> Self {
        Self {
            time: line.time,
            level: line.level,
            attempt: line.attempt,
            source: line.source,
            message: line.message,
            fields: line.fields,
        }
    }
}

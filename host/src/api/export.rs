//! The history in other clothes: CSV, or one JSON document a line.

use super::extract::media_type;
use super::wire::TaskRecord;
use crate::model::Time;
use axum::http::{HeaderMap, header};

/// How the history is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Json,
    Csv,
    Lines,
}

impl Format {
    /// The first that the client names; JSON where it names none of them.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let values = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
        let mut kinds = values.flat_map(|value| value.split(',')).map(media_type);
        kinds
            .find_map(|kind| match kind.as_str() {
                "application/json" => Some(Self::Json),
                "text/csv" => Some(Self::Csv),
                "application/x-ndjson" => Some(Self::Lines),
                _ => None,
            })
            .unwrap_or(Self::Json)
    }
}

/// One JSON document a line.
pub(crate) fn lines(records: &[TaskRecord]) -> Vec<u8> {
    let mut text = Vec::new();
    for record in records {
        // A record is made of plain members: writing it cannot fail.
        if serde_json::to_writer(&mut text, record).is_ok() {
            text.push(b'\n');
        }
    }
    text
}

/// The columns of an export, in their order.
const COLUMNS: [&str; 18] = [
    "task_id",
    "task_name",
    "status",
    "priority",
    "tags",
    "trigger_time",
    "submitted_at",
    "started_at",
    "completed_at",
    "execution_time",
    "retry_count",
    "max_retries",
    "plugin",
    "error_code",
    "error",
    "retry_of",
    "payload",
    "result",
];

/// RFC 4180, with a line of names. Lists and objects are JSON within their cell. What a spreadsheet would take for a formula gets an
/// apostrophe before it, as OWASP advises against CSV injection: an error is a guest's own sentence.
pub(crate) fn csv(records: &[TaskRecord]) -> Vec<u8> {
    let mut writer = csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(Vec::new());
    // Writing to memory cannot fail.
    let _ = writer.write_record(COLUMNS);
    for record in records {
        let _ = writer.write_record(cells(record));
    }
    writer.into_inner().unwrap_or_default()
}

fn cells(record: &TaskRecord) -> [String; COLUMNS.len()] {
    let time = |time: Option<Time>| time.map_or(String::new(), |time| time.to_rfc3339_opts(chrono::SecondsFormat::Micros, true));
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let raw = |raw: &Option<Box<serde_json::value::RawValue>>| raw.as_ref().map_or(String::new(), |raw| raw.get().to_owned());
    [
        record.task_id.clone(),
        record.task_name.clone(),
        record.status.to_owned(),
        record.priority.to_string(),
        serde_json::to_string(&record.tags).unwrap_or_default(),
        time(Some(record.trigger_time)),
        time(Some(record.submitted_at)),
        time(record.started_at),
        time(record.completed_at),
        record.execution_time.map_or(String::new(), |seconds| seconds.to_string()),
        record.retry_count.to_string(),
        record.max_retries.map_or(String::new(), |count| count.to_string()),
        text(&record.plugin),
        text(&record.error_code),
        harmless(text(&record.error)),
        text(&record.retry_of),
        raw(&record.payload),
        raw(&record.result),
    ]
}

fn harmless(text: String) -> String {
    if text.starts_with(['=', '+', '-', '@', '\t', '\r']) {
        return format!("'{text}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::wire::Live;
    use crate::model::task::{Failure, NewTask, Origin, Status, Submission, Task};

    fn record(error: &str) -> TaskRecord {
        let now: Time = "2026-01-31T09:30:00Z".parse().unwrap();
        let submission = Submission {
            name: "t".into(),
            payload: r#"{"a":"x,y"}"#.into(),
            tags: vec!["a\"b".into()],
            ..Submission::default()
        };
        let new = NewTask::from_submission(submission, None, Origin::Submitted, now);
        let task = Task {
            status: Status::Failed,
            due_at: None,
            completed_at: Some(now),
            failure: Some(Failure {
                code: "error".into(),
                error: error.into(),
                details: None,
            }),
            ..new.as_running("p")
        };
        TaskRecord::whole(
            task,
            Live {
                paused: false,
                now,
                progress: None,
                max_retries: Some(3),
            },
        )
    }

    #[test]
    fn exports_quote_what_needs_it() {
        let text = String::from_utf8(csv(&[record("line one\nline two, \"quoted\"")])).unwrap();
        let mut reader = csv::Reader::from_reader(text.as_bytes());
        assert_eq!(reader.headers().unwrap().iter().collect::<Vec<_>>(), COLUMNS);
        let row = reader.records().next().unwrap().unwrap();
        let cell = |name: &str| row[COLUMNS.iter().position(|column| *column == name).unwrap()].to_owned();
        assert_eq!(cell("error"), "line one\nline two, \"quoted\"");
        assert_eq!(cell("tags"), r#"["a\"b"]"#);
        assert_eq!(cell("payload"), r#"{"a":"x,y"}"#);
        assert_eq!(cell("completed_at"), "2026-01-31T09:30:00.000000Z");
        assert!(text.contains("\r\n"));
    }

    #[test]
    fn a_record_has_the_members_that_clients_read() {
        let json = serde_json::to_value(record("it broke")).unwrap();
        for member in "task_id task_name status payload priority tags trigger_time submitted_at started_at completed_at timestamp \
                       execution_time result error error_code error_details retry_count max_retries next_retry_at progress plugin attempts \
                       phase held retry_of schedule_id trigger_id batch_id idempotency_key"
            .split_whitespace()
        {
            assert!(json.get(member).is_some(), "{member}");
        }
        assert_eq!(json["timestamp"], "2026-01-31T09:30:00Z");
        assert_eq!(
            (&json["status"], &json["phase"], &json["max_retries"]),
            (&"failed".into(), &"ended".into(), &3.into())
        );
        let line = lines(&[record("a"), record("b")]);
        assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 2);
    }

    #[test]
    fn the_first_format_named_wins() {
        let of = |accept: &str| Format::of(&HeaderMap::from_iter([(header::ACCEPT, accept.parse().unwrap())]));
        assert_eq!(of("text/csv"), Format::Csv);
        assert_eq!(of("application/x-ndjson;q=0.9, */*"), Format::Lines);
        assert_eq!(of("text/html, */*"), Format::Json);
        assert_eq!(Format::of(&HeaderMap::new()), Format::Json);
    }
}

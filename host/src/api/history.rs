//! Long lists: every task, those that ended (also as CSV or one JSON document a line), and a task's log.

use super::State;
use super::error::Problem;
use super::extract::{Input, Name, Query, media_type};
use super::page::{self, Listed, MAX_LIMIT};
use super::wire::{LogRecord, TaskRecord, parse_query_time};
use crate::model::Time;
use crate::model::ids::TaskId;
use crate::model::task::Status;
use crate::store::{Filter, Listing};
use axum::extract::OriginalUri;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use utoipa::IntoParams;

/// How many ended tasks are shown where the request does not say.
const HISTORY_LIMIT: usize = 100;

/// Parameters of the history.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct HistoryQuery {
    /// Exactly this name.
    #[param(value_type = Option<String>)]
    task_name: String,
    /// `success failed cancelled`.
    #[param(value_type = Option<String>)]
    status: String,
    /// Carries this tag.
    #[param(value_type = Option<String>)]
    tag: String,
    /// Ended at or after this; UTC where it has no offset.
    #[param(value_type = Option<String>, format = DateTime)]
    since: String,
    /// Ended before this.
    #[param(value_type = Option<String>, format = DateTime)]
    until: String,
    /// At most so many; 100 where left out.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 1000)]
    limit: String,
    /// From the `Link` header of the page before.
    #[param(value_type = Option<String>)]
    cursor: String,
}

impl Input for HistoryQuery {
    const LATER: &'static [&'static str] = &["batch_id"];
}

/// Parameters of the list of all tasks.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct TasksQuery {
    /// `pending running success failed cancelled`.
    #[param(value_type = Option<String>)]
    status: String,
    /// Exactly this name.
    #[param(value_type = Option<String>)]
    task_name: String,
    /// Carries this tag.
    #[param(value_type = Option<String>)]
    tag: String,
    /// The id or the name begins so.
    #[param(value_type = Option<String>)]
    q: String,
    /// At most so many.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 1000)]
    limit: String,
    /// From the `Link` header of the page before.
    #[param(value_type = Option<String>)]
    cursor: String,
}

impl Input for TasksQuery {
    const LATER: &'static [&'static str] = &["batch_id"];
}

/// Parameters of a task's log.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct LogQuery {
    /// Streams new lines; not in this version.
    #[param(value_type = Option<bool>)]
    follow: String,
    /// At most so many lines.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 1000)]
    limit: String,
    /// From the `Link` header of the page before.
    #[param(value_type = Option<String>)]
    cursor: String,
}

impl Input for LogQuery {}

fn given(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

/// Reads a time of the query; a blank one counts as not given.
pub(crate) fn time(name: &str, text: &str) -> Result<Option<Time>, Problem> {
    match text.trim() {
        "" => Ok(None),
        text => parse_query_time(text)
            .map(Some)
            .ok_or_else(|| Problem::invalid(format!("/{name}"), super::wire::not_a_time())),
    }
}

fn status(text: &str) -> Result<Option<Status>, Problem> {
    page::word("status", text, Status::parse, &Status::ALL.map(Status::as_str))
}

/// Lists all tasks, newest first
#[utoipa::path(get, path = "/tasks", tag = "tasks", params(TasksQuery),
    responses((status = 200, description = "Without their attempts", body = Vec<TaskRecord>), (status = 400), (status = 503)))]
pub(crate) async fn all(
    state: State,
    OriginalUri(uri): OriginalUri,
    Query(query): Query<TasksQuery>,
) -> Result<Listed<Vec<TaskRecord>>, Problem> {
    let request = page::request(&query.limit, &query.cursor, MAX_LIMIT)?;
    let filter = Filter {
        status: status(&query.status)?,
        task_name: given(query.task_name),
        tag: given(query.tag),
        prefix: given(query.q),
        ..Filter::default()
    };
    let page = state.store.tasks(Listing::All(filter), request).await?;
    let link = page::link(&uri, page.next.as_deref());
    Ok(Listed {
        body: records(&state, page.items),
        link,
    })
}

fn records(state: &State, tasks: Vec<crate::model::task::Task>) -> Vec<TaskRecord> {
    let view = state.view();
    let record = |task| {
        let live = view.live(&task);
        TaskRecord::listed(task, live)
    };
    tasks.into_iter().map(record).collect()
}

/// Lists tasks that ended, latest first
///
/// `Accept: text/csv` or `application/x-ndjson` exports the page.
#[utoipa::path(get, path = "/tasks/history", tag = "tasks", params(HistoryQuery),
    responses(
        (status = 200, description = "Without their attempts", content(
            (Vec<TaskRecord> = "application/json"), (String = "text/csv"), (String = "application/x-ndjson"))),
        (status = 400), (status = 503)))]
pub(crate) async fn history(
    state: State,
    OriginalUri(uri): OriginalUri,
    headers: HeaderMap,
    Query(query): Query<HistoryQuery>,
) -> Result<Response, Problem> {
    let request = page::request(&query.limit, &query.cursor, HISTORY_LIMIT)?;
    let filter = Filter {
        status: status(&query.status)?,
        task_name: given(query.task_name),
        tag: given(query.tag),
        prefix: None,
        since: time("since", &query.since)?,
        until: time("until", &query.until)?,
    };
    let page = state.store.tasks(Listing::History(filter), request).await?;
    let link = page::link(&uri, page.next.as_deref());
    let body = records(&state, page.items);
    Ok(match Format::of(&headers) {
        Format::Json => Listed { body, link }.into_response(),
        Format::Csv => (link, [(header::CONTENT_TYPE, "text/csv; charset=utf-8")], csv(&body)).into_response(),
        Format::Lines => (link, [(header::CONTENT_TYPE, "application/x-ndjson")], lines(&body)).into_response(),
    })
}

/// Shows a task's log, oldest line first
#[utoipa::path(get, path = "/task/{task_id}/logs", tag = "tasks",
    params(("task_id" = String, Path, description = "Id of a task"), LogQuery),
    responses((status = 200, description = "Lines of all attempts", body = Vec<LogRecord>), (status = 400), (status = 404), (status = 503)))]
pub(crate) async fn logs(
    state: State,
    OriginalUri(uri): OriginalUri,
    name: Name,
    Query(query): Query<LogQuery>,
) -> Result<Listed<Vec<LogRecord>>, Problem> {
    page::only_false("follow", &query.follow)?;
    let request = page::request(&query.limit, &query.cursor, MAX_LIMIT)?;
    let id: TaskId = name.id("task")?;
    let page = state.store.log(id, request).await;
    let page = page.map_err(|error| Problem::of_store(error, "task", &name.0))?;
    let link = page::link(&uri, page.next.as_deref());
    Ok(Listed {
        body: page.items.into_iter().map(Into::into).collect(),
        link,
    })
}

/// How the history is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Json,
    Csv,
    Lines,
}

impl Format {
    /// The first that the client names; JSON where it names none of them.
    fn of(headers: &HeaderMap) -> Self {
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

fn lines(records: &[TaskRecord]) -> Vec<u8> {
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

/// RFC 4180, with a line of names. Lists and objects are JSON within their cell.
fn csv(records: &[TaskRecord]) -> Vec<u8> {
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
        text(&record.error),
        text(&record.retry_of),
        raw(&record.payload),
        raw(&record.result),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::wire::Live;
    use crate::model::retry::Counters;
    use crate::model::task::{Failure, NewTask, Origin, Submission, Task};

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
            id: new.id,
            name: new.name,
            payload: new.payload,
            priority: new.priority,
            tags: new.tags,
            status: Status::Failed,
            trigger_time: now,
            submitted_at: now,
            started_at: None,
            completed_at: Some(now),
            execution_time: None,
            result: None,
            failure: Some(Failure {
                code: "error".into(),
                error: error.into(),
                details: None,
            }),
            last_failure: None,
            counters: Counters::default(),
            attempt: 0,
            timeout: None,
            max_retries: None,
            idempotent: None,
            progress: None,
            plugin: None,
            origin: new.origin,
            idempotency_key: new.idempotency_key,
            held: None,
            attempts: vec![],
        };
        TaskRecord::whole(
            task,
            Live {
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
                       phase held retry_of schedule_id trigger_id idempotency_key"
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

    #[test]
    fn a_blank_time_is_no_filter() {
        assert_eq!(time("since", " ").unwrap(), None);
        assert!(time("since", "2026-01-31").unwrap().is_some());
        assert_eq!(time("since", "soon").unwrap_err().errors[0].pointer, "/since");
    }
}

//! Long lists: every task, those that ended (also as CSV or one JSON document a line), and a task's log.

use super::State;
use super::error::Problem;
use super::export::{self, Format};
use super::extract::{Name, Query};
use super::page::{self, Listed, MAX_LIMIT};
use super::wire::{LogRecord, TaskRecord};
use crate::model::Time;
use crate::model::ids::{BatchId, TaskId};
use crate::model::request::{Input, not_a_time, parse_query_time};
use crate::model::task::Status;
use crate::store::{Filter, Listing, PageRequest};
use axum::extract::OriginalUri;
use axum::http::{HeaderMap, Uri, header};
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
    /// Came in with this batch.
    #[param(value_type = Option<String>)]
    batch_id: String,
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

impl Input for HistoryQuery {}

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
    /// Came in with this batch.
    #[param(value_type = Option<String>)]
    batch_id: String,
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

impl Input for TasksQuery {}

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
            .ok_or_else(|| Problem::invalid(format!("/{name}"), not_a_time())),
    }
}

fn batch(text: &str) -> Result<Option<BatchId>, Problem> {
    match text {
        "" => Ok(None),
        text => {
            let id = text.parse().map(Some);
            id.map_err(|_| Problem::invalid("/batch_id", "must be the id of a batch, as its submission answered"))
        }
    }
}

fn status(text: &str) -> Result<Option<Status>, Problem> {
    page::word("status", text, Status::parse, &Status::ALL.map(Status::as_str))
}

/// A status that a task can have in the history.
fn ended(text: &str) -> Result<Option<Status>, Problem> {
    let parse = |word: &str| Status::parse(word).filter(|status| status.is_final());
    page::word("status", text, parse, &["success", "failed", "cancelled"])
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
        batch: batch(&query.batch_id)?,
        ..Filter::default()
    };
    list_tasks(&state, &uri, filter, request).await
}

/// A page of all tasks that a filter lets through.
pub(super) async fn list_tasks(state: &State, uri: &Uri, filter: Filter, request: PageRequest) -> Result<Listed<Vec<TaskRecord>>, Problem> {
    let page = state.store.tasks(Listing::All(filter), request).await?;
    let link = page::link(uri, page.next.as_deref());
    Ok(Listed {
        body: records(state, page.items).await?,
        link,
    })
}

async fn records(state: &State, tasks: Vec<crate::model::task::Task>) -> Result<Vec<TaskRecord>, Problem> {
    let view = state.view(&tasks).await?;
    let record = |task| {
        let live = view.live(&task);
        TaskRecord::listed(task, live)
    };
    Ok(tasks.into_iter().map(record).collect())
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
        status: ended(&query.status)?,
        task_name: given(query.task_name),
        tag: given(query.tag),
        prefix: None,
        since: time("since", &query.since)?,
        until: time("until", &query.until)?,
        batch: batch(&query.batch_id)?,
    };
    let page = state.store.tasks(Listing::History(filter), request).await?;
    let link = page::link(&uri, page.next.as_deref());
    let body = records(&state, page.items).await?;
    Ok(match Format::of(&headers) {
        Format::Json => Listed { body, link }.into_response(),
        Format::Csv => (link, [(header::CONTENT_TYPE, "text/csv; charset=utf-8")], export::csv(&body)).into_response(),
        Format::Lines => (link, [(header::CONTENT_TYPE, "application/x-ndjson")], export::lines(&body)).into_response(),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blank_time_is_no_filter() {
        assert_eq!(time("since", " ").unwrap(), None);
        assert!(time("since", "2026-01-31").unwrap().is_some());
        assert_eq!(time("since", "soon").unwrap_err().errors[0].pointer, "/since");
    }
}

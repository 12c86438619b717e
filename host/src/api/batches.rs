//! Batches once they are in: how far they are, what they hold, their end; and what is to follow them.

use super::State;
use super::error::{Place, Problem};
use super::extract::{Name, NoBody, Query};
use super::history::list_tasks;
use super::page::{self, Listed};
use super::state::{check_payload, handler};
use super::tasks::PageQuery;
use super::wire::{BatchRecord, TaskRecord};
use crate::model::Time;
use crate::model::batch::CallbackKind;
use crate::model::ids::BatchId;
use crate::model::request::{CallbackRequest, Payload};
use crate::model::task::{NewTask, Origin, Submission};
use crate::registry::snapshot::Snapshot;
use crate::store::{Callback, Filter};
use axum::Json;
use axum::extract::OriginalUri;
use serde_json::json;

/// Lists batches, newest first
#[utoipa::path(get, path = "/batches", tag = "batches", params(PageQuery),
    responses((status = 200, description = "With their counts", body = Vec<BatchRecord>), (status = 400), (status = 503)))]
pub(crate) async fn list(
    state: State,
    OriginalUri(uri): OriginalUri,
    Query(query): Query<PageQuery>,
) -> Result<Listed<Vec<BatchRecord>>, Problem> {
    let page = state.store.batches(query.request()?).await?;
    Ok(Listed {
        body: page.items.into_iter().map(BatchRecord::listed).collect(),
        link: page::link(&uri, page.next.as_deref()),
    })
}

/// Shows a batch
#[utoipa::path(get, path = "/batch/{batch_id}", tag = "batches", params(("batch_id" = String, Path, description = "Id of a batch")),
    responses((status = 200, description = "Its counts, and what follows it", body = BatchRecord), (status = 404), (status = 503)))]
pub(crate) async fn get(state: State, name: Name) -> Result<Json<BatchRecord>, Problem> {
    let batch = state.store.batch(name.id("batch")?).await;
    let batch = batch.map_err(|error| Problem::of_store(error, "batch", &name.0))?;
    Ok(Json(BatchRecord::whole(batch)))
}

/// Cancels what has not ended of a batch
///
/// Answers at once; a large batch is `cancelling` for a while. One of which all tasks have ended already is a 409.
#[utoipa::path(delete, path = "/batch/{batch_id}", tag = "batches", params(("batch_id" = String, Path, description = "Id of a batch")),
    responses((status = 200, description = "On its way", body = BatchRecord), (status = 400), (status = 404), (status = 409), (status = 503)))]
pub(crate) async fn cancel(state: State, name: Name, _: NoBody) -> Result<Json<BatchRecord>, Problem> {
    let id: BatchId = name.id("batch")?;
    let told = state.store.cancel_batch(id, state.clock.now()).await;
    told.map_err(|error| Problem::of_store(error, "batch", &name.0))?;
    state.scheduler.wake_batches();
    get(state, name).await
}

/// Lists the tasks of a batch: those that wait or run, newest first, then those that ended, latest first
///
/// While a large batch is still being unfolded, the last of its tasks are counted but not listed yet.
#[utoipa::path(get, path = "/batch/{batch_id}/tasks", tag = "batches",
    params(("batch_id" = String, Path, description = "Id of a batch"), PageQuery),
    responses((status = 200, description = "Without their attempts", body = Vec<TaskRecord>), (status = 400), (status = 404), (status = 503)))]
pub(crate) async fn tasks(
    state: State,
    OriginalUri(uri): OriginalUri,
    name: Name,
    Query(query): Query<PageQuery>,
) -> Result<Listed<Vec<TaskRecord>>, Problem> {
    let id: BatchId = name.id("batch")?;
    let request = query.request()?;
    let batch = state.store.batch(id).await;
    batch.map_err(|error| Problem::of_store(error, "batch", &name.0))?;
    let filter = Filter {
        batch: Some(id),
        ..Filter::default()
    };
    list_tasks(&state, &uri, filter, request).await
}

/// What somebody asks to follow a batch, checked as a submission is. In the order of [`CallbackKind::ALL`].
pub(super) async fn callbacks(snapshot: &Snapshot, asked: [Option<CallbackRequest>; 3], now: Time) -> Result<Vec<Callback>, Problem> {
    let mut callbacks = Vec::new();
    for (kind, request) in CallbackKind::ALL.into_iter().zip(asked) {
        let Some(request) = request else { continue };
        let callback = callback(snapshot, kind, request, now).await;
        callbacks.push(callback.map_err(|problem| problem.within(Place::Callback(kind.as_str())))?);
    }
    Ok(callbacks)
}

async fn callback(snapshot: &Snapshot, kind: CallbackKind, mut request: CallbackRequest, now: Time) -> Result<Callback, Problem> {
    let handler = handler(snapshot, &request.task_name).map_err(|problem| problem.member("task_name"))?;
    check_payload(&handler, &mut request.payload).await?;
    // A handler whose schema lets no stranger in is not told the counts: it would refuse its input.
    let told = match request.payload.value.as_object() {
        Some(members) if !members.contains_key("batch") => {
            let mut value = request.payload.value.clone();
            value["batch"] = json!({ "batch_id": "", "name": null, "count": 1, "success": 1, "failed": 0, "cancelled": 0 });
            let text = String::new(); // only what it says is checked
            check_payload(&handler, &mut Payload { text, value }).await.is_ok()
        }
        _ => false,
    };
    let submission = Submission {
        name: request.task_name,
        payload: request.payload.text,
        ..Submission::default()
    };
    let task = NewTask::from_submission(submission, Some(&handler.definition), Origin::Submitted, now);
    Ok(Callback { kind, task, told })
}

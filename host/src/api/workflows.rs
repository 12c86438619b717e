//! Workflows: checked whole when they come in, looked at, cancelled, and taken up again at a step.

use super::State;
use super::error::{Place, Problem};
use super::extract::{KeyedBody, Name, NoBody, Query};
use super::page::{self, Listed};
use super::state::{check_payload, handler};
use super::tasks::PageQuery;
use super::wire::{StepRetriedRecord, WorkflowAccepted, WorkflowRecord};
use crate::model::definition::Definition;
use crate::model::ids::WorkflowId;
use crate::model::request::WorkflowRequest;
use crate::model::task::Origin;
use crate::model::workflow::NewWorkflow;
use crate::store::StoreError;
use axum::Json;
use axum::extract::{OriginalUri, Path};

/// Submits a workflow
///
/// Steps with needs form a directed graph without circles. The answer means that all of it is on disk and will run: each step once its
/// `when` says so, with the results of its needs in its attempt document.
#[utoipa::path(post, path = "/workflow", tag = "workflows", request_body = WorkflowRequest,
    params(("Idempotency-Key" = Option<String>, Header, description = "Sent again under the same key within 24 h, the request gets the same answer and does nothing")),
    responses((status = 200, description = "Accepted", body = WorkflowAccepted),
        (status = 400), (status = 404), (status = 408), (status = 409), (status = 413), (status = 415), (status = 422), (status = 503)))]
pub(crate) async fn submit(
    state: State,
    KeyedBody {
        value: mut request,
        room,
        key,
        answered,
    }: KeyedBody<WorkflowRequest>,
) -> Result<Json<WorkflowAccepted>, Problem> {
    if let Some(workflow_id) = answered {
        return Ok(Json(WorkflowAccepted { workflow_id }));
    }
    request.graph()?; // before anything that takes longer
    let snapshot = state.registry.snapshot();
    for (index, step) in request.steps.iter_mut().enumerate() {
        let within = |problem: Problem| problem.within(Place::Step(index));
        let handler = handler(&snapshot, &step.task_name).map_err(|problem| within(problem.member("task_name")))?;
        check_payload(&handler, &mut step.payload).await.map_err(within)?;
    }
    let definition = |name: &str| -> Option<&Definition> { snapshot.handlers.get(name).map(|handler| handler.definition.as_ref()) };
    let now = state.clock.now();
    let id = WorkflowId::new(now);
    let workflow = NewWorkflow::new(id, request, definition, (Origin::Submitted, 0), now)?;
    let workflow_id = id.to_string();
    let kept = key.as_ref().map(|key| key.with_answer(&workflow_id));
    let workflow_id = match state.scheduler.submit_workflow(workflow, kept).await {
        // Carried out meanwhile by a request whose client hung up.
        Err(StoreError::Answered(before)) => before,
        submitted => submitted.map(|()| workflow_id)?,
    };
    drop((room, key));
    Ok(Json(WorkflowAccepted { workflow_id }))
}

/// Lists workflows, newest first
#[utoipa::path(get, path = "/workflows", tag = "workflows", params(PageQuery),
    responses((status = 200, description = "Without their steps", body = Vec<WorkflowRecord>), (status = 400), (status = 503)))]
pub(crate) async fn list(
    state: State,
    OriginalUri(uri): OriginalUri,
    Query(query): Query<PageQuery>,
) -> Result<Listed<Vec<WorkflowRecord>>, Problem> {
    let page = state.store.workflows(query.request()?).await?;
    Ok(Listed {
        body: page.items.into_iter().map(WorkflowRecord::listed).collect(),
        link: page::link(&uri, page.next.as_deref()),
    })
}

/// Shows a workflow with its steps
#[utoipa::path(get, path = "/workflow/{workflow_id}", tag = "workflows",
    params(("workflow_id" = String, Path, description = "Id of a workflow")),
    responses((status = 200, description = "It and its steps", body = WorkflowRecord), (status = 404), (status = 503)))]
pub(crate) async fn get(state: State, name: Name) -> Result<Json<WorkflowRecord>, Problem> {
    let workflow = state.store.workflow(name.id("workflow")?).await;
    let workflow = workflow.map_err(|error| Problem::of_store(error, "workflow", &name.0))?;
    Ok(Json(WorkflowRecord::whole(workflow)))
}

/// Cancels all steps of a workflow that have not ended
///
/// Those that run are stopped. One of which all steps have ended already is a 409.
#[utoipa::path(delete, path = "/workflow/{workflow_id}", tag = "workflows",
    params(("workflow_id" = String, Path, description = "Id of a workflow")),
    responses((status = 200, description = "Cancelled", body = WorkflowRecord), (status = 400), (status = 404), (status = 409), (status = 503)))]
pub(crate) async fn cancel(state: State, name: Name, _: NoBody) -> Result<Json<WorkflowRecord>, Problem> {
    let id: WorkflowId = name.id("workflow")?;
    let running = state.store.cancel_workflow(id, state.clock.now()).await;
    for lease in running.map_err(|error| Problem::of_store(error, "workflow", &name.0))? {
        state.scheduler.stop_attempt(lease);
    }
    get(state, name).await
}

/// Takes a workflow up again at a step that failed or was cancelled
///
/// The step gets a new task, and so do the steps after it that never had their turn. What succeeded stays as it is.
#[utoipa::path(post, path = "/workflow/{workflow_id}/step/{key}/retry", tag = "workflows",
    params(("workflow_id" = String, Path, description = "Id of a workflow"), ("key" = String, Path, description = "Key of one of its steps")),
    responses((status = 200, description = "The step's new task", body = StepRetriedRecord), (status = 400), (status = 404), (status = 409), (status = 503)))]
pub(crate) async fn retry(
    state: State,
    Path((workflow, key)): Path<(String, String)>,
    _: NoBody,
) -> Result<Json<StepRetriedRecord>, Problem> {
    let id: WorkflowId = Name(workflow.clone()).id("workflow")?;
    let retried = match state.store.retry_step(id, key.clone(), state.clock.now()).await {
        Err(StoreError::NotFound) => {
            let known = state.store.workflow(id).await;
            known.map_err(|error| Problem::of_store(error, "workflow", &workflow))?;
            return Err(Problem::unknown("step of this workflow with the key", &key));
        }
        retried => retried?,
    };
    state.scheduler.wake();
    Ok(Json(retried.into()))
}

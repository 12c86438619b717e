//! Submitting a task: checked against its definition, durable before the answer.

use super::State;
use super::error::{Code, Problem};
use super::extract::{KeyedBody, Name};
use super::state::check_payload;
use super::wire::{Accepted, Submitted, TaskRecord};
use crate::model::ids::TaskId;
use crate::model::request::TaskRequest;
use crate::model::task::{NewTask, Origin};
use crate::store::StoreError;
use axum::Json;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};
use std::time::Duration;

/// The longest that a client may wait for a task's end, in seconds.
const MAX_WAIT: u64 = 300;

/// Submits a task
///
/// It runs at once, or at `trigger_time`. The answer means that it is on disk and will run. With `Prefer: wait=N` the answer is the
/// task's record at its end, or after N seconds (at most 300) as it stands then; a host on which many wait already answers at once,
/// without `Preference-Applied`.
#[utoipa::path(post, path = "/task/submit", tag = "tasks", request_body = TaskRequest,
    params(("Idempotency-Key" = Option<String>, Header, description = "Sent again under the same key within 24 h, the request gets the same answer and does nothing"),
        ("Prefer" = Option<String>, Header, description = "`wait=N`: answer at the task's end, or after N seconds", example = "wait=30")),
    responses(
        (status = 200, description = "Accepted; with `Prefer: wait=N` the task", body = Submitted,
            headers(("Preference-Applied" = String, description = "`wait=N`, where the client asked to wait"))),
        (status = 400), (status = 404), (status = 408), (status = 409), (status = 413), (status = 415), (status = 422), (status = 503),
    ))]
pub(crate) async fn submit(
    state: State,
    headers: HeaderMap,
    KeyedBody {
        value: mut request,
        room,
        key,
        answered,
    }: KeyedBody<TaskRequest>,
) -> Result<Response, Problem> {
    let wait = wait_of(&headers)?;
    if let Some(before) = answered.and_then(|id| id.parse().ok()) {
        return told(&state, before, wait).await;
    }
    let handler = state.handler(&request.task_name)?;
    let now = state.clock.now();
    request.check(&handler.definition, now)?;
    check_payload(&handler, &mut request.payload).await?;
    let task = NewTask::from_submission(request.into(), Some(&handler.definition), Origin::Submitted, now);
    let id = task.id;
    // Listens before the task exists, so that its end cannot be missed. Where too many wait already, nobody is kept waiting.
    let waiter = wait.and_then(|wait| Some((wait, state.place_to_wait()?, state.monitor.wait_for(id))));
    let kept = key.as_ref().map(|key| key.with_answer(id.to_string()));
    let first = match state.scheduler.submit(task, kept, handler).await {
        // Carried out meanwhile by a request whose client hung up.
        Err(StoreError::Answered(before)) => Name(before).id("task")?,
        submitted => submitted?,
    };
    drop((room, key));
    if first != id {
        return told(&state, first, wait).await;
    }
    let Some((wait, _place, mut waiter)) = waiter else {
        return Ok(Json(Submitted::Accepted(Accepted::new(id, "scheduled"))).into_response());
    };
    tokio::select! {
        () = waiter.ended() => {}
        () = tokio::time::sleep(Duration::from_secs(wait)) => {}
        () = state.stopped() => {}
    }
    waited(&state, id, wait).await
}

/// The answer where the task was there before: it may have ended.
async fn told(state: &State, id: TaskId, wait: Option<u64>) -> Result<Response, Problem> {
    let waiter = wait.and_then(|wait| Some((wait, state.place_to_wait()?, state.monitor.wait_for(id))));
    let Some((wait, _place, mut waiter)) = waiter else {
        return Ok(Json(Submitted::Accepted(Accepted::new(id, "scheduled"))).into_response());
    };
    if !state.store.task(id).await?.status.is_final() {
        tokio::select! {
            () = waiter.ended() => {}
            () = tokio::time::sleep(Duration::from_secs(wait)) => {}
            () = state.stopped() => {}
        }
    }
    waited(state, id, wait).await
}

/// The task as it stands after the wait.
async fn waited(state: &State, id: TaskId, wait: u64) -> Result<Response, Problem> {
    let task = state.store.task(id).await?;
    let live = state.view(std::slice::from_ref(&task)).await?.live(&task);
    let applied = HeaderValue::from_str(&format!("wait={wait}")).unwrap_or(HeaderValue::from_static("wait"));
    let headers = [(HeaderName::from_static("preference-applied"), applied)];
    Ok((headers, Json(Submitted::Task(TaskRecord::whole(task, live)))).into_response())
}

/// The seconds of `Prefer: wait=N` (RFC 7240), among other preferences, which are not ours.
fn wait_of(headers: &HeaderMap) -> Result<Option<u64>, Problem> {
    let values = headers.get_all("prefer").iter().filter_map(|value| value.to_str().ok());
    let preferences = values.flat_map(|value| value.split([',', ';']));
    for preference in preferences {
        let (name, value) = preference.split_once('=').unwrap_or((preference, ""));
        if name.trim().eq_ignore_ascii_case("wait") {
            let seconds = value.trim().trim_matches('"').parse::<u64>();
            return match seconds {
                Ok(seconds) if seconds <= MAX_WAIT => Ok(Some(seconds)),
                _ => Err(Problem::new(
                    Code::InvalidValue,
                    format!("`Prefer: wait=N` takes a whole number of seconds up to {MAX_WAIT}"),
                )),
            };
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::request::{Input, RefusalKind, parse};

    fn wait(value: &'static str) -> Result<Option<u64>, Problem> {
        let name = HeaderName::from_static("prefer");
        wait_of(&HeaderMap::from_iter([(name, HeaderValue::from_static(value))]))
    }

    #[test]
    fn the_wait_is_found_among_preferences() {
        assert_eq!(wait("wait=10").unwrap(), Some(10));
        assert_eq!(wait("respond-async, wait=5; x=y").unwrap(), Some(5));
        assert_eq!(wait("return=minimal").unwrap(), None);
        assert!(wait("wait=301").is_err());
        assert!(wait("wait=soon").is_err());
    }

    #[test]
    fn members_are_checked_where_they_stand() {
        let complaint = |member: &str| {
            let refusal = parse::<TaskRequest>(format!(r#"{{"task_name":"t",{member}}}"#).as_bytes()).expect_err(member);
            (refusal.kind, refusal.pointer)
        };
        for (member, pointer) in [
            (r#""priority":0"#, "/priority"),
            (r#""priority":10"#, "/priority"),
            (r#""priority":"high""#, "/priority"),
            (r#""priority":5.5"#, "/priority"),
            (r#""trigger_time":"soon""#, "/trigger_time"),
            (r#""trigger_time":1767225600"#, "/trigger_time"),
            (r#""timeout":0"#, "/timeout"),
            (r#""timeout":-1"#, "/timeout"),
            (r#""timeout":1e300"#, "/timeout"),
            (r#""max_retries":1001"#, "/max_retries"),
            (r#""max_retries":-1"#, "/max_retries"),
            (r#""payload":[1]"#, "/payload"),
            (r#""payload":null"#, "/payload"),
            (r#""tags":["a",""]"#, "/tags/1"),
            (r#""tags":["a\nb"]"#, "/tags/0"),
            (r#""tags":"a""#, "/tags"),
        ] {
            assert_eq!(complaint(member), (RefusalKind::Value, pointer.to_owned()), "{member}");
        }
        for later in TaskRequest::LATER {
            let member = format!(r#""{later}":null"#);
            assert_eq!(complaint(&member), (RefusalKind::Later, format!("/{later}")));
        }
        let deep = |levels: usize| format!(r#""payload":{{"a":{}{}}}"#, "[".repeat(levels - 1), "]".repeat(levels - 1));
        assert_eq!(complaint(&deep(101)).1, "/payload");
        assert_eq!(complaint(&deep(200)).1, "/payload");
        parse::<TaskRequest>(format!(r#"{{"task_name":"t",{}}}"#, deep(100)).as_bytes()).unwrap();
        let many: Vec<String> = (0..33).map(|n| format!("\"{n}\"")).collect();
        assert_eq!(complaint(&format!(r#""tags":[{}]"#, many.join(","))).1, "/tags");
    }

    #[test]
    fn a_payload_keeps_its_digits() {
        let text = br#"{"task_name":"t","payload":{"n": 12345678901234567890.123456789},"tags":["b","a","b"]}"#;
        let request: TaskRequest = parse(text).unwrap();
        assert_eq!(request.payload.text, r#"{"n": 12345678901234567890.123456789}"#);
        assert_eq!(request.tags, ["b", "a"]);
        let bare: TaskRequest = parse(br#"{"task_name":"t","priority":null,"trigger_time":null}"#).unwrap();
        assert_eq!(bare.payload.text, "{}");
    }
}

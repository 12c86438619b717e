//! Schedules: rules about time that create tasks.

use super::State;
use super::error::Problem;
use super::extract::{JsonBody, Name, NoBody, Query, SMALL};
use super::page::{self, Listed};
use super::state::check_payload;
use super::tasks::PageQuery;
use super::wire::{Accepted, Backfilled, FireRecord, Previewed, Removed, ScheduleEditBody, ScheduleRecord};
use crate::model::ids::ScheduleId;
use crate::model::request::{BackfillRequest, CronTaskRequest, PreviewRequest, ScheduleEdit};
use crate::model::schedule::{Schedule, declared, text};
use crate::model::unique;
use crate::store::{PageRequest, ScheduleError, StoreError};
use axum::Json;
use axum::extract::OriginalUri;
use sha2::{Digest, Sha256};

/// Creates a schedule, or updates the one of its name
///
/// `task_id` in the answer is the schedule's id. An update keeps its pause, its cursor, and what an operator edited as far as
/// it fits: what does not is dropped, and an `edit` alert tells so. Sent twice it is the same schedule: an `Idempotency-Key` is not needed
/// and not looked at.
#[utoipa::path(post, path = "/task/cron", tag = "schedules", request_body = CronTaskRequest,
    responses((status = 200, description = "On disk", body = Accepted), (status = 400), (status = 404), (status = 408), (status = 409), (status = 413),
        (status = 415), (status = 422), (status = 503)))]
pub(crate) async fn create(state: State, JsonBody(mut request, _room): JsonBody<CronTaskRequest>) -> Result<Json<Accepted>, Problem> {
    let handler = state.handler(&request.task_name)?;
    check_payload(&handler, &mut request.payload).await?;
    let name = request.name.clone().unwrap_or_else(|| name_of(&request));
    let id = state.scheduler.put_schedule(&name, &request).await?;
    Ok(Json(Accepted::new(id, "scheduled")))
}

/// Of all that a schedule is, in whatever order its tags are given; of an expression alone without more.
fn name_of(request: &CronTaskRequest) -> String {
    let mut members = declared(request);
    members.retain(|member, _| !["task_name", "payload", "cron_expression"].contains(&member.as_str()));
    let mut tags = request.tags.clone();
    tags.sort();
    if let Some(kept) = members.get_mut("tags") {
        *kept = serde_json::value::to_raw_value(&tags).unwrap_or_default();
    }
    let more = if members.is_empty() { String::new() } else { text(&members) };
    let when = format!("{}{more}", request.cron_expression.as_deref().unwrap_or_default());
    derived_name(&request.task_name, [&when, &unique::text(&request.payload.text)])
}

/// The name of a rule that was given none: the same for the same content, so that a service that registers its rules at every
/// start does not pile them up.
pub(super) fn derived_name(task_name: &str, content: [&str; 2]) -> String {
    let mut hash = Sha256::new();
    for part in [task_name, content[0], content[1]] {
        hash.update(part.len().to_be_bytes());
        hash.update(part);
    }
    let digits: String = hash.finalize().iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    // A task name may be as long as the whole name.
    let stem: String = task_name.chars().take(100).collect();
    format!("{stem}-{digits}")
}

/// Lists schedules, oldest first
#[utoipa::path(get, path = "/schedules", tag = "schedules", params(PageQuery),
    responses((status = 200, description = "Oldest first", body = Vec<ScheduleRecord>), (status = 400), (status = 503)))]
pub(crate) async fn list(
    state: State,
    OriginalUri(uri): OriginalUri,
    Query(query): Query<PageQuery>,
) -> Result<Listed<Vec<ScheduleRecord>>, Problem> {
    let page = state.store.schedules(query.request()?).await?;
    Ok(Listed {
        link: page::link(&uri, page.next.as_deref()),
        body: records(page.items).await?,
    })
}

/// Their records; made aside where they are long.
async fn records(schedules: Vec<Schedule>) -> Result<Vec<ScheduleRecord>, Problem> {
    let bytes: usize = schedules.iter().map(Schedule::bytes).sum();
    let records = move || schedules.into_iter().map(ScheduleRecord::from).collect();
    if bytes <= SMALL {
        return Ok(records());
    }
    let made = tokio::task::spawn_blocking(records).await;
    Ok(made.map_err(|error| StoreError::Unavailable(error.to_string()))?)
}

/// Lines of its history that the record of a schedule shows.
const FIRES_SHOWN: usize = 10;

/// A schedule's record with its last fires.
pub(super) async fn whole(state: &State, schedule: Schedule) -> Result<ScheduleRecord, Problem> {
    let page = PageRequest {
        limit: FIRES_SHOWN,
        cursor: None,
    };
    let fires = state.store.fires(schedule.id, page).await?;
    let mut record = records(vec![schedule]).await?.remove(0);
    record.fires = Some(fires.items.into_iter().map(Into::into).collect());
    Ok(record)
}

/// The schedule that a path names by its id or its name.
async fn find(state: &State, name: &Name) -> Result<ScheduleId, Problem> {
    match name.0.parse() {
        Ok(id) => Ok(id),
        Err(_) => {
            let schedule = state.store.schedule_named(&name.0).await;
            Ok(schedule.map_err(|error| Problem::of_store(error, "schedule", &name.0))?.id)
        }
    }
}

/// Why a schedule or trigger cannot be removed.
pub(super) async fn not_removed(state: &State, error: StoreError, what: &str, name: &Name) -> Problem {
    if let (StoreError::NotFound, Ok(id)) = (&error, name.0.parse()) {
        match state.store.was_removed(id).await {
            Ok(true) => return StoreError::Conflict("the schedule or trigger was removed before".into()).into(),
            Ok(false) => {}
            Err(error) => return error.into(),
        }
    }
    Problem::of_store(error, what, &name.0)
}

fn problem(error: ScheduleError, name: &Name) -> Problem {
    match error {
        ScheduleError::Store(error) => Problem::of_store(error, "schedule", &name.0),
        error => error.into(),
    }
}

/// Shows a schedule
#[utoipa::path(get, path = "/schedule/{id}", tag = "schedules", params(("id" = String, Path, description = "Id or name of a schedule; what reads as a UUID is an id")),
    responses((status = 200, description = "Its record, with its last fires", body = ScheduleRecord), (status = 404), (status = 503)))]
pub(crate) async fn get(state: State, name: Name) -> Result<Json<ScheduleRecord>, Problem> {
    let schedule = state.store.schedule(find(&state, &name).await?).await;
    let schedule = schedule.map_err(|error| Problem::of_store(error, "schedule", &name.0))?;
    Ok(Json(whole(&state, schedule).await?))
}

/// Changes members of a schedule
///
/// A JSON merge patch (RFC 7396) of its members, the payload's among them, at every level. The changes lie over what is declared, now and
/// whenever it is declared again, and null takes one back; all of them have 1 MiB at most. What a later declaration leaves no room for is
/// dropped, and an `edit` alert tells so. `paused` pauses and resumes it.
#[utoipa::path(patch, path = "/schedule/{id}", tag = "schedules", params(("id" = String, Path, description = "Id or name of a schedule; what reads as a UUID is an id")),
    request_body = ScheduleEditBody,
    responses((status = 200, description = "Its record", body = ScheduleRecord), (status = 400), (status = 404), (status = 408), (status = 409),
        (status = 413), (status = 415), (status = 422), (status = 503)))]
pub(crate) async fn edit(
    state: State,
    name: Name,
    JsonBody(patch, _room): JsonBody<ScheduleEdit>,
) -> Result<Json<ScheduleRecord>, Problem> {
    let id = find(&state, &name).await?;
    if patch.members.get("payload").is_some_and(|given| given.get() != "null") {
        let schedule = state.store.schedule(id).await;
        let schedule = schedule.map_err(|error| Problem::of_store(error, "schedule", &name.0))?;
        state.handler(&schedule.task_name)?;
    }
    let edited = state
        .scheduler
        .edit_schedule(id, &patch)
        .await
        .map_err(|error| problem(error, &name))?;
    Ok(Json(whole(&state, edited).await?))
}

/// Removes a schedule
///
/// Tasks that it made stay. One that was removed before is a 409 under its id, and not known under its name.
#[utoipa::path(delete, path = "/schedule/{id}", tag = "schedules", params(("id" = String, Path, description = "Id or name of a schedule; what reads as a UUID is an id")),
    responses((status = 200, description = "Removed", body = Removed), (status = 400), (status = 404), (status = 409), (status = 503)))]
pub(crate) async fn remove(state: State, name: Name, _: NoBody) -> Result<Json<Removed>, Problem> {
    let id = find(&state, &name).await?;
    match state.store.remove_schedule(id, state.clock.now()).await {
        Ok(()) => Ok(Json(Removed::new(id))),
        Err(error) => Err(not_removed(&state, error, "schedule", &name).await),
    }
}

/// Pauses a schedule
///
/// Its fires make no tasks until it is resumed; those left out are recorded then. Pausing twice changes nothing.
#[utoipa::path(post, path = "/schedule/{id}/pause", tag = "schedules", params(("id" = String, Path, description = "Id or name of a schedule; what reads as a UUID is an id")),
    responses((status = 200, description = "Its record", body = ScheduleRecord), (status = 400), (status = 404), (status = 409), (status = 503)))]
pub(crate) async fn pause(state: State, name: Name, _: NoBody) -> Result<Json<ScheduleRecord>, Problem> {
    let paused = state.scheduler.pause_schedule(find(&state, &name).await?).await;
    Ok(Json(whole(&state, paused.map_err(|error| problem(error, &name))?).await?))
}

/// Lets a paused schedule fire again
///
/// From its next fire on.
#[utoipa::path(post, path = "/schedule/{id}/resume", tag = "schedules", params(("id" = String, Path, description = "Id or name of a schedule; what reads as a UUID is an id")),
    responses((status = 200, description = "Its record", body = ScheduleRecord), (status = 400), (status = 404), (status = 409), (status = 503)))]
pub(crate) async fn resume(state: State, name: Name, _: NoBody) -> Result<Json<ScheduleRecord>, Problem> {
    let resumed = state.scheduler.resume_schedule(find(&state, &name).await?).await;
    Ok(Json(whole(&state, resumed.map_err(|error| problem(error, &name))?).await?))
}

/// Fires a schedule now
///
/// Beside its rule, also while it is paused, with the payload that the schedule has. Its `overlap` holds: where that leaves the fire out, the answer is a 409. A payload that does not fit
/// the task's schema any more is a 422, and makes no task.
#[utoipa::path(post, path = "/schedule/{id}/run", tag = "schedules", params(("id" = String, Path, description = "Id or name of a schedule; what reads as a UUID is an id")),
    responses((status = 200, description = "The task", body = Accepted), (status = 400), (status = 404), (status = 409), (status = 422), (status = 503)))]
pub(crate) async fn run(state: State, name: Name, _: NoBody) -> Result<Json<Accepted>, Problem> {
    let task = state.scheduler.run_schedule(find(&state, &name).await?).await;
    Ok(Json(Accepted::new(task.map_err(|error| problem(error, &name))?, "scheduled")))
}

/// Makes the missing fires of a stretch of time
///
/// Those that were made before are left as they are. At most 1,000. Their tasks run one after the other, unless the schedule's `overlap`
/// is `allow`. A payload that does not fit the task's schema any more is a 422, and makes none.
#[utoipa::path(post, path = "/schedule/{id}/backfill", tag = "schedules", params(("id" = String, Path, description = "Id or name of a schedule; what reads as a UUID is an id")),
    request_body = BackfillRequest,
    responses((status = 200, description = "What became of each", body = Backfilled), (status = 400), (status = 404), (status = 408), (status = 413),
        (status = 409), (status = 415), (status = 422), (status = 503)))]
pub(crate) async fn backfill(
    state: State,
    name: Name,
    JsonBody(request, _room): JsonBody<BackfillRequest>,
) -> Result<Json<Backfilled>, Problem> {
    let fires = state.scheduler.backfill(find(&state, &name).await?, request).await;
    Ok(Json(fires.map_err(|error| problem(error, &name))?.into()))
}

/// Lists what a schedule did, latest first
///
/// Fires that made a task, and those that made none with the reason.
#[utoipa::path(get, path = "/schedule/{id}/fires", tag = "schedules", params(("id" = String, Path, description = "Id or name of a schedule; what reads as a UUID is an id"), PageQuery),
    responses((status = 200, description = "Latest first", body = Vec<FireRecord>), (status = 400), (status = 404), (status = 503)))]
pub(crate) async fn fires(
    state: State,
    name: Name,
    OriginalUri(uri): OriginalUri,
    Query(query): Query<PageQuery>,
) -> Result<Listed<Vec<FireRecord>>, Problem> {
    let page = state.store.fires(find(&state, &name).await?, query.request()?).await;
    let page = page.map_err(|error| Problem::of_store(error, "schedule", &name.0))?;
    Ok(Listed {
        link: page::link(&uri, page.next.as_deref()),
        body: page.items.into_iter().map(Into::into).collect(),
    })
}

/// Looks ahead: when a schedule would fire
///
/// Nothing is kept of it. What never fires is refused as where it is created; where `after` is given and later than its last fire, the list
/// is empty.
#[utoipa::path(post, path = "/schedule/preview", tag = "schedules", request_body = PreviewRequest,
    responses((status = 200, description = "Strictly after `after`", body = Previewed), (status = 400), (status = 408), (status = 413), (status = 415),
        (status = 503)))]
pub(crate) async fn preview(state: State, JsonBody(request, _room): JsonBody<PreviewRequest>) -> Result<Json<Previewed>, Problem> {
    let fires = state.scheduler.preview(request).await?;
    Ok(Json(Previewed { fires }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::name;
    use crate::model::request::parse;

    #[test]
    fn a_derived_name_depends_on_the_content_alone() {
        let first = derived_name("settlement", ["@daily", "{}"]);
        assert_eq!(first, derived_name("settlement", ["@daily", "{}"]));
        assert!(
            first.starts_with("settlement-") && first.len() == "settlement-".len() + 12,
            "{first}"
        );
        assert_ne!(first, derived_name("settlement", ["@hourly", "{}"]));
        assert_ne!(first, derived_name("settlement", ["@daily", r#"{"a":1}"#]));
        assert_ne!(derived_name("a", ["bc", ""]), derived_name("a", ["b", "c"]));
        assert!(name::is_valid(&derived_name(&"x".repeat(128), ["", ""])));
    }

    #[test]
    fn payloads_that_differ_in_one_digit_have_names_of_their_own() {
        let name = |payload: &str| {
            let text = format!(r#"{{"task_name":"t","cron_expression":"@daily","payload":{payload}}}"#);
            name_of(&parse(text.as_bytes()).unwrap())
        };
        let long = r#"{"n":12345678901234567890.12345678901,"a":1}"#;
        assert_ne!(name(long), name(&long.replace("8901,", "8902,")));
        assert_eq!(name(long), name(r#"{ "a": 1, "n": 12345678901234567890.12345678901 }"#));
    }
}

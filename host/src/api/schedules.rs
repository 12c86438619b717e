//! Schedules: cron rules that create tasks.

use super::State;
use super::error::Problem;
use super::extract::{JsonBody, Name, Query};
use super::page::{self, Listed};
use super::state::check_payload;
use super::tasks::PageQuery;
use super::wire::{Accepted, Removed, ScheduleRecord};
use crate::model::cron::Cron;
use crate::model::ids::ScheduleId;
use crate::model::request::CronTaskRequest;
use crate::model::schedule::Schedule;
use axum::Json;
use axum::extract::OriginalUri;
use sha2::{Digest, Sha256};

/// Creates a schedule, or updates the one of its name
///
/// `task_id` in the answer is the schedule's id.
#[utoipa::path(post, path = "/task/cron", tag = "schedules", request_body = CronTaskRequest,
    responses((status = 200, description = "On disk", body = Accepted), (status = 400), (status = 404), (status = 408), (status = 413), (status = 415),
        (status = 422), (status = 503)))]
pub(crate) async fn create(state: State, JsonBody(mut request, _room): JsonBody<CronTaskRequest>) -> Result<Json<Accepted>, Problem> {
    let cron = Cron::parse(&request.cron_expression).map_err(|error| Problem::invalid("/cron_expression", error.to_string()))?;
    if request.start.zip(request.end).is_some_and(|(start, end)| start > end) {
        return Err(Problem::invalid("/end", "must not be before start"));
    }
    let handler = state.handler(&request.task_name)?;
    check_payload(&handler, &mut request.payload).await?;
    let now = state.clock.now();
    let content = [request.cron_expression.as_str(), &request.payload.value.to_string()];
    let mut schedule = Schedule {
        id: ScheduleId::new(now),
        name: request.name.unwrap_or_else(|| derived_name(&request.task_name, content)),
        task_name: request.task_name,
        cron_expression: request.cron_expression,
        payload: request.payload.text,
        priority: request.priority,
        tags: request.tags,
        start: request.start,
        end: request.end,
        created_at: now,
        next_fire: None,
        last_fire: None,
        last_task: None,
    };
    schedule.next_fire = schedule.fire_after(&cron, now);
    if schedule.next_fire.is_none() {
        return Err(Problem::invalid("/cron_expression", "never fires between start and end"));
    }
    let id = state.store.put_schedule(schedule).await?;
    state.scheduler.wake();
    Ok(Json(Accepted::new(id, "scheduled")))
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
        body: page.items.into_iter().map(Into::into).collect(),
    })
}

/// Shows a schedule
#[utoipa::path(get, path = "/schedule/{id}", tag = "schedules", params(("id" = String, Path, description = "Id of a schedule")),
    responses((status = 200, description = "Its record", body = ScheduleRecord), (status = 404), (status = 503)))]
pub(crate) async fn get(state: State, name: Name) -> Result<Json<ScheduleRecord>, Problem> {
    let schedule = state.store.schedule(name.id("schedule")?).await;
    let schedule = schedule.map_err(|error| Problem::of_store(error, "schedule", &name.0))?;
    Ok(Json(schedule.into()))
}

/// Removes a schedule
///
/// Tasks that it made stay.
#[utoipa::path(delete, path = "/schedule/{id}", tag = "schedules", params(("id" = String, Path, description = "Id of a schedule")),
    responses((status = 200, description = "Removed", body = Removed), (status = 404), (status = 503)))]
pub(crate) async fn remove(state: State, name: Name) -> Result<Json<Removed>, Problem> {
    let id: ScheduleId = name.id("schedule")?;
    let removed = state.store.remove_schedule(id).await;
    removed.map_err(|error| Problem::of_store(error, "schedule", &name.0))?;
    Ok(Json(Removed::new(id)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::name;

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
}

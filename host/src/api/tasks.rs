//! One task, and the short lists of those that run, wait or failed.

use super::State;
use super::error::Problem;
use super::extract::{Name, NoBody, Query};
use super::page::{self, Listed, MAX_LIMIT};
use super::state::check_payload;
use super::wire::{Accepted, AnyRecord, ById, FailedTask, RunningTask, ScheduledTask, TaskRecord};
use crate::model::ids::{ScheduleId, TaskId, TriggerId};
use crate::model::request::{Input, Payload};
use crate::model::task::{Status, Task};
use crate::store::{Listing, Page, PageRequest, StoreError};
use axum::Json;
use axum::extract::OriginalUri;
use serde::Deserialize;
use std::iter::Peekable;
use utoipa::IntoParams;

const ANY: &str = "task, schedule or trigger";

/// Parameters of a list without filters.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct PageQuery {
    /// At most so many.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 1000)]
    pub(crate) limit: String,
    /// From the `Link` header of the page before.
    #[param(value_type = Option<String>)]
    pub(crate) cursor: String,
}

impl Input for PageQuery {}

impl PageQuery {
    pub(crate) fn request(&self) -> Result<PageRequest, Problem> {
        page::request(&self.limit, &self.cursor, MAX_LIMIT)
    }
}

/// Looks something up by an id that may name several kinds of thing: `None` where it names none of this kind.
async fn found<T>(lookup: impl Future<Output = Result<T, StoreError>>) -> Result<Option<T>, Problem> {
    match lookup.await {
        Ok(found) => Ok(Some(found)),
        Err(StoreError::NotFound) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Shows a task, schedule or trigger
#[utoipa::path(get, path = "/task/status/{task_id}", tag = "tasks",
    params(("task_id" = String, Path, description = "Id of a task, schedule or trigger")),
    responses((status = 200, description = "Its whole record", body = AnyRecord), (status = 404), (status = 503)))]
pub(crate) async fn status(state: State, name: Name) -> Result<Json<AnyRecord>, Problem> {
    let id: TaskId = name.id(ANY)?;
    if let Some(mut task) = found(state.store.task(id)).await? {
        hold_by_pause(&state, &mut task).await?;
        let live = state.view().live(&task);
        return Ok(Json(AnyRecord::Task(TaskRecord::whole(task, live))));
    }
    if let Some(schedule) = found(state.store.schedule(name.id(ANY)?)).await? {
        return Ok(Json(AnyRecord::Schedule(super::schedules::whole(&state, schedule).await?)));
    }
    match found(state.store.trigger(name.id(ANY)?)).await? {
        Some(trigger) => Ok(Json(AnyRecord::Trigger(trigger.into()))),
        None => Err(Problem::unknown(ANY, &name.0)),
    }
}

/// While the whole queue is paused, due tasks stay where they are: only the record says what holds them.
async fn hold_by_pause(state: &State, task: &mut Task) -> Result<(), Problem> {
    let is_due = task.status == Status::Pending && task.due_at.is_none_or(|at| at <= state.clock.now());
    if is_due && task.held.is_none() && state.store.pauses().await?.iter().any(|(name, _)| name.is_empty()) {
        task.held = Some("the whole queue is paused".into());
    }
    Ok(())
}

/// Cancels a task, or removes a schedule or trigger
///
/// A running task is stopped. One that has ended already is a 409, and so is a schedule or trigger that was removed.
#[utoipa::path(delete, path = "/task/cancel/{task_id}", tag = "tasks",
    params(("task_id" = String, Path, description = "Id of a task, schedule or trigger")),
    responses((status = 200, description = "Cancelled", body = Accepted), (status = 400), (status = 404), (status = 409), (status = 503)))]
pub(crate) async fn cancel(state: State, name: Name, _: NoBody) -> Result<Json<Accepted>, Problem> {
    let id: TaskId = name.id(ANY)?;
    let cancelled = Accepted::new(id, "cancelled");
    if let Some(lease) = found(state.store.cancel(id, state.clock.now())).await? {
        if let Some(lease) = lease {
            state.scheduler.stop_attempt(lease);
        }
        state.scheduler.wake(); // what waited for its end may be due
        return Ok(Json(cancelled));
    }
    let (schedule, trigger): (ScheduleId, TriggerId) = (name.id(ANY)?, name.id(ANY)?);
    let now = state.clock.now();
    if found(state.store.remove_schedule(schedule, now)).await?.is_some()
        || found(state.store.remove_trigger(trigger, now)).await?.is_some()
    {
        state.scheduler.wake();
        return Ok(Json(cancelled));
    }
    if state.store.was_removed(id).await? {
        return Err(StoreError::Conflict("the schedule or trigger was removed before".into()).into());
    }
    Err(Problem::unknown(ANY, &name.0))
}

/// Submits a failed task again
///
/// A new task with the same payload, linked by `retry_of`; what its handler sees as `idempotency_key` stays the same.
#[utoipa::path(post, path = "/task/{task_id}/retry", tag = "tasks",
    params(("task_id" = String, Path, description = "Id of a failed task")),
    responses((status = 200, description = "The new task", body = Accepted), (status = 400), (status = 404), (status = 409), (status = 422), (status = 503)))]
pub(crate) async fn retry(state: State, name: Name, _: NoBody) -> Result<Json<Accepted>, Problem> {
    let id: TaskId = name.id("task")?;
    let task = state.store.task(id).await;
    check_again(&state, task.map_err(|error| Problem::of_store(error, "task", &name.0))?).await?;
    let now = state.clock.now();
    let new_id = TaskId::new(now);
    let retried = state.store.retry(id, new_id, now).await;
    retried.map_err(|error| Problem::of_store(error, "task", &name.0))?;
    state.scheduler.wake();
    Ok(Json(Accepted {
        retry_of: Some(id.to_string()),
        ..Accepted::new(new_id, "scheduled")
    }))
}

/// A task of a rule may never have fitted its schema, and the schema may have changed since. Without a handler nobody can tell.
async fn check_again(state: &State, task: Task) -> Result<(), Problem> {
    let snapshot = state.registry.snapshot();
    let handler = snapshot.handlers.get(&task.name).filter(|_| task.status == Status::Failed);
    let Some((handler, value)) = handler.zip(serde_json::from_str(&task.payload).ok()) else {
        return Ok(());
    };
    let text = task.payload;
    check_payload(handler, &mut Payload { value, text }).await
}

/// Takes a failed task off the list of failures
///
/// Its record and its place in the history stay.
#[utoipa::path(delete, path = "/tasks/failed/{task_id}", tag = "tasks",
    params(("task_id" = String, Path, description = "Id of a failed task")),
    responses((status = 200, description = "Dismissed", body = Accepted), (status = 400), (status = 404), (status = 409), (status = 503)))]
pub(crate) async fn dismiss(state: State, name: Name, _: NoBody) -> Result<Json<Accepted>, Problem> {
    let id: TaskId = name.id("task")?;
    let dismissed = state.store.dismiss(id).await;
    dismissed.map_err(|error| Problem::of_store(error, "task", &name.0))?;
    Ok(Json(Accepted::new(id, "dismissed")))
}

/// Lists running tasks, by id
#[utoipa::path(get, path = "/tasks/running", tag = "tasks", params(PageQuery),
    responses((status = 200, description = "By id, longest running first", body = HashMap<String, RunningTask>), (status = 400), (status = 503)))]
pub(crate) async fn running(
    state: State,
    OriginalUri(uri): OriginalUri,
    Query(query): Query<PageQuery>,
) -> Result<Listed<ById<RunningTask>>, Problem> {
    let page = state.store.tasks(Listing::Running, query.request()?).await?;
    let items = page.items.into_iter().map(|task| {
        let progress = state.monitor.progress(task.id);
        (task.id.to_string(), RunningTask::new(task, progress))
    });
    Ok(Listed {
        body: ById(items.collect()),
        link: page::link(&uri, page.next.as_deref()),
    })
}

/// Lists failed tasks, by id
///
/// Those that wait for a retry, and those that failed for good and were not dismissed.
#[utoipa::path(get, path = "/tasks/failed", tag = "tasks", params(PageQuery),
    responses((status = 200, description = "By id, latest failure first", body = HashMap<String, FailedTask>), (status = 400), (status = 503)))]
pub(crate) async fn failed(
    state: State,
    OriginalUri(uri): OriginalUri,
    Query(query): Query<PageQuery>,
) -> Result<Listed<ById<FailedTask>>, Problem> {
    let page = state.store.tasks(Listing::Failed, query.request()?).await?;
    let view = state.view();
    let items = page.items.into_iter().map(|task| {
        let max_retries = view.max_retries(&task);
        (task.id.to_string(), FailedTask::new(task, max_retries))
    });
    Ok(Listed {
        body: ById(items.collect()),
        link: page::link(&uri, page.next.as_deref()),
    })
}

/// Lists what will run, by time
///
/// Waiting tasks, and the next fire of each schedule.
#[utoipa::path(get, path = "/tasks/scheduled", tag = "tasks", params(PageQuery),
    responses((status = 200, description = "By trigger time", body = Vec<ScheduledTask>), (status = 400), (status = 503)))]
pub(crate) async fn scheduled(
    state: State,
    OriginalUri(uri): OriginalUri,
    Query(query): Query<PageQuery>,
) -> Result<Listed<Vec<ScheduledTask>>, Problem> {
    let request = query.request()?;
    let place = Place::read(request.cursor.as_deref())?;
    let limit = request.limit;
    let now = state.clock.now();
    // Fires that lie before the place have been listed; as many more are asked for as may come before it.
    let fires = state.store.upcoming_schedules(place.fires + limit + 1).await?;
    let fires = fires
        .into_iter()
        .filter_map(ScheduledTask::of_schedule)
        .filter(|fire| !place.is_past(fire));
    let mut tasks = Page {
        items: Vec::new(),
        next: None,
    };
    if !place.no_more_tasks {
        tasks = waiting(&state, place.tasks.clone(), limit).await?;
    }
    let listed = tasks.items.len();
    let after: Vec<String> = tasks.items.iter().map(|task| state.store.cursor(&Listing::Waiting, task)).collect();
    let tasks_items = tasks.items.into_iter().map(|task| ScheduledTask::of_task(task, now));
    let mut merged = Merge {
        tasks: tasks_items.peekable(),
        more_tasks: tasks.next.is_some(),
        fires: fires.peekable(),
    };
    let body: Vec<ScheduledTask> = merged.by_ref().take(limit).collect();
    let more = tasks.next.is_some() || merged.next().is_some();
    let taken = body.iter().filter(|item| item.kind == "task").count();
    let mut next = place.after(&body);
    if taken == listed {
        next.no_more_tasks |= tasks.next.is_none();
        next.tasks = tasks.next;
    } else if let Some(last) = taken.checked_sub(1) {
        next.tasks = after.into_iter().nth(last);
    }
    let link = page::link(&uri, more.then(|| next.write()).as_deref());
    Ok(Listed { body, link })
}

async fn waiting(state: &State, cursor: Option<String>, limit: usize) -> Result<Page<Task>, Problem> {
    Ok(state.store.tasks(Listing::Waiting, PageRequest { limit, cursor }).await?)
}

/// Two lists by time become one; a task goes before a fire of the same instant.
struct Merge<T: Iterator<Item = ScheduledTask>, F: Iterator<Item = ScheduledTask>> {
    tasks: Peekable<T>,
    /// Whether the store has tasks after these: what comes then may be one of them.
    more_tasks: bool,
    fires: Peekable<F>,
}

impl<T: Iterator<Item = ScheduledTask>, F: Iterator<Item = ScheduledTask>> Iterator for Merge<T, F> {
    type Item = ScheduledTask;

    fn next(&mut self) -> Option<ScheduledTask> {
        match (self.tasks.peek(), self.fires.peek()) {
            (Some(task), Some(fire)) if fire.trigger_time < task.trigger_time => self.fires.next(),
            (Some(_), _) => self.tasks.next(),
            (None, _) if self.more_tasks => None,
            (None, _) => self.fires.next(),
        }
    }
}

/// Where a page of `/tasks/scheduled` ended, in both of its lists: `fires.micros.id.cursor`, and `-` where no task is left.
#[derive(Clone, Debug, Default, PartialEq)]
struct Place {
    /// How many fires were listed, about.
    fires: usize,
    /// The last fire that was listed, or nothing.
    last_fire: Option<(i64, String)>,
    /// The store's cursor.
    tasks: Option<String>,
    no_more_tasks: bool,
}

impl Place {
    fn read(cursor: Option<&str>) -> Result<Self, Problem> {
        let Some(text) = cursor else { return Ok(Self::default()) };
        let read = || {
            let mut parts = text.splitn(4, '.');
            let fires = parts.next()?.parse().ok().filter(|n| *n <= 1_000_000)?;
            let (micros, id, tasks) = (parts.next()?, parts.next()?, parts.next()?);
            let last_fire = match id {
                "" => None,
                id => Some((micros.parse().ok()?, id.to_owned())),
            };
            Some(Self {
                fires,
                last_fire,
                no_more_tasks: tasks == "-",
                tasks: Some(tasks.to_owned()).filter(|text| !text.is_empty() && text != "-"),
            })
        };
        read().ok_or_else(|| StoreError::BadCursor.into())
    }

    fn write(&self) -> String {
        let (micros, id) = self.last_fire.clone().unwrap_or_default();
        let tasks = if self.no_more_tasks {
            "-"
        } else {
            self.tasks.as_deref().unwrap_or_default()
        };
        format!("{}.{micros}.{id}.{tasks}", self.fires)
    }

    fn key(fire: &ScheduledTask) -> (i64, String) {
        (fire.trigger_time.timestamp_micros(), fire.task_id.clone())
    }

    fn is_past(&self, fire: &ScheduledTask) -> bool {
        self.last_fire.as_ref().is_some_and(|last| Self::key(fire) <= *last)
    }

    /// The place behind these items, as far as fires go.
    fn after(&self, items: &[ScheduledTask]) -> Self {
        let fires = || items.iter().filter(|item| item.kind == "schedule");
        Self {
            fires: self.fires + fires().count(),
            last_fire: fires().next_back().map(Self::key).or_else(|| self.last_fire.clone()),
            tasks: self.tasks.clone(),
            no_more_tasks: self.no_more_tasks,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_survives_its_cursor() {
        for place in [
            Place::default(),
            Place {
                fires: 3,
                last_fire: Some((17, "id-1".into())),
                tasks: Some("a.b.c".into()),
                no_more_tasks: false,
            },
            Place {
                fires: 0,
                last_fire: None,
                tasks: None,
                no_more_tasks: true,
            },
        ] {
            assert_eq!(Place::read(Some(&place.write())).unwrap(), place);
        }
        for bad in ["x", "1.2", "1.x.id.", "-1.0..", "99999999999.0.."] {
            assert!(Place::read(Some(bad)).is_err(), "{bad}");
        }
    }
}

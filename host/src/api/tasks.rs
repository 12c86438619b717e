//! One task, and the short lists of those that run, wait or failed.

use super::State;
use super::error::Problem;
use super::extract::{Name, NoBody, Query};
use super::page::{self, Listed, MAX_LIMIT};
use super::state::check_payload;
use super::wire::{Accepted, AnyRecord, ById, FailedTask, RunningTask, ScheduledTask, TaskRecord};
use crate::model::Time;
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
    if let Some(task) = found(state.store.task(id)).await? {
        let live = state.view(std::slice::from_ref(&task)).await?.live(&task);
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
    let view = state.view(&page.items).await?;
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
    let Place { tasks, fires } = Place::read(request.cursor.as_deref())?;
    let limit = request.limit;
    let waiting = match tasks.page(limit) {
        Some(page) => state.store.tasks(Listing::Waiting, page).await?,
        None => Page::default(),
    };
    let upcoming = match fires.page(limit) {
        Some(page) => state.store.upcoming_schedules(page).await?,
        None => Page::default(),
    };
    let view = state.view(&waiting.items).await?;
    let of_task = |task| {
        let live = view.live(&task);
        (state.store.cursor(&Listing::Waiting, &task), ScheduledTask::of_task(task, &live))
    };
    let of_fire = |schedule| {
        let cursor = state.store.fire_cursor(&schedule);
        Some((cursor, ScheduledTask::of_schedule(schedule)?))
    };
    let mut tasks = Stream::new(tasks, waiting.next, waiting.items.into_iter().map(of_task).collect());
    let mut fires = Stream::new(fires, upcoming.next, upcoming.items.into_iter().filter_map(of_fire).collect());
    let body: Vec<ScheduledTask> = std::iter::from_fn(|| earlier(&mut tasks, &mut fires)).take(limit).collect();
    let next = Place {
        tasks: tasks.place(),
        fires: fires.place(),
    };
    let more = next.tasks != Part::End || next.fires != Part::End;
    let link = page::link(&uri, more.then(|| next.write()).as_deref());
    Ok(Listed { body, link })
}

/// A part of one of the two lists that become one, by time.
struct Stream {
    /// Where it goes on.
    place: Part,
    items: Peekable<std::vec::IntoIter<(String, ScheduledTask)>>,
    /// Where the store goes on after these: what comes then may be due before what the other list has.
    next: Option<String>,
}

impl Stream {
    fn new(place: Part, next: Option<String>, items: Vec<(String, ScheduledTask)>) -> Self {
        Self {
            place,
            items: items.into_iter().peekable(),
            next,
        }
    }

    fn due(&mut self) -> Option<Time> {
        self.items.peek().map(|(_, item)| item.trigger_time)
    }

    fn take(&mut self) -> Option<ScheduledTask> {
        let (cursor, item) = self.items.next()?;
        self.place = Part::After(cursor);
        Some(item)
    }

    /// Where it goes on after what was taken of it.
    fn place(mut self) -> Part {
        match (self.items.peek(), self.next) {
            (Some(_), _) => self.place,
            (None, Some(next)) => Part::After(next),
            (None, None) => Part::End,
        }
    }
}

/// The next of both; a task goes before a fire of the same instant. Nothing, where it may be one that is not here yet.
fn earlier(tasks: &mut Stream, fires: &mut Stream) -> Option<ScheduledTask> {
    match (tasks.due(), fires.due()) {
        (Some(task), Some(fire)) if fire < task => fires.take(),
        (Some(_), None) if fires.next.is_some() => None,
        (Some(_), _) => tasks.take(),
        (None, _) if tasks.next.is_some() => None,
        (None, _) => fires.take(),
    }
}

/// Where a page of `/tasks/scheduled` ended in one of its lists.
#[derive(Clone, Debug, Default, PartialEq)]
enum Part {
    #[default]
    Start,
    /// The store's cursor.
    After(String),
    End,
}

impl Part {
    fn page(&self, limit: usize) -> Option<PageRequest> {
        let cursor = match self {
            Self::Start => None,
            Self::After(cursor) => Some(cursor.clone()),
            Self::End => return None,
        };
        Some(PageRequest { limit, cursor })
    }

    fn read(text: &str) -> Self {
        match text {
            "" => Self::Start,
            "-" => Self::End,
            cursor => Self::After(cursor.to_owned()),
        }
    }

    fn write(&self) -> &str {
        match self {
            Self::Start => "",
            Self::After(cursor) => cursor,
            Self::End => "-",
        }
    }
}

/// Where it ended in both of them.
#[derive(Clone, Debug, Default, PartialEq)]
struct Place {
    fires: Part,
    tasks: Part,
}

impl Place {
    fn read(cursor: Option<&str>) -> Result<Self, Problem> {
        let Some(text) = cursor else { return Ok(Self::default()) };
        let (fires, tasks) = text.split_once('.').ok_or(StoreError::BadCursor)?;
        Ok(Self {
            fires: Part::read(fires),
            tasks: Part::read(tasks),
        })
    }

    fn write(&self) -> String {
        format!("{}.{}", self.fires.write(), self.tasks.write())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_survives_its_cursor() {
        let after = |text: &str| Part::After(text.into());
        for (fires, tasks) in [
            (Part::Start, Part::Start),
            (after("a"), after("b")),
            (Part::End, after("b")),
            (after("a"), Part::End),
        ] {
            let place = Place { fires, tasks };
            assert_eq!(Place::read(Some(&place.write())).unwrap(), place);
        }
        assert!(Place::read(Some("x")).is_err());
    }
}

//! Schedules as they are read. Their texts may be long, and what they become in memory many times that: what is long is read where it holds
//! up nobody, and its payload only where somebody looks into it.

use super::edits::Schemas;
use crate::model::attempt::InputError;
use crate::model::calendar::Calendar;
use crate::model::request::{CronTaskRequest, Refusal, RefusalKind};
use crate::model::schedule::Schedule;
use crate::model::schedule::rule::Rule;
use crate::model::schedule::timing::Timing;
use crate::store::{Store, StoreError};
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, LazyLock, mpsc};
use tokio::sync::{Semaphore, oneshot};

/// Why something was not done with a schedule. Nothing of it was kept.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ScheduleError {
    /// What was asked for is wrong; says where.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The payload does not fit the schema of the task.
    #[error("the payload does not fit the task's schema")]
    Payload(Vec<InputError>),
    /// The store refused or failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl ScheduleError {
    /// What was wrong with what was asked for, or what the store said.
    pub fn refusal(self) -> std::result::Result<Refusal, StoreError> {
        match self {
            Self::Refused(refusal) => Ok(refusal),
            Self::Payload(errors) => {
                let first = errors.into_iter().next();
                let (pointer, sentence) = first.map_or_else(Default::default, |error| (error.pointer, error.detail));
                Ok(Refusal::new(RefusalKind::Value, format!("/payload{pointer}"), sentence))
            }
            Self::Store(error) => Err(error),
        }
    }
}

pub(super) type Result<T> = std::result::Result<T, ScheduleError>;

/// Calendars that were looked up together: one has many schedules.
pub type Calendars = HashMap<String, Option<Arc<Calendar>>>;

/// Of a schedule, text up to this is read where it is; what is longer holds up others.
const SMALL: usize = 64 << 10;

/// Reads a schedule where it holds up nobody.
async fn read<T: Send + 'static>(schedule: &Schedule, how: fn(&Schedule) -> T) -> std::result::Result<T, StoreError> {
    if schedule.bytes() <= SMALL {
        return Ok(how(schedule));
    }
    let schedule = schedule.clone();
    aside(move || how(&schedule)).await
}

pub(super) async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> std::result::Result<T, StoreError> {
    let worked = tokio::task::spawn_blocking(work).await;
    worked.map_err(|error| StoreError::Unavailable(error.to_string()))
}

/// What holds of a schedule; its payload as a text alone.
pub async fn read_terms(schedule: &Schedule) -> Result<CronTaskRequest> {
    Ok(read(schedule, Schedule::terms).await??)
}

/// Long payloads that are there at once: one becomes many times its length.
static LONG: Semaphore = Semaphore::const_new(2);

/// Holds the payload of a schedule against the schema of its task.
pub async fn check_payload(schemas: &dyn Schemas, schedule: &Schedule) -> Result<()> {
    let read = |schedule: &Schedule| schedule.effective().map(|request| request.payload);
    let (payload, _turn) = if schedule.bytes() <= SMALL {
        (read(schedule)?, None)
    } else {
        let turn = LONG.acquire().await.ok();
        let schedule = schedule.clone();
        (on_one_thread(move || read(&schedule)).await??, turn)
    };
    match schemas.misfits(&schedule.task_name, payload.value).await {
        errors if errors.is_empty() => Ok(()),
        errors => Err(ScheduleError::Payload(errors)),
    }
}

type Work = Box<dyn FnOnce() + Send>;

/// Works on one thing after the other, always on the same thread: the allocator leaves each thread what it once needed, and what long
/// payloads need is much.
async fn on_one_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> std::result::Result<T, StoreError> {
    static QUEUE: LazyLock<mpsc::Sender<Work>> = LazyLock::new(|| {
        let (queue, works) = mpsc::channel::<Work>();
        // One that panics tells nothing, and the next are done as ever.
        let each = |work: Work| drop(catch_unwind(AssertUnwindSafe(work)));
        std::thread::spawn(move || works.into_iter().for_each(each));
        queue
    });
    let (tell, told) = oneshot::channel();
    let told = match QUEUE.send(Box::new(move || drop(tell.send(work())))) {
        Ok(()) => told.await.ok(),
        Err(_) => None,
    };
    told.ok_or_else(|| StoreError::Unavailable("a payload could not be read; the host's log says why".into()))
}

/// What holds of a schedule, its payload as a text alone, and its rule.
pub async fn read_schedule(store: &dyn Store, schedule: &Schedule, calendars: &mut Calendars) -> Result<(CronTaskRequest, Rule)> {
    let request = read_terms(schedule).await?;
    let rule = rule_of(store, &Timing::of(&request), calendars).await?;
    Ok((request, rule))
}

/// A schedule and when it fires, which is read once: its text may be long.
#[derive(Clone)]
pub(super) struct Read {
    pub(super) schedule: Schedule,
    pub(super) timing: std::result::Result<Timing, Refusal>,
}

impl Read {
    pub(super) async fn of(schedule: Schedule) -> std::result::Result<Self, StoreError> {
        let timing = read(&schedule, |schedule| schedule.terms().map(|request| Timing::of(&request))).await?;
        Ok(Self { schedule, timing })
    }

    pub(super) async fn rule(&self, store: &dyn Store) -> Result<Rule> {
        rule_of(store, self.timing.as_ref().map_err(Clone::clone)?, &mut Calendars::new()).await
    }

    pub(super) fn calendar(&self) -> Option<String> {
        self.timing.as_ref().ok()?.calendar.clone()
    }

    pub(super) fn with(self, change: impl FnOnce(Schedule) -> Schedule) -> Self {
        Self {
            schedule: change(self.schedule),
            ..self
        }
    }
}

/// The rule of a timing.
pub async fn rule_of(store: &dyn Store, timing: &Timing, calendars: &mut Calendars) -> Result<Rule> {
    let Some(name) = &timing.calendar else {
        return Ok(timing.rule(None)?);
    };
    if let Some(calendar) = calendars.get(name) {
        return Ok(timing.rule(calendar.clone())?);
    }
    let calendar = match store.calendar(name).await {
        Ok(found) => Some(found.calendar),
        Err(StoreError::NotFound) => None,
        Err(error) => return Err(error.into()),
    };
    calendars.insert(name.clone(), calendar.clone());
    Ok(timing.rule(calendar)?)
}

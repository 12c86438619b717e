//! Events become tasks: each trigger that listens, and whose filter lets the event through, makes one.
//!
//! All that an event makes is one transaction, whatever the number of its listeners, and so is all that events delivered together make.

use super::Context;
use super::filters::Matched;
use super::plan::new_task;
use crate::model::Time;
use crate::model::event::NewEvent;
use crate::model::ids::{EventId, TaskId, TriggerId};
use crate::model::outbox::MAX_DEPTH;
use crate::model::task::{NewTask, Origin, Submission};
use crate::model::trigger::{Terms, Trigger, merge};
use crate::registry::snapshot::Snapshot;
use crate::store::{FireEvent, Firing, Listened, StoreError};
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use tokio::sync::{Semaphore, SemaphorePermit};

/// Bytes of payloads that events delivered together may make, over all their triggers.
const MAX_FIRED: usize = 64 << 20;
/// Bytes of one of them.
const MAX_MERGED: usize = 16 << 20;
/// Bytes of payloads of all triggers that listen to events delivered together, whether they fire or not.
const MAX_READ: usize = 128 << 20;
/// KiB of payloads, read and made, of all deliveries that are at work: more wait before they read anything. Holds the largest.
const ROOM: u32 = 256 << 10;
/// Bytes of payloads that are made on the async threads; more are made aside.
const LIGHT: usize = 256 << 10;
/// Tasks that events delivered together may make: one transaction, in which nobody else writes.
const MAX_TASKS: usize = 100_000;
/// Triggers that are asked, each of them once for each event to which it listens.
const MAX_ASKED: usize = 1_000_000;
/// Tasks made between two looks at what else there is to do.
const TURN: usize = 64;

/// Why events were not delivered. Nothing of them was kept.
#[derive(Clone, Debug, thiserror::Error)]
pub enum EventError {
    /// Their tasks would be too large or too many, or one is too large for a filter; the sentence says which.
    #[error("{0}")]
    TooLarge(String),
    /// The filters of their triggers take too long; the sentence says of which type.
    #[error("{0}")]
    TooSlow(String),
    /// The store refused or failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What came of an event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delivered {
    /// It has been seen before: nothing of it was kept.
    pub duplicate: bool,
    /// It was kept, but so many events led to it that nothing was made of it.
    pub too_deep: bool,
    /// The tasks that carry its data.
    pub tasks: Vec<TaskId>,
}

/// Delivers events, all in one transaction or none.
pub(super) async fn deliver(context: &Context, events: Vec<NewEvent>) -> Result<Vec<Delivered>, EventError> {
    let now = context.clock.now();
    let room = Room::take(context, &events).await?;
    let context = context.clone();
    // Whoever asked may go: the room is taken until it is done.
    let work = async move { deliver_in(&context, events, now, room).await };
    let died = |error: tokio::task::JoinError| EventError::Store(StoreError::Unavailable(format!("the delivery died: {error}")));
    tokio::spawn(work).await.map_err(died)?
}

async fn deliver_in(context: &Context, events: Vec<NewEvent>, now: Time, _room: Room) -> Result<Vec<Delivered>, EventError> {
    let fires = prepare(context, events.into_iter().map(|event| (EventId::new(now), event)).collect()).await?;
    let too_deep: Vec<bool> = fires.iter().map(|fire| is_too_deep(&fire.event)).collect();
    let fired = context.store.fire_events(fires).await?;
    if fired.iter().any(|fired| !fired.tasks.is_empty()) {
        context.wake.notify_one();
    }
    let delivered = fired.into_iter().zip(too_deep).map(|(fired, too_deep)| Delivered {
        duplicate: fired.duplicate,
        too_deep: too_deep && !fired.duplicate,
        tasks: fired.tasks,
    });
    Ok(delivered.collect())
}

/// A place among the deliveries that are at work, by what they may hold in memory at most.
pub(super) struct Room {
    _permit: SemaphorePermit<'static>,
}

impl Room {
    pub(super) async fn take(context: &Context, events: &[NewEvent]) -> Result<Self, EventError> {
        static FREE: Semaphore = Semaphore::const_new(ROOM as usize);
        let types: HashSet<&str> = events.iter().map(|event| event.event_type.as_str()).collect();
        let mut listened = HashMap::with_capacity(types.len());
        for event_type in types {
            listened.insert(event_type, context.store.listened(event_type).await?);
        }
        let permit = FREE.acquire_many(weight(events, &listened)).await;
        let permit = permit.map_err(|error| StoreError::Unavailable(format!("no event can be delivered any more: {error}")))?;
        Ok(Self { _permit: permit })
    }
}

/// KiB that a delivery may hold: its events, the triggers that it reads, and the payloads that it makes of both.
fn weight(events: &[NewEvent], listened: &HashMap<&str, Listened>) -> u32 {
    let read: u64 = listened.values().map(|listened| listened.bytes).sum();
    let made: u64 = events.iter().fold(0, |sum, event| {
        let listened = listened.get(event.event_type.as_str()).copied().unwrap_or_default();
        sum.saturating_add(listened.bytes)
            .saturating_add(listened.triggers.saturating_mul(event.data.len() as u64))
    });
    let told: u64 = events.iter().map(|event| event.data.len() as u64).sum();
    let bytes = told + read.min(MAX_READ as u64) + made.min(MAX_FIRED as u64);
    u32::try_from(bytes >> 10).unwrap_or(ROOM).clamp(1, ROOM)
}

/// What has to be stored of events, in their order: each with a task for each trigger that it fires.
pub(super) async fn prepare(context: &Context, events: Vec<(EventId, NewEvent)>) -> Result<Vec<FireEvent>, EventError> {
    let (ids, events): (Vec<_>, Vec<_>) = events.into_iter().unzip();
    let listeners = listeners(context, &events).await?;
    let now = context.clock.now();
    let matched = context.filters.match_all(events, listeners, now, context.clock.clone()).await?;
    let bytes = check_size(&matched)?;
    let work = fire_all(context.registry.snapshot(), ids, matched, now);
    if bytes <= LIGHT {
        return Ok(work.await);
    }
    let runtime = tokio::runtime::Handle::current();
    let fires = tokio::task::spawn_blocking(move || runtime.block_on(work)).await;
    fires.map_err(|error| EventError::Store(StoreError::Unavailable(format!("the payloads could not be made: {error}"))))
}

async fn fire_all(snapshot: Arc<Snapshot>, ids: Vec<EventId>, matched: Vec<Matched>, now: Time) -> Vec<FireEvent> {
    let mut fires = Vec::with_capacity(matched.len());
    for (id, matched) in ids.into_iter().zip(matched) {
        fires.push(fire(&snapshot, id, matched, now).await);
    }
    fires
}

/// Whether nothing is made of it any more.
pub(super) fn is_too_deep(event: &NewEvent) -> bool {
    event.depth > MAX_DEPTH
}

/// What a firing needs of a trigger.
pub(super) struct Listener {
    pub(super) id: TriggerId,
    pub(super) name: String,
    pub(super) task_name: String,
    /// In force: with the edits.
    pub(super) terms: Terms,
}

impl From<Trigger> for Listener {
    fn from(trigger: Trigger) -> Self {
        let edited = match trigger.terms() {
            Cow::Owned(terms) => Some(terms),
            Cow::Borrowed(_) => None,
        };
        Self {
            id: trigger.id,
            name: trigger.name,
            task_name: trigger.task_name,
            terms: edited.unwrap_or(trigger.declared),
        }
    }
}

/// By type of event.
pub(super) type Listeners = HashMap<String, Arc<Vec<Listener>>>;

async fn listeners(context: &Context, events: &[NewEvent]) -> Result<Listeners, EventError> {
    let mut listeners = Listeners::new();
    let mut bytes = 0;
    for event in events {
        if is_too_deep(event) {
            tracing::warn!(
                event_type = event.event_type,
                depth = event.depth,
                "an event was kept and fires nothing: so many attempts and events led to it that they look like a loop"
            );
        } else if !listeners.contains_key(&event.event_type) {
            let triggers = context.store.triggers_of(&event.event_type).await?;
            bytes += triggers.iter().map(|trigger| trigger.declared.payload.len()).sum::<usize>();
            if bytes > MAX_READ {
                return Err(EventError::TooLarge(format!(
                    "the triggers that listen to these events have more than {MAX_READ} bytes of payloads; send the events in smaller batches"
                )));
            }
            listeners.insert(
                event.event_type.clone(),
                Arc::new(triggers.into_iter().map(Listener::from).collect()),
            );
        }
    }
    check_asked(events, &listeners)?;
    Ok(listeners)
}

fn check_asked(events: &[NewEvent], listeners: &Listeners) -> Result<(), EventError> {
    let of_event = |event: &NewEvent| listeners.get(&event.event_type).map_or(0, |of_type| of_type.len());
    let asked: usize = events.iter().map(of_event).sum();
    if asked > MAX_ASKED {
        return Err(EventError::TooLarge(format!(
            "{asked} triggers would have to be asked, each once for each event to which it listens; {MAX_ASKED} are allowed: send the events in smaller batches"
        )));
    }
    Ok(())
}

/// Each trigger's task holds a copy of the event: a small event with many triggers could take all memory. Returns the bytes of all.
pub(super) fn check_size(events: &[Matched]) -> Result<usize, EventError> {
    let (mut all, mut count) = (0, 0);
    for matched in events {
        for listener in matched.firing.iter().map(|index| &matched.listeners[*index]) {
            let bytes = listener.terms.payload.len() + matched.event.data.len();
            all += bytes;
            count += 1;
            if bytes > MAX_MERGED {
                return Err(EventError::TooLarge(format!(
                    "the event's data and the payload of its trigger {:?} make {bytes} bytes; {MAX_MERGED} are allowed",
                    listener.name
                )));
            }
        }
    }
    if all > MAX_FIRED {
        return Err(EventError::TooLarge(format!(
            "{count} triggers listen to this event, and their tasks would have {all} bytes of payloads; {MAX_FIRED} are allowed: send less, for example where the data can be found"
        )));
    }
    if count > MAX_TASKS {
        return Err(EventError::TooLarge(format!(
            "this would make {count} tasks at once; {MAX_TASKS} are allowed"
        )));
    }
    Ok(all)
}

async fn fire(snapshot: &Snapshot, id: EventId, matched: Matched, now: Time) -> FireEvent {
    let Matched {
        event,
        listeners,
        firing,
        skipping,
    } = matched;
    let mut firings = Vec::with_capacity(firing.len());
    for (n, index) in firing.into_iter().enumerate() {
        if n % TURN == TURN - 1 {
            tokio::task::yield_now().await;
        }
        let listener = &listeners[index];
        firings.push(Firing {
            trigger: listener.id,
            task: triggered(snapshot, listener, &event, now).await,
            debounce: listener.terms.debounce,
        });
    }
    let skipped = skipping.into_iter().map(|(index, error)| (listeners[index].id, error));
    FireEvent {
        id,
        skipped: skipped.collect(),
        event,
        now,
        firings,
    }
}

async fn triggered(snapshot: &Snapshot, listener: &Listener, event: &NewEvent, now: Time) -> NewTask {
    let terms = &listener.terms;
    let submission = Submission {
        name: listener.task_name.clone(),
        payload: merge(&terms.payload, &event.data),
        priority: terms.priority,
        tags: terms.tags.clone(),
        ..Submission::default()
    };
    let mut task = new_task(snapshot, submission, Origin::Trigger(listener.id), now).await;
    task.depth = event.depth;
    if let Some(debounce) = terms.debounce.filter(|_| task.stillborn.is_none()) {
        task.trigger_time = now + debounce;
    }
    task
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delivery_weighs_what_it_may_hold_and_never_more_than_there_is() {
        let event = |bytes: usize| NewEvent {
            event_type: "e".into(),
            source: None,
            time: None,
            data: "x".repeat(bytes),
            depth: 0,
        };
        let listened = |bytes: u64, triggers: u64| HashMap::from([("e", Listened { bytes, triggers })]);
        let kib = |kib: u64| kib << 10;
        for (events, listened, expected) in [
            (vec![event(2)], HashMap::new(), 1),
            (vec![event(10 << 10)], HashMap::new(), 10),
            (vec![event(10 << 10); 2], listened(kib(8), 3), 20 + 8 + 2 * (8 + 30)),
            (vec![event(2)], listened(kib(1 << 17), 1), (128 + 64) << 10),
            (vec![event(2)], listened(u64::MAX, u64::MAX), (128 + 64) << 10),
            (vec![event(1 << 20); 200], listened(u64::MAX, u64::MAX), ROOM),
        ] {
            assert_eq!(weight(&events, &listened), expected);
        }
    }
}

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
use crate::store::{FireEvent, Firing, StoreError};
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

/// Bytes of payloads that events delivered together may make, over all their triggers.
const MAX_FIRED: usize = 64 << 20;
/// Bytes of one of them.
const MAX_MERGED: usize = 16 << 20;
/// Bytes of payloads of all triggers that listen to events delivered together, whether they fire or not.
const MAX_READ: usize = 256 << 20;
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

/// What has to be stored of events, in their order: each with a task for each trigger that it fires.
pub(super) async fn prepare(context: &Context, events: Vec<(EventId, NewEvent)>) -> Result<Vec<FireEvent>, EventError> {
    let (ids, events): (Vec<_>, Vec<_>) = events.into_iter().unzip();
    let listeners = listeners(context, &events).await?;
    let now = context.clock.now();
    let matched = context.filters.match_all(events, listeners, now, context.clock.clone()).await?;
    check_size(&matched)?;
    let snapshot = context.registry.snapshot();
    let mut fires = Vec::with_capacity(matched.len());
    for (id, matched) in ids.into_iter().zip(matched) {
        fires.push(fire(&snapshot, id, matched, now).await);
    }
    Ok(fires)
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

/// Each trigger's task holds a copy of the event: a small event with many triggers could take all memory.
pub(super) fn check_size(events: &[Matched]) -> Result<(), EventError> {
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
    Ok(())
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

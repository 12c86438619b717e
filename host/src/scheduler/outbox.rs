//! What attempts sent becomes real: events fire their triggers, requests become tasks.
//!
//! The store kept it in the commit that settled the attempt; here each is delivered in a commit of its own, which also takes it out of the
//! outbox. So a death in between loses nothing and doubles nothing: what is left is delivered after the next start.

use super::event::{self, EventError, Room};
use super::{Context, POLL, plan};
use crate::model::alert::{AlertType, NewAlert};
use crate::model::attempt::InputError;
use crate::model::definition::Definition;
use crate::model::event::{NewEvent, Source};
use crate::model::ids::EventId;
use crate::model::outbox::{Sent, Undelivered};
use crate::model::request::{TaskRequest, WorkflowRequest, parse};
use crate::model::task::Origin;
use crate::model::workflow::NewWorkflow;
use crate::registry::Registry;
use crate::registry::snapshot::Snapshot;
use crate::store::{Delivery, FireEvent, StoreError};
use crate::worker::{Accepts, NotAccepted};
use serde_json::Value;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio::time::MissedTickBehavior;

/// What may wait for its delivery, before attempts are told to send more later: each may send a thousand, and what it sends as many again.
const MOST: u32 = 100_000;

/// How often an event is tried whose filters are too slow, with a pause each time that doubles from a second: some eight minutes, which no
/// machine is busy for a moment. Then they are too slow for good, and would keep the filters of all others waiting.
const TRIES: u32 = 10;

/// On their way into the store at once; their writes share commits. Each may have a mebibyte.
const AT_ONCE: usize = 64;

/// Says of what an attempt submits whether it can run, as far as that shows in a moment.
pub fn accepts(registry: Registry) -> Accepts {
    Arc::new(move |task_name, payload| accept(&registry.snapshot(), task_name, payload))
}

fn accept(snapshot: &Snapshot, task_name: &str, payload: &Value) -> Result<Option<Arc<Definition>>, NotAccepted> {
    let Some(handler) = snapshot.handlers.get(task_name) else {
        if !snapshot.ready {
            let sentence = format!("the plugins are still being loaded, and none that handles {task_name:?} is yet; submit it again later");
            return Err(NotAccepted::NotYet(sentence));
        }
        let near = snapshot.near(task_name);
        let hint = near.first().map_or_else(String::new, |near| format!("; did you mean {near:?}?"));
        return Err(NotAccepted::Invalid(vec![InputError {
            pointer: "/task_name".to_owned(),
            detail: format!("no loaded plugin handles this task{hint}"),
        }]));
    };
    // A busy machine can make a moment of any check: only what is long each time is left to the delivery.
    let errors = (0..3).find_map(|_| handler.check_quickly(payload)).unwrap_or_default();
    let inside = |error: InputError| InputError {
        pointer: format!("/payload{}", error.pointer),
        ..error
    };
    match errors.is_empty() {
        true => Ok(Some(handler.definition.clone())),
        false => Err(NotAccepted::Invalid(errors.into_iter().map(inside).collect())),
    }
}

pub(super) async fn run(context: &Context, mut stop: watch::Receiver<bool>) {
    tokio::select! {
        _ = stop.wait_for(|stop| *stop) => return,
        () = plan::until_loaded(context) => {}
    }
    let mut deliveries = Deliveries::default();
    let mut look = tokio::time::interval(POLL);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut is_time = true;
    loop {
        if std::mem::take(&mut is_time) {
            see_whether_full(context).await;
        }
        deliveries.start(context).await;
        tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => return,
            _ = look.tick() => is_time = true,
            () = context.sent.notified() => {}
            () = deliveries.one_ended() => {}
        }
        if std::mem::take(&mut deliveries.failed) {
            let stopped = stop.wait_for(|stop| *stop);
            let _ = tokio::time::timeout(POLL, stopped).await; // still there, and the store is in trouble: not at once
        }
    }
}

async fn see_whether_full(context: &Context) {
    match context.store.has_undelivered(MOST).await {
        Ok(full) => {
            if full && !context.outbox_full.swap(full, Ordering::Relaxed) {
                tracing::warn!(
                    "more than {MOST} emitted events and submitted tasks wait for their delivery; attempts may send no more until then"
                );
            }
            context.outbox_full.store(full, Ordering::Relaxed);
        }
        Err(error) => tracing::error!(%error, "what waits for its delivery could not be counted"),
    }
}

/// What is on its way into the store. One whose payload takes seconds to check holds up no other.
#[derive(Default)]
struct Deliveries {
    running: JoinSet<bool>,
    places: HashMap<tokio::task::Id, i64>,
    /// Whether one could not be stored.
    failed: bool,
}

impl Deliveries {
    async fn start(&mut self, context: &Context) {
        let free = AT_ONCE.saturating_sub(self.places.len());
        if free == 0 {
            return;
        }
        let under_way = self.places.values().copied().collect();
        match context.store.undelivered(free, under_way).await {
            Ok(found) => {
                for undelivered in found {
                    let seq = undelivered.seq;
                    let task = self.running.spawn(deliver(context.clone(), undelivered));
                    self.places.insert(task.id(), seq);
                }
            }
            Err(error) => {
                tracing::error!(%error, "what attempts sent could not be read; trying again");
                self.failed = true;
            }
        }
    }

    /// Resolves when one has ended, and takes in all that have; never while none is under way.
    async fn one_ended(&mut self) {
        match self.running.join_next_with_id().await {
            Some(ended) => self.ended(ended),
            None => std::future::pending().await,
        }
        while let Some(ended) = self.running.try_join_next_with_id() {
            self.ended(ended);
        }
    }

    fn ended(&mut self, ended: Result<(tokio::task::Id, bool), JoinError>) {
        let (id, stored) = ended.unwrap_or_else(|error| (error.id(), false));
        self.places.remove(&id);
        self.failed |= !stored;
    }
}

/// Delivers one; whether it is out of the outbox.
async fn deliver(context: Context, undelivered: Undelivered) -> bool {
    let seq = undelivered.seq;
    let delivered = match delivery(&context, undelivered).await {
        Ok((delivery, _room)) => match context.store.deliver(seq, delivery).await {
            Err(StoreError::Conflict(_)) => return true, // it was delivered before
            delivered => delivered,
        },
        Err(error) => Err(error),
    };
    match delivered {
        Ok(()) => {
            context.wake.notify_one();
            true
        }
        Err(error) => {
            tracing::error!(%error, "what an attempt sent could not be delivered; trying again");
            false
        }
    }
}

/// An event that was accepted is not given up for filters that are slow for a moment.
async fn prepare(context: &Context, id: EventId, event: NewEvent) -> Result<(Vec<FireEvent>, Room), EventError> {
    let mut tried = 0;
    loop {
        let room = Room::take(context, std::slice::from_ref(&event)).await?;
        let prepared = event::prepare(context, vec![(id, event.clone())]).await;
        tried += 1;
        match prepared {
            Err(EventError::TooSlow(sentence)) if tried < TRIES => {
                tracing::warn!(event_type = event.event_type, tried, "{sentence}; trying again");
            }
            prepared => return prepared.map(|fires| (fires, room)),
        }
        drop(room);
        tokio::time::sleep(POLL * (1 << (tried - 1))).await;
    }
}

/// What has to be stored for it, and the room that it takes until then.
async fn delivery(context: &Context, undelivered: Undelivered) -> Result<(Delivery, Option<Room>), StoreError> {
    let Undelivered { parent, depth, sent, .. } = undelivered;
    let now = context.clock.now();
    let snapshot = context.registry.snapshot();
    let (what, why) = match sent {
        Sent::Event { id, event_type, data } => {
            let what = format!("event {event_type}");
            let source = Source {
                uri: format!("/task/{parent}"),
                id: id.to_string(),
            };
            let event = NewEvent {
                event_type,
                source: Some(source),
                time: None,
                data,
                depth,
            };
            match prepare(context, id, event).await {
                Ok((mut prepared, room)) => match prepared.pop() {
                    Some(event) => return Ok((Delivery::Event(event), Some(room))),
                    None => (what, "nothing was made of it".to_owned()),
                },
                Err(EventError::Store(StoreError::Conflict(sentence))) => (what, sentence),
                Err(EventError::Store(error)) => return Err(error),
                Err(error) => (what, error.to_string()),
            }
        }
        Sent::Task { id, request } => match parse::<TaskRequest>(request.as_bytes()) {
            Ok(request) => {
                let mut task = plan::new_task(&snapshot, request.into(), Origin::Task(parent), now).await;
                (task.id, task.idempotency_key, task.depth) = (id, id, depth);
                return Ok((Delivery::Task(task), None));
            }
            Err(refusal) => (format!("task {id}"), refusal.sentence),
        },
        Sent::Workflow { id, request } => {
            let handlers = &snapshot.handlers;
            let definition = |name: &str| handlers.get(name).map(|handler| handler.definition.as_ref());
            let checked = match parse::<WorkflowRequest>(request.as_bytes()) {
                Ok(mut request) => check_steps(&snapshot, &mut request).await.map(|()| request),
                Err(refusal) => Err(refusal.sentence),
            };
            let made = checked.and_then(|request| {
                let made = NewWorkflow::new(id, request, definition, (Origin::Task(parent), depth), now);
                made.map_err(|refusal| refusal.sentence)
            });
            match made {
                Ok(workflow) => return Ok((Delivery::Workflow(workflow), None)),
                Err(sentence) => (format!("workflow {id}"), sentence),
            }
        }
    };
    // It was checked when it was sent, so this is for a person: the rules have changed since, or its triggers are too many.
    let error = format!("the {what}, which it sent, could not be delivered: {why}");
    tracing::error!(task = %parent, "{error}");
    let task_name = match context.store.task(parent).await {
        Ok(task) => task.name,
        Err(StoreError::NotFound) => "unknown".to_owned(), // forgotten meanwhile
        Err(error) => return Err(error),
    };
    let alert = NewAlert {
        kind: AlertType::TaskFailure,
        task_id: parent,
        task_name,
        error: Some(error),
        execution_time: None,
        at: now,
    };
    Ok((Delivery::Refused(alert), None))
}

/// Checks what took too long when it was sent. The error is a sentence.
async fn check_steps(snapshot: &Snapshot, request: &mut WorkflowRequest) -> Result<(), String> {
    for step in &mut request.steps {
        let Some(handler) = snapshot.handlers.get(&step.task_name) else {
            continue;
        };
        let errors = match handler.check_quickly(&step.payload.value) {
            Some(errors) => errors,
            None => {
                let checked = handler.check_aside(std::mem::take(&mut step.payload.value)).await;
                checked.map(|(errors, _)| errors).unwrap_or_default()
            }
        };
        if let Some(InputError { pointer, detail }) = errors.first() {
            return Err(format!(
                "the payload of step {:?} does not fit the task's schema: {detail} at {pointer:?}",
                step.key
            ));
        }
    }
    Ok(())
}

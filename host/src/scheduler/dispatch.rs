//! Claims due tasks for free slots and hands them to the worker.

use super::{Context, POLL};
use crate::registry::snapshot::Snapshot;
use crate::store::{Claim, Handlers, Lease};
use crate::worker::Assignment;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// A pause where there is more to claim but nothing could be taken, or where the store is in trouble.
const BREATH: Duration = Duration::from_millis(20);

/// The handlers of one snapshot. Claims and releases go by the same one, or a task could be filed as held just after its
/// handler came, and stay so.
struct View {
    version: u64,
    snapshot: Arc<Snapshot>,
    handlers: Arc<Handlers>,
}

pub(super) async fn run(context: &Context, mut stop: watch::Receiver<bool>) {
    let mut changes = context.registry.changes();
    let mut view: Option<View> = None;
    let mut started = 0;
    loop {
        let version = *changes.borrow_and_update();
        if view.as_ref().is_none_or(|view| view.version != version) {
            view = look(context, version).await;
        }
        let wait = match &view {
            Some(view) => claim(context, view, &mut started).await,
            None => BREATH,
        };
        tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => return,
            () = context.wake.notified() => {}
            _ = changes.changed() => {}
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// Takes the current snapshot and offers held tasks again whose handlers it has.
async fn look(context: &Context, version: u64) -> Option<View> {
    let snapshot = context.registry.snapshot();
    let handlers = Arc::new(snapshot.handled());
    match context.store.release(handlers.clone()).await {
        Ok(()) => Some(View {
            version,
            snapshot,
            handlers,
        }),
        Err(error) => {
            tracing::error!(%error, "held tasks could not be released; trying again");
            None
        }
    }
}

/// Claims for what is free and starts what it got. Returns how long there is nothing to do.
async fn claim(context: &Context, view: &View, started: &mut u64) -> Duration {
    let free = context.worker.free();
    if free.slots == 0 {
        return POLL;
    }
    let now = context.clock.now();
    let claim = Claim {
        node: context.node,
        now,
        started: *started,
        limit: free.slots,
        memory_left: free.memory,
        handlers: view.handlers.clone(),
    };
    let claimed = match context.store.claim(claim).await {
        Ok(claimed) => claimed,
        Err(error) => {
            tracing::error!(%error, "due tasks could not be claimed; trying again");
            return POLL;
        }
    };
    let taken = claimed.tasks.len();
    for task in claimed.tasks {
        let Some(handler) = view.snapshot.handlers.get(&task.name) else {
            continue;
        };
        *started += 1;
        let lease = Lease {
            task: task.id,
            attempt: task.attempt,
            node: context.node,
        };
        let (definition, code) = (handler.definition.clone(), handler.code.clone());
        context.worker.start(Assignment {
            lease,
            task,
            definition,
            code,
            started_at: now,
        });
    }
    match (claimed.more, taken) {
        (true, 0) => BREATH,
        (true, _) => Duration::ZERO,
        (false, _) => claimed
            .next_due
            .map_or(POLL, |due| (due - now).to_std().unwrap_or_default().min(POLL)),
    }
}

//! Claims due tasks for free slots and hands them to the worker.

use super::{Context, POLL, Stopped};
use crate::model::task::Task;
use crate::registry::snapshot::Handler;
use crate::registry::snapshot::Snapshot;
use crate::store::{Claim, Handlers, Lease};
use crate::worker::{Assignment, Free, Needs, Slot};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// A pause where there is more to claim but nothing could be taken.
const BREATH: Duration = Duration::from_millis(20);

/// The handlers of one snapshot. Claims and releases go by the same one, or a task could be filed as held just after its
/// handler came, and stay so.
struct View {
    version: u64,
    snapshot: Arc<Snapshot>,
    handlers: Arc<Handlers>,
    /// Whether held tasks that it has handlers for may be left.
    holds: bool,
}

/// Claims as soon as something can be run. What is due before its plugin is loaded is filed as held, and released when it is: one
/// plugin that takes long to load delays no other's tasks.
pub(super) async fn run(context: &Context, mut stop: watch::Receiver<bool>) -> Result<(), Stopped> {
    let mut changes = context.registry.changes();
    let mut view: Option<View> = None;
    let mut started = [0; 2];
    loop {
        let version = *changes.borrow_and_update();
        if version > 0 && view.as_ref().is_none_or(|view| view.version != version) {
            view = Some(look(context, version));
        }
        let wait = match &mut view {
            Some(view) => match release(context, view).await {
                true => claim(context, view, &mut started).await,
                false => POLL,
            },
            None => POLL,
        };
        tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => return Ok(()),
            () = context.wake.notified() => {}
            changed = changes.changed() => changed.map_err(|_| Stopped::Registry)?,
            () = tokio::time::sleep(wait) => {}
        }
    }
}

fn look(context: &Context, version: u64) -> View {
    let snapshot = context.registry.snapshot();
    View {
        version,
        handlers: Arc::new(snapshot.handled()),
        snapshot,
        holds: true,
    }
}

/// Offers held tasks again whose handlers are there, some at a time between claims. Returns whether the store took it.
async fn release(context: &Context, view: &mut View) -> bool {
    if !view.holds {
        return true;
    }
    match context.store.release(view.handlers.clone()).await {
        Ok(more) => view.holds = more,
        Err(error) => {
            tracing::error!(%error, "held tasks could not be released; trying again");
            return false;
        }
    }
    true
}

/// Claims for what is free and starts what it got. Returns how long there is nothing to do.
async fn claim(context: &Context, view: &View, started: &mut [u64; 2]) -> Duration {
    // Said before anything is counted, so that a slot that becomes free meanwhile is not missed.
    context.worker.want(true, None);
    if context.worker.is_full() {
        return if view.holds { Duration::ZERO } else { POLL };
    }
    let now = context.clock.now();
    let free: Arc<Mutex<Option<Free>>> = Arc::default();
    let claim = Claim {
        node: context.node,
        now,
        started: *started,
        load: context.worker.load_of(),
        handlers: view.handlers.clone(),
        hold: Box::new({
            let (free, worker) = (free.clone(), context.worker.clone());
            move || held(&free).get_or_insert_with(|| worker.hold_all()).room()
        }),
        give_back: Box::new({
            let free = free.clone();
            move |slots, memory| held(&free).iter_mut().for_each(|free| free.give_back(slots, memory))
        }),
    };
    let claimed = match context.store.claim(claim).await {
        Ok(claimed) => claimed,
        Err(error) => {
            tracing::error!(%error, "due tasks could not be claimed; trying again");
            return POLL;
        }
    };
    let taken = claimed.tasks.len();
    *started = claimed.started;
    let mut free = held(&free).take();
    for task in claimed.tasks {
        let Some(handler) = view.snapshot.handlers.get(&task.name) else {
            tracing::error!(task = %task.id, name = task.name, "claimed without a handler; the next start finds it lost");
            continue;
        };
        let Some(slot) = free
            .as_mut()
            .and_then(|free| free.take(&task.name, task.priority, handler.definition.memory))
        else {
            tracing::error!(task = %task.id, "claimed beyond the slots; the next start finds it lost");
            continue;
        };
        start(context, task, handler, slot);
    }
    context.worker.want(claimed.waiting, claimed.waits_for_processor);
    match (claimed.more, taken) {
        _ if view.holds => Duration::ZERO,
        (true, 0) => BREATH,
        (true, _) => Duration::ZERO,
        (false, _) => claimed
            .next_due
            .map_or(POLL, |due| (due - now).to_std().unwrap_or_default().min(POLL)),
    }
}

fn held(free: &Mutex<Option<Free>>) -> MutexGuard<'_, Option<Free>> {
    free.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs a task that is leased to this node.
pub(super) fn start(context: &Context, task: Task, handler: &Handler, slot: Slot) {
    let lease = Lease {
        task: task.id,
        attempt: task.attempt,
        node: context.node,
    };
    let assignment = Assignment {
        lease,
        task,
        definition: handler.definition.clone(),
        code: handler.code.clone(),
        needs: Needs::default(),
    };
    context.worker.start(assignment, slot);
}

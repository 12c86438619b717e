//! Decides what starts when: due schedules become tasks, due tasks become attempts.
//!
//! Loops, each woken by hints and, should a hint be lost, by a slow poll: [`plan`] fires schedules (and [`overdue`] looks whether it
//! does), [`batch`] unfolds batches into tasks, [`outbox`] delivers what attempts sent, [`keep`] looks after the times of waiting tasks,
//! [`reap`] clears away what dead nodes left half done, [`dispatch`] claims tasks for free slots. The store is the truth for all.

mod batch;
mod dispatch;
mod due;
mod event;
mod filters;
mod keep;
mod outbox;
mod overdue;
mod plan;
mod reap;
mod schedules;

use crate::clock::Clock;
use crate::model::event::NewEvent;
use crate::model::ids::{NodeId, TaskId};
use crate::model::priority::Priority;
use crate::model::room::Load;
use crate::model::task::NewTask;
use crate::model::workflow::NewWorkflow;
use crate::monitor::Monitor;
use crate::registry::Registry;
use crate::registry::snapshot::Handler;
use crate::store::{Lease, Offer, RequestKey, Store, StoreError};
use crate::worker;
pub use batch::Staging;
use chrono::TimeDelta;
pub use event::{Delivered, EventError};
pub use filters::Filters;
pub use outbox::accepts;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

/// How late a lost hint can make anything.
const POLL: Duration = Duration::from_secs(1);

/// What the loops work with.
#[derive(Clone)]
pub struct Context {
    /// The truth.
    pub store: Arc<dyn Store>,
    /// What can be run.
    pub registry: Registry,
    /// Where it is run.
    pub worker: worker::Handle,
    /// Who wants to know of ends.
    pub monitor: Monitor,
    /// The time.
    pub clock: Clock,
    /// This process.
    pub node: NodeId,
    /// Tells [`dispatch`] that something may be due or a slot free.
    pub wake: Arc<Notify>,
    /// Tells [`plan`] that a schedule was put.
    pub replan: Arc<Notify>,
    /// Tells [`batch`] that one was published.
    pub unfold: Arc<Notify>,
    /// Filters of triggers, read.
    pub filters: Filters,
    /// Whether [`outbox`] has so much to deliver that attempts may send no more.
    pub outbox_full: Arc<AtomicBool>,
    /// Tells [`outbox`] that an attempt has sent something.
    pub sent: Arc<Notify>,
}

/// What the rest of the house may ask of the scheduler. Cheap to clone.
#[derive(Clone)]
pub struct Handle(Arc<Context>);

/// Why the loops ended before they were told to.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Stopped {
    /// What dead nodes left behind could not be settled.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Nobody looks after the plugins any more.
    #[error("the registry's loop has ended; the log says why")]
    Registry,
}

/// All loops, until `stop` becomes true. Attempts that dead nodes left behind are dealt with first.
pub async fn run(context: Context, stop: watch::Receiver<bool>) -> Result<(), Stopped> {
    reap::orphans(&context).await?;
    // On its own: the payloads that it reads are large, and dispatch is quick.
    let mut plan = JoinSet::new();
    let (own, told) = (context.clone(), stop.clone());
    plan.spawn(async move { plan::run(&own, told).await });
    let beside = async {
        tokio::join!(
            plan.join_all(),
            overdue::run(&context, stop.clone()),
            batch::run(&context, stop.clone()),
            outbox::run(&context, stop.clone()),
            keep::run(&context, stop.clone()),
            reap::half_staged(&context, stop.clone()),
        );
        Ok(())
    };
    tokio::try_join!(beside, dispatch::run(&context, stop.clone()))?;
    Ok(())
}

impl Handle {
    /// A handle on loops that run with this context.
    pub fn new(context: Context) -> Self {
        Self(Arc::new(context))
    }

    /// Keeps a task, and runs it at once where a slot is free and nothing else is due. Returns the id of the task that stands for it: see
    /// [`Store::enqueue`].
    pub async fn submit(&self, task: NewTask, key: Option<RequestKey>, handler: Arc<Handler>) -> Result<TaskId, StoreError> {
        let wait = task.trigger_time - task.submitted_at;
        if wait > TimeDelta::zero() {
            let id = self.0.store.enqueue(task, key, None).await?;
            // What is due later than the next poll is found by it.
            if wait <= TimeDelta::from_std(POLL).unwrap_or_default() {
                self.0.wake.notify_one();
            }
            return Ok(id);
        }
        let offer = self.offer(handler, task.priority);
        self.0.store.enqueue(task, key, Some(offer)).await
    }

    /// A place in this node's pool, for a task of this handler. Nobody else would run what was leased to it, so it starts whether or not
    /// the client stays.
    fn offer(&self, handler: Arc<Handler>, priority: Priority) -> Offer {
        let place = Arc::new(Mutex::new(None));
        let (held, context) = (place.clone(), self.0.clone());
        let (worker, memory, name) = (self.0.worker.clone(), handler.definition.memory, handler.definition.name.clone());
        Offer {
            node: self.0.node,
            handled: handler.handled.clone(),
            load: self.0.worker.load_of(),
            hold: Box::new(move || {
                let mut slot = held.lock().unwrap_or_else(PoisonError::into_inner);
                *slot = slot.take().or_else(|| worker.hold(&name, priority, memory));
                slot.is_some()
            }),
            kept: Box::new(move |leased| {
                let slot = place.lock().unwrap_or_else(PoisonError::into_inner).take();
                match leased.zip(slot) {
                    Some((task, slot)) => dispatch::start(&context, task, &handler, slot),
                    None => context.wake.notify_one(),
                }
            }),
        }
    }

    /// Keeps a workflow; its first steps may run at once.
    pub async fn submit_workflow(&self, workflow: NewWorkflow, key: Option<RequestKey>) -> Result<(), StoreError> {
        self.0.store.submit_workflow(workflow, key).await?;
        self.0.wake.notify_one();
        Ok(())
    }

    /// Says that a batch is to be cancelled.
    pub fn wake_batches(&self) {
        self.0.unfold.notify_one();
    }

    /// Begins to take in a batch.
    pub fn stage(&self) -> Staging {
        Staging::new(self.0.clone())
    }

    /// What of this node is in use.
    pub fn in_use(&self) -> worker::InUse {
        self.0.worker.in_use()
    }

    /// Whether tasks of this name are expected to burn, and so wait for a processor where there is none.
    pub fn burns(&self, name: &str) -> bool {
        self.0.worker.load(name) == Load::Burns
    }

    /// Whether a task of this name and priority waits for a processor.
    pub fn waits_for_processor(&self, name: &str, priority: Priority) -> bool {
        self.0.worker.waits_for_processor(name, priority)
    }

    /// Whether the attempt of a task that runs here has no processor now, and how long it has waited for one in all.
    pub fn processor_wait(&self, task: TaskId) -> Option<(bool, Duration)> {
        self.0.worker.processor_wait(task)
    }

    /// Says that something may have become due. A hint: losing it costs a poll's delay.
    pub fn wake(&self) {
        self.0.wake.notify_one();
        self.0.replan.notify_one();
    }

    /// Says that a running attempt was cancelled and settled, so that its guest is stopped.
    pub fn stop_attempt(&self, lease: Lease) {
        self.0.worker.stop_cancelled(lease);
    }

    /// Delivers events: writes them with a task for each trigger that listens to one of them, all in one transaction or none. What came
    /// of each, in their order.
    pub async fn deliver(&self, events: Vec<NewEvent>) -> Result<Vec<Delivered>, EventError> {
        event::deliver(&self.0, events).await
    }
}

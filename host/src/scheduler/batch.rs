//! Batches: taken in part by part, made whole by one write, unfolded into tasks beside everything else.

use super::{Context, POLL};
use crate::model::ids::BatchId;
use crate::model::task::NewTask;
use crate::store::{Callback, CancelledSome, Publish, Stage, Store, StoreError};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::watch;

/// Between two commits that discard, which nobody waits for.
const BREATH: Duration = Duration::from_millis(5);

/// Makes tasks of published batches and cancels those that are to be, some at a time: what else is written gets its turn between.
pub(super) async fn run(context: &Context, mut stop: watch::Receiver<bool>) {
    loop {
        let cancelled = cancel_some(context).await;
        let wait = match context.store.unfold(context.clock.now()).await {
            Ok(0) if cancelled => Duration::ZERO,
            Ok(0) => POLL,
            Ok(_) => {
                context.wake.notify_one();
                Duration::ZERO
            }
            Err(error) => {
                tracing::error!(%error, "a batch could not be unfolded; trying again");
                POLL
            }
        };
        tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => return,
            () = context.unfold.notified() => {}
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// Cancels some of what is to be of batches; whether there may be more.
async fn cancel_some(context: &Context) -> bool {
    match context.store.cancel_some(context.clock.now()).await {
        Ok(CancelledSome { running, more }) => {
            running.into_iter().for_each(|lease| context.worker.stop_cancelled(lease));
            more
        }
        Err(error) => {
            tracing::error!(%error, "a batch could not be cancelled; trying again");
            false
        }
    }
}

/// Forgets all that was staged of a batch that is not whole.
pub(super) async fn discard(store: &dyn Store, batch: BatchId) -> Result<(), StoreError> {
    while store.discard(batch).await? {
        tokio::time::sleep(BREATH).await;
    }
    Ok(())
}

/// A batch on its way in. Whatever becomes of whoever brings it, it is published whole or discarded.
pub struct Staging {
    context: Arc<Context>,
    id: BatchId,
    count: u64,
    /// Whether something may have been staged that is not published.
    open: bool,
    /// Where it is discarded, whichever thread drops it.
    runtime: Handle,
}

impl Staging {
    pub(super) fn new(context: Arc<Context>) -> Self {
        Self {
            id: BatchId::new(context.clock.now()),
            context,
            count: 0,
            open: false,
            runtime: Handle::current(),
        }
    }

    /// How many were staged.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Keeps the next tasks, which nobody sees yet. Waits for the disk, and so makes whoever sends them wait.
    pub async fn stage(&mut self, tasks: Vec<NewTask>) -> Result<(), StoreError> {
        self.open = true;
        let count = tasks.len() as u64;
        let stage = Stage {
            batch: self.id,
            node: self.context.node,
            first_line: self.count,
            tasks,
        };
        self.context.store.stage(stage).await?;
        self.count += count;
        Ok(())
    }

    /// Makes it whole: the acknowledgement that all of it will run. Whoever hangs up meanwhile may find it published or discarded.
    pub async fn publish(mut self, name: Option<String>, callbacks: Vec<Callback>) -> Result<BatchId, StoreError> {
        let publish = Publish {
            batch: self.id,
            name,
            count: self.count,
            now: self.context.clock.now(),
            callbacks,
        };
        self.context.store.publish(publish).await?;
        self.open = false;
        self.context.unfold.notify_one();
        Ok(self.id)
    }
}

impl Drop for Staging {
    /// A batch that was published after all is left alone by the store, which does one after the other.
    fn drop(&mut self) {
        if self.open {
            let (store, id) = (self.context.store.clone(), self.id);
            self.runtime.spawn(async move {
                if let Err(error) = discard(&*store, id).await {
                    tracing::warn!(%error, batch = %id, "a refused batch still takes space; the next start discards it");
                }
            });
        }
    }
}

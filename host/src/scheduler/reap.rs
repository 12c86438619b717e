//! What dead nodes left running is settled as lost, by the same rule as any outcome; what they left half-staged is discarded.

use super::{Context, POLL, batch};
use crate::model::alert::{AlertType, NewAlert};
use crate::model::attempt::{Outcome, Usage};
use crate::model::outbox::Outbox;
use crate::model::retry::{Bounds, Next, RetryPolicy, decide};
use crate::store::{Orphan, Settle, StoreError};
use std::sync::Arc;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Settled at once, so that they share commits.
const AT_ONCE: usize = 256;

/// Settles every attempt whose node's lease has ended.
pub(super) async fn orphans(context: &Context) -> Result<(), StoreError> {
    let orphans = context.store.orphans(context.node).await?;
    if !orphans.is_empty() {
        tracing::warn!(count = orphans.len(), "found attempts that an earlier process did not finish");
    }
    let mut settling = JoinSet::new();
    for orphan in orphans {
        if settling.len() == AT_ONCE {
            settled(settling.join_next().await)?;
        }
        let (store, settle) = (context.store.clone(), lost(context, orphan));
        settling.spawn(async move { store.settle(Arc::new(settle)).await });
    }
    while !settling.is_empty() {
        settled(settling.join_next().await)?;
    }
    Ok(())
}

/// Discards batches that dead nodes did not make whole. They hold nothing up but space.
pub(super) async fn half_staged(context: &Context, mut stop: watch::Receiver<bool>) {
    let discard_all = async {
        while let Err(error) = discard(context).await {
            tracing::error!(%error, "a batch that an earlier process did not finish could not be discarded; trying again");
            tokio::time::sleep(POLL).await;
        }
    };
    tokio::select! {
        _ = stop.wait_for(|stop| *stop) => {}
        () = discard_all => {}
    }
}

async fn discard(context: &Context) -> Result<(), StoreError> {
    for id in context.store.half_staged(context.node).await? {
        tracing::warn!(batch = %id, "discarding a batch that an earlier process did not take in whole");
        batch::discard(&*context.store, id).await?;
    }
    Ok(())
}

fn settled(ended: Option<Result<Result<(), StoreError>, tokio::task::JoinError>>) -> Result<(), StoreError> {
    match ended {
        None | Some(Ok(Ok(()) | Err(StoreError::LeaseLost))) => Ok(()),
        Some(Ok(Err(error))) => Err(error),
        Some(Err(error)) => Err(StoreError::Unavailable(error.to_string())),
    }
}

fn lost(context: &Context, orphan: Orphan) -> Settle {
    let now = context.clock.now();
    // A loss uses up no retry and asks no policy; only its own cap and idempotence count.
    let policy = RetryPolicy::default();
    let bounds = Bounds {
        policy: &policy,
        max_retries: 0,
        idempotent: orphan.idempotent,
        due_at: Some(orphan.due_at),
    };
    let next = decide(&Outcome::Lost, orphan.counters, &bounds, now, 0.5);
    let alert = match &next {
        Next::Failed { error, .. } => Some(NewAlert {
            kind: AlertType::TaskFailure,
            task_id: orphan.lease.task,
            task_name: orphan.name.clone(),
            error: Some(error.clone()),
            execution_time: None,
            at: now,
        }),
        _ => None,
    };
    Settle {
        lease: orphan.lease,
        task_name: orphan.name,
        tagged: orphan.tagged,
        ties: orphan.ties,
        started_at: None,
        outcome: Outcome::Lost,
        next,
        now,
        execution_time: None,
        usage: Usage::default(),
        progress: None,
        log: Vec::new(),
        alert,
        outbox: Outbox::default(),
    }
}

//! What dead nodes left running is settled as lost, by the same rule as any outcome.

use super::Context;
use crate::model::alert::{AlertType, NewAlert};
use crate::model::attempt::{Outcome, Usage};
use crate::model::retry::{Bounds, Next, RetryPolicy, decide};
use crate::store::{Orphan, Settle, StoreError};

/// Settles every attempt whose node's lease has ended.
pub(super) async fn orphans(context: &Context) -> Result<(), StoreError> {
    let orphans = context.store.orphans(context.node, context.clock.now()).await?;
    if !orphans.is_empty() {
        tracing::warn!(count = orphans.len(), "found attempts that an earlier process did not finish");
    }
    for orphan in orphans {
        match context.store.settle(lost(context, orphan)).await {
            Ok(()) | Err(StoreError::LeaseLost) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn lost(context: &Context, orphan: Orphan) -> Settle {
    let now = context.clock.now();
    // A loss uses up no retry and asks no policy; only its own cap and idempotence count.
    let policy = RetryPolicy::default();
    let bounds = Bounds {
        policy: &policy,
        max_retries: 0,
        idempotent: orphan.idempotent,
    };
    let next = decide(&Outcome::Lost, orphan.counters, &bounds, now, 0.5);
    let alert = match &next {
        Next::Failed { error, .. } => Some(NewAlert {
            kind: AlertType::TaskFailure,
            task_id: orphan.lease.task,
            task_name: orphan.name,
            error: Some(error.clone()),
            execution_time: None,
            at: now,
        }),
        _ => None,
    };
    Settle {
        lease: orphan.lease,
        outcome: Outcome::Lost,
        next,
        now,
        execution_time: None,
        usage: Usage::default(),
        progress: None,
        log: Vec::new(),
        alert,
    }
}

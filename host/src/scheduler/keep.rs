//! What happens by the clock to tasks that wait: those that expire end, those that are late are told, and who lost a turn gets it.

use super::{Context, POLL};
use crate::store::Swept;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

pub(super) async fn run(context: &Context, mut stop: watch::Receiver<bool>) {
    let mut swept = Instant::now();
    let mut place = Swept::default();
    loop {
        let mut wait = ring(context).await;
        if swept.elapsed() >= POLL {
            swept = Instant::now();
            let handlers = Arc::new(context.registry.snapshot().handled());
            let now = context.clock.now();
            match context.store.sweep(handlers, std::mem::take(&mut place), now).await {
                Ok(next) => place = next,
                Err(error) => tracing::error!(%error, "held tasks could not be looked through; trying again"),
            }
        }
        wait = wait.min(POLL);
        tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => return,
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// Ends what has expired and tells what is late; returns how long there is nothing to do.
async fn ring(context: &Context) -> Duration {
    let now = context.clock.now();
    match context.store.ring(now).await {
        Ok(rung) => {
            if rung.expired > 0 {
                context.wake.notify_one(); // what follows them may be due
            }
            rung.next.map_or(POLL, |next| (next - now).to_std().unwrap_or_default())
        }
        Err(error) => {
            tracing::error!(%error, "the timers of tasks could not be read; trying again");
            POLL
        }
    }
}

//! This node's lease on all that it runs: one row, renewed by the host, never by a guest.
//!
//! Elapsed time is taken from the monotonic clock here: what matters is how long ago the last renewal was, whatever the wall
//! clock says.

use super::Handle;
use std::time::Duration;
use tokio::time::Instant;

/// How long a lease lasts without a renewal.
pub(crate) const LEASE: Duration = Duration::from_secs(30);
const RENEW_EVERY: Duration = Duration::from_secs(10);
/// A node that could not renew for this long stops its guests, before another node may start them.
const GIVE_UP_AFTER: Duration = Duration::from_secs(25);

/// Renews until the process ends.
pub(super) async fn keep(pool: &Handle) {
    let context = &pool.0.context;
    let mut renewed = Instant::now();
    loop {
        let attempt = Instant::now();
        let renewal = context.store.renew(context.node, context.clock.now() + LEASE);
        match tokio::time::timeout_at(bounded(attempt, renewed), renewal).await {
            Ok(Ok(())) => renewed = attempt,
            Ok(Err(error)) => tracing::error!(%error, "the lease could not be renewed"),
            Err(_) => tracing::error!("the lease could not be renewed in time"),
        }
        tokio::time::sleep_until(bounded(attempt, renewed)).await;
        if renewed.elapsed() >= GIVE_UP_AFTER {
            tracing::error!("the lease is about to end; stopping the attempts that run under it");
            pool.interrupt_all();
        }
    }
}

/// When an attempt to renew is over: in time to give up before the lease ends, while there is something to give up.
fn bounded(attempt: Instant, renewed: Instant) -> Instant {
    let (next, give_up) = (attempt + RENEW_EVERY, renewed + GIVE_UP_AFTER);
    if attempt < give_up { next.min(give_up) } else { next }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guests_are_given_up_before_the_lease_ends() {
        let renewed = Instant::now();
        let at = |seconds: u64| renewed + Duration::from_secs(seconds);
        for (attempt, expected) in [(0, 10), (10, 20), (20, 25), (25, 35), (100, 110)] {
            assert_eq!(bounded(at(attempt), renewed), at(expected), "{attempt}");
        }
        assert!(GIVE_UP_AFTER < LEASE);
    }
}

//! History is kept for a while, and the newest of it for ever.

use crate::clock::Clock;
use crate::store::Store;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;

/// Ended tasks that one commit forgets, at most.
const AT_ONCE: usize = 500;
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// Between two such commits, so that they never crowd out submissions.
const BREATH: Duration = Duration::from_millis(50);

/// The `[monitor]` table.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// Days for which ended tasks are kept.
    pub retention_days: u32,
    /// So many of the newest ended tasks are kept however old they are.
    pub keep_newest: u64,
}

impl Options {
    /// What each key means, for `--print-config`.
    pub const COMMENTS: &'static [(&'static str, &'static str)] = &[
        ("retention_days", "Days for which ended tasks are kept."),
        ("keep_newest", "So many of the newest ended tasks are kept however old they are."),
    ];
}

impl Default for Options {
    fn default() -> Self {
        Self {
            retention_days: 30,
            keep_newest: 10_000,
        }
    }
}

/// Forgets what is too old, a little at a time, until the process ends.
pub async fn keep_pruned(options: Options, store: Arc<dyn Store>, clock: Clock) {
    loop {
        let before = clock.now() - chrono::TimeDelta::days(options.retention_days.into());
        match store.prune(before, options.keep_newest, AT_ONCE).await {
            Ok(pruned) if pruned == AT_ONCE as u64 => {
                tokio::time::sleep(BREATH).await;
                continue;
            }
            Ok(_) => {}
            Err(error) => tracing::error!(%error, "old history could not be forgotten; trying again"),
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

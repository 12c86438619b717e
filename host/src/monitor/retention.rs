//! History is kept for a while, and the newest of it for ever.

use crate::clock::Clock;
use crate::store::Store;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;

/// Ended tasks, events and fires that one commit forgets, at most of each.
const AT_ONCE: usize = 50;
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// Between two such commits, so that they never crowd out submissions.
const BREATH: Duration = Duration::from_millis(5);

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

    /// Says what is out of range, for whoever wrote the configuration.
    pub fn check(&self) -> Result<(), String> {
        match self.retention_days {
            0..=36_500 => Ok(()),
            days => Err(format!("monitor.retention_days is {days}; it must be 0 to 36500")),
        }
    }
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
    let mut after = None;
    loop {
        let age = chrono::TimeDelta::days(options.retention_days.into());
        let Some(before) = clock.now().checked_sub_signed(age) else {
            return; // nothing will ever be so old
        };
        match store.prune(before, options.keep_newest, AT_ONCE, after).await {
            Ok(pruned) => {
                after = pruned.after;
                if !pruned.is_all() {
                    tokio::time::sleep(BREATH).await;
                    continue;
                }
            }
            Err(error) => tracing::error!(%error, "old history could not be forgotten; trying again"),
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_that_no_calendar_has_is_refused() {
        Options::default().check().unwrap();
        let options = Options {
            retention_days: u32::MAX,
            ..Options::default()
        };
        assert!(options.check().unwrap_err().contains("retention_days"));
    }
}

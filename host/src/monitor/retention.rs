//! History is kept for a while, the newest of it for longer, and all of it within a bound on bytes.
//!
//! A full look every minute, and one as soon as there is more than the bound allows: results may come in faster than a minute bears.

use crate::clock::Clock;
use crate::model::{Time, name};
use crate::store::{Keep, KeepOf, Store, StoreError};
use bytesize::ByteSize;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Ended tasks, events and fires that one commit forgets, at most of each.
const AT_ONCE: usize = 50;
/// The same while too much is kept: what ends has to go as fast as it comes.
const AT_ONCE_BEYOND: usize = 250;
/// Between two such commits, so that they never crowd out submissions.
const BREATH: Duration = Duration::from_millis(5);
/// How often the sums are looked at.
const SUMS_EVERY: Duration = Duration::from_secs(1);
/// How often the sums are looked at between two full looks.
const SUMS_A_LOOK: u32 = 60;

/// Below, one large result would be all that is kept; or a unit was forgotten.
const LEAST_BYTES: ByteSize = ByteSize::mib(1);
const MOST_BYTES: ByteSize = ByteSize::pib(1);
const MOST_DAYS: u32 = 36_500;

/// The `[monitor]` table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// Days for which ended tasks are kept.
    pub retention_days: u32,
    /// So many of the newest ended tasks are kept however old they are.
    pub keep_newest: u64,
    /// Bytes of all that is kept: ended tasks, logs, attempts, checkpoints and events together.
    pub keep_bytes: ByteSize,
    /// Rules of their own for task names.
    pub tasks: BTreeMap<String, TaskOptions>,
}

/// `[monitor.tasks.NAME]`: what holds for one task name instead. What is left out holds as for all.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TaskOptions {
    /// Days for which its ended tasks are kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retention_days: Option<u32>,
    /// So many of its newest ended tasks are kept however old they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_newest: Option<u64>,
    /// Bytes of its ended tasks, with their logs and attempts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_bytes: Option<ByteSize>,
}

impl Options {
    /// What each key means, for `--print-config`.
    pub const COMMENTS: &'static [(&'static str, &'static str)] = &[
        ("retention_days", "Days for which ended tasks and events are kept."),
        (
            "keep_newest",
            "So many of the newest ended tasks are kept however old they are, as far as keep_bytes allows.",
        ),
        (
            "keep_bytes",
            "Bytes of ended tasks, logs, attempts, checkpoints and events together; beyond it the oldest goes first. 1 MiB to 1 PiB.",
        ),
        (
            "tasks",
            "Other values for the ended tasks of a name: { NAME = { retention_days = 7, keep_newest = 100, keep_bytes = \"1GiB\" } }.",
        ),
    ];

    /// Says what is out of range, for whoever wrote the configuration.
    pub fn check(&self) -> Result<(), String> {
        let named = |place: String| move |why: String| format!("{place} {why}");
        check_days(self.retention_days).map_err(named("monitor.retention_days".into()))?;
        check_bytes(self.keep_bytes).map_err(named("monitor.keep_bytes".into()))?;
        for (name, of) in &self.tasks {
            if !name::is_valid(name) {
                return Err(name::why_invalid("the task name in [monitor.tasks],", name));
            }
            let key = |key| named(format!("monitor.tasks.{name}.{key}"));
            of.retention_days.map_or(Ok(()), check_days).map_err(key("retention_days"))?;
            of.keep_bytes.map_or(Ok(()), check_bytes).map_err(key("keep_bytes"))?;
        }
        Ok(())
    }

    /// What is to be kept, as of now.
    pub fn keep(&self, now: Time) -> Keep {
        // Nothing was ever older than what no calendar has.
        let before = |days: u32| {
            now.checked_sub_signed(chrono::TimeDelta::days(days.into()))
                .unwrap_or(Time::MIN_UTC)
        };
        let of = |of: &TaskOptions| KeepOf {
            before: before(of.retention_days.unwrap_or(self.retention_days)),
            newest: of.keep_newest,
            bytes: of.keep_bytes.map(|bytes| bytes.as_u64()),
        };
        Keep {
            before: before(self.retention_days),
            newest: self.keep_newest,
            bytes: self.keep_bytes.as_u64(),
            by_name: self.tasks.iter().map(|(name, options)| (name.clone(), of(options))).collect(),
        }
    }
}

/// Says what is wrong with a number of days.
pub fn check_days(days: u32) -> Result<(), String> {
    match days {
        0..=MOST_DAYS => Ok(()),
        _ => Err(format!("is {days}; it must be 0 to {MOST_DAYS}")),
    }
}

/// Says what is wrong with a number of bytes.
pub fn check_bytes(bytes: ByteSize) -> Result<(), String> {
    match (LEAST_BYTES..=MOST_BYTES).contains(&bytes) {
        true => Ok(()),
        false => Err(format!("is {bytes}; it must be 1 MiB to 1 PiB")),
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            retention_days: 30,
            keep_newest: 10_000,
            keep_bytes: ByteSize::gib(10),
            tasks: BTreeMap::new(),
        }
    }
}

/// Forgets what is not to be kept, a little at a time, until the process ends.
pub async fn keep_pruned(options: Options, store: Arc<dyn Store>, clock: Clock) {
    let mut was_stuck = false;
    loop {
        let is_stuck = match look(&options, store.as_ref(), &clock).await {
            Ok(is_stuck) => is_stuck,
            Err(error) => {
                tracing::error!(%error, "old history could not be forgotten; trying again");
                was_stuck
            }
        };
        if is_stuck && !was_stuck {
            tracing::warn!(
                "more is kept than monitor.keep_bytes or that of a task name allows, and nothing of it may go: \
                 it is of tasks that have not ended, of workflows that have not, and the newest of each schedule"
            );
        }
        was_stuck = is_stuck;
        for _ in 0..SUMS_A_LOOK {
            tokio::time::sleep(SUMS_EVERY).await;
            let is_over = async || Ok::<_, StoreError>(store.kept().await?.is_over(&options.keep(clock.now())));
            if !is_stuck && is_over().await.unwrap_or_default() {
                break;
            }
        }
    }
}

/// One walk over all that may go. Returns whether too much is kept and nothing could be done about it.
async fn look(options: &Options, store: &dyn Store, clock: &Clock) -> Result<bool, StoreError> {
    let is_over = store.kept().await?.is_over(&options.keep(clock.now()));
    let limit = if is_over { AT_ONCE_BEYOND } else { AT_ONCE };
    let (mut after, mut forgotten) = (None, false);
    loop {
        let pruned = store.prune(&options.keep(clock.now()), limit, after).await?;
        if pruned.is_all() {
            return Ok(is_over && !forgotten);
        }
        forgotten |= pruned.most > 0;
        after = pruned.after;
        tokio::time::sleep(BREATH).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_out_of_range_is_named() {
        Options::default().check().unwrap();
        for (toml, word) in [
            ("retention_days = 36501", "monitor.retention_days is 36501"),
            ("keep_bytes = 10", "monitor.keep_bytes is 10 B; it must be 1 MiB to 1 PiB"),
            ("keep_bytes = \"2PiB\"", "monitor.keep_bytes"),
            ("tasks.\"a b\" = {}", "a b"),
            ("tasks.a.keep_bytes = \"10KiB\"", "monitor.tasks.a.keep_bytes"),
            ("tasks.a.retention_days = 40000", "monitor.tasks.a.retention_days"),
        ] {
            let options: Options = toml::from_str(toml).unwrap();
            let error = options.check().expect_err(toml);
            assert!(error.contains(word), "{toml}: {error}");
        }
    }

    #[test]
    fn a_name_has_the_values_of_all_where_it_says_nothing_else() {
        let options: Options = toml::from_str("retention_days = 5\nkeep_newest = 7\ntasks.a.keep_bytes = \"2MiB\"").unwrap();
        let now: Time = "2026-01-31T00:00:00Z".parse().unwrap();
        let of = options.keep(now).of_name("a");
        assert_eq!(of.before, "2026-01-26T00:00:00Z".parse::<Time>().unwrap());
        assert_eq!((of.newest, of.bytes), (None, Some(2 << 20)));
    }
}

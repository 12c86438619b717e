//! What an operator sets of the sandbox: the table `[executor]` of `taskhost.toml`.

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// `[executor]`: bounds of every attempt on this node. A manifest may tighten them, never widen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// Most memory that any attempt may be granted; sizes the pool. Up to 4 GiB, which is all that a 32-bit guest can address.
    pub max_memory: ByteSize,
    /// The longest timeout of any attempt, in seconds.
    pub max_timeout: u64,
    /// Most bytes of a result.
    pub result_limit: ByteSize,
    /// Most bytes of one attempt's log: lines, stdout and stderr together.
    pub log_limit: ByteSize,
    /// Most events that one attempt may emit.
    pub max_emits: u32,
    /// Most tasks that one attempt may submit, steps of workflows included.
    pub max_submits: u32,
    /// Most bytes of all that one attempt emits and submits.
    pub outbox_limit: ByteSize,
    /// Host calls a second, those of WASI included, that an attempt may make before it is slowed down.
    pub calls_per_second: u32,
    /// Seconds of wall clock that compiling one component may take.
    pub compile_timeout: u64,
    /// Address space that compiling one component may take.
    pub compile_memory: ByteSize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            max_memory: ByteSize::gib(1),
            max_timeout: 86_400,
            result_limit: ByteSize::mib(4),
            log_limit: ByteSize::mib(4),
            max_emits: 1_000,
            max_submits: 1_000,
            outbox_limit: ByteSize::mib(4),
            calls_per_second: 10_000,
            compile_timeout: 60,
            compile_memory: ByteSize::gib(2),
        }
    }
}

/// A 32-bit memory ends here.
const MAX_MEMORY: u64 = 4 << 30;

impl Options {
    /// What each key means, for `serve --print-config`.
    pub const COMMENTS: &'static [(&'static str, &'static str)] = &[
        ("max_memory", "Most memory that any attempt may be granted, up to 4 GiB."),
        ("max_timeout", "The longest timeout of any attempt, in seconds."),
        ("result_limit", "Most bytes of a result."),
        ("log_limit", "Most bytes of one attempt's log: lines, stdout and stderr together."),
        ("max_emits", "Most events that one attempt may emit."),
        (
            "max_submits",
            "Most tasks that one attempt may submit, steps of workflows included.",
        ),
        ("outbox_limit", "Most bytes of all that one attempt emits and submits."),
        (
            "calls_per_second",
            "Host calls a second, those of WASI included, that an attempt may make before it is slowed down.",
        ),
        ("compile_timeout", "Seconds that compiling one component may take."),
        ("compile_memory", "Address space that compiling one component may take."),
    ];

    /// Says what is out of range, for whoever wrote the configuration.
    pub fn check(&self) -> Result<(), String> {
        let ranges = [
            ("max_memory", self.max_memory.as_u64(), 1 << 20, MAX_MEMORY),
            ("max_timeout", self.max_timeout, 1, 30 * 86_400),
            ("result_limit", self.result_limit.as_u64(), 1 << 10, 64 << 20),
            ("log_limit", self.log_limit.as_u64(), 0, 1 << 30),
            ("max_emits", self.max_emits.into(), 0, 100_000),
            ("max_submits", self.max_submits.into(), 0, 100_000),
            ("outbox_limit", self.outbox_limit.as_u64(), 0, 256 << 20),
            ("calls_per_second", self.calls_per_second.into(), 1, 10_000_000),
            ("compile_timeout", self.compile_timeout, 1, 3_600),
            ("compile_memory", self.compile_memory.as_u64(), 256 << 20, 1 << 40),
        ];
        match ranges.iter().find(|(_, value, low, high)| !(*low..=*high).contains(value)) {
            Some((name, value, low, high)) => Err(format!("executor.{name} is {value}; it must be {low} to {high}")),
            None => Ok(()),
        }
    }

    /// The longest timeout of any attempt.
    pub fn max_timeout(&self) -> Duration {
        Duration::from_secs(self.max_timeout)
    }

    /// The limits of an attempt that may use so much time, fuel and memory.
    pub fn limits(&self, timeout: Duration, fuel: u64, memory: u64) -> super::Limits {
        let bytes = |size: ByteSize| usize::try_from(size.as_u64()).unwrap_or(usize::MAX);
        super::Limits {
            timeout: timeout.min(self.max_timeout()),
            fuel,
            memory: memory.min(self.max_memory.as_u64()),
            result: bytes(self.result_limit),
            log: bytes(self.log_limit),
            calls_per_second: self.calls_per_second,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_out_of_range_is_named() {
        Options::default().check().unwrap();
        let bad = Options {
            max_memory: ByteSize::gib(5),
            ..Options::default()
        };
        assert!(bad.check().unwrap_err().contains("executor.max_memory"));
    }

    #[test]
    fn an_attempt_never_gets_more_than_the_node_allows() {
        let limits = Options::default().limits(Duration::from_secs(u64::MAX), 1, u64::MAX);
        assert_eq!((limits.timeout, limits.memory), (Duration::from_secs(86_400), 1 << 30));
    }
}

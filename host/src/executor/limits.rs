//! What stops a greedy guest: one memory cap over all its memories, and a bucket of host calls.

use std::time::{Duration, Instant};
use wasmtime::ResourceLimiter;

/// Core instances of one component: CPython with its libraries has some thirty.
pub(crate) const MAX_INSTANCES: u32 = 64;
/// Tables of one component.
pub(crate) const MAX_TABLES: u32 = 8;
/// Linear memories of one component.
pub(crate) const MAX_MEMORIES: u32 = 4;
/// Handles that a guest may hold, and host objects behind them.
pub(crate) const MAX_HANDLES: usize = 10_000;

/// Handles of a guest that may open files: each may take a descriptor, of which all slots together get a quarter.
pub(crate) fn handles_with_folders(slots: usize) -> usize {
    let most = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    share(most, slots)
}

fn share(descriptors: Option<u64>, slots: usize) -> usize {
    let descriptors = descriptors.and_then(|most| usize::try_from(most).ok()).unwrap_or(usize::MAX);
    (descriptors / slots.max(1).saturating_mul(4)).clamp(64, MAX_HANDLES)
}

/// The guest asked for more memory than it may have.
#[derive(Debug, thiserror::Error)]
#[error("the memory cap of {limit} bytes was hit")]
pub(crate) struct OverMemory {
    /// The cap.
    pub limit: u64,
}

/// Counts the linear memory of one attempt: all memories together, which wasmtime's own limiter does not.
#[derive(Debug)]
pub(crate) struct Memory {
    limit: u64,
    held: u64,
    peak: u64,
    /// What the last growth added: taken back where the system refuses it.
    last: u64,
}

impl Memory {
    pub(crate) fn new(limit: u64) -> Self {
        Self {
            limit,
            held: 0,
            peak: 0,
            last: 0,
        }
    }

    /// Most bytes held at once.
    pub(crate) fn peak(&self) -> u64 {
        self.peak
    }

    fn grow(&mut self, by: u64) -> Result<(), OverMemory> {
        let held = self.held.saturating_add(by);
        if held > self.limit {
            return Err(OverMemory { limit: self.limit });
        }
        (self.held, self.last) = (held, by);
        self.peak = self.peak.max(held);
        Ok(())
    }
}

impl ResourceLimiter for Memory {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        let by = desired.saturating_sub(current) as u64;
        if self.held.saturating_add(by) <= self.limit && maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false); // its own declared maximum: the guest's affair
        }
        self.grow(by)?;
        Ok(true)
    }

    fn memory_grow_failed(&mut self, error: wasmtime::Error) -> wasmtime::Result<()> {
        tracing::debug!(error = format!("{error:#}"), "a guest's memory could not grow");
        self.held -= std::mem::take(&mut self.last);
        Ok(())
    }

    fn table_growing(&mut self, _current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        Ok(maximum.is_none_or(|maximum| desired <= maximum))
    }

    fn instances(&self) -> usize {
        MAX_INSTANCES as usize
    }

    fn tables(&self) -> usize {
        MAX_TABLES as usize
    }

    fn memories(&self) -> usize {
        MAX_MEMORIES as usize
    }
}

/// A token bucket: so many host calls a second, with a burst of one second's worth.
#[derive(Debug)]
pub(crate) struct Throttle {
    rate: f64,
    tokens: f64,
    at: Instant,
}

impl Throttle {
    pub(crate) fn new(per_second: u32, now: Instant) -> Self {
        let rate = f64::from(per_second.max(1));
        Self {
            rate,
            tokens: rate,
            at: now,
        }
    }

    /// Takes one token. What is owed is remembered, up to one second's worth.
    pub(crate) fn take(&mut self, now: Instant) {
        self.refill(now);
        self.tokens = (self.tokens - 1.0).max(-self.rate);
    }

    /// How long to wait until nothing is owed.
    pub(crate) fn owed(&mut self, now: Instant) -> Option<Duration> {
        self.refill(now);
        (self.tokens < 0.0).then(|| Duration::from_secs_f64(-self.tokens / self.rate))
    }

    fn refill(&mut self, now: Instant) {
        let refill = now.saturating_duration_since(self.at).as_secs_f64() * self.rate;
        self.at = now;
        self.tokens = (self.tokens + refill).min(self.rate);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memories_are_counted_together() {
        let mut memory = Memory::new(300);
        assert!(memory.memory_growing(0, 100, None).unwrap());
        assert!(memory.memory_growing(0, 150, None).unwrap());
        assert_eq!(memory.peak(), 250);
        let error = memory.memory_growing(100, 200, None).unwrap_err();
        assert_eq!(error.downcast_ref::<OverMemory>().unwrap().limit, 300);
        assert_eq!(memory.peak(), 250);
    }

    #[test]
    fn open_files_are_shared_among_the_slots() {
        assert_eq!(share(Some(1_024), 16), 64);
        assert_eq!(share(Some(65_536), 16), 1_024);
        assert_eq!(share(None, 16), MAX_HANDLES);
        assert_eq!(share(Some(1_024), usize::MAX), 64);
    }

    #[test]
    fn a_growth_that_failed_is_taken_back() {
        let mut memory = Memory::new(300);
        assert!(memory.memory_growing(0, 300, None).unwrap());
        memory.memory_grow_failed(wasmtime::Error::msg("no")).unwrap();
        assert!(memory.memory_growing(0, 300, None).unwrap());
    }

    #[test]
    fn a_declared_maximum_is_no_breach() {
        let mut memory = Memory::new(300);
        assert!(!memory.memory_growing(0, 200, Some(100)).unwrap());
        assert!(memory.memory_growing(0, 400, Some(100)).is_err());
    }

    #[test]
    fn calls_wait_once_the_burst_is_spent() {
        let start = Instant::now();
        let mut throttle = Throttle::new(10, start);
        let mut take = |now| {
            throttle.take(now);
            throttle.owed(now)
        };
        assert!((0..10).all(|_| take(start).is_none()));
        assert_eq!(take(start), Some(Duration::from_millis(100)));
        assert_eq!(take(start), Some(Duration::from_millis(200)));
        assert_eq!(take(start + Duration::from_secs(1)), None);
        // However long it rests, it holds no more than one second's worth.
        let later = start + Duration::from_secs(100);
        assert!((0..10).all(|_| take(later).is_none()));
        assert!(take(later).is_some());
    }
}

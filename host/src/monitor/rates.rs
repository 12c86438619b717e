//! How many of something there were a second, of late.

use std::time::Duration;

/// Seconds that a rate is taken over.
const WINDOW: usize = 60;

/// Counts of the last seconds. Time is what has passed since it was made.
#[derive(Debug)]
pub(super) struct Rate {
    /// Of the second `last` and those before it, each at its number modulo their number; the last one has not ended.
    counts: [u64; WINDOW + 1],
    last: u64,
}

impl Default for Rate {
    fn default() -> Self {
        Self {
            counts: [0; WINDOW + 1],
            last: 0,
        }
    }
}

impl Rate {
    pub(super) fn add(&mut self, passed: Duration, count: u64) {
        *self.at(passed) += count;
    }

    /// Of the last whole seconds: of those that there have been, while they are fewer.
    pub(super) fn per_second(&mut self, passed: Duration) -> f64 {
        let current = *self.at(passed);
        let whole: u64 = self.counts.iter().sum::<u64>() - current;
        let seconds = self.last.clamp(1, WINDOW as u64);
        whole as f64 / seconds as f64
    }

    /// The count of the current second, with those forgotten that are too long ago.
    fn at(&mut self, passed: Duration) -> &mut u64 {
        let now = passed.as_secs().max(self.last);
        let gone = usize::try_from(now - self.last).unwrap_or(usize::MAX).min(self.counts.len());
        self.last = now;
        let place = |second: u64| usize::try_from(second % (WINDOW as u64 + 1)).unwrap_or_default();
        for back in 0..gone as u64 {
            self.counts[place(now - back)] = 0;
        }
        &mut self.counts[place(now)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_of_the_last_whole_seconds() {
        let at = |millis| Duration::from_millis(millis);
        let mut rate = Rate::default();
        rate.add(at(100), 5);
        rate.add(at(999), 5);
        assert!(rate.per_second(at(999)).abs() < 1e-9, "no second is over");
        assert!((rate.per_second(at(1_000)) - 10.0).abs() < 1e-9);
        rate.add(at(1_500), 2);
        assert!((rate.per_second(at(2_000)) - 6.0).abs() < 1e-9);
        assert!((rate.per_second(at(60_999)) - 12.0 / 60.0).abs() < 1e-9);
        assert!(
            (rate.per_second(at(61_000)) - 2.0 / 60.0).abs() < 1e-9,
            "the first second is forgotten"
        );
        assert!(rate.per_second(at(62_000)).abs() < 1e-9);
        rate.add(at(10_000_000), 60);
        assert!((rate.per_second(at(10_001_000)) - 1.0).abs() < 1e-9);
        rate.add(at(5_000), 60);
        assert!((rate.per_second(at(10_001_500)) - 1.0).abs() < 1e-9, "what comes late counts now");
    }
}

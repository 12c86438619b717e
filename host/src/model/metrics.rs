//! How long attempts of one task name took, as a sum that can be added to: never recomputed from history.
//!
//! Percentiles come from a `DDSketch` (Masson, Rim, Lee: "`DDSketch`: a fast and fully-mergeable quantile sketch with
//! relative-error guarantees", VLDB 2019), within 1 % of the true value.

use crate::model::attempt::OutcomeKind;
use serde::{Deserialize, Serialize};
use sketches_ddsketch::{Config, DDSketch};
use std::time::Duration;

/// All attempts of one task name, so far.
#[derive(Clone, Serialize, Deserialize)]
pub struct Metrics {
    /// Attempts that ran and ended.
    pub count: u64,
    /// Those among them that failed.
    pub failures: u64,
    /// Sum of their seconds.
    pub total: f64,
    /// The shortest, in seconds.
    pub min: f64,
    /// The longest, in seconds.
    pub max: f64,
    sketch: DDSketch,
}

impl Default for Metrics {
    fn default() -> Self {
        let sketch = DDSketch::new(Config::new(0.01, 2048, 1e-6));
        Self {
            count: 0,
            failures: 0,
            total: 0.0,
            min: 0.0,
            max: 0.0,
            sketch,
        }
    }
}

impl Metrics {
    /// Whether an attempt with this outcome is added at all: one that never ran to an end of its own says nothing about speed.
    pub fn counts(outcome: OutcomeKind) -> bool {
        !matches!(outcome, OutcomeKind::Lost | OutcomeKind::Interrupted)
    }

    /// Adds one attempt that [counts](Self::counts).
    pub fn add(&mut self, outcome: OutcomeKind, execution_time: Duration) {
        let seconds = execution_time.as_secs_f64();
        self.min = if self.count == 0 { seconds } else { self.min.min(seconds) };
        self.count += 1;
        self.failures += u64::from(outcome.is_failure());
        self.total += seconds;
        self.max = self.max.max(seconds);
        self.sketch.add(seconds);
    }

    /// The mean in seconds; 0 without attempts.
    pub fn average(&self) -> f64 {
        if self.count == 0 { 0.0 } else { self.total / self.count as f64 }
    }

    /// The seconds that a share `q` (0 to 1) of the attempts stayed within.
    pub fn quantile(&self, q: f64) -> f64 {
        self.sketch
            .quantile(q)
            .ok()
            .flatten()
            .map_or(0.0, |value| value.clamp(self.min, self.max))
    }

    /// Failed attempts over all, 0 to 1.
    pub fn failure_rate(&self) -> f64 {
        if self.count == 0 {
            0.0
        } else {
            self.failures as f64 / self.count as f64
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_within_one_percent_and_survive_storage() {
        let mut metrics = Metrics::default();
        for millis in 1..=1_000 {
            metrics.add(
                if millis % 4 == 0 { OutcomeKind::Error } else { OutcomeKind::Ok },
                Duration::from_millis(millis),
            );
        }
        assert!(!Metrics::counts(OutcomeKind::Lost));
        let metrics: Metrics = serde_json::from_slice(&serde_json::to_vec(&metrics).unwrap()).unwrap();
        assert_eq!((metrics.count, metrics.failures), (1_000, 250));
        assert_eq!((metrics.min, metrics.max), (0.001, 1.0));
        for (q, expected) in [(0.5, 0.5), (0.95, 0.95), (0.99, 0.99)] {
            assert!((metrics.quantile(q) / expected - 1.0).abs() < 0.011, "{q}: {}", metrics.quantile(q));
        }
    }
}

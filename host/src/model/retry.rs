//! What happens to a task after an attempt: the one place where that is decided.

use crate::model::Time;
use crate::model::attempt::{Class, Outcome, OutcomeKind};
use crate::model::task::Status;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// How often a snooze may put a task off before it counts as failed.
pub const MAX_SNOOZES: u32 = 1_000;
/// How often a task may lose its node before it is taken for the cause.
pub const MAX_LOSSES: u32 = 3;
/// The longest that a handler may put off its own task.
const MAX_DELAY: Duration = Duration::from_secs(366 * 86_400);

/// When and how often a failed attempt is repeated.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RetryPolicy {
    /// Attempts after the first.
    pub max_retries: u32,
    /// Seconds before the first retry.
    pub initial_delay: f64,
    /// By how much each further delay is longer.
    pub backoff_factor: f64,
    /// Seconds that no delay exceeds.
    pub max_delay: f64,
    /// Share of the delay by which it is randomly longer or shorter, 0 to 1.
    pub jitter: f64,
    /// Outcomes and error codes that are retried although they are not by default:
    /// `out_of_fuel`, `out_of_memory`, `invalid_input`, `fatal`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub retry_on: Vec<String>,
}

impl Default for RetryPolicy {
    /// The seed's: 3 retries after 60 s, 120 s and 240 s; at most an hour; ±10 %.
    fn default() -> Self {
        Self {
            max_retries: 3,
            initial_delay: 60.0,
            backoff_factor: 2.0,
            max_delay: 3_600.0,
            jitter: 0.1,
            retry_on: Vec::new(),
        }
    }
}

impl RetryPolicy {
    /// Says what is out of range, for whoever wrote the policy.
    pub fn check(&self) -> Result<(), String> {
        let ranges = [
            ("initial_delay", self.initial_delay, 0.0, 86_400.0),
            ("backoff_factor", self.backoff_factor, 1.0, 100.0),
            ("max_delay", self.max_delay, 0.0, 30.0 * 86_400.0),
            ("jitter", self.jitter, 0.0, 1.0),
        ];
        for (name, value, low, high) in ranges {
            if !(low..=high).contains(&value) {
                return Err(format!("retry.{name} is {value}; it must be {low} to {high}"));
            }
        }
        if self.max_retries > 1_000 {
            return Err(format!("retry.max_retries is {}; it must be 0 to 1000", self.max_retries));
        }
        const KNOWN: [&str; 4] = ["out_of_fuel", "out_of_memory", "invalid_input", "fatal"];
        match self.retry_on.iter().find(|name| !KNOWN.contains(&name.as_str())) {
            Some(name) => Err(format!("retry.retry_on names {name:?}; it takes {}", KNOWN.join(", "))),
            None => Ok(()),
        }
    }

    /// The delay before retry number `retry` (from 1): `min(max_delay, initial_delay × factor^(retry−1)) × (1 ± jitter)`, and never more
    /// than `max_delay`.
    /// `random` is uniform in 0 to 1.
    pub fn delay(&self, retry: u32, random: f64) -> Duration {
        let exponent = i32::try_from(retry.saturating_sub(1)).unwrap_or(i32::MAX);
        if self.initial_delay == 0.0 {
            return Duration::ZERO; // times a factor that overflowed it would be no number
        }
        let plain = (self.initial_delay * self.backoff_factor.powi(exponent)).min(self.max_delay);
        let delay = plain * (1.0 + self.jitter * (2.0 * random - 1.0));
        Duration::try_from_secs_f64(delay.min(self.max_delay)).unwrap_or(MAX_DELAY)
    }
}

/// What a task has been through so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Retries used.
    pub retries: u32,
    /// Snoozes taken.
    pub snoozes: u32,
    /// Attempts that were lost.
    pub losses: u32,
}

/// What bounds the repetition of one task.
#[derive(Clone, Debug)]
pub struct Bounds<'a> {
    /// The definition's policy.
    pub policy: &'a RetryPolicy,
    /// The task's own `max_retries`, which wins over the policy's.
    pub max_retries: u32,
    /// Whether an attempt that gave no answer may be repeated.
    pub idempotent: bool,
    /// When the attempt was due: one that its host ended takes its old place again, and not one behind all that came since.
    pub due_at: Option<Time>,
}

/// A task's next state.
#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    /// Waits again.
    Pending {
        /// Until then.
        trigger_time: Time,
        /// With these counters.
        counters: Counters,
    },
    /// Ended well.
    Success,
    /// The dead letter.
    Failed {
        /// The API's `error_code`.
        code: &'static str,
        /// One sentence.
        error: String,
    },
    /// Ended by request.
    Cancelled,
}

impl Next {
    /// Where it leaves the task.
    pub fn status(&self) -> Status {
        match self {
            Self::Pending { .. } => Status::Pending,
            Self::Success => Status::Success,
            Self::Failed { .. } => Status::Failed,
            Self::Cancelled => Status::Cancelled,
        }
    }
}

/// Decides what follows an outcome. `random` is uniform in 0 to 1, for the jitter.
pub fn decide(outcome: &Outcome, counters: Counters, bounds: &Bounds<'_>, now: Time, random: f64) -> Next {
    let kind = outcome.kind();
    let error = outcome.message().unwrap_or_default();
    let old_place = bounds.due_at.map_or(now, |due| due.min(now));
    if !kind.is_answer() && !bounds.idempotent {
        let error = format!("it is not known whether the task took effect: {error}; check by hand, then retry or dismiss it");
        return Next::Failed {
            code: "unknown_outcome",
            error,
        };
    }
    match outcome {
        Outcome::Ok { .. } => Next::Success,
        Outcome::Cancelled => Next::Cancelled,
        Outcome::Interrupted => Next::Pending {
            trigger_time: old_place,
            counters,
        },
        Outcome::Lost if counters.losses < MAX_LOSSES => Next::Pending {
            trigger_time: old_place,
            counters: Counters {
                losses: counters.losses + 1,
                ..counters
            },
        },
        Outcome::Snooze { after, .. } if counters.snoozes < MAX_SNOOZES => Next::Pending {
            trigger_time: now + (*after).min(MAX_DELAY),
            counters: Counters {
                snoozes: counters.snoozes + 1,
                ..counters
            },
        },
        Outcome::Lost | Outcome::Snooze { .. } => Next::Failed {
            code: kind.as_str(),
            error,
        },
        _ if is_retried(outcome, bounds.policy) && counters.retries < bounds.max_retries => {
            let retries = counters.retries + 1;
            let delay = match outcome {
                Outcome::Error {
                    class: Class::Retryable { retry_after: Some(after) },
                    ..
                } => (*after).min(MAX_DELAY),
                _ => bounds.policy.delay(retries, random),
            };
            Next::Pending {
                trigger_time: now + delay,
                counters: Counters { retries, ..counters },
            }
        }
        _ => Next::Failed {
            code: outcome.code(),
            error,
        },
    }
}

fn is_retried(outcome: &Outcome, policy: &RetryPolicy) -> bool {
    match outcome {
        Outcome::Error {
            class: Class::Retryable { .. },
            ..
        } => true,
        Outcome::Error {
            class: Class::ResultTooLarge,
            ..
        } => false,
        _ => {
            matches!(outcome.kind(), OutcomeKind::Timeout | OutcomeKind::Trap) || policy.retry_on.iter().any(|name| name == outcome.code())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Time = Time::UNIX_EPOCH;

    fn after(outcome: &Outcome, counters: Counters, idempotent: bool) -> Next {
        let policy = RetryPolicy::default();
        let bounds = Bounds {
            policy: &policy,
            max_retries: policy.max_retries,
            idempotent,
            due_at: None,
        };
        decide(outcome, counters, &bounds, NOW, 0.5)
    }

    fn waits(next: &Next) -> Option<f64> {
        match next {
            Next::Pending { trigger_time, .. } => Some((*trigger_time - NOW).to_std().unwrap().as_secs_f64()),
            _ => None,
        }
    }

    fn error(class: Class) -> Outcome {
        Outcome::Error {
            class,
            message: "no".into(),
        }
    }

    #[test]
    fn retries_back_off_and_then_stop() {
        let outcome = error(Class::Retryable { retry_after: None });
        let delays: Vec<Option<f64>> = (0..4)
            .map(|retries| {
                waits(&after(
                    &outcome,
                    Counters {
                        retries,
                        ..Counters::default()
                    },
                    true,
                ))
            })
            .collect();
        assert_eq!(delays, [Some(60.0), Some(120.0), Some(240.0), None]);
    }

    #[test]
    fn the_class_decides() {
        let trap = Outcome::Trap {
            message: "t".into(),
            details: None,
        };
        let retried = [
            error(Class::Retryable { retry_after: None }),
            Outcome::Timeout { limit: Duration::ZERO },
            trap,
        ];
        for outcome in &retried {
            assert!(waits(&after(outcome, Counters::default(), true)).is_some(), "{outcome:?}");
        }
        let final_ones = [
            error(Class::InvalidInput { errors: vec![] }),
            error(Class::Fatal),
            error(Class::ResultTooLarge),
            Outcome::OutOfFuel { limit: 1 },
            Outcome::OutOfMemory { limit: 1 },
        ];
        for outcome in &final_ones {
            let Next::Failed { code, .. } = after(outcome, Counters::default(), true) else {
                panic!("{outcome:?}")
            };
            assert_eq!(code, outcome.code());
        }
    }

    #[test]
    fn a_definition_may_ask_for_more() {
        let policy = RetryPolicy {
            retry_on: vec!["out_of_fuel".into()],
            ..RetryPolicy::default()
        };
        policy.check().unwrap();
        let bounds = Bounds {
            policy: &policy,
            max_retries: 1,
            idempotent: true,
            due_at: None,
        };
        let next = decide(&Outcome::OutOfFuel { limit: 1 }, Counters::default(), &bounds, NOW, 0.5);
        assert_eq!(waits(&next), Some(60.0));
    }

    #[test]
    fn the_handlers_own_delay_wins() {
        let outcome = error(Class::Retryable {
            retry_after: Some(Duration::from_secs(7)),
        });
        assert_eq!(waits(&after(&outcome, Counters::default(), true)), Some(7.0));
    }

    #[test]
    fn snooze_loss_and_interruption_use_up_no_retry() {
        let snooze = Outcome::Snooze {
            after: Duration::from_secs(9),
            message: String::new(),
        };
        for outcome in [&snooze, &Outcome::Lost, &Outcome::Interrupted] {
            let Next::Pending { counters, .. } = after(outcome, Counters::default(), true) else {
                panic!("{outcome:?}")
            };
            assert_eq!(counters.retries, 0);
        }
        assert!(
            waits(&after(
                &Outcome::Lost,
                Counters {
                    losses: MAX_LOSSES,
                    ..Counters::default()
                },
                true
            ))
            .is_none()
        );
        assert!(
            waits(&after(
                &snooze,
                Counters {
                    snoozes: MAX_SNOOZES,
                    ..Counters::default()
                },
                true
            ))
            .is_none()
        );
    }

    #[test]
    fn what_is_not_idempotent_waits_for_a_person() {
        let unanswered = [
            Outcome::Lost,
            Outcome::Interrupted,
            Outcome::Timeout { limit: Duration::ZERO },
            Outcome::OutOfFuel { limit: 1 },
        ];
        for outcome in &unanswered {
            let Next::Failed { code, .. } = after(outcome, Counters::default(), false) else {
                panic!("{outcome:?}")
            };
            assert_eq!(code, "unknown_outcome");
        }
        assert!(waits(&after(&error(Class::Retryable { retry_after: None }), Counters::default(), false)).is_some());
    }

    #[test]
    fn jitter_stays_within_its_share_and_the_cap_holds() {
        let policy = RetryPolicy::default();
        for (random, expected) in [(0.0, 54.0), (0.5, 60.0), (1.0, 66.0)] {
            assert!((policy.delay(1, random).as_secs_f64() - expected).abs() < 1e-9);
        }
        for random in [0.5, 1.0] {
            assert!((policy.delay(1_000, random).as_secs_f64() - 3_600.0).abs() < 1e-9);
        }
        let at_once = RetryPolicy {
            initial_delay: 0.0,
            backoff_factor: 100.0,
            ..RetryPolicy::default()
        };
        assert_eq!(at_once.delay(1_000, 1.0), Duration::ZERO);
    }

    #[test]
    fn what_its_host_ended_takes_its_old_place() {
        let policy = RetryPolicy::default();
        let due = NOW - chrono::TimeDelta::seconds(9);
        let bounds = Bounds {
            policy: &policy,
            max_retries: 0,
            idempotent: true,
            due_at: Some(due),
        };
        for outcome in [Outcome::Lost, Outcome::Interrupted] {
            let next = decide(&outcome, Counters::default(), &bounds, NOW, 0.5);
            assert!(
                matches!(next, Next::Pending { trigger_time, .. } if trigger_time == due),
                "{next:?}"
            );
        }
    }

    #[test]
    fn a_policy_out_of_range_is_named() {
        let bad = RetryPolicy {
            backoff_factor: 0.5,
            ..RetryPolicy::default()
        };
        assert!(bad.check().unwrap_err().contains("backoff_factor"));
        let bad = RetryPolicy {
            initial_delay: f64::NAN,
            ..RetryPolicy::default()
        };
        assert!(bad.check().unwrap_err().contains("initial_delay"));
    }
}

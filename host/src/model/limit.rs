//! Limits: how many tasks of a kind may run at once, and how many may start in a time.
//!
//! A limit matches tasks by name, by tag, or all of them; with a `key` it holds for each value of that member of the payload by itself.
//! A task takes a place under every limit that matches it when its attempt starts, and gives it back when the attempt ends, however it
//! ends. Rates are token buckets: at most `count` starts at once, refilled evenly over `per`.

use crate::model::hold::Hold;
use crate::model::{Time, unique};
use sha2::{Digest, Sha256};
use std::time::Duration;

/// Most limits of a host.
pub const MAX_LIMITS: usize = 1_000;
/// The longest time of a rate: a bucket that nobody took from for so long is full.
pub const MAX_PER: Duration = Duration::from_secs(86_400);
/// The tokens of a bucket that nobody has taken from: it is full, whatever its rate.
pub const UNTOUCHED: f64 = 1e18;
/// The longest text of a key that is kept as it is; of a longer one its hash stands in.
const MAX_KEY: usize = 128;

/// A rate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    /// Starts, at least 1.
    pub count: u32,
    /// In this time.
    pub per: Duration,
}

/// A limit as it is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Limit {
    /// Unique; put again under it replaces.
    pub name: String,
    /// Only tasks of this name.
    pub task_name: Option<String>,
    /// Only tasks with this tag.
    pub tag: Option<String>,
    /// JSON pointer (RFC 6901) into the payload: the limit holds for each of its values by itself, and not for a task without one.
    pub key: Option<String>,
    /// Attempts that may run at once.
    pub max_running: Option<u32>,
    /// Attempts that may start in a time.
    pub rate: Option<Rate>,
    /// Of the tasks that wait: how many turns in a row their fairness keys have.
    pub weight: Option<u32>,
}

impl Limit {
    /// Whether it concerns tasks of this name with these tags.
    pub fn matches(&self, name: &str, tags: &[String]) -> bool {
        self.task_name.as_ref().is_none_or(|wanted| wanted == name) && self.tag.as_ref().is_none_or(|wanted| tags.contains(wanted))
    }

    /// Whether the same tasks count under the same keys of another, though others may be allowed.
    pub fn counts_as(&self, other: &Self) -> bool {
        let has_places = |limit: &Self| limit.max_running.is_some();
        (&self.task_name, &self.tag, &self.key, has_places(self)) == (&other.task_name, &other.tag, &other.key, has_places(other))
    }

    /// Under which key a task with this payload counts; `None` where the limit does not hold for it.
    pub fn key_of(&self, payload: &str) -> Option<String> {
        let Some(pointer) = &self.key else { return Some(String::new()) };
        let text = unique::member(payload, pointer)?;
        Some(if text.len() > MAX_KEY { hash(&text) } else { text })
    }
}

/// What a task takes to start.
#[derive(Clone, Debug, PartialEq)]
pub enum Need {
    /// A token of the bucket of this key.
    Token {
        /// See [`Hold::Rate`].
        key: String,
        /// How the bucket fills.
        rate: Rate,
        /// Why the task waits where there is none, for people.
        why: String,
    },
    /// One of so many places.
    Place {
        /// See [`Hold::Limit`] and [`Hold::Definition`].
        key: String,
        /// How many there are.
        max: u32,
        /// Why the task waits where there is none, for people.
        why: String,
    },
}

/// What a task takes to start, in the order in which it takes it; what it has, it keeps while it waits for the rest.
///
/// One order for all tasks, so that no two wait for one another for ever: tokens of rates, then places under limits with a key, then the
/// others, each by their keys. So who waits for one of many values keeps no place from all.
pub fn needs<'a>(limits: impl Iterator<Item = &'a Limit>, name: &str, payload: &str, max_running: Option<u32>) -> Vec<Need> {
    let keyed: Vec<(&Limit, String)> = limits.filter_map(|limit| Some((limit, limit.key_of(payload)?))).collect();
    let mut tokens: Vec<Need> = keyed.iter().filter_map(|(limit, value)| limit.token(value)).collect();
    tokens.sort_by(|one, other| one.key().cmp(other.key()));
    let of_limits = keyed
        .iter()
        .filter_map(|(limit, value)| Some((limit.key.is_none(), limit.place(value)?)));
    let of_definition = max_running.map(|max| Need::Place {
        key: Hold::Definition.key(name, ""),
        max,
        why: format!("limit: {max} of {name} may run at once"),
    });
    let mut places: Vec<(bool, Need)> = of_limits.chain(of_definition.map(|need| (true, need))).collect();
    places.sort_by(|(is_whole, one), (other_is, other)| (is_whole, one.key()).cmp(&(other_is, other.key())));
    tokens.extend(places.into_iter().map(|(_, need)| need));
    tokens
}

impl Need {
    fn key(&self) -> &str {
        match self {
            Self::Token { key, .. } | Self::Place { key, .. } => key,
        }
    }
}

impl Limit {
    fn token(&self, value: &str) -> Option<Need> {
        let rate = self.rate?;
        let (shown, count, per) = (self.shown(value), rate.count, rate.per.as_secs_f64());
        Some(Need::Token {
            key: Hold::Rate.key(&self.name, value),
            rate,
            why: format!("limit {shown}: {count} may start in {per} s"),
        })
    }

    fn place(&self, value: &str) -> Option<Need> {
        let (shown, max) = (self.shown(value), self.max_running?);
        Some(Need::Place {
            key: Hold::Limit.key(&self.name, value),
            max,
            why: format!("limit {shown}: {max} may run at once"),
        })
    }

    fn shown(&self, value: &str) -> String {
        match value {
            "" => self.name.clone(),
            value => format!("{} of {value}", self.name),
        }
    }
}

fn hash(text: &str) -> String {
    Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A token bucket: how many starts are left, as of when.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bucket {
    /// From 0 to the rate's count; a part of a token is one that is on its way.
    pub tokens: f64,
    /// When that was so.
    pub at: Time,
}

impl Bucket {
    /// A full one.
    pub fn full(rate: Rate, now: Time) -> Self {
        Self {
            tokens: f64::from(rate.count),
            at: now,
        }
    }

    /// As it stands now. A clock that was set back adds nothing and takes nothing.
    pub fn refilled(self, rate: Rate, now: Time) -> Self {
        let passed = (now - self.at).to_std().unwrap_or_default();
        let more = passed.as_secs_f64() * f64::from(rate.count) / rate.per.as_secs_f64();
        Self {
            tokens: (self.tokens + more).min(f64::from(rate.count)),
            at: now,
        }
    }

    /// Takes one token; where there is none, says when there will be.
    pub fn take(self) -> Option<Self> {
        // What floating point loses of a token over many refills must not make it late.
        (self.tokens >= 1.0 - 1e-9).then(|| Self {
            tokens: (self.tokens - 1.0).max(0.0),
            ..self
        })
    }

    /// When the next token is whole: now, where one is.
    pub fn next(self, rate: Rate) -> Time {
        let missing = (1.0 - self.tokens).max(0.0);
        let wait = missing * rate.per.as_secs_f64() / f64::from(rate.count);
        self.at + chrono::TimeDelta::from_std(Duration::from_secs_f64(wait)).unwrap_or_default() + chrono::TimeDelta::microseconds(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit() -> Limit {
        Limit {
            name: "l".into(),
            task_name: None,
            tag: None,
            key: None,
            max_running: Some(1),
            rate: None,
            weight: None,
        }
    }

    #[test]
    fn a_limit_matches_by_all_that_it_names() {
        let named = Limit {
            task_name: Some("a".into()),
            tag: Some("x".into()),
            ..limit()
        };
        assert!(named.matches("a", &["x".into()]));
        assert!(!named.matches("b", &["x".into()]));
        assert!(!named.matches("a", &[]));
        assert!(limit().matches("b", &[]));
    }

    #[test]
    fn each_value_of_the_key_counts_by_itself() {
        let keyed = Limit {
            key: Some("/desk".into()),
            ..limit()
        };
        assert_eq!(keyed.key_of(r#"{"desk":"fx"}"#).as_deref(), Some("\"fx\""));
        assert_eq!(keyed.key_of(r#"{"desk":1}"#).as_deref(), Some("1"));
        assert_eq!(keyed.key_of(r#"{"desks":1}"#), None);
        let long = keyed.key_of(&format!(r#"{{"desk":"{}"}}"#, "x".repeat(1_000_000))).unwrap();
        assert_eq!(long.len(), 64);
        assert_eq!(limit().key_of("{}").as_deref(), Some(""));
    }

    #[test]
    fn tokens_are_taken_before_places_and_places_of_one_value_before_those_of_all() {
        let rate = Some(Rate {
            count: 1,
            per: Duration::from_secs(1),
        });
        let all = |name: &str| Limit {
            name: name.into(),
            ..limit()
        };
        let keyed = |name: &str| Limit {
            key: Some("/desk".into()),
            rate,
            ..all(name)
        };
        let keys = |limits: &[Limit], payload| {
            let needs = needs(limits.iter(), "t", payload, Some(3));
            needs.iter().map(|need| need.key().to_owned()).collect::<Vec<_>>()
        };
        let mut limits = [all("a"), keyed("z"), all("c"), keyed("b")];
        let expected = [
            r#"rate/b/"fx""#,
            r#"rate/z/"fx""#,
            r#"limit/b/"fx""#,
            r#"limit/z/"fx""#,
            "limit/a/",
            "limit/c/",
            "task/t/",
        ];
        assert_eq!(keys(&limits, r#"{"desk":"fx"}"#), expected);
        limits.reverse();
        assert_eq!(keys(&limits, r#"{"desk":"fx"}"#), expected, "whatever the order of the limits");
        assert_eq!(keys(&limits, "{}"), ["limit/a/", "limit/c/", "task/t/"]);
    }

    #[test]
    fn tokens_come_back_evenly_and_never_beyond_the_count() {
        let rate = Rate {
            count: 2,
            per: Duration::from_secs(10),
        };
        let start: Time = "2026-01-01T00:00:00Z".parse().unwrap();
        let after = |seconds: i64| start + chrono::TimeDelta::seconds(seconds);
        let empty = Bucket::full(rate, start).take().and_then(Bucket::take).unwrap();
        assert_eq!(empty.take(), None);
        assert_eq!((empty.next(rate) - start).num_milliseconds(), 5_000);
        assert!(empty.refilled(rate, after(4)).take().is_none());
        assert!(empty.refilled(rate, after(5)).take().is_some());
        assert!((empty.refilled(rate, after(3_600)).tokens - 2.0).abs() < f64::EPSILON);
        let back = empty.refilled(rate, after(-3_600));
        assert!(back.take().is_none());
        let next = empty.next(rate);
        assert!(empty.refilled(rate, next).take().is_some(), "it is there when it was said to be");
    }
}

//! Which of the fires that are due are made: in good order it is one, after a stop of the house or a jump of its clock it may be thousands.

use super::rule::Rule;
use super::{Skip, SkipReason};
use crate::model::Time;
use chrono::TimeDelta;
use serde::{Deserialize, Serialize};

/// The choices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Misfire {
    /// Of all that were missed, the last is made up for.
    #[default]
    Latest,
    /// All are, up to [`MOST_AT_ONCE`] of the last.
    All,
    /// None is.
    None,
}

/// A fire that was missed is made up for within the longer of this and one period.
const WINDOW: TimeDelta = TimeDelta::hours(24);
/// A fire is missed once it is so late.
pub const ON_TIME: TimeDelta = TimeDelta::seconds(60);
/// Fires that are made up for at once, at most.
pub const MOST_AT_ONCE: usize = 100;

/// What to do at some moment with a schedule whose cursor is not after it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Due {
    /// The fires to make, earliest first.
    pub fires: Vec<Time>,
    /// Those that are not made: the ones before.
    pub skipped: Option<Skip>,
    /// Where the cursor goes.
    pub next: Option<Time>,
}

/// Decides what to do at `now` with a schedule whose cursor stands at the fire `cursor`. Of those that are made up for, no more than
/// `at_once` are made; the cursor then stands at the next of them.
pub fn due(rule: &Rule, misfire: Misfire, cursor: Time, now: Time, at_once: usize) -> Due {
    let next = rule.next_after(now);
    let latest = match rule.next_after(cursor) {
        Some(second) if second <= now => rule.last_until(second, now),
        _ => cursor,
    };
    let window = WINDOW.max(next.map_or(WINDOW, |next| next - latest));
    let mut fires = match misfire {
        Misfire::Latest if now - latest <= window => vec![latest],
        Misfire::None if now - latest <= ON_TIME => vec![latest],
        Misfire::All => last_ones(rule, cursor, latest, now - window),
        Misfire::Latest | Misfire::None => Vec::new(),
    };
    let skipped_until = match fires.first() {
        Some(first) if *first == cursor => None,
        Some(first) => Some(*first - TimeDelta::seconds(1)),
        None => Some(now),
    };
    let skipped = skipped_until.map(|until| rule.skipped(SkipReason::Misfire, cursor, until));
    let next = fires.get(at_once).copied().or(next);
    fires.truncate(at_once);
    Due { fires, skipped, next }
}

/// The last fires in `[cursor, latest]` that are not before `since`, earliest first.
fn last_ones(rule: &Rule, cursor: Time, latest: Time, since: Time) -> Vec<Time> {
    let mut fires = Vec::new();
    let mut at = latest;
    while at >= since && fires.len() < MOST_AT_ONCE {
        fires.push(at);
        if at == cursor {
            break;
        }
        at = rule.last_until(cursor, at - TimeDelta::seconds(1));
    }
    fires.reverse();
    fires
}

//! Time zones: when a wall clock shows what a schedule waits for.
//!
//! A zone is a row of spans of time, each with one offset from UTC. Between two of them local times are left out (a gap) or come twice
//! (a fold). [`Zone::next_after`] goes from span to span, so that nothing is asked of local times alone, which a change may turn around,
//! leave out or repeat; a day that a zone skipped at the date line is a gap like any.

use crate::model::Time;
use chrono::{NaiveDateTime, Offset, TimeDelta, TimeZone};
use chrono_tz::Tz;
use serde::{Deserialize, Serialize};

/// An IANA time zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Zone(Tz);

/// What to do with fixed hours that a gap leaves out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Gap {
    /// They fire at the first instant after it, all of one gap together once.
    #[default]
    RunAfter,
    /// They do not fire.
    Skip,
}

/// Which of two passes through a fold counts for fixed hours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fold {
    /// The first.
    #[default]
    First,
    /// The second.
    Last,
    /// Each.
    Both,
}

/// What a change of the clocks does to a rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dst {
    /// Where local times are left out.
    pub gap: Gap,
    /// Where they come twice.
    pub fold: Fold,
}

impl Dst {
    /// Every instant that matches, and no other: for rules that follow time as it passes.
    pub const AS_IT_PASSES: Self = Self {
        gap: Gap::Skip,
        fold: Fold::Both,
    };
}

/// The name of a zone that there is not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} is no IANA time zone{}", .near.map_or_else(|| ", such as Europe/London".to_owned(), |near| format!("; is it {near}?")))]
pub struct ZoneError {
    name: String,
    near: Option<&'static str>,
}

/// A gap that fell on a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// The first instant after it.
    pub at: Time,
    /// The first local time that was left out.
    pub from: NaiveDateTime,
    /// The first one that was not.
    pub until: NaiveDateTime,
}

/// The shortest time between two changes since 1970 is a week (America/Boa_Vista in 2000), so that none hides behind another.
const STEP: TimeDelta = TimeDelta::hours(12);
/// No change is greater: from one side of the date line to the other, and some.
const GREATEST: TimeDelta = TimeDelta::hours(26);
/// How far ahead changes are looked for before the next fire is; longer than [`GREATEST`].
const AHEAD: TimeDelta = TimeDelta::hours(48);
const SECOND: TimeDelta = TimeDelta::seconds(1);
/// More spans than the database has for any zone, with jumps between them.
const MOST_LOOKS: usize = 2_000;
/// The longest name shown back.
const MAX_NAME: usize = 64;

impl Zone {
    /// Coordinated Universal Time.
    pub const UTC: Self = Self(Tz::UTC);

    /// Finds a zone by its IANA name.
    pub fn parse(name: &str) -> Result<Self, ZoneError> {
        name.parse().map(Self).map_err(|_| ZoneError {
            name: name.chars().take(MAX_NAME).collect(),
            near: nearest(name),
        })
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        self.0.name()
    }

    /// What a wall clock shows.
    pub fn local(self, at: Time) -> NaiveDateTime {
        at.naive_utc() + self.offset(at.naive_utc())
    }

    /// When a wall clock shows this: the first time it does, or about then where it never does.
    pub fn instant(self, local: NaiveDateTime) -> Time {
        let found = self.0.from_local_datetime(&local).earliest().map(|at| at.to_utc());
        found.unwrap_or_else(|| (local - self.offset(local)).and_utc())
    }

    /// The first instant strictly after `after` at which a rule fires, where `next` gives the first local time after another that
    /// matches the rule.
    pub fn next_after(self, after: Time, dst: Dst, next: impl Fn(NaiveDateTime) -> Option<NaiveDateTime>) -> Option<Time> {
        let mut at = whole_second(after)?;
        // Strictly after `at`, but from the second span on with its first instant.
        let mut local = at + self.offset(at);
        for _ in 0..MOST_LOOKS {
            let offset = self.offset(at);
            if dst.fold == Fold::First {
                local = local.max(self.shown_before(at).unwrap_or(local));
            }
            let fire = next(local).map(|local| local - offset);
            let horizon = at + AHEAD;
            match self.change(at, fire.unwrap_or(horizon).min(horizon)) {
                Some(change) => {
                    let gap = self.offset(change) > offset && dst.gap == Gap::RunAfter;
                    if gap && next(change + offset - SECOND).is_some_and(|local| local < change + self.offset(change)) {
                        return Some(change.and_utc());
                    }
                    at = change;
                    local = at + self.offset(at) - SECOND;
                }
                None => match fire? {
                    fire if fire > horizon => {
                        // Nothing matches in between, however the clocks were changed there.
                        at = horizon.max(fire - AHEAD);
                        local = at + self.offset(at);
                    }
                    fire => match self.shown_again(fire).filter(|_| dst.fold == Fold::Last) {
                        Some(change) => {
                            at = change;
                            local = at + self.offset(at) - SECOND;
                        }
                        None => return Some(fire.and_utc()),
                    },
                },
            }
        }
        None
    }

    /// The first gap after `after`, and not after `until`, with a local time that matches.
    pub fn left_out(self, after: Time, until: Time, next: impl Fn(NaiveDateTime) -> Option<NaiveDateTime>) -> Option<LeftOut> {
        let until = whole_second(until)?;
        let mut at = whole_second(after)?;
        while let Some(change) = self.change(at, until) {
            let (from, to) = (change + self.offset(at), change + self.offset(change));
            if from < to && next(from - SECOND).is_some_and(|local| local < to) {
                return Some(LeftOut {
                    at: change.and_utc(),
                    from,
                    until: to,
                });
            }
            at = change;
        }
        None
    }

    fn offset(self, utc: NaiveDateTime) -> TimeDelta {
        TimeDelta::seconds(self.0.offset_from_utc_datetime(&utc).fix().local_minus_utc().into())
    }

    /// The first instant after `from`, and not after `until`, that has another offset than the one before it.
    fn change(self, from: NaiveDateTime, until: NaiveDateTime) -> Option<NaiveDateTime> {
        let offset = self.offset(from);
        let mut before = from;
        while before < until {
            let mut change = (before + STEP).min(until);
            if self.offset(change) == offset {
                before = change;
                continue;
            }
            while change - before > SECOND {
                let middle = before + TimeDelta::seconds((change - before).num_seconds() / 2);
                if self.offset(middle) == offset {
                    before = middle;
                } else {
                    change = middle;
                }
            }
            return Some(change);
        }
        None
    }

    /// Where `at` is in a fold's second pass, or may be: the last local time that was shown before its span began.
    fn shown_before(self, at: NaiveDateTime) -> Option<NaiveDateTime> {
        let mut before = at - GREATEST;
        let mut last = None;
        while let Some(change) = self.change(before, at) {
            last = last.max(Some(change + self.offset(before) - SECOND));
            before = change;
        }
        last
    }

    /// The change after which what is shown at `at` is shown again.
    fn shown_again(self, at: NaiveDateTime) -> Option<NaiveDateTime> {
        let change = self.change(at, at + GREATEST)?;
        (change + self.offset(change) <= at + self.offset(at)).then_some(change)
    }
}

impl<'de> Deserialize<'de> for Zone {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        Self::parse(&name).map_err(serde::de::Error::custom)
    }
}

impl Default for Zone {
    fn default() -> Self {
        Self::UTC
    }
}

/// The second that an instant is in, for years in which a cron expression can fire.
fn whole_second(at: Time) -> Option<NaiveDateTime> {
    const YEAR: i64 = 366 * 24 * 3600;
    chrono::DateTime::from_timestamp(at.timestamp().clamp(-YEAR, 135 * YEAR), 0).map(|at| at.naive_utc())
}

/// The zone that was probably meant. Not of a name with a number: that is an offset, and the zone that looks most like it has another
/// (`Etc/GMT+1` is one hour behind).
fn nearest(name: &str) -> Option<&'static str> {
    if name.len() > MAX_NAME || name.bytes().any(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let wanted = name.to_lowercase();
    let likeness = |zone: &Tz| strsim::jaro_winkler(&wanted, &zone.name().to_lowercase());
    let all = chrono_tz::TZ_VARIANTS.iter().map(|zone| (likeness(zone), zone.name()));
    all.filter(|(likeness, _)| *likeness > 0.85)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}

#[cfg(test)]
mod oracle;
#[cfg(test)]
mod tests {
    use super::Zone;

    #[test]
    fn a_name_that_is_no_zone_is_told_with_what_may_be_meant() {
        for (name, end) in [
            ("Europe/Londn", "; is it Europe/London?"),
            ("europe/london", "; is it Europe/London?"),
            ("GMT+1", ", such as Europe/London"),
            ("UTC+02:00", ", such as Europe/London"),
            ("Etc/GMT+15", ", such as Europe/London"),
            ("Mars", ", such as Europe/London"),
        ] {
            let error = Zone::parse(name).expect_err(name).to_string();
            assert!(error.ends_with(&format!("is no IANA time zone{end}")), "{error}");
        }
    }
}

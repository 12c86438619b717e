//! Local dates and times of day as a calendar writes them, and the instants that they are.

use crate::model::Time;
use chrono::{Datelike, LocalResult, NaiveDate, NaiveDateTime, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;
use std::fmt::{Display, Formatter};

/// A date, written exactly `YYYY-MM-DD`, of the years 1990 to 2100.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Day(pub NaiveDate);

const YEARS: std::ops::RangeInclusive<i32> = 1990..=2100;

impl Day {
    /// Reads a date; the error is a sentence.
    pub fn parse(text: &str) -> Result<Self, String> {
        let shown = || text.chars().take(40).collect::<String>();
        let plain = text.len() == 10 && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
        let date: Option<NaiveDate> = plain.then(|| text.parse().ok()).flatten();
        let date = date.ok_or_else(|| format!("{:?} is no date; write it as YYYY-MM-DD, such as 2024-12-24", shown()))?;
        if YEARS.contains(&date.year()) {
            return Ok(Self(date));
        }
        Err(format!(
            "{text} is out of range; a calendar has the years {} to {}",
            YEARS.start(),
            YEARS.end()
        ))
    }
}

/// A time of day, written `HH:MM`, in minutes since midnight; `24:00` is the end of the day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LocalTime(u16);

impl LocalTime {
    /// Reads a time of day; the error is a sentence.
    pub fn parse(text: &str) -> Result<Self, String> {
        let two = |part: &str| {
            let plain = part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_digit());
            plain.then(|| part.parse::<u16>().ok()).flatten()
        };
        let parts = text.split_once(':').and_then(|(hour, minute)| two(hour).zip(two(minute)));
        match parts {
            Some((hour, minute)) if (hour < 24 && minute < 60) || (hour, minute) == (24, 0) => Ok(Self(hour * 60 + minute)),
            _ => {
                let shown: String = text.chars().take(40).collect();
                Err(format!(
                    "{shown:?} is no time of day; write it as HH:MM from 00:00 to 24:00, such as 09:30"
                ))
            }
        }
    }
}

impl Display for Day {
    fn fmt(&self, out: &mut Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(out)
    }
}

impl Display for LocalTime {
    fn fmt(&self, out: &mut Formatter<'_>) -> std::fmt::Result {
        write!(out, "{:02}:{:02}", self.0 / 60, self.0 % 60)
    }
}

impl<'de> Deserialize<'de> for Day {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(reader)?;
        Self::parse(&text).map_err(Error::custom)
    }
}

impl<'de> Deserialize<'de> for LocalTime {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(reader)?;
        Self::parse(&text).map_err(Error::custom)
    }
}

impl Serialize for Day {
    fn serialize<S: Serializer>(&self, writer: S) -> Result<S::Ok, S::Error> {
        writer.collect_str(self)
    }
}

impl Serialize for LocalTime {
    fn serialize<S: Serializer>(&self, writer: S) -> Result<S::Ok, S::Error> {
        writer.collect_str(self)
    }
}

/// Which of two instants an hour means that the clocks show twice: a session lasts from the first to the last.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Edge {
    /// The earlier.
    Start,
    /// The later.
    End,
}

/// No zone ever skipped more than a day and an hour.
const LONGEST_GAP: i64 = 25 * 60;

/// The instant of a local time. An hour that the clocks skip becomes the first instant after it.
pub(super) fn instant(zone: Tz, date: NaiveDate, time: LocalTime, edge: Edge) -> Option<Time> {
    let local: NaiveDateTime = date.and_hms_opt(0, 0, 0)?.checked_add_signed(TimeDelta::minutes(time.0.into()))?;
    let found = (0..=LONGEST_GAP).find_map(|minutes| {
        let local = local.checked_add_signed(TimeDelta::minutes(minutes))?;
        match zone.from_local_datetime(&local) {
            LocalResult::Single(time) => Some(time),
            LocalResult::Ambiguous(first, last) => Some(if edge == Edge::Start { first } else { last }),
            LocalResult::None => None,
        }
    });
    found.map(|time| time.with_timezone(&Utc))
}

//! Cron expressions with their Unix meaning, as local times: what a wall clock shows. When that is, [`super::zone`] knows.
//!
//! Five fields (minute, hour, day of month, month, day of week), six with leading seconds, or `@daily` and its kin. The `cron`
//! crate finds the instants, but it reads an expression differently from every crontab: it numbers Sunday 1, and it wants
//! both day fields to match. So weekdays are rewritten to its numbers, and an expression that restricts both day fields
//! becomes two, of which the earlier instant counts: crontab(5) fires when *either* matches, unless one begins with `*`.

use chrono::{NaiveDateTime, NaiveTime};
use cron::{Schedule, TimeUnitSpec};
use std::collections::BTreeSet;
use std::str::FromStr;

/// A parsed expression that fires at least once.
#[derive(Clone, Debug)]
pub struct Cron {
    /// One, or two where either day field may match.
    schedules: Vec<Schedule>,
    starred_hour: bool,
}

/// What is wrong with an expression: one sentence that names the field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CronError(String);

const FIELDS: [&str; 6] = ["second", "minute", "hour", "day of month", "month", "day of week"];
const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const MAX_LENGTH: usize = 256;

impl Cron {
    /// Reads an expression; refuses one that never fires.
    pub fn parse(expression: &str) -> Result<Self, CronError> {
        if expression.len() > MAX_LENGTH {
            return Err(CronError(format!("a cron expression has at most {MAX_LENGTH} characters")));
        }
        let text = expression.trim();
        let expanded = if text.starts_with('@') { alias(text)? } else { text };
        let mut fields: Vec<String> = expanded.split_whitespace().map(str::to_owned).collect();
        match fields.len() {
            5 => fields.insert(0, "0".to_owned()),
            6 => {}
            n => {
                return Err(CronError(format!(
                    "a cron expression has 5 fields (minute, hour, day of month, month, day of week) or 6 with leading seconds; this has {n}"
                )));
            }
        }
        for (index, field) in fields.iter().enumerate() {
            check_characters(index, field)?;
        }
        let either = !fields[3].starts_with('*') && !fields[5].starts_with('*');
        fields[4] = months(&fields[4]);
        fields[5] = weekdays(&fields[5])?;
        for (index, field) in fields.iter().enumerate() {
            check_alone(index, field)?;
        }
        let with = |day: &str, weekday: &str| {
            let line = format!("{} {} {} {day} {} {weekday}", fields[0], fields[1], fields[2], fields[4]);
            Schedule::from_str(&line).map_err(|error| CronError(format!("{expression:?} is not a cron expression: {error}")))
        };
        let schedules = if either {
            vec![with(&fields[3], "*")?, with("*", &fields[5])?]
        } else {
            vec![with(&fields[3], &fields[5])?]
        };
        let starred_hour = fields[2].starts_with('*');
        let cron = Self { schedules, starred_hour };
        match cron.next_local(chrono::DateTime::UNIX_EPOCH.naive_utc()) {
            Some(_) => Ok(cron),
            None => Err(CronError(format!("{expression:?} never fires: no such date exists"))),
        }
    }

    /// The first local time strictly after `after` that matches, in whole seconds; `None` past the year 2100.
    pub fn next_local(&self, after: NaiveDateTime) -> Option<NaiveDateTime> {
        let after = after.and_utc();
        let firsts = self.schedules.iter().filter_map(|schedule| schedule.after(&after).next());
        firsts.min().map(|first| first.naive_utc())
    }

    /// Whether the hour field begins with `*`: such an expression follows time as it passes, and not the hours of a clock.
    pub fn starred_hour(&self) -> bool {
        self.starred_hour
    }

    /// How many times match on a day that matches; they are the same on each.
    pub fn times_a_day(&self) -> u64 {
        self.schedules.first().map_or(0, |schedule| {
            u64::from(schedule.hours().count()) * u64::from(schedule.minutes().count()) * u64::from(schedule.seconds().count())
        })
    }

    /// The last time that matches on a day that matches.
    pub fn last_of_day(&self) -> NaiveTime {
        let last = |ordinals: &dyn Fn(&Schedule) -> Option<u32>| self.schedules.first().and_then(ordinals).unwrap_or(0);
        let hour = last(&|schedule| schedule.hours().iter().max());
        let minute = last(&|schedule| schedule.minutes().iter().max());
        let second = last(&|schedule| schedule.seconds().iter().max());
        NaiveTime::from_hms_opt(hour, minute, second).unwrap_or(NaiveTime::MIN)
    }
}

fn alias(text: &str) -> Result<&'static str, CronError> {
    Ok(match text.to_ascii_lowercase().as_str() {
        "@yearly" | "@annually" => "0 0 1 1 *",
        "@monthly" => "0 0 1 * *",
        "@weekly" => "0 0 * * 0",
        "@daily" | "@midnight" => "0 0 * * *",
        "@hourly" => "0 * * * *",
        _ => {
            return Err(CronError(format!(
                "{text:?} is unknown; there are @yearly @monthly @weekly @daily @hourly"
            )));
        }
    })
}

/// The numbers that each field takes.
const RANGES: [(u32, u32); 6] = [(0, 59), (0, 59), (0, 23), (1, 31), (1, 12), (0, 7)];

/// Refuses what other dialects allow and this one does not, and numbers out of range, in words that name the field.
fn check_characters(index: usize, field: &str) -> Result<(), CronError> {
    let (name, (low, high)) = (FIELDS[index], RANGES[index]);
    let bad = |why: String| Err(CronError(format!("the {name} field {field:?} is not valid: {why}")));
    if let Some(c) = field
        .chars()
        .find(|c| !c.is_ascii_alphanumeric() && !matches!(c, '*' | ',' | '-' | '/'))
    {
        return bad(if c == '#' {
            "# is not supported".into()
        } else {
            format!("{c:?} means nothing there")
        });
    }
    for word in field.split([',', '-', '/']) {
        let upper = word.to_ascii_uppercase();
        if index > 2
            && (upper == "L"
                || upper == "LW"
                || upper
                    .trim_end_matches(['L', 'W'])
                    .parse::<u32>()
                    .is_ok_and(|_| upper.ends_with(['L', 'W'])))
        {
            return bad("L and W are not supported".into());
        }
    }
    let bounds = field
        .split(',')
        .map(|part| part.split('/').next().unwrap_or(part))
        .flat_map(|range| range.split('-'));
    match bounds
        .filter(|word| word.bytes().all(|b| b.is_ascii_digit()))
        .find(|word| !word.parse().is_ok_and(|n| (low..=high).contains(&n)))
    {
        Some("") => bad("a number is missing".into()),
        Some(number) => bad(format!("{number} is not in {low} to {high}")),
        None => Ok(()),
    }
}

/// Checks one field by itself, so that the error can name it.
fn check_alone(index: usize, field: &str) -> Result<(), CronError> {
    let mut line = ["*"; 6];
    line[index] = field;
    match Schedule::from_str(&line.join(" ")) {
        Ok(_) => Ok(()),
        Err(error) => {
            // The crate shows the expression it was given, which is not the user's; its last line is the reason.
            let told = error.to_string();
            let reason = told.lines().last().unwrap_or_default().trim();
            Err(CronError(format!("the {} field {field:?} is not valid: {reason}", FIELDS[index])))
        }
    }
}

/// Writes numbers for the names of months, which the crate does not take beside numbers in one range.
fn months(field: &str) -> String {
    let number = |word: &str| {
        let month = MONTHS.iter().position(|name| word.eq_ignore_ascii_case(name));
        month.map_or_else(|| word.to_owned(), |month| (month + 1).to_string())
    };
    let mut text = String::new();
    for word in field.split_inclusive([',', '-', '/']) {
        let name = word.trim_end_matches([',', '-', '/']);
        text.push_str(&number(name));
        text.push_str(&word[name.len()..]);
    }
    text
}

/// Rewrites a Unix day-of-week field (0 and 7 are Sunday) to the crate's numbers (1 is Sunday).
fn weekdays(field: &str) -> Result<String, CronError> {
    let bad = |why: &str| CronError(format!("the day of week field {field:?} is not valid: {why}"));
    let number = |text: &str| -> Result<u32, CronError> {
        if let Some(day) = DAYS.iter().position(|day| text.eq_ignore_ascii_case(day)) {
            return Ok(u32::try_from(day).unwrap_or(0));
        }
        text.parse()
            .ok()
            .filter(|n| *n <= 7)
            .ok_or_else(|| bad("days are 0 to 7 (0 and 7 are Sunday) or SUN to SAT"))
    };
    if field == "*" {
        return Ok(field.to_owned());
    }
    let mut days = BTreeSet::new();
    for part in field.split(',') {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => (
                range,
                step.parse::<u32>()
                    .ok()
                    .filter(|s| (1..=7).contains(s))
                    .ok_or_else(|| bad("a step is 1 to 7"))?,
            ),
            None => (part, 1),
        };
        let (from, to) = match range.split_once('-') {
            _ if range == "*" => (0, 6),
            Some((from, to)) => (number(from)?, number(to)?),
            None if part.contains('/') => (number(range)?, 6),
            None => (number(range)?, number(range)?),
        };
        // SAT-SUN ends on 7, not on 0.
        let to = if to == 0 && from > 0 { 7 } else { to };
        if from > to {
            return Err(bad("a range runs from the earlier day to the later; write FRI-MON as FRI-SUN,MON"));
        }
        days.extend((from..=to).step_by(step as usize).map(|day| day % 7));
    }
    Ok(days.iter().map(|day| (day + 1).to_string()).collect::<Vec<_>>().join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fires(expression: &str, after: &str, count: usize) -> Vec<String> {
        let cron = Cron::parse(expression).unwrap();
        let mut at: NaiveDateTime = after.trim_end_matches('Z').parse().unwrap();
        (0..count)
            .map_while(|_| {
                at = cron.next_local(at)?;
                Some(at.format("%Y-%m-%dT%H:%M:%S %a").to_string())
            })
            .collect()
    }

    #[test]
    fn weekdays_are_those_of_unix() {
        // 2026-01-01 is a Thursday.
        let after = "2026-01-01T12:00:00Z";
        for (expression, expected) in [
            ("0 9 * * 1-5", vec!["2026-01-02T09:00:00 Fri", "2026-01-05T09:00:00 Mon"]),
            ("0 9 * * MON-FRI", vec!["2026-01-02T09:00:00 Fri", "2026-01-05T09:00:00 Mon"]),
            ("0 9 * * 0", vec!["2026-01-04T09:00:00 Sun", "2026-01-11T09:00:00 Sun"]),
            ("0 9 * * 7", vec!["2026-01-04T09:00:00 Sun", "2026-01-11T09:00:00 Sun"]),
            (
                "0 9 * * 5-7",
                vec!["2026-01-02T09:00:00 Fri", "2026-01-03T09:00:00 Sat", "2026-01-04T09:00:00 Sun"],
            ),
            ("0 9 * * sat-sun", vec!["2026-01-03T09:00:00 Sat", "2026-01-04T09:00:00 Sun"]),
            (
                "0 9 * * */2",
                vec!["2026-01-03T09:00:00 Sat", "2026-01-04T09:00:00 Sun", "2026-01-06T09:00:00 Tue"],
            ),
        ] {
            assert_eq!(fires(expression, after, expected.len()), expected, "{expression}");
        }
    }

    #[test]
    fn either_day_field_matches_unless_one_begins_with_a_star() {
        let after = "2026-02-01T00:00:00Z";
        assert_eq!(
            fires("0 0 13 * 5", after, 4),
            [
                "2026-02-06T00:00:00 Fri",
                "2026-02-13T00:00:00 Fri",
                "2026-02-20T00:00:00 Fri",
                "2026-02-27T00:00:00 Fri"
            ]
        );
        assert_eq!(
            fires("0 0 14 * 5", after, 3),
            ["2026-02-06T00:00:00 Fri", "2026-02-13T00:00:00 Fri", "2026-02-14T00:00:00 Sat"]
        );
        assert_eq!(
            fires("0 0 */2 * 5", after, 2),
            ["2026-02-13T00:00:00 Fri", "2026-02-27T00:00:00 Fri"]
        );
    }

    #[test]
    fn seconds_lead_where_there_are_six_fields() {
        assert_eq!(
            fires("*/20 0 0 * * *", "2026-01-01T00:00:00Z", 2),
            ["2026-01-01T00:00:20 Thu", "2026-01-01T00:00:40 Thu"]
        );
        assert_eq!(fires("30 12 * * *", "2026-01-01T00:00:00Z", 1), ["2026-01-01T12:30:00 Thu"]);
    }

    #[test]
    fn aliases_mean_what_crontab_says() {
        for (name, expected) in [
            ("@hourly", "2026-01-01T13:00:00 Thu"),
            ("@daily", "2026-01-02T00:00:00 Fri"),
            ("@midnight", "2026-01-02T00:00:00 Fri"),
            ("@weekly", "2026-01-04T00:00:00 Sun"),
            ("@monthly", "2026-02-01T00:00:00 Sun"),
            ("@annually", "2027-01-01T00:00:00 Fri"),
        ] {
            assert_eq!(fires(name, "2026-01-01T12:00:00Z", 1), [expected], "{name}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_of_the_field() {
        for (expression, word) in [
            ("", "5 fields"),
            ("* * * *", "5 fields"),
            ("******", "5 fields"),
            ("* * * * * * *", "5 fields"),
            ("60 * * * *", "60 is not in 0 to 59"),
            ("* 24 * * *", "hour"),
            ("* * 0 * *", "day of month"),
            ("* * 32 * *", "day of month"),
            ("* * * 13 *", "month"),
            ("* * * * 8", "day of week"),
            ("* * * * FRI-MON", "day of week"),
            ("* * * * 5#2", "day of week"),
            ("* * 15W * *", "L and W are not supported"),
            ("* * L * *", "L and W are not supported"),
            ("* * * * 5L", "L and W are not supported"),
            ("*,,1 * * * *", "a number is missing"),
            ("* * * * x", "day of week"),
            ("0 0 30 2 *", "never fires"),
            ("0 0 31 4,6 *", "never fires"),
            ("@reboot", "@hourly"),
            ("\u{0} * * * *", "minute"),
        ] {
            let error = Cron::parse(expression).expect_err(expression).to_string();
            assert!(error.contains(word), "{expression}: {error}");
        }
        assert!(Cron::parse(&"* ".repeat(1000)).unwrap_err().to_string().contains("256"));
    }

    #[test]
    fn fires_are_those_of_another_program() {
        let golden = include_str!("../../../tests/golden/croniter.txt");
        let mut lines = 0;
        for line in golden.lines().filter(|line| !line.starts_with('#')) {
            let mut parts = line.split('|');
            let (expression, after) = (parts.next().unwrap(), parts.next().unwrap());
            let cron = Cron::parse(expression).unwrap();
            let mut at: NaiveDateTime = after.parse().unwrap();
            for expected in parts {
                at = cron.next_local(at).unwrap();
                assert_eq!(at, expected.parse().unwrap(), "{expression} after {after}");
            }
            lines += 1;
        }
        assert!(lines > 400, "{lines}");
    }

    #[test]
    fn the_times_of_a_day_are_known_without_walking() {
        let cron = Cron::parse("*/20 5,10 9-17 * * 1-5").unwrap();
        assert_eq!(cron.times_a_day(), 3 * 2 * 9);
        assert_eq!(cron.last_of_day().to_string(), "17:10:40");
        assert!(!cron.starred_hour() && Cron::parse("0 */2 * * *").unwrap().starred_hour());
    }
}

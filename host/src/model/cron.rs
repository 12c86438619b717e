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
        let starred = |index: usize| fields[index].starts_with('*');
        let (either, starred_hour) = (!starred(3) && !starred(5), starred(2));
        let fields = fields
            .iter()
            .enumerate()
            .map(|(index, field)| matches(index, field))
            .collect::<Result<Vec<_>, _>>()?;
        let with = |day: &str, weekday: &str| {
            let line = format!("{} {} {} {day} {} {weekday}", fields[0], fields[1], fields[2], fields[4]);
            Schedule::from_str(&line).map_err(|_| CronError(format!("{expression:?} is not a cron expression")))
        };
        let schedules = if either {
            vec![with(&fields[3], "*")?, with("*", &fields[5])?]
        } else {
            vec![with(&fields[3], &fields[5])?]
        };
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
const MONTH: usize = 4;
const WEEKDAY: usize = 5;

/// Everything that a field matches, in the crate's numbers. The grammar is read here and not there: the crate takes what it cannot
/// place for the beginning of the next field, and so reads `*5 * * * *` as another expression.
fn matches(index: usize, field: &str) -> Result<String, CronError> {
    let mut all = BTreeSet::new();
    for part in field.split(',') {
        let numbers = numbers(index, part).map_err(|why| {
            let place = if part == field { String::new() } else { format!(", in {part:?}") };
            CronError(format!("the {} field {field:?} is not valid{place}: {why}", FIELDS[index]))
        })?;
        // 0 and 7 are Sunday, which is the crate's 1.
        all.extend(numbers.map(|number| if index == WEEKDAY { number % 7 + 1 } else { number }));
    }
    Ok(all.iter().map(u32::to_string).collect::<Vec<_>>().join(","))
}

/// One part of a field: `*`, a value or a range of values, each with `/step` or without.
fn numbers(index: usize, part: &str) -> Result<impl Iterator<Item = u32> + use<>, String> {
    let (low, high) = RANGES[index];
    let last = if index == WEEKDAY { 6 } else { high };
    let (range, step) = match part.split_once('/') {
        Some((range, step)) => (range, Some(read_step(index, step)?)),
        None => (part, None),
    };
    let (from, to) = match range.split_once('-') {
        _ if range == "*" => (low, last),
        Some((from, to)) => {
            let (from, to) = (read_value(index, from)?, read_value(index, to)?);
            // SAT-SUN ends on 7, not on 0.
            (from, if index == WEEKDAY && to == 0 && from > 0 { 7 } else { to })
        }
        None => {
            let value = read_value(index, range)?;
            (value, if step.is_some() { last.max(value) } else { value })
        }
    };
    if from > to {
        return Err(turned(index, (from, to), (low, last)));
    }
    Ok((from..=to).step_by(step.unwrap_or(1)))
}

fn read_step(index: usize, text: &str) -> Result<usize, String> {
    let (_, high) = RANGES[index];
    let step = whole(text).filter(|step| (1..=high).contains(step));
    step.and_then(|step| usize::try_from(step).ok())
        .ok_or_else(|| format!("a step is a whole number from 1 to {high}, as in */2"))
}

fn read_value(index: usize, word: &str) -> Result<u32, String> {
    let (low, high) = RANGES[index];
    let of = |names: &[&str], first: u32| {
        let at = names.iter().position(|name| word.eq_ignore_ascii_case(name))?;
        u32::try_from(at).ok().map(|at| at + first)
    };
    let named = match index {
        MONTH => of(&MONTHS, 1),
        WEEKDAY => of(&DAYS, 0),
        _ => None,
    };
    match named.or_else(|| whole(word)) {
        Some(value) if (low..=high).contains(&value) => Ok(value),
        _ => Err(no_value(index, word)),
    }
}

/// Digits and nothing else: the standard library would read `+5` too.
fn whole(text: &str) -> Option<u32> {
    text.parse().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Why a word is no value of a field. What other dialects allow is named.
fn no_value(index: usize, word: &str) -> String {
    let (low, high) = RANGES[index];
    let takes = match index {
        MONTH => "months are 1 to 12 or JAN to DEC".to_owned(),
        WEEKDAY => "days are 0 to 7 (0 and 7 are Sunday) or SUN to SAT".to_owned(),
        _ => format!("it takes {low} to {high}"),
    };
    let upper = word.to_ascii_uppercase();
    let unlettered = upper.trim_end_matches(['L', 'W']);
    if word.is_empty() {
        return format!("a number is missing; {takes}");
    }
    if word.bytes().all(|byte| byte.is_ascii_digit()) {
        return format!("{word} is not in {low} to {high}");
    }
    if word.contains('#') {
        return format!("# is not supported; {takes}");
    }
    if unlettered.len() < upper.len() && unlettered.bytes().all(|byte| byte.is_ascii_digit()) {
        return format!("L and W are not supported; {takes}");
    }
    match word {
        "?" => "? is not supported; write *".to_owned(),
        _ if word.contains('*') => format!("{word:?} is no value; * stands alone, or as */2 before a step"),
        _ => format!("{word:?} is no value; {takes}"),
    }
}

/// What to write for a range that goes over the end of its field.
fn turned(index: usize, (from, to): (u32, u32), (low, last): (u32, u32)) -> String {
    let name = |value: u32| match (index, usize::try_from(value).unwrap_or(0)) {
        (MONTH, value) => MONTHS[value - 1].to_ascii_uppercase(),
        (WEEKDAY, value) => DAYS[value % 7].to_ascii_uppercase(),
        _ => value.to_string(),
    };
    let range = |from: u32, to: u32| {
        if from == to {
            name(from)
        } else {
            format!("{}-{}", name(from), name(to))
        }
    };
    let (head, tail) = (range(from, last), range(low, to));
    format!(
        "a range runs from the earlier to the later; write {}-{} as {head},{tail}",
        name(from),
        name(to)
    )
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
            // The crate would read these as other expressions.
            (
                "*5 * * * *",
                "the minute field \"*5\" is not valid: \"*5\" is no value; * stands alone",
            ),
            ("*1-3 * * * *", "minute"),
            ("** 9 * * *", "minute"),
            ("0 9 1 *3 *", "the month field \"*3\""),
            ("0 0 1 jan5 *", "\"jan5\" is no value; months are 1 to 12 or JAN to DEC"),
            ("5* * * * *", "minute"),
            ("*/5 9* * * *", "hour"),
            ("0 9 1-5* * *", "day of month"),
            ("0 0 1jan * *", "day of month field \"1jan\""),
            ("1,2-3-4 * * * *", ", in \"2-3-4\""),
            ("*/2/3 * * * *", "a step is a whole number from 1 to 59"),
            ("*-5 * * * *", "minute"),
            // Nor would it say this in our words.
            ("0 22-2 * * *", "write 22-2 as 22-23,0-2"),
            ("0 0 1 dec-jan *", "write DEC-JAN as DEC,JAN"),
            ("* * * * FRI-MON", "write FRI-MON as FRI-SAT,SUN-MON"),
            ("-1 * * * *", "a number is missing"),
            ("+1 * * * *", "\"+1\" is no value; it takes 0 to 59"),
            ("/5 * * * *", "a number is missing"),
            ("*/0 * * * *", "a step is a whole number from 1 to 59"),
            ("* */x * * *", "the hour field \"*/x\" is not valid: a step"),
            ("H * * * *", "\"H\" is no value; it takes 0 to 59"),
            ("0 0 ? * *", "? is not supported; write *"),
            ("* mon * * *", "the hour field \"mon\""),
            ("0 0 1 mon *", "months are 1 to 12"),
            ("99999999999 * * * *", "99999999999 is not in 0 to 59"),
            ("0 0 30 2 *", "never fires"),
            ("0 0 31 4,6 *", "never fires"),
            ("@reboot", "@hourly"),
            ("\u{0} * * * *", "minute"),
        ] {
            let error = Cron::parse(expression).expect_err(expression).to_string();
            assert!(error.contains(word) && !error.contains('\n'), "{expression}: {error}");
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

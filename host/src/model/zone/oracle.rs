//! What [`Zone::next_after`] and [`Cron`] find, against a walk over every second or minute of a stretch of time: slow, and written apart
//! from both. It evaluates fields that it made itself, and of a zone it asks nothing but the offset at an instant.

use super::*;
use crate::model::cron::Cron;
use chrono::{Datelike, NaiveDate, Timelike};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

/// One field: as it is written, and what it means.
#[derive(Clone, Debug)]
struct Field {
    text: String,
    values: BTreeSet<u32>,
}

const MONTHS: [&str; 12] = ["jan", "FEB", "Mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: [&str; 8] = ["sun", "MON", "Tue", "wed", "thu", "fri", "sat", "sun"];

/// A field of random form; `names` begin at `low`.
fn field(low: u32, high: u32, names: &'static [&'static str], stars: u32) -> impl Strategy<Value = Field> {
    let word = move |value: u32, named: bool| {
        let name = names.get((value - low) as usize).filter(|_| named);
        name.map_or_else(|| value.to_string(), |name| (*name).to_owned())
    };
    let part = (low..=high, low..=high, 1..=(high - low), 0u8..4, any::<bool>()).prop_map(move |(a, b, step, form, named)| {
        let (from, to) = (a.min(b), a.max(b));
        let (text, values): (String, Vec<u32>) = match form {
            0 | 1 => (word(a, named), vec![a]),
            // A name for 7 would be that of 0.
            2 => (
                format!("{}-{}", word(from, named && to < 7), word(to, named && to < 7)),
                (from..=to).collect(),
            ),
            _ => (format!("{from}-{to}/{step}"), (from..=to).step_by(step as usize).collect()),
        };
        (text, values)
    });
    let list = prop::collection::vec(part, 1..4).prop_map(|parts| Field {
        text: parts.iter().map(|(text, _)| text.as_str()).collect::<Vec<_>>().join(","),
        values: parts.into_iter().flat_map(|(_, values)| values).collect(),
    });
    let steps = (2..=(high - low)).prop_map(move |step| Field {
        text: format!("*/{step}"),
        values: (low..=high).step_by(step as usize).collect(),
    });
    let star = Just(Field {
        text: "*".into(),
        values: (low..=high).collect(),
    });
    prop_oneof![stars => star, 1 => steps, 4 => list]
}

/// Second, minute, hour, day of month, month, day of week.
fn fields(seconds: bool) -> impl Strategy<Value = [Field; 6]> {
    let zero = Just(Field {
        text: "0".into(),
        values: [0].into(),
    });
    let second = if seconds { field(0, 59, &[], 1).boxed() } else { zero.boxed() };
    (
        second,
        field(0, 59, &[], 2),
        field(0, 23, &[], 3),
        field(1, 31, &[], 8),
        field(1, 12, &MONTHS, 12),
        // Steps of days are tested by lists: `*/n` counts from Sunday, and 7 is 0.
        field(0, 7, &DAYS, 8),
    )
        .prop_map(|(a, b, c, d, e, f)| [a, b, c, d, e, f])
}

fn expression(fields: &[Field; 6], seconds: bool) -> String {
    let skipped = usize::from(!seconds);
    fields[skipped..]
        .iter()
        .map(|field| field.text.as_str())
        .collect::<Vec<_>>()
        .join(" ")
}

/// crontab(5), word by word.
fn matches(fields: &[Field; 6], local: NaiveDateTime) -> bool {
    let [second, minute, hour, day, month, weekday] = fields;
    let number = local.weekday().num_days_from_sunday();
    let on_day = day.values.contains(&local.day());
    let on_weekday = weekday.values.contains(&number) || (number == 0 && weekday.values.contains(&7));
    let starred = day.text.starts_with('*') || weekday.text.starts_with('*');
    let days = if starred { on_day && on_weekday } else { on_day || on_weekday };
    days && month.values.contains(&local.month())
        && hour.values.contains(&local.hour())
        && minute.values.contains(&local.minute())
        && second.values.contains(&local.second())
}

fn offset(zone: Tz, at: Time) -> i64 {
    zone.offset_from_utc_datetime(&at.naive_utc()).fix().local_minus_utc().into()
}

/// All fires in `[from, until]`, by a walk from well before to well after in steps of so many seconds.
fn walk(fields: &[Field; 6], zone: Tz, dst: Dst, from: Time, until: Time, step: i64) -> BTreeSet<Time> {
    let starred = fields[2].text.starts_with('*');
    let margin = TimeDelta::hours(27);
    let mut passes: BTreeMap<NaiveDateTime, Vec<Time>> = BTreeMap::new();
    let mut fires = BTreeSet::new();
    let mut at = from - margin;
    let mut before: Option<NaiveDateTime> = None;
    while at <= until + margin {
        let local = at.naive_utc() + TimeDelta::seconds(offset(zone, at));
        let mut left_out = before.map_or(local, |before| before + TimeDelta::seconds(step));
        while !starred && dst.gap == Gap::RunAfter && left_out < local {
            if matches(fields, left_out) {
                fires.insert(at);
            }
            left_out += TimeDelta::seconds(step);
        }
        if matches(fields, local) {
            passes.entry(local).or_default().push(at);
        }
        before = Some(local);
        at += TimeDelta::seconds(step);
    }
    for instants in passes.values() {
        let chosen = match dst.fold {
            _ if starred => &instants[..],
            Fold::First => &instants[..1],
            Fold::Last => &instants[instants.len() - 1..],
            Fold::Both => &instants[..],
        };
        fires.extend(chosen);
    }
    fires.retain(|fire| (from..=until).contains(fire));
    fires
}

/// The same by the code under test, no more than `most`.
fn found(cron: &Cron, zone: Tz, dst: Dst, from: Time, until: Time, most: usize) -> BTreeSet<Time> {
    let dst = if cron.starred_hour() { Dst::AS_IT_PASSES } else { dst };
    let mut fires = BTreeSet::new();
    let mut at = from - TimeDelta::nanoseconds(1);
    while let Some(fire) = Zone(zone).next_after(at, dst, |local| cron.next_local(local)) {
        assert!(fire > at, "{fire} is not after {at}");
        if fire > until || fires.len() == most {
            break;
        }
        fires.insert(fire);
        at = fire;
    }
    fires
}

fn dst() -> impl Strategy<Value = Dst> {
    let gap = prop_oneof![Just(Gap::RunAfter), Just(Gap::Skip)];
    let fold = prop_oneof![Just(Fold::First), Just(Fold::Last), Just(Fold::Both)];
    (gap, fold).prop_map(|(gap, fold)| Dst { gap, fold })
}

fn zones() -> impl Strategy<Value = Tz> {
    // Every zone, and more often those that did something out of the ordinary.
    let odd = [
        Tz::Pacific__Apia,
        Tz::Pacific__Kwajalein,
        Tz::Pacific__Kiritimati,
        Tz::Australia__Lord_Howe,
        Tz::Africa__Monrovia,
        Tz::Africa__Cairo,
        Tz::Africa__Casablanca,
        Tz::Asia__Manila,
        Tz::Asia__Tehran,
        Tz::Asia__Gaza,
        Tz::Antarctica__Troll,
        Tz::Antarctica__Casey,
        Tz::America__Sao_Paulo,
        Tz::America__Havana,
        Tz::America__Scoresbysund,
        Tz::Europe__London,
        Tz::America__New_York,
    ];
    prop_oneof![
        3 => (0..chrono_tz::TZ_VARIANTS.len()).prop_map(|n| chrono_tz::TZ_VARIANTS[n]),
        2 => (0..odd.len()).prop_map(move |n| odd[n]),
    ]
}

fn instant(year: i32, second: i64) -> Time {
    let start = NaiveDate::from_ymd_opt(year, 1, 1).unwrap().and_hms_opt(0, 0, 0).unwrap().and_utc();
    start + TimeDelta::seconds(second)
}

/// A stretch that begins some hours before a change of the zone's clocks, where it has one within two years of `from`.
fn near_a_change(zone: Tz, from: Time, lead: i64) -> Time {
    let mut at = from;
    for _ in 0..2 * 366 * 4 {
        let next = at + TimeDelta::hours(6);
        if offset(zone, at) != offset(zone, next) {
            return at - TimeDelta::minutes(lead);
        }
        at = next;
    }
    from
}

fn check(fields: &[Field; 6], seconds: bool, zone: Tz, dst: Dst, from: Time, hours: i64) -> Result<(), TestCaseError> {
    let expression = expression(fields, seconds);
    // One that never fires is refused, which another test holds.
    let Ok(cron) = Cron::parse(&expression) else {
        let day = |n: i64| matches(fields, instant(2000, n * 86_400).naive_utc());
        prop_assert!(
            !fields[1].values.contains(&0) || !fields[2].values.contains(&0) || !(0..366 * 28).any(day),
            "{expression} refused"
        );
        return Ok(());
    };
    let until = from + TimeDelta::hours(hours);
    // Offsets have had no seconds since 1972.
    let by_second = seconds || from.year() < 1973 || from.second() != 0;
    let step = if by_second { 1 } else { 60 };
    let mut expected = walk(fields, zone, dst, from, until, step);
    let found = found(&cron, zone, dst, from, until, 5_000);
    if found.len() == 5_000 {
        expected = expected.into_iter().take(5_000).collect();
    }
    prop_assert_eq!(&found, &expected, "{} in {} from {} as {:?}", expression, zone, from, dst);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn fires_around_a_change_of_the_clocks_are_those_of_a_walk(
        fields in fields(false), zone in zones(), dst in dst(), year in 1973..2099, second in 0..31_000_000i64, lead in 0..1_500i64,
    ) {
        let minute = second / 60 * 60;
        check(&fields, false, zone, dst, near_a_change(zone, instant(year, minute), lead), 40)?;
    }

    #[test]
    fn fires_over_weeks_are_those_of_a_walk(
        fields in fields(false), zone in zones(), dst in dst(), year in 1973..2099, minute in 0..520_000i64,
    ) {
        check(&fields, false, zone, dst, instant(year, minute * 60), 24 * 35)?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn fires_by_the_second_are_those_of_a_walk(
        fields in fields(true), zone in zones(), dst in dst(), year in 1970..2099, second in 0..31_000_000i64, lead in 0..240i64,
    ) {
        check(&fields, true, zone, dst, near_a_change(zone, instant(year, second), lead), 7)?;
    }

    #[test]
    fn offsets_with_seconds_are_walked_too(
        fields in fields(false), zone in zones(), dst in dst(), second in 0..(3 * 31_000_000i64), lead in 0..1_200i64,
    ) {
        check(&fields, false, zone, dst, near_a_change(zone, instant(1970, second), lead), 12)?;
    }
}

fn fires(expression: &str, zone: &str, dst: Dst, after: &str, count: usize) -> Vec<String> {
    let cron = Cron::parse(expression).unwrap();
    let zone = Zone::parse(zone).unwrap();
    let dst = if cron.starred_hour() { Dst::AS_IT_PASSES } else { dst };
    let mut at: Time = after.parse().unwrap();
    (0..count)
        .map_while(|_| {
            at = zone.next_after(at, dst, |local| cron.next_local(local))?;
            Some(at.format("%m-%dT%H:%M").to_string())
        })
        .collect()
}

#[test]
fn each_choice_for_a_gap_and_a_fold_does_what_it_says() {
    let dst = |gap, fold| Dst { gap, fold };
    let usual = Dst::default();
    let skip = dst(Gap::Skip, Fold::First);
    // New York sprang forward on 2026-03-08 at 07:00 UTC and falls back on 2026-11-01 at 06:00 UTC.
    for (expression, choice, after, expected) in [
        ("30 2 * * *", usual, "2026-03-07T12:00:00Z", ["03-08T07:00", "03-09T06:30"]),
        ("30 2 * * *", skip, "2026-03-07T12:00:00Z", ["03-09T06:30", "03-10T06:30"]),
        ("0,20,40 2 * * *", usual, "2026-03-08T00:00:00Z", ["03-08T07:00", "03-09T06:00"]),
        ("0 2,3 * * *", usual, "2026-03-08T00:00:00Z", ["03-08T07:00", "03-09T06:00"]),
        ("30 * * * *", usual, "2026-03-08T06:00:00Z", ["03-08T06:30", "03-08T07:30"]),
        ("30 */2 * * *", usual, "2026-03-08T05:00:00Z", ["03-08T05:30", "03-08T08:30"]),
        ("30 1 * * *", usual, "2026-11-01T00:00:00Z", ["11-01T05:30", "11-02T06:30"]),
        (
            "30 1 * * *",
            dst(Gap::Skip, Fold::Last),
            "2026-11-01T00:00:00Z",
            ["11-01T06:30", "11-02T06:30"],
        ),
        (
            "30 1 * * *",
            dst(Gap::Skip, Fold::Both),
            "2026-11-01T00:00:00Z",
            ["11-01T05:30", "11-01T06:30"],
        ),
        ("30 * * * *", usual, "2026-11-01T05:00:00Z", ["11-01T05:30", "11-01T06:30"]),
    ] {
        assert_eq!(
            fires(expression, "America/New_York", choice, after, 2),
            expected,
            "{expression} {choice:?}"
        );
    }
}

#[test]
fn a_day_that_a_zone_left_out_is_a_gap() {
    let usual = Dst::default();
    // Samoa went from 29 to 31 December 2011 at 10:00 UTC.
    assert_eq!(
        fires("0 9,15 * * *", "Pacific/Apia", usual, "2011-12-29T20:00:00Z", 3),
        ["12-30T01:00", "12-30T10:00", "12-30T19:00"]
    );
    assert_eq!(
        fires("0 0 30 12 *", "Pacific/Apia", usual, "2011-12-01T00:00:00Z", 1),
        ["12-30T10:00"]
    );
    // Beirut springs forward at midnight; Lord Howe by half an hour.
    assert_eq!(
        fires("0 0 * * *", "Asia/Beirut", usual, "2026-03-28T12:00:00Z", 2),
        ["03-28T22:00", "03-29T21:00"]
    );
    assert_eq!(
        fires("15 2 * * *", "Australia/Lord_Howe", usual, "2026-10-03T00:00:00Z", 2),
        ["10-03T15:30", "10-04T15:15"]
    );
}

#[test]
fn a_gap_is_told_with_what_it_left_out() {
    let zone = Zone::parse("America/New_York").unwrap();
    let cron = Cron::parse("30 2 * * *").unwrap();
    let (from, until) = ("2026-01-01T00:00:00Z".parse().unwrap(), "2026-12-31T00:00:00Z".parse().unwrap());
    let gap = zone.left_out(from, until, |local| cron.next_local(local)).unwrap();
    assert_eq!(gap.at, "2026-03-08T07:00:00Z".parse::<Time>().unwrap());
    assert_eq!(
        (gap.from.to_string(), gap.until.to_string()),
        ("2026-03-08 02:00:00".into(), "2026-03-08 03:00:00".into())
    );
    assert_eq!(zone.left_out(gap.at, until, |local| cron.next_local(local)), None);
}

#[test]
fn an_unknown_zone_is_refused_with_the_one_that_was_meant() {
    for (name, near) in [
        ("Europe/Londn", "Europe/London?"),
        ("america/new_york", "America/New_York?"),
        ("nowhere", "such as"),
        ("", "such as"),
    ] {
        let error = Zone::parse(name).unwrap_err().to_string();
        assert!(error.contains(near), "{error}");
    }
    assert!(Zone::parse(&"x".repeat(100_000)).unwrap_err().to_string().len() < 200);
}

#[test]
fn the_ends_of_time_neither_panic_nor_loop() {
    for expression in ["0 0 29 2 *", "* * * * * *", "0 0 * * *"] {
        let cron = Cron::parse(expression).unwrap();
        for zone in [Tz::Pacific__Apia, Tz::UTC, Tz::America__New_York] {
            for at in [Time::MIN_UTC, Time::MAX_UTC, Time::UNIX_EPOCH] {
                let fire = Zone(zone).next_after(at, Dst::default(), |local| cron.next_local(local));
                assert_eq!(fire.is_some(), at != Time::MAX_UTC);
            }
        }
    }
}

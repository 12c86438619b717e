//! The shipped calendars against the Python package exchange_calendars, every day from 2000 to 2030, open, close and break.
//!
//! What the package said stands in `host/calendars/golden`, untouched. Where ours say otherwise a line below gives the days and the
//! reason; a difference without a line fails, and so does a line that no day needs. `docs/calendars.md` tells the same in words.

use super::super::{Calendar, Session, shipped};
use super::day;
use chrono::{Datelike, Days, NaiveDate, NaiveTime};
use std::collections::BTreeMap;

/// In what the two differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Differs {
    /// We have no session, the package has.
    Closed,
    Open,
    Close,
    Break,
}
use Differs::{Break, Close, Closed, Open};

/// Calendar, first and last day, in what, on how many sessions, and why.
type Known = (&'static str, &'static str, &'static str, Differs, usize, &'static str);

const KNOWN: &[Known] = &[
    ("XNYS", "2001-09-17", "2001-10-08", Open, 2, "moments of silence"),
    ("XNYS", "2002-09-11", "2002-09-11", Open, 1, "memorial until noon"),
    ("XNYS", "2003-03-20", "2006-12-27", Open, 3, "moments of silence"),
    ("XNYS", "2005-06-01", "2005-06-01", Close, 1, "trading stopped at 15:56"),
    ("XLON", "2000-04-05", "2000-04-05", Open, 1, "eight hours of failure"),
    ("XLON", "2000-04-05", "2000-04-05", Close, 1, "open until 20:00 to make up for it"),
    ("XETR", "2000-06-02", "2003-10-31", Close, 869, "Xetra was open until 20:00"),
    (
        "XETR",
        "2005-12-30",
        "2005-12-30",
        Close,
        1,
        "half day at the year's end, before the package's rule begins",
    ),
    (
        "XTKS",
        "2000-01-04",
        "2009-01-05",
        Close,
        20,
        "half days at both ends of the year, and 18 January 2006",
    ),
    ("XTKS", "2005-11-01", "2005-11-01", Open, 1, "failure of the trading system"),
    ("XTKS", "2000-01-04", "2011-11-18", Break, 2919, "mornings ended at 11:00"),
    (
        "XHKG",
        "2001-01-23",
        "2011-02-02",
        Close,
        6,
        "half days on the eve of Lunar New Year",
    ),
    ("XHKG", "2022-11-02", "2022-11-02", Close, 1, "typhoon Nalgae"),
    ("XHKG", "2008-06-25", "2023-10-09", Open, 10, "mornings cancelled for weather"),
    (
        "XHKG",
        "2000-01-03",
        "2012-03-02",
        Break,
        2988,
        "afternoons began at 14:30 until 2011, at 13:30 until 2012",
    ),
    (
        "XHKG",
        "2012-03-05",
        "2023-10-09",
        Break,
        8,
        "no break left on mornings cancelled for weather",
    ),
    ("XHKG", "2023-09-01", "2023-09-08", Closed, 2, "typhoon Saola and a black rainstorm"),
    (
        "XHKG",
        "2029-09-24",
        "2029-09-24",
        Closed,
        1,
        "the day after Mid-Autumn is a Sunday and moves",
    ),
];

/// A day's hours in UTC: open, close, break.
type Hours = (NaiveTime, NaiveTime, Option<(NaiveTime, NaiveTime)>);

/// date → hours, as `generate.py` wrote them.
fn golden(text: &str) -> BTreeMap<NaiveDate, Hours> {
    let mut legend: BTreeMap<char, Hours> = BTreeMap::new();
    let mut sessions = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (key, rest) = line.split_once(' ').unwrap();
        if let Ok(year) = key.parse::<i32>() {
            let first = NaiveDate::from_ymd_opt(year, 1, 1).unwrap();
            assert!([365, 366].contains(&rest.len()), "{year} has {} days", rest.len());
            let days = (0..)
                .map(|n| first + Days::new(n))
                .zip(rest.chars())
                .filter(|(_, sign)| *sign != '.');
            sessions.extend(days.map(|(date, sign)| (date, legend[&sign])));
        } else {
            let times: Vec<NaiveTime> = rest.split(' ').map(|time| format!("{time}:00").parse().unwrap()).collect();
            let pause = times.get(2).map(|start| (*start, times[3]));
            legend.insert(key.parse().unwrap(), (times[0], times[1], pause));
        }
    }
    sessions
}

fn ours(session: Session) -> Hours {
    assert_eq!(session.open.date_naive(), session.date);
    let pause = session.pause.map(|(start, end)| (start.time(), end.time()));
    (session.open.time(), session.close.time(), pause)
}

fn differences(calendar: &Calendar, theirs: &BTreeMap<NaiveDate, Hours>) -> Vec<(NaiveDate, Differs)> {
    let mut found = Vec::new();
    let days = day("2000-01-01").iter_days().take_while(|date| date.year() <= 2030);
    for date in days {
        match (calendar.session(date).map(ours), theirs.get(&date)) {
            (None, None) => {}
            (None, Some(_)) => found.push((date, Closed)),
            (Some(_), None) => panic!("{} trades on {date}, and exchange_calendars does not", calendar.name()),
            (Some(ours), Some(theirs)) => {
                found.extend((ours.0 != theirs.0).then_some((date, Open)));
                found.extend((ours.1 != theirs.1).then_some((date, Close)));
                found.extend((ours.2 != theirs.2).then_some((date, Break)));
            }
        }
    }
    found
}

fn check(name: &str, text: &str) {
    let theirs = golden(text);
    assert!(theirs.len() > 7_500, "{name}: {} sessions", theirs.len());
    let found = differences(&shipped::get(name).unwrap(), &theirs);
    let mut used: BTreeMap<usize, usize> = BTreeMap::new();
    let mut unknown = Vec::new();
    for (date, differs) in found {
        let fits = |known: &Known| known.0 == name && known.3 == differs && day(known.1) <= date && date <= day(known.2);
        match KNOWN.iter().position(fits) {
            Some(index) => *used.entry(index).or_default() += 1,
            None => unknown.push(format!("{date} {differs:?}")),
        }
    }
    assert!(
        unknown.is_empty(),
        "{name}: {} unexplained: {:?}",
        unknown.len(),
        &unknown[..unknown.len().min(40)]
    );
    let wrong: Vec<String> = KNOWN
        .iter()
        .enumerate()
        .filter(|(index, known)| known.0 == name && used.get(index).copied().unwrap_or_default() != known.4)
        .map(|(index, known)| format!("{} to {} {:?}: {:?}", known.1, known.2, known.3, used.get(&index)))
        .collect();
    assert!(wrong.is_empty(), "{name}: {wrong:?}");
}

macro_rules! golden {
    ($($test:ident $name:literal),*) => {
        $(#[test]
        fn $test() {
            check($name, include_str!(concat!("../../../../calendars/golden/", $name, ".txt")));
        })*
    };
}

golden!(new_york "XNYS", london "XLON", frankfurt "XETR", tokyo "XTKS", hong_kong "XHKG");

//! What a calendar answers, by table; `golden.rs` holds the shipped ones against another package day by day.

mod golden;
mod refusals;
mod shipped;

use super::{Calendar, Session};
use chrono::NaiveDate;

pub(super) fn day(text: &str) -> NaiveDate {
    text.parse().unwrap()
}

pub(super) fn calendar(text: &str) -> Calendar {
    Calendar::parse("TEST", text.as_bytes()).unwrap_or_else(|error| panic!("{}: {error}", error.pointer))
}

/// `open close` in UTC, or `closed`.
pub(super) fn hours(session: Option<Session>) -> String {
    let clock = |time: crate::model::Time| time.format("%Y-%m-%dT%H:%M").to_string();
    match session {
        Some(Session {
            open,
            close,
            pause: Some((start, end)),
            ..
        }) => {
            format!("{} {} break {} {}", clock(open), clock(close), clock(start), clock(end))
        }
        Some(Session { open, close, .. }) => format!("{} {}", clock(open), clock(close)),
        None => "closed".to_owned(),
    }
}

fn check(document: &str, cases: &[(&str, &str)]) {
    let calendar = calendar(document);
    for (date, expected) in cases {
        assert_eq!(hours(calendar.session(day(date))), *expected, "{date}");
        assert_eq!(calendar.is_session(day(date)), *expected != "closed", "{date}");
    }
}

#[test]
fn hours_count_from_their_date_on() {
    let document = r#"{"timezone": "UTC", "official_until": "2024-12-31", "hours": [
        {"from": "2024-01-02", "open": "09:00", "close": "15:00"},
        {"from": "2024-06-03", "open": "09:00", "close": "15:30", "break": {"start": "12:00", "end": "13:00"}}]}"#;
    check(
        document,
        &[
            ("2024-01-01", "closed"),
            ("2024-01-02", "2024-01-02T09:00 2024-01-02T15:00"),
            ("2024-05-31", "2024-05-31T09:00 2024-05-31T15:00"),
            ("2024-06-02", "closed"),
            (
                "2024-06-03",
                "2024-06-03T09:00 2024-06-03T15:30 break 2024-06-03T12:00 2024-06-03T13:00",
            ),
            ("2023-12-29", "closed"),
        ],
    );
}

#[test]
fn holidays_half_days_and_days_with_hours_of_their_own() {
    let document = r#"{"timezone": "UTC", "official_until": "2024-12-31",
        "hours": [{"from": "2024-01-01", "open": "09:00", "close": "17:00", "break": {"start": "12:00", "end": "13:00"}}],
        "holidays": [{"date": "2024-12-26"}, {"date": "2024-12-25", "name": "Christmas"}],
        "early_closes": [{"date": "2024-12-24", "close": "12:00"}, {"date": "2024-12-23", "close": "14:00"}],
        "late_opens": [{"date": "2024-12-23", "open": "10:00"}, {"date": "2024-12-27", "open": "12:30"}],
        "special_sessions": [{"date": "2024-12-28", "open": "18:00", "close": "24:00"}, {"date": "2024-12-26", "open": "01:00", "close": "02:00"}]}"#;
    check(
        document,
        &[
            (
                "2024-12-23",
                "2024-12-23T10:00 2024-12-23T14:00 break 2024-12-23T12:00 2024-12-23T13:00",
            ),
            ("2024-12-24", "2024-12-24T09:00 2024-12-24T12:00"),
            ("2024-12-25", "closed"),
            ("2024-12-26", "2024-12-26T01:00 2024-12-26T02:00"),
            ("2024-12-27", "2024-12-27T12:30 2024-12-27T17:00"),
            ("2024-12-28", "2024-12-28T18:00 2024-12-29T00:00"),
        ],
    );
    assert_eq!(calendar(document).holiday(day("2024-12-25")), Some("Christmas"));
}

#[test]
fn the_weekend_is_what_the_document_says() {
    let friday = r#"{"timezone": "Asia/Riyadh", "weekend": ["fri", "sat"], "official_until": "2024-12-31",
        "hours": [{"from": "2024-01-01", "open": "10:00", "close": "15:00"}]}"#;
    check(
        friday,
        &[("2024-03-01", "closed"), ("2024-03-03", "2024-03-03T07:00 2024-03-03T12:00")],
    );
    let never = r#"{"timezone": "UTC", "weekend": [], "official_until": "2024-12-31",
        "hours": [{"from": "2024-01-01", "open": "00:00", "close": "24:00"}]}"#;
    check(never, &[("2024-03-03", "2024-03-03T00:00 2024-03-04T00:00")]);
}

#[test]
fn an_hour_that_the_clocks_skip_or_show_twice() {
    let berlin = r#"{"timezone": "Europe/Berlin", "weekend": [], "official_until": "2024-12-31",
        "hours": [{"from": "2024-01-01", "open": "02:30", "close": "02:45"}]}"#;
    check(
        berlin,
        &[
            ("2024-03-30", "2024-03-30T01:30 2024-03-30T01:45"),
            ("2024-03-31", "2024-03-31T01:00 2024-03-31T01:00"),
            ("2024-10-27", "2024-10-27T00:30 2024-10-27T01:45"),
        ],
    );
    let apia = r#"{"timezone": "Pacific/Apia", "weekend": [], "official_until": "2024-12-31",
        "hours": [{"from": "2011-01-01", "open": "00:00", "close": "17:00"}]}"#;
    check(apia, &[("2011-12-30", "2011-12-30T10:00 2011-12-30T10:00")]);
}

#[test]
fn the_next_and_the_previous_session_are_never_the_day_itself() {
    let calendar = calendar(
        r#"{"timezone": "UTC", "official_until": "2024-12-31", "holidays": [{"date": "2024-03-04"}],
        "hours": [{"from": "2024-01-01", "open": "09:00", "close": "17:00"}]}"#,
    );
    let next = |date| calendar.next_session(day(date)).map(|session| session.date.to_string());
    let previous = |date| calendar.previous_session(day(date)).map(|session| session.date.to_string());
    assert_eq!(next("2024-03-01").as_deref(), Some("2024-03-05"));
    assert_eq!(next("2024-03-02").as_deref(), Some("2024-03-05"));
    assert_eq!(previous("2024-03-05").as_deref(), Some("2024-03-01"));
    assert_eq!(previous("2024-01-01"), None);
    assert_eq!(next("2010-01-01"), None, "further away than the longest closure");
}

#[test]
fn settlement_counts_sessions() {
    let calendar = calendar(
        r#"{"timezone": "UTC", "official_until": "2024-12-31", "holidays": [{"date": "2024-12-25"}, {"date": "2024-12-26"}],
        "hours": [{"from": "2024-01-01", "open": "09:00", "close": "17:00"}]}"#,
    );
    let settles = |date, days| calendar.settlement_date(day(date), days).map(|date| date.to_string());
    assert_eq!(settles("2024-12-23", 2).as_deref(), Some("2024-12-27"));
    assert_eq!(settles("2024-12-21", 1).as_deref(), Some("2024-12-24"));
    assert_eq!(settles("2024-12-21", 100_000), None);
    assert_eq!(
        calendar.sessions(day("2024-12-20"), day("2024-12-28")).count(),
        4,
        "the 20th, 23rd, 24th and 27th"
    );
}

#[test]
fn what_is_shown_reads_as_the_same_calendar() {
    for calendar in super::shipped::all() {
        let text = serde_json::to_vec(calendar.document()).unwrap();
        assert_eq!(Calendar::parse(calendar.name(), &text).unwrap(), **calendar);
    }
}

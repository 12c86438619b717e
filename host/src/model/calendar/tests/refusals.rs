//! What is no calendar, where, and what to do about it.

use super::super::Calendar;
use crate::model::request::RefusalKind;

const GOOD: &str = r#"{"timezone": "UTC", "official_until": "2024-12-31",
    "hours": [{"from": "2024-01-01", "open": "09:00", "close": "17:00"}]"#;

/// A good document with more members.
fn with(more: &str) -> String {
    format!("{GOOD}, {more}}}")
}

fn check(text: &str, pointer: &str, part: &str) {
    let error = Calendar::parse("TEST", text.as_bytes()).expect_err(text);
    assert_eq!(error.pointer, pointer, "{text}: {error}");
    assert!(error.sentence.contains(part), "{text}: {error}");
}

#[test]
fn what_is_not_json_or_not_an_object() {
    assert!(Calendar::parse("TEST", b"{\"timezone\"").is_err_and(|error| error.kind == RefusalKind::Json));
    assert!(Calendar::parse("TEST", with("").as_bytes()).is_err_and(|error| error.kind == RefusalKind::Json));
    check("[]", "", "JSON object");
    check("{}", "/timezone", "is missing");
    check(&format!("{GOOD}}} x"), "", "not JSON");
    check(&with(r#""holydays": []"#), "/holydays", "is unknown; it takes name, description");
    check(&with(r#""timezone": "UTC""#), "/timezone", "is given twice");
    check(&" ".repeat(super::super::MAX_BYTES + 1), "", "at most 1024 KiB");
}

#[test]
fn a_list_is_no_object() {
    for member in ["holidays", "early_closes", "late_opens", "special_sessions"] {
        let text = with(&format!(r#""{member}": [["2024-05-01", "10:00", "11:00"]]"#));
        check(&text, &format!("/{member}/0"), "must be a JSON object");
    }
    let pause = GOOD.replace(r#""17:00"}"#, r#""17:00", "break": ["12:00", "13:00"]}"#) + "}";
    check(&pause, "/hours/0/break", "must be a JSON object");
    check(&with(r#""weekend": [5]"#), "/weekend/0", "must be one of mon");
    check(&with(r#""weekend": {}"#), "/weekend", "must be a list");
    check(&with(r#""description": 5"#), "/description", "must be text");
}

#[test]
fn names_zones_and_weekends() {
    check(&with(r#""name": "OTHER""#), "/name", "filed under TEST");
    check(
        &with(r#""weekend": ["sat", "saturday"]"#),
        "/weekend/1",
        "must be one of mon, tue, wed, thu, fri, sat, sun",
    );
    check(&with(r#""weekend": ["sat", "sun", "sat"]"#), "/weekend/2", "twice");
    check(&GOOD.replace("UTC", "Europe/Londn").replace("]", "]}"), "/timezone", "IANA");
    let long = format!(r#""description": "{}""#, "x".repeat(1_001));
    check(&with(&long), "/description", "at most 1000");
    assert!(Calendar::parse("a b", GOOD.replace("]", "]}").as_bytes()).is_err_and(|error| error.pointer == "/name"));
}

#[test]
fn hours_that_make_no_day() {
    let hours = |rows: &str| format!(r#"{{"timezone": "UTC", "official_until": "2024-12-31", "hours": [{rows}]}}"#);
    check(&hours(""), "/hours", "at least one row");
    check(
        &hours(r#"{"from": "2024-01-01", "open": "17:00", "close": "09:00"}"#),
        "/hours/0/close",
        "not after",
    );
    check(
        &hours(r#"{"from": "2024-01-01", "open": "9:00", "close": "17:00"}"#),
        "/hours/0/open",
        "HH:MM",
    );
    check(
        &hours(r#"{"from": "2024-01-01", "open": "09:00", "close": "24:01"}"#),
        "/hours/0/close",
        "HH:MM",
    );
    check(
        &hours(r#"{"from": "2024-13-01", "open": "09:00", "close": "17:00"}"#),
        "/hours/0/from",
        "YYYY-MM-DD",
    );
    check(
        &hours(r#"{"from": "1989-12-31", "open": "09:00", "close": "17:00"}"#),
        "/hours/0/from",
        "1990 to 2100",
    );
    check(
        &hours(r#"{"from": "2025-01-01", "open": "09:00", "close": "17:00"}"#),
        "/official_until",
        "before the first hours",
    );
    check(
        &hours(r#"{"from": "2024-01-01", "open": "09:00", "close": "17:00", "break": {"start": "12:00", "end": "17:00"}}"#),
        "/hours/0/break",
        "within its hours",
    );
    let row = r#"{"from": "2024-01-01", "open": "09:00", "close": "17:00"}"#;
    check(&hours(&format!("{row}, {row}")), "/hours/1/from", "not after the row before");
    let many: Vec<String> = (0..201).map(|_| row.to_owned()).collect();
    check(&hours(&many.join(",")), "/hours", "200 are the most");
}

#[test]
fn dates_that_contradict_each_other() {
    let twice = r#""holidays": [{"date": "2024-05-01"}, {"date": "2024-05-02"}, {"date": "2024-05-01"}]"#;
    check(&with(twice), "/holidays/2/date", "twice, first at /holidays/0");
    let on_holiday = r#""holidays": [{"date": "2024-05-01"}], "early_closes": [{"date": "2024-05-02", "close": "12:00"}, {"date": "2024-05-01", "close": "12:00"}]"#;
    check(&with(on_holiday), "/early_closes/1/date", "is a holiday");
    check(
        &with(r#""early_closes": [{"date": "2024-05-04", "close": "12:00"}]"#),
        "/early_closes/0/date",
        "weekend",
    );
    check(
        &with(r#""late_opens": [{"date": "2023-05-04", "open": "12:00"}]"#),
        "/late_opens/0/date",
        "before the first hours",
    );
    let own = r#""special_sessions": [{"date": "2024-05-04", "open": "10:00", "close": "11:00"}], "late_opens": [{"date": "2024-05-04", "open": "10:30"}]"#;
    check(&with(own), "/late_opens/0/date", "hours of its own");
    check(
        &with(r#""early_closes": [{"date": "2024-05-02", "close": "17:00"}]"#),
        "/early_closes/0/close",
        "before 17:00",
    );
    check(
        &with(r#""late_opens": [{"date": "2024-05-02", "open": "09:00"}]"#),
        "/late_opens/0/open",
        "after 09:00",
    );
    let crossed = r#""late_opens": [{"date": "2024-05-02", "open": "14:00"}], "early_closes": [{"date": "2024-05-02", "close": "13:00"}]"#;
    check(&with(crossed), "/early_closes/0/close", "after 14:00");
    check(
        &with(r#""special_sessions": [{"date": "2024-05-04", "open": "11:00", "close": "11:00"}]"#),
        "/special_sessions/0/close",
        "not after",
    );
    let many: Vec<String> = (0..5_001).map(|_| r#"{"date": "2024-05-01"}"#.to_owned()).collect();
    check(
        &with(&format!(r#""holidays": [{}]"#, many.join(","))),
        "/holidays",
        "5000 are the most",
    );
    check(
        &with(r#""holidays": [{"date": "2024-05-01T00:00"}]"#),
        "/holidays/0/date",
        "YYYY-MM-DD",
    );
}

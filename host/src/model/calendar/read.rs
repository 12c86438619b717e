//! From the text of a document to a calendar: every rule about it, each refusal with a pointer and a sentence that says what to do.

use super::{Calendar, Day, Document, LocalTime, Weekday, find};
use crate::model::name;
use crate::model::request::{self, Input, Refusal, RefusalKind};
use chrono::Datelike;
use chrono_tz::Tz;

/// The longest text of a calendar.
pub const MAX_BYTES: usize = 1 << 20;
const MAX_DATES: usize = 5_000;
const MAX_HOURS: usize = 200;
const MAX_DESCRIPTION: usize = 1_000;
const MAX_HOLIDAY_NAME: usize = 200;

impl Input for Document {}

fn refuse<T>(pointer: impl Into<String>, sentence: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal::new(RefusalKind::Value, pointer, sentence))
}

pub(super) fn parse(name: &str, text: &[u8]) -> Result<Calendar, Refusal> {
    if text.len() > MAX_BYTES {
        return refuse("", format!("a calendar has at most {} KiB of JSON", MAX_BYTES >> 10));
    }
    check(name, request::parse(text)?)
}

pub(super) fn check(name: &str, mut document: Document) -> Result<Calendar, Refusal> {
    if !name::is_valid(name) {
        return refuse("/name", name::why_invalid("the calendar's name", name));
    }
    if document.name.is_empty() {
        name.clone_into(&mut document.name);
    }
    if document.name != name {
        let detail = format!("the calendar is filed under {name}, so its name has to be {name:?} or be left out");
        return refuse("/name", detail);
    }
    if !is_text(&document.description, MAX_DESCRIPTION) {
        let detail = format!("a description has at most {MAX_DESCRIPTION} bytes, and no control characters but ends of lines");
        return refuse("/description", detail);
    }
    let Ok(zone) = document.timezone.parse::<Tz>() else {
        let shown: String = document.timezone.chars().take(40).collect();
        let detail = format!("{shown:?} is no IANA time zone; write one such as America/New_York, with its capitals");
        return refuse("/timezone", detail);
    };
    check_weekend(&document.weekend)?;
    check_hours(&document)?;
    check_holidays(&document)?;
    let lists: [(&str, Vec<Day>); 4] = [
        ("holidays", document.holidays.iter().map(|entry| entry.date).collect()),
        ("early_closes", document.early_closes.iter().map(|entry| entry.date).collect()),
        ("late_opens", document.late_opens.iter().map(|entry| entry.date).collect()),
        (
            "special_sessions",
            document.special_sessions.iter().map(|entry| entry.date).collect(),
        ),
    ];
    for (member, dates) in lists {
        check_dates(member, &dates)?;
    }
    let written = Places::of(&document);
    document.holidays.sort_by_key(|entry| entry.date);
    document.early_closes.sort_by_key(|entry| entry.date);
    document.late_opens.sort_by_key(|entry| entry.date);
    document.special_sessions.sort_by_key(|entry| entry.date);
    check_specials(&document, &written)?;
    check_exceptions(&document, &written)?;
    Ok(Calendar {
        name: name.to_owned(),
        zone,
        document,
    })
}

/// Where the dates stood before they were sorted, so that a pointer names the place in the sender's text.
struct Places {
    early_closes: Vec<Day>,
    late_opens: Vec<Day>,
    special_sessions: Vec<Day>,
}

impl Places {
    fn of(document: &Document) -> Self {
        Self {
            early_closes: document.early_closes.iter().map(|entry| entry.date).collect(),
            late_opens: document.late_opens.iter().map(|entry| entry.date).collect(),
            special_sessions: document.special_sessions.iter().map(|entry| entry.date).collect(),
        }
    }
}

fn place(member: &str, written: &[Day], date: Day, leaf: &str) -> String {
    let at = written.iter().position(|other| *other == date).unwrap_or_default();
    format!("/{member}/{at}/{leaf}")
}

fn check_weekend(weekend: &[Weekday]) -> Result<(), Refusal> {
    for (index, day) in weekend.iter().enumerate() {
        if weekend[..index].contains(day) {
            return refuse(format!("/weekend/{index}"), "this day is named twice; leave it out once");
        }
    }
    Ok(())
}

fn check_order(pointer: String, open: LocalTime, close: LocalTime) -> Result<(), Refusal> {
    if open < close {
        return Ok(());
    }
    let detail = format!("closes at {close}, which is not after it opens at {open}; a session begins and ends on one local date");
    refuse(pointer, detail)
}

fn check_hours(document: &Document) -> Result<(), Refusal> {
    let Some(first) = document.hours.first() else {
        let detail = "give at least one row, such as {\"from\": \"2000-01-01\", \"open\": \"09:30\", \"close\": \"16:00\"}";
        return refuse("/hours", detail);
    };
    if document.hours.len() > MAX_HOURS {
        return refuse("/hours", format!("has {} rows; {MAX_HOURS} are the most", document.hours.len()));
    }
    for (index, row) in document.hours.iter().enumerate() {
        check_order(format!("/hours/{index}/close"), row.open, row.close)?;
        if index > 0 && document.hours[index - 1].from >= row.from {
            let detail = format!(
                "{} is not after the row before; write the rows in the order of their dates",
                row.from
            );
            return refuse(format!("/hours/{index}/from"), detail);
        }
        if let Some(pause) = row.pause
            && !(row.open < pause.start && pause.start < pause.end && pause.end < row.close)
        {
            let detail = format!(
                "a break lies within its hours, {} to {}, and starts before it ends",
                row.open, row.close
            );
            return refuse(format!("/hours/{index}/break"), detail);
        }
    }
    if document.official_until < first.from {
        let detail = format!(
            "is before the first hours, which count from {}; give the last date that is confirmed",
            first.from
        );
        return refuse("/official_until", detail);
    }
    Ok(())
}

fn check_holidays(document: &Document) -> Result<(), Refusal> {
    let wrong = document
        .holidays
        .iter()
        .position(|holiday| !is_text(&holiday.name, MAX_HOLIDAY_NAME));
    match wrong {
        Some(index) => refuse(
            format!("/holidays/{index}/name"),
            format!("a name has at most {MAX_HOLIDAY_NAME} bytes, and no control characters but ends of lines"),
        ),
        None => Ok(()),
    }
}

fn is_text(text: &str, most: usize) -> bool {
    text.len() <= most && text.chars().all(|c| c == '\n' || !c.is_control())
}

fn check_dates(member: &str, dates: &[Day]) -> Result<(), Refusal> {
    if dates.len() > MAX_DATES {
        return refuse(format!("/{member}"), format!("has {} dates; {MAX_DATES} are the most", dates.len()));
    }
    let mut order: Vec<(Day, usize)> = dates.iter().enumerate().map(|(index, date)| (*date, index)).collect();
    order.sort_unstable();
    match order.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        Some(pair) => {
            let detail = format!("{} stands there twice, first at /{member}/{}", pair[1].0, pair[0].1);
            refuse(format!("/{member}/{}/date", pair[1].1), detail)
        }
        None => Ok(()),
    }
}

fn check_specials(document: &Document, written: &Places) -> Result<(), Refusal> {
    for special in &document.special_sessions {
        let pointer = place("special_sessions", &written.special_sessions, special.date, "close");
        check_order(pointer, special.open, special.close)?;
    }
    Ok(())
}

/// An early close or late open that would change nothing, or more than it says, is a mistake.
fn check_exceptions(document: &Document, written: &Places) -> Result<(), Refusal> {
    let early = document
        .early_closes
        .iter()
        .map(|early| ("early_closes", early.date, &written.early_closes));
    let late = document
        .late_opens
        .iter()
        .map(|late| ("late_opens", late.date, &written.late_opens));
    for (member, date, written) in early.chain(late) {
        if let Some(why) = why_no_session(document, date) {
            let detail = format!("{date} {why}; take it out of {member}");
            return refuse(place(member, written, date, "date"), detail);
        }
    }
    for early in &document.early_closes {
        let Some(hours) = hours_of(document, early.date) else { continue };
        let open = find(&document.late_opens, early.date.0, |late| late.date).map_or(hours.open, |late| late.open);
        if !(open < early.close && early.close < hours.close) {
            let detail = format!(
                "an early close on {} lies after {open} and before {}, its regular hours",
                early.date, hours.close
            );
            return refuse(place("early_closes", &written.early_closes, early.date, "close"), detail);
        }
    }
    for late in &document.late_opens {
        let Some(hours) = hours_of(document, late.date) else { continue };
        if !(hours.open < late.open && late.open < hours.close) {
            let detail = format!(
                "a late open on {} lies after {} and before {}, its regular hours",
                late.date, hours.open, hours.close
            );
            return refuse(place("late_opens", &written.late_opens, late.date, "open"), detail);
        }
    }
    Ok(())
}

fn hours_of(document: &Document, date: Day) -> Option<&super::Hours> {
    document.hours.iter().rev().find(|row| row.from <= date)
}

fn why_no_session(document: &Document, date: Day) -> Option<&'static str> {
    if find(&document.special_sessions, date.0, |special| special.date).is_some() {
        return Some("has hours of its own in special_sessions");
    }
    if find(&document.holidays, date.0, |holiday| holiday.date).is_some() {
        return Some("is a holiday");
    }
    if document.weekend.contains(&Weekday::of(date.0.weekday())) {
        return Some("is on the weekend");
    }
    hours_of(document, date).is_none().then_some("is before the first hours")
}

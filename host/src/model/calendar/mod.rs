//! Business calendars: on which days a market is open, from when to when, and how far ahead that is confirmed.
//!
//! A calendar is a document (see [`Document`]) that was read strictly, so that every question here has one answer. Six are part of
//! the program (see [`shipped`]); others come from users. What holds for a day is looked up in this order: its own hours among
//! `special_sessions`, then weekend and holidays, then the hours that count from that day on, with a late open or early close of
//! that day. Before the first row of hours there are no sessions.

mod document;
mod local;
mod read;
pub mod shipped;

pub use document::{Break, Document, EarlyClose, Holiday, Hours, LateOpen, SpecialSession, Weekday};
pub use local::{Day, LocalTime};
pub use read::MAX_BYTES;

use crate::model::Time;
use crate::model::request::Refusal;
use chrono::{Datelike, NaiveDate};
use chrono_tz::Tz;
use local::{Edge, instant};

/// The longest run of closed days that is walked over to find the next or the previous session.
pub const LONGEST_CLOSURE: usize = 1_000;
/// The longest T+n that is counted.
pub const MAX_SETTLEMENT_DAYS: u32 = 1_000;

/// A calendar that can be asked.
#[derive(Clone, Debug, PartialEq)]
pub struct Calendar {
    name: String,
    zone: Tz,
    /// Its lists are in the order of their dates.
    document: Document,
}

/// One day's trading, as instants. `open` is never after `close`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Session {
    /// The local date.
    pub date: NaiveDate,
    /// When it opens.
    pub open: Time,
    /// When it closes: earlier than usual on a half day.
    pub close: Time,
    /// Start and end of the break, where the market has one that day.
    pub pause: Option<(Time, Time)>,
}

impl Calendar {
    /// Reads a document. `name` is what it is filed under; a name inside it has to be the same.
    pub fn parse(name: &str, text: &[u8]) -> Result<Self, Refusal> {
        read::parse(name, text)
    }

    /// The same for a document that was read already.
    pub fn new(name: &str, document: Document) -> Result<Self, Refusal> {
        read::check(name, document)
    }

    /// What it is filed under.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The zone of its local dates and hours.
    pub fn zone(&self) -> Tz {
        self.zone
    }

    /// The document it was read from, its lists in the order of their dates.
    pub fn document(&self) -> &Document {
        &self.document
    }

    /// The last date that somebody published or confirmed; later ones follow from rules and may turn out otherwise.
    pub fn official_until(&self) -> NaiveDate {
        self.document.official_until.0
    }

    /// Whether a date is confirmed: a fire on one that is not deserves an alert.
    pub fn is_official(&self, date: NaiveDate) -> bool {
        date <= self.official_until()
    }

    /// Whether there is trading on that local date.
    pub fn is_session(&self, date: NaiveDate) -> bool {
        self.plan(date).is_some()
    }

    /// The session of that local date; `None` when closed.
    pub fn session(&self, date: NaiveDate) -> Option<Session> {
        let plan = self.plan(date)?;
        let at = |time: LocalTime, edge: Edge| instant(self.zone, date, time, edge);
        let open = at(plan.open, Edge::Start)?;
        let close = at(plan.close, Edge::End)?.max(open);
        let pause = match plan.pause.filter(|pause| plan.open < pause.start && pause.end < plan.close) {
            Some(pause) => Some((at(pause.start, Edge::Start)?, at(pause.end, Edge::End)?)),
            None => None,
        };
        Some(Session { date, open, close, pause })
    }

    /// The first session on a later date; `None` when there is none within [`LONGEST_CLOSURE`] days.
    pub fn next_session(&self, date: NaiveDate) -> Option<Session> {
        let mut later = date.iter_days().skip(1).take(LONGEST_CLOSURE);
        later.find_map(|day| self.session(day))
    }

    /// The last session on an earlier date; `None` when there is none within [`LONGEST_CLOSURE`] days.
    pub fn previous_session(&self, date: NaiveDate) -> Option<Session> {
        let mut earlier = std::iter::successors(date.pred_opt(), NaiveDate::pred_opt).take(LONGEST_CLOSURE);
        earlier.find_map(|day| self.session(day))
    }

    /// The sessions from one date to another, both included.
    pub fn sessions(&self, from: NaiveDate, to: NaiveDate) -> impl Iterator<Item = Session> {
        let days = from.iter_days().take_while(move |day| *day <= to);
        days.filter_map(|day| self.session(day))
    }

    /// The date on which a trade settles at T+`days`, by the rule that the settlement plugin uses too.
    pub fn settlement_date(&self, trade_date: NaiveDate, days: u32) -> Option<NaiveDate> {
        let days = Some(days).filter(|days| *days <= MAX_SETTLEMENT_DAYS)?;
        business_days::settlement_date(trade_date, days, |date| self.is_session(date))
    }

    /// Whether that local date closes early.
    pub fn is_early_close(&self, date: NaiveDate) -> bool {
        find(&self.document.early_closes, date, |early| early.date).is_some()
    }

    /// The name of the holiday that a date is.
    pub fn holiday(&self, date: NaiveDate) -> Option<&str> {
        find(&self.document.holidays, date, |holiday| holiday.date).map(|holiday| holiday.name.as_str())
    }

    /// The hours of a day that has any.
    fn plan(&self, date: NaiveDate) -> Option<Plan> {
        let document = &self.document;
        if let Some(special) = find(&document.special_sessions, date, |special| special.date) {
            return Some(Plan {
                open: special.open,
                close: special.close,
                pause: None,
            });
        }
        let hours = document.hours.partition_point(|row| row.from.0 <= date).checked_sub(1)?;
        let hours = document.hours.get(hours)?;
        if document.weekend.contains(&Weekday::of(date.weekday())) || find(&document.holidays, date, |holiday| holiday.date).is_some() {
            return None;
        }
        let late = find(&document.late_opens, date, |late| late.date);
        let early = find(&document.early_closes, date, |early| early.date);
        Some(Plan {
            open: late.map_or(hours.open, |late| late.open),
            close: early.map_or(hours.close, |early| early.close),
            pause: hours.pause,
        })
    }
}

/// A day's hours in local time.
struct Plan {
    open: LocalTime,
    close: LocalTime,
    pause: Option<Break>,
}

/// The entry of a date in a list that is in the order of dates.
fn find<T>(list: &[T], date: NaiveDate, key: impl Fn(&T) -> Day) -> Option<&T> {
    let at = list.binary_search_by(|entry| key(entry).0.cmp(&date)).ok()?;
    list.get(at)
}

#[cfg(test)]
mod tests;

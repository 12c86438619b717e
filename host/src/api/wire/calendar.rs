//! Calendars and their sessions, as clients see them. The calendar itself is [`Document`], in and out.

use crate::model::calendar::{Calendar, Session};
use crate::store::NamedCalendar;
use chrono::{DateTime, FixedOffset, NaiveDate, Utc};
use serde::Serialize;
use utoipa::ToSchema;

/// A calendar in a list.
#[derive(Debug, Serialize, ToSchema)]
pub struct CalendarSummary {
    /// Its name.
    #[schema(example = "XNYS")]
    pub name: String,
    /// What it is of.
    pub description: String,
    /// The zone of its dates and hours.
    #[schema(example = "America/New_York")]
    pub timezone: String,
    /// `shipped`, or `put` for one that a user put, which goes before the shipped one of its name.
    #[schema(example = "shipped")]
    pub origin: &'static str,
    /// The last date that is published or confirmed.
    #[schema(value_type = String, format = Date)]
    pub official_until: NaiveDate,
    /// How many closed days it names.
    pub holidays: usize,
    /// When it was put; null for one that ships.
    pub updated_at: Option<DateTime<Utc>>,
}

impl From<&NamedCalendar> for CalendarSummary {
    fn from(named: &NamedCalendar) -> Self {
        let document = named.calendar.document();
        Self {
            name: named.calendar.name().to_owned(),
            description: document.description.clone(),
            timezone: document.timezone.clone(),
            origin: if named.updated_at.is_some() { "put" } else { "shipped" },
            official_until: named.calendar.official_until(),
            holidays: document.holidays.len(),
            updated_at: named.updated_at,
        }
    }
}

/// One day's trading.
#[derive(Debug, Serialize, ToSchema)]
pub struct SessionRecord {
    /// The local date.
    #[schema(value_type = String, format = Date)]
    pub date: NaiveDate,
    /// When it opens.
    pub open: DateTime<Utc>,
    /// When it closes.
    pub close: DateTime<Utc>,
    /// The same by the clocks of the calendar's zone, with their offset.
    #[schema(value_type = String, format = DateTime)]
    pub open_local: DateTime<FixedOffset>,
    /// The same by the clocks of the calendar's zone, with their offset.
    #[schema(value_type = String, format = DateTime)]
    pub close_local: DateTime<FixedOffset>,
    /// Where there is one that day.
    #[serde(rename = "break", skip_serializing_if = "Option::is_none")]
    pub pause: Option<SessionBreak>,
    /// Whether it closes before the regular hours do.
    pub early_close: bool,
    /// Whether its date is published or confirmed.
    pub official: bool,
}

/// When a session pauses.
#[derive(Debug, Serialize, ToSchema)]
pub struct SessionBreak {
    /// When trading stops.
    pub start: DateTime<Utc>,
    /// When it goes on.
    pub end: DateTime<Utc>,
}

impl SessionRecord {
    pub(crate) fn new(calendar: &Calendar, session: Session) -> Self {
        let local = |time: DateTime<Utc>| time.with_timezone(&calendar.zone()).fixed_offset();
        Self {
            date: session.date,
            open: session.open,
            close: session.close,
            open_local: local(session.open),
            close_local: local(session.close),
            pause: session.pause.map(|(start, end)| SessionBreak { start, end }),
            early_close: calendar.is_early_close(session.date),
            official: calendar.is_official(session.date),
        }
    }
}

/// When a trade settles.
#[derive(Debug, Serialize, ToSchema)]
pub struct SettlementDate {
    /// The day of the trade, as it was asked.
    #[schema(value_type = String, format = Date)]
    pub trade_date: NaiveDate,
    /// The n of T+n.
    pub days: u32,
    /// The n-th session after it.
    #[schema(value_type = String, format = Date)]
    pub settlement_date: NaiveDate,
    /// Whether that date is published or confirmed.
    pub official: bool,
}

//! A calendar as JSON: what is shipped, uploaded and shown.

use super::{Day, LocalTime};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A business calendar.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Calendar)]
pub struct Document {
    /// What it is filed under.
    #[serde(default)]
    pub name: String,
    /// What it is of, in words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// An IANA zone, such as `America/New_York`: all dates and hours are local there.
    pub timezone: String,
    /// The days of each week that are closed.
    #[serde(default = "saturday_and_sunday")]
    pub weekend: Vec<Weekday>,
    /// The regular hours; each row counts from its date until the next. No sessions before the first.
    pub hours: Vec<Hours>,
    /// Closed days. One that falls on a weekend changes nothing.
    #[serde(default)]
    pub holidays: Vec<Holiday>,
    /// Sessions that end before the regular hours do.
    #[serde(default)]
    pub early_closes: Vec<EarlyClose>,
    /// Sessions that begin after the regular hours do.
    #[serde(default)]
    pub late_opens: Vec<LateOpen>,
    /// Sessions with hours of their own, on whatever day they fall.
    #[serde(default)]
    pub special_sessions: Vec<SpecialSession>,
    /// The last date that is published or confirmed.
    #[schema(value_type = String, format = Date)]
    pub official_until: Day,
}

/// Regular hours.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = CalendarHours)]
pub struct Hours {
    /// The first date on which they count.
    #[schema(value_type = String, format = Date)]
    pub from: Day,
    /// When the market opens.
    #[schema(value_type = String, example = "09:30")]
    pub open: LocalTime,
    /// When it closes, later on the same day.
    #[schema(value_type = String, example = "09:30")]
    pub close: LocalTime,
    /// The break between morning and afternoon, where there is one.
    #[serde(rename = "break", default, skip_serializing_if = "Option::is_none")]
    pub pause: Option<Break>,
}

/// A break within a session.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = CalendarBreak)]
pub struct Break {
    /// When trading stops.
    #[schema(value_type = String, example = "09:30")]
    pub start: LocalTime,
    /// When it goes on.
    #[schema(value_type = String, example = "09:30")]
    pub end: LocalTime,
}

/// A closed day.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = CalendarHoliday)]
pub struct Holiday {
    /// The local date.
    #[schema(value_type = String, format = Date)]
    pub date: Day,
    /// Why it is closed.
    #[serde(default)]
    pub name: String,
}

/// A session that ends early.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = CalendarEarlyClose)]
pub struct EarlyClose {
    /// The local date.
    #[schema(value_type = String, format = Date)]
    pub date: Day,
    /// When it closes.
    #[schema(value_type = String, example = "09:30")]
    pub close: LocalTime,
}

/// A session that begins late.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = CalendarLateOpen)]
pub struct LateOpen {
    /// The local date.
    #[schema(value_type = String, format = Date)]
    pub date: Day,
    /// When it opens.
    #[schema(value_type = String, example = "09:30")]
    pub open: LocalTime,
}

/// A session with hours of its own and no break.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = CalendarSpecialSession)]
pub struct SpecialSession {
    /// The local date.
    #[schema(value_type = String, format = Date)]
    pub date: Day,
    /// When it opens.
    #[schema(value_type = String, example = "09:30")]
    pub open: LocalTime,
    /// When it closes.
    #[schema(value_type = String, example = "09:30")]
    pub close: LocalTime,
}

/// A day of the week.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "they are the days of the week")]
pub enum Weekday {
    Mon,
    Tue,
    Wed,
    Thu,
    Fri,
    Sat,
    Sun,
}

impl Weekday {
    /// The same day in our words.
    pub fn of(day: chrono::Weekday) -> Self {
        match day {
            chrono::Weekday::Mon => Self::Mon,
            chrono::Weekday::Tue => Self::Tue,
            chrono::Weekday::Wed => Self::Wed,
            chrono::Weekday::Thu => Self::Thu,
            chrono::Weekday::Fri => Self::Fri,
            chrono::Weekday::Sat => Self::Sat,
            chrono::Weekday::Sun => Self::Sun,
        }
    }
}

fn saturday_and_sunday() -> Vec<Weekday> {
    vec![Weekday::Sat, Weekday::Sun]
}

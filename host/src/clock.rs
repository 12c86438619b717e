//! Now. The one place that asks the system's clock; everybody else is told the time.

type Time = chrono::DateTime<chrono::Utc>;

/// Where the time comes from. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub enum Clock {
    /// The machine's clock, in UTC.
    #[default]
    System,
}

impl Clock {
    /// The current instant, to the microsecond, which is what the store keeps.
    pub fn now(&self) -> Time {
        match self {
            #[expect(clippy::disallowed_methods, reason = "this is the clock")]
            Self::System => {
                let now = chrono::Utc::now();
                Time::from_timestamp_micros(now.timestamp_micros()).unwrap_or(now)
            }
        }
    }
}

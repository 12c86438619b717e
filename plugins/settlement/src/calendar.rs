//! Business days: every day but Saturday, Sunday and the holidays given. The rule of T+n is the host's, in `business_days`.

use chrono::{Datelike, NaiveDate, Weekday};
use std::collections::BTreeSet;

/// T+n. (An ordered set: a hashed one would make the component ask its host for random numbers.)
#[derive(Default, Debug)]
pub(crate) struct Calendar {
    pub(crate) days: u32,
    pub(crate) holidays: BTreeSet<NaiveDate>,
}

impl Calendar {
    /// The n-th business day after the trade date. A trade on a day that is none counts as of the next business day.
    pub(crate) fn settlement_date(&self, trade_date: NaiveDate) -> NaiveDate {
        let found = business_days::settlement_date(trade_date, self.days, |date| self.is_business_day(date));
        // The holidays that an input may name do not fill the longest closure; a date stays a date all the same.
        found.unwrap_or(NaiveDate::MAX)
    }

    fn is_business_day(&self, date: NaiveDate) -> bool {
        !matches!(date.weekday(), Weekday::Sat | Weekday::Sun) && !self.holidays.contains(&date)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use business_days::parse_date;

    fn check(days: u32, holidays: &[&str], trade_date: &str, expected: &str) {
        let calendar = Calendar {
            days,
            holidays: holidays.iter().map(|day| parse_date(day).unwrap()).collect(),
        };
        assert_eq!(calendar.settlement_date(parse_date(trade_date).unwrap()).to_string(), expected);
    }

    #[test]
    fn saturdays_sundays_and_the_holidays_given_are_no_business_days() {
        check(2, &[], "2024-12-19", "2024-12-23");
        check(2, &["2024-12-25", "2024-12-26"], "2024-12-23", "2024-12-27");
        check(0, &["2024-12-25"], "2024-12-25", "2024-12-26");
    }
}

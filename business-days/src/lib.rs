//! Counting business days: the rule by which a trade date and T+n become a settlement date.
//!
//! The host's calendars and the settlement plugin both ask here, so that a date that the one promises is the date that the other
//! settles on. What a business day is, the caller says; nothing here knows a holiday. How a date is written stands here too, once for all plugins.

use chrono::NaiveDate;

/// The longest run of days without a business day that is walked over; past it there is no answer. More than 40 years: no market
/// closes for that long, and a calendar that never opens ends here.
pub const LONGEST_CLOSURE: usize = 15_000;

/// The n-th business day after the trade date. A trade on a day that is none counts as of the next business day.
///
/// `None` when none is found within [`LONGEST_CLOSURE`] days of the one before.
pub fn settlement_date(trade_date: NaiveDate, days: u32, is_business_day: impl Fn(NaiveDate) -> bool) -> Option<NaiveDate> {
    let mut date = on_or_after(trade_date, &is_business_day)?;
    for _ in 0..days {
        date = on_or_after(date.succ_opt()?, &is_business_day)?;
    }
    Some(date)
}

/// The date itself if it is a business day, else the next one.
pub fn on_or_after(date: NaiveDate, is_business_day: impl Fn(NaiveDate) -> bool) -> Option<NaiveDate> {
    date.iter_days().take(LONGEST_CLOSURE).find(|day| is_business_day(*day))
}

/// The date itself if it is a business day, else the last one before it.
pub fn on_or_before(date: NaiveDate, is_business_day: impl Fn(NaiveDate) -> bool) -> Option<NaiveDate> {
    std::iter::successors(Some(date), NaiveDate::pred_opt)
        .take(LONGEST_CLOSURE)
        .find(|day| is_business_day(*day))
}

/// Exactly `YYYY-MM-DD`; chrono's own parser also accepts `2020-1-2` and signs. The error is a sentence.
pub fn parse_date(text: &str) -> Result<NaiveDate, String> {
    let number = |part: &str| {
        part.bytes()
            .all(|byte| byte.is_ascii_digit())
            .then(|| part.parse::<u16>().ok())
            .flatten()
    };
    let date = || {
        let (year, month, day) = (
            text.get(..4)?,
            text.get(4..)?.strip_prefix('-')?.get(..2)?,
            text.get(7..)?.strip_prefix('-')?,
        );
        let (year, month, day) = (number(year)?, number(month)?, number(day).filter(|_| day.len() == 2)?);
        NaiveDate::from_ymd_opt(year.into(), month.into(), day.into())
    };
    date().ok_or_else(|| format!("`{text:.40}` is no date YYYY-MM-DD"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::{Datelike, Days};
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn only_the_one_form_of_a_date_is_read() {
        assert_eq!(parse_date("2024-02-29").unwrap().to_string(), "2024-02-29");
        for text in [
            "",
            "2024-02-30",
            "2024-2-03",
            "2024-02-3",
            "2024-02-031",
            "+024-02-03",
            "2024-02-+3",
            "2024/02/03",
            "20240203",
            "2024-0é-03",
        ] {
            assert!(parse_date(text).is_err(), "{text}");
        }
    }

    fn day(text: &str) -> NaiveDate {
        text.parse().unwrap()
    }

    fn is_open(date: NaiveDate, holidays: &BTreeSet<NaiveDate>) -> bool {
        date.weekday().number_from_monday() <= 5 && !holidays.contains(&date)
    }

    fn check(days: u32, holidays: &[&str], trade_date: &str, expected: &str) {
        let holidays: BTreeSet<NaiveDate> = holidays.iter().map(|text| day(text)).collect();
        let found = settlement_date(day(trade_date), days, |date| is_open(date, &holidays));
        assert_eq!(found, Some(day(expected)), "{trade_date} and {days} days");
    }

    #[test]
    fn weekends_and_holidays_do_not_count() {
        check(2, &[], "2024-12-16", "2024-12-18");
        check(2, &[], "2024-12-19", "2024-12-23");
        check(2, &["2024-12-25", "2024-12-26"], "2024-12-23", "2024-12-27");
        check(0, &[], "2024-12-18", "2024-12-18");
    }

    #[test]
    fn a_trade_on_a_closed_day_counts_as_of_the_next_business_day() {
        check(1, &[], "2024-12-21", "2024-12-24");
        check(1, &[], "2024-12-22", "2024-12-24");
        check(0, &["2024-12-25"], "2024-12-25", "2024-12-26");
    }

    #[test]
    fn a_calendar_that_never_opens_has_no_answer() {
        assert_eq!(settlement_date(day("2024-12-21"), 1, |_| false), None);
        assert_eq!(settlement_date(NaiveDate::MAX, 1, |_| true), None);
        assert_eq!(on_or_before(NaiveDate::MIN, |_| false), None);
    }

    #[test]
    fn a_closed_day_moves_to_the_one_before_or_after() {
        let open = |date| is_open(date, &BTreeSet::new());
        assert_eq!(on_or_before(day("2024-12-22"), open), Some(day("2024-12-20")));
        assert_eq!(on_or_after(day("2024-12-22"), open), Some(day("2024-12-23")));
        assert_eq!(on_or_before(day("2024-12-23"), open), Some(day("2024-12-23")));
    }

    proptest! {
        /// Walks day by day and counts, as one would with a finger on a wall calendar.
        #[test]
        fn it_agrees_with_a_walk_day_by_day(start in 0..20_000_u64, days in 0..12_u32, offsets in proptest::collection::btree_set(0..40_u64, 0..15)) {
            let start = NaiveDate::from_ymd_opt(1990, 1, 1).unwrap() + Days::new(start);
            let holidays: BTreeSet<NaiveDate> = offsets.into_iter().map(|offset| start + Days::new(offset)).collect();
            let expected = start.iter_days().filter(|date| is_open(*date, &holidays)).nth(days as usize);
            prop_assert_eq!(settlement_date(start, days, |date| is_open(date, &holidays)), expected);
        }
    }
}

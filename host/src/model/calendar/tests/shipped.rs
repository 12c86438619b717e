//! Days that people remember, in the calendars that ship.

use super::super::shipped;
use super::{day, hours};

fn check(name: &str, cases: &[(&str, &str)]) {
    let calendar = shipped::get(name).unwrap_or_else(|| panic!("{name} ships"));
    for (date, expected) in cases {
        let expected = expected.replace('@', &format!("{date}T"));
        assert_eq!(hours(calendar.session(day(date))), expected, "{name} on {date}");
    }
}

#[test]
fn all_six_ship_for_2000_to_2030() {
    let names: Vec<&str> = shipped::all().iter().map(|calendar| calendar.name()).collect();
    assert_eq!(names, ["TARGET2", "XETR", "XHKG", "XLON", "XNYS", "XTKS"]);
    for calendar in shipped::all() {
        let year = |year: i32| {
            calendar
                .sessions(day(&format!("{year}-01-01")), day(&format!("{year}-12-31")))
                .count()
        };
        for sessions in (2000..=2030).map(year) {
            assert!((240..=262).contains(&sessions), "{}: {sessions}", calendar.name());
        }
        assert!(!calendar.is_session(day("1999-12-30")), "{} begins in 2000", calendar.name());
        assert!(calendar.is_official(day("2026-12-31")), "{}", calendar.name());
    }
}

#[test]
fn what_comes_next_before_and_n_sessions_later_is_in_the_list_of_sessions() {
    for calendar in shipped::all() {
        let sessions: Vec<_> = calendar.sessions(day("2000-01-01"), day("2030-12-31")).collect();
        assert!(
            sessions
                .windows(2)
                .all(|pair| pair[0].open < pair[0].close && pair[0].close < pair[1].open)
        );
        let days = day("2000-02-01")
            .iter_days()
            .step_by(11)
            .take_while(|date| *date < day("2030-11-30"));
        for date in days {
            let after = sessions.partition_point(|session| session.date <= date);
            let at_or_after = sessions.partition_point(|session| session.date < date);
            assert_eq!(
                calendar.next_session(date).as_ref(),
                sessions.get(after),
                "{} after {date}",
                calendar.name()
            );
            assert_eq!(
                calendar.previous_session(date).as_ref(),
                sessions.get(at_or_after - 1),
                "{} before {date}",
                calendar.name()
            );
            for days in [0, 1, 2, 5] {
                let settles = calendar.settlement_date(date, days);
                assert_eq!(
                    settles,
                    sessions.get(at_or_after + days as usize).map(|session| session.date),
                    "T+{days} of {date}"
                );
            }
        }
    }
}

#[test]
fn new_york() {
    check(
        "XNYS",
        &[
            ("2001-09-10", "@13:30 @20:00"),
            ("2001-09-11", "closed"),
            ("2001-09-14", "closed"),
            ("2002-09-11", "@16:00 @20:00"),
            ("2012-10-29", "closed"),
            ("2012-10-31", "@13:30 @20:00"),
            ("2024-11-29", "@14:30 @18:00"),
            ("2025-01-09", "closed"),
            ("2027-06-18", "closed"),
            ("2028-07-03", "@13:30 @17:00"),
            // New York changes its clocks two weeks before London does.
            ("2024-03-08", "@14:30 @21:00"),
            ("2024-03-11", "@13:30 @20:00"),
        ],
    );
}

#[test]
fn london_and_frankfurt() {
    check(
        "XLON",
        &[
            ("2000-04-05", "@14:45 @19:00"),
            ("2022-09-19", "closed"),
            ("2020-05-04", "@07:00 @15:30"),
            ("2020-05-08", "closed"),
            ("2024-12-24", "@08:00 @12:30"),
            ("2024-03-28", "@08:00 @16:30"),
            ("2024-04-02", "@07:00 @15:30"),
        ],
    );
    check(
        "XETR",
        &[
            ("2000-06-01", "@07:00 @15:30"),
            ("2000-06-02", "@07:00 @18:00"),
            ("2003-10-31", "@08:00 @19:00"),
            ("2003-11-03", "@08:00 @16:30"),
            ("2021-05-24", "closed"),
            ("2022-06-06", "@07:00 @15:30"),
            ("2024-12-30", "@08:00 @13:00"),
        ],
    );
}

#[test]
fn tokyo_and_hong_kong() {
    check(
        "XTKS",
        &[
            ("2008-12-30", "@00:00 @02:00"),
            ("2009-12-30", "@00:00 @06:00 break @02:00 @03:30"),
            ("2011-11-18", "@00:00 @06:00 break @02:00 @03:30"),
            ("2011-11-21", "@00:00 @06:00 break @02:30 @03:30"),
            ("2019-05-06", "closed"),
            ("2020-10-01", "closed"),
            ("2024-11-01", "@00:00 @06:00 break @02:30 @03:30"),
            ("2024-11-05", "@00:00 @06:30 break @02:30 @03:30"),
        ],
    );
    check(
        "XHKG",
        &[
            ("2011-03-04", "@02:00 @08:00 break @04:30 @06:30"),
            ("2011-03-07", "@01:30 @08:00 break @04:00 @05:30"),
            ("2012-03-05", "@01:30 @08:00 break @04:00 @05:00"),
            ("2008-02-06", "@02:00 @04:30"),
            ("2023-09-01", "closed"),
            ("2023-10-09", "@06:00 @08:00"),
            ("2024-02-09", "@01:30 @04:00"),
            ("2026-04-07", "closed"),
            ("2029-09-24", "closed"),
        ],
    );
}

#[test]
fn the_euro_settles_on_target_days() {
    check(
        "TARGET2",
        &[
            ("2000-12-29", "@06:00 @17:00"),
            ("2001-12-31", "closed"),
            ("2002-12-31", "@06:00 @17:00"),
            ("2024-03-29", "closed"),
            ("2024-04-01", "closed"),
            ("2024-10-03", "@05:00 @16:00"),
        ],
    );
    let target = shipped::get("TARGET2").unwrap();
    assert_eq!(target.settlement_date(day("2024-03-27"), 2), Some(day("2024-04-02")));
}

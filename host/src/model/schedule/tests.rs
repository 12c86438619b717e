//! Rules of schedules, by table and by walk.

use super::misfire::{Due, Misfire, due};
use super::overlap::{Decision, MOST_QUEUED, Overlap};
use super::rule::Rule;
use super::timing::Timing;
use super::*;
use crate::model::calendar::shipped;
use chrono::{NaiveDate, TimeDelta};
use proptest::prelude::*;
use std::collections::BTreeSet;

fn at(text: &str) -> Time {
    text.parse().unwrap()
}

/// A rule from members as a request has them.
fn rule(members: &str) -> Rule {
    try_rule(members).unwrap()
}

fn try_rule(members: &str) -> Result<Rule, Refusal> {
    let timing = Timing::of(&parse::<CronTaskRequest>(format!(r#"{{"task_name":"t",{members}}}"#).as_bytes())?);
    let calendar = timing.calendar.as_deref().and_then(shipped::get);
    timing.rule(calendar)
}

fn cron(expression: &str) -> Rule {
    rule(&format!(r#""cron_expression":"{expression}""#))
}

fn fires(rule: &Rule, after: &str, count: usize) -> Vec<String> {
    let mut at = at(after);
    (0..count)
        .map_while(|_| {
            at = rule.next_after(at)?;
            Some(at.format("%a %m-%dT%H:%M").to_string())
        })
        .collect()
}

#[test]
fn a_fire_on_time_is_made_and_the_cursor_moves_on() {
    for misfire in [Misfire::Latest, Misfire::All, Misfire::None] {
        let cursor = at("2026-01-01T00:05:00Z");
        let expected = Due {
            fires: vec![cursor],
            skipped: None,
            next: Some(at("2026-01-01T00:10:00Z")),
        };
        assert_eq!(
            due(&cron("*/5 * * * *"), misfire, cursor, at("2026-01-01T00:05:00.020Z"), 100),
            expected
        );
    }
}

#[test]
fn each_misfire_rule_makes_what_it_says_and_tells_the_rest() {
    let rule = cron("0 * * * *");
    let (cursor, now) = (at("2026-01-01T00:00:00Z"), at("2026-01-03T12:30:00Z"));
    let next = Some(at("2026-01-03T13:00:00Z"));
    let skipped = |until: &str, count| {
        Some(Skip {
            reason: SkipReason::Misfire,
            at: cursor,
            until: at(until),
            count,
        })
    };
    let latest = due(&rule, Misfire::Latest, cursor, now, 100);
    assert_eq!(
        (latest.fires, latest.skipped, latest.next),
        (vec![at("2026-01-03T12:00:00Z")], skipped("2026-01-03T11:00:00Z", 60), next)
    );
    let none = due(&rule, Misfire::None, cursor, now, 100);
    assert_eq!(
        (none.fires, none.skipped, none.next),
        (vec![], skipped("2026-01-03T12:00:00Z", 61), next)
    );
    // Those of the last 24 hours.
    let all = due(&rule, Misfire::All, cursor, now, 100);
    assert_eq!(
        (all.fires.len(), all.fires[0], all.skipped, all.next),
        (24, at("2026-01-02T13:00:00Z"), skipped("2026-01-02T12:00:00Z", 37), next)
    );
    // In parts, where one transaction should not hold them all.
    let part = due(&rule, Misfire::All, cursor, now, 10);
    assert_eq!((part.fires.len(), part.next), (10, Some(all.fires[10])));
    let rest = due(&rule, Misfire::All, all.fires[10], now, 100);
    assert_eq!((rest.fires.as_slice(), rest.skipped, rest.next), (&all.fires[10..], None, next));
}

#[test]
fn no_more_than_a_hundred_are_made_up_for() {
    let now = at("2026-01-01T12:00:00Z");
    let all = due(&cron("* * * * *"), Misfire::All, at("2026-01-01T00:00:00Z"), now, 1_000);
    assert_eq!((all.fires.len(), all.fires[99]), (100, now));
    assert_eq!(all.skipped.map(|skip| skip.count), Some(621));
}

#[test]
fn a_schedule_of_each_second_that_slept_for_a_year_costs_little() {
    let (cursor, now) = (at("2026-01-01T00:00:00Z"), at("2027-01-01T00:00:00.5Z"));
    for misfire in [Misfire::Latest, Misfire::All, Misfire::None] {
        let found = due(&cron("* * * * * *"), misfire, cursor, now, 100);
        assert_eq!(found.next, Some(at("2027-01-01T00:00:01Z")));
        let skipped = found.skipped.unwrap();
        assert_eq!((skipped.at, skipped.count), (cursor, COUNTED));
        let before = found.fires.first().map_or(now, |first| *first);
        assert!(before - skipped.until <= TimeDelta::seconds(1), "{skipped:?}");
    }
}

#[test]
fn a_rare_fire_is_made_up_for_within_its_period_and_no_later() {
    let monthly = due(
        &cron("0 0 1 * *"),
        Misfire::Latest,
        at("2026-02-01T00:00:00Z"),
        at("2026-02-20T00:00:00Z"),
        100,
    );
    assert_eq!(monthly.fires, [at("2026-02-01T00:00:00Z")]);
    let ended = rule(r#""cron_expression":"0 0 * * *","end":"2026-02-01T00:00:00Z""#);
    let found = due(&ended, Misfire::Latest, at("2026-02-01T00:00:00Z"), at("2026-02-03T00:00:00Z"), 100);
    assert_eq!((found.fires, found.next), (vec![], None));
    assert_eq!(found.skipped, Some(Skip::one(SkipReason::Misfire, at("2026-02-01T00:00:00Z"))));
}

#[test]
fn start_and_end_bound_the_fires() {
    let bounded = rule(r#""cron_expression":"0 * * * *","start":"2026-01-02T00:00:00Z","end":"2026-01-02T01:00:00Z""#);
    assert_eq!(fires(&bounded, "2026-01-01T00:00:00Z", 5), ["Fri 01-02T00:00", "Fri 01-02T01:00"]);
}

#[test]
fn the_last_fire_is_found_whatever_lies_between() {
    let rule = cron("* * * 1 1 *");
    let last = at("2026-01-01T23:59:59Z");
    for now in ["2026-01-01T23:59:59Z", "2026-01-02T00:00:00Z", "2026-12-31T23:59:59.999Z"] {
        assert_eq!(rule.last_until(at("2026-01-01T00:00:00Z"), at(now)), last, "{now}");
    }
    assert_eq!(rule.last_until(last, last), last);
}

#[test]
fn a_calendar_drops_or_moves_the_fires_of_closed_days() {
    // Good Friday is 3 April 2026; the weekend follows.
    let gated = |on_closed: &str| {
        rule(&format!(
            r#""cron_expression":"30 16 * * 1-5","timezone":"America/New_York","calendar":"XNYS","on_closed":"{on_closed}""#
        ))
    };
    let after = "2026-04-01T12:00:00Z";
    assert_eq!(
        fires(&gated("skip"), after, 3),
        ["Wed 04-01T20:30", "Thu 04-02T20:30", "Mon 04-06T20:30"]
    );
    let daily = |on_closed: &str| {
        rule(&format!(
            r#""cron_expression":"0 12 3 * *","calendar":"XNYS","on_closed":"{on_closed}""#
        ))
    };
    assert_eq!(fires(&daily("next"), after, 2), ["Mon 04-06T12:00", "Mon 05-04T12:00"]);
    assert_eq!(fires(&daily("previous"), after, 2), ["Thu 04-02T12:00", "Fri 05-01T12:00"]);
    let dropped = gated("skip").dropped(at("2026-04-01T12:00:00Z"), at("2026-04-07T00:00:00Z"));
    assert_eq!(dropped, [Skip::one(SkipReason::Closed, at("2026-04-03T20:30:00Z"))]);
    assert_eq!(gated("next").dropped(at("2026-04-01T12:00:00Z"), at("2026-04-07T00:00:00Z")), []);
}

#[test]
fn what_is_dropped_over_a_weekend_is_one_row() {
    let gated = rule(r#""cron_expression":"*/10 9-16 * * *","calendar":"XNYS""#);
    // Saturday and Sunday, 8 hours of 6 fires each.
    let dropped = gated.dropped(at("2026-01-09T23:00:00Z"), at("2026-01-12T09:00:00Z"));
    let expected = Skip {
        reason: SkipReason::Closed,
        at: at("2026-01-10T09:00:00Z"),
        until: at("2026-01-11T16:50:00Z"),
        count: 96,
    };
    assert_eq!(dropped, [expected]);
    // A part of a day counts as what it is.
    let part = gated.dropped(at("2026-01-10T12:00:00Z"), at("2026-01-10T12:30:00Z"));
    assert_eq!(
        (part[0].at, part[0].until, part[0].count),
        (at("2026-01-10T12:10:00Z"), at("2026-01-10T12:30:00Z"), 3)
    );
}

#[test]
fn a_gap_of_the_clocks_that_drops_a_fire_is_told() {
    let skip = rule(r#""cron_expression":"*/30 2 * * *","timezone":"America/New_York","dst_gap":"skip""#);
    let dropped = skip.dropped(at("2026-03-01T00:00:00Z"), at("2026-04-01T00:00:00Z"));
    let expected = Skip {
        count: 2,
        ..Skip::one(SkipReason::DstGap, at("2026-03-08T07:00:00Z"))
    };
    assert_eq!(dropped, [expected]);
}

#[test]
fn a_session_schedule_follows_the_half_days() {
    let after_close = rule(r#""session":{"edge":"close","offset":1800},"calendar":"XNYS""#);
    // The day after Thanksgiving closes at 13:00.
    let expected = ["Wed 11-25T21:30", "Fri 11-27T18:30", "Mon 11-30T21:30"];
    assert_eq!(fires(&after_close, "2026-11-25T12:00:00Z", 3), expected);
    let before_open = rule(r#""session":{"edge":"open","offset":-3600},"calendar":"XNYS""#);
    assert_eq!(
        fires(&before_open, "2026-11-25T13:29:59Z", 2),
        ["Wed 11-25T13:30", "Fri 11-27T13:30"]
    );
    // Two days before a Monday's open is a Saturday.
    let far = rule(r#""session":{"edge":"open","offset":-172800},"calendar":"XNYS""#);
    assert_eq!(fires(&far, "2026-01-09T20:00:00Z", 1), ["Sat 01-10T14:30"]);
}

#[test]
fn a_fire_beyond_what_is_confirmed_is_known() {
    let gated = rule(r#""cron_expression":"0 12 * * *","calendar":"XNYS""#);
    assert_eq!(gated.unconfirmed(at("2026-01-05T12:00:00Z")), None);
    assert_eq!(gated.unconfirmed(at("2090-01-05T12:00:00Z")), Some("XNYS"));
    assert_eq!(cron("0 12 * * *").unconfirmed(at("2090-01-05T12:00:00Z")), None);
}

#[test]
fn what_does_not_go_together_is_refused_where_it_stands() {
    for (members, pointer) in [
        (r#""priority":1"#, "/cron_expression"),
        (r#""cron_expression":"0 0 30 2 *""#, "/cron_expression"),
        (r#""cron_expression":"@daily","session":{"edge":"open"}"#, "/session"),
        (r#""session":{"edge":"open"}"#, "/calendar"),
        (r#""session":{"edge":"noon"},"calendar":"XNYS""#, "/session/edge"),
        (r#""session":{"edge":"open","offset":604801},"calendar":"XNYS""#, "/session/offset"),
        (r#""session":{"edge":"open","offset":0.5},"calendar":"XNYS""#, "/session/offset"),
        (r#""session":{"edge":"open","at":1},"calendar":"XNYS""#, "/session/at"),
        (r#""session":{"edge":"open"},"calendar":"XNYS","timezone":"UTC""#, "/timezone"),
        (r#""cron_expression":"@daily","calendar":"XXXX""#, "/calendar"),
        (r#""cron_expression":"@daily","calendar":"a b""#, "/calendar"),
        (r#""cron_expression":"@daily","on_closed":"next""#, "/on_closed"),
        (r#""cron_expression":"@daily","calendar":"XNYS","on_closed":"later""#, "/on_closed"),
        (r#""cron_expression":"@daily","timezone":"Mars/Olympus""#, "/timezone"),
        (r#""cron_expression":"@daily","timezone":1"#, "/timezone"),
        (r#""cron_expression":"@daily","dst_gap":"first""#, "/dst_gap"),
        (r#""cron_expression":"@daily","dst_overlap":"skip""#, "/dst_overlap"),
        (r#""cron_expression":"@daily","misfire":"most""#, "/misfire"),
        (r#""cron_expression":"@daily","overlap":"kill""#, "/overlap"),
        (r#""cron_expression":"@daily","start":"2027-01-01","end":"2026-01-01""#, "/end"),
    ] {
        let refusal = try_rule(members).map(drop).expect_err(members);
        assert_eq!(refusal.pointer, pointer, "{members}: {refusal}");
    }
}

#[test]
fn an_operators_edit_lies_over_what_was_declared_until_it_is_taken_back() {
    let declared = members(r#"{"task_name":"t","cron_expression":"@daily","priority":3,"payload":{"n":1.10}}"#).unwrap();
    let patch = |edits: Option<&str>, patch: &str| patched(edits, &members(patch).unwrap());
    let edits = patch(None, r#"{"priority":1,"timezone":"Asia/Tokyo"}"#).unwrap();
    let holds = effective(&declared, &edits).unwrap();
    assert_eq!(holds.priority.map(crate::model::priority::Priority::get), Some(1));
    assert_eq!(holds.timezone.map(crate::model::zone::Zone::name), Some("Asia/Tokyo"));
    assert_eq!(holds.payload.text, r#"{"n":1.10}"#);
    let edits = patch(Some(&text(&edits)), r#"{"priority":null,"end":null}"#).unwrap();
    assert_eq!(text(&edits), r#"{"timezone":"Asia/Tokyo"}"#);
    assert_eq!(
        effective(&declared, &edits)
            .unwrap()
            .priority
            .map(crate::model::priority::Priority::get),
        Some(3)
    );
    let deep = patch(Some(r#"{"payload":{"a":{"b":1}}}"#), r#"{"payload":{"a":{"c":2.50,"b":null}}}"#).unwrap();
    assert_eq!(text(&deep), r#"{"payload":{"a":{"c":2.50}}}"#);
    assert_eq!(effective(&declared, &deep).unwrap().payload.text, r#"{"a":{"c":2.50},"n":1.10}"#);
    assert!(
        patch(Some(r#"{"payload":{"a":1}}"#), r#"{"payload":{"a":null}}"#)
            .unwrap()
            .is_empty()
    );
    let long = |bytes: usize| format!(r#"{{"payload":{{"b":"{}"}}}}"#, "x".repeat(bytes));
    let half = long(600_000);
    for (edits, change) in [(half.replacen('b', "a", 1), half), ("{}".into(), long(1 << 20))] {
        let refused = patch(Some(&edits), &change).unwrap_err();
        assert!(refused.sentence.contains("1 MiB together; declare the payload anew"), "{refused}");
    }
    // What an earlier version let grow can be taken back.
    assert!(patch(Some(&long(2 << 20)), r#"{"payload":null}"#).unwrap().is_empty());
    let session = patch(None, r#"{"session":{"edge":"open"},"calendar":"XNYS"}"#).unwrap();
    assert_eq!(effective(&declared, &session).unwrap().cron_expression, None);
    assert_eq!(patch(None, r#"{"name":"x"}"#).unwrap_err().pointer, "/name");
    let wrong = patch(None, r#"{"priority":10}"#).unwrap();
    assert_eq!(effective(&declared, &wrong).unwrap_err().pointer, "/priority");
}

#[test]
fn a_payload_is_read_only_for_who_looks_into_it() {
    let mut schedule = schedule_of(r#"{"task_name":"t","cron_expression":"@daily","payload":{"n":{"a": 1.10},"m":2}}"#);
    for edits in [
        None,
        Some(r#"{"priority":2}"#),
        Some(r#"{"payload":{"n":{"b":3}}}"#),
        Some(r#"{"payload":{"x":{}},"session":{"edge":"open"},"calendar":"XNYS"}"#),
    ] {
        schedule.edits = edits.map(str::to_owned);
        let (terms, whole) = (schedule.terms().unwrap(), schedule.effective().unwrap());
        assert!(terms.payload.value.is_null());
        let whole_terms = CronTaskRequest {
            payload: terms.payload.clone(),
            ..schedule.effective().unwrap()
        };
        assert_eq!(format!("{terms:?}"), format!("{whole_terms:?}"));
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&terms.payload.text).unwrap(),
            whole.payload.value
        );
    }
    schedule.edits = Some(r#"{"payload":5}"#.into());
    assert_eq!(schedule.terms().unwrap_err().pointer, "/payload");
}

fn schedule_of(declared: &str) -> Schedule {
    Schedule {
        id: ScheduleId::new(Time::UNIX_EPOCH),
        name: "s".into(),
        task_name: "t".into(),
        declared: declared.into(),
        edits: None,
        created_at: Time::UNIX_EPOCH,
        next_fire: None,
        planned_at: Time::UNIX_EPOCH,
        paused_at: None,
        last_fire: None,
        last_task: None,
        revision: 0,
    }
}

#[test]
fn each_overlap_rule_decides_by_what_has_not_ended() {
    use Decision::{Hold, Make, Replace, Skip};
    for (overlap, expected) in [
        (Overlap::QueueOne, [Make, Hold, Skip, Skip]),
        (Overlap::Skip, [Make, Skip, Skip, Skip]),
        (Overlap::QueueAll, [Make, Hold, Hold, Skip]),
        (Overlap::CancelPrevious, [Replace; 4]),
        (Overlap::Allow, [Make; 4]),
    ] {
        assert_eq!([0, 1, 2, MOST_QUEUED].map(|n| overlap.decide(n)), expected, "{overlap:?}");
        // Counting no further than it asks decides the same.
        for n in [0, 1, 2, MOST_QUEUED] {
            assert_eq!(overlap.decide(n), overlap.decide(n.min(overlap.asks())), "{overlap:?} {n}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Each matching local time by itself: dropped, or put on another day.
    #[test]
    fn moved_fires_are_those_of_a_walk_over_days(
        on_closed in prop_oneof![Just("skip"), Just("next"), Just("previous")],
        hours in prop::collection::btree_set(0u32..24, 1..4),
        days in prop::option::of(prop::collection::btree_set(1u32..32, 1..5)),
        weekdays in prop::option::of(prop::collection::btree_set(0u32..7, 1..4)),
        calendar in prop_oneof![Just("XNYS"), Just("XTKS"), Just("TARGET2")],
        start in 0i64..3_000,
    ) {
        let list = |set: &BTreeSet<u32>| set.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
        let field = |set: &Option<BTreeSet<u32>>| set.as_ref().map_or("*".to_owned(), list);
        let expression = format!("0 {} {} * {}", list(&hours), field(&days), field(&weekdays));
        let gated = rule(&format!(r#""cron_expression":"{expression}","calendar":"{calendar}","on_closed":"{on_closed}""#));
        let bare = cron(&expression);
        let calendar = shipped::get(calendar).unwrap();
        let from = NaiveDate::from_ymd_opt(2016, 1, 1).unwrap() + TimeDelta::days(start);
        let instant = |day: NaiveDate| day.and_hms_opt(0, 0, 0).unwrap().and_utc();
        let (from, until) = (instant(from) - TimeDelta::nanoseconds(1), instant(from + TimeDelta::days(60)));
        let margin = TimeDelta::days(30);
        let mut expected = BTreeSet::new();
        let mut at = from - margin;
        while let Some(fire) = bare.next_after(at).filter(|fire| *fire < until + margin) {
            at = fire;
            let mut day = fire.date_naive();
            while !calendar.is_session(day) && on_closed != "skip" {
                day = if on_closed == "next" { day.succ_opt().unwrap() } else { day.pred_opt().unwrap() };
            }
            if calendar.is_session(day) {
                expected.insert(day.and_time(fire.time()).and_utc());
            }
        }
        expected.retain(|fire| *fire > from && *fire < until);
        let mut found = BTreeSet::new();
        let mut at = from;
        while let Some(fire) = gated.next_after(at).filter(|fire| *fire < until) {
            found.insert(fire);
            at = fire;
        }
        prop_assert_eq!(found, expected, "{} {}", expression, on_closed);
    }

    /// Whatever the clock does, from look to look: a fire is made or skipped once, in order, and the cursor is ahead.
    #[test]
    fn looks_at_any_times_account_for_each_fire_once(
        steps in prop::collection::vec(1i64..200_000, 1..12), misfire in prop_oneof![Just(Misfire::Latest), Just(Misfire::All), Just(Misfire::None)],
        expression in prop_oneof![Just("*/7 * * * *"), Just("0 */5 * * *"), Just("30 9 * * 1-5")],
    ) {
        let rule = cron(expression);
        let mut now = at("2026-01-01T00:00:00Z");
        let mut cursor = rule.next_after(now).unwrap();
        let first = cursor;
        let (mut made, mut told) = (BTreeSet::new(), 0);
        for step in steps {
            now += TimeDelta::seconds(step);
            if cursor > now {
                continue;
            }
            let found = due(&rule, misfire, cursor, now, 100);
            for fire in &found.fires {
                prop_assert!(made.insert(*fire), "{} twice", fire);
                prop_assert!(*fire >= cursor && *fire <= now);
            }
            told += found.skipped.map_or(0, |skip| skip.count);
            cursor = found.next.unwrap();
            prop_assert!(cursor > now);
        }
        let mut all = 0;
        let mut fire = first;
        while fire < cursor {
            all += 1;
            fire = rule.next_after(fire).unwrap();
        }
        prop_assert_eq!(made.len() as u64 + told, all);
    }
}

#[test]
fn a_timing_is_checked_without_its_calendar() {
    let check = |members: &str| {
        let request = parse::<CronTaskRequest>(format!(r#"{{"task_name":"t",{members}}}"#).as_bytes()).unwrap();
        Timing::of(&request).check().map_err(|refusal| refusal.pointer)
    };
    assert_eq!(check(r#""cron_expression":"@daily","calendar":"OURS","on_closed":"next""#), Ok(()));
    assert_eq!(check(r#""session":{"edge":"open"},"calendar":"OURS""#), Ok(()));
    assert_eq!(check(r#""session":{"edge":"open"}"#), Err("/calendar".into()));
    assert_eq!(
        check(r#""cron_expression":"nonsense","calendar":"OURS""#),
        Err("/cron_expression".into())
    );
}

#[test]
fn what_was_made_all_the_same_is_not_counted_among_those_skipped() {
    let at = |minute: i64| "2026-01-01T00:00:00Z".parse::<Time>().unwrap() + chrono::TimeDelta::minutes(minute);
    let skip = |from, until, count| Skip {
        reason: SkipReason::Misfire,
        at: at(from),
        until: at(until),
        count,
    };
    let by_hand = at(2) + chrono::TimeDelta::microseconds(17);
    assert_eq!(skip(1, 4, 4).without(&[]), Some(skip(1, 4, 4)));
    assert_eq!(skip(1, 4, 4).without(&[at(0), at(2), by_hand, at(4), at(5)]), Some(skip(1, 4, 2)));
    assert_eq!(skip(1, 1, 1).without(&[at(1)]), None);
    assert_eq!(
        skip(1, 9_999, COUNTED).without(&[at(1)]),
        Some(skip(1, 9_999, COUNTED)),
        "that many or more"
    );
}

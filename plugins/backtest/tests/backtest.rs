//! The task as its users see it: hand-computed cases, refusals with their pointers, a naive reference on random bars, and
//! the S&P 500.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on stops")]

use backtest::backtest;
use proptest::prelude::*;
use taskhost_sdk::{
    FailureKind, Task, TaskError,
    prelude::{Context, json},
    serde_json::{self, Value},
};

mod reference;

fn run(input: &Value) -> Result<Value, TaskError> {
    Context::mock().run::<backtest>(input)
}

fn bars(closes: &[f64]) -> Value {
    let day = chrono::NaiveDate::from_ymd_opt(2024, 1, 1).unwrap();
    let bar = |(t, close): (u64, &f64)| json!({ "date": (day + chrono::Days::new(t)).to_string(), "close": close, "volume": 7 });
    (0..).zip(closes).map(bar).collect()
}

fn close_to(value: &Value, expected: f64) {
    let value = value.as_f64().unwrap();
    assert!(
        (value - expected).abs() < 1e-9 * expected.abs().max(1.0),
        "{value} is not {expected}"
    );
}

fn refused(input: &Value) -> Vec<(String, String)> {
    let error = run(input).unwrap_err();
    assert_eq!(error.kind(), FailureKind::InvalidInput, "{error}");
    error
        .invalid_input()
        .into_iter()
        .map(|member| (member.pointer, member.detail))
        .collect()
}

#[test]
fn buy_and_hold_earns_what_the_price_earns() {
    let report = run(&json!({ "strategy": "buy_and_hold", "bars": bars(&[100.0, 110.0, 99.0, 108.9]) })).unwrap();
    assert_eq!(report["bars"], 4);
    for (value, expected) in report["equity_curve"]
        .as_array()
        .unwrap()
        .iter()
        .zip([100_000.0, 110_000.0, 99_000.0, 108_900.0])
    {
        close_to(value, expected);
    }
    close_to(&report["total_return"], 0.089);
    close_to(&report["max_drawdown"], 0.1);
    assert_eq!(report["win_rate"], 1.0);
    let trade = &report["trades"][0];
    assert_eq!(
        (&trade["entry_date"], &trade["exit_date"]),
        (&json!("2024-01-01"), &json!("2024-01-04"))
    );
    assert_eq!((&trade["entry_price"], &trade["exit_price"]), (&json!(100.0), &json!(108.9)));
    close_to(&trade["return"], 0.089);
}

#[test]
fn a_cross_enters_and_leaves_and_pays_at_each_change() {
    // Long after closes 2 and 3 (see the strategy's own test), so it enters at 3.0, earns 3 to 4 and 4 to 1, leaves at 1.0.
    let input = json!({
        "strategy": "sma_cross", "params": { "fast": 2, "slow": 3 }, "bars": bars(&[1.0, 2.0, 3.0, 4.0, 1.0, 1.0]),
        "initial_cash": 1000, "fee_bps": 100,
    });
    let report = run(&input).unwrap();
    let expected = [1000.0, 1000.0, 1000.0, 990.0 * 4.0 / 3.0, 330.0, 330.0 * 0.99];
    for (value, expected) in report["equity_curve"].as_array().unwrap().iter().zip(expected) {
        close_to(value, expected);
    }
    assert_eq!(report["trades"].as_array().unwrap().len(), 1);
    close_to(&report["trades"][0]["return"], 0.99 * (1.0 / 3.0) * 0.99 - 1.0);
    assert_eq!(report["win_rate"], 0.0);
}

#[test]
fn the_last_close_never_trades() {
    // The breakout on the last close would enter.
    let input = json!({ "strategy": "momentum", "params": { "lookback": 1 }, "bars": bars(&[3.0, 2.0, 9.0]), "fee_bps": 50 });
    let report = run(&input).unwrap();
    assert_eq!(report["trades"], json!([]));
    assert_eq!(report["equity_curve"], json!([100_000.0, 100_000.0, 100_000.0]));
    assert_eq!(
        (&report["sharpe"], &report["annual_return"], &report["win_rate"]),
        (&json!(0.0), &json!(0.0), &json!(0.0))
    );
}

#[test]
fn from_and_to_bound_the_days_that_take_part() {
    let mut input = json!({ "strategy": "buy_and_hold", "bars": bars(&[1.0, 2.0, 4.0, 5.0]), "from": "2024-01-02", "to": "2024-01-03" });
    let report = run(&input).unwrap();
    assert_eq!(report["bars"], 2);
    close_to(&report["total_return"], 1.0);
    input["to"] = json!("2024-01-02");
    assert_eq!(
        refused(&input),
        [("/bars".into(), "needs at least 2 bars, has 1 from `from` to `to`".into())]
    );
    input["to"] = json!("2024-01-01");
    assert_eq!(refused(&input)[0].0, "/from");
}

#[test]
fn an_annual_return_beyond_all_numbers_is_null() {
    let report = run(&json!({ "strategy": "buy_and_hold", "bars": bars(&[1.0, 1000.0]) })).unwrap();
    assert_eq!(report["annual_return"], Value::Null);
    let error = run(&json!({ "strategy": "buy_and_hold", "bars": bars(&[1e-300, 1e300]) })).unwrap_err();
    assert!(error.message().contains("beyond all numbers"), "{error}");
}

#[test]
fn every_bad_value_is_refused_with_its_pointer() {
    let good = json!({ "strategy": "sma_cross", "params": { "fast": 2, "slow": 3 }, "bars": bars(&[1.0, 2.0, 3.0]) });
    run(&good).unwrap();
    let cases = [
        ("/params/fast", json!(0), "/params/fast"),
        ("/params/fast", json!(3), "/params/fast"),
        ("/params/fast", json!(2.5), "/params/fast"),
        ("/params/slow", json!(10_001), "/params/slow"),
        ("/params/slow", json!(-1), "/params/slow"),
        ("/params/slow", Value::Null, "/params"),
        ("/params/lookback", json!(5), "/params/lookback"),
        ("/params/fats", json!(5), "/params/fats"),
        ("/strategy", json!("martingale"), "/strategy"),
        ("/initial_cash", json!(0), "/initial_cash"),
        ("/initial_cash", json!(1e16), "/initial_cash"),
        ("/fee_bps", json!(-1), "/fee_bps"),
        ("/fee_bps", json!(10_001), "/fee_bps"),
        ("/bars/1/close", json!(0), "/bars/1/close"),
        ("/bars/1/close", json!(-3.5), "/bars/1/close"),
        ("/bars/1/close", json!("2"), "/bars/1/close"),
        ("/bars/1/close", Value::Null, "/bars/1/close"),
        ("/bars/2/date", json!("2024-01-02"), "/bars/2/date"),
        ("/bars/2/date", json!("2023-12-31"), "/bars/2/date"),
        ("/bars/2/date", json!("2024-02-30"), "/bars/2/date"),
        ("/bars/2/date", json!("2024-1-3"), "/bars/2/date"),
        ("/bars", json!([]), "/bars"),
        ("/bars", Value::Null, ""),
        ("/data", json!("x.csv"), "/data"),
        ("/from", json!("yesterday"), "/from"),
        ("/leverage", json!(2), "/leverage"),
    ];
    for (member, value, pointer) in cases {
        let mut input = good.clone();
        let (parent, name) = member.rsplit_once('/').unwrap();
        let parent = input.pointer_mut(parent).unwrap();
        match parent {
            Value::Array(list) => list[name.parse::<usize>().unwrap()] = value.clone(),
            _ => parent[name] = value.clone(),
        }
        let errors = refused(&input);
        assert_eq!(errors[0].0, pointer, "{member} = {value}: {errors:?}");
    }
}

#[test]
fn all_mistakes_are_reported_at_once_and_too_many_are_capped() {
    let mut input = json!({ "strategy": "rsi_reversion", "params": { "lower": 80, "upper": 20, "fast": 1 }, "bars": bars(&[1.0, 2.0, 3.0]), "fee_bps": -1 });
    input["bars"][1]["close"] = json!(-1);
    let pointers: Vec<String> = refused(&input).into_iter().map(|(pointer, _)| pointer).collect();
    assert_eq!(pointers, ["/fee_bps", "/params/lower", "/params/fast", "/bars/1/close"]);
    let all_bad = json!({ "strategy": "buy_and_hold", "bars": bars(&[-1.0; 500]) });
    assert_eq!(refused(&all_bad).len(), 100);
}

#[test]
fn long_runs_say_how_far_they_are_and_stop_when_cancelled() {
    let input = json!({ "strategy": "buy_and_hold", "bars": bars(&[1.0; 5000]) });
    let ctx = Context::mock();
    ctx.run::<backtest>(&input).unwrap();
    assert!(ctx.progressed().len() >= 4);
    let error = Context::mock().cancelled_after(1).run::<backtest>(&input).unwrap_err();
    assert_eq!(error.kind(), FailureKind::Cancelled);
}

/// The shipped sample; in the sandbox the folder is granted as `/samples`.
fn sp500() -> Value {
    json!(std::fs::canonicalize(concat!(env!("CARGO_MANIFEST_DIR"), "/../../samples/sp500-daily-2000-2020.csv")).unwrap())
}

#[test]
fn holding_the_index_for_twenty_years_earned_what_its_closes_say() {
    let report = run(&json!({ "strategy": "buy_and_hold", "data": sp500() })).unwrap();
    assert_eq!(report["bars"], 5105);
    close_to(&report["total_return"], 2874.560059 / 1455.219971 - 1.0);
    // From the peak of 2007-10-09 to the trough of 2009-03-09.
    close_to(&report["max_drawdown"], 1.0 - 676.530029 / 1565.150024);
}

#[test]
fn the_shipped_sample_payload_runs() {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../samples/backtest-sp500.json")).unwrap();
    let mut input: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(input["data"], "sp500-daily-2000-2020.csv");
    input["data"] = sp500();
    let report = run(&input).unwrap();
    let trades = report["trades"].as_array().unwrap();
    // Both figures from ten lines of Python over the same file.
    assert_eq!(trades.len(), 10);
    close_to(&report["total_return"], 1.721_236_250_675_712_8);
    let compounded: f64 = trades.iter().map(|trade| 1.0 + trade["return"].as_f64().unwrap()).product();
    close_to(&report["total_return"], compounded - 1.0);
}

fn strategies() -> impl Strategy<Value = (&'static str, Value)> {
    let period = || 1..12_usize;
    prop_oneof![
        Just(("buy_and_hold", json!({}))),
        (period(), period()).prop_map(|(fast, more)| ("sma_cross", json!({ "fast": fast, "slow": fast + more }))),
        period().prop_map(|lookback| ("momentum", json!({ "lookback": lookback }))),
        (period(), 0.0..50.0, 50.0..100.0)
            .prop_map(|(period, lower, upper)| ("rsi_reversion", json!({ "period": period, "lower": lower, "upper": upper }))),
        (period(), period()).prop_map(|(entry, exit)| ("donchian_breakout", json!({ "entry": entry, "exit": exit }))),
    ]
}

/// Of a few whole prices, so that ties occur, or of any.
fn prices() -> impl Strategy<Value = Vec<f64>> {
    prop_oneof![
        proptest::collection::vec((1..6_u8).prop_map(f64::from), 2..60),
        proptest::collection::vec(0.01..1e6_f64, 2..60),
    ]
}

proptest! {
    #[test]
    fn random_bars_give_the_curve_of_a_naive_reference(closes in prices(), (strategy, params) in strategies(), fee_bps in 0.0..500.0) {
        let input = json!({ "strategy": strategy, "params": params, "bars": bars(&closes), "fee_bps": fee_bps, "initial_cash": 1000 });
        let report = run(&input).unwrap();
        let positions = reference::positions(strategy, &params, &closes);
        let expected = reference::curve(&positions, &closes, 1000.0, fee_bps / 10_000.0);
        let curve = report["equity_curve"].as_array().unwrap();
        prop_assert_eq!(curve.len(), closes.len());
        for (value, expected) in curve.iter().zip(&expected) {
            close_to(value, *expected);
        }
        let compounded: f64 = report["trades"].as_array().unwrap().iter().map(|trade| 1.0 + trade["return"].as_f64().unwrap()).product();
        close_to(&report["total_return"], compounded - 1.0);
        let drawdown = report["max_drawdown"].as_f64().unwrap();
        prop_assert!((0.0..=1.0).contains(&drawdown));
    }
}

#[test]
fn the_report_is_described_by_its_schema() {
    let definition = backtest::definition().into_json();
    assert_eq!(definition["input_schema"]["properties"]["initial_cash"]["default"], 100_000.0);
    let described = definition["output_schema"]["properties"].as_object().unwrap();
    assert!(described.contains_key("equity_curve") && described.contains_key("sharpe"));
}

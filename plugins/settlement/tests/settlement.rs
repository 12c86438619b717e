//! The task as its users see it: the shipped sample by hand, refusals with their pointers, and properties of random trades.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on stops")]

use proptest::prelude::*;
use settlement::settlement;
use std::collections::BTreeMap;
use taskhost_sdk::{
    FailureKind, TaskError,
    prelude::{Context, json},
    serde_json::{self, Value},
};

fn run(input: &Value) -> Result<Value, TaskError> {
    Context::mock().run::<settlement>(input)
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

fn sample() -> Value {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../samples/settlement.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// One trade that is right, and its cycle.
fn good() -> Value {
    json!({
        "trades": [{
            "trade_id": "T1", "account": "A", "counterparty": "B", "instrument": "X", "side": "buy",
            "quantity": "10", "price": "2.5", "currency": "USD", "trade_date": "2024-12-16",
        }],
        "settlement_cycle": { "days": 2 },
    })
}

/// `date account asset amount` of each.
fn lines(obligations: &Value) -> Vec<String> {
    let text = |obligation: &Value, member: &str| obligation[member].as_str().unwrap().to_owned();
    let line = |one: &Value| {
        ["settlement_date", "account", "asset", "amount"]
            .map(|member| text(one, member))
            .join(" ")
    };
    obligations.as_array().unwrap().iter().map(line).collect()
}

#[test]
fn the_shipped_sample_nets_and_breaks_as_computed_by_hand() {
    let answer = run(&sample()).unwrap();
    assert_eq!(
        lines(&answer["obligations"]),
        [
            "2024-12-27 ALPHA-FUND GBP -410.16",
            "2024-12-27 ALPHA-FUND VOD.L 600",
            "2024-12-27 BETA-FUND EUR -59112.5",
            "2024-12-27 BETA-FUND SAP.DE 250",
            "2024-12-27 BROKER-A GBP 410.16",
            "2024-12-27 BROKER-A VOD.L -600",
            "2024-12-27 BROKER-B EUR 59112.5",
            "2024-12-27 BROKER-B SAP.DE -250",
            "2024-12-30 ALPHA-FUND GBP -411",
            "2024-12-30 ALPHA-FUND VOD.L 600",
            "2024-12-30 BETA-FUND GBP 822",
            "2024-12-30 BETA-FUND VOD.L -1200",
            "2024-12-30 BROKER-A GBP -411",
            "2024-12-30 BROKER-A VOD.L 600",
        ]
    );
    assert_eq!(answer["obligations"][0]["asset_type"], "cash");
    assert_eq!(answer["obligations"][0]["trades"], 2);
    assert_eq!(
        answer["breaks"],
        json!([
            { "kind": "amount_mismatch", "account": "ALPHA-FUND", "asset": "GBP", "settlement_date": "2024-12-27",
              "expected": "-410.16", "reported": "-410.61", "difference": "-0.45" },
            { "kind": "missing_in_statements", "account": "BETA-FUND", "asset": "SAP.DE", "settlement_date": "2024-12-27",
              "expected": "250", "reported": null, "difference": "-250" },
        ])
    );
    assert_eq!(
        answer["summary"],
        json!({ "trades": 5, "gross_obligations": 20, "net_obligations": 14, "statement_lines": 3, "matched": 2, "breaks": 2 })
    );
}

#[test]
fn what_nets_to_zero_does_not_move() {
    let mut input = good();
    let mut back = input["trades"][0].clone();
    back["trade_id"] = json!("T2");
    back["side"] = json!("sell");
    input["trades"].as_array_mut().unwrap().push(back);
    let answer = run(&input).unwrap();
    assert_eq!(answer["obligations"], json!([]));
    assert_eq!(answer["summary"]["gross_obligations"], 8);
}

#[test]
fn without_statements_nothing_breaks_and_with_empty_ones_everything_is_missing() {
    let mut input = good();
    assert_eq!(run(&input).unwrap()["breaks"], json!([]));
    input["statements"] = json!([]);
    let breaks = run(&input).unwrap()["breaks"].clone();
    // Of the account only: the counterparty's books are not ours.
    assert_eq!(breaks.as_array().unwrap().len(), 2);
    assert!(
        breaks
            .as_array()
            .unwrap()
            .iter()
            .all(|one| one["account"] == "A" && one["kind"] == "missing_in_statements")
    );
}

#[test]
fn lines_of_one_movement_add_up_and_unknown_ones_break() {
    let mut input = good();
    let line = |account: &str, asset: &str, amount: &str| json!({ "account": account, "asset": asset, "settlement_date": "2024-12-18", "amount": amount });
    input["statements"] = json!([
        line("A", "X", "4"),
        line("A", "X", "6.000"),
        line("A", "USD", "-25"),
        line("A", "Y", "1"),
        line("A", "Z", "0"),
    ]);
    let answer = run(&input).unwrap();
    assert_eq!(
        answer["breaks"],
        json!([{ "kind": "missing_in_trades", "account": "A", "asset": "Y", "settlement_date": "2024-12-18",
                 "expected": null, "reported": "1", "difference": "1" }])
    );
    assert_eq!(answer["summary"]["matched"], 2);
}

#[test]
fn whole_numbers_may_be_written_plainly_but_fractions_may_not() {
    let mut input = good();
    input["trades"][0]["quantity"] = json!(10);
    assert_eq!(run(&input).unwrap(), run(&good()).unwrap());
    input["trades"][0]["price"] = json!(2.5);
    let detail = "write it as a text, \"2.5\": a JSON number with a point is not exact";
    assert_eq!(refused(&input), [("/trades/0/price".into(), detail.into())]);
}

#[test]
fn every_bad_value_is_refused_with_its_pointer() {
    let cases = [
        ("trade_id", json!(""), "/trades/0/trade_id"),
        ("account", json!(""), "/trades/0/account"),
        ("account", json!(" A"), "/trades/0/account"),
        ("counterparty", json!("A"), "/trades/0/counterparty"),
        ("instrument", json!("X\u{7}"), "/trades/0/instrument"),
        ("instrument", json!("USD"), "/trades/0/instrument"),
        ("currency", json!("x".repeat(129)), "/trades/0/currency"),
        ("side", json!("BUY"), "/trades/0/side"),
        ("quantity", json!("0"), "/trades/0/quantity"),
        ("quantity", json!("-1"), "/trades/0/quantity"),
        ("quantity", json!("1e3"), "/trades/0/quantity"),
        ("quantity", json!(null), "/trades/0/quantity"),
        ("price", json!("0.00"), "/trades/0/price"),
        ("price", json!("99999999999999"), "/trades/0/price"),
        ("price", json!("0.1234567890123456789"), "/trades/0/price"),
        ("trade_date", json!("2024-13-01"), "/trades/0/trade_date"),
        ("trade_date", json!("16/12/2024"), "/trades/0/trade_date"),
        ("fee", json!("1"), "/trades/0/fee"),
    ];
    for (member, value, pointer) in cases {
        let mut input = good();
        input["trades"][0][member] = value.clone();
        let errors = refused(&input);
        assert_eq!(errors[0].0, pointer, "{member} = {value}: {errors:?}");
        assert_eq!(errors.len(), 1, "{member} = {value}: {errors:?}");
    }
}

#[test]
fn all_mistakes_are_reported_at_once_in_the_order_of_the_input() {
    let mut input = good();
    let mut bad = input["trades"][0].clone();
    bad["side"] = json!("hold");
    bad["quantity"] = json!(-1.5);
    bad["price"] = json!("x");
    input["trades"].as_array_mut().unwrap().push(bad);
    input["settlement_cycle"] = json!({ "days": 31, "holidays": ["2024-12-25", "xmas"] });
    input["statements"] = json!([{ "account": "A", "asset": "", "settlement_date": "soon", "amount": [] }]);
    input["reconcile_through"] = json!("");
    let pointers: Vec<String> = refused(&input).into_iter().map(|(pointer, _)| pointer).collect();
    assert_eq!(
        pointers,
        [
            "/settlement_cycle/days",
            "/settlement_cycle/holidays/1",
            "/reconcile_through",
            "/trades/1/trade_id",
            "/trades/1/side",
            "/trades/1/quantity",
            "/trades/1/price",
            "/statements/0/asset",
            "/statements/0/settlement_date",
            "/statements/0/amount",
        ]
    );
}

#[test]
fn a_cancelled_attempt_stops() {
    let error = Context::mock().cancelled().run::<settlement>(&good()).unwrap_err();
    assert_eq!(error.kind(), FailureKind::Cancelled);
}

fn trade() -> impl Strategy<Value = Value> {
    let fields = (
        0..4_u8,
        1..4_u8,
        0..3_u8,
        any::<bool>(),
        1..100_000_u32,
        1..1_000_000_u32,
        any::<bool>(),
        1..28_u8,
    );
    fields.prop_map(|(account, other, instrument, buys, quantity, price, dollars, day)| {
        json!({
            "account": format!("P{account}"),
            "counterparty": format!("P{}", (account + other) % 4),
            "instrument": format!("I{instrument}"),
            "side": if buys { "buy" } else { "sell" },
            "quantity": format!("{}.{:03}", quantity / 1000, quantity % 1000),
            "price": format!("{}.{:04}", price / 10_000, price % 10_000),
            "currency": if dollars { "USD" } else { "JPY" },
            "trade_date": format!("2024-02-{day:02}"),
        })
    })
}

fn trades() -> impl Strategy<Value = Vec<Value>> {
    proptest::collection::vec(trade(), 0..40).prop_map(|mut trades| {
        for (index, trade) in trades.iter_mut().enumerate() {
            trade["trade_id"] = json!(format!("T{index}"));
        }
        trades
    })
}

/// In ten-millionths, which are exact for the quantities and prices above.
fn units(amount: &str) -> i128 {
    let (whole, fraction) = amount
        .trim_start_matches('-')
        .split_once('.')
        .unwrap_or((amount.trim_start_matches('-'), ""));
    let units: i128 = format!("{whole}{fraction:0<7}").parse().unwrap();
    if amount.starts_with('-') { -units } else { units }
}

fn input(trades: &[Value]) -> Value {
    json!({ "trades": trades, "settlement_cycle": { "days": 2, "holidays": ["2024-02-19"] } })
}

proptest! {
    #[test]
    fn obligations_sum_to_zero_over_all_parties(trades in trades()) {
        let answer = run(&input(&trades)).unwrap();
        let mut sums: BTreeMap<(String, String), i128> = BTreeMap::new();
        for obligation in answer["obligations"].as_array().unwrap() {
            let key = (obligation["asset"].to_string(), obligation["settlement_date"].to_string());
            *sums.entry(key).or_default() += units(obligation["amount"].as_str().unwrap());
        }
        prop_assert!(sums.values().all(|sum| *sum == 0), "{sums:?}");
    }

    #[test]
    fn the_order_of_trades_does_not_matter((sorted, shuffled) in trades().prop_flat_map(|trades| (Just(trades.clone()), Just(trades).prop_shuffle()))) {
        prop_assert_eq!(run(&input(&sorted)).unwrap(), run(&input(&shuffled)).unwrap());
    }

    #[test]
    fn what_was_netted_is_what_was_traded(trades in trades()) {
        let mut expected: BTreeMap<(String, String), i128> = BTreeMap::new();
        for trade in &trades {
            let text = |member: &str| trade[member].as_str().unwrap().to_owned();
            let sign = if trade["side"] == "buy" { 1 } else { -1 };
            let (quantity, price) = (units(&text("quantity")), units(&text("price")));
            let paid = quantity * price / 10_000_000;
            for (party, sign) in [("account", sign), ("counterparty", -sign)] {
                *expected.entry((text(party), text("instrument"))).or_default() += sign * quantity;
                *expected.entry((text(party), text("currency"))).or_default() -= sign * paid;
            }
        }
        expected.retain(|_, units| *units != 0);
        let mut netted: BTreeMap<(String, String), i128> = BTreeMap::new();
        for obligation in run(&input(&trades)).unwrap()["obligations"].as_array().unwrap() {
            let text = |member: &str| obligation[member].as_str().unwrap().to_owned();
            *netted.entry((text("account"), text("asset"))).or_default() += units(&text("amount"));
        }
        netted.retain(|_, units| *units != 0);
        prop_assert_eq!(netted, expected);
    }

    #[test]
    fn a_statement_made_of_the_obligations_matches(trades in trades()) {
        let mut input = input(&trades);
        let obligations = run(&input).unwrap()["obligations"].clone();
        let line = |one: &Value| json!({ "account": one["account"], "asset": one["asset"], "settlement_date": one["settlement_date"], "amount": one["amount"] });
        input["statements"] = obligations.as_array().unwrap().iter().map(line).collect();
        let answer = run(&input).unwrap();
        prop_assert_eq!(&answer["breaks"], &json!([]));
        prop_assert_eq!(&answer["summary"]["matched"], &answer["summary"]["net_obligations"]);
    }
}

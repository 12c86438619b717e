//! The roll-out as its users see it: what is refused, what is submitted, and how each stage judges.

use ::strategy_deploy::{compare, conclude, strategy_deploy, validate};
use taskhost_sdk::{
    FailureKind,
    prelude::{Context, json},
    serde_json::Value,
};

fn bars(count: u32) -> Value {
    (0..count)
        .map(|n| json!({"date": format!("2026-{:02}-{:02}", n / 28 + 1, n % 28 + 1), "close": 100 + n, "volume": 7}))
        .collect()
}

fn request() -> Value {
    json!({"strategy": "sma_cross", "candidate": {"fast": 5, "slow": 20}, "baseline": {"fast": 10, "slow": 50}, "bars": bars(100)})
}

fn with(members: Value) -> Value {
    let mut request = request();
    for (name, value) in members.as_object().expect("an object") {
        request[name] = value.clone();
    }
    request
}

#[test]
fn the_stages_are_one_workflow() {
    let ctx = Context::mock();
    let begun = ctx
        .run::<strategy_deploy>(&with(json!({"canary_fraction": 0.25, "fee_bps": 5})))
        .expect("begun");
    let workflow = &ctx.submitted_workflows()[0];
    let steps = workflow["steps"].as_array().expect("steps");
    let keys: Vec<&str> = steps.iter().filter_map(|step| step["key"].as_str()).collect();
    assert_eq!(keys, ["validation", "validate", "canary", "baseline", "compare", "conclude"]);
    assert_eq!(json!(keys), begun["steps"]);
    assert_eq!(workflow["name"], "deploy-sma_cross");
    let lengths: Vec<Option<usize>> = steps.iter().map(|step| step["payload"]["bars"].as_array().map(Vec::len)).collect();
    assert_eq!(lengths, [Some(75), None, Some(25), Some(25), None, None]);
    assert_eq!(steps[2]["payload"]["bars"][0]["date"], steps[3]["payload"]["bars"][0]["date"]);
    assert_eq!(
        (&steps[2]["payload"]["params"], &steps[3]["payload"]["params"]),
        (&request()["candidate"], &request()["baseline"])
    );
    assert_eq!(steps[0]["payload"]["fee_bps"], 5.0);
    assert_eq!(
        (&steps[4]["needs"], &steps[5]["when"]),
        (&json!(["canary", "baseline"]), &json!("all_done"))
    );
}

#[test]
fn a_file_is_cut_by_a_day() {
    let ctx = Context::mock();
    let mut request = with(json!({"data": "sp500.csv", "canary_from": "2018-03-01"}));
    request.as_object_mut().expect("an object").remove("bars");
    ctx.run::<strategy_deploy>(&request).expect("begun");
    let steps = ctx.submitted_workflows()[0]["steps"].clone();
    assert_eq!(
        (&steps[0]["payload"]["to"], &steps[2]["payload"]["from"]),
        (&json!("2018-02-28"), &json!("2018-03-01"))
    );
    request.as_object_mut().expect("an object").remove("canary_from");
    let error = ctx.run::<strategy_deploy>(&request).expect_err("no day");
    assert_eq!(error.invalid_input()[0].pointer, "/canary_from");
}

#[test]
fn wrong_input_is_pointed_at() {
    for (members, pointer) in [
        (json!({"strategy": "SMA Cross"}), "/strategy"),
        (json!({"candidate": {"fast": 10, "slow": 50}}), "/candidate"),
        (json!({"canary_fraction": 1.0}), "/canary_fraction"),
        (json!({"canary_fraction": 0.5, "canary_from": "2026-02-01"}), "/canary_fraction"),
        (json!({"canary_from": "soon"}), "/canary_from"),
        (json!({"canary_from": "+024-02-03"}), "/canary_from"),
        (json!({"canary_from": "2027-01-01"}), "/bars"),
        (json!({"data": "x.csv"}), "/data"),
        (json!({"bars": bars(3)}), "/bars"),
        (
            json!({"bars": [{"date": "2026-01-02", "close": 1}, {"date": "2026-01-01", "close": 1}]}),
            "/bars/1/date",
        ),
        (json!({"thresholds": {"max_drawdown": 2.0}}), "/thresholds/max_drawdown"),
        (json!({"thresholds": {"nope": 2.0}}), "/thresholds/nope"),
        (json!({"fee_bps": -1}), "/fee_bps"),
    ] {
        let ctx = Context::mock();
        let error = ctx.run::<strategy_deploy>(&with(members.clone())).expect_err("refused");
        assert_eq!(error.kind(), FailureKind::InvalidInput, "{members}: {error}");
        assert_eq!(error.invalid_input()[0].pointer, pointer, "{members}: {error}");
        assert!(ctx.submitted_workflows().is_empty());
    }
}

fn report(total_return: f64, sharpe: f64, max_drawdown: f64) -> Value {
    json!({"bars": 60, "trades": [{}, {}], "total_return": total_return, "annual_return": null, "sharpe": sharpe, "max_drawdown": max_drawdown,
        "equity_curve": [1.0]})
}

#[test]
fn a_candidate_that_is_not_sane_fails_its_validation() {
    let judge = |report: Value, thresholds: Value| {
        let ctx = Context::mock().with_need("validation", &report);
        ctx.run::<validate>(&json!({ "thresholds": thresholds }))
    };
    let figures = judge(report(0.1, 1.0, 0.2), json!({})).expect("sane");
    assert_eq!((&figures["trades"], &figures["bars"]), (&json!(2), &json!(60)));
    for (report, thresholds, word) in [
        (report(0.1, 1.0, 0.6), json!({}), "60.00 %"),
        (report(0.1, 1.0, 0.2), json!({"min_bars": 61}), "61 are needed"),
        (report(0.1, 1.0, 0.2), json!({"min_trades": 3}), "3 are needed"),
    ] {
        let error = judge(report, thresholds).expect_err("not sane");
        assert_eq!(error.kind(), FailureKind::Fatal);
        assert!(error.message().contains(word), "{error}");
    }
}

#[test]
fn the_better_one_is_promoted_and_every_shortfall_is_named() {
    let judge = |candidate: Value, baseline: Value, thresholds: Value| {
        let ctx = Context::mock().with_need("canary", &candidate).with_need("baseline", &baseline);
        ctx.run::<compare>(&json!({ "thresholds": thresholds })).expect("compared")
    };
    let base = || report(0.10, 1.0, 0.10);
    for (candidate, thresholds, promote, count) in [
        (report(0.12, 1.1, 0.10), json!({}), true, 1),
        (report(0.12, 1.1, 0.16), json!({}), false, 1),
        (report(0.09, 0.9, 0.10), json!({}), false, 2),
        (
            report(0.09, 0.9, 0.10),
            json!({"min_return_gain": -0.02, "min_sharpe_gain": -0.2}),
            true,
            1,
        ),
        (report(0.12, 1.1, 0.10), json!({"min_return_gain": 0.05}), false, 1),
        (report(0.12, 1.1, 0.55), json!({}), false, 2),
    ] {
        let compared = judge(candidate.clone(), base(), thresholds);
        assert_eq!(compared["promote"], promote, "{candidate}: {compared}");
        assert_eq!(compared["reasons"].as_array().map(Vec::len), Some(count), "{compared}");
    }
}

#[test]
fn a_candidate_that_did_nothing_is_never_promoted() {
    let judge = |candidate: &Value, baseline: &Value, thresholds: Value| {
        let ctx = Context::mock().with_need("canary", candidate).with_need("baseline", baseline);
        ctx.run::<compare>(&json!({ "thresholds": thresholds })).expect("compared")["promote"].clone()
    };
    let mut flat = report(0.0, 0.0, 0.0);
    flat["trades"] = json!([]);
    assert_eq!(judge(&flat, &report(-0.01, -0.3, 0.02), json!({})), false, "the baseline lost");
    assert_eq!(judge(&flat, &flat, json!({})), false, "both were flat");
    let same = report(0.10, 1.0, 0.10);
    assert_eq!(judge(&same, &same, json!({})), false, "no gain");
    let any = json!({"min_trades": 0, "min_return_gain": -0.01, "min_sharpe_gain": -0.1});
    assert_eq!(judge(&same, &same, any), true, "a loss would be borne");
}

#[test]
fn the_conclusion_is_told_to_the_world() {
    let input = json!({"strategy": "sma_cross", "candidate": {"fast": 5}, "baseline": {"fast": 10}});
    let figures = json!({"bars": 60, "trades": 2, "total_return": 0.1, "sharpe": 1.0, "max_drawdown": 0.1});
    let compared = |promote: bool| json!({"promote": promote, "reasons": ["because"], "candidate": figures, "baseline": figures});
    for (comparison, decision, fast, event) in [
        (Some(compared(true)), "promoted", 5, "strategy.promoted"),
        (Some(compared(false)), "rolled_back", 10, "strategy.rolled_back"),
        (None, "rolled_back", 10, "strategy.rolled_back"),
    ] {
        let mut ctx = Context::mock();
        if let Some(comparison) = &comparison {
            ctx = ctx.with_need("compare", comparison);
        }
        let concluded = ctx.run::<conclude>(&input).expect("concluded");
        assert_eq!(
            (&concluded["decision"], &concluded["params"]["fast"]),
            (&json!(decision), &json!(fast))
        );
        assert!(concluded["event_id"].is_string());
        let emitted = ctx.emitted();
        assert_eq!((emitted.len(), emitted[0].event_type.as_str()), (1, event));
    }
    let odd = Context::mock().with_need("compare", &json!({"promote": "perhaps"}));
    let error = odd.run::<conclude>(&input).expect_err("what cannot be read is no verdict");
    assert!(error.message().contains("does not fit"), "{error}");
    assert!(odd.emitted().is_empty());
    let concluded = Context::mock().denied().run::<conclude>(&input).expect("it has still decided");
    assert_eq!(concluded["event_id"], Value::Null);
}

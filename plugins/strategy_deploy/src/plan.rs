//! The workflow of a roll-out.

use crate::input::{Bar, Prices, Rollout};
use std::collections::BTreeMap;
use taskhost_sdk::prelude::*;
use taskhost_sdk::serde_json::{Map, Value};
use taskhost_sdk::{Step, When, Workflow};

/// Which span of the prices.
#[derive(Clone, Copy)]
enum Span {
    Validation,
    Canary,
}

/// The workflow, and the keys of its steps.
pub(crate) fn workflow(rollout: &Rollout) -> (Workflow, Vec<String>) {
    let judged = json!({ "thresholds": rollout.thresholds });
    let concluded = json!({ "strategy": rollout.strategy, "candidate": rollout.candidate, "baseline": rollout.baseline });
    let steps = [
        ("validation", backtest("validation", rollout, &rollout.candidate, Span::Validation)),
        (
            "validate",
            Step::new("validate", "strategy_deploy.validate")
                .payload(&judged)
                .needs(&["validation"]),
        ),
        (
            "canary",
            backtest("canary", rollout, &rollout.candidate, Span::Canary).needs(&["validate"]),
        ),
        (
            "baseline",
            backtest("baseline", rollout, &rollout.baseline, Span::Canary).needs(&["validate"]),
        ),
        (
            "compare",
            Step::new("compare", "strategy_deploy.compare")
                .payload(&judged)
                .needs(&["canary", "baseline"]),
        ),
        (
            "conclude",
            Step::new("conclude", "strategy_deploy.conclude")
                .payload(&concluded)
                .needs(&["compare"])
                .when(When::AllDone),
        ),
    ];
    let keys = steps.iter().map(|(key, _)| (*key).to_owned()).collect();
    let name = format!("deploy-{}", rollout.strategy);
    let workflow = steps
        .into_iter()
        .fold(Workflow::new().name(&name), |workflow, (_, step)| workflow.step(step));
    (workflow, keys)
}

fn backtest(key: &str, rollout: &Rollout, params: &BTreeMap<String, Value>, span: Span) -> Step {
    let mut payload = Map::new();
    payload.insert("strategy".into(), json!(rollout.strategy));
    payload.insert("params".into(), json!(params));
    payload.insert("fee_bps".into(), json!(rollout.fee_bps));
    match (&rollout.prices, span) {
        (Prices::Bars { validation, .. }, Span::Validation) => put_bars(&mut payload, validation),
        (Prices::Bars { canary, .. }, Span::Canary) => put_bars(&mut payload, canary),
        (
            Prices::Data {
                file, last_of_validation, ..
            },
            Span::Validation,
        ) => {
            payload.insert("data".into(), json!(file));
            payload.insert("to".into(), json!(last_of_validation));
        }
        (Prices::Data { file, canary_from, .. }, Span::Canary) => {
            payload.insert("data".into(), json!(file));
            payload.insert("from".into(), json!(canary_from));
        }
    }
    Step::new(key, "backtest").payload(&payload)
}

fn put_bars(payload: &mut Map<String, Value>, bars: &[Bar]) {
    payload.insert("bars".into(), json!(bars));
}

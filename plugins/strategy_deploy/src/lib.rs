//! `strategy_deploy`: rolls out new parameters of a strategy in stages, as a workflow.
//!
//! ```text
//!  validation ──▶ validate ──┬──▶ canary ────┬──▶ compare ──▶ conclude
//!  (backtest)                └──▶ baseline ──┘                   ▲
//!                                (backtests)      whatever failed ┘
//! ```
//!
//! The bars are cut in two. On the older ones the candidate is backtested and has to be sane (`validate`); on the newer ones candidate
//! and baseline are backtested side by side (`canary`, `baseline`), and `compare` holds one against the other. `conclude` runs whatever
//! became of the stages before it: it promotes the candidate where the comparison says so, and rolls back in every other case, and
//! emits `strategy.promoted` or `strategy.rolled_back`.
//!
//! A stage that is retried by hand promotes nothing, since `conclude` has run by then: submit the roll-out anew.
//!
//! The backtests are tasks of the `backtest` plugin. This plugin trades nothing itself: who runs strategies listens to the events.
//!
//! `input` turns what was submitted into two spans of bars or says what is wrong with it, `plan` makes the workflow of them, `stages`
//! judge.

mod input;
mod plan;
mod stages;

pub use input::{Bar, Input, Thresholds};
pub use stages::{Comparison, ConcludeInput, Conclusion, Figures, StageInput};

use taskhost_sdk::prelude::*;
use taskhost_sdk::serde_json::Value;

/// The roll-out that was begun.
#[derive(Serialize, JsonSchema, Clone, PartialEq, Debug)]
pub struct Begun {
    /// The workflow whose step `conclude` tells how it ended.
    pub workflow_id: String,
    /// The keys of its steps.
    pub steps: Vec<String>,
}

/// Rolls out new parameters of a strategy in stages: validate, canary, compare, promote or roll back.
#[task(timeout = 30, tags = ["deployment"])]
pub fn strategy_deploy(ctx: &Context, input: Input) -> TaskResult<Begun> {
    let rollout = input::check(input)?;
    let (workflow, steps) = plan::workflow(&rollout);
    let workflow_id = ctx.submit_workflow(&workflow)?;
    log::info!(workflow_id = workflow_id.as_str(), strategy = rollout.strategy.as_str(); "roll-out begun");
    Ok(Begun { workflow_id, steps })
}

/// Whether the candidate is sane: enough bars and trades, and a drawdown that can be borne.
#[task(name = "strategy_deploy.validate", timeout = 30, tags = ["deployment"])]
pub fn validate(ctx: &Context, input: StageInput) -> TaskResult<Figures> {
    stages::validate(&ctx.needs("validation")?, &input.thresholds)
}

/// Holds the candidate against the baseline.
#[task(name = "strategy_deploy.compare", timeout = 30, tags = ["deployment"])]
pub fn compare(ctx: &Context, input: StageInput) -> TaskResult<Comparison> {
    Ok(stages::compare(&ctx.needs("canary")?, &ctx.needs("baseline")?, &input.thresholds))
}

/// Promotes the candidate or rolls back, and tells the world.
#[task(name = "strategy_deploy.conclude", timeout = 30, tags = ["deployment"])]
pub fn conclude(ctx: &Context, input: ConcludeInput) -> TaskResult<Conclusion> {
    // There is none where an earlier stage failed; one that cannot be read is a mistake, not a verdict.
    let comparison = match ctx.needs::<Value>("compare") {
        Ok(_) => Some(ctx.needs::<Comparison>("compare")?),
        Err(_) => None,
    };
    let mut conclusion = stages::conclude(&input, comparison);
    let event = json!({ "strategy": conclusion.strategy, "params": conclusion.params, "reasons": conclusion.reasons });
    match ctx.emit(conclusion.event_type(), &event) {
        Ok(id) => conclusion.event_id = Some(id),
        // Who may not tell has still decided.
        Err(error) if error.is_denied() => log::warn!("the conclusion was not told as an event: {error}"),
        Err(error) => return Err(error),
    }
    Ok(conclusion)
}

plugin!(strategy_deploy, validate, compare, conclude);

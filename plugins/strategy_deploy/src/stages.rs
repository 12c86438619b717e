//! The judgements: pure functions of what the backtests found.

use crate::input::Thresholds;
use std::collections::BTreeMap;
use taskhost_sdk::prelude::*;
use taskhost_sdk::serde_json::Value;

/// What `validate` and `compare` are given beside the results of their needs.
#[derive(Deserialize, JsonSchema, Clone, Debug)]
#[serde(deny_unknown_fields)]
pub struct StageInput {
    /// What the candidate has to reach.
    #[serde(default)]
    pub thresholds: Thresholds,
}

/// What `conclude` is given beside the comparison.
#[derive(Deserialize, JsonSchema, Clone, Debug)]
#[serde(deny_unknown_fields)]
pub struct ConcludeInput {
    /// The strategy.
    pub strategy: String,
    /// The parameters to roll out.
    pub candidate: BTreeMap<String, Value>,
    /// The parameters that are live.
    pub baseline: BTreeMap<String, Value>,
}

/// The result of a backtest, as far as it is judged.
#[derive(Deserialize, Clone, Debug)]
pub(crate) struct Report {
    bars: usize,
    trades: Vec<Value>,
    total_return: f64,
    sharpe: f64,
    max_drawdown: f64,
}

/// What counts of a backtest.
#[derive(Serialize, Deserialize, JsonSchema, Clone, PartialEq, Debug)]
pub struct Figures {
    /// How many bars took part.
    pub bars: usize,
    /// How many trades came of them.
    pub trades: usize,
    /// Last equity / first − 1.
    pub total_return: f64,
    /// The Sharpe ratio, a year.
    pub sharpe: f64,
    /// The largest fall from a peak, as a fraction of it.
    pub max_drawdown: f64,
}

impl From<&Report> for Figures {
    fn from(report: &Report) -> Self {
        Self {
            bars: report.bars,
            trades: report.trades.len(),
            total_return: report.total_return,
            sharpe: report.sharpe,
            max_drawdown: report.max_drawdown,
        }
    }
}

/// The candidate beside the baseline.
#[derive(Serialize, Deserialize, JsonSchema, Clone, PartialEq, Debug)]
pub struct Comparison {
    /// Whether the candidate reached all that it had to.
    pub promote: bool,
    /// What it did not reach; or, where it did, by how much it is better.
    pub reasons: Vec<String>,
    /// What the candidate did in the canary.
    pub candidate: Figures,
    /// What the baseline did over the same bars.
    pub baseline: Figures,
}

/// How the roll-out ended.
#[derive(Serialize, JsonSchema, Clone, PartialEq, Debug)]
pub struct Conclusion {
    /// `promoted` or `rolled_back`.
    pub decision: String,
    /// The strategy.
    pub strategy: String,
    /// The parameters that are to be live from now on.
    pub params: BTreeMap<String, Value>,
    /// Why.
    pub reasons: Vec<String>,
    /// The event that told it; null where none may be emitted.
    pub event_id: Option<String>,
}

impl Conclusion {
    pub(crate) fn event_type(&self) -> &'static str {
        if self.decision == "promoted" {
            "strategy.promoted"
        } else {
            "strategy.rolled_back"
        }
    }
}

/// # Errors
/// `fatal` with all that the candidate does not reach: the stages after it are then cancelled, and `conclude` rolls back.
pub(crate) fn validate(report: &Report, thresholds: &Thresholds) -> TaskResult<Figures> {
    let figures = Figures::from(report);
    let reasons = sanity(&figures, thresholds);
    if reasons.is_empty() {
        Ok(figures)
    } else {
        Err(TaskError::fatal(format!("the candidate is not sane: {}", reasons.join("; "))))
    }
}

fn sanity(figures: &Figures, thresholds: &Thresholds) -> Vec<String> {
    let mut reasons = Vec::new();
    if figures.bars < thresholds.min_bars {
        reasons.push(format!("there are {} bars; {} are needed", figures.bars, thresholds.min_bars));
    }
    if figures.trades < thresholds.min_trades {
        reasons.push(format!("it made {} trades; {} are needed", figures.trades, thresholds.min_trades));
    }
    if figures.max_drawdown > thresholds.max_drawdown {
        let (fell, most) = (percent(figures.max_drawdown), percent(thresholds.max_drawdown));
        reasons.push(format!("it fell by {fell} from a peak; {most} can be borne"));
    }
    reasons
}

/// Who does as well as the baseline has no gain: an exchange for nothing is not asked for unless a loss is allowed.
fn suffices(gain: f64, least: f64) -> bool {
    gain >= least && (gain > 0.0 || least < 0.0)
}

fn needed(least: f64, write: impl Fn(f64) -> String) -> String {
    if least == 0.0 {
        "more than 0 is needed".to_owned()
    } else {
        format!("{} are needed", write(least))
    }
}

pub(crate) fn compare(candidate: &Report, baseline: &Report, thresholds: &Thresholds) -> Comparison {
    let (candidate, baseline) = (Figures::from(candidate), Figures::from(baseline));
    let mut reasons = sanity(&candidate, thresholds);
    let gain = candidate.total_return - baseline.total_return;
    if !suffices(gain, thresholds.min_return_gain) {
        let needed = needed(thresholds.min_return_gain, percent);
        reasons.push(format!("its return exceeds the baseline's by {}; {needed}", percent(gain)));
    }
    let sharpe = candidate.sharpe - baseline.sharpe;
    if !suffices(sharpe, thresholds.min_sharpe_gain) {
        let needed = needed(thresholds.min_sharpe_gain, |least| format!("{least:.2}"));
        reasons.push(format!("its Sharpe ratio exceeds the baseline's by {sharpe:.2}; {needed}"));
    }
    let deeper = candidate.max_drawdown - baseline.max_drawdown;
    if deeper > thresholds.max_drawdown_increase {
        let (deeper, most) = (percent(deeper), percent(thresholds.max_drawdown_increase));
        reasons.push(format!("its drawdown exceeds the baseline's by {deeper}; {most} are allowed"));
    }
    let promote = reasons.is_empty();
    if promote {
        reasons.push(format!(
            "its return exceeds the baseline's by {}, its Sharpe ratio by {sharpe:.2}",
            percent(gain)
        ));
    }
    Comparison {
        promote,
        reasons,
        candidate,
        baseline,
    }
}

pub(crate) fn conclude(input: &ConcludeInput, comparison: Option<Comparison>) -> Conclusion {
    let (promote, reasons) = match comparison {
        Some(comparison) => (comparison.promote, comparison.reasons),
        None => (false, vec!["a stage before the comparison did not succeed".to_owned()]),
    };
    Conclusion {
        decision: if promote { "promoted" } else { "rolled_back" }.to_owned(),
        strategy: input.strategy.clone(),
        params: if promote { input.candidate.clone() } else { input.baseline.clone() },
        reasons,
        event_id: None,
    }
}

fn percent(share: f64) -> String {
    format!("{:.2} %", share * 100.0)
}

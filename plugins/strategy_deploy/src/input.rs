//! From what was submitted to what can be rolled out: every rule about values, each with a pointer to what breaks it.

use business_days::parse_date;
use chrono::NaiveDate;
use std::collections::BTreeMap;
use taskhost_sdk::{InputErrors, prelude::*, serde_json::Value};

/// The share of the bars that is newest and serves as canary, unless said.
const CANARY_FRACTION: f64 = 0.3;
/// Fewer bars on either side say nothing.
const MIN_BARS: usize = 2;

/// A roll-out to begin. Give the prices either as `bars` or as `data`.
#[derive(Deserialize, JsonSchema, Clone, Debug)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// A strategy of the `backtest` task.
    pub strategy: String,
    /// The parameters to roll out, as `backtest` takes them.
    pub candidate: BTreeMap<String, Value>,
    /// The parameters that are live now.
    pub baseline: BTreeMap<String, Value>,
    /// The prices, dates ascending; with all the roll-out's requests no more than the host lets an attempt submit (1 MiB): longer ones as
    /// `data`.
    pub bars: Option<Vec<Bar>>,
    /// The prices as a CSV file that `backtest` can read.
    pub data: Option<String>,
    /// Which share of `bars`, the newest, is the canary's: 0.05 to 0.95, default 0.3. A backtest knows no bar before its own: let the
    /// canary be much longer than the longest period of a strategy, which is flat until then.
    pub canary_fraction: Option<f64>,
    /// The canary's first day instead, `YYYY-MM-DD`; needed with `data`.
    #[schemars(extend("format" = "date"))]
    pub canary_from: Option<String>,
    /// Hundredths of a percent of the equity, taken at each change of position.
    #[serde(default)]
    pub fee_bps: f64,
    /// What the candidate has to reach.
    #[serde(default)]
    pub thresholds: Thresholds,
}

/// One day's price. Other members are ignored.
#[derive(Deserialize, Serialize, JsonSchema, Clone, PartialEq, Debug)]
pub struct Bar {
    /// `YYYY-MM-DD`.
    #[schemars(extend("format" = "date"))]
    pub date: String,
    /// Above 0.
    pub close: f64,
}

/// What the candidate has to reach.
#[derive(Deserialize, Serialize, JsonSchema, Clone, Copy, PartialEq, Debug)]
#[serde(default, deny_unknown_fields)]
pub struct Thresholds {
    /// Bars of each backtest, at least.
    pub min_bars: usize,
    /// Trades of the candidate, at least, in validation and canary.
    pub min_trades: usize,
    /// The largest fall from a peak that can be borne, as a fraction of it, in validation and canary.
    pub max_drawdown: f64,
    /// By how much the canary's total return has to exceed the baseline's: at 0 by anything at all, below 0 it may fall short by as much.
    pub min_return_gain: f64,
    /// By how much its Sharpe ratio has to, in the same way.
    pub min_sharpe_gain: f64,
    /// By how much its drawdown may exceed the baseline's.
    pub max_drawdown_increase: f64,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            min_bars: 20,
            min_trades: 1,
            max_drawdown: 0.5,
            min_return_gain: 0.0,
            min_sharpe_gain: 0.0,
            max_drawdown_increase: 0.05,
        }
    }
}

/// What can be rolled out.
#[derive(Clone, Debug)]
pub(crate) struct Rollout {
    pub(crate) strategy: String,
    pub(crate) candidate: BTreeMap<String, Value>,
    pub(crate) baseline: BTreeMap<String, Value>,
    pub(crate) prices: Prices,
    pub(crate) fee_bps: f64,
    pub(crate) thresholds: Thresholds,
}

/// The prices of both spans.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Prices {
    Bars {
        validation: Vec<Bar>,
        canary: Vec<Bar>,
    },
    Data {
        file: String,
        last_of_validation: String,
        canary_from: String,
    },
}

pub(crate) fn check(input: Input) -> TaskResult<Rollout> {
    let mut errors = InputErrors::default();
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    if input.strategy.is_empty() || input.strategy.len() > 64 || !input.strategy.chars().all(plain) {
        errors.add("/strategy", "must be the name of a strategy of backtest, such as sma_cross");
    }
    if input.candidate == input.baseline {
        errors.add("/candidate", "is the same as baseline: there is nothing to roll out");
    }
    if !(0.0..=10_000.0).contains(&input.fee_bps) {
        errors.add("/fee_bps", "must be from 0 to 10000");
    }
    check_thresholds(&input.thresholds, &mut errors);
    let from = input
        .canary_from
        .as_deref()
        .and_then(|text| parse_date(text).map_err(|detail| errors.add("/canary_from", detail)).ok());
    if input.canary_from.is_some() && input.canary_fraction.is_some() {
        errors.add("/canary_fraction", "give either `canary_fraction` or `canary_from`, not both");
    }
    let prices = match (input.bars, input.data) {
        (Some(bars), None) => split(bars, from, input.canary_fraction, &mut errors),
        (None, Some(file)) => of_file(file, from, &mut errors),
        (Some(_), Some(_)) => {
            errors.add("/data", "give either `bars` or `data`, not both");
            None
        }
        (None, None) => {
            errors.add("", "give the prices, as `bars` or as `data`");
            None
        }
    };
    errors.finish()?;
    Ok(Rollout {
        strategy: input.strategy,
        candidate: input.candidate,
        baseline: input.baseline,
        prices: prices.ok_or_else(|| TaskError::invalid("", "give the prices, as `bars` or as `data`"))?,
        fee_bps: input.fee_bps,
        thresholds: input.thresholds,
    })
}

fn check_thresholds(thresholds: &Thresholds, errors: &mut InputErrors) {
    for (member, value, low, high) in [
        ("max_drawdown", thresholds.max_drawdown, 0.0, 1.0),
        ("max_drawdown_increase", thresholds.max_drawdown_increase, 0.0, 1.0),
        ("min_return_gain", thresholds.min_return_gain, -1e6, 1e6),
        ("min_sharpe_gain", thresholds.min_sharpe_gain, -1e6, 1e6),
    ] {
        if !(low..=high).contains(&value) {
            errors.add(format!("/thresholds/{member}"), format!("must be from {low} to {high}"));
        }
    }
}

fn split(mut bars: Vec<Bar>, from: Option<NaiveDate>, fraction: Option<f64>, errors: &mut InputErrors) -> Option<Prices> {
    let fraction = fraction.unwrap_or(CANARY_FRACTION);
    if !(0.05..=0.95).contains(&fraction) {
        errors.add("/canary_fraction", "must be from 0.05 to 0.95");
        return None;
    }
    if let Some(at) = bars.windows(2).position(|pair| pair[0].date >= pair[1].date) {
        errors.add(
            format!("/bars/{}/date", at + 1),
            "does not come after the one before: dates must ascend",
        );
        return None;
    }
    let cut = match from {
        // As text they sort as they do as days.
        Some(from) => bars.partition_point(|bar| bar.date < from.to_string()),
        None => {
            let newest = (bars.len() as f64 * fraction).round();
            (0..=bars.len()).rev().find(|cut| (bars.len() - cut) as f64 >= newest).unwrap_or(0)
        }
    };
    if cut < MIN_BARS || bars.len() - cut < MIN_BARS {
        let (before, after) = (cut, bars.len() - cut);
        errors.add(
            "/bars",
            format!("leave {before} bars to the validation and {after} to the canary; each needs at least {MIN_BARS}"),
        );
        return None;
    }
    let canary = bars.split_off(cut);
    Some(Prices::Bars { validation: bars, canary })
}

fn of_file(file: String, from: Option<NaiveDate>, errors: &mut InputErrors) -> Option<Prices> {
    if file.is_empty() {
        errors.add("/data", "is empty: give the name of a file");
    }
    let Some((from, last)) = from.and_then(|from| Some((from, from.pred_opt()?))) else {
        errors.add("/canary_from", "is needed with `data`: the first day of the canary, YYYY-MM-DD");
        return None;
    };
    Some(Prices::Data {
        file,
        last_of_validation: last.to_string(),
        canary_from: from.to_string(),
    })
}

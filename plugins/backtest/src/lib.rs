//! `backtest`: runs a strategy over daily closes and reports what would have come of it.
//!
//! The rules, exactly: the account is long or flat. The position that is decided on the close of day t earns the simple
//! return from t to t+1. A fee is taken from the equity at each change of position, the entry included, before that
//! return. The last close never trades.
//!
//! `input` turns what was submitted into bars and a strategy or says what is wrong with it, `data` reads a CSV file,
//! `strategy` decides positions, `engine` accounts, `metrics` sums up.

mod data;
mod engine;
mod input;
mod metrics;
mod strategy;

pub use engine::Trade;
pub use input::{Bar, Input, Params, StrategyName};

use taskhost_sdk::prelude::*;

/// What came of it.
#[derive(Serialize, JsonSchema, Clone, PartialEq, Debug)]
pub struct Report {
    /// How many bars took part, after `from` and `to`.
    pub bars: usize,
    /// In order of entry. One that is still open is marked at the last close.
    pub trades: Vec<Trade>,
    /// Last equity / initial cash − 1.
    pub total_return: f64,
    /// (1 + total_return)^(252 / (bars − 1)) − 1; null where that is too large for a number.
    pub annual_return: Option<f64>,
    /// Sample standard deviation of the daily returns × √252; 0 with one return.
    pub annual_volatility: f64,
    /// Mean of the daily returns / their sample standard deviation × √252, risk-free rate 0; 0 where the deviation is 0.
    pub sharpe: f64,
    /// Largest fall of the equity from an earlier peak, as a fraction of that peak, 0 to 1.
    pub max_drawdown: f64,
    /// Fraction of the trades with a return above 0; 0 without trades.
    pub win_rate: f64,
    /// One value a bar, the initial cash first.
    pub equity_curve: Vec<f64>,
}

/// Runs a strategy over daily closes: equity curve, returns, Sharpe, drawdown, trades.
#[task(timeout = 60, tags = ["research"])]
pub fn backtest(ctx: &Context, input: Input) -> TaskResult<Report> {
    let run = input::check(ctx, input)?;
    let closes: Vec<f64> = run.bars.iter().map(|bar| bar.close).collect();
    let positions = run.strategy.positions(&closes);
    let account = engine::simulate(ctx, &run, &positions)?;
    let metrics = metrics::of(&account.equity);
    log::info!(bars = closes.len(), trades = account.trades.len(); "backtest done");
    Ok(Report {
        bars: closes.len(),
        total_return: metrics.total_return,
        annual_return: Some(metrics.annual_return).filter(|value| value.is_finite()),
        annual_volatility: metrics.annual_volatility,
        sharpe: metrics.sharpe,
        max_drawdown: metrics.max_drawdown,
        win_rate: metrics::win_rate(&account.trades),
        trades: account.trades,
        equity_curve: account.equity,
    })
}

plugin!(backtest);

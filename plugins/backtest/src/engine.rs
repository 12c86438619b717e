//! The account: equity and trades from positions, by the rules at the top of the crate.

use crate::input::Run;
use taskhost_sdk::prelude::*;

/// How often the loop looks up from its work.
const CHECK_EVERY: usize = 1024;

/// One time in the market.
#[derive(Serialize, JsonSchema, Clone, PartialEq, Debug)]
pub struct Trade {
    /// The close at which the position was decided.
    pub entry_date: String,
    /// That close.
    pub entry_price: f64,
    /// The close at which it was left; the last bar's date where it is still open, since the last close never trades.
    pub exit_date: String,
    /// That close.
    pub exit_price: f64,
    /// Net of its fees: (1 − fee) × exit / entry × (1 − fee) − 1; an open one has paid for its entry only. So the returns of
    /// all trades compound to the total return.
    #[serde(rename = "return")]
    pub net_return: f64,
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Account {
    /// One value a bar.
    pub(crate) equity: Vec<f64>,
    pub(crate) trades: Vec<Trade>,
}

pub(crate) fn simulate(ctx: &Context, run: &Run, positions: &[bool]) -> TaskResult<Account> {
    let bars = &run.bars;
    let last = bars.len() - 1;
    let mut value = run.initial_cash;
    let mut equity = Vec::with_capacity(bars.len());
    let mut trades = Vec::new();
    let mut entered: Option<usize> = None;
    equity.push(value);
    for t in 0..last {
        if positions[t] != entered.is_some() {
            value *= 1.0 - run.fee;
            entered = match entered {
                None => Some(t),
                Some(entry) => {
                    trades.push(trade(run, entry, t, 1.0 - run.fee));
                    None
                }
            };
        }
        if entered.is_some() {
            value *= bars[t + 1].close / bars[t].close;
        }
        if !value.is_finite() {
            return Err(TaskError::invalid(
                "",
                format!("the equity grows beyond all numbers on {}", bars[t + 1].date),
            ));
        }
        equity.push(value);
        if t % CHECK_EVERY == 0 {
            ctx.check_cancelled()?;
            ctx.progress(t as u64, last as u64, "simulating");
        }
    }
    if let Some(entry) = entered {
        trades.push(trade(run, entry, last, 1.0));
    }
    Ok(Account { equity, trades })
}

fn trade(run: &Run, entry: usize, exit: usize, after_exit_fee: f64) -> Trade {
    let (entry, exit) = (run.bars[entry], run.bars[exit]);
    Trade {
        entry_date: entry.date.to_string(),
        entry_price: entry.close,
        exit_date: exit.date.to_string(),
        exit_price: exit.close,
        net_return: (1.0 - run.fee) * (exit.close / entry.close) * after_exit_fee - 1.0,
    }
}

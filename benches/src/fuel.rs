//! What the sandbox takes of a handler that computes: one and the same backtest as native code and as an attempt.

use crate::Bench;
use crate::attempt::Sandbox;
use crate::host::build_guest;
use crate::table::{RUNS, Runs, row};
use anyhow::{Context as _, Result, anyhow, bail};
use chrono::{Days, NaiveDate};
use serde_json::json;
use std::time::Instant;
use taskhost::model::attempt::Outcome;
use taskhost_sdk::{Context, Task};

/// Backtests of one figure.
const TIMES: u32 = 10;
const BARS: u64 = 100_000;

/// Milliseconds of a backtest over 100,000 bars, from its JSON to that of the report: in the sandbox with fuel and all limits, beside
/// the same crate in this process.
pub(crate) fn run(_: &Bench) -> Result<()> {
    let input = input()?;
    let sandbox = Sandbox::load(&build_guest("backtest")?)?;
    let mut found = [Vec::new(), Vec::new()];
    for _ in 0..RUNS {
        found[0].push(millis(|| sandboxed(&sandbox, &input))?);
        found[1].push(millis(|| native(&input))?);
    }
    let [ours, native] = found.map(Runs::sorted);
    row("a backtest of 100,000 bars, ms (the other: native)", 0, 1, &ours, &native);
    Ok(())
}

fn millis(work: impl Fn() -> Result<String>) -> Result<f64> {
    let begun = Instant::now();
    for _ in 0..TIMES {
        std::hint::black_box(work()?);
    }
    Ok(begun.elapsed().as_secs_f64() * 1e3 / f64::from(TIMES))
}

fn native(input: &str) -> Result<String> {
    let report = <backtest::backtest as Task>::run(&Context::mock(), input);
    report.map_err(|error| anyhow!("{error}"))
}

fn sandboxed(sandbox: &Sandbox, input: &str) -> Result<String> {
    match sandbox.run("backtest", input, 128 << 20)?.outcome {
        Outcome::Ok { result } => Ok(result),
        outcome => bail!("{outcome:?}"),
    }
}

/// A walk that is the same each time.
fn input() -> Result<String> {
    let first = NaiveDate::from_ymd_opt(1700, 1, 1).context("a date")?;
    let mut close = 100.0;
    let bars = (0..BARS).map(|day| {
        let step = (day.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as f64 / f64::from(1 << 24) - 0.5;
        close *= 1.0 + step / 50.0;
        json!({ "date": (first + Days::new(day)).to_string(), "close": close })
    });
    let bars: Vec<_> = bars.collect();
    let params = json!({ "entry": 200, "exit": 100 });
    Ok(json!({ "strategy": "donchian_breakout", "params": params, "bars": bars, "fee_bps": 5.0 }).to_string())
}

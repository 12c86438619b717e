//! From what was submitted to what can be run: every rule about values, each with a pointer to what breaks it.

use crate::{data, strategy::Strategy};
use business_days::parse_date;
use chrono::NaiveDate;
use taskhost_sdk::{InputErrors, prelude::*};

/// Enough for four centuries of trading days, and a result that stays within the host's bound of 4 MiB.
const MAX_BARS: usize = 100_000;
/// Far above any account, far below where sums lose cents.
const MAX_CASH: f64 = 1e15;

/// A backtest to run. Give the prices either as `bars` or as `data`.
#[derive(Deserialize, JsonSchema, Clone, Debug)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Which rule decides the position.
    pub strategy: StrategyName,
    /// The rule's parameters.
    #[serde(default)]
    pub params: Params,
    /// The prices: at least 2, at most 100,000, dates ascending.
    pub bars: Option<Vec<Bar>>,
    /// The prices as a CSV file with columns `date` and `close` (others are ignored): its name in the guest folder
    /// `/samples`, or an absolute path in another folder that the operator granted.
    pub data: Option<String>,
    /// First day to take part, `YYYY-MM-DD`. Indicators know nothing of the bars before it.
    #[schemars(extend("format" = "date"))]
    pub from: Option<String>,
    /// Last day to take part, `YYYY-MM-DD`.
    #[schemars(extend("format" = "date"))]
    pub to: Option<String>,
    /// Above 0, at most 10¹⁵.
    #[serde(default = "initial_cash")]
    pub initial_cash: f64,
    /// Hundredths of a percent of the equity, taken at each change of position; 0 to 10,000.
    #[serde(default)]
    pub fee_bps: f64,
}

fn initial_cash() -> f64 {
    100_000.0
}

/// The rules that decide a position on each close, from the closes up to and including it.
#[derive(Deserialize, JsonSchema, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(rename_all = "snake_case")]
pub enum StrategyName {
    /// Long from the first close on. No parameters.
    BuyAndHold,
    /// Long while the mean of the last `fast` closes is above that of the last `slow`; flat until there are `slow` closes.
    SmaCross,
    /// Time-series momentum: long while the close is above the one `lookback` bars before; flat until there is one.
    Momentum,
    /// Enters when Wilder's RSI over `period` changes is below `lower`, leaves when it is above `upper`.
    RsiReversion,
    /// Enters when the close is above every one of the `entry` closes before it, leaves when it is below every one of the
    /// `exit` closes before it.
    DonchianBreakout,
}

impl StrategyName {
    /// The word that the input uses.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::BuyAndHold => "buy_and_hold",
            Self::SmaCross => "sma_cross",
            Self::Momentum => "momentum",
            Self::RsiReversion => "rsi_reversion",
            Self::DonchianBreakout => "donchian_breakout",
        }
    }
}

/// Parameters of the strategies. One that the chosen strategy does not have is refused. Periods are bars, 1 to 10,000;
/// one that is longer than the bars given keeps the account flat.
#[derive(Deserialize, JsonSchema, Clone, Default, Debug)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// `sma_cross`: bars of the fast mean, below `slow`.
    pub fast: Option<u64>,
    /// `sma_cross`: bars of the slow mean.
    pub slow: Option<u64>,
    /// `momentum`: how many bars to look back.
    pub lookback: Option<u64>,
    /// `rsi_reversion`: changes in the average; default 14.
    pub period: Option<u64>,
    /// `rsi_reversion`: enters below, 0 to 100, default 30.
    pub lower: Option<f64>,
    /// `rsi_reversion`: leaves above, 0 to 100 and not below `lower`, default 70.
    pub upper: Option<f64>,
    /// `donchian_breakout`: bars of the channel that is left upwards to enter.
    pub entry: Option<u64>,
    /// `donchian_breakout`: bars of the channel that is left downwards to leave.
    pub exit: Option<u64>,
}

/// One day's price. Other members, such as `open` or `volume`, are ignored.
#[derive(Deserialize, JsonSchema, Clone, Debug)]
pub struct Bar {
    /// `YYYY-MM-DD`.
    #[schemars(extend("format" = "date"))]
    pub date: String,
    /// Above 0.
    pub close: f64,
}

/// One day's price, checked.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Close {
    pub(crate) date: NaiveDate,
    pub(crate) close: f64,
}

/// What can be run.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) bars: Vec<Close>,
    pub(crate) strategy: Strategy,
    pub(crate) initial_cash: f64,
    /// The fraction of the equity that a change of position costs.
    pub(crate) fee: f64,
}

/// Checks everything and reads the data file, if there is one.
pub(crate) fn check(ctx: &Context, input: Input) -> TaskResult<Run> {
    let mut errors = InputErrors::default();
    if !(input.initial_cash > 0.0 && input.initial_cash <= MAX_CASH) {
        errors.add("/initial_cash", "must be above 0 and at most 1e15");
    }
    if !(0.0..=10_000.0).contains(&input.fee_bps) {
        errors.add("/fee_bps", "must be from 0 to 10000");
    }
    let strategy = Strategy::check(input.strategy, &input.params, &mut errors);
    let from = input.from.as_deref().and_then(|text| check_date(text, "/from", &mut errors));
    let to = input.to.as_deref().and_then(|text| check_date(text, "/to", &mut errors));
    if let (Some(from), Some(to)) = (from, to)
        && from > to
    {
        errors.add("/from", "must not be after `to`");
    }
    let (mut bars, source) = match (input.bars, input.data) {
        (Some(bars), None) => (check_bars(&bars, &mut errors), "/bars"),
        // A wrong parameter is told without reading a large file first.
        (None, Some(data)) if errors.is_empty() => (data::read(ctx, &data, &mut errors)?, "/data"),
        (None, Some(_)) => (Vec::new(), ""),
        (Some(_), Some(_)) => {
            errors.add("/data", "give either `bars` or `data`, not both");
            (Vec::new(), "")
        }
        (None, None) => {
            errors.add("", "give the prices, as `bars` or as `data`");
            (Vec::new(), "")
        }
    };
    bars.retain(|bar| from.is_none_or(|from| bar.date >= from) && to.is_none_or(|to| bar.date <= to));
    if bars.len() < 2 && errors.is_empty() {
        let within = if from.or(to).is_some() { " from `from` to `to`" } else { "" };
        errors.add(source, format!("needs at least 2 bars, has {}{within}", bars.len()));
    }
    errors.finish()?;
    let strategy = strategy.expect("a strategy that was refused has left an error");
    Ok(Run {
        bars,
        strategy,
        initial_cash: input.initial_cash,
        fee: input.fee_bps / 10_000.0,
    })
}

fn check_bars(bars: &[Bar], errors: &mut InputErrors) -> Vec<Close> {
    let mut checked = Checked::default();
    for (index, bar) in bars.iter().enumerate() {
        if errors.is_full() {
            break;
        }
        if index == MAX_BARS {
            errors.add("/bars", too_many());
            break;
        }
        match parse_date(&bar.date) {
            Err(detail) => errors.add(format!("/bars/{index}/date"), detail),
            Ok(date) => match checked.push(date, bar.close) {
                Ok(()) => {}
                Err((member, detail)) => errors.add(format!("/bars/{index}/{member}"), detail),
            },
        }
    }
    checked.bars
}

pub(crate) fn too_many() -> String {
    format!("has more than {MAX_BARS} bars")
}

/// Bars in the making, from a payload or a file: the same rules for both.
#[derive(Default)]
pub(crate) struct Checked {
    pub(crate) bars: Vec<Close>,
    // Also of a bar that was refused for its price, so that one mistake is one error.
    last: Option<NaiveDate>,
}

impl Checked {
    /// # Errors
    /// The member that is wrong, and why.
    pub(crate) fn push(&mut self, date: NaiveDate, close: f64) -> Result<(), (&'static str, String)> {
        let last = self.last.filter(|last| *last >= date);
        if let Some(last) = last {
            let detail = if last == date {
                format!("{date} occurs twice")
            } else {
                format!("{date} comes after {last}: dates must ascend")
            };
            return Err(("date", detail));
        }
        self.last = Some(date);
        if !(close.is_finite() && close > 0.0) {
            return Err(("close", format!("{close} is no price: it must be above 0")));
        }
        self.bars.push(Close { date, close });
        Ok(())
    }

    pub(crate) fn is_full(&self) -> bool {
        self.bars.len() >= MAX_BARS
    }
}

fn check_date(text: &str, pointer: &str, errors: &mut InputErrors) -> Option<NaiveDate> {
    parse_date(text).map_err(|detail| errors.add(pointer, detail)).ok()
}

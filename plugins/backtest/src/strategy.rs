//! The strategies: a position for each close, from the closes up to and including it, each in one pass.

use crate::input::{Params, StrategyName};
use std::collections::VecDeque;
use taskhost_sdk::InputErrors;

/// Forty years of trading days; beyond that somebody mistyped.
const MAX_PERIOD: u64 = 10_000;
/// Means that are equal in decimals differ in their last bits; a fast mean counts as above only beyond that.
const EQUAL: f64 = 1e-12;

/// A strategy with parameters that make sense.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Strategy {
    BuyAndHold,
    SmaCross { fast: usize, slow: usize },
    Momentum { lookback: usize },
    RsiReversion { period: usize, lower: f64, upper: f64 },
    DonchianBreakout { entry: usize, exit: usize },
}

impl Strategy {
    /// None where something was added to the errors.
    pub(crate) fn check(name: StrategyName, params: &Params, errors: &mut InputErrors) -> Option<Self> {
        let mut reader = Reader {
            name,
            left: params.clone(),
            errors,
        };
        let strategy = match name {
            StrategyName::BuyAndHold => Some(Self::BuyAndHold),
            StrategyName::SmaCross => {
                let (fast, slow) = (reader.period("fast", None), reader.period("slow", None));
                fast.zip(slow).and_then(|(fast, slow)| {
                    if fast >= slow {
                        reader
                            .errors
                            .add("/params/fast", format!("must be below slow: {fast} is not below {slow}"));
                        return None;
                    }
                    Some(Self::SmaCross { fast, slow })
                })
            }
            StrategyName::Momentum => reader.period("lookback", None).map(|lookback| Self::Momentum { lookback }),
            StrategyName::RsiReversion => {
                let period = reader.period("period", Some(14));
                let (lower, upper) = (reader.level("lower", 30.0), reader.level("upper", 70.0));
                if let (Some(lower), Some(upper)) = (lower, upper)
                    && lower > upper
                {
                    reader
                        .errors
                        .add("/params/lower", format!("must not be above upper: {lower} is above {upper}"));
                }
                period
                    .zip(lower.zip(upper))
                    .map(|(period, (lower, upper))| Self::RsiReversion { period, lower, upper })
            }
            StrategyName::DonchianBreakout => {
                let (entry, exit) = (reader.period("entry", None), reader.period("exit", None));
                entry.zip(exit).map(|(entry, exit)| Self::DonchianBreakout { entry, exit })
            }
        };
        reader.finish();
        strategy
    }

    /// Whether to be long after each close.
    pub(crate) fn positions(&self, closes: &[f64]) -> Vec<bool> {
        match *self {
            Self::BuyAndHold => vec![true; closes.len()],
            Self::SmaCross { fast, slow } => sma_cross(closes, fast, slow),
            Self::Momentum { lookback } => (0..closes.len())
                .map(|t| t >= lookback && closes[t] > closes[t - lookback])
                .collect(),
            Self::RsiReversion { period, lower, upper } => rsi_reversion(closes, period, lower, upper),
            Self::DonchianBreakout { entry, exit } => donchian_breakout(closes, entry, exit),
        }
    }
}

/// Takes the parameters of one strategy; what is left belongs to another.
struct Reader<'a> {
    name: StrategyName,
    left: Params,
    errors: &'a mut InputErrors,
}

impl Reader<'_> {
    fn period(&mut self, parameter: &str, default: Option<u64>) -> Option<usize> {
        let given = match parameter {
            "fast" => self.left.fast.take(),
            "slow" => self.left.slow.take(),
            "lookback" => self.left.lookback.take(),
            "period" => self.left.period.take(),
            "entry" => self.left.entry.take(),
            _ => self.left.exit.take(),
        };
        let Some(bars) = given.or(default) else {
            self.errors.add("/params", format!("needs `{parameter}`"));
            return None;
        };
        if !(1..=MAX_PERIOD).contains(&bars) {
            self.errors
                .add(format!("/params/{parameter}"), format!("must be from 1 to {MAX_PERIOD} bars"));
            return None;
        }
        usize::try_from(bars).ok()
    }

    fn level(&mut self, parameter: &str, default: f64) -> Option<f64> {
        let given = if parameter == "lower" {
            self.left.lower.take()
        } else {
            self.left.upper.take()
        };
        let level = given.unwrap_or(default);
        if !(0.0..=100.0).contains(&level) {
            self.errors.add(format!("/params/{parameter}"), "must be from 0 to 100");
            return None;
        }
        Some(level)
    }

    fn finish(self) {
        let Params {
            fast,
            slow,
            lookback,
            period,
            lower,
            upper,
            entry,
            exit,
        } = self.left;
        let foreign = [
            ("fast", fast.is_some()),
            ("slow", slow.is_some()),
            ("lookback", lookback.is_some()),
            ("period", period.is_some()),
            ("lower", lower.is_some()),
            ("upper", upper.is_some()),
            ("entry", entry.is_some()),
            ("exit", exit.is_some()),
        ];
        for (parameter, _) in foreign.into_iter().filter(|(_, given)| *given) {
            self.errors
                .add(format!("/params/{parameter}"), format!("is no parameter of {}", self.name.word()));
        }
    }
}

fn sma_cross(closes: &[f64], fast: usize, slow: usize) -> Vec<bool> {
    let (mut fast_mean, mut slow_mean) = (Mean::over(fast), Mean::over(slow));
    closes
        .iter()
        .enumerate()
        .map(|(t, close)| {
            let leaving = |bars: usize| t.checked_sub(bars).map(|t| closes[t]);
            let fast = fast_mean.slide(*close, leaving(fast));
            let slow_now = slow_mean.slide(*close, leaving(slow));
            t + 1 >= slow && fast - slow_now > EQUAL * slow_now
        })
        .collect()
}

/// The mean of a window that slides over prices.
///
/// The sum is kept in two numbers (Knuth's exact two-sum), so that adding and taking away for a hundred thousand bars
/// leaves no drift: the mean is as good as one summed afresh.
struct Mean {
    sum: f64,
    error: f64,
    bars: f64,
}

impl Mean {
    fn over(bars: usize) -> Self {
        let bars = bars as f64;
        Self {
            sum: 0.0,
            error: 0.0,
            bars,
        }
    }

    fn slide(&mut self, entering: f64, leaving: Option<f64>) -> f64 {
        self.add(entering);
        if let Some(leaving) = leaving {
            self.add(-leaving);
        }
        (self.sum + self.error) / self.bars
    }

    fn add(&mut self, value: f64) {
        let sum = self.sum + value;
        let part = sum - self.sum;
        self.error += (self.sum - (sum - part)) + (value - part);
        self.sum = sum;
    }
}

/// Wilder: the first averages are plain means of the first `period` gains and losses; each later one keeps
/// (period − 1) / period of its past. RSI = 100 × gain / (gain + loss), 50 where nothing moved.
fn rsi_reversion(closes: &[f64], period: usize, lower: f64, upper: f64) -> Vec<bool> {
    let bars = period as f64;
    let (mut gain, mut loss) = (0.0, 0.0);
    let mut long = false;
    let mut positions = vec![false; closes.len()];
    for t in 1..closes.len() {
        let change = closes[t] - closes[t - 1];
        let (up, down) = (change.max(0.0), (-change).max(0.0));
        if t <= period {
            gain += up / bars;
            loss += down / bars;
        } else {
            gain = (gain * (bars - 1.0) + up) / bars;
            loss = (loss * (bars - 1.0) + down) / bars;
        }
        if t >= period {
            let rsi = if gain + loss > 0.0 { 100.0 * (gain / (gain + loss)) } else { 50.0 };
            long = if long { rsi <= upper } else { rsi < lower };
        }
        positions[t] = long;
    }
    positions
}

fn donchian_breakout(closes: &[f64], entry: usize, exit: usize) -> Vec<bool> {
    let mut highs = Extreme::new(entry, |new, old| new >= old);
    let mut lows = Extreme::new(exit, |new, old| new <= old);
    let mut long = false;
    closes
        .iter()
        .enumerate()
        .map(|(t, close)| {
            // The channels are of the closes before this one.
            let (high, low) = (highs.before(t), lows.before(t));
            long = if long {
                low.is_none_or(|low| *close >= low)
            } else {
                high.is_some_and(|high| *close > high)
            };
            highs.push(t, *close);
            lows.push(t, *close);
            long
        })
        .collect()
}

/// The highest or lowest of the last closes in constant time each: a queue in which nothing stands that something later
/// beats.
struct Extreme {
    bars: usize,
    beats: fn(f64, f64) -> bool,
    queue: VecDeque<(usize, f64)>,
}

impl Extreme {
    fn new(bars: usize, beats: fn(f64, f64) -> bool) -> Self {
        Self {
            bars,
            beats,
            queue: VecDeque::new(),
        }
    }

    /// Of the `bars` closes before `t`; none until there are so many.
    fn before(&mut self, t: usize) -> Option<f64> {
        let first = t.checked_sub(self.bars)?;
        while self.queue.front().is_some_and(|(at, _)| *at < first) {
            self.queue.pop_front();
        }
        self.queue.front().map(|(_, close)| *close)
    }

    fn push(&mut self, t: usize, close: f64) {
        while self.queue.back().is_some_and(|(_, old)| (self.beats)(close, *old)) {
            self.queue.pop_back();
        }
        self.queue.push_back((t, close));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn long_days(strategy: Strategy, closes: &[f64]) -> Vec<usize> {
        let positions = strategy.positions(closes);
        assert_eq!(positions.len(), closes.len());
        (0..closes.len()).filter(|t| positions[*t]).collect()
    }

    #[test]
    fn sma_cross_waits_for_the_slow_mean_and_is_long_while_the_fast_one_is_above() {
        // Means of 2: -, 1.5, 2.5, 3.5, 2.5, 1 · of 3: -, -, 2, 3, 2.67, 2
        let closes = [1.0, 2.0, 3.0, 4.0, 1.0, 1.0];
        assert_eq!(long_days(Strategy::SmaCross { fast: 2, slow: 3 }, &closes), [2, 3]);
    }

    #[test]
    fn equal_means_are_not_above_whatever_their_last_bits_say() {
        assert!(long_days(Strategy::SmaCross { fast: 2, slow: 3 }, &[0.1; 50]).is_empty());
        assert!(long_days(Strategy::SmaCross { fast: 7, slow: 10 }, &[1e9 + 0.1; 500]).is_empty());
    }

    #[test]
    fn a_window_that_slid_for_long_has_not_drifted() {
        let closes: Vec<f64> = (0..100_000)
            .map(|t: u32| 1e6 + f64::from(t.wrapping_mul(2_654_435_761) % 1000) / 7.0)
            .collect();
        let mut mean = Mean::over(50);
        let mut last = 0.0;
        for (t, close) in closes.iter().enumerate() {
            last = mean.slide(*close, t.checked_sub(50).map(|t| closes[t]));
        }
        let afresh = closes[closes.len() - 50..].iter().sum::<f64>() / 50.0;
        assert!((last / afresh - 1.0).abs() < 1e-14, "{last} {afresh}");
    }

    #[test]
    fn momentum_compares_with_one_close_in_the_past() {
        assert_eq!(long_days(Strategy::Momentum { lookback: 2 }, &[5.0, 1.0, 5.0, 2.0, 6.0]), [3, 4]);
    }

    #[test]
    fn rsi_reversion_enters_below_and_leaves_above() {
        // Period 2. Changes -1 -1 +1 +3: RSI at 2: 0 (enter); 3: gain .5, loss .5: 50 (stay); 4: gain 1.75, loss .25: 87.5 (leave).
        let closes = [10.0, 9.0, 8.0, 9.0, 12.0, 12.0];
        assert_eq!(
            long_days(
                Strategy::RsiReversion {
                    period: 2,
                    lower: 30.0,
                    upper: 70.0
                },
                &closes
            ),
            [2, 3]
        );
        assert!(
            long_days(
                Strategy::RsiReversion {
                    period: 2,
                    lower: 30.0,
                    upper: 70.0
                },
                &[3.0; 9]
            )
            .is_empty()
        );
    }

    #[test]
    fn donchian_breakout_leaves_the_channel_of_the_closes_before() {
        let closes = [1.0, 2.0, 3.0, 3.0, 4.0, 3.5, 3.2, 3.0, 9.0];
        // Enters at 3.0 (above 1, 2), holds through 3.2 (the low of the two before 5 is 3, before 6 3.5: leaves).
        assert_eq!(
            long_days(Strategy::DonchianBreakout { entry: 2, exit: 2 }, &closes),
            [2, 3, 4, 5, 8]
        );
    }

    #[test]
    fn a_period_beyond_the_bars_stays_flat() {
        for strategy in [
            Strategy::SmaCross { fast: 1, slow: 10 },
            Strategy::Momentum { lookback: 10 },
            Strategy::RsiReversion {
                period: 10,
                lower: 100.0,
                upper: 100.0,
            },
            Strategy::DonchianBreakout { entry: 10, exit: 1 },
        ] {
            assert!(long_days(strategy, &[1.0, 2.0, 3.0]).is_empty(), "{strategy:?}");
        }
    }
}

//! Figures of an equity curve: 252 days a year, sample standard deviation, risk-free rate 0.

use crate::engine::Trade;

const DAYS_A_YEAR: f64 = 252.0;
/// Returns that are all the same in decimals deviate in their last bits; no market is that calm.
const NO_DEVIATION: f64 = 1e-12;

#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Metrics {
    pub(crate) total_return: f64,
    /// Infinite where the power is too large.
    pub(crate) annual_return: f64,
    pub(crate) annual_volatility: f64,
    pub(crate) sharpe: f64,
    pub(crate) max_drawdown: f64,
}

/// Of a curve with at least two values, the first above 0.
pub(crate) fn of(equity: &[f64]) -> Metrics {
    let returns: Vec<f64> = equity
        .windows(2)
        .map(|pair| if pair[0] > 0.0 { pair[1] / pair[0] - 1.0 } else { 0.0 })
        .collect();
    let count = returns.len() as f64;
    let growth = equity[equity.len() - 1] / equity[0];
    let mean = returns.iter().sum::<f64>() / count;
    let deviation = match returns.len() {
        1 => 0.0,
        _ => (returns.iter().map(|daily| (daily - mean).powi(2)).sum::<f64>() / (count - 1.0)).sqrt(),
    };
    let deviation = if deviation < NO_DEVIATION { 0.0 } else { deviation };
    Metrics {
        total_return: growth - 1.0,
        annual_return: growth.powf(DAYS_A_YEAR / count) - 1.0,
        annual_volatility: deviation * DAYS_A_YEAR.sqrt(),
        sharpe: if deviation > 0.0 {
            mean / deviation * DAYS_A_YEAR.sqrt()
        } else {
            0.0
        },
        max_drawdown: max_drawdown(equity),
    }
}

fn max_drawdown(equity: &[f64]) -> f64 {
    let mut peak = f64::MIN_POSITIVE;
    equity
        .iter()
        .map(|value| {
            peak = peak.max(*value);
            1.0 - value / peak
        })
        .fold(0.0, f64::max)
}

pub(crate) fn win_rate(trades: &[Trade]) -> f64 {
    if trades.is_empty() {
        return 0.0;
    }
    trades.iter().filter(|trade| trade.net_return > 0.0).count() as f64 / trades.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close_to(one: f64, other: f64) {
        assert!((one - other).abs() < 1e-12 * other.abs().max(1.0), "{one} is not {other}");
    }

    #[test]
    fn figures_follow_by_hand() {
        // Returns 0.1, -0.1, 0.1: mean 1/30, sample deviation sqrt(2/150).
        let metrics = of(&[100.0, 110.0, 99.0, 108.9]);
        close_to(metrics.total_return, 0.089);
        close_to(metrics.annual_return, 1.089_f64.powf(84.0) - 1.0);
        let deviation = (2.0_f64 / 150.0).sqrt();
        close_to(metrics.annual_volatility, deviation * 252.0_f64.sqrt());
        close_to(metrics.sharpe, (1.0 / 30.0) / deviation * 252.0_f64.sqrt());
        close_to(metrics.max_drawdown, 0.1);
    }

    #[test]
    fn without_deviation_the_sharpe_ratio_is_zero() {
        for curve in [
            vec![100.0; 5],
            vec![100.0, 110.0],
            (0..40).map(|t| 100.0 * 1.01_f64.powi(t)).collect(),
        ] {
            let metrics = of(&curve);
            assert_eq!((metrics.sharpe, metrics.annual_volatility), (0.0, 0.0), "{curve:?}");
        }
    }

    #[test]
    fn a_ruined_account_has_finite_figures() {
        let metrics = of(&[100.0, 0.0, 0.0]);
        assert_eq!(
            (metrics.total_return, metrics.annual_return, metrics.max_drawdown),
            (-1.0, -1.0, 1.0)
        );
        assert!(metrics.sharpe.is_finite());
    }

    #[test]
    fn no_trades_win_nothing() {
        assert_eq!(win_rate(&[]), 0.0);
    }
}

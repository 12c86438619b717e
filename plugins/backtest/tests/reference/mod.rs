//! The strategies and the account once more, as naively as the documentation reads: every window is summed afresh, every
//! average is computed from the first bar on. Shares no code with the plugin.

use taskhost_sdk::serde_json::Value;

pub(crate) fn positions(strategy: &str, params: &Value, closes: &[f64]) -> Vec<bool> {
    let period = |name: &str| usize::try_from(params[name].as_u64().unwrap()).unwrap();
    let level = |name: &str| params[name].as_f64().unwrap();
    let mut long = false;
    (0..closes.len())
        .map(|t| {
            let past = &closes[..=t];
            long = match strategy {
                "buy_and_hold" => true,
                "sma_cross" => past.len() >= period("slow") && mean_of_last(past, period("fast")) > mean_of_last(past, period("slow")),
                "momentum" => past.len() > period("lookback") && past[t] > past[t - period("lookback")],
                "rsi_reversion" => match rsi(past, period("period")) {
                    None => false,
                    Some(rsi) if long => rsi <= level("upper"),
                    Some(rsi) => rsi < level("lower"),
                },
                _ if long => t < period("exit") || !past[t - period("exit")..t].iter().all(|before| past[t] < *before),
                _ => t >= period("entry") && past[t - period("entry")..t].iter().all(|before| past[t] > *before),
            };
            long
        })
        .collect()
}

fn mean_of_last(past: &[f64], count: usize) -> f64 {
    past[past.len() - count..].iter().sum::<f64>() / count as f64
}

fn rsi(past: &[f64], period: usize) -> Option<f64> {
    let changes: Vec<f64> = past.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let (first, rest) = changes.split_at_checked(period)?;
    let smoothed = |part: fn(f64) -> f64| {
        let seed = first.iter().map(|change| part(*change)).sum::<f64>() / period as f64;
        rest.iter()
            .fold(seed, |average, change| average + (part(*change) - average) / period as f64)
    };
    let (gain, loss) = (smoothed(|change| change.max(0.0)), smoothed(|change| (-change).max(0.0)));
    Some(if gain == 0.0 && loss == 0.0 {
        50.0
    } else {
        100.0 - 100.0 / (1.0 + gain / loss)
    })
}

pub(crate) fn curve(positions: &[bool], closes: &[f64], cash: f64, fee: f64) -> Vec<f64> {
    let mut curve = vec![cash];
    for t in 0..closes.len() - 1 {
        let changes = positions[t] != (t > 0 && positions[t - 1]);
        let paid = if changes { curve[t] * (1.0 - fee) } else { curve[t] };
        let earned = if positions[t] { closes[t + 1] / closes[t] - 1.0 } else { 0.0 };
        curve.push(paid * (1.0 + earned));
    }
    curve
}

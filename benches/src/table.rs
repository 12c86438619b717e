//! Figures as rows of a table: the median and the range of some runs, beside others and with the ratio.

use crate::load::Sample;
use anyhow::Result;

/// The shares that are shown of many values, in thousandths.
pub(crate) const PERCENTILES: [(usize, &str); 2] = [(500, "p50"), (990, "p99")];
/// Runs of each figure, where a run is short.
pub(crate) const RUNS: usize = 3;

/// Some values, sorted.
#[derive(Clone)]
pub(crate) struct Runs(Vec<f64>);

impl Runs {
    pub(crate) fn of(run: impl FnMut(usize) -> Result<f64>) -> Result<Self> {
        Ok(Self::sorted((0..RUNS).map(run).collect::<Result<_>>()?))
    }

    pub(crate) fn sorted(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        Self(values)
    }

    pub(crate) fn one(value: f64) -> Self {
        Self(vec![value])
    }

    pub(crate) fn median(&self) -> f64 {
        self.at(500)
    }

    /// The value that so many of a thousand are not above; not a number where there are none.
    pub(crate) fn at(&self, per_mille: usize) -> f64 {
        let place = self.0.len() * per_mille / 1_000;
        self.0.get(place).or(self.0.last()).copied().unwrap_or(f64::NAN)
    }

    fn text(&self, digits: usize) -> String {
        match self.0.as_slice() {
            [only] => format!("{only:.digits$}"),
            values => format!(
                "{:.digits$} ({:.digits$} to {:.digits$})",
                self.median(),
                self.at(0),
                values[values.len() - 1]
            ),
        }
    }
}

/// Begins a table: what its rows are, and what they are held against.
pub(crate) fn header([ours, other]: [&str; 2]) {
    println!("\n| case | connections | {ours} | {other} | ratio |\n|---|---|---|---|---|");
}

/// A figure beside another.
pub(crate) fn row(case: &str, connections: usize, digits: usize, ours: &Runs, other: &Runs) {
    let ratio = ours.median() / other.median();
    println!(
        "| {case} | {connections} | {} | {} | {ratio:.2} |",
        ours.text(digits),
        other.text(digits)
    );
}

/// A figure that is held against nothing.
pub(crate) fn alone(case: &str, connections: usize, digits: usize, ours: &Runs) {
    println!("| {case} | {connections} | {} | | |", ours.text(digits));
}

/// A figure of the other column only.
pub(crate) fn beside(case: &str, connections: usize, digits: usize, other: &Runs) {
    println!("| {case} | {connections} | | {} | |", other.text(digits));
}

/// As [`alone`], for what is a sentence and no number.
pub(crate) fn told(case: &str, ours: &str) {
    println!("| {case} | | {ours} | | |");
}

/// A figure of a sample: its name, its digits and how it is read.
type Figure = (&'static str, usize, fn(&Sample) -> f64);

/// The rate and the times of answers, beside others.
pub(crate) fn samples(case: &str, connections: usize, [ours, other]: &[Vec<Sample>; 2]) {
    let of = |samples: &[Sample], value: fn(&Sample) -> f64| Runs::sorted(samples.iter().map(value).collect());
    let figures: [Figure; 4] = [
        ("per s", 0, |sample| sample.per_second),
        ("answer p50, ms", 2, |sample| sample.p50),
        ("answer p99, ms", 2, |sample| sample.p99),
        ("answer p99.9, ms", 2, |sample| sample.p999),
    ];
    for (name, digits, value) in figures {
        row(&format!("{case}, {name}"), connections, digits, &of(ours, value), &of(other, value));
    }
}

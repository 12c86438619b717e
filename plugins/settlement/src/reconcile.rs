//! Our obligations against the custodians' statements.
//!
//! Whose books are compared: every party that is the `account` of a trade (ours, so a statement is due) or that a
//! statement names. A mere counterparty keeps its books elsewhere.

use crate::{
    amount::Amount,
    input::{Checked, CheckedLine},
    netting::Net,
};
use chrono::NaiveDate;
use std::collections::{BTreeMap, BTreeSet};
use taskhost_sdk::prelude::*;

/// How the two sides differ.
#[derive(Serialize, JsonSchema, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(rename_all = "snake_case")]
pub enum BreakKind {
    /// The trades net to something that no statement reports.
    MissingInStatements,
    /// A statement reports a movement of which no trade is known.
    MissingInTrades,
    /// Both sides know the movement, with different amounts.
    AmountMismatch,
}

/// One difference between the trades and the statements.
#[derive(Serialize, JsonSchema, Clone, PartialEq, Eq, Debug)]
pub struct Break {
    /// How they differ.
    pub kind: BreakKind,
    /// Whose movement.
    pub account: String,
    /// Of what: a currency or an instrument.
    pub asset: String,
    /// `YYYY-MM-DD`.
    pub settlement_date: String,
    /// What the trades net to, an exact decimal; null where there are none.
    pub expected: Option<String>,
    /// What the statements sum to, an exact decimal; null where they have no line.
    pub reported: Option<String>,
    /// Reported − expected, with what is missing as 0.
    pub difference: String,
}

/// What came of it.
#[derive(Default, Debug)]
pub(crate) struct Comparison {
    pub(crate) breaks: Vec<Break>,
    pub(crate) matched: usize,
}

/// In this order breaks are reported.
type Key<'a> = (NaiveDate, &'a str, &'a str);

pub(crate) fn compare<'a>(checked: &Checked<'a>, net: &Net<'a>, lines: &[CheckedLine<'a>]) -> Comparison {
    let is_due = |date: NaiveDate| checked.through.is_none_or(|through| date <= through);
    let reconciled: BTreeSet<&str> = checked
        .trades
        .iter()
        .map(|trade| trade.account)
        .chain(lines.iter().map(|line| line.account))
        .collect();
    let mut sides: BTreeMap<Key<'a>, (Option<Amount>, Option<Amount>)> = BTreeMap::new();
    for (key, position) in &net.positions {
        if is_due(key.settlement_date) && reconciled.contains(key.account) {
            // No asset is both a currency and an instrument, so its name is enough.
            sides.entry((key.settlement_date, key.account, key.asset)).or_default().0 = Some(position.amount);
        }
    }
    for line in lines.iter().filter(|line| is_due(line.settlement_date)) {
        let (_, reported) = sides.entry((line.settlement_date, line.account, line.asset)).or_default();
        *reported.get_or_insert(Amount::ZERO) += line.amount;
    }
    let mut comparison = Comparison::default();
    for ((date, account, asset), (expected, reported)) in sides {
        let difference = reported.unwrap_or_default() - expected.unwrap_or_default();
        if difference == Amount::ZERO {
            // Trades that net to zero need no line; they agree by silence and count as nothing.
            comparison.matched += usize::from(expected.is_some() && reported.is_some());
            continue;
        }
        let kind = match (expected, reported) {
            (_, None) => BreakKind::MissingInStatements,
            (None, _) => BreakKind::MissingInTrades,
            _ => BreakKind::AmountMismatch,
        };
        comparison.breaks.push(Break {
            kind,
            account: account.to_owned(),
            asset: asset.to_owned(),
            settlement_date: date.to_string(),
            expected: expected.map(|amount| amount.to_string()),
            reported: reported.map(|amount| amount.to_string()),
            difference: difference.to_string(),
        });
    }
    comparison
}

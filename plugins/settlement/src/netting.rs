//! From trades to obligations: what each party receives or delivers of each asset on each settlement date.

use crate::{
    amount::Amount,
    input::{CHECK_EVERY, CheckedTrade},
};
use chrono::NaiveDate;
use std::collections::BTreeMap;
use taskhost_sdk::prelude::*;

/// What moves.
#[derive(Serialize, JsonSchema, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[serde(rename_all = "lowercase")]
pub enum AssetType {
    /// A currency.
    Cash,
    /// An instrument.
    Security,
}

/// What one party receives or delivers. Over all parties the amounts of an asset and date sum to zero.
#[derive(Serialize, JsonSchema, Clone, PartialEq, Eq, Debug)]
pub struct Obligation {
    /// An account or a counterparty of the trades.
    pub account: String,
    /// Whether `asset` is a currency or an instrument.
    pub asset_type: AssetType,
    /// The currency or instrument.
    pub asset: String,
    /// `YYYY-MM-DD`.
    pub settlement_date: String,
    /// An exact decimal: received above 0, delivered below 0.
    pub amount: String,
    /// How many trades it nets.
    pub trades: usize,
}

/// In this order obligations are reported.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Key<'a> {
    pub(crate) settlement_date: NaiveDate,
    pub(crate) account: &'a str,
    pub(crate) asset_type: AssetType,
    pub(crate) asset: &'a str,
}

/// The net of a key.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Position {
    pub(crate) amount: Amount,
    pub(crate) trades: usize,
}

/// What all parties of the trades owe, and what is owed to them.
#[derive(Default, Debug)]
pub(crate) struct Net<'a> {
    pub(crate) positions: BTreeMap<Key<'a>, Position>,
}

impl<'a> Net<'a> {
    fn receive(&mut self, key: Key<'a>, amount: Amount) {
        let position = self.positions.entry(key).or_default();
        position.amount += amount;
        position.trades += 1;
    }
}

pub(crate) fn net<'a>(ctx: &Context, trades: &[CheckedTrade<'a>]) -> TaskResult<Net<'a>> {
    let mut net = Net::default();
    for (index, trade) in trades.iter().enumerate() {
        if index % CHECK_EVERY == 0 {
            ctx.check_cancelled()?;
            ctx.progress(index as u64, trades.len() as u64, "netting");
        }
        let movements = [
            (AssetType::Security, trade.instrument, trade.quantity),
            (AssetType::Cash, trade.currency, trade.cash),
        ];
        for (asset_type, asset, amount) in movements {
            let key = |account| Key {
                settlement_date: trade.settlement_date,
                account,
                asset_type,
                asset,
            };
            net.receive(key(trade.account), amount);
            net.receive(key(trade.counterparty), -amount);
        }
    }
    Ok(net)
}

/// What is left to move: nets of zero are not.
pub(crate) fn obligations(net: &Net<'_>) -> Vec<Obligation> {
    net.positions
        .iter()
        .filter(|(_, position)| position.amount != Amount::ZERO)
        .map(|(key, position)| Obligation {
            account: key.account.to_owned(),
            asset_type: key.asset_type,
            asset: key.asset.to_owned(),
            settlement_date: key.settlement_date.to_string(),
            amount: position.amount.to_string(),
            trades: position.trades,
        })
        .collect()
}

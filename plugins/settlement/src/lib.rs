//! `settlement`: nets trades into what each party has to deliver and receives on each settlement date, and reconciles
//! that with what custodians reported.
//!
//! Everything is exact: quantities, prices and amounts are decimals in JSON texts, and nothing is ever rounded. Every
//! trade gives to one party what it takes from the other, so the obligations of each asset and date sum to zero over all
//! parties. The task only computes: the same input gives the same output, byte for byte, whatever the order of its trades.
//!
//! `input` turns what was submitted into trades or says what is wrong with it, `amount` is the exact decimal, `calendar`
//! counts business days, `netting` adds up, `reconcile` compares.

mod amount;
mod calendar;
mod input;
mod netting;
mod reconcile;

pub use input::{Figure, Input, SettlementCycle, StatementLine, Trade};
pub use netting::{AssetType, Obligation};
pub use reconcile::{Break, BreakKind};

use taskhost_sdk::prelude::*;

/// What is owed, and where the custodians disagree.
#[derive(Serialize, JsonSchema, Clone, PartialEq, Debug)]
pub struct Settlement {
    /// One per account, asset and settlement date whose net is not zero, ordered by date, account, cash before securities, asset.
    pub obligations: Vec<Obligation>,
    /// Where statements and obligations differ, ordered by date, account, asset. Empty without statements.
    pub breaks: Vec<Break>,
    /// Counts.
    pub summary: Summary,
}

/// Counts of what went in and came out.
#[derive(Serialize, JsonSchema, Clone, PartialEq, Eq, Debug)]
pub struct Summary {
    /// Trades netted.
    pub trades: usize,
    /// Deliveries before netting: two parties, cash and security each.
    pub gross_obligations: usize,
    /// Deliveries after netting.
    pub net_obligations: usize,
    /// Statement lines read.
    pub statement_lines: usize,
    /// Pairs of obligation and statement that agree.
    pub matched: usize,
    /// Those that do not, and those without a partner.
    pub breaks: usize,
}

/// Nets trades into obligations at T+n in exact decimals, and reports where custodians' statements differ.
#[task(timeout = 60, tags = ["post-trade"])]
pub fn settlement(ctx: &Context, input: Input) -> TaskResult<Settlement> {
    let checked = input::check(ctx, &input)?;
    let net = netting::net(ctx, &checked.trades)?;
    let comparison = checked
        .statements
        .as_ref()
        .map(|lines| reconcile::compare(&checked, &net, lines))
        .unwrap_or_default();
    let obligations = netting::obligations(&net);
    let summary = Summary {
        trades: checked.trades.len(),
        gross_obligations: 4 * checked.trades.len(),
        net_obligations: obligations.len(),
        statement_lines: checked.statements.as_ref().map_or(0, Vec::len),
        matched: comparison.matched,
        breaks: comparison.breaks.len(),
    };
    log::info!(trades = summary.trades, obligations = summary.net_obligations, breaks = summary.breaks; "settlement done");
    Ok(Settlement {
        obligations,
        breaks: comparison.breaks,
        summary,
    })
}

plugin!(settlement);

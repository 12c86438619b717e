//! From what was submitted to trades that can be netted: every rule about values, each with a pointer to what breaks it.

use crate::{amount::Amount, calendar::Calendar};
use business_days::parse_date;
use chrono::NaiveDate;
use std::collections::{BTreeMap, BTreeSet};
use taskhost_sdk::{InputErrors, prelude::*};

/// Sums of so many amounts stay exact; see `amount`.
const MAX_TRADES: usize = 100_000;
const MAX_HOLIDAYS: usize = 10_000;
/// No market settles later.
const MAX_DAYS: u32 = 30;
const MAX_NAME: usize = 128;
/// How often a loop looks up from its work.
pub(crate) const CHECK_EVERY: usize = 1024;

/// Trades to settle, and optionally what custodians reported.
#[derive(Deserialize, JsonSchema, Clone, Debug)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// At most 100,000, in any order.
    pub trades: Vec<Trade>,
    /// How many business days after the trade cash and securities move.
    pub settlement_cycle: SettlementCycle,
    /// What custodians reported: at most 100,000 lines, in any order. Absent: nothing is reconciled. Empty: they reported
    /// nothing, so everything is missing.
    pub statements: Option<Vec<StatementLine>>,
    /// `YYYY-MM-DD`: reconcile settlement dates up to this one only, since custodians cannot report the future yet.
    #[schemars(extend("format" = "date"))]
    pub reconcile_through: Option<String>,
}

/// One trade between two parties.
#[derive(Deserialize, JsonSchema, Clone, Debug)]
#[serde(deny_unknown_fields)]
pub struct Trade {
    /// Unique among the trades.
    pub trade_id: String,
    /// Whose side `side` tells.
    pub account: String,
    /// The other party; not the account itself.
    pub counterparty: String,
    /// What is traded. Its name is not that of a currency in the same input.
    pub instrument: String,
    /// `buy`: the account receives the instrument and pays. `sell`: the other way round.
    #[schemars(with = "Side")]
    pub side: String,
    /// Above 0: a text such as `"100"` or `"0.25"`, or a whole number. At most 18 decimals, below 10¹⁴.
    #[schemars(with = "Written")]
    pub quantity: Figure,
    /// Above 0, per unit, written as `quantity` is. Quantity × price must be exact within 18 decimals.
    #[schemars(with = "Written")]
    pub price: Figure,
    /// What is paid.
    pub currency: String,
    /// `YYYY-MM-DD`; a day that is no business day counts as the next one.
    #[schemars(extend("format" = "date"))]
    pub trade_date: String,
}

/// T+n.
#[derive(Deserialize, JsonSchema, Clone, Debug)]
#[serde(deny_unknown_fields)]
pub struct SettlementCycle {
    /// n: business days after the trade date, 0 to 30.
    pub days: u32,
    /// `YYYY-MM-DD`: not business days, as Saturdays and Sundays never are. At most 10,000.
    #[serde(default)]
    pub holidays: Vec<String>,
}

/// One movement that a custodian reported. Lines of the same account, asset and date are added up.
#[derive(Deserialize, JsonSchema, Clone, Debug)]
#[serde(deny_unknown_fields)]
pub struct StatementLine {
    /// Whose movement it is.
    pub account: String,
    /// A currency or an instrument.
    pub asset: String,
    /// `YYYY-MM-DD`.
    #[schemars(extend("format" = "date"))]
    pub settlement_date: String,
    /// Received above 0, delivered below 0; written as `quantity` is.
    #[schemars(with = "Written")]
    pub amount: Figure,
}

/// How the account trades.
#[derive(Deserialize, JsonSchema, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(rename_all = "lowercase")]
enum Side {
    Buy,
    Sell,
}

/// A decimal as it is written in JSON.
#[derive(JsonSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "only described")]
enum Written {
    Text(String),
    Whole(i64),
}

/// A decimal that was read, or why it cannot be: so that all that is wrong with an input is reported at once.
#[derive(Deserialize, Clone, PartialEq, Debug)]
#[serde(from = "taskhost_sdk::serde_json::Value")]
pub struct Figure(Result<Amount, String>);

impl From<taskhost_sdk::serde_json::Value> for Figure {
    fn from(value: taskhost_sdk::serde_json::Value) -> Self {
        use taskhost_sdk::serde_json::Value;
        Self(match value {
            Value::String(text) => Amount::parse(&text),
            Value::Number(number) if number.is_i64() || number.is_u64() => Amount::parse(&number.to_string()),
            Value::Number(number) => Err(format!("write it as a text, \"{number}\": a JSON number with a point is not exact")),
            _ => Err("must be a decimal number in a text, such as \"12.5\"".to_owned()),
        })
    }
}

/// What can be netted.
#[derive(Debug)]
pub(crate) struct Checked<'a> {
    pub(crate) trades: Vec<CheckedTrade<'a>>,
    pub(crate) statements: Option<Vec<CheckedLine<'a>>>,
    pub(crate) through: Option<NaiveDate>,
}

/// A trade as movements: both amounts are what the account receives.
#[derive(Debug)]
pub(crate) struct CheckedTrade<'a> {
    pub(crate) account: &'a str,
    pub(crate) counterparty: &'a str,
    pub(crate) instrument: &'a str,
    pub(crate) currency: &'a str,
    pub(crate) settlement_date: NaiveDate,
    pub(crate) quantity: Amount,
    pub(crate) cash: Amount,
}

#[derive(Debug)]
pub(crate) struct CheckedLine<'a> {
    pub(crate) account: &'a str,
    pub(crate) asset: &'a str,
    pub(crate) settlement_date: NaiveDate,
    pub(crate) amount: Amount,
}

pub(crate) fn check<'a>(ctx: &Context, input: &'a Input) -> TaskResult<Checked<'a>> {
    let mut errors = InputErrors::default();
    let calendar = check_cycle(&input.settlement_cycle, &mut errors);
    let through = input
        .reconcile_through
        .as_deref()
        .and_then(|text| date(text, "/reconcile_through", &mut errors));
    if input.trades.len() > MAX_TRADES {
        errors.add("/trades", format!("has more than {MAX_TRADES} trades"));
    }
    let mut trades = Vec::with_capacity(input.trades.len());
    let mut ids: BTreeMap<&str, usize> = BTreeMap::new();
    let currencies: BTreeSet<&str> = input.trades.iter().map(|trade| trade.currency.as_str()).collect();
    for (index, trade) in input.trades.iter().enumerate() {
        if errors.is_full() {
            break;
        }
        if index % CHECK_EVERY == 0 {
            ctx.check_cancelled()?;
        }
        let at = format!("/trades/{index}");
        if let Some(first) = ids.insert(&trade.trade_id, index) {
            errors.add(
                format!("{at}/trade_id"),
                format!("`{:.128}` is also the id of /trades/{first}", trade.trade_id),
            );
        }
        if currencies.contains(trade.instrument.as_str()) {
            errors.add(
                format!("{at}/instrument"),
                format!("`{:.128}` is also a currency here", trade.instrument),
            );
        }
        trades.extend(check_trade(trade, &at, &calendar, &mut errors));
    }
    let statements = input.statements.as_ref().map(|lines| check_statements(lines, &mut errors));
    errors.finish()?;
    Ok(Checked {
        trades,
        statements,
        through,
    })
}

fn check_cycle(cycle: &SettlementCycle, errors: &mut InputErrors) -> Calendar {
    let mut calendar = Calendar::default();
    if cycle.days > MAX_DAYS {
        errors.add("/settlement_cycle/days", format!("must be from 0 to {MAX_DAYS}"));
    } else {
        calendar.days = cycle.days;
    }
    if cycle.holidays.len() > MAX_HOLIDAYS {
        errors.add("/settlement_cycle/holidays", format!("has more than {MAX_HOLIDAYS} dates"));
    }
    for (index, text) in cycle.holidays.iter().take(MAX_HOLIDAYS).enumerate() {
        calendar
            .holidays
            .extend(date(text, &format!("/settlement_cycle/holidays/{index}"), errors));
    }
    calendar
}

/// Looks at every member, so that each mistake is reported; none where there was one.
fn check_trade<'a>(trade: &'a Trade, at: &str, calendar: &Calendar, errors: &mut InputErrors) -> Option<CheckedTrade<'a>> {
    name(&trade.trade_id, &format!("{at}/trade_id"), errors);
    let account = name(&trade.account, &format!("{at}/account"), errors);
    let counterparty = name(&trade.counterparty, &format!("{at}/counterparty"), errors);
    let instrument = name(&trade.instrument, &format!("{at}/instrument"), errors);
    let currency = name(&trade.currency, &format!("{at}/currency"), errors);
    if account.is_some() && account == counterparty {
        errors.add(format!("{at}/counterparty"), "is the account itself");
    }
    let side = match trade.side.as_str() {
        "buy" => Some(Side::Buy),
        "sell" => Some(Side::Sell),
        other => {
            errors.add(format!("{at}/side"), format!("`{other:.40}` is neither buy nor sell"));
            None
        }
    };
    let quantity = positive(&trade.quantity, &format!("{at}/quantity"), errors);
    let price = positive(&trade.price, &format!("{at}/price"), errors);
    let trade_date = date(&trade.trade_date, &format!("{at}/trade_date"), errors);
    let (quantity, price) = quantity.zip(price)?;
    let paid = quantity
        .times(price)
        .map_err(|detail| errors.add(format!("{at}/price"), format!("quantity × price {detail}")))
        .ok()?;
    let (quantity, cash) = match side? {
        Side::Buy => (quantity, -paid),
        Side::Sell => (-quantity, paid),
    };
    Some(CheckedTrade {
        account: account?,
        counterparty: counterparty?,
        instrument: instrument?,
        currency: currency?,
        settlement_date: calendar.settlement_date(trade_date?),
        quantity,
        cash,
    })
}

fn check_statements<'a>(lines: &'a [StatementLine], errors: &mut InputErrors) -> Vec<CheckedLine<'a>> {
    if lines.len() > MAX_TRADES {
        errors.add("/statements", format!("has more than {MAX_TRADES} lines"));
    }
    let mut checked = Vec::with_capacity(lines.len());
    for (index, line) in lines.iter().enumerate() {
        if errors.is_full() {
            break;
        }
        let at = format!("/statements/{index}");
        let account = name(&line.account, &format!("{at}/account"), errors);
        let asset = name(&line.asset, &format!("{at}/asset"), errors);
        let settlement_date = date(&line.settlement_date, &format!("{at}/settlement_date"), errors);
        let amount = figure(&line.amount, &format!("{at}/amount"), errors);
        if let (Some(account), Some(asset), Some(settlement_date), Some(amount)) = (account, asset, settlement_date, amount) {
            checked.push(CheckedLine {
                account,
                asset,
                settlement_date,
                amount,
            });
        }
    }
    checked
}

/// Names tell parties apart, so what looks the same must be the same: no space around, nothing invisible.
fn name<'a>(text: &'a str, pointer: &str, errors: &mut InputErrors) -> Option<&'a str> {
    let detail = match text {
        "" => "is empty".to_owned(),
        long if long.chars().count() > MAX_NAME => format!("is longer than {MAX_NAME} characters"),
        text if text.trim() != text => "has space around it".to_owned(),
        text if text.chars().any(char::is_control) => "has control characters".to_owned(),
        text => return Some(text),
    };
    errors.add(pointer, detail);
    None
}

fn date(text: &str, pointer: &str, errors: &mut InputErrors) -> Option<NaiveDate> {
    parse_date(text).map_err(|detail| errors.add(pointer, detail)).ok()
}

fn figure(figure: &Figure, pointer: &str, errors: &mut InputErrors) -> Option<Amount> {
    figure
        .0
        .as_ref()
        .map_err(|detail| errors.add(pointer, detail.as_str()))
        .ok()
        .copied()
}

fn positive(written: &Figure, pointer: &str, errors: &mut InputErrors) -> Option<Amount> {
    let amount = figure(written, pointer, errors)?;
    if !amount.is_positive() {
        errors.add(pointer, format!("must be above 0, is {amount}"));
        return None;
    }
    Some(amount)
}

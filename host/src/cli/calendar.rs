//! `calendar`: on which days a market is open.

use super::client::{Client, segment};
use super::list::{Page, done, show};
use super::table::{self, As, Column};
use super::{Failure, json, print, print_raw};
use clap::Subcommand;
use serde_json::Value;

const SESSIONS_EXAMPLES: &str = "Examples:
  taskhost calendar sessions XNYS --from 2026-11-23 --to 2026-11-30
  taskhost calendar sessions XTKS --json";

const PUT_EXAMPLES: &str = "Examples:
  taskhost calendar show XLON --json > xlon.json
  taskhost calendar put XLON xlon.json

Under the name of a calendar that ships, yours goes before it until you remove it.";

const SETTLES_EXAMPLES: &str = "Examples:
  taskhost calendar settles TARGET2 2026-12-23
  taskhost calendar settles XNYS 2026-11-25 --days 1";

/// What `calendar` understands.
#[derive(Debug, Subcommand)]
pub(super) enum Calendar {
    /// List the calendars.
    List(Page),
    /// Show a calendar.
    Show {
        /// Its name.
        name: String,
    },
    /// List the sessions of a calendar.
    #[command(after_help = SESSIONS_EXAMPLES)]
    Sessions {
        /// Its name.
        name: String,
        /// The first date [default: today].
        #[arg(long, value_name = "DATE")]
        from: Option<String>,
        /// The last date [default: 30 days after the first].
        #[arg(long, value_name = "DATE")]
        to: Option<String>,
    },
    /// Tell when a trade settles.
    #[command(after_help = SETTLES_EXAMPLES)]
    Settles {
        /// The calendar's name.
        name: String,
        /// The day of the trade [default: today].
        trade_date: Option<String>,
        /// The n of T+n.
        #[arg(long, value_name = "N", default_value_t = 2)]
        days: u32,
    },
    /// Put a calendar under a name, or the next version of it.
    #[command(after_help = PUT_EXAMPLES)]
    Put {
        /// Its name.
        name: String,
        /// The calendar, a JSON object: FILE or @FILE, itself, or - for stdin.
        #[arg(value_name = "FILE|JSON|-", allow_hyphen_values = true)]
        calendar: String,
    },
    /// Remove a calendar that was put.
    Remove {
        /// Its name.
        name: String,
    },
}

const CALENDARS: &[Column] = &[
    ("NAME", &["name"], As::Text(40)),
    ("ORIGIN", &["origin"], As::Text(8)),
    ("TIMEZONE", &["timezone"], As::Text(32)),
    ("OFFICIAL UNTIL", &["official_until"], As::Text(10)),
    ("HOLIDAYS", &["holidays"], As::Text(8)),
    ("UPDATED", &["updated_at"], As::Time),
    ("DESCRIPTION", &["description"], As::Text(70)),
];

const SESSIONS: &[Column] = &[
    ("DATE", &["date"], As::Text(10)),
    ("OPEN", &["open"], As::Time),
    ("CLOSE", &["close"], As::Time),
    ("LOCAL OPEN", &["open_local"], As::Text(25)),
    ("LOCAL CLOSE", &["close_local"], As::Text(25)),
    ("EARLY", &["early_close"], As::Text(5)),
    ("OFFICIAL", &["official"], As::Text(5)),
];

/// The members of a calendar that are too long for a person; the table of sessions says what they amount to.
const LISTS: [&str; 4] = ["holidays", "early_closes", "late_opens", "special_sessions"];

impl Calendar {
    pub(super) fn run(self, client: &Client) -> Result<(), Failure> {
        let at = |name: &str, rest: &str| format!("/calendar/{}{rest}", segment(name));
        match self {
            Self::List(page) => {
                let limit = page.limit();
                let answer = client.get("/calendars", &[("limit", limit.as_deref()), ("cursor", page.cursor())])?;
                show(client, &answer, CALENDARS, "no calendar")
            }
            Self::Show { name } => describe(client, &client.get(&at(&name, ""), &[])?.bytes),
            Self::Sessions { name, from, to } => {
                let query = [("from", from.as_deref()), ("to", to.as_deref())];
                show(client, &client.get(&at(&name, "/sessions"), &query)?, SESSIONS, "no session")
            }
            Self::Settles { name, trade_date, days } => {
                let days = days.to_string();
                let query = [("trade_date", trade_date.as_deref()), ("days", Some(days.as_str()))];
                let answer = client.get(&at(&name, "/settlement-date"), &query)?;
                if client.json {
                    return print_raw(&answer.bytes);
                }
                print(&table::shown(As::Text(10), &answer.value()?["settlement_date"]))
            }
            Self::Put { name, calendar } => {
                let document = json::document("the calendar", &calendar)?;
                let answer = client.put(&at(&name, ""), "application/json", document.get().as_bytes())?;
                describe(client, &answer.bytes)
            }
            Self::Remove { name } => done(client, &client.delete(&at(&name, ""), &[])?, "removed", &name),
        }
    }
}

/// Prints a calendar, for a person with the length of its lists.
fn describe(client: &Client, calendar: &[u8]) -> Result<(), Failure> {
    if client.json {
        return print_raw(calendar);
    }
    let order = ["name", "description", "timezone", "weekend", "official_until"];
    let without: Vec<&str> = LISTS.into_iter().chain(["hours"]).collect();
    table::record(calendar, &order, &without)?;
    let calendar: Value = serde_json::from_slice(calendar).map_err(anyhow::Error::from)?;
    for hours in calendar["hours"].as_array().into_iter().flatten() {
        print(&format!("hours: {}", table::plain(&told(hours))))?;
    }
    for list in LISTS {
        let count = calendar[list].as_array().map_or(0, Vec::len);
        print(&format!("{}: {count}", list.replace('_', " ")))?;
    }
    Ok(())
}

/// Regular hours as one reads them: `from 2024-11-05: 09:00 to 15:30, break 11:30 to 12:30`.
fn told(hours: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let pause = &hours["break"];
    let pause = match pause.is_object() {
        true => format!(", break {} to {}", text(&pause["start"]), text(&pause["end"])),
        false => String::new(),
    };
    format!(
        "from {}: {} to {}{pause}",
        text(&hours["from"]),
        text(&hours["open"]),
        text(&hours["close"])
    )
}

#[cfg(test)]
mod tests {
    use super::told;
    use serde_json::json;

    #[test]
    fn hours_are_a_line() {
        let hours = json!({"from": "2024-11-05", "open": "09:00", "close": "15:30", "break": {"start": "11:30", "end": "12:30"}});
        assert_eq!(told(&hours), "from 2024-11-05: 09:00 to 15:30, break 11:30 to 12:30");
        let hours = json!({"from": "2000-01-01", "open": "09:30", "close": "16:00", "break": null});
        assert_eq!(told(&hours), "from 2000-01-01: 09:30 to 16:00");
    }
}

//! What all lists have in common: pages, and a word where there is nothing or more.

use super::answer::Answer;
use super::client::Client;
use super::table::{self, Column};
use super::{Failure, print, print_raw, tell};
use clap::Args;

/// A part of a list.
#[derive(Debug, Args)]
pub(super) struct Page {
    /// At most so many.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1_000))]
    limit: Option<u16>,
    /// Go on where the page before ended.
    #[arg(long, value_name = "CURSOR")]
    cursor: Option<String>,
}

impl Page {
    pub(super) fn limit(&self) -> Option<String> {
        self.limit.map(|limit| limit.to_string())
    }

    pub(super) fn cursor(&self) -> Option<&str> {
        self.cursor.as_deref()
    }
}

/// Prints a list, and on stderr that it is empty or goes on.
pub(super) fn show(client: &Client, answer: &Answer, columns: &[Column], none: &str) -> Result<(), Failure> {
    if client.json {
        print_raw(&answer.bytes)?;
    } else {
        let rows = answer.list()?;
        if rows.is_empty() {
            tell(none);
        } else {
            table::list(columns, &rows)?;
        }
    }
    answer.tell_next();
    Ok(())
}

/// Says that something was done to what has this id or name.
pub(super) fn done(client: &Client, answer: &Answer, what: &str, id: &str) -> Result<(), Failure> {
    if client.json {
        print_raw(&answer.bytes)
    } else {
        print(&format!("{what} {}", table::plain(id)))
    }
}

//! Calendars that users put, over those that ship.
//!
//! A calendar is asked at every fire of a schedule that goes by it, and reading its text takes longer than finding its row: what was
//! read is kept by its revision, which no other text ever has.

use super::rows::{from_micros, micros};
use super::schedules;
use super::writer::Tx;
use super::{Failed, Readers};
use crate::model::Time;
use crate::model::calendar::{Calendar, shipped};
use crate::store::{MAX_CALENDARS, NamedCalendar, Result, StoreError};
use rusqlite::{Connection, OptionalExtension, params};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Calendars kept as read. Names of removed ones stay until so many are; then all are read anew.
const MAX_READ: usize = MAX_CALENDARS;

pub(super) fn put(tx: &mut Tx<'_>, calendar: &Calendar, now: Time) -> Result<bool> {
    let document = serde_json::to_string(calendar.document()).map_err(|error| StoreError::Unavailable(error.to_string()))?;
    let (others, is_known): (i64, bool) = tx
        .db
        .prepare_cached("SELECT COUNT(*) FILTER (WHERE name <> ?1), COUNT(*) FILTER (WHERE name = ?1) FROM calendar")
        .and_then(|mut s| s.query_row([calendar.name()], |row| Ok((row.get(0)?, row.get(1)?))))
        .failed()?;
    if usize::try_from(others).is_ok_and(|others| others >= MAX_CALENDARS) {
        return Err(StoreError::Conflict(format!(
            "{MAX_CALENDARS} calendars are kept, and no more; remove one that nothing goes by"
        )));
    }
    tx.db
        .prepare_cached("INSERT OR REPLACE INTO calendar (name, document, updated_at) VALUES (?1, ?2, ?3)")
        .and_then(|mut s| s.execute(params![calendar.name(), document, micros(now)]))
        .failed()?;
    Ok(!is_known)
}

pub(super) fn remove(tx: &mut Tx<'_>, name: &str) -> Result<()> {
    if let (None, Some(schedule)) = (shipped::get(name), schedules::goes_by(tx.db, name)?) {
        return Err(StoreError::Conflict(format!(
            "schedule {schedule:?} goes by the calendar {name:?}; give it another one, or remove it, first"
        )));
    }
    let removed = tx
        .db
        .prepare_cached("DELETE FROM calendar WHERE name = ?1")
        .and_then(|mut s| s.execute([name]))
        .failed()?;
    if removed == 0 { Err(StoreError::NotFound) } else { Ok(()) }
}

/// A row: its revision, when it was put, and its text where the reader does not have it.
type Row = (i64, i64, Option<String>);

fn row(db: &Connection, name: &str, read: i64) -> Result<Option<Row>> {
    db.prepare_cached("SELECT revision, updated_at, CASE WHEN revision <> ?2 THEN document END FROM calendar WHERE name = ?1")
        .and_then(|mut s| {
            s.query_row(params![name, read], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
                .optional()
        })
        .failed()
}

fn names(db: &Connection) -> Result<Vec<String>> {
    db.prepare_cached("SELECT name FROM calendar ORDER BY name")
        .and_then(|mut s| s.query_map([], |row| row.get(0)).and_then(Iterator::collect))
        .failed()
}

/// What was read of the table, by name and with its revision.
#[derive(Default)]
pub(super) struct Read(Mutex<HashMap<String, (i64, Arc<Calendar>)>>);

impl Read {
    fn kept(&self) -> MutexGuard<'_, HashMap<String, (i64, Arc<Calendar>)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) async fn one(&self, readers: &Arc<Readers>, name: &str) -> Result<NamedCalendar> {
        let kept = self.kept().get(name).cloned();
        let read = kept.as_ref().map_or(0, |(revision, _)| *revision);
        let asked = name.to_owned();
        let found = readers.ask(move |db| row(db, &asked, read)).await?;
        let Some((revision, updated_at, document)) = found else {
            let calendar = shipped::get(name).ok_or(StoreError::NotFound)?;
            return Ok(NamedCalendar {
                calendar,
                updated_at: None,
            });
        };
        let calendar = match (document, kept) {
            (None, Some((_, calendar))) => calendar,
            (document, _) => {
                let calendar = parse(name, document.unwrap_or_default()).await?;
                let mut kept = self.kept();
                if kept.len() >= MAX_READ {
                    kept.clear();
                }
                kept.insert(name.to_owned(), (revision, calendar.clone()));
                calendar
            }
        };
        Ok(NamedCalendar {
            calendar,
            updated_at: Some(from_micros(updated_at)),
        })
    }

    pub(super) async fn all(&self, readers: &Arc<Readers>) -> Result<BTreeMap<String, NamedCalendar>> {
        let mut names = readers.ask(names).await?;
        names.extend(shipped::all().iter().map(|calendar| calendar.name().to_owned()));
        let mut all = BTreeMap::new();
        for name in names {
            match self.one(readers, &name).await {
                Ok(calendar) => drop(all.insert(name, calendar)),
                // Removed meanwhile.
                Err(StoreError::NotFound) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(all)
    }
}

/// Reads what was checked when it was put; a version with stricter rules may find it wanting.
async fn parse(name: &str, document: String) -> Result<Arc<Calendar>> {
    let asked = name.to_owned();
    let parsed = tokio::task::spawn_blocking(move || Calendar::parse(&asked, document.as_bytes())).await;
    let calendar = parsed.map_err(|error| StoreError::Unavailable(error.to_string()))?;
    calendar.map(Arc::new).map_err(|refusal| {
        StoreError::Conflict(format!(
            "the calendar {name} was put with another version and cannot be read any more; put it again ({}: {refusal})",
            refusal.pointer
        ))
    })
}

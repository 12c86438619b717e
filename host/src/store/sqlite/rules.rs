//! What rules have in common; who owns which task name, and what operators said of it.

use super::Failed;
use super::page::{self, Key};
use super::rows::micros;
use super::writer::Tx;
use crate::model::Time;
use crate::model::ids::{TaskId, TriggerId};
use crate::model::overrides::Override;
use crate::store::{Page, PageRequest, Result, StoreError};
use rusqlite::{Connection, OptionalExtension, params};
use std::collections::{BTreeMap, HashMap};

/// Deletes the row of a rule, and remembers that there was one.
pub(super) fn remove(tx: &Tx<'_>, sql: &str, id: &[u8; 16], now: Time) -> Result<()> {
    if tx.db.prepare_cached(sql).and_then(|mut s| s.execute([id])).failed()? == 0 {
        return Err(StoreError::NotFound);
    }
    tx.db
        .prepare_cached("INSERT OR REPLACE INTO removed (id, at) VALUES (?1, ?2)")
        .and_then(|mut s| s.execute(params![id, micros(now)]))
        .failed()
        .map(drop)
}

pub(super) fn was_removed(db: &Connection, id: TaskId) -> Result<bool> {
    db.prepare_cached("SELECT 1 FROM removed WHERE id = ?1")
        .and_then(|mut s| s.exists([id.as_bytes()]))
        .failed()
}

pub(super) fn trigger_named(db: &Connection, name: &str) -> Result<TriggerId> {
    db.prepare_cached("SELECT id FROM trigger_rule WHERE name = ?1")
        .and_then(|mut s| s.query_row([name], |row| row.get(0)).optional())
        .failed()?
        .map(TriggerId::from_bytes)
        .ok_or(StoreError::NotFound)
}

/// A page of rules, oldest first.
pub(super) fn list<T>(
    db: &Connection,
    (table, columns): (&str, &str),
    read: fn(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
    request: &PageRequest,
    size: impl Fn(&T) -> usize,
    key: impl Fn(&T) -> Key,
) -> Result<Page<T>> {
    let (after, id) = page::decode(request.cursor.as_deref())?.unwrap_or((i64::MIN, [0; 16]));
    let sql = format!("SELECT {columns} FROM {table} WHERE (created_at, id) > (?1, ?2) ORDER BY created_at, id LIMIT ?3");
    let mut query = db.prepare_cached(&sql).failed()?;
    let rows = query.query_map(params![after, id, page::sql_limit(request)], read).failed()?;
    page::fill(rows, request.limit, size, key)
}

pub(super) fn owners(db: &Connection) -> Result<HashMap<String, String>> {
    db.prepare_cached("SELECT task, plugin FROM task_owner")
        .and_then(|mut s| s.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).and_then(Iterator::collect))
        .failed()
}

pub(super) fn own(tx: &Tx<'_>, plugin: &str, names: &[String]) -> Result<()> {
    tx.db
        .prepare_cached("DELETE FROM task_owner WHERE plugin = ?1")
        .and_then(|mut s| s.execute([plugin]))
        .failed()?;
    for name in names {
        let owner: Option<String> = tx
            .db
            .prepare_cached("SELECT plugin FROM task_owner WHERE task = ?1")
            .and_then(|mut s| s.query_row([name], |row| row.get(0)).optional())
            .failed()?;
        if let Some(owner) = owner {
            return Err(StoreError::Conflict(format!(
                "the task name {name:?} belongs to plugin {owner:?}; rename the task, or remove that plugin"
            )));
        }
        tx.db
            .prepare_cached("INSERT INTO task_owner VALUES (?1, ?2)")
            .and_then(|mut s| s.execute([name.as_str(), plugin]))
            .failed()?;
    }
    Ok(())
}

pub(super) fn put_override(tx: &Tx<'_>, task_name: &str, word: &Override) -> Result<()> {
    let text = serde_json::to_string(word).map_err(|error| StoreError::Unavailable(error.to_string()))?;
    let sql = match word.is_empty() {
        true => "DELETE FROM task_override WHERE task = ?1 AND ?2 IS NOT NULL",
        false => "INSERT OR REPLACE INTO task_override VALUES (?1, ?2)",
    };
    tx.db
        .prepare_cached(sql)
        .and_then(|mut s| s.execute([task_name, &text]))
        .failed()
        .map(drop)
}

pub(super) fn overrides(db: &Connection) -> Result<BTreeMap<String, Override>> {
    let mut query = db.prepare_cached("SELECT task, word FROM task_override").failed()?;
    let rows = query
        .query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))
        .failed()?;
    let mut overrides = BTreeMap::new();
    for row in rows {
        let (task, text) = row.failed()?;
        match serde_json::from_str(&text) {
            Ok(word) => {
                overrides.insert(task, word);
            }
            Err(error) => tracing::error!(task_name = task, %error, "what an operator said of a task cannot be read; it is passed over"),
        }
    }
    Ok(overrides)
}

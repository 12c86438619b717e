//! Triggers: rules that create tasks when an event arrives, and their firing in one transaction with what it creates.

use super::Failed;
use super::enqueue::enqueue;
use super::page::{self, Key};
use super::rows::{self, micros, tags_text};
use super::writer::Tx;
use crate::model::ids::{TaskId, TriggerId};
use crate::model::trigger::Trigger;
use crate::store::{FireEvent, Page, PageRequest, Result, StoreError};
use rusqlite::{Connection, OptionalExtension, params};
use std::collections::HashMap;

/// Deletes the row of a rule.
fn remove(tx: &Tx<'_>, sql: &str, id: &[u8; 16]) -> Result<()> {
    let removed = tx.db.prepare_cached(sql).and_then(|mut s| s.execute([id])).failed()?;
    if removed == 0 { Err(StoreError::NotFound) } else { Ok(()) }
}

/// A page of rules, oldest first.
fn list<T>(
    db: &Connection,
    (table, columns): (&str, &str),
    read: fn(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
    request: &PageRequest,
    key: impl Fn(&T) -> Key,
) -> Result<Page<T>> {
    let (after, id) = page::decode(request.cursor.as_deref())?.unwrap_or((i64::MIN, [0; 16]));
    let sql = format!("SELECT {columns} FROM {table} WHERE (created_at, id) > (?1, ?2) ORDER BY created_at, id LIMIT ?3");
    let items = db
        .prepare_cached(&sql)
        .and_then(|mut s| {
            s.query_map(params![after, id, page::sql_limit(request)], read)
                .and_then(Iterator::collect)
        })
        .failed()?;
    Ok(page::cut(items, request.limit, key))
}

pub(super) fn put_trigger(tx: &Tx<'_>, t: &Trigger) -> Result<TriggerId> {
    let id: [u8; 16] = tx
        .db
        .prepare_cached(
            "INSERT INTO trigger_rule (id, name, task_name, event_type, payload, priority, tags, created_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
             ON CONFLICT (name) DO UPDATE SET task_name = excluded.task_name, event_type = excluded.event_type,
               payload = excluded.payload, priority = excluded.priority, tags = excluded.tags
             RETURNING id",
        )
        .and_then(|mut statement| {
            let values = params![
                t.id.as_bytes(),
                t.name,
                t.task_name,
                t.event_type,
                t.payload,
                t.priority.map(|p| p.get()),
                tags_text(&t.tags),
                micros(t.created_at)
            ];
            statement.query_row(values, |row| row.get(0))
        })
        .failed()?;
    Ok(TriggerId::from_bytes(id))
}

pub(super) fn remove_trigger(tx: &Tx<'_>, id: TriggerId) -> Result<()> {
    remove(tx, "DELETE FROM trigger_rule WHERE id = ?1", id.as_bytes())
}

pub(super) fn trigger(db: &Connection, id: TriggerId) -> Result<Trigger> {
    db.prepare_cached(&format!("SELECT {} FROM trigger_rule WHERE id = ?1", rows::TRIGGER))
        .and_then(|mut s| s.query_row([id.as_bytes()], rows::trigger).optional())
        .failed()?
        .ok_or(StoreError::NotFound)
}

pub(super) fn triggers(db: &Connection, request: &PageRequest) -> Result<Page<Trigger>> {
    list(db, ("trigger_rule", rows::TRIGGER), rows::trigger, request, |t| {
        (micros(t.created_at), *t.id.as_bytes())
    })
}

pub(super) fn triggers_of(db: &Connection, event_type: &str) -> Result<Vec<Trigger>> {
    db.prepare_cached(&format!(
        "SELECT {} FROM trigger_rule WHERE event_type = ?1 ORDER BY id",
        rows::TRIGGER
    ))
    .and_then(|mut s| s.query_map([event_type], rows::trigger).and_then(Iterator::collect))
    .failed()
}

pub(super) fn fire_event(tx: &mut Tx<'_>, event: &FireEvent) -> Result<Vec<TaskId>> {
    tx.db
        .prepare_cached("INSERT INTO event VALUES (?1, ?2, ?3, ?4)")
        .and_then(|mut s| s.execute(params![event.id.as_bytes(), event.event_type, event.data, micros(event.now)]))
        .failed()?;
    let mut fired = Vec::with_capacity(event.tasks.len());
    for (trigger, task) in &event.tasks {
        let still_there = tx
            .db
            .prepare_cached("UPDATE trigger_rule SET fired_count = fired_count + 1, last_fired = ?2 WHERE id = ?1")
            .and_then(|mut s| s.execute(params![trigger.as_bytes(), micros(event.now)]))
            .failed()?;
        if still_there == 1 {
            enqueue(tx, task, None)?;
            fired.push(task.id);
        }
    }
    Ok(fired)
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

//! Schedules and triggers: rules that create tasks, and their firing in one transaction with what it creates.

use super::Failed;
use super::enqueue::enqueue;
use super::page::{self, Key};
use super::rows::{self, micros, tags_text};
use super::writer::Tx;
use crate::model::Time;
use crate::model::ids::{ScheduleId, TaskId, TriggerId};
use crate::model::schedule::Schedule;
use crate::model::trigger::Trigger;
use crate::store::{FireEvent, FireSchedule, Page, PageRequest, Result, StoreError};
use rusqlite::{Connection, OptionalExtension, params};
use std::collections::HashMap;

pub(super) fn put_schedule(tx: &Tx<'_>, s: &Schedule) -> Result<ScheduleId> {
    // A fire that is overdue and still allowed survives the update, so that registering again at every start skips none. Any other
    // cursor is the next fire after now, as it is worked out for every update.
    let id: [u8; 16] = tx
        .db
        .prepare_cached(
            "INSERT INTO schedule (id, name, task_name, cron_expression, payload, priority, tags, start_at, end_at, created_at, next_fire)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)
             ON CONFLICT (name) DO UPDATE SET task_name = excluded.task_name, payload = excluded.payload, priority = excluded.priority,
               tags = excluded.tags, next_fire = CASE WHEN cron_expression = excluded.cron_expression AND next_fire <= excluded.created_at
                 AND next_fire >= COALESCE(excluded.start_at, next_fire) AND next_fire <= COALESCE(excluded.end_at, next_fire)
                 THEN next_fire ELSE excluded.next_fire END,
               cron_expression = excluded.cron_expression, start_at = excluded.start_at, end_at = excluded.end_at
             RETURNING id",
        )
        .and_then(|mut statement| {
            let values = params![
                s.id.as_bytes(),
                s.name,
                s.task_name,
                s.cron_expression,
                s.payload,
                s.priority.map(|p| p.get()),
                tags_text(&s.tags),
                s.start.map(micros),
                s.end.map(micros),
                micros(s.created_at),
                s.next_fire.map(micros)
            ];
            statement.query_row(values, |row| row.get(0))
        })
        .failed()?;
    Ok(ScheduleId::from_bytes(id))
}

/// Deletes the row of a rule.
fn remove(tx: &Tx<'_>, sql: &str, id: &[u8; 16]) -> Result<()> {
    let removed = tx.db.prepare_cached(sql).and_then(|mut s| s.execute([id])).failed()?;
    if removed == 0 { Err(StoreError::NotFound) } else { Ok(()) }
}

pub(super) fn remove_schedule(tx: &Tx<'_>, id: ScheduleId) -> Result<()> {
    remove(tx, "DELETE FROM schedule WHERE id = ?1", id.as_bytes())?;
    tx.db
        .prepare_cached("DELETE FROM fire WHERE schedule = ?1")
        .and_then(|mut s| s.execute([id.as_bytes()]))
        .failed()
        .map(drop)
}

pub(super) fn schedule(db: &Connection, id: ScheduleId) -> Result<Schedule> {
    db.prepare_cached(&format!("SELECT {} FROM schedule WHERE id = ?1", rows::SCHEDULE))
        .and_then(|mut s| s.query_row([id.as_bytes()], rows::schedule).optional())
        .failed()?
        .ok_or(StoreError::NotFound)
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

pub(super) fn schedules(db: &Connection, request: &PageRequest) -> Result<Page<Schedule>> {
    list(db, ("schedule", rows::SCHEDULE), rows::schedule, request, |s| {
        (micros(s.created_at), *s.id.as_bytes())
    })
}

/// Those whose next fire is not after `until`, in microseconds, by it and their ids.
pub(super) fn schedules_until(db: &Connection, until: i64, limit: usize) -> Result<Vec<Schedule>> {
    let sql = format!(
        "SELECT {} FROM schedule WHERE next_fire <= ?1 ORDER BY next_fire, id LIMIT ?2",
        rows::SCHEDULE
    );
    db.prepare_cached(&sql)
        .and_then(|mut s| {
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            s.query_map(params![until, limit], rows::schedule).and_then(Iterator::collect)
        })
        .failed()
}

pub(super) fn due_schedules(db: &Connection, now: Time, limit: usize) -> Result<(Vec<Schedule>, Option<Time>)> {
    let due = schedules_until(db, micros(now), limit)?;
    let next: Option<i64> = db
        .prepare_cached("SELECT MIN(next_fire) FROM schedule WHERE next_fire > ?1")
        .and_then(|mut s| s.query_row([micros(now)], |row| row.get(0)))
        .failed()?;
    Ok((due, next.map(rows::from_micros)))
}

pub(super) fn fire_schedule(tx: &mut Tx<'_>, fire: &FireSchedule) -> Result<()> {
    let moved = tx
        .db
        .prepare_cached("UPDATE schedule SET next_fire = ?3 WHERE id = ?1 AND next_fire = ?2")
        .and_then(|mut s| s.execute(params![fire.id.as_bytes(), micros(fire.due), fire.next.map(micros)]))
        .failed()?;
    if moved == 0 {
        return Err(StoreError::Conflict("the schedule was changed or fired meanwhile".into()));
    }
    let Some((at, task)) = &fire.fire else { return Ok(()) };
    let fresh = tx
        .db
        .prepare_cached("INSERT OR IGNORE INTO fire VALUES (?1, ?2, ?3)")
        .and_then(|mut s| s.execute(params![fire.id.as_bytes(), micros(*at), task.id.as_bytes()]))
        .failed()?;
    if fresh == 0 {
        return Ok(());
    }
    tx.db
        .prepare_cached("UPDATE schedule SET last_fire = ?2, last_task = ?3 WHERE id = ?1")
        .and_then(|mut s| s.execute(params![fire.id.as_bytes(), micros(*at), task.id.as_bytes()]))
        .failed()?;
    enqueue(tx, task, None).map(drop)
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

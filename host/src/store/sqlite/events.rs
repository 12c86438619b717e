//! Triggers, and events: an event, the tasks that it makes and what it counts are one transaction.

use super::Failed;
use super::enqueue::enqueue;
use super::monitor::raise;
use super::rows::{self, from_micros, micros};
use super::rules::{list, remove};
use super::writer::Tx;
use crate::model::Time;
use crate::model::alert::{AlertType, NewAlert};
use crate::model::ids::{TaskId, TriggerId};
use crate::model::trigger::{Edits, Fitted, Patch, Trigger, postponed};
use crate::store::{FireEvent, Fired, Firing, Listened, Page, PageRequest, Result, StoreError};
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::Serialize;
use std::collections::HashMap;
use std::time::Duration;

/// Not yet due, due: see the table `task`.
const FUTURE: i64 = 0;
const DUE: i64 = 1;
/// Bytes that the triggers of one type of event may have together: an event reads them all.
const MAX_LISTENERS: i64 = 128 << 20;
/// What one of them has.
const SIZE: &str = "octet_length(terms) + COALESCE(octet_length(edits), 0)";

fn text(document: &impl Serialize) -> Result<String> {
    serde_json::to_string(document).map_err(|error| StoreError::Unavailable(format!("a trigger cannot be written: {error}")))
}

/// Returns what is to be told of edits that were dropped, too.
pub(super) fn put_trigger(tx: &Tx<'_>, t: &Trigger) -> Result<(TriggerId, Option<String>)> {
    let terms = text(&t.declared)?;
    let room = room(tx.db, &t.event_type, &t.name)?;
    let before = edited_before(tx.db, &t.name)?;
    let Fitted { edits, dropped } = match before {
        Some(before) => t.fitted(before, room.saturating_sub(terms.len())),
        None => Fitted::default(),
    };
    let edits = (edits != Edits::default()).then(|| text(&edits)).transpose()?;
    check_room(room, terms.len() + edits.as_ref().map_or(0, String::len), &t.event_type)?;
    let is_same = tx
        .db
        .prepare_cached("SELECT 1 FROM trigger_rule WHERE name = ?1 AND terms = ?2 AND edits IS ?3")
        .and_then(|mut s| s.exists(params![t.name, terms, edits]))
        .failed()?;
    let id: [u8; 16] = tx
        .db
        .prepare_cached(
            "INSERT INTO trigger_rule (id, name, task_name, event_type, terms, created_at, edits) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
             ON CONFLICT (name) DO UPDATE SET task_name = excluded.task_name, event_type = excluded.event_type, terms = excluded.terms,
               edits = excluded.edits
             RETURNING id",
        )
        .and_then(|mut statement| {
            let values = params![
                t.id.as_bytes(),
                t.name,
                t.task_name,
                t.event_type,
                terms,
                micros(t.created_at),
                edits
            ];
            statement.query_row(values, |row| row.get(0))
        })
        .failed()?;
    tx.db
        .prepare_cached("INSERT INTO trigger_state (id) VALUES (?1) ON CONFLICT DO NOTHING")
        .and_then(|mut s| s.execute([id]))
        .failed()?;
    let id = TriggerId::from_bytes(id);
    if !is_same {
        forget_filter_error(tx, id)?;
    }
    if let Some(error) = &dropped {
        let alert = NewAlert {
            kind: AlertType::Edit,
            task_id: TaskId::of_trigger(id),
            task_name: t.task_name.clone(),
            error: Some(error.clone()),
            execution_time: None,
            at: t.created_at,
        };
        raise(tx, &alert)?;
    }
    Ok((id, dropped))
}

/// What was wrong with a filter is not what is wrong with the next one.
fn forget_filter_error(tx: &Tx<'_>, id: TriggerId) -> Result<()> {
    tx.db
        .prepare_cached("UPDATE trigger_state SET filter_error = NULL WHERE id = ?1")
        .and_then(|mut s| s.execute([id.as_bytes()]))
        .failed()
        .map(drop)
}

/// The trigger of this name as it was registered before, where an operator edited it.
fn edited_before(db: &Connection, name: &str) -> Result<Option<Trigger>> {
    let edited: Option<[u8; 16]> = db
        .prepare_cached("SELECT id FROM trigger_rule WHERE name = ?1 AND edits IS NOT NULL")
        .and_then(|mut s| s.query_row([name], |row| row.get(0)).optional())
        .failed()?;
    edited.map(|id| trigger(db, TriggerId::from_bytes(id))).transpose()
}

/// Bytes that a trigger of this name may have: with more, an event of its type would read too much and could not be delivered any more.
fn room(db: &Connection, event_type: &str, name: &str) -> Result<usize> {
    let others: i64 = db
        .prepare_cached(&format!(
            "SELECT COALESCE((SELECT bytes FROM listened WHERE event_type = ?1), 0)
               - COALESCE((SELECT {SIZE} FROM trigger_rule WHERE name = ?2 AND event_type = ?1), 0)"
        ))
        .and_then(|mut s| s.query_row([event_type, name], |row| row.get(0)))
        .failed()?;
    Ok(usize::try_from(MAX_LISTENERS - others).unwrap_or(0))
}

fn check_room(room: usize, bytes: usize, event_type: &str) -> Result<()> {
    if bytes > room { Err(too_large(event_type)) } else { Ok(()) }
}

fn too_large(event_type: &str) -> StoreError {
    StoreError::Conflict(format!(
        "the triggers that listen to {event_type:?} have more than {} MiB of payloads together; remove some, or make their payloads smaller",
        MAX_LISTENERS >> 20
    ))
}

pub(super) fn remove_trigger(tx: &Tx<'_>, id: TriggerId, now: Time) -> Result<()> {
    remove(tx, "DELETE FROM trigger_rule WHERE id = ?1", id.as_bytes(), now)?;
    let state = tx.db.prepare_cached("DELETE FROM trigger_state WHERE id = ?1");
    state.and_then(|mut s| s.execute([id.as_bytes()])).failed().map(drop)
}

pub(super) fn edit_trigger(tx: &Tx<'_>, id: TriggerId, patch: &Patch) -> Result<Trigger> {
    let mut trigger = trigger(tx.db, id)?;
    let edited = trigger.edit(patch.clone());
    edited.map_err(|refusal| StoreError::Conflict(refusal.sentence))?;
    if patch.filter.is_some() {
        trigger.filter_error = None;
        forget_filter_error(tx, id)?;
    }
    let edits = (trigger.edits != Edits::default()).then(|| text(&trigger.edits)).transpose()?;
    let bytes = text(&trigger.declared)?.len() + edits.as_ref().map_or(0, String::len);
    check_room(room(tx.db, &trigger.event_type, &trigger.name)?, bytes, &trigger.event_type)?;
    tx.db
        .prepare_cached("UPDATE trigger_rule SET edits = ?2 WHERE id = ?1")
        .and_then(|mut s| s.execute(params![id.as_bytes(), edits]))
        .failed()?;
    tx.db
        .prepare_cached("UPDATE trigger_state SET paused = ?2 WHERE id = ?1")
        .and_then(|mut s| s.execute(params![id.as_bytes(), trigger.paused]))
        .failed()?;
    Ok(trigger)
}

pub(super) fn trigger(db: &Connection, id: TriggerId) -> Result<Trigger> {
    db.prepare_cached(&format!("SELECT {} FROM {} WHERE id = ?1", rows::TRIGGER, rows::TRIGGERS))
        .and_then(|mut s| s.query_row([id.as_bytes()], rows::trigger).optional())
        .failed()?
        .ok_or(StoreError::NotFound)
}

pub(super) fn triggers(db: &Connection, request: &PageRequest) -> Result<Page<Trigger>> {
    let size = |t: &Trigger| t.declared.payload.len() + t.edits.payload.as_ref().map_or(0, |edit| edit.0.len());
    list(db, (rows::TRIGGERS, rows::TRIGGER), rows::trigger, request, size, |t| {
        (micros(t.created_at), *t.id.as_bytes())
    })
}

pub(super) fn listened(db: &Connection, event_type: &str) -> Result<Listened> {
    let read = |row: &Row<'_>| {
        let (bytes, triggers): (i64, i64) = (row.get(0)?, row.get(1)?);
        Ok(Listened {
            bytes: bytes.unsigned_abs(),
            triggers: triggers.unsigned_abs(),
        })
    };
    db.prepare_cached("SELECT bytes, triggers FROM listened WHERE event_type = ?1")
        .and_then(|mut s| s.query_row([event_type], read).optional())
        .failed()
        .map(Option::unwrap_or_default)
}

pub(super) fn triggers_of(db: &Connection, event_type: &str) -> Result<Vec<Trigger>> {
    let sql = format!(
        "SELECT {}, {SIZE} FROM {} WHERE event_type = ?1 AND paused = 0 ORDER BY id",
        rows::TRIGGER,
        rows::TRIGGERS
    );
    let mut statement = db.prepare_cached(&sql).failed()?;
    let size_column = statement.column_count() - 1;
    let mut rows = statement.query([event_type]).failed()?;
    let (mut triggers, mut bytes) = (Vec::new(), 0);
    while let Some(row) = rows.next().failed()? {
        bytes += row.get::<_, i64>(size_column).failed()?;
        if bytes > MAX_LISTENERS {
            return Err(too_large(event_type));
        }
        triggers.push(rows::trigger(row).failed()?);
    }
    Ok(triggers)
}

pub(super) fn fire_events(tx: &mut Tx<'_>, events: &[FireEvent]) -> Result<Vec<Fired>> {
    let mut skips = Skips::new();
    let fired = events
        .iter()
        .map(|event| fire_event(tx, event, &mut skips))
        .collect::<Result<_>>()?;
    for (trigger, (count, error)) in skips {
        tx.db
            .prepare_cached("UPDATE trigger_state SET skipped_count = skipped_count + ?3, filter_error = ?2 WHERE id = ?1")
            .and_then(|mut s| s.execute(params![trigger.as_bytes(), error, count]))
            .failed()?;
    }
    Ok(fired)
}

/// How often each trigger let an event of one delivery pass by, and what was wrong with its filter last: one write a trigger, however many
/// the events.
type Skips<'e> = HashMap<TriggerId, (i64, Option<&'e str>)>;

fn fire_event<'e>(tx: &mut Tx<'_>, fire: &'e FireEvent, skips: &mut Skips<'e>) -> Result<Fired> {
    let event = &fire.event;
    let source = event.source.as_ref();
    let fresh = tx
        .db
        .prepare_cached(
            "INSERT INTO event (id, type, data, at, source, source_id, happened_at, depth) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
             ON CONFLICT (source, source_id) WHERE source_id IS NOT NULL DO NOTHING",
        )
        .and_then(|mut s| {
            s.execute(params![
                fire.id.as_bytes(),
                event.event_type,
                event.data,
                micros(fire.now),
                source.map(|source| &source.uri),
                source.map(|source| &source.id),
                event.time.map(micros),
                event.depth
            ])
        })
        .failed()?;
    if fresh == 0 {
        return Ok(Fired {
            duplicate: true,
            tasks: Vec::new(),
        });
    }
    let source = source.map(|source| [source.uri.as_str(), source.id.as_str()]);
    tx.kept.add_event(event.event_type.as_str(), &event.data, source);
    let mut tasks = Vec::with_capacity(fire.firings.len());
    for firing in &fire.firings {
        tasks.extend(fire_trigger(tx, firing, fire.now)?);
        if let Some((_, error)) = skips.get_mut(&firing.trigger) {
            *error = None;
        }
    }
    for (trigger, error) in &fire.skipped {
        let (count, last) = skips.entry(*trigger).or_default();
        *count += 1;
        *last = error.as_deref();
    }
    Ok(Fired { duplicate: false, tasks })
}

/// The task that carries the event; none where the trigger is gone or paused.
fn fire_trigger(tx: &mut Tx<'_>, firing: &Firing, now: Time) -> Result<Option<TaskId>> {
    let counted: Option<(Option<[u8; 16]>, Option<i64>)> = tx
        .db
        .prepare_cached(
            "UPDATE trigger_state SET fired_count = fired_count + 1, last_fired = ?2, filter_error = NULL WHERE id = ?1 AND paused = 0
             RETURNING waiting, waiting_since",
        )
        .and_then(|mut s| {
            s.query_row(params![firing.trigger.as_bytes(), micros(now)], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })
            .optional()
        })
        .failed()?;
    let Some((waiting, since)) = counted else { return Ok(None) };
    // What is born failed waits for nothing.
    let Some(debounce) = firing.debounce.filter(|_| firing.task.stillborn.is_none()) else {
        return enqueue(tx, &firing.task, None).map(|_| Some(firing.task.id));
    };
    if let Some((waiting, since)) = waiting.zip(since)
        && postpone(tx, firing, (waiting, from_micros(since)), debounce, now)?
    {
        return Ok(Some(TaskId::from_bytes(waiting)));
    }
    enqueue(tx, &firing.task, None)?;
    tx.db
        .prepare_cached("UPDATE trigger_state SET waiting = ?2, waiting_since = ?3 WHERE id = ?1")
        .and_then(|mut s| s.execute(params![firing.trigger.as_bytes(), firing.task.id.as_bytes(), micros(now)]))
        .failed()?;
    Ok(Some(firing.task.id))
}

/// Gives the task that waits the payload of a later event. False where it began, ended or was cancelled, or the trigger makes another task now.
fn postpone(tx: &Tx<'_>, firing: &Firing, (waiting, since): ([u8; 16], Time), debounce: Duration, now: Time) -> Result<bool> {
    let due = postponed(since, now, debounce);
    let queue = if due > now { FUTURE } else { DUE };
    tx.db
        .prepare_cached(
            "UPDATE task SET payload = ?2, trigger_at = ?3, due_at = ?3, queue = ?4, held = NULL, held_key = NULL, depth = MAX(depth, ?5),
               priority = ?7
             WHERE id = ?1 AND name = ?6 AND attempt = 0 AND queue < 3",
        )
        .and_then(|mut s| {
            let task = &firing.task;
            s.execute(params![
                waiting,
                task.payload,
                micros(due),
                queue,
                task.depth,
                task.name,
                task.priority.get()
            ])
        })
        .failed()
        .map(|changed| changed == 1)
}

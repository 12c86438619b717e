//! Schedules: what they are, and which are due.

use super::Failed;
use super::fires::record;
use super::monitor::raise;
use super::page::{self, Key};
use super::rows::{blob, from_micros, micros};
use super::rules::{self, list};
use super::writer::Tx;
use crate::model::Time;
use crate::model::ids::{ScheduleId, TaskId};
use crate::model::schedule::Schedule;
use crate::store::{Page, PageRequest, PutSchedule, Result, StoreError};
use rusqlite::{Connection, OptionalExtension, Row, params};
use std::sync::LazyLock;

/// Bytes of schedules that one look takes, about.
const AT_ONCE_BYTES: usize = 64 << 20;

const SCHEDULE: &str = "id, name, task_name, declared, edits, created_at, next_fire, planned_at, paused_at, last_fire, last_task, revision";

fn from_row(row: &Row<'_>) -> rusqlite::Result<Schedule> {
    let time = |index: usize| row.get::<_, Option<i64>>(index).map(|micros| micros.map(from_micros));
    Ok(Schedule {
        id: ScheduleId::from_bytes(blob(row, 0)?),
        name: row.get(1)?,
        task_name: row.get(2)?,
        declared: row.get(3)?,
        edits: row.get(4)?,
        created_at: from_micros(row.get(5)?),
        next_fire: time(6)?,
        planned_at: from_micros(row.get(7)?),
        paused_at: time(8)?,
        last_fire: time(9)?,
        last_task: row.get::<_, Option<[u8; 16]>>(10)?.map(TaskId::from_bytes),
        revision: row.get::<_, i64>(11)?.unsigned_abs(),
    })
}

pub(super) fn changed() -> StoreError {
    StoreError::Conflict("the schedule was changed or fired meanwhile; send the request again".into())
}

pub(super) fn put(tx: &Tx<'_>, put: &PutSchedule) -> Result<()> {
    let schedule = &put.schedule;
    let written = match put.seen {
        None => insert(tx, schedule, put.calendar.as_deref())?,
        Some(seen) => update(tx, schedule, put.calendar.as_deref(), seen)?,
    };
    if written == 0 {
        return Err(changed());
    }
    for skip in &put.skips {
        record(tx, schedule.id, skip)?;
    }
    for alert in &put.alerts {
        raise(tx, alert)?;
    }
    Ok(())
}

fn insert(tx: &Tx<'_>, s: &Schedule, calendar: Option<&str>) -> Result<usize> {
    tx.db
        .prepare_cached(
            "INSERT INTO schedule (id, name, task_name, declared, edits, created_at, next_fire, planned_at, paused_at, calendar, revision)
             SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, 1 WHERE NOT EXISTS (SELECT 1 FROM schedule WHERE name = ?2)",
        )
        .and_then(|mut statement| {
            statement.execute(params![
                s.id.as_bytes(),
                s.name,
                s.task_name,
                s.declared,
                s.edits,
                micros(s.created_at),
                s.next_fire.map(micros),
                micros(s.planned_at),
                s.paused_at.map(micros),
                calendar,
            ])
        })
        .failed()
}

fn update(tx: &Tx<'_>, s: &Schedule, calendar: Option<&str>, seen: u64) -> Result<usize> {
    tx.db
        .prepare_cached(
            "UPDATE schedule SET task_name = ?3, declared = ?4, edits = ?5, next_fire = ?6, planned_at = ?7, paused_at = ?8,
               calendar = ?9, revision = revision + 1 WHERE id = ?1 AND revision = ?2",
        )
        .and_then(|mut statement| {
            statement.execute(params![
                s.id.as_bytes(),
                seen.cast_signed(),
                s.task_name,
                s.declared,
                s.edits,
                s.next_fire.map(micros),
                micros(s.planned_at),
                s.paused_at.map(micros),
                calendar,
            ])
        })
        .failed()
}

/// Its fires are forgotten as those of others are; nobody can ask for them any more.
pub(super) fn remove(tx: &Tx<'_>, id: ScheduleId, now: Time) -> Result<()> {
    rules::remove(tx, "DELETE FROM schedule WHERE id = ?1", id.as_bytes(), now)
}

pub(super) fn by_id(db: &Connection, id: ScheduleId) -> Result<Schedule> {
    one(db, "id = ?1", &id.as_bytes().as_slice())
}

pub(super) fn by_name(db: &Connection, name: &str) -> Result<Schedule> {
    one(db, "name = ?1", &name)
}

fn one(db: &Connection, condition: &str, value: &dyn rusqlite::ToSql) -> Result<Schedule> {
    db.prepare_cached(&format!("SELECT {SCHEDULE} FROM schedule WHERE {condition}"))
        .and_then(|mut s| s.query_row([value], from_row).optional())
        .failed()?
        .ok_or(StoreError::NotFound)
}

/// All, oldest first.
pub(super) fn all(db: &Connection, request: &PageRequest) -> Result<Page<Schedule>> {
    list(db, ("schedule", SCHEDULE), from_row, request, Schedule::bytes, |s| {
        (micros(s.created_at), *s.id.as_bytes())
    })
}

/// Some of those that go by a calendar, after `after`, in the order of their ids.
pub(super) fn by_calendar(db: &Connection, calendar: &str, after: Option<ScheduleId>, limit: usize) -> Result<Vec<Schedule>> {
    let sql =
        format!("SELECT {SCHEDULE} FROM schedule INDEXED BY schedule_by_calendar WHERE calendar = ?1 AND id > ?2 ORDER BY id LIMIT ?3");
    let after = after.map_or([0; 16], |id| *id.as_bytes());
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    some(db, &sql, params![calendar, after, limit])
}

/// The name of one that goes by a calendar.
pub(super) fn goes_by(db: &Connection, calendar: &str) -> Result<Option<String>> {
    db.prepare_cached("SELECT name FROM schedule INDEXED BY schedule_by_calendar WHERE calendar = ?1 LIMIT 1")
        .and_then(|mut s| s.query_row([calendar], |row| row.get(0)).optional())
        .failed()
}

/// Those that are not paused and whose next fire is not after ?1, by it and their ids.
static UNTIL: LazyLock<String> = LazyLock::new(|| {
    format!(
        "SELECT {SCHEDULE} FROM schedule INDEXED BY schedule_due WHERE next_fire <= ?1 AND paused_at IS NULL ORDER BY next_fire, id LIMIT ?2"
    )
});

pub(super) fn upcoming(db: &Connection, request: &PageRequest) -> Result<Page<Schedule>> {
    static AFTER: LazyLock<String> = LazyLock::new(|| {
        format!(
            "SELECT {SCHEDULE} FROM schedule INDEXED BY schedule_due
             WHERE next_fire IS NOT NULL AND (next_fire, id) > (?1, ?2) AND paused_at IS NULL ORDER BY next_fire, id LIMIT ?3"
        )
    });
    let (after, id) = page::decode(request.cursor.as_deref())?.unwrap_or((i64::MIN, [0; 16]));
    let mut query = db.prepare_cached(&AFTER).failed()?;
    let rows = query.query_map(params![after, id, page::sql_limit(request)], from_row).failed()?;
    page::fill(rows, request.limit, Schedule::bytes, fire_key)
}

/// Where a schedule stands among those that fire next.
pub(super) fn fire_key(schedule: &Schedule) -> Key {
    (schedule.next_fire.map_or(i64::MAX, micros), *schedule.id.as_bytes())
}

/// So many rows of a statement, and fewer where they are large.
fn some(db: &Connection, sql: &str, values: impl rusqlite::Params) -> Result<Vec<Schedule>> {
    let mut query = db.prepare_cached(sql).failed()?;
    let (mut found, mut bytes) = (Vec::new(), 0);
    for row in query.query_map(values, from_row).failed()? {
        let schedule = row.failed()?;
        bytes += schedule.bytes();
        found.push(schedule);
        if bytes > AT_ONCE_BYTES {
            break;
        }
    }
    Ok(found)
}

pub(super) fn due(db: &Connection, now: Time, limit: usize) -> Result<(Vec<Schedule>, Option<Time>)> {
    let due = some(db, &UNTIL, params![micros(now), i64::try_from(limit).unwrap_or(i64::MAX)])?;
    let next: Option<i64> = db
        .prepare_cached("SELECT MIN(next_fire) FROM schedule INDEXED BY schedule_due WHERE next_fire > ?1 AND paused_at IS NULL")
        .and_then(|mut s| s.query_row([micros(now)], |row| row.get(0)))
        .failed()?;
    Ok((due, next.map(from_micros)))
}

/// Those whose cursor was worked out at a time that has yet to come: the clock was set back since. Looks at each; asked seldom.
pub(super) fn ahead(db: &Connection, now: Time, limit: usize) -> Result<Vec<Schedule>> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let sql = format!("SELECT {SCHEDULE} FROM schedule WHERE planned_at > ?1 LIMIT ?2");
    some(db, &sql, params![micros(now), limit])
}

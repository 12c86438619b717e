//! Fires of schedules: each once, in one transaction with its task and the cursor, or recorded with the reason why it makes none.

use super::enqueue::enqueue;
use super::held::{hold, release_key};
use super::monitor::raise;
use super::page::{self, Key};
use super::rows::{blob, from_micros, micros};
use super::writer::Tx;
use super::{Failed, schedules, settle};
use crate::model::Time;
use crate::model::hold::Hold;
use crate::model::ids::{ScheduleId, TaskId};
use crate::model::schedule::overlap::{Decision, Overlap};
use crate::model::schedule::{Fire, Schedule, Skip, SkipReason};
use crate::model::task::NewTask;
use crate::store::{FireSchedule, Lease, Made, MadeFires, MakeFires, Page, PageRequest, Result, StoreError};
use rusqlite::{Connection, OptionalExtension, Row, params};
use std::sync::Arc;

/// Why a task waits behind another of its schedule.
const PREVIOUS_FIRE: &str = "previous fire";
/// Tasks that the fires of one intention cancel, at most: some milliseconds that all others wait for.
const CANCELLED: usize = 200;

pub(super) fn fire_all(tx: &mut Tx<'_>, fires: &[Arc<FireSchedule>]) -> Result<Vec<Result<MadeFires>>> {
    let mut fired = Vec::with_capacity(fires.len());
    let mut left = CANCELLED;
    for each in fires {
        match fire(tx, each, &mut left) {
            // Refused before anything was written.
            Err(error @ StoreError::Conflict(_)) => fired.push(Err(error)),
            Err(error) => return Err(error),
            done => fired.push(done),
        }
    }
    Ok(fired)
}

fn fire(tx: &mut Tx<'_>, fire: &FireSchedule, left: &mut usize) -> Result<MadeFires> {
    let as_seen = tx
        .db
        .prepare_cached("SELECT 1 FROM schedule WHERE id = ?1 AND revision = ?2 AND paused_at IS NULL")
        .and_then(|mut s| s.exists(params![fire.id.as_bytes(), fire.seen.cast_signed()]))
        .failed()?;
    if !as_seen {
        return Err(schedules::changed());
    }
    let by = By {
        overlap: fire.overlap,
        now: fire.now,
        left,
    };
    let (fired, last) = make(tx, fire.id, &fire.fires, by)?;
    if fired.unfinished {
        return Ok(fired);
    }
    for skip in &fire.skips {
        record(tx, fire.id, skip)?;
    }
    for (at, _) in fired.fires.iter().filter(|(_, made)| *made == Made::LeftOut) {
        record(tx, fire.id, &Skip::one(SkipReason::Overlap, *at))?;
    }
    tx.db
        .prepare_cached(
            "UPDATE schedule SET next_fire = ?2, planned_at = ?3, revision = revision + 1,
               last_task = IIF(?4 >= COALESCE(last_fire, ?4), ?5, last_task), last_fire = MAX(COALESCE(last_fire, ?4), COALESCE(?4, last_fire))
             WHERE id = ?1",
        )
        .and_then(|mut s| {
            s.execute(params![
                fire.id.as_bytes(),
                fire.next.map(micros),
                micros(fire.now),
                last.map(|(at, _)| micros(at)),
                last.as_ref().map(|(_, task)| task.as_bytes()),
            ])
        })
        .failed()?;
    for alert in &fire.alerts {
        raise(tx, alert)?;
    }
    Ok(fired)
}

pub(super) fn make_fires(tx: &mut Tx<'_>, asked: &MakeFires) -> Result<MadeFires> {
    check_remembered(tx, &schedules::by_id(tx.db, asked.id)?, asked)?;
    let by = By {
        overlap: asked.overlap,
        now: asked.now,
        left: &mut { CANCELLED },
    };
    let (fired, last) = make(tx, asked.id, &asked.fires, by)?;
    if let Some((at, task)) = last {
        tx.db
            .prepare_cached("UPDATE schedule SET last_fire = ?2, last_task = ?3 WHERE id = ?1 AND (last_fire IS NULL OR last_fire <= ?2)")
            .and_then(|mut s| s.execute(params![asked.id.as_bytes(), micros(at), task.as_bytes()]))
            .failed()?;
    }
    Ok(fired)
}

/// Says that fires made before this are about to be forgotten, where there are any.
pub(super) fn forget(tx: &Tx<'_>, before: Time) -> Result<()> {
    tx.db
        .prepare_cached(
            "INSERT INTO forgotten SELECT 'fire', ?1 WHERE EXISTS (SELECT 1 FROM fire WHERE made_at < ?1)
             ON CONFLICT (what) DO UPDATE SET before = MAX(before, excluded.before)",
        )
        .and_then(|mut s| s.execute([micros(before)]))
        .failed()
        .map(drop)
}

/// What was made and forgotten may not be made again as if it were missing.
fn check_remembered(tx: &Tx<'_>, schedule: &Schedule, asked: &MakeFires) -> Result<()> {
    let forgotten: Option<i64> = tx
        .db
        .prepare_cached("SELECT before FROM forgotten WHERE what = 'fire'")
        .and_then(|mut s| s.query_row([], |row| row.get(0)).optional())
        .failed()?;
    let first = asked.fires.first().map(|(at, _)| *at);
    match forgotten.map(from_micros).zip(first) {
        Some((before, first)) if first < before && schedule.created_at < before => Err(StoreError::Conflict(format!(
            "fires before {} have been forgotten with the history, so nobody can tell which of them are missing; ask for later ones",
            before.to_rfc3339()
        ))),
        _ => Ok(()),
    }
}

/// A fire and its task.
type Last = Option<(Time, TaskId)>;

/// How fires are made.
struct By<'a> {
    overlap: Overlap,
    now: Time,
    /// Tasks that may still be cancelled for them.
    left: &'a mut usize,
}

/// Makes fires that have not been made, each with its task, as far as the tasks before them allow; tells the last of them too.
fn make(tx: &mut Tx<'_>, id: ScheduleId, fires: &[(Time, NewTask)], mut by: By<'_>) -> Result<(MadeFires, Last)> {
    let mut fired = MadeFires::default();
    let mut last = None;
    for (at, task) in fires {
        let Some(made) = make_one(tx, id, (*at, task), &mut by, &mut fired.stopped)? else {
            fired.unfinished = true;
            break;
        };
        if let Made::Task(task) = made {
            last = last.max(Some((*at, task)));
        }
        fired.fires.push((*at, made));
    }
    Ok((fired, last))
}

/// `None` where more would have to be cancelled for it than is left.
fn make_one(
    tx: &mut Tx<'_>,
    id: ScheduleId,
    (at, task): (Time, &NewTask),
    by: &mut By<'_>,
    stopped: &mut Vec<Lease>,
) -> Result<Option<Made>> {
    // A fire happens once, whoever makes it.
    let fresh = tx
        .db
        .prepare_cached("INSERT OR IGNORE INTO fire (schedule, at, task, made_at) VALUES (?1, ?2, ?3, ?4)")
        .and_then(|mut s| s.execute(params![id.as_bytes(), micros(at), task.id.as_bytes(), micros(by.now)]))
        .failed()?;
    if fresh == 0 {
        let before = tx
            .db
            .prepare_cached("SELECT task FROM fire WHERE schedule = ?1 AND at = ?2")
            .and_then(|mut s| s.query_row(params![id.as_bytes(), micros(at)], |row| row.get(0)))
            .failed()?;
        return Ok(Some(Made::Before(TaskId::from_bytes(before))));
    }
    let decision = by.overlap.decide(not_ended(tx, id, by.overlap.asks())?);
    let not_made = match decision {
        Decision::Make | Decision::Hold => None,
        Decision::Replace => (!cancel_some(tx, id, by, stopped)?).then_some(None),
        Decision::Skip => Some(Some(Made::LeftOut)),
    };
    if let Some(instead) = not_made {
        tx.db
            .prepare_cached("DELETE FROM fire WHERE schedule = ?1 AND at = ?2")
            .and_then(|mut s| s.execute(params![id.as_bytes(), micros(at)]))
            .failed()?;
        return Ok(instead);
    }
    enqueue(tx, task, None)?;
    if decision == Decision::Hold && task.stillborn.is_none() {
        let seq = tx
            .db
            .prepare_cached("SELECT seq FROM task WHERE id = ?1")
            .and_then(|mut s| s.query_row([task.id.as_bytes()], |row| row.get(0)))
            .failed()?;
        hold(tx, seq, PREVIOUS_FIRE, &Hold::Schedule.key(id, ""))?;
    }
    Ok(Some(Made::Task(task.id)))
}

/// Tasks of a schedule that wait or run, counted up to `most`.
fn not_ended(tx: &Tx<'_>, id: ScheduleId, most: u64) -> Result<u64> {
    if most == 0 {
        return Ok(0);
    }
    tx.db
        .prepare_cached(
            "SELECT COUNT(*) FROM (SELECT 1 FROM task INDEXED BY task_of_schedule WHERE origin_kind = 1 AND origin = ?1 LIMIT ?2)",
        )
        .and_then(|mut s| s.query_row(params![id.as_bytes(), most.cast_signed()], |row| row.get::<_, i64>(0)))
        .failed()
        .map(i64::unsigned_abs)
}

/// Cancels tasks of a schedule, those that are held first, as many as are left to be; whether none remains.
fn cancel_some(tx: &mut Tx<'_>, id: ScheduleId, by: &mut By<'_>, stopped: &mut Vec<Lease>) -> Result<bool> {
    let tasks: Vec<[u8; 16]> = tx
        .db
        .prepare_cached(
            "SELECT id FROM task INDEXED BY task_of_schedule WHERE origin_kind = 1 AND origin = ?1 AND queue = 2
             UNION ALL SELECT id FROM task INDEXED BY task_of_schedule WHERE origin_kind = 1 AND origin = ?1 AND queue <> 2
             LIMIT ?2",
        )
        .and_then(|mut s| {
            s.query_map(params![id.as_bytes(), i64::try_from(*by.left).unwrap_or(i64::MAX)], |row| {
                row.get(0)
            })
            .and_then(Iterator::collect)
        })
        .failed()?;
    *by.left = by.left.saturating_sub(tasks.len());
    for task in tasks {
        stopped.extend(settle::cancel_unscheduled(tx, TaskId::from_bytes(task), by.now)?);
    }
    task_ended(tx, id)?;
    Ok(not_ended(tx, id, 1)? == 0)
}

/// Tasks of a schedule have ended: where no other waits or runs, the next of those held behind them is offered to workers.
pub(super) fn task_ended(tx: &Tx<'_>, id: ScheduleId) -> Result<()> {
    let key = Hold::Schedule.key(id, "");
    let any_held = tx
        .db
        .prepare_cached("SELECT 1 FROM task INDEXED BY task_held WHERE queue = 2 AND held_key = ?1")
        .and_then(|mut s| s.exists([&key]))
        .failed()?;
    if !any_held {
        return Ok(());
    }
    // Ranges around those that are held behind it, so that however many they are, none of them is looked at.
    let another = tx
        .db
        .prepare_cached(
            "WITH own AS NOT MATERIALIZED
               (SELECT queue, held_key FROM task INDEXED BY task_of_schedule WHERE origin_kind = 1 AND origin = ?1)
             SELECT 1 WHERE EXISTS (SELECT 1 FROM own WHERE queue < 2) OR EXISTS (SELECT 1 FROM own WHERE queue > 2)
               OR EXISTS (SELECT 1 FROM own WHERE queue = 2 AND held_key < ?2) OR EXISTS (SELECT 1 FROM own WHERE queue = 2 AND held_key > ?2)",
        )
        .and_then(|mut s| s.exists(params![id.as_bytes(), key]))
        .failed()?;
    if !another {
        release_key(tx, &key, 1)?;
    }
    Ok(())
}

fn reason_number(reason: SkipReason) -> i64 {
    SkipReason::ALL.iter().position(|r| *r == reason).map_or(0, |n| n as i64 + 1)
}

fn reason_of(number: u8) -> SkipReason {
    let index = usize::from(number).saturating_sub(1);
    SkipReason::ALL.get(index).copied().unwrap_or(SkipReason::Misfire)
}

pub(super) fn record(tx: &Tx<'_>, id: ScheduleId, skip: &Skip) -> Result<()> {
    tx.db
        .prepare_cached(
            "INSERT INTO skip (schedule, at, reason, until, count) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT (schedule, at, reason) DO UPDATE SET until = MAX(until, excluded.until), count = MAX(count, excluded.count)",
        )
        .and_then(|mut s| {
            s.execute(params![
                id.as_bytes(),
                micros(skip.at),
                reason_number(skip.reason),
                micros(skip.until),
                skip.count.cast_signed()
            ])
        })
        .failed()
        .map(drop)
}

/// Where a line stands among those of the same time.
fn place(fire: &Fire) -> Key {
    let rank = match fire {
        Fire::Made { .. } => 0,
        Fire::Skipped(skip) => u8::try_from(reason_number(skip.reason)).unwrap_or(0),
    };
    let mut id = [0; 16];
    id[0] = rank;
    (micros(fire.at()), id)
}

/// What a schedule did, latest first: of two indexes in one order, as many lines of each as a page has.
pub(super) fn fires(db: &Connection, id: ScheduleId, request: &PageRequest) -> Result<Page<Fire>> {
    schedules::by_id(db, id)?;
    let (before, rank) = page::decode(request.cursor.as_deref())?.map_or((i64::MAX, 0), |(at, id)| (at, id[0]));
    let limit = page::sql_limit(request);
    let made = db
        .prepare_cached("SELECT at, task FROM fire WHERE schedule = ?1 AND at < ?2 ORDER BY at DESC LIMIT ?3")
        .and_then(|mut s| {
            let line = |row: &Row<'_>| {
                Ok(Fire::Made {
                    at: from_micros(row.get(0)?),
                    task: TaskId::from_bytes(blob(row, 1)?),
                })
            };
            s.query_map(params![id.as_bytes(), before, limit], line)
                .and_then(Iterator::collect::<rusqlite::Result<Vec<_>>>)
        })
        .failed()?;
    let skipped = db
        .prepare_cached(
            "SELECT at, reason, until, count FROM skip WHERE schedule = ?1 AND at <= ?2 AND (at < ?2 OR reason > ?3)
             ORDER BY at DESC, reason LIMIT ?4",
        )
        .and_then(|mut s| {
            let line = |row: &Row<'_>| {
                Ok(Fire::Skipped(Skip {
                    reason: reason_of(row.get(1)?),
                    at: from_micros(row.get(0)?),
                    until: from_micros(row.get(2)?),
                    count: row.get::<_, i64>(3)?.unsigned_abs(),
                }))
            };
            s.query_map(params![id.as_bytes(), before, rank, limit], line)
                .and_then(Iterator::collect::<rusqlite::Result<Vec<_>>>)
        })
        .failed()?;
    let mut lines: Vec<Fire> = made.into_iter().chain(skipped).collect();
    lines.sort_by_key(|line| {
        let (at, id) = place(line);
        (std::cmp::Reverse(at), id)
    });
    Ok(page::cut(lines, request.limit, place))
}

//! What happens to a task at a time of its own: it expires where it has not begun, and is late where it has not ended.

use super::Failed;
use super::follow;
use super::monitor::raise;
use super::rows::{failure_text, from_micros, micros};
use super::settle::{End, move_to_history};
use super::writer::Tx;
use crate::model::Time;
use crate::model::alert::{AlertType, NewAlert};
use crate::model::ids::TaskId;
use crate::model::task::{Failure, NewTask, Status};
use crate::store::{Result, Rung};
use rusqlite::{OptionalExtension, params};

const EXPIRES: i64 = 0;
const LATE: i64 = 1;
/// Timers that one commit looks at, at most.
const AT_ONCE: i64 = 500;

/// Sets the timers of a task.
pub(super) fn set(tx: &Tx<'_>, task: &NewTask) -> Result<()> {
    for (kind, at) in [(EXPIRES, task.expires_at), (LATE, task.deadline)] {
        if let Some(at) = at {
            tx.db
                .prepare_cached("INSERT OR IGNORE INTO timer VALUES (?1, ?2, ?3)")
                .and_then(|mut s| s.execute(params![micros(at), kind, task.id.as_bytes()]))
                .failed()?;
        }
    }
    Ok(())
}

/// Sets the timer of a task that was made of another's row.
pub(super) fn set_deadline_again(tx: &Tx<'_>, id: TaskId) -> Result<()> {
    tx.db
        .prepare_cached("INSERT OR IGNORE INTO timer SELECT deadline, ?2, id FROM task WHERE id = ?1 AND deadline IS NOT NULL")
        .and_then(|mut s| s.execute(params![id.as_bytes(), LATE]))
        .failed()
        .map(drop)
}

/// Does what is to be done by now.
pub(super) fn ring(tx: &mut Tx<'_>, now: Time) -> Result<Rung> {
    let due: Vec<(i64, i64, [u8; 16])> = tx
        .db
        .prepare_cached("SELECT at, kind, task FROM timer WHERE at <= ?1 ORDER BY at, kind, task LIMIT ?2")
        .and_then(|mut s| {
            s.query_map(params![micros(now), AT_ONCE], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
                .and_then(Iterator::collect)
        })
        .failed()?;
    let mut rung = Rung::default();
    for (at, kind, task) in &due {
        let id = TaskId::from_bytes(*task);
        if *kind == EXPIRES && expire(tx, id, now)? {
            rung.expired += 1;
        }
        if *kind == LATE {
            tell_late(tx, id, from_micros(*at), now)?;
        }
        tx.db
            .prepare_cached("DELETE FROM timer WHERE at = ?1 AND kind = ?2 AND task = ?3")
            .and_then(|mut s| s.execute(params![at, kind, task]))
            .failed()?;
    }
    rung.next = tx
        .db
        .prepare_cached("SELECT MIN(at) FROM timer")
        .and_then(|mut s| s.query_row([], |row| row.get::<_, Option<i64>>(0)))
        .failed()?
        .map(from_micros);
    Ok(rung)
}

/// Ends a task that has not begun in time. False where it has, or has ended.
pub(super) fn expire(tx: &mut Tx<'_>, id: TaskId, now: Time) -> Result<bool> {
    let found = tx
        .db
        .prepare_cached(
            "SELECT name, expires_at, batch, workflow, origin_kind, origin FROM task WHERE id = ?1 AND attempt = 0 AND expires_at <= ?2",
        )
        .and_then(|mut s| {
            s.query_row(params![id.as_bytes(), micros(now)], |row| {
                Ok((row.get::<_, String>(0)?, from_micros(row.get(1)?), follow::ties(row, 2)?))
            })
            .optional()
        })
        .failed()?;
    let Some((task_name, expired_at, ties)) = found else {
        return Ok(false);
    };
    let error = format!("the task had not begun when it expired at {}", shown(expired_at));
    let failure = Failure {
        code: "expired".into(),
        error: error.clone(),
        details: None,
    };
    let end = End {
        failure: Some(failure_text(&failure)),
        ..End::without_attempt(Status::Failed, now, ties)
    };
    move_to_history(tx, id, None, &end)?;
    raise(
        tx,
        &NewAlert {
            kind: AlertType::TaskFailure,
            task_id: id,
            task_name,
            error: Some(error),
            execution_time: None,
            at: now,
        },
    )?;
    Ok(true)
}

fn tell_late(tx: &Tx<'_>, id: TaskId, deadline: Time, now: Time) -> Result<()> {
    let found = tx
        .db
        .prepare_cached("SELECT name, queue = 3 FROM task WHERE id = ?1")
        .and_then(|mut s| {
            s.query_row([id.as_bytes()], |row| Ok((row.get::<_, String>(0)?, row.get::<_, bool>(1)?)))
                .optional()
        })
        .failed()?;
    let Some((task_name, is_running)) = found else { return Ok(()) };
    let status = if is_running { "running" } else { "waiting" };
    let alert = NewAlert {
        kind: AlertType::Late,
        task_id: id,
        task_name,
        error: Some(format!("the task was still {status} at its deadline {}", shown(deadline))),
        execution_time: None,
        at: now,
    };
    raise(tx, &alert)
}

fn shown(time: Time) -> String {
    time.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
}

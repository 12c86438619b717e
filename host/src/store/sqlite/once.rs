//! Once only: the same request again gets the same answer, and a task whose like is there already is not made again.

use super::Failed;
use super::rows::{micros, status_number};
use super::settle::cancel;
use super::writer::Tx;
use crate::model::Time;
use crate::model::ids::TaskId;
use crate::model::task::{NewTask, Status};
use crate::model::unique::Second;
use crate::store::{RequestKey, Result, StoreError};
use rusqlite::{Connection, OptionalExtension, params};

/// Rows of each kind that one sweep looks at, at most.
const TIDIED: i64 = 1_000;
/// How long a key is remembered.
const REMEMBERED: chrono::TimeDelta = chrono::TimeDelta::hours(24);

/// Lets a request pass that was not carried out before. Writes nothing.
pub(super) fn admit(db: &Connection, key: &RequestKey, now: Time) -> Result<()> {
    let before: Option<(Vec<u8>, String)> = db
        .prepare_cached("SELECT fingerprint, answer FROM request WHERE key = ?1 AND at > ?2")
        .and_then(|mut s| {
            let since = micros(now - REMEMBERED);
            s.query_row(params![key.key, since], |row| Ok((row.get(0)?, row.get(1)?)))
                .optional()
        })
        .failed()?;
    match before {
        None => Ok(()),
        Some((fingerprint, answer)) if fingerprint == key.fingerprint => Err(StoreError::Answered(answer)),
        Some(_) => Err(StoreError::KeyReused),
    }
}

/// Remembers that a request was carried out, in the commit that does.
pub(super) fn remember(tx: &Tx<'_>, key: &RequestKey, now: Time) -> Result<()> {
    tx.db
        .prepare_cached("INSERT OR REPLACE INTO request VALUES (?1, ?2, ?3, ?4)")
        .and_then(|mut s| s.execute(params![key.key, key.fingerprint.as_slice(), key.answer, micros(now)]))
        .failed()
        .map(drop)
}

/// Carries a request out once.
pub(super) fn carried_out<T>(
    tx: &mut Tx<'_>,
    key: Option<&RequestKey>,
    now: Time,
    carry_out: impl FnOnce(&mut Tx<'_>) -> Result<T>,
) -> Result<T> {
    let Some(key) = key else { return carry_out(tx) };
    admit(tx.db, key, now)?;
    let done = carry_out(tx)?;
    remember(tx, key, now)?;
    Ok(done)
}

/// The task that stands for this one: another like it, which is there already, or this one, which has the place now.
pub(super) fn unique(tx: &mut Tx<'_>, task: &NewTask) -> Result<Option<TaskId>> {
    let Some(unique) = &task.unique else { return Ok(None) };
    let now = task.submitted_at;
    let first: Option<([u8; 16], i64)> = tx
        .db
        .prepare_cached("SELECT task, until FROM unique_task WHERE key = ?1")
        .and_then(|mut s| s.query_row([unique.key], |row| Ok((row.get(0)?, row.get(1)?))).optional())
        .failed()?;
    if let Some((first, until)) = first {
        let has_begun: Option<bool> = tx
            .db
            .prepare_cached("SELECT attempt > 0 FROM task WHERE id = ?1")
            .and_then(|mut s| s.query_row([first], |row| row.get(0)).optional())
            .failed()?;
        let first = TaskId::from_bytes(first);
        match unique.on_conflict.decide(first, has_begun, until > micros(now)) {
            Second::Made => {}
            Second::Replaces => {
                cancel(tx, first, now)?;
            }
            Second::Returned => return Ok(Some(first)),
            Second::Refused(why) => return Err(StoreError::Conflict(why)),
        }
    }
    let until = unique.window.and_then(|window| chrono::TimeDelta::from_std(window).ok());
    // Without a window it counts by nothing but its task, whatever the clock does.
    let until = until.and_then(|window| now.checked_add_signed(window)).map_or(i64::MIN, micros);
    tx.db
        .prepare_cached("INSERT OR REPLACE INTO unique_task VALUES (?1, ?2, ?3)")
        .and_then(|mut s| s.execute(params![unique.key, task.id.as_bytes(), until]))
        .failed()?;
    Ok(None)
}

/// Gives a task that is tried again the place of the one before.
pub(super) fn stand_in(tx: &Tx<'_>, before: TaskId, now: TaskId) -> Result<()> {
    tx.db
        .prepare_cached("UPDATE unique_task SET task = ?2 WHERE task = ?1")
        .and_then(|mut s| s.execute([before.as_bytes(), now.as_bytes()]))
        .failed()
        .map(drop)
}

/// Forgets some requests that are old, and some of the tasks that are unique no more: from this key on. One that failed and may be tried
/// again is not among them. Returns where to go on.
pub(super) fn tidy(tx: &Tx<'_>, after: Vec<u8>, now: Time) -> Result<Vec<u8>> {
    tx.db
        .prepare_cached("DELETE FROM request WHERE key IN (SELECT key FROM request WHERE at <= ?1 ORDER BY at LIMIT ?2)")
        .and_then(|mut s| s.execute(params![micros(now - REMEMBERED), TIDIED]))
        .failed()?;
    let looked_at: Vec<(Vec<u8>, bool)> = tx
        .db
        .prepare_cached(
            "SELECT key, until <= ?2 AND NOT EXISTS (SELECT 1 FROM task WHERE task.id = unique_task.task)
               AND NOT EXISTS (SELECT 1 FROM history WHERE history.id = unique_task.task AND status = ?4 AND dismissed = 0)
             FROM unique_task WHERE key > ?1 ORDER BY key LIMIT ?3",
        )
        .and_then(|mut s| {
            s.query_map(params![after, micros(now), TIDIED, status_number(Status::Failed)], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })
            .and_then(Iterator::collect)
        })
        .failed()?;
    for (key, _) in looked_at.iter().filter(|(_, is_over)| *is_over) {
        tx.db
            .prepare_cached("DELETE FROM unique_task WHERE key = ?1")
            .and_then(|mut s| s.execute([key]))
            .failed()?;
    }
    let is_end = (looked_at.len() as i64) < TIDIED;
    Ok(looked_at
        .into_iter()
        .next_back()
        .filter(|_| !is_end)
        .map_or_else(Vec::new, |(key, _)| key))
}

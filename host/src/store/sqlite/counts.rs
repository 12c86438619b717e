//! How far batches are: counted in the commits in which their tasks end, and what follows once all have.
//!
//! A batch's row is written once a commit however many of its tasks end in it, so that a million tasks cost no more each than a plain
//! one. What follows a batch becomes tasks in the commit in which its last task ends: whoever dies before it finds the task still
//! running, and whoever dies after it finds all done.

use super::Failed;
use super::enqueue::enqueue;
use super::page;
use super::rows::{self, from_micros, micros, tags_text};
use super::settle;
use super::writer::Tx;
use crate::model::Time;
use crate::model::batch::{CallbackKind, Counts};
use crate::model::ids::{BatchId, TaskId};
use crate::model::task::{NewTask, Origin, Status, Submission};
use crate::model::trigger::merge;
use crate::store::{Batch, Callback, CallbackState, CancelledSome, Page, PageRequest, Result, StoreError};
use rusqlite::{Connection, OptionalExtension, Row, params};
use std::collections::HashMap;

/// Tasks that one commit cancels, at most: others wait for as long.
const CANCELLED_AT_ONCE: i64 = 200;

/// What a commit adds to the counts of batches.
#[derive(Default)]
pub(super) struct BatchBook {
    by_id: HashMap<BatchId, Change>,
}

/// What is added to one batch's counts.
#[derive(Clone, Copy)]
struct Change {
    success: i64,
    failed: i64,
    cancelled: i64,
    at: Time,
}

impl BatchBook {
    /// So many more have this final status; less than none, where some are tried again.
    pub(super) fn add(&mut self, batch: BatchId, status: Status, count: i64, at: Time) {
        let change = self.by_id.entry(batch).or_insert(Change {
            success: 0,
            failed: 0,
            cancelled: 0,
            at,
        });
        change.at = change.at.max(at);
        match status {
            Status::Success => change.success += count,
            Status::Failed => change.failed += count,
            Status::Cancelled => change.cancelled += count,
            Status::Pending | Status::Running => {}
        }
    }

    /// Whether there is nothing to write.
    pub(super) fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }
}

/// Writes what a commit added, and what follows it.
pub(super) fn flush(tx: &mut Tx<'_>) -> Result<()> {
    for (batch, change) in std::mem::take(tx.batches).by_id {
        let added = tx
            .db
            .prepare_cached(
                "UPDATE batch SET success = success + ?2, failed = failed + ?3, cancelled = cancelled + ?4 WHERE id = ?1
                 RETURNING name, count, success, failed, cancelled",
            )
            .and_then(|mut s| {
                let Change {
                    success,
                    failed,
                    cancelled,
                    ..
                } = change;
                s.query_row(params![batch.as_bytes(), success, failed, cancelled], |row| {
                    Ok((row.get::<_, Option<String>>(0)?, counts(row, 1)?))
                })
                .optional()
            })
            .failed()?;
        // A batch that was forgotten has no row; its tasks may outlive it.
        if let Some((name, counts)) = added.filter(|(_, counts)| counts.left() == 0) {
            complete(tx, (batch, name.as_deref()), counts, change.at)?;
        }
    }
    Ok(())
}

/// All have ended: for the first time, or again after some were retried.
fn complete(tx: &mut Tx<'_>, (batch, name): (BatchId, Option<&str>), counts: Counts, at: Time) -> Result<()> {
    tx.db
        .prepare_cached("UPDATE batch SET completed_at = COALESCE(completed_at, ?2), cancelling = NULL WHERE id = ?1")
        .and_then(|mut s| s.execute(params![batch.as_bytes(), micros(at)]))
        .failed()?;
    for (kind, callback) in waiting_callbacks(tx.db, batch)? {
        if !CallbackKind::ALL.get(kind).is_some_and(|kind| counts.let_follow(*kind)) {
            continue;
        }
        let mut task = callback.task;
        task.submitted_at = at;
        task.trigger_time = at;
        if callback.told {
            task.payload = merge(&task.payload, &counts.told(batch, name));
        }
        enqueue(tx, &task, None)?;
        tx.db
            .prepare_cached("UPDATE callback SET fired_at = ?3 WHERE batch = ?1 AND kind = ?2")
            .and_then(|mut s| s.execute(params![batch.as_bytes(), kind as i64, micros(at)]))
            .failed()?;
    }
    Ok(())
}

/// A task that has not followed yet.
struct Waiting {
    task: NewTask,
    told: bool,
}

fn waiting_callbacks(db: &Connection, batch: BatchId) -> Result<Vec<(usize, Waiting)>> {
    let mut query = db
        .prepare_cached("SELECT kind, id, name, payload, priority, tags, told FROM callback WHERE batch = ?1 AND fired_at IS NULL")
        .failed()?;
    let read = |row: &Row<'_>| {
        let submission = Submission {
            name: row.get(2)?,
            payload: row.get(3)?,
            priority: Some(rows::priority(row.get(4)?)),
            tags: rows::optional_json(row, 5)?.unwrap_or_default(),
            ..Submission::default()
        };
        let id = TaskId::from_bytes(row.get(1)?);
        let task = NewTask {
            id,
            idempotency_key: id,
            ..NewTask::from_submission(submission, None, Origin::Submitted, Time::UNIX_EPOCH)
        };
        Ok((usize::from(row.get::<_, u8>(0)?), Waiting { task, told: row.get(6)? }))
    };
    query.query_map([batch.as_bytes()], read).and_then(Iterator::collect).failed()
}

/// Keeps what is to follow a batch, in the write that makes it whole.
pub(super) fn put_callbacks(tx: &Tx<'_>, batch: BatchId, callbacks: &[Callback]) -> Result<()> {
    for Callback { kind, task, told } in callbacks {
        tx.db
            .prepare_cached(
                "INSERT INTO callback (batch, kind, id, name, payload, priority, tags, told) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            )
            .and_then(|mut s| {
                let (priority, tags) = (task.priority.get(), tags_text(&task.tags));
                s.execute(params![
                    batch.as_bytes(),
                    number(*kind),
                    task.id.as_bytes(),
                    task.name,
                    task.payload,
                    priority,
                    tags,
                    told
                ])
            })
            .failed()?;
    }
    Ok(())
}

fn number(kind: CallbackKind) -> i64 {
    match kind {
        CallbackKind::Success => 0,
        CallbackKind::Failure => 1,
        CallbackKind::Complete => 2,
    }
}

const BATCH: &str = "id, name, published_at, count, success, failed, cancelled, completed_at, cancelled_at, cancelling IS NOT NULL";

/// Reads `count, success, failed, cancelled` from this column on.
fn counts(row: &Row<'_>, from: usize) -> rusqlite::Result<Counts> {
    let count = |index: usize| row.get::<_, i64>(from + index).map(i64::unsigned_abs);
    Ok(Counts {
        count: count(0)?,
        success: count(1)?,
        failed: count(2)?,
        cancelled: count(3)?,
    })
}

/// Reads [`BATCH`]; what runs is counted apart.
fn batch_row(row: &Row<'_>) -> rusqlite::Result<Batch> {
    let time = |index: usize| row.get::<_, Option<i64>>(index).map(|at| at.map(from_micros));
    Ok(Batch {
        id: BatchId::from_bytes(rows::blob(row, 0)?),
        name: row.get(1)?,
        submitted_at: from_micros(row.get(2)?),
        counts: counts(row, 3)?,
        running: 0,
        completed_at: time(7)?,
        cancelled_at: time(8)?,
        cancelling: row.get(9)?,
        callbacks: Vec::new(),
    })
}

pub(super) fn batch(db: &Connection, id: BatchId) -> Result<Batch> {
    let found = db
        .prepare_cached(&format!("SELECT {BATCH} FROM batch WHERE id = ?1 AND node IS NULL"))
        .and_then(|mut s| s.query_row([id.as_bytes()], batch_row).optional())
        .failed()?;
    let mut batch = found.ok_or(StoreError::NotFound)?;
    batch.running = running(db)?.get(&id).copied().unwrap_or(0);
    let mut query = db
        .prepare_cached("SELECT kind, name, id, fired_at FROM callback WHERE batch = ?1 ORDER BY kind")
        .failed()?;
    let callbacks = query.query_map([id.as_bytes()], |row| {
        let kind = CallbackKind::ALL.get(usize::from(row.get::<_, u8>(0)?)).copied();
        Ok(CallbackState {
            kind: kind.unwrap_or(CallbackKind::Complete),
            task_name: row.get(1)?,
            task: TaskId::from_bytes(rows::blob(row, 2)?),
            fired_at: row.get::<_, Option<i64>>(3)?.map(from_micros),
        })
    });
    batch.callbacks = callbacks.and_then(Iterator::collect).failed()?;
    Ok(batch)
}

/// Those that run are few, whatever waits.
fn running(db: &Connection) -> Result<HashMap<BatchId, u64>> {
    let mut query = db
        .prepare_cached("SELECT batch, COUNT(*) FROM task INDEXED BY task_running WHERE queue = 3 AND batch IS NOT NULL GROUP BY batch")
        .failed()?;
    query
        .query_map([], |row| {
            Ok((BatchId::from_bytes(rows::blob(row, 0)?), row.get::<_, i64>(1)?.unsigned_abs()))
        })
        .and_then(Iterator::collect)
        .failed()
}

pub(super) fn batches(db: &Connection, request: &PageRequest) -> Result<Page<Batch>> {
    let (before, id) = page::decode(request.cursor.as_deref())?.unwrap_or((i64::MAX, [0xff; 16]));
    let sql = format!(
        "SELECT {BATCH} FROM batch INDEXED BY batch_by_time WHERE node IS NULL AND (published_at, id) < (?1, ?2)
         ORDER BY published_at DESC, id DESC LIMIT ?3"
    );
    let mut items: Vec<Batch> = db
        .prepare_cached(&sql)
        .and_then(|mut s| {
            s.query_map(params![before, id, page::sql_limit(request)], batch_row)
                .and_then(Iterator::collect)
        })
        .failed()?;
    let running = running(db)?;
    for batch in &mut items {
        batch.running = running.get(&batch.id).copied().unwrap_or(0);
    }
    Ok(page::cut(items, request.limit, |batch| {
        (micros(batch.submitted_at), *batch.id.as_bytes())
    }))
}

pub(super) fn cancel_batch(tx: &Tx<'_>, id: BatchId, now: Time) -> Result<()> {
    let told = tx
        .db
        .prepare_cached(
            "UPDATE batch SET cancelled_at = COALESCE(cancelled_at, ?2), cancelling = 1
             WHERE id = ?1 AND node IS NULL AND success + failed + cancelled < count",
        )
        .and_then(|mut s| s.execute(params![id.as_bytes(), micros(now)]))
        .failed()?;
    if told > 0 {
        return Ok(());
    }
    batch(tx.db, id)?;
    Err(StoreError::Conflict("all tasks of the batch have ended already".into()))
}

/// Cancels some of the batches that are to be: first those that are tasks, then those that are still staged.
pub(super) fn cancel_some(tx: &mut Tx<'_>, now: Time) -> Result<CancelledSome> {
    let first = tx
        .db
        .prepare_cached("SELECT id, next_line, count FROM batch WHERE cancelling IS NOT NULL LIMIT 1")
        .and_then(|mut s| {
            s.query_row([], |row| Ok((BatchId::from_bytes(rows::blob(row, 0)?), row.get(1)?, row.get(2)?)))
                .optional()
        })
        .failed()?;
    let Some((batch, next_line, count)): Option<(BatchId, Option<i64>, i64)> = first else {
        return Ok(CancelledSome::default());
    };
    let mut done = CancelledSome {
        more: true,
        ..CancelledSome::default()
    };
    let tasks: Vec<[u8; 16]> = tx
        .db
        .prepare_cached("SELECT id FROM task INDEXED BY task_by_batch WHERE batch = ?1 LIMIT ?2")
        .and_then(|mut s| {
            s.query_map(params![batch.as_bytes(), CANCELLED_AT_ONCE], |row| row.get(0))
                .and_then(Iterator::collect)
        })
        .failed()?;
    for id in &tasks {
        done.running.extend(settle::cancel(tx, TaskId::from_bytes(*id), now)?);
    }
    if !tasks.is_empty() {
        return Ok(done);
    }
    if let Some(from) = next_line {
        let ended = super::batch::end_staged(tx, batch, from, count, now)?;
        tx.batches.add(batch, Status::Cancelled, ended, now);
        return Ok(done);
    }
    tx.db
        .prepare_cached("UPDATE batch SET cancelling = NULL WHERE id = ?1")
        .and_then(|mut s| s.execute([batch.as_bytes()]))
        .failed()?;
    Ok(done)
}

//! Batches: staged in parts, published by one write, unfolded into tasks little by little.

use super::Failed;
use super::counts::put_callbacks;
use super::once;
use super::rows::{self, micros, tags_text};
use super::writer::Tx;
use crate::model::Time;
use crate::model::fair::FairKey;
use crate::model::ids::{BatchId, NodeId};
use crate::model::task::{NewTask, Status};
use crate::store::{Publish, Result, Stage, StoreError};
use rusqlite::{Connection, OptionalExtension, params};

/// Staged tasks that one commit unfolds or discards, at most: others wait for as long.
const AT_ONCE: i64 = 500;
/// Bytes of their payloads, about.
const BYTES_AT_ONCE: i64 = 4 << 20;

/// Keeps a part of a batch where nothing looks for tasks.
pub(super) fn stage(tx: &Tx<'_>, stage: &Stage) -> Result<()> {
    let batch = stage.batch.as_bytes();
    if stage.first_line == 0 {
        tx.db
            .prepare_cached("INSERT INTO batch (id, node) VALUES (?1, ?2)")
            .and_then(|mut s| s.execute(params![batch, stage.node.as_bytes()]))
            .failed()?;
    } else if !is_half_staged(tx.db, stage.batch)? {
        return Err(gone());
    }
    let mut insert = tx
        .db
        .prepare_cached(
            "INSERT INTO staged (batch, line, id, name, priority, tags, trigger_at, timeout, max_retries, idempotent,
               expires_at, deadline, payload, fair)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
        )
        .failed()?;
    for (line, task) in (stage.first_line..).zip(&stage.tasks) {
        let NewTask { id, name, payload, .. } = task;
        insert
            .execute(params![
                batch,
                line.cast_signed(),
                id.as_bytes(),
                name,
                task.priority.get(),
                tags_text(&task.tags),
                micros(task.trigger_time),
                task.timeout.map(rows::micros_of),
                task.max_retries,
                task.idempotent,
                task.expires_at.map(micros),
                task.deadline.map(micros),
                payload,
                task.fair.map(FairKey::get)
            ])
            .failed()?;
    }
    Ok(())
}

fn is_half_staged(db: &Connection, batch: BatchId) -> Result<bool> {
    db.prepare_cached("SELECT 1 FROM batch WHERE id = ?1 AND node IS NOT NULL")
        .and_then(|mut s| s.exists([batch.as_bytes()]))
        .failed()
}

fn gone() -> StoreError {
    StoreError::Conflict("the batch is not on its way in any more".into())
}

/// The one write after which all of a batch is there.
pub(super) fn publish(tx: &mut Tx<'_>, publish: &Publish) -> Result<()> {
    once::carried_out(tx, publish.key.as_ref(), publish.now, |tx| make_whole(tx, publish))
}

fn make_whole(tx: &Tx<'_>, publish: &Publish) -> Result<()> {
    let published = tx
        .db
        .prepare_cached(
            "UPDATE batch SET node = NULL, name = ?2, count = ?3, published_at = ?4, next_line = 0 WHERE id = ?1 AND node IS NOT NULL",
        )
        .and_then(|mut s| {
            let Publish {
                batch, name, count, now, ..
            } = publish;
            s.execute(params![batch.as_bytes(), name, count.cast_signed(), micros(*now)])
        })
        .failed()?;
    if published == 0 {
        return Err(gone());
    }
    put_callbacks(tx, publish.batch, &publish.callbacks)
}

/// Forgets some of a batch that is not whole. Returns whether there is more of it.
pub(super) fn discard(tx: &Tx<'_>, batch: BatchId) -> Result<bool> {
    if !is_half_staged(tx.db, batch)? {
        return Ok(false);
    }
    if let Some(end) = reach(tx.db, batch, 0)? {
        forget(tx.db, batch, end)?;
        return Ok(true);
    }
    tx.db
        .prepare_cached("DELETE FROM batch WHERE id = ?1")
        .and_then(|mut s| s.execute([batch.as_bytes()]))
        .failed()?;
    Ok(false)
}

/// Batches that a process other than `node` did not finish.
pub(super) fn half_staged(db: &Connection, node: NodeId) -> Result<Vec<BatchId>> {
    let mut query = db
        .prepare_cached("SELECT id FROM batch WHERE node IS NOT NULL AND node <> ?1")
        .failed()?;
    query
        .query_map([node.as_bytes()], |row| Ok(BatchId::from_bytes(row.get(0)?)))
        .and_then(Iterator::collect)
        .failed()
}

/// The line after those that one commit takes, from this one on; `None` where there are none.
fn reach(db: &Connection, batch: BatchId, from: i64) -> Result<Option<i64>> {
    let mut query = db
        .prepare_cached("SELECT line, octet_length(payload) FROM staged WHERE batch = ?1 AND line >= ?2 ORDER BY line LIMIT ?3")
        .failed()?;
    let mut rows = query.query(params![batch.as_bytes(), from, AT_ONCE]).failed()?;
    let (mut end, mut bytes) = (None, 0);
    while let Some(row) = rows.next().failed()? {
        end = Some(row.get::<_, i64>(0).failed()? + 1);
        bytes += row.get::<_, i64>(1).failed()?;
        if bytes >= BYTES_AT_ONCE {
            break;
        }
    }
    Ok(end)
}

fn forget(db: &Connection, batch: BatchId, end: i64) -> Result<()> {
    db.prepare_cached("DELETE FROM staged WHERE batch = ?1 AND line < ?2")
        .and_then(|mut s| s.execute(params![batch.as_bytes(), end]))
        .failed()
        .map(drop)
}

/// Makes tasks of some of what is staged of the batch that was published first. Returns how many.
pub(super) fn unfold(tx: &Tx<'_>, now: Time) -> Result<u64> {
    let first = tx
        .db
        .prepare_cached(
            "SELECT id, next_line, count, published_at FROM batch WHERE next_line IS NOT NULL AND cancelling IS NULL
             ORDER BY published_at, id LIMIT 1",
        )
        .and_then(|mut s| {
            s.query_row([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))
                .optional()
        })
        .failed()?;
    let Some((batch, from, count, published_at)): Option<([u8; 16], i64, i64, i64)> = first else {
        return Ok(0);
    };
    let end = reach(tx.db, BatchId::from_bytes(batch), from)?.unwrap_or(count);
    // What was to run as soon as it is accepted is due since the whole of it was.
    let unfolded = tx
        .db
        .prepare_cached(
            "INSERT OR FAIL INTO task (id, name, payload, priority, tags, queue, trigger_at, due_at, submitted_at, timeout, max_retries,
               idempotent, expires_at, deadline, batch, fair)
             SELECT id, name, payload, priority, tags, MAX(trigger_at, ?3) <= ?4, MAX(trigger_at, ?3), MAX(trigger_at, ?3), ?3,
               timeout, max_retries, idempotent, expires_at, deadline, batch, COALESCE(fair, ?5)
             FROM staged WHERE batch = ?1 AND line < ?2 ORDER BY line",
        )
        .and_then(|mut s| s.execute(params![batch, end, published_at, micros(now), FairKey::of_id(&batch).get()]))
        .failed()?;
    tx.db
        .prepare_cached(
            "INSERT OR IGNORE INTO task_tag SELECT tags.value, staged.id FROM staged, json_each(staged.tags) AS tags
             WHERE staged.batch = ?1 AND staged.line < ?2",
        )
        .and_then(|mut s| s.execute(params![batch, end]))
        .failed()?;
    tx.db
        .prepare_cached(
            "INSERT OR IGNORE INTO timer
             SELECT expires_at, 0, id FROM staged WHERE batch = ?1 AND line < ?2 AND expires_at IS NOT NULL
             UNION ALL SELECT deadline, 1, id FROM staged WHERE batch = ?1 AND line < ?2 AND deadline IS NOT NULL",
        )
        .and_then(|mut s| s.execute(params![batch, end]))
        .failed()?;
    forget(tx.db, BatchId::from_bytes(batch), end)?;
    tx.db
        .prepare_cached("UPDATE batch SET next_line = IIF(?2 < count, ?2, NULL) WHERE id = ?1")
        .and_then(|mut s| s.execute(params![batch, end]))
        .failed()?;
    Ok(unfolded as u64)
}

/// Moves some of what is staged of a cancelled batch to history, as if each had been a task and been cancelled. Returns how many.
pub(super) fn end_staged(tx: &Tx<'_>, batch: BatchId, from: i64, count: i64, now: Time) -> Result<i64> {
    let end = reach(tx.db, batch, from)?.unwrap_or(count);
    let ended = tx
        .db
        .prepare_cached(
            "INSERT OR FAIL INTO history (id, name, payload, priority, tags, trigger_at, submitted_at, attempt, retries, snoozes, losses,
               timeout, max_retries, idempotent, origin_kind, batch, expires_at, deadline, fair, status, completed_at)
             SELECT staged.id, staged.name, payload, priority, tags, MAX(trigger_at, published_at), published_at, 0, 0, 0, 0,
               timeout, max_retries, idempotent, 0, batch, expires_at, deadline, COALESCE(fair, ?5), ?4, ?3
             FROM staged JOIN batch ON batch.id = staged.batch WHERE staged.batch = ?1 AND line < ?2 ORDER BY line",
        )
        .and_then(|mut s| {
            let cancelled = rows::status_number(Status::Cancelled);
            let fair = FairKey::of_id(batch.as_bytes()).get();
            s.execute(params![batch.as_bytes(), end, micros(now), cancelled, fair])
        })
        .failed()?;
    tx.db
        .prepare_cached(
            "INSERT OR IGNORE INTO history_tag SELECT tags.value, ?3, staged.id, ?4, staged.name FROM staged, json_each(staged.tags) AS tags
             WHERE staged.batch = ?1 AND staged.line < ?2",
        )
        .and_then(|mut s| {
            let cancelled = rows::status_number(Status::Cancelled);
            s.execute(params![batch.as_bytes(), end, micros(now), cancelled])
        })
        .failed()?;
    forget(tx.db, batch, end)?;
    tx.db
        .prepare_cached("UPDATE batch SET next_line = IIF(?2 < count, ?2, NULL) WHERE id = ?1")
        .and_then(|mut s| s.execute(params![batch.as_bytes(), end]))
        .failed()?;
    Ok(ended as i64)
}

//! Old history is forgotten, a little at a time.

use super::Failed;
use super::fires;
use super::rows::{micros, status_number};
use super::writer::Tx;
use crate::model::Time;
use crate::model::task::Status;
use crate::store::Result;
use rusqlite::{OptionalExtension, params};

/// Bytes of payloads and results that one commit forgets, about: their pages have to be read to be freed.
const PRUNED_BYTES: u64 = 32 << 20;

/// Forgets old history, bounded so that no commit takes long.
pub(super) fn prune(tx: &Tx<'_>, before: Time, keep: u64, limit: usize) -> Result<u64> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let total: i64 = tx
        .db
        .prepare_cached("SELECT COALESCE(MAX(seq), 0) FROM history")
        .and_then(|mut s| s.query_row([], |r| r.get(0)))
        .failed()?;
    let newest_to_go = total - i64::try_from(keep).unwrap_or(i64::MAX);
    let mut old = tx
        .db
        .prepare_cached(
            "SELECT seq, id, octet_length(payload) + COALESCE(octet_length(result), 0) FROM history
             WHERE status = ?4 AND completed_at < ?1 AND seq <= ?2
               AND (workflow IS NULL OR NOT EXISTS (SELECT 1 FROM workflow WHERE workflow.id = history.workflow))
             ORDER BY completed_at, id LIMIT ?3",
        )
        .failed()?;
    let mut bytes = 0;
    let mut rows = Vec::new();
    for status in Status::ALL.into_iter().filter(|status| status.is_final()) {
        let left = limit - rows.len() as i64;
        let found = old.query_map(params![micros(before), newest_to_go, left, status_number(status)], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, [u8; 16]>(1)?, row.get::<_, i64>(2)?))
        });
        rows.extend(found.and_then(Iterator::collect::<rusqlite::Result<Vec<_>>>).failed()?);
    }
    rows.retain(|(_, _, size)| {
        let fits = bytes < PRUNED_BYTES;
        bytes += size.unsigned_abs();
        fits
    });
    let mut most = rows.len();
    fires::forget(tx, before)?;
    for sql in [
        "DELETE FROM event WHERE id IN (SELECT id FROM event WHERE at < ?1 LIMIT ?2)",
        "DELETE FROM fire WHERE (schedule, at) IN (SELECT schedule, at FROM fire WHERE made_at < ?1 LIMIT ?2)",
        "DELETE FROM skip WHERE (schedule, at, reason) IN (SELECT schedule, at, reason FROM skip WHERE until < ?1 LIMIT ?2)",
        // Its tasks stay, for as long as they do.
        "DELETE FROM callback WHERE batch IN (SELECT id FROM batch WHERE completed_at < ?1 AND success + failed + cancelled = count
           ORDER BY completed_at, id LIMIT ?2)",
        "DELETE FROM batch WHERE id IN (SELECT id FROM batch WHERE completed_at < ?1 AND success + failed + cancelled = count
           ORDER BY completed_at, id LIMIT ?2)",
    ] {
        let deleted = tx
            .db
            .prepare_cached(sql)
            .and_then(|mut s| s.execute(params![micros(before), limit]))
            .failed()?;
        most = most.max(deleted);
    }
    most = most.max(prune_workflow(tx, before)?);
    for (seq, id, _) in &rows {
        for sql in [
            "DELETE FROM history_tag WHERE id = ?1 AND (tag, completed_at) IN
               (SELECT tags.value, history.completed_at FROM history, json_each(history.tags) AS tags WHERE history.id = ?1)",
            "DELETE FROM attempt WHERE task = ?1",
            "DELETE FROM log WHERE task = ?1",
        ] {
            tx.db.prepare_cached(sql).and_then(|mut s| s.execute([id])).failed()?;
        }
        tx.db
            .prepare_cached("DELETE FROM history WHERE seq = ?1")
            .and_then(|mut s| s.execute([seq]))
            .failed()?;
    }
    Ok(most as u64)
}

/// Forgets the workflow that ended first, if it is old. Its tasks are let go with it: until then a retry may need any of their results.
fn prune_workflow(tx: &Tx<'_>, before: Time) -> Result<usize> {
    let oldest: Option<[u8; 16]> = tx
        .db
        .prepare_cached("SELECT id FROM workflow WHERE completed_at < ?1 ORDER BY completed_at LIMIT 1")
        .and_then(|mut s| s.query_row([micros(before)], |row| row.get(0)).optional())
        .failed()?;
    let Some(id) = oldest else { return Ok(0) };
    for sql in ["DELETE FROM step WHERE workflow = ?1", "DELETE FROM workflow WHERE id = ?1"] {
        tx.db.prepare_cached(sql).and_then(|mut s| s.execute([id])).failed()?;
    }
    Ok(1)
}

//! Old history is forgotten, a little at a time.

use super::Failed;
use super::fires;
use super::rows::{from_micros, micros, status_number};
use super::writer::Tx;
use crate::model::Time;
use crate::model::ids::TaskId;
use crate::model::task::Status;
use crate::store::{Place, Pruned, Result};
use rusqlite::params;

/// Bytes of payloads and results that one commit forgets, about: their pages have to be read to be freed.
const PRUNED_BYTES: u64 = 32 << 20;

/// Rows of history that one commit looks at, for each that it may forget: those of workflows that are kept stay.
const WALKED: usize = 20;

/// Forgets old history, bounded so that no commit takes long.
pub(super) fn prune(tx: &Tx<'_>, before: Time, keep: u64, limit: usize, after: Option<Place>) -> Result<Pruned> {
    let workflows = prune_workflows(tx, before, limit)?;
    // They go first: what they hold would be looked at in vain.
    let (rows, after) = if workflows < limit {
        old(tx, before, keep, limit, after)?
    } else {
        (Vec::new(), after)
    };
    let mut most = workflows.max(rows.len());
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    fires::forget(tx, before)?;
    for sql in [
        "DELETE FROM event WHERE id IN (SELECT id FROM event WHERE at < ?1 LIMIT ?2)",
        "DELETE FROM fire WHERE (schedule, at) IN (SELECT schedule, at FROM fire WHERE made_at < ?1 LIMIT ?2)",
        "DELETE FROM skip WHERE (schedule, at, reason) IN (SELECT schedule, at, reason FROM skip WHERE until < ?1 LIMIT ?2)",
        "DELETE FROM removed WHERE id IN (SELECT id FROM removed WHERE at < ?1 LIMIT ?2)",
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
    for (seq, id) in &rows {
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
    Ok(Pruned { most: most as u64, after })
}

/// A row of history by its place and its task.
type Row = (i64, [u8; 16]);

/// The next old rows, and where to go on; no place where all has been looked at.
fn old(tx: &Tx<'_>, before: Time, keep: u64, limit: usize, after: Option<Place>) -> Result<(Vec<Row>, Option<Place>)> {
    let total: i64 = tx
        .db
        .prepare_cached("SELECT COALESCE(MAX(seq), 0) FROM history")
        .and_then(|mut s| s.query_row([], |r| r.get(0)))
        .failed()?;
    let newest_to_go = total - i64::try_from(keep).unwrap_or(i64::MAX);
    let mut walk = tx
        .db
        .prepare_cached(
            "SELECT seq, id, completed_at, octet_length(payload) + COALESCE(octet_length(result), 0),
               seq <= ?2 AND (workflow IS NULL OR NOT EXISTS (SELECT 1 FROM workflow WHERE workflow.id = history.workflow))
             FROM history INDEXED BY history_by_end
             WHERE status = ?3 AND completed_at < ?1 AND (completed_at, id) > (?4, ?5) ORDER BY completed_at, id",
        )
        .failed()?;
    let (mut rows, mut bytes, mut walked) = (Vec::new(), 0, 0);
    let statuses = Status::ALL.into_iter().filter(|status| status.is_final());
    for status in statuses.skip_while(|status| after.is_some_and(|after| after.status != *status)) {
        let after = after.filter(|after| after.status == status);
        let (at, id) = after.map_or((i64::MIN, [0; 16]), |after| (micros(after.ended_at), *after.id.as_bytes()));
        let mut found = walk
            .query(params![micros(before), newest_to_go, status_number(status), at, id])
            .failed()?;
        while let Some(row) = found.next().failed()? {
            let read = || Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?));
            let (seq, id, ended_at, size, goes): (i64, [u8; 16], i64, i64, bool) = read().failed()?;
            walked += 1;
            if goes {
                rows.push((seq, id));
                bytes += size.unsigned_abs();
            }
            if rows.len() >= limit || bytes >= PRUNED_BYTES || walked >= WALKED * limit {
                let place = Place {
                    status,
                    ended_at: from_micros(ended_at),
                    id: TaskId::from_bytes(id),
                };
                return Ok((rows, Some(place)));
            }
        }
    }
    Ok((rows, None))
}

/// Forgets old workflows. Their tasks are let go with them: until then a retry may need any of their results. Fewer than `limit` where no
/// other is old.
fn prune_workflows(tx: &Tx<'_>, before: Time, limit: usize) -> Result<usize> {
    let bound = i64::try_from(limit).unwrap_or(i64::MAX);
    let oldest: Vec<[u8; 16]> = tx
        .db
        .prepare_cached("SELECT id FROM workflow WHERE completed_at < ?1 ORDER BY completed_at LIMIT ?2")
        .and_then(|mut s| s.query_map(params![micros(before), bound], |row| row.get(0))?.collect())
        .failed()?;
    let mut steps = 0;
    for id in &oldest {
        let delete = |sql| tx.db.prepare_cached(sql).and_then(|mut s| s.execute([id])).failed();
        steps += delete("DELETE FROM step WHERE workflow = ?1")?;
        delete("DELETE FROM workflow WHERE id = ?1")?;
        if steps >= WALKED * limit {
            return Ok(limit);
        }
    }
    Ok(oldest.len())
}

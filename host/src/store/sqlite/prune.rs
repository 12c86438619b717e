//! What is not kept is forgotten, a little at a time.

use super::Failed;
use super::fires;
use super::kept::{self, Kind, TASK};
use super::outdated::{EndedTask, Plan};
use super::rows::micros;
use super::writer::Tx;
use crate::model::Time;
use crate::store::{Pruned, Result};
use rusqlite::{OptionalExtension, params};
use std::sync::LazyLock;

/// Steps of workflows that one commit forgets, for each workflow that it may: these may have many.
const STEPS: usize = 20;

/// Forgets what was found to be outdated, and what else is too old, bounded so that no commit takes long.
pub(super) fn prune(tx: &Tx<'_>, plan: &Plan, before: Time, limit: usize) -> Result<Pruned> {
    // The numbers of what goes may be given again: what ended in this commit so far is counted before.
    tx.kept.count_ended(tx.db)?;
    // They go first: their tasks are free to go then.
    forget_workflows(tx, &plan.workflows, limit)?;
    for task in &plan.tasks {
        forget_task(tx, task)?;
    }
    tx.kept.begin_anew(tx.db)?;
    for (id, bytes) in &plan.events {
        let gone = tx
            .db
            .prepare_cached("DELETE FROM event WHERE id = ?1")
            .and_then(|mut s| s.execute([id]))
            .failed()?;
        // An event never changes.
        if gone > 0 {
            tx.kept.add(Kind::Event, "", -1, -bytes.cast_signed());
        }
    }
    let others = forget_others(tx, before, limit)?;
    let most = others.max(plan.workflows.len()).max(plan.tasks.len()).max(plan.events.len());
    Ok(Pruned {
        most: most as u64,
        after: plan.after.clone(),
    })
}

/// Fires, what was skipped and removed, and batches: by their age alone.
fn forget_others(tx: &Tx<'_>, before: Time, limit: usize) -> Result<usize> {
    fires::forget(tx, before)?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut most = 0;
    for sql in [
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
    Ok(most)
}

/// Forgets a task with its log and attempts, unless it went before or its workflow is there still.
fn forget_task(tx: &Tx<'_>, task: &EndedTask) -> Result<()> {
    static FIND: LazyLock<String> = LazyLock::new(|| {
        format!(
            "SELECT name, {TASK} FROM history WHERE seq = ?1 AND id = ?2
             AND (workflow IS NULL OR NOT EXISTS (SELECT 1 FROM workflow WHERE workflow.id = history.workflow))"
        )
    });
    let found: Option<(String, i64)> = tx
        .db
        .prepare_cached(&FIND)
        .and_then(|mut s| {
            s.query_row(params![task.seq, task.id], |row| Ok((row.get(0)?, row.get(1)?)))
                .optional()
        })
        .failed()?;
    let Some((name, bytes)) = found else { return Ok(()) };
    if task.tagged {
        tx.db
            .prepare_cached(
                "DELETE FROM history_tag WHERE id = ?1 AND (tag, completed_at) IN
                   (SELECT tags.value, history.completed_at FROM history, json_each(history.tags) AS tags WHERE history.id = ?1)",
            )
            .and_then(|mut s| s.execute([task.id]))
            .failed()?;
    }
    let beside = [
        (
            Kind::Attempt,
            kept::attempts_of(tx.db, &task.id)?,
            "DELETE FROM attempt WHERE task = ?1",
        ),
        (Kind::Log, kept::log_of(tx.db, &task.id)?, "DELETE FROM log WHERE task = ?1"),
    ];
    for (kind, (count, bytes), sql) in beside {
        if count > 0 {
            tx.db.prepare_cached(sql).and_then(|mut s| s.execute([task.id])).failed()?;
            tx.kept.add(kind, &name, -count, -bytes);
        }
    }
    tx.db
        .prepare_cached("DELETE FROM history WHERE seq = ?1")
        .and_then(|mut s| s.execute([task.seq]))
        .failed()?;
    tx.kept.add(Kind::Task, &name, -1, -bytes);
    Ok(())
}

/// Forgets workflows. Their tasks are let go with them: until then a retry may need any of their results.
fn forget_workflows(tx: &Tx<'_>, workflows: &[[u8; 16]], limit: usize) -> Result<()> {
    let mut steps = 0;
    for id in workflows {
        let delete = |sql| tx.db.prepare_cached(sql).and_then(|mut s| s.execute([id])).failed();
        // A step may have been tried again since.
        if delete("DELETE FROM workflow WHERE id = ?1 AND completed_at IS NOT NULL")? > 0 {
            steps += delete("DELETE FROM step WHERE workflow = ?1")?;
        }
        if steps >= STEPS * limit {
            break;
        }
    }
    Ok(())
}

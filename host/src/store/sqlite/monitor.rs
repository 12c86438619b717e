//! Metrics and alerts, kept in the commits of what they tell about.

use super::rows::{blob, from_micros, micros, micros_of};
use super::writer::Tx;
use super::{Failed, page};
use crate::model::alert::{Alert, AlertType, NewAlert};
use crate::model::attempt::OutcomeKind;
use crate::model::ids::{AlertId, TaskId};
use crate::model::metrics::Metrics;
use crate::store::{AlertFilter, Page, PageRequest, Result, StoreError};
use rusqlite::{Connection, OptionalExtension, Row, params};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

/// The writer's copy of the metrics, so that a commit of 500 attempts writes one row a task name.
#[derive(Default)]
pub(super) struct MetricsBook {
    by_name: HashMap<String, Metrics>,
    dirty: HashSet<String>,
}

impl MetricsBook {
    pub(super) fn add(&mut self, db: &Connection, name: &str, outcome: OutcomeKind, execution_time: Duration) -> Result<()> {
        if !Metrics::counts(outcome) {
            return Ok(());
        }
        if !self.by_name.contains_key(name) {
            self.by_name.insert(name.to_owned(), read_metrics(db, name)?.unwrap_or_default());
        }
        if let Some(metrics) = self.by_name.get_mut(name) {
            metrics.add(outcome, execution_time);
        }
        if !self.dirty.contains(name) {
            self.dirty.insert(name.to_owned());
        }
        Ok(())
    }

    /// Writes what changed since the last commit.
    pub(super) fn flush(&mut self, db: &Connection) -> Result<()> {
        let mut write = db
            .prepare_cached("INSERT INTO metric VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET data = excluded.data")
            .failed()?;
        for name in self.dirty.drain() {
            let Some(metrics) = self.by_name.get(&name) else { continue };
            let data = serde_json::to_string(metrics).map_err(|error| StoreError::Unavailable(error.to_string()))?;
            write.execute(params![name, data]).failed()?;
        }
        Ok(())
    }
}

/// Sums that cannot be read begin anew: they are worth less than the settlement that adds to them.
fn parse_metrics(name: &str, data: &str) -> Option<Metrics> {
    serde_json::from_str(data)
        .inspect_err(|error| tracing::error!(task_name = name, %error, "stored metrics cannot be read; they begin anew"))
        .ok()
}

fn read_metrics(db: &Connection, name: &str) -> Result<Option<Metrics>> {
    let data: Option<String> = db
        .prepare_cached("SELECT data FROM metric WHERE name = ?1")
        .and_then(|mut s| s.query_row([name], |row| row.get(0)).optional())
        .failed()?;
    Ok(data.and_then(|data| parse_metrics(name, &data)))
}

pub(super) fn metrics(db: &Connection, name: Option<&str>) -> Result<BTreeMap<String, Metrics>> {
    if let Some(name) = name {
        return Ok(read_metrics(db, name)?
            .map(|metrics| (name.to_owned(), metrics))
            .into_iter()
            .collect());
    }
    let mut all = db.prepare_cached("SELECT name, data FROM metric").failed()?;
    let rows = all
        .query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))
        .failed()?;
    let mut metrics = BTreeMap::new();
    for row in rows {
        let (name, data) = row.failed()?;
        if let Some(sums) = parse_metrics(&name, &data) {
            metrics.insert(name, sums);
        }
    }
    Ok(metrics)
}

pub(super) fn raise(tx: &Tx<'_>, alert: &NewAlert) -> Result<()> {
    tx.db
        .prepare_cached(
            "INSERT INTO alert (id, type, task_name, task_id, error, execution_time, first_at, last_at, count)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?7, 1)
             ON CONFLICT (type, task_name) DO UPDATE SET task_id = excluded.task_id, error = excluded.error,
               execution_time = excluded.execution_time, last_at = excluded.last_at, count = count + 1",
        )
        .and_then(|mut s| {
            s.execute(params![
                AlertId::new(alert.at).as_bytes(),
                alert.kind.as_str(),
                alert.task_name,
                alert.task_id.as_bytes(),
                alert.error,
                alert.execution_time.map(micros_of),
                micros(alert.at),
            ])
        })
        .failed()
        .map(drop)
}

pub(super) fn alerts(db: &Connection, filter: &AlertFilter, request: &PageRequest) -> Result<Page<Alert>> {
    let (before_at, before_id) = page::decode(request.cursor.as_deref())?.unwrap_or((i64::MAX, [0xff; 16]));
    let mut query = db
        .prepare_cached(
            "SELECT id, type, task_name, task_id, error, execution_time, first_at, last_at, count FROM alert
             WHERE (?1 IS NULL OR type = ?1) AND last_at >= ?2 AND (last_at, id) < (?3, ?4) ORDER BY last_at DESC, id DESC LIMIT ?5",
        )
        .failed()?;
    let since = filter.since.map_or(i64::MIN, micros);
    let rows = query
        .query_map(
            params![
                filter.kind.map(AlertType::as_str),
                since,
                before_at,
                before_id,
                page::sql_limit(request)
            ],
            alert_from_row,
        )
        .failed()?;
    let alerts = rows.collect::<rusqlite::Result<Vec<_>>>().failed()?;
    Ok(page::cut(alerts, request.limit, |alert| {
        (micros(alert.latest.at), *alert.id.as_bytes())
    }))
}

fn alert_from_row(row: &Row<'_>) -> rusqlite::Result<Alert> {
    let kind: String = row.get(1)?;
    Ok(Alert {
        id: AlertId::from_bytes(blob(row, 0)?),
        latest: NewAlert {
            kind: AlertType::parse(&kind).unwrap_or(AlertType::TaskFailure),
            task_name: row.get(2)?,
            task_id: TaskId::from_bytes(blob(row, 3)?),
            error: row.get(4)?,
            execution_time: row.get::<_, Option<i64>>(5)?.map(super::rows::duration),
            at: from_micros(row.get(7)?),
        },
        first_at: from_micros(row.get(6)?),
        count: row.get::<_, i64>(8)?.unsigned_abs(),
    })
}

pub(super) fn clear_alerts(tx: &Tx<'_>, kind: Option<AlertType>) -> Result<u64> {
    let cleared = tx
        .db
        .prepare_cached("DELETE FROM alert WHERE ?1 IS NULL OR type = ?1")
        .and_then(|mut s| s.execute([kind.map(AlertType::as_str)]))
        .failed()?;
    Ok(cleared as u64)
}

//! Metrics and alerts, as clients see them.

use crate::model::alert::Alert;
use crate::model::metrics::Metrics;
use chrono::{DateTime, Utc};
use serde::Serialize;
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// How long attempts of one task name took, in seconds.
#[derive(Debug, Serialize, ToSchema)]
pub struct MetricsRecord {
    /// Attempts that ran and ended.
    pub count: u64,
    /// Their mean.
    pub avg_execution_time: f64,
    /// The shortest.
    pub min_execution_time: f64,
    /// The longest.
    pub max_execution_time: f64,
    /// Half of them stayed within this.
    pub p50: f64,
    /// 95 % of them stayed within this.
    pub p95: f64,
    /// 99 % of them stayed within this.
    pub p99: f64,
    /// Failed attempts over all, 0 to 1.
    pub failure_rate: f64,
}

impl MetricsRecord {
    /// `None` where nothing was measured.
    pub(crate) fn new(metrics: &Metrics) -> Option<Self> {
        (metrics.count > 0).then(|| Self {
            count: metrics.count,
            avg_execution_time: metrics.average(),
            min_execution_time: metrics.min,
            max_execution_time: metrics.max,
            p50: metrics.quantile(0.5),
            p95: metrics.quantile(0.95),
            p99: metrics.quantile(0.99),
            failure_rate: metrics.failure_rate(),
        })
    }
}

/// The metrics of one task name, or of all by name; `{}` where nothing was measured.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub enum Measured {
    /// Of the name that was asked for.
    One(MetricsRecord),
    /// Of all.
    ByName(BTreeMap<String, MetricsRecord>),
}

/// What an operator should look at.
#[derive(Debug, Serialize, ToSchema)]
pub struct AlertRecord {
    /// Its id.
    pub alert_id: String,
    /// `long_execution task_failure late absent calendar edit`.
    #[serde(rename = "type")]
    #[schema(example = "task_failure")]
    pub kind: &'static str,
    /// The task of the latest case; of `absent` and `calendar` the schedule.
    pub task_id: String,
    /// Its name.
    pub task_name: String,
    /// One sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Seconds that the attempt had run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub execution_time: Option<f64>,
    /// The latest case.
    pub timestamp: DateTime<Utc>,
    /// The first case.
    pub first_seen: DateTime<Utc>,
    /// How many cases since the alert was opened.
    pub count: u64,
}

impl From<Alert> for AlertRecord {
    fn from(alert: Alert) -> Self {
        Self {
            alert_id: alert.id.to_string(),
            kind: alert.latest.kind.as_str(),
            task_id: alert.latest.task_id.to_string(),
            task_name: alert.latest.task_name,
            error: alert.latest.error,
            execution_time: alert.latest.execution_time.map(|time| time.as_secs_f64()),
            timestamp: alert.latest.at,
            first_seen: alert.first_at,
            count: alert.count,
        }
    }
}

/// How many alerts were closed.
#[derive(Debug, Serialize, ToSchema)]
pub struct Cleared {
    /// So many.
    pub cleared_count: u64,
}

/// Whether the host can work.
#[derive(Debug, Serialize, ToSchema)]
pub struct Health {
    /// `ok` or `ready`.
    #[schema(example = "ok")]
    pub status: &'static str,
}

//! Batches and workflows, as clients see them.

use crate::model::batch::Counts;
use crate::store::{Batch, CallbackState, Step, StepRetried, Workflow};
use chrono::{DateTime, Utc};
use serde::{Serialize, Serializer};
use utoipa::ToSchema;

/// Tasks that came in together.
#[derive(Debug, Serialize, ToSchema)]
pub struct BatchRecord {
    /// Its id.
    pub batch_id: String,
    /// For people.
    pub name: Option<String>,
    /// `running` until all have ended, `cancelling` where that was asked for; then `success` where all succeeded, else `failed` where one
    /// did, else `cancelled`.
    #[schema(example = "running")]
    pub status: &'static str,
    /// How many tasks it has.
    pub count: u64,
    /// How many wait.
    pub pending: u64,
    /// How many run.
    pub running: u64,
    /// How many succeeded.
    pub success: u64,
    /// How many failed and were not retried.
    pub failed: u64,
    /// How many were cancelled.
    pub cancelled: u64,
    /// When it was accepted.
    pub submitted_at: DateTime<Utc>,
    /// When all had ended for the first time.
    pub completed_at: Option<DateTime<Utc>>,
    /// When its cancellation was asked for.
    pub cancelled_at: Option<DateTime<Utc>>,
    /// What follows it; left out in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub callbacks: Option<Vec<CallbackRecord>>,
}

/// A task that follows a batch.
#[derive(Debug, Serialize, ToSchema)]
pub struct CallbackRecord {
    /// `on_success`, `on_failure` or `on_complete`.
    #[schema(example = "on_complete")]
    pub on: &'static str,
    /// The definition's name.
    pub task_name: String,
    /// The task's id; null until it was submitted.
    pub task_id: Option<String>,
    /// When it was submitted.
    pub fired_at: Option<DateTime<Utc>>,
}

impl From<CallbackState> for CallbackRecord {
    fn from(callback: CallbackState) -> Self {
        Self {
            on: callback.kind.as_str(),
            task_name: callback.task_name,
            task_id: callback.fired_at.map(|_| callback.task.to_string()),
            fired_at: callback.fired_at,
        }
    }
}

impl BatchRecord {
    /// With what follows it.
    pub(crate) fn whole(mut batch: Batch) -> Self {
        let callbacks = std::mem::take(&mut batch.callbacks).into_iter().map(Into::into).collect();
        Self {
            callbacks: Some(callbacks),
            ..Self::listed(batch)
        }
    }

    /// As lists show it.
    pub(crate) fn listed(batch: Batch) -> Self {
        let ended = batch.counts.left() == 0;
        let status = match batch.counts {
            _ if !ended && batch.cancelled_at.is_some() => "cancelling",
            _ if !ended => "running",
            Counts { failed: 1.., .. } => "failed",
            Counts { cancelled: 1.., .. } => "cancelled",
            _ => "success",
        };
        Self {
            batch_id: batch.id.to_string(),
            status,
            count: batch.counts.count,
            pending: batch.counts.left().saturating_sub(batch.running),
            running: batch.running,
            success: batch.counts.success,
            failed: batch.counts.failed,
            cancelled: batch.counts.cancelled,
            submitted_at: batch.submitted_at,
            completed_at: batch.completed_at,
            cancelled_at: batch.cancelled_at,
            callbacks: None,
            name: batch.name,
        }
    }
}

/// The answer to a workflow.
#[derive(Debug, Serialize, ToSchema)]
pub struct WorkflowAccepted {
    /// The workflow's id.
    pub workflow_id: String,
}

/// Steps that need one another.
#[derive(Debug, Serialize, ToSchema)]
pub struct WorkflowRecord {
    /// Its id.
    pub workflow_id: String,
    /// For people.
    pub name: Option<String>,
    /// `running success failed cancelled`.
    #[schema(example = "running")]
    pub status: &'static str,
    /// When it was accepted.
    pub submitted_at: DateTime<Utc>,
    /// When all its steps had ended; null again while a retry runs.
    pub completed_at: Option<DateTime<Utc>>,
    /// By key, in the order of the request; left out in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<HashMap<String, StepRecord>>)]
    pub steps: Option<Steps>,
}

/// Steps by key, which keep their order.
#[derive(Debug)]
pub struct Steps(Vec<(String, StepRecord)>);

impl Serialize for Steps {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(key, step)| (key, step)))
    }
}

/// One step of a workflow.
#[derive(Debug, Serialize, ToSchema)]
pub struct StepRecord {
    /// Its latest task.
    pub task_id: String,
    /// The definition's name; null once the task is forgotten.
    pub task_name: Option<String>,
    /// `pending running success failed cancelled`.
    #[schema(example = "pending")]
    pub status: &'static str,
    /// Whether it waits for its needs.
    pub blocked: bool,
    /// The keys of the steps before it.
    pub needs: Vec<String>,
    /// `all_success all_done any_success`.
    #[schema(example = "all_success")]
    pub when: &'static str,
    /// When its first attempt began.
    pub started_at: Option<DateTime<Utc>>,
    /// When it ended.
    pub completed_at: Option<DateTime<Utc>>,
    /// Why it failed or was cancelled, in one sentence.
    pub error: Option<String>,
}

impl From<Step> for StepRecord {
    fn from(step: Step) -> Self {
        Self {
            task_id: step.task.to_string(),
            task_name: step.task_name,
            status: step.status.as_str(),
            blocked: step.blocked,
            needs: step.needs,
            when: step.when.as_str(),
            started_at: step.started_at,
            completed_at: step.completed_at,
            error: step.error,
        }
    }
}

impl WorkflowRecord {
    /// With its steps.
    pub(crate) fn whole(mut workflow: Workflow) -> Self {
        let steps = std::mem::take(&mut workflow.steps);
        let steps = steps.into_iter().map(|step| (step.key.clone(), step.into())).collect();
        Self {
            steps: Some(Steps(steps)),
            ..Self::listed(workflow)
        }
    }

    /// As lists show it.
    pub(crate) fn listed(workflow: Workflow) -> Self {
        Self {
            workflow_id: workflow.id.to_string(),
            name: workflow.name,
            status: workflow.status.as_str(),
            submitted_at: workflow.submitted_at,
            completed_at: workflow.completed_at,
            steps: None,
        }
    }
}

/// A step that was retried.
#[derive(Debug, Serialize, ToSchema)]
pub struct StepRetriedRecord {
    /// The step's new task.
    pub task_id: String,
    /// `scheduled`.
    #[schema(example = "scheduled")]
    pub status: &'static str,
    /// Its task before.
    pub retry_of: String,
    /// The keys of the steps after it that wait for their turn again, each with a new task.
    pub reset: Vec<String>,
}

impl From<StepRetried> for StepRetriedRecord {
    fn from(retried: StepRetried) -> Self {
        Self {
            task_id: retried.task.to_string(),
            status: "scheduled",
            retry_of: retried.before.to_string(),
            reset: retried.reset,
        }
    }
}

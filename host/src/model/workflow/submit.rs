//! A workflow on its way in: what was asked for becomes steps with tasks of their own, all checked.

use super::{Graph, StepRule};
use crate::model::Time;
use crate::model::definition::Definition;
use crate::model::ids::WorkflowId;
use crate::model::request::{Refusal, RefusalKind, WorkflowRequest};
use crate::model::task::{NewTask, Origin, Submission};

/// A workflow as it enters the store. Its tasks exist from then on; those that need others wait for them.
#[derive(Clone, Debug)]
pub struct NewWorkflow {
    /// Its id.
    pub id: WorkflowId,
    /// For people.
    pub name: Option<String>,
    /// When it was accepted.
    pub submitted_at: Time,
    /// In the order of the request.
    pub steps: Vec<NewStep>,
    /// Which of them need which.
    pub graph: Graph,
}

/// One of its steps.
#[derive(Clone, Debug)]
pub struct NewStep {
    /// Its name within the workflow.
    pub key: String,
    /// What it runs.
    pub task: NewTask,
}

impl WorkflowRequest {
    /// Checks which steps need which.
    pub fn graph(&self) -> Result<Graph, Refusal> {
        let default = self.on_failure.default_when();
        let rules = self.steps.iter().map(|step| StepRule {
            key: &step.key,
            needs: &step.needs,
            when: step.when.unwrap_or(default),
        });
        Graph::new(&rules.collect::<Vec<_>>())
    }
}

impl NewWorkflow {
    /// Checks the steps' keys and needs and completes their tasks with the definitions' defaults. Whether each name has a definition and
    /// each payload fits its schema is checked before, by whoever has the definitions: `definition` may answer `None`.
    pub fn new<'a>(
        request: WorkflowRequest,
        definition: impl Fn(&str) -> Option<&'a Definition>,
        (origin, depth): (Origin, u32),
        now: Time,
    ) -> Result<Self, Refusal> {
        let graph = request.graph()?;
        for (place, step) in request.steps.iter().enumerate() {
            let max = definition(&step.task_name).map(|definition| definition.max_timeout);
            if let Some((max, _)) = max.zip(step.timeout).filter(|(max, timeout)| timeout > max) {
                let sentence = format!("must be at most {} s, which is what {} allows", max.as_secs_f64(), step.task_name);
                return Err(Refusal::new(RefusalKind::Value, format!("/steps/{place}/timeout"), sentence));
            }
        }
        let id = WorkflowId::new(now);
        let steps = request.steps.into_iter().map(|step| {
            let submission = Submission {
                name: step.task_name,
                payload: step.payload.text,
                priority: step.priority,
                tags: step.tags,
                timeout: step.timeout,
                max_retries: step.max_retries,
                idempotent: step.idempotent,
                ..Submission::default()
            };
            let definition = definition(&submission.name);
            let task = NewTask {
                workflow: Some(id),
                depth,
                ..NewTask::from_submission(submission, definition, origin, now)
            };
            NewStep { key: step.key, task }
        });
        Ok(Self {
            id,
            name: request.name,
            submitted_at: now,
            steps: steps.collect(),
            graph,
        })
    }
}

//! A request for a task becomes a submission.

use super::{Refusal, RefusalKind, TaskRequest};
use crate::model::Time;
use crate::model::definition::Definition;
use crate::model::task::Submission;

/// How far ahead a task may be submitted, in days: ten years.
const MAX_AHEAD: i64 = 3_653;

impl TaskRequest {
    /// What the types of the members cannot check.
    pub fn check(&self, definition: &Definition, now: Time) -> Result<(), Refusal> {
        let refuse = |pointer: &str, sentence: String| Err(Refusal::new(RefusalKind::Value, pointer, sentence));
        if self
            .trigger_time
            .is_some_and(|time| time > now + chrono::TimeDelta::days(MAX_AHEAD))
        {
            return refuse("/trigger_time", "must not be more than ten years ahead".to_owned());
        }
        let begins = self.trigger_time.unwrap_or(now).max(now);
        if self.expires_at.is_some_and(|at| at <= begins) {
            let sentence = match self.trigger_time {
                Some(time) if time > now => "must be after trigger_time",
                _ => "must be in the future",
            };
            return refuse("/expires_at", sentence.to_owned());
        }
        let ahead = now + chrono::TimeDelta::days(2 * MAX_AHEAD);
        if self.deadline.is_some_and(|at| at <= begins) {
            let sentence = match self.trigger_time {
                Some(time) if time > now => "must be after trigger_time; no task ends before it begins",
                _ => "must be in the future; no task could end by then",
            };
            return refuse("/deadline", sentence.to_owned());
        }
        for (pointer, time) in [("/expires_at", self.expires_at), ("/deadline", self.deadline)] {
            if time.is_some_and(|time| time > ahead) {
                return refuse(pointer, "must not be more than twenty years ahead".to_owned());
            }
        }
        let max = definition.max_timeout;
        if self.timeout.is_some_and(|timeout| timeout > max) {
            let sentence = format!("must be at most {} s, which is what {} allows", max.as_secs_f64(), definition.name);
            return refuse("/timeout", sentence);
        }
        if let Err(sentence) = self.fair() {
            return refuse("/fair_key", sentence);
        }
        match &self.unique {
            Some(unique) => unique.check(&self.payload.value),
            None => Ok(()),
        }
    }
}

impl From<TaskRequest> for Submission {
    fn from(request: TaskRequest) -> Self {
        let fair = request.fair().unwrap_or_default(); // it was checked as it came in
        let unique = request.unique.map(|unique| unique.of(&request.task_name, &request.payload.text));
        Self {
            name: request.task_name,
            payload: request.payload.text,
            priority: request.priority,
            tags: request.tags,
            trigger_time: request.trigger_time,
            timeout: request.timeout,
            max_retries: request.max_retries,
            idempotent: request.idempotent,
            expires_at: request.expires_at,
            deadline: request.deadline,
            fair,
            unique,
        }
    }
}

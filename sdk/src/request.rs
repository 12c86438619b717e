//! What a handler submits, built member by member: the same requests as over HTTP, so that there is one set of words to know.

use crate::Seconds;
use serde::ser::{Error, SerializeMap};
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

/// The members of a request. What has no JSON form is told when the request is sent: a chain of calls has no place for a `?`.
#[derive(Clone, Debug, Default, PartialEq)]
struct Members {
    known: Map<String, Value>,
    error: Option<String>,
}

impl Members {
    fn set<T: Serialize + ?Sized>(mut self, name: &str, value: &T) -> Self {
        match serde_json::to_value(value) {
            Ok(value) => drop(self.known.insert(name.to_owned(), value)),
            Err(error) => self.error = self.error.or_else(|| Some(format!("`{name}` has no JSON form: {error}"))),
        }
        self
    }

    fn push<T: Serialize + ?Sized>(mut self, name: &str, value: &T) -> Self {
        match serde_json::to_value(value) {
            Ok(value) => match self.known.entry(name).or_insert_with(|| Value::Array(Vec::new())) {
                Value::Array(list) => list.push(value),
                other => *other = Value::Array(vec![value]),
            },
            Err(error) => self.error = self.error.or_else(|| Some(error.to_string())),
        }
        self
    }
}

impl Serialize for Members {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if let Some(error) = &self.error {
            return Err(S::Error::custom(error));
        }
        let mut map = serializer.serialize_map(Some(self.known.len()))?;
        for (name, value) in &self.known {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

/// A task to submit with [`Context::submit`](crate::Context::submit). What is not set is the definition's.
///
/// ```
/// use taskhost_sdk::{Submission, prelude::*};
///
/// let ctx = Context::mock();
/// ctx.submit(
///     &Submission::new("settlement")
///         .payload(&json!({ "date": "2026-03-02" }))
///         .priority(2)
///         .tag("eod")
///         .at("2026-03-02T17:30:00Z"),
/// )?;
/// assert_eq!(ctx.submitted()[0]["payload"]["date"], "2026-03-02");
/// # Ok::<(), TaskError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Submission(Members);

impl Submission {
    /// A task of this name, with an empty payload, to run at once.
    pub fn new(task_name: &str) -> Self {
        Self(Members::default().set("task_name", task_name))
    }

    /// What the task is given: anything that serialises to a JSON object.
    #[must_use]
    pub fn payload<T: Serialize + ?Sized>(self, payload: &T) -> Self {
        self.with("payload", payload)
    }

    /// From 1, the most urgent, to 9.
    #[must_use]
    pub fn priority(self, priority: u8) -> Self {
        self.with("priority", &priority)
    }

    /// One more tag.
    #[must_use]
    pub fn tag(self, tag: &str) -> Self {
        Self(self.0.push("tags", tag))
    }

    /// Not before this time: RFC 3339.
    #[must_use]
    pub fn at(self, time: &str) -> Self {
        self.with("trigger_time", time)
    }

    /// The longest that an attempt may take.
    #[must_use]
    pub fn timeout(self, seconds: impl Seconds) -> Self {
        self.with("timeout", &seconds.seconds())
    }

    /// Retries after the first attempt, 0 to 1,000.
    #[must_use]
    pub fn retries(self, retries: u32) -> Self {
        self.with("max_retries", &retries)
    }

    /// `false`: never to be rerun automatically after an attempt that gave no answer of its own.
    #[must_use]
    pub fn idempotent(self, idempotent: bool) -> Self {
        self.with("idempotent", &idempotent)
    }

    /// Any other member of `POST /task/submit`, such as `deadline`; all but `unique`, which the host refuses within an attempt.
    #[must_use]
    pub fn with<T: Serialize + ?Sized>(self, member: &str, value: &T) -> Self {
        Self(self.0.set(member, value))
    }
}

impl Serialize for Submission {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

/// Steps that need each other's results, to submit with [`Context::submit_workflow`](crate::Context::submit_workflow).
///
/// ```
/// use taskhost_sdk::{OnFailure, Step, When, Workflow, prelude::*};
///
/// let ctx = Context::mock();
/// let night = Workflow::new()
///     .name("night")
///     .step(Step::new("prices", "data_sync").payload(&json!({ "source": "close" })))
///     .step(Step::new("risk", "risk_scan").needs(&["prices"]))
///     .step(Step::new("report", "performance_report").needs(&["prices", "risk"]).when(When::AllDone))
///     .on_failure(OnFailure::Continue);
/// ctx.submit_workflow(&night)?;
/// assert_eq!(ctx.submitted_workflows()[0]["steps"][2]["when"], "all_done");
/// # Ok::<(), TaskError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Workflow(Members);

impl Default for Workflow {
    fn default() -> Self {
        Self::new()
    }
}

impl Workflow {
    /// Without a step yet.
    pub fn new() -> Self {
        Self(Members::default())
    }

    /// For people.
    #[must_use]
    pub fn name(self, name: &str) -> Self {
        self.with("name", name)
    }

    /// One more step.
    #[must_use]
    pub fn step(self, step: Step) -> Self {
        Self(self.0.push("steps", &step))
    }

    /// What becomes of the steps that need one that failed and have no `when` of their own; unless said, they are cancelled.
    #[must_use]
    pub fn on_failure(self, then: OnFailure) -> Self {
        self.with("on_failure", then.as_str())
    }

    /// Any other member of `POST /workflow`.
    #[must_use]
    pub fn with<T: Serialize + ?Sized>(self, member: &str, value: &T) -> Self {
        Self(self.0.set(member, value))
    }
}

impl Serialize for Workflow {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

/// One task of a [`Workflow`].
#[derive(Clone, Debug, PartialEq)]
pub struct Step(Members);

impl Step {
    /// `key` is what other steps call it by, `task_name` what it runs.
    pub fn new(key: &str, task_name: &str) -> Self {
        Self(Members::default().set("key", key).set("task_name", task_name))
    }

    /// What the task is given: anything that serialises to a JSON object.
    #[must_use]
    pub fn payload<T: Serialize + ?Sized>(self, payload: &T) -> Self {
        self.with("payload", payload)
    }

    /// The steps that it waits for, by key. It reads their results by [`Context::needs`](crate::Context::needs).
    #[must_use]
    pub fn needs(self, keys: &[&str]) -> Self {
        self.with("needs", keys)
    }

    /// Which ends of the steps that it needs let it run; unless said, the workflow's [`OnFailure`] decides.
    #[must_use]
    pub fn when(self, when: When) -> Self {
        self.with("when", when.as_str())
    }

    /// Any other member of a step.
    #[must_use]
    pub fn with<T: Serialize + ?Sized>(self, member: &str, value: &T) -> Self {
        Self(self.0.set(member, value))
    }
}

impl Serialize for Step {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

/// When a step runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum When {
    /// All that it needs succeeded.
    #[default]
    AllSuccess,
    /// All that it needs ended, however.
    AllDone,
    /// One that it needs succeeded.
    AnySuccess,
}

impl When {
    /// The word of the request.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AllSuccess => "all_success",
            Self::AllDone => "all_done",
            Self::AnySuccess => "any_success",
        }
    }
}

/// What becomes of a workflow in which a step failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnFailure {
    /// A step that says nothing runs once all that it needs succeeded ([`When::AllSuccess`]). Steps that can then never run are cancelled.
    #[default]
    CancelDescendants,
    /// A step that says nothing runs once all that it needs has ended, however ([`When::AllDone`]).
    Continue,
}

impl OnFailure {
    /// The word of the request.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CancelDescendants => "cancel_descendants",
            Self::Continue => "continue",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn requests_have_the_members_that_were_set_and_no_others() {
        let task = Submission::new("a").tag("x").tag("y").timeout(30).retries(0).idempotent(false);
        let expected = json!({"task_name": "a", "tags": ["x", "y"], "timeout": 30.0, "max_retries": 0, "idempotent": false});
        assert_eq!(json!(task), expected);
        assert_eq!(
            json!(Submission::new("a").with("deadline", &"2026-03-02T18:00:00Z")),
            json!({"task_name": "a", "deadline": "2026-03-02T18:00:00Z"})
        );
        let workflow = Workflow::new()
            .step(Step::new("k", "t").when(When::AnySuccess))
            .step(Step::new("l", "t").needs(&["k"]));
        let steps = json!([{"key": "k", "task_name": "t", "when": "any_success"}, {"key": "l", "task_name": "t", "needs": ["k"]}]);
        assert_eq!(json!(workflow), json!({ "steps": steps }));
        assert_eq!(
            json!(workflow.on_failure(OnFailure::CancelDescendants))["on_failure"],
            "cancel_descendants"
        );
    }

    #[test]
    fn what_has_no_json_form_is_told_when_the_request_is_sent() {
        let odd = std::collections::HashMap::from([((1, 2), 3)]);
        for error in [
            serde_json::to_string(&Submission::new("a").payload(&odd)).unwrap_err(),
            serde_json::to_string(&Workflow::new().step(Step::new("k", "t").payload(&odd))).unwrap_err(),
        ] {
            assert!(error.to_string().contains("`payload`"), "{error}");
        }
    }
}

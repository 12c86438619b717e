//! What an attempt knows about itself and may ask of its host.

use crate::{Checkpoint, Classify, TaskError, TaskResult, host::Host};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};
use std::{
    cell::{OnceCell, RefCell},
    time::Duration,
};

/// The attempt that a handler runs in.
///
/// In a component it stands for the host; in tests `Context::mock()` makes one that records what it is told.
#[derive(Debug)]
pub struct Context {
    host: Host,
    // Read on first use: many tasks never ask.
    attempt: OnceCell<Attempt>,
    reported: RefCell<Option<Reported>>,
}

/// The document of the contract's `context.attempt`. Members that are unknown here are a newer host's.
#[derive(Deserialize, Serialize, Clone, Debug)]
#[serde(crate = "serde")]
pub(crate) struct Attempt {
    pub(crate) task_id: String,
    pub(crate) attempt: u32,
    #[serde(default)]
    pub(crate) max_attempts: Option<u32>,
    #[serde(default)]
    pub(crate) idempotency_key: Option<String>,
    #[serde(default)]
    pub(crate) trigger_time: Option<String>,
    #[serde(default)]
    pub(crate) parent_task_id: Option<String>,
    #[serde(default)]
    pub(crate) traceparent: Option<String>,
    #[serde(default)]
    pub(crate) tags: Vec<String>,
    #[serde(default)]
    pub(crate) needs: Option<Map<String, Value>>,
}

/// The progress that the host was told last.
#[derive(PartialEq, Debug)]
struct Reported {
    per_mille: Option<u64>,
    total: Option<u64>,
    message: String,
}

impl Context {
    pub(crate) fn new(host: Host) -> Self {
        Self {
            host,
            attempt: OnceCell::new(),
            reported: RefCell::new(None),
        }
    }

    fn document(&self) -> &Attempt {
        self.attempt.get_or_init(|| {
            let text = self.host.attempt();
            serde_json::from_str(&text).unwrap_or_else(|error| panic!("the host describes the attempt as {text}: {error}"))
        })
    }

    /// The task's id; the same over all its attempts.
    pub fn task_id(&self) -> &str {
        &self.document().task_id
    }

    /// Which attempt this is, from 1.
    pub fn attempt(&self) -> u32 {
        self.document().attempt
    }

    /// How many attempts the task has at most; the last one fails the task. `u32::MAX` where the host sets no bound.
    pub fn max_attempts(&self) -> u32 {
        self.document().max_attempts.unwrap_or(u32::MAX)
    }

    /// Stable over attempts and over retries by an operator: hand it to every system that must not see an effect twice.
    pub fn idempotency_key(&self) -> &str {
        let document = self.document();
        document.idempotency_key.as_deref().unwrap_or(&document.task_id)
    }

    /// When the task was due: RFC 3339 in UTC. For a scheduled task the time of its fire, however late it runs.
    pub fn trigger_time(&self) -> Option<&str> {
        self.document().trigger_time.as_deref()
    }

    /// The task that submitted this one.
    pub fn parent_task_id(&self) -> Option<&str> {
        self.document().parent_task_id.as_deref()
    }

    /// W3C Trace Context of the attempt, to hand on to systems that are called.
    pub fn traceparent(&self) -> Option<&str> {
        self.document().traceparent.as_deref()
    }

    /// The tags of the task: its definition's and its submission's.
    pub fn tags(&self) -> &[String] {
        &self.document().tags
    }

    /// The result of the workflow's step `key`, which this step needs.
    ///
    /// # Errors
    /// `fatal` where the step is not among those that this one needs, or its result does not fit `T`.
    ///
    /// ```
    /// use taskhost_sdk::prelude::*;
    /// let ctx = Context::mock().with_need("prices", &[1.0, 2.5]);
    /// let prices: Vec<f64> = ctx.needs("prices")?;
    /// assert_eq!(prices, [1.0, 2.5]);
    /// # Ok::<(), TaskError>(())
    /// ```
    pub fn needs<T: DeserializeOwned>(&self, key: &str) -> TaskResult<T> {
        let result = self.document().needs.as_ref().and_then(|needs| needs.get(key));
        let result = result.ok_or_else(|| TaskError::fatal(format!("this task has no result of a step `{key}`")))?;
        T::deserialize(result).map_err(|error| TaskError::fatal(format!("the result of step `{key}` does not fit: {error}")))
    }

    /// Tells people how far the attempt is: `done` of `total`, which may be `None`.
    ///
    /// Cheap in a loop: with a total the host hears of it when the message or the thousandth changes, and of the end.
    pub fn progress(&self, done: u64, total: impl Into<Option<u64>>, message: impl AsRef<str>) {
        let (total, message) = (total.into(), message.as_ref());
        // Widened, so that no count is too large.
        let per_mille = total.map(|total| match total {
            0 => 1000,
            total => u64::try_from(u128::from(done) * 1000 / u128::from(total)).unwrap_or(u64::MAX),
        });
        let mut last = self.reported.borrow_mut();
        let same = last
            .as_ref()
            .is_some_and(|last| last.per_mille == per_mille && last.total == total && last.message == message);
        if same && per_mille.is_some() {
            return;
        }
        *last = Some(Reported {
            per_mille,
            total,
            message: message.to_owned(),
        });
        self.host.progress(done, total, message);
    }

    /// What survives the retries of the task.
    pub fn checkpoint(&self) -> Checkpoint<'_> {
        Checkpoint::new(&self.host)
    }

    /// True once the attempt was cancelled or its host is stopping: save, then return [`TaskError::cancelled`], soon.
    pub fn is_cancelled(&self) -> bool {
        self.host.is_cancelled()
    }

    /// Stops by `?` where the attempt was cancelled: `ctx.check_cancelled()?;`.
    ///
    /// # Errors
    /// [`TaskError::cancelled`] once [`is_cancelled`](Self::is_cancelled).
    pub fn check_cancelled(&self) -> TaskResult<()> {
        if self.is_cancelled() { Err(TaskError::cancelled()) } else { Ok(()) }
    }

    /// The time until the timeout ends this attempt; `None` where there is no timeout.
    pub fn remaining(&self) -> Option<Duration> {
        self.host.remaining()
    }

    /// Emits an event, which becomes real when the attempt succeeds and never otherwise. Returns the event's id.
    ///
    /// `data` is anything that serialises to a JSON object of at most 1 MiB. The operator grants types of events by `events = ["…"]`, and
    /// bounds how many an attempt may emit: 1,000 unless set otherwise.
    ///
    /// ```
    /// use taskhost_sdk::prelude::*;
    /// let ctx = Context::mock();
    /// ctx.emit("settlement.done", &json!({ "date": "2026-03-02" }))?;
    /// assert_eq!(ctx.emitted()[0].event_type, "settlement.done");
    /// # Ok::<(), TaskError>(())
    /// ```
    ///
    /// # Errors
    /// `fatal` where `data` is no object, the type is not granted ([`is_denied`](TaskError::is_denied)), a bound of the host is reached, or the task stands at the end of
    /// too long a chain of tasks that emit and submit.
    pub fn emit<T: Serialize + ?Sized>(&self, event_type: &str, data: &T) -> TaskResult<String> {
        self.host.emit(event_type, &object(data, "the data of an event")?)
    }

    /// Submits a task, which becomes real when the attempt succeeds and never otherwise. Returns its id.
    ///
    /// `request` is a [`Submission`](crate::Submission), or has the members of `POST /task/submit`: `task_name`, `payload`,
    /// `trigger_time`, `priority`, `tags`, … There is no waiting for it here. The operator grants names of tasks by `submit = ["…"]`,
    /// and bounds how many an attempt may submit: 1,000 unless set otherwise.
    ///
    /// ```
    /// use taskhost_sdk::{Submission, prelude::*};
    /// let ctx = Context::mock();
    /// ctx.submit(&Submission::new("backtest").payload(&json!({ "strategy": "buy_and_hold" })))?;
    /// ctx.submit(&json!({ "task_name": "backtest", "payload": { "strategy": "momentum" } }))?;
    /// assert_eq!(ctx.submitted()[1]["task_name"], "backtest");
    /// # Ok::<(), TaskError>(())
    /// ```
    ///
    /// # Errors
    /// `fatal` where the request is no object, the name is not granted, a bound of the host is reached, or the task stands at the end
    /// of too long a chain of tasks that emit and submit; `invalid_input` where the host does not accept the request. Its pointers then
    /// lead into the request, not into this task's own input, and passed up by `?` it fails this task for good.
    pub fn submit<T: Serialize + ?Sized>(&self, request: &T) -> TaskResult<String> {
        self.host.submit(&object(request, "a submission")?)
    }

    /// Submits a workflow, as [`submit`](Self::submit) does a task. Returns its id.
    ///
    /// `request` is a [`Workflow`](crate::Workflow), or has the members of `POST /workflow`: `name`, `steps`, `on_failure`. The operator
    /// has to grant the name of each step's task.
    ///
    /// # Errors
    /// As [`submit`](Self::submit).
    pub fn submit_workflow<T: Serialize + ?Sized>(&self, request: &T) -> TaskResult<String> {
        self.host.submit_workflow(&object(request, "a workflow")?)
    }
}

fn object<T: Serialize + ?Sized>(value: &T, what: &str) -> TaskResult<String> {
    let text = serde_json::to_string(value).fatal()?;
    if text.starts_with('{') {
        Ok(text)
    } else {
        Err(TaskError::fatal(format!("{what} is a JSON object, not {text:.40}")))
    }
}

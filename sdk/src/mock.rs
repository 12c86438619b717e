//! On the native machine: a host that records, so that handlers are tested by plain `cargo test`.
//!
//! It stands in for the component's bindings method by method; this module and `guest` have the same shape.

use crate::{Context, Task, TaskError, TaskResult, context::Attempt, logger};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};
use std::{
    cell::{Cell, RefCell},
    ops::Deref,
    rc::Rc,
    time::Duration,
};

/// One line of the attempt's log.
#[derive(Clone, PartialEq, Debug)]
pub struct Line {
    /// How grave.
    pub level: log::Level,
    /// The text.
    pub message: String,
    /// The key-values of the line, in the order written.
    pub fields: Vec<(String, String)>,
}

/// One report of progress.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Progress {
    /// How much is done.
    pub done: u64,
    /// Of how much, where known.
    pub total: Option<u64>,
    /// What people read.
    pub message: String,
}

/// One event that was emitted.
#[derive(Clone, PartialEq, Debug)]
pub struct Event {
    /// Its type.
    pub event_type: String,
    /// Its data, a JSON object.
    pub data: Value,
}

/// A [`Context`] for tests: set what the handler finds, run it, look at what it did.
///
/// It derefs to the context, so `&mock` goes where a handler takes `&Context`. `log` lines are recorded per thread by the
/// mock that was made last there; they are not where the test installed another logger.
///
/// ```
/// use taskhost_sdk::prelude::*;
///
/// fn greet(ctx: &Context, name: &str) -> TaskResult<String> {
///     log::info!(attempt = ctx.attempt(); "greeting {name}");
///     ctx.emit("greeted", &json!({ "name": name }))?;
///     Ok(format!("hello {name}"))
/// }
///
/// let ctx = Context::mock().with_attempt(2);
/// assert_eq!(greet(&ctx, "Ada")?, "hello Ada");
/// assert_eq!(ctx.logged()[0].message, "greeting Ada");
/// assert_eq!(ctx.logged()[0].fields, [("attempt".to_string(), "2".to_string())]);
/// assert_eq!(ctx.emitted()[0].data["name"], "Ada");
/// # Ok::<(), TaskError>(())
/// ```
#[derive(Debug)]
pub struct Mock {
    context: Context,
    host: Host,
}

/// What the mock shows and what it recorded.
#[derive(Debug)]
struct State {
    attempt: RefCell<Attempt>,
    remaining: Cell<Option<Duration>>,
    cancelled_after: Cell<Option<u32>>,
    denied: Cell<bool>,
    checkpoint: RefCell<Option<Vec<u8>>>,
    saves: RefCell<Vec<Vec<u8>>>,
    logged: RefCell<Vec<Line>>,
    progressed: RefCell<Vec<Progress>>,
    emitted: RefCell<Vec<Event>>,
    submitted: RefCell<Vec<Value>>,
    workflows: RefCell<Vec<Value>>,
}

thread_local! {
    static CURRENT: RefCell<Option<Rc<State>>> = const { RefCell::new(None) };
}

impl Context {
    /// A context for tests: first attempt of at most 4, task id `task-1`, no tags, no needs, no checkpoint, no timeout,
    /// not cancelled. See [`Mock`].
    pub fn mock() -> Mock {
        let attempt = Attempt {
            task_id: "task-1".to_owned(),
            attempt: 1,
            max_attempts: Some(4),
            idempotency_key: None,
            trigger_time: None,
            parent_task_id: None,
            traceparent: None,
            tags: Vec::new(),
            needs: None,
        };
        let state = Rc::new(State {
            attempt: RefCell::new(attempt),
            remaining: Cell::new(None),
            cancelled_after: Cell::new(None),
            denied: Cell::new(false),
            checkpoint: RefCell::default(),
            saves: RefCell::default(),
            logged: RefCell::default(),
            progressed: RefCell::default(),
            emitted: RefCell::default(),
            submitted: RefCell::default(),
            workflows: RefCell::default(),
        });
        CURRENT.set(Some(Rc::clone(&state)));
        logger::install();
        let host = Host(state);
        Mock {
            context: Context::new(host.clone()),
            host,
        }
    }
}

impl Deref for Mock {
    type Target = Context;

    fn deref(&self) -> &Context {
        &self.context
    }
}

impl Mock {
    fn set(self, change: impl FnOnce(&mut Attempt)) -> Self {
        change(&mut self.host.0.attempt.borrow_mut());
        // A fresh context, in case the old one was already asked.
        Self {
            context: Context::new(self.host.clone()),
            host: self.host,
        }
    }

    /// Sets the task's id, and with it the idempotency key unless that is set.
    #[must_use]
    pub fn with_task_id(self, id: &str) -> Self {
        self.set(|attempt| id.clone_into(&mut attempt.task_id))
    }

    /// Sets which attempt this is, from 1.
    #[must_use]
    pub fn with_attempt(self, number: u32) -> Self {
        self.set(|attempt| attempt.attempt = number)
    }

    /// Sets how many attempts there are at most.
    #[must_use]
    pub fn with_max_attempts(self, number: u32) -> Self {
        self.set(|attempt| attempt.max_attempts = Some(number))
    }

    /// Sets the idempotency key.
    #[must_use]
    pub fn with_idempotency_key(self, key: &str) -> Self {
        self.set(|attempt| attempt.idempotency_key = Some(key.to_owned()))
    }

    /// Sets when the task was due: RFC 3339 in UTC.
    #[must_use]
    pub fn with_trigger_time(self, time: &str) -> Self {
        self.set(|attempt| attempt.trigger_time = Some(time.to_owned()))
    }

    /// Sets the task's tags.
    #[must_use]
    pub fn with_tags(self, tags: &[&str]) -> Self {
        self.set(|attempt| attempt.tags = tags.iter().map(|tag| (*tag).to_owned()).collect())
    }

    /// Adds the result of a step that this one needs.
    ///
    /// # Panics
    /// Where the value has no JSON form.
    #[must_use]
    pub fn with_need<T: Serialize + ?Sized>(self, key: &str, result: &T) -> Self {
        let result = serde_json::to_value(result).expect("the result of a step has a JSON form");
        self.set(|attempt| {
            attempt.needs.get_or_insert_with(Map::new).insert(key.to_owned(), result);
        })
    }

    /// Sets what an earlier attempt saved, as JSON.
    ///
    /// # Panics
    /// Where the value has no JSON form.
    #[must_use]
    pub fn with_checkpoint<T: Serialize + ?Sized>(self, value: &T) -> Self {
        self.with_checkpoint_bytes(&serde_json::to_vec(value).expect("a checkpoint has a JSON form"))
    }

    /// Sets what an earlier attempt saved.
    #[must_use]
    pub fn with_checkpoint_bytes(self, bytes: &[u8]) -> Self {
        self.host.0.checkpoint.replace(Some(bytes.to_vec()));
        self
    }

    /// Sets the time until the timeout.
    #[must_use]
    pub fn with_remaining(self, remaining: Duration) -> Self {
        self.host.0.remaining.set(Some(remaining));
        self
    }

    /// Makes the attempt cancelled from the start.
    #[must_use]
    pub fn cancelled(self) -> Self {
        self.cancelled_after(0)
    }

    /// Makes the attempt cancelled once the handler has asked `checks` times and heard no.
    #[must_use]
    pub fn cancelled_after(self, checks: u32) -> Self {
        self.host.0.cancelled_after.set(Some(checks));
        self
    }

    /// Refuses to emit and submit, as a host does without a grant.
    #[must_use]
    pub fn denied(self) -> Self {
        self.host.0.denied.set(true);
        self
    }

    /// Runs a task as the host does: JSON in, JSON out. `T` is the name of its function.
    ///
    /// ```
    /// use taskhost_sdk::prelude::*;
    /// #[task]
    /// fn double(_: &Context, input: f64) -> TaskResult<f64> { Ok(2.0 * input) }
    ///
    /// assert_eq!(Context::mock().run::<double>(&json!(4))?, 8.0);
    /// assert!(Context::mock().run::<double>(&json!("four")).is_err());
    /// # Ok::<(), TaskError>(())
    /// ```
    ///
    /// # Errors
    /// The handler's, and `invalid_input` where the input does not fit its type.
    ///
    /// # Panics
    /// Where `input` has no JSON form.
    pub fn run<T: Task>(&self, input: &(impl Serialize + ?Sized)) -> TaskResult<Value> {
        let input = serde_json::to_string(input).expect("the input has a JSON form");
        let output = T::run(&self.context, &input)?;
        Ok(serde_json::from_str(&output).expect("a handler's answer was written as JSON"))
    }

    /// The lines logged so far.
    pub fn logged(&self) -> Vec<Line> {
        self.host.0.logged.borrow().clone()
    }

    /// The reports of progress that reached the host; see [`Context::progress`].
    pub fn progressed(&self) -> Vec<Progress> {
        self.host.0.progressed.borrow().clone()
    }

    /// The events emitted so far. On a real host they become real only when the attempt succeeds.
    pub fn emitted(&self) -> Vec<Event> {
        self.host.0.emitted.borrow().clone()
    }

    /// The tasks submitted so far, as requested.
    pub fn submitted(&self) -> Vec<Value> {
        self.host.0.submitted.borrow().clone()
    }

    /// The workflows submitted so far, as requested.
    pub fn submitted_workflows(&self) -> Vec<Value> {
        self.host.0.workflows.borrow().clone()
    }

    /// What the handler saved last, as JSON; `None` where it saved nothing.
    ///
    /// # Panics
    /// Where the saved bytes do not fit `T`.
    pub fn saved<T: DeserializeOwned>(&self) -> Option<T> {
        let bytes = self.saved_bytes().pop()?;
        Some(serde_json::from_slice(&bytes).expect("the checkpoint fits the type that is asked for"))
    }

    /// Everything that the handler saved, in order.
    pub fn saved_bytes(&self) -> Vec<Vec<u8>> {
        self.host.0.saves.borrow().clone()
    }
}

/// The host as `Context` sees it.
#[derive(Clone, Debug)]
pub(crate) struct Host(Rc<State>);

impl Host {
    pub(crate) fn attempt(&self) -> String {
        serde_json::to_string(&*self.0.attempt.borrow()).expect("the attempt has a JSON form")
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        let Some(checks) = self.0.cancelled_after.get() else { return false };
        self.0.cancelled_after.set(Some(checks.saturating_sub(1)));
        checks == 0
    }

    pub(crate) fn remaining(&self) -> Option<Duration> {
        self.0.remaining.get()
    }

    pub(crate) fn progress(&self, done: u64, total: Option<u64>, message: &str) {
        self.0.progressed.borrow_mut().push(Progress {
            done,
            total,
            message: message.to_owned(),
        });
    }

    pub(crate) fn save(&self, bytes: &[u8]) -> TaskResult<()> {
        self.0.checkpoint.replace(Some(bytes.to_vec()));
        self.0.saves.borrow_mut().push(bytes.to_vec());
        Ok(())
    }

    pub(crate) fn load(&self) -> Option<Vec<u8>> {
        self.0.checkpoint.borrow().clone()
    }

    pub(crate) fn emit(&self, event_type: &str, data: &str) -> TaskResult<String> {
        self.allow("events")?;
        let mut emitted = self.0.emitted.borrow_mut();
        emitted.push(Event {
            event_type: event_type.to_owned(),
            data: parsed(data),
        });
        Ok(format!("event-{}", emitted.len()))
    }

    pub(crate) fn submit(&self, request: &str) -> TaskResult<String> {
        self.allow("submit")?;
        let mut submitted = self.0.submitted.borrow_mut();
        submitted.push(parsed(request));
        Ok(format!("child-{}", submitted.len()))
    }

    pub(crate) fn submit_workflow(&self, request: &str) -> TaskResult<String> {
        self.allow("submit")?;
        let mut workflows = self.0.workflows.borrow_mut();
        workflows.push(parsed(request));
        Ok(format!("workflow-{}", workflows.len()))
    }

    fn allow(&self, grant: &str) -> TaskResult<()> {
        if !self.0.denied.get() {
            return Ok(());
        }
        Err(TaskError::from_contract(
            "denied",
            format!("denied: grant it by `{grant} = […]`"),
            None,
        ))
    }
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).expect("Context sends JSON")
}

pub(crate) fn write_log(level: log::Level, message: String, fields: Vec<(String, String)>) {
    CURRENT.with_borrow(|current| {
        if let Some(state) = current {
            state.logged.borrow_mut().push(Line { level, message, fields });
        }
    });
}

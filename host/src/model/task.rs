//! A task: one submitted unit of work, and every state it can be in.
//!
//! ```text
//!              claim                    ok
//!   pending ───────────▶ running ─────────────▶ success
//!      ▲  │                │  │  error, timeout, trap … without a retry left
//!      │  │ cancel         │  └────────────────▶ failed   (the dead letter)
//!      │  └──────▶ cancelled ◀── cancel
//!      └─────────────────┘
//!        retry · snooze · lost · interrupted
//! ```
//!
//! What a rule makes with a payload that breaks the schema is born `failed`. `success`, `failed` and `cancelled` are final. Finer phases are derived from the members, never kept beside them.

use crate::model::Time;
use crate::model::attempt::{Attempt, Progress};
use crate::model::definition::Definition;
use crate::model::fair::FairKey;
use crate::model::ids::{BatchId, ScheduleId, TaskId, TriggerId, WorkflowId};
use crate::model::priority::Priority;
use crate::model::retry::Counters;
use crate::model::unique::Unique;
use crate::model::workflow::BLOCKED;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The five words that users see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Waits: for its time, a slot, its handler, or a retry.
    Pending,
    /// An attempt runs.
    Running,
    /// Ended well.
    Success,
    /// Ended badly; a person may retry it.
    Failed,
    /// Ended by request.
    Cancelled,
}

impl Status {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Pending, Self::Running, Self::Success, Self::Failed, Self::Cancelled];

    /// The word used in the API and in the store.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Success => "success",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// The reverse of [`Status::as_str`].
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == word)
    }

    /// Whether nothing can happen to the task any more.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Success | Self::Failed | Self::Cancelled)
    }
}

/// Why a task exists, where it was not submitted by hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Somebody submitted it.
    Submitted,
    /// A schedule fired.
    Schedule(ScheduleId),
    /// A trigger fired.
    Trigger(TriggerId),
    /// It repeats a task that had ended.
    RetryOf(TaskId),
    /// An attempt of this task submitted it.
    Task(TaskId),
}

/// What a task belongs to, and what has to hear of its end in the same commit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ties {
    /// The batch that counts it.
    pub batch: Option<BatchId>,
    /// The workflow that it is a step of.
    pub workflow: Option<WorkflowId>,
    /// The schedule whose next fire may wait for it.
    pub schedule: Option<ScheduleId>,
    /// Whether it takes a place under a limit while it runs.
    pub limited: bool,
}

impl Ties {
    /// Whether nobody has to hear of its end.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

impl Origin {
    /// The schedule that made it.
    pub fn schedule(self) -> Option<ScheduleId> {
        match self {
            Self::Schedule(id) => Some(id),
            _ => None,
        }
    }

    /// The task whose attempt submitted it.
    pub fn parent(self) -> Option<TaskId> {
        match self {
            Self::Task(id) => Some(id),
            _ => None,
        }
    }
}

/// A task as it enters the store.
#[derive(Clone, Debug)]
pub struct NewTask {
    /// Its id.
    pub id: TaskId,
    /// The definition's name.
    pub name: String,
    /// JSON text of an object.
    pub payload: String,
    /// Urgency.
    pub priority: Priority,
    /// The submission's and the definition's, united.
    pub tags: Vec<String>,
    /// Not before this; never earlier than the submission.
    pub trigger_time: Time,
    /// When it was accepted.
    pub submitted_at: Time,
    /// The submission's own wall clock limit.
    pub timeout: Option<Duration>,
    /// The submission's own number of retries.
    pub max_retries: Option<u32>,
    /// The submission's own word on repetition.
    pub idempotent: Option<bool>,
    /// Why it exists.
    pub origin: Origin,
    /// Stable over attempts and retries by hand: the id of the first task in the chain.
    pub idempotency_key: TaskId,
    /// The workflow that it is a step of.
    pub workflow: Option<WorkflowId>,
    /// How many attempts and events led to it, each made by the one before: bounded, or a loop would never end.
    pub depth: u32,
    /// An attempt that has not begun by then never does: the task fails as expired.
    pub expires_at: Option<Time>,
    /// An alert is raised where it has not ended by then.
    pub deadline: Option<Time>,
    /// Whom it takes turns with, where the submission says so.
    pub fair: Option<FairKey>,
    /// How it is the only one of its kind.
    pub unique: Option<Unique>,
    /// Set where the task is known to be wrong before it ran (a trigger's merged payload against the schema): it ends at once.
    pub stillborn: Option<Failure>,
}

/// What somebody (a person, a schedule, a trigger) asks to be run.
#[derive(Clone, Debug, Default)]
pub struct Submission {
    /// The definition's name.
    pub name: String,
    /// JSON text of an object.
    pub payload: String,
    /// `None`: the definition's.
    pub priority: Option<Priority>,
    /// To be united with the definition's.
    pub tags: Vec<String>,
    /// `None` and the past: now.
    pub trigger_time: Option<Time>,
    /// The submission's own wall clock limit.
    pub timeout: Option<Duration>,
    /// The submission's own number of retries.
    pub max_retries: Option<u32>,
    /// The submission's own word on repetition.
    pub idempotent: Option<bool>,
    /// An attempt that has not begun by then never does.
    pub expires_at: Option<Time>,
    /// An alert is raised where it has not ended by then.
    pub deadline: Option<Time>,
    /// Whom it takes turns with; `None`: by where it came from.
    pub fair: Option<FairKey>,
    /// How it is the only one of its kind.
    pub unique: Option<Unique>,
}

impl NewTask {
    /// Completes a submission with its definition's defaults. Without a definition (its plugin is missing) the general ones hold.
    pub fn from_submission(submission: Submission, definition: Option<&Definition>, origin: Origin, now: Time) -> Self {
        let id = TaskId::new(now);
        let mut tags = submission.tags;
        for tag in definition.map_or(&[][..], |definition| &definition.tags) {
            if !tags.contains(tag) {
                tags.push(tag.clone());
            }
        }
        Self {
            id,
            name: submission.name,
            payload: submission.payload,
            priority: submission.priority.or(definition.map(|d| d.priority)).unwrap_or(Priority::NORMAL),
            tags,
            trigger_time: submission.trigger_time.map_or(now, |time| time.max(now)),
            submitted_at: now,
            timeout: submission.timeout,
            max_retries: submission.max_retries,
            idempotent: submission.idempotent,
            origin,
            idempotency_key: id,
            workflow: None,
            depth: 0,
            expires_at: submission.expires_at,
            deadline: submission.deadline,
            fair: submission.fair,
            unique: submission.unique,
            stillborn: None,
        }
    }
}

impl NewTask {
    /// Who has to hear of its end.
    pub fn ties(&self) -> Ties {
        Ties {
            batch: None,
            workflow: self.workflow,
            schedule: self.origin.schedule(),
            limited: false,
        }
    }

    /// Whom it takes turns with: by default all that came from the same workflow, schedule or trigger.
    pub fn fair_key(&self) -> FairKey {
        let source = match self.origin {
            Origin::Schedule(id) => FairKey::of_id(id.as_bytes()),
            Origin::Trigger(id) => FairKey::of_id(id.as_bytes()),
            Origin::Submitted | Origin::RetryOf(_) | Origin::Task(_) => FairKey::SINGLE,
        };
        let of_workflow = |id: &WorkflowId| FairKey::of_id(id.as_bytes());
        self.fair.unwrap_or_else(|| self.workflow.as_ref().map_or(source, of_workflow))
    }

    /// When it is due first. A fire that is made up for has a trigger time of long ago, and is no older than what was submitted with it.
    pub fn due_at(&self) -> Time {
        self.trigger_time.max(self.submitted_at)
    }

    /// The task as it stands once it was leased as it entered: running its first attempt, by this plugin.
    pub fn as_running(&self, plugin: &str) -> Task {
        self.as_waiting().begun(plugin, self.submitted_at)
    }

    /// The task as it stands before its first attempt.
    pub fn as_waiting(&self) -> Task {
        Task {
            id: self.id,
            name: self.name.clone(),
            payload: self.payload.clone(),
            priority: self.priority,
            tags: self.tags.clone(),
            status: Status::Pending,
            trigger_time: self.trigger_time,
            due_at: Some(self.due_at()),
            submitted_at: self.submitted_at,
            started_at: None,
            completed_at: None,
            execution_time: None,
            result: None,
            failure: None,
            last_failure: None,
            counters: Counters::default(),
            attempt: 0,
            timeout: self.timeout,
            max_retries: self.max_retries,
            idempotent: self.idempotent,
            progress: None,
            plugin: None,
            origin: self.origin,
            idempotency_key: self.idempotency_key,
            batch: None,
            workflow: self.workflow,
            depth: self.depth,
            expires_at: self.expires_at,
            deadline: self.deadline,
            limited: false,
            held: None,
            attempts: Vec::new(),
        }
    }
}

/// Why a task failed.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    /// The API's `error_code`.
    pub code: String,
    /// One sentence.
    pub error: String,
    /// JSON.
    pub details: Option<serde_json::Value>,
}

/// A whole task as the store gives it back.
#[derive(Clone, Debug)]
pub struct Task {
    /// Its id.
    pub id: TaskId,
    /// The definition's name.
    pub name: String,
    /// JSON text of an object.
    pub payload: String,
    /// Urgency.
    pub priority: Priority,
    /// Sorted as submitted.
    pub tags: Vec<String>,
    /// Where it stands.
    pub status: Status,
    /// When it was asked to run: the same over all attempts.
    pub trigger_time: Time,
    /// Until it has ended: when its next attempt is due, or was.
    pub due_at: Option<Time>,
    /// When it was accepted.
    pub submitted_at: Time,
    /// When its first attempt began.
    pub started_at: Option<Time>,
    /// When it ended.
    pub completed_at: Option<Time>,
    /// Wall time of the last attempt.
    pub execution_time: Option<Duration>,
    /// JSON text; of a task that ended well.
    pub result: Option<String>,
    /// Of the last attempt that failed; of the task once it failed.
    pub failure: Option<Failure>,
    /// When the last attempt failed.
    pub last_failure: Option<Time>,
    /// What it has been through.
    pub counters: Counters,
    /// The number of the running or last attempt; 0 before the first.
    pub attempt: u32,
    /// The submission's own wall clock limit.
    pub timeout: Option<Duration>,
    /// The submission's own number of retries; `None`: that of the definition which is current when an attempt ends.
    pub max_retries: Option<u32>,
    /// The submission's own word on repetition; `None`: the definition's.
    pub idempotent: Option<bool>,
    /// The last progress that was kept.
    pub progress: Option<Progress>,
    /// The plugin of the last attempt.
    pub plugin: Option<String>,
    /// Why it exists.
    pub origin: Origin,
    /// Stable over attempts and retries by hand.
    pub idempotency_key: TaskId,
    /// The batch that it came in with.
    pub batch: Option<BatchId>,
    /// The workflow that it is a step of.
    pub workflow: Option<WorkflowId>,
    /// How many attempts and events led to it.
    pub depth: u32,
    /// An attempt that has not begun by then never does.
    pub expires_at: Option<Time>,
    /// An alert is raised where it has not ended by then.
    pub deadline: Option<Time>,
    /// Whether it takes a place under a limit, as a claim found it.
    pub limited: bool,
    /// Why a due task is not offered to workers (`handler missing`).
    pub held: Option<String>,
    /// All attempts; empty in lists.
    pub attempts: Vec<Attempt>,
}

impl Task {
    /// Who has to hear of its end.
    pub fn ties(&self) -> Ties {
        Ties {
            batch: self.batch,
            workflow: self.workflow,
            schedule: self.origin.schedule(),
            limited: self.limited,
        }
    }

    /// The task once an attempt of it was leased, to be run by this plugin.
    #[must_use]
    pub fn begun(self, plugin: &str, now: Time) -> Self {
        Self {
            status: Status::Running,
            attempt: self.attempt + 1,
            started_at: self.started_at.or(Some(now)),
            plugin: Some(plugin.to_owned()),
            progress: None,
            ..self
        }
    }
}

/// The finer word for where a task stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Due, and waits for a slot or its handler.
    Queued,
    /// A step of a workflow that waits for its needs.
    Blocked,
    /// Its time has not come.
    Scheduled,
    /// Waits after a failed attempt.
    Retrying,
    /// An attempt runs.
    Running,
    /// Ended.
    Ended,
}

impl Task {
    /// The finer word for where it stands.
    pub fn phase(&self, now: Time) -> Phase {
        match self.status {
            Status::Running => Phase::Running,
            Status::Pending if self.held.as_deref() == Some(BLOCKED) => Phase::Blocked,
            Status::Pending if self.counters.retries > 0 => Phase::Retrying,
            Status::Pending if self.due_at.is_some_and(|due| due > now) => Phase::Scheduled,
            Status::Pending => Phase::Queued,
            Status::Success | Status::Failed | Status::Cancelled => Phase::Ended,
        }
    }
}

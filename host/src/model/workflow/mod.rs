//! A workflow: steps (tasks with dependencies, a DAG), and what follows when one of them ends.
//!
//! A step **runs** as soon as its `when` says so, looks at its needs alone, and runs once:
//!
//! | `when` | runs | can never run |
//! |---|---|---|
//! | `all_success` | once every need succeeded | once one ended otherwise |
//! | `all_done` | once every need has ended, however | — |
//! | `any_success` | as soon as one need succeeded; it does not wait for the others | once all ended and none succeeded |
//!
//! A step that can never run is **skipped**: it counts as cancelled, and so do, by the same rule, those after it that can then never run.
//! What can still run goes on: a failure stops what depends on it and nothing else.
//!
//! `on_failure` says what a step means that has no `when` of its own: under `cancel_descendants` it is `all_success`, so that what comes
//! after a failure is cancelled; under `continue` it is `all_done`, so that it runs whatever became of its needs. A `when` that is
//! written down holds under both.
//!
//! A workflow **ends** when all its steps have, and then it is `success` if every step succeeded, `failed` if one failed, and otherwise
//! `cancelled`. A clean-up step that runs after a failure does not hide it. One thing is forgiven: the step that did not succeed, but
//! after which nothing depends on it save `any_success` steps that did, since for them it was one of several ways.

mod graph;
mod submit;
#[cfg(test)]
mod tests;

pub use graph::{Graph, MAX_NEEDS, MAX_STEPS, StepRule};
pub use submit::{NewStep, NewWorkflow};

use crate::model::task::Status;
use serde::{Deserialize, Serialize};

/// What the task of a step is held by until its turn comes.
pub const BLOCKED: &str = "blocked by the steps that it needs";

/// When a step runs, by what became of its needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum When {
    /// Every need succeeded.
    AllSuccess,
    /// Every need has ended.
    AllDone,
    /// One need succeeded.
    AnySuccess,
}

impl When {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::AllSuccess, Self::AllDone, Self::AnySuccess];

    /// The word used in the API and in the store.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AllSuccess => "all_success",
            Self::AllDone => "all_done",
            Self::AnySuccess => "any_success",
        }
    }

    /// The reverse of [`When::as_str`].
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|when| when.as_str() == word)
    }
}

/// What a step without a `when` of its own does after a failure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// It is cancelled.
    #[default]
    CancelDescendants,
    /// It runs all the same.
    Continue,
}

impl OnFailure {
    /// The `when` of a step that names none.
    pub fn default_when(self) -> When {
        match self {
            Self::CancelDescendants => When::AllSuccess,
            Self::Continue => When::AllDone,
        }
    }
}

/// Where a step stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Waits for its needs.
    Blocked,
    /// Its task waits for a slot or a retry, or runs.
    Active,
    /// Its task ended well.
    Success,
    /// Its task failed.
    Failed,
    /// Its task was cancelled by somebody.
    Cancelled,
    /// Cancelled before its turn came: it can never run, or the whole workflow was cancelled. A retry further up may give it its turn.
    Skipped,
}

impl State {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Blocked,
        Self::Active,
        Self::Success,
        Self::Failed,
        Self::Cancelled,
        Self::Skipped,
    ];

    /// Whether it has ended.
    pub fn is_final(self) -> bool {
        !matches!(self, Self::Blocked | Self::Active)
    }

    /// The state of a step whose task ended so.
    pub fn of_end(status: Status) -> Self {
        match status {
            Status::Success => Self::Success,
            Status::Failed => Self::Failed,
            Status::Cancelled => Self::Cancelled,
            Status::Pending | Status::Running => Self::Active,
        }
    }
}

/// What is to be done to a step, by its place among the steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Its turn has come: offer its task to the workers.
    Run(usize),
    /// It can never run: cancel its task.
    Skip(usize),
}

/// Where a whole workflow stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkflowStatus {
    /// A step has not ended.
    Running,
    /// All that counts succeeded.
    Success,
    /// A step failed.
    Failed,
    /// None failed, and not all succeeded; or it was cancelled as a whole.
    Cancelled,
}

impl WorkflowStatus {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Running, Self::Success, Self::Failed, Self::Cancelled];

    /// The word used in the API and in the store.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Success => "success",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// The reverse of [`WorkflowStatus::as_str`].
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == word)
    }
}

/// Why a step cannot be retried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoRetry {
    /// It has not ended.
    NotEnded,
    /// It succeeded, and what came of it was passed on.
    Succeeded,
    /// It would be skipped again because of this need, which comes first.
    Needs(usize),
}

enum Verdict {
    Wait,
    Run,
    Never,
}

impl Graph {
    fn verdict(&self, step: usize, states: &[State]) -> Verdict {
        let needs = || self.needs(step).iter().map(|need| states[*need]);
        let all_ended = needs().all(State::is_final);
        let runs = match self.when(step) {
            When::AllSuccess => needs().all(|state| state == State::Success),
            When::AllDone => all_ended,
            When::AnySuccess => self.needs(step).is_empty() || needs().any(|state| state == State::Success),
        };
        let never = match self.when(step) {
            When::AllSuccess => needs().any(|state| state.is_final() && state != State::Success),
            When::AllDone => false,
            When::AnySuccess => all_ended,
        };
        match (runs, never) {
            (true, _) => Verdict::Run,
            (false, true) => Verdict::Never,
            (false, false) => Verdict::Wait,
        }
    }

    /// What follows from where the steps stand: all that is to be done at once, in an order in which no step comes before its needs.
    /// `states` is brought up to date.
    pub fn advance(&self, states: &mut [State]) -> Vec<Change> {
        let mut changes = Vec::new();
        for &step in self.order() {
            if states[step] != State::Blocked {
                continue;
            }
            match self.verdict(step, states) {
                Verdict::Wait => {}
                Verdict::Run => {
                    states[step] = State::Active;
                    changes.push(Change::Run(step));
                }
                Verdict::Never => {
                    states[step] = State::Skipped;
                    changes.push(Change::Skip(step));
                }
            }
        }
        changes
    }

    /// Where the workflow stands. One that was cancelled as a whole stays so, whatever had failed before.
    pub fn status(&self, states: &[State], cancelled: bool) -> WorkflowStatus {
        if !states.iter().all(|state| state.is_final()) {
            return WorkflowStatus::Running;
        }
        // From the last steps up: what depends on a step is known before it.
        let mut dependents = vec![(0_usize, true); states.len()];
        let mut worst = WorkflowStatus::Success;
        for &step in self.order().iter().rev() {
            let state = states[step];
            let (count, all_have_another_way) = dependents[step];
            let forgiven = state != State::Success && count > 0 && all_have_another_way;
            for &need in self.needs(step) {
                let another_way = forgiven || (self.when(step) == When::AnySuccess && state == State::Success);
                dependents[need].0 += 1;
                dependents[need].1 &= another_way;
            }
            worst = match (forgiven, state) {
                (false, State::Failed) => WorkflowStatus::Failed,
                (false, State::Cancelled | State::Skipped) if worst == WorkflowStatus::Success => WorkflowStatus::Cancelled,
                _ => worst,
            };
        }
        match worst {
            WorkflowStatus::Success => worst,
            _ if cancelled => WorkflowStatus::Cancelled,
            _ => worst,
        }
    }

    /// Takes a step that ended without success up again, and what depends on it and never had its turn: all that is returned gets a new
    /// task and stands as blocked in `states`, for [`Graph::advance`] to go on from. What ran stays as it is, upstream, beside and
    /// downstream.
    pub fn retry(&self, step: usize, states: &mut [State]) -> Result<Vec<usize>, NoRetry> {
        match states[step] {
            State::Blocked | State::Active => return Err(NoRetry::NotEnded),
            State::Success => return Err(NoRetry::Succeeded),
            State::Failed | State::Cancelled | State::Skipped => {}
        }
        let mut again = states.to_vec();
        again[step] = State::Blocked;
        if matches!(self.verdict(step, &again), Verdict::Never) {
            let stands_in_the_way = |need: &&usize| again[**need].is_final() && again[**need] != State::Success;
            let need = self.needs(step).iter().find(stands_in_the_way).copied().unwrap_or(step);
            return Err(NoRetry::Needs(need));
        }
        let mut reached = vec![false; states.len()];
        reached[step] = true;
        let mut reset = Vec::new();
        for &next in self.order() {
            let below = next != step && self.needs(next).iter().any(|need| reached[*need]);
            reached[next] |= below;
            if below && again[next] == State::Skipped {
                again[next] = State::Blocked;
                // Where another need stands in its way all the same, it is left alone.
                if matches!(self.verdict(next, &again), Verdict::Never) {
                    again[next] = State::Skipped;
                    continue;
                }
            }
            if again[next] == State::Blocked && states[next].is_final() {
                reset.push(next);
            }
        }
        states.copy_from_slice(&again);
        Ok(reset)
    }
}

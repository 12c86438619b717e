//! One attempt, from its lease to its settlement.

use super::outbox::{Judge, Outbox};
use super::{Context, Slot, Word};
use crate::executor::{AttemptRequest, Execute, HostCall, Report, Ticket};
use crate::model::Time;
use crate::model::alert::{AlertType, NewAlert, long_execution_after};
use crate::model::attempt::{Class, Document, LogLine, Outcome, Progress, Usage};
use crate::model::definition::Definition;
use crate::model::ids::TaskId;
use crate::model::retry::{Bounds, Next, decide};
use crate::model::task::Task;
use crate::store::{Lease, Settle, Store, StoreError};
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// Lines wait this long before they are kept, so that a talkative handler shares its commits.
const FLUSH_EVERY: Duration = Duration::from_secs(1);
/// How often a settlement is tried again while the store is in trouble.
const SETTLE_AGAIN: Duration = Duration::from_millis(500);
/// After which a step is tried again whose needs could not be read.
const POLL: Duration = Duration::from_secs(1);
/// A wait for a processor that puts no alert off.
const TRIFLE: Duration = Duration::from_millis(100);

/// A leased task with what it takes to run it.
pub struct Assignment {
    /// The right to settle it.
    pub lease: Lease,
    /// The task.
    pub task: Task,
    /// What its plugin says of it.
    pub definition: Arc<Definition>,
    /// The plugin's code: the version that was current when the attempt began, whatever is swapped in meanwhile.
    pub code: Arc<dyn Execute>,
    /// The results of the steps that it needed, where it is one of a workflow: read when it starts.
    pub needs: Needs,
}

/// Results by key, as JSON texts.
pub type Needs = BTreeMap<String, Box<RawValue>>;

/// What the guest has said so far and is not kept yet.
#[derive(Default)]
struct Said {
    lines: Vec<LogLine>,
    progress: Option<Progress>,
    outbox: Outbox,
}

/// How the guest came to its end.
enum End {
    Reported(Report),
    Interrupted,
    /// The task was cancelled and is settled, whatever the guest made of its grace.
    Cancelled,
}

pub(super) async fn run(
    context: Context,
    mut assignment: Assignment,
    (slot, ticket): (Slot, Ticket),
    word: watch::Receiver<Word>,
    cancel_grace: Duration,
) {
    let began = Instant::now();
    let started_at = context.clock.now();
    let mut said = Said::default();
    if assignment.task.workflow.is_some() {
        match needs(&context, assignment.lease.task).await {
            Ok(needs) => assignment.needs = needs,
            Err(outcome) => {
                drop(slot);
                let report = Report {
                    outcome,
                    usage: Usage::default(),
                    execution_time: began.elapsed(),
                };
                return settle(&context, &assignment, started_at, report, said).await;
            }
        }
    }
    let end = unless_it_panics(watch_guest(
        &context,
        &mut assignment,
        ticket,
        started_at,
        word,
        cancel_grace,
        &mut said,
    ))
    .await;
    drop(slot);
    let report = match end {
        End::Reported(report) => report,
        End::Interrupted => Report {
            outcome: Outcome::Interrupted,
            usage: Usage::default(),
            execution_time: began.elapsed(),
        },
        End::Cancelled => {
            context.monitor.clear_progress(assignment.lease.task);
            if !said.lines.is_empty() {
                keep_lines(context, assignment.lease, said.lines).await;
            }
            return;
        }
    };
    settle(&context, &assignment, started_at, report, said).await;
}

/// Runs the guest to its end, answers what it asks, and keeps what it says.
async fn watch_guest(
    context: &Context,
    assignment: &mut Assignment,
    ticket: Ticket,
    started_at: Time,
    mut word: watch::Receiver<Word>,
    cancel_grace: Duration,
    said: &mut Said,
) -> End {
    let (calls, mut asked) = mpsc::unbounded_channel();
    let (progress, mut said_progress) = watch::channel(None);
    let is_cancelled = Arc::new(AtomicBool::new(false));
    let timeout = timeout_of(assignment);
    let pace = ticket.pace();
    let told_by_guest = Told {
        cancelled: is_cancelled.clone(),
        calls,
        progress,
    };
    let request = request(context, assignment, started_at, timeout, ticket, told_by_guest);
    let mut guest = assignment.code.execute(request);
    let flush = tokio::time::sleep(FLUSH_EVERY);
    tokio::pin!(flush);
    let long = tokio::time::sleep(long_execution_after(timeout));
    tokio::pin!(long);
    let grace = tokio::time::sleep(Duration::ZERO);
    tokio::pin!(grace);
    let mut told = Word::Run;
    let (mut long_told, mut long_waited) = (false, Duration::ZERO);
    let mut keeping: Option<JoinHandle<()>> = None;
    let reported = loop {
        tokio::select! {
            biased;
            Ok(()) = word.changed() => {
                let before = std::mem::replace(&mut told, *word.borrow_and_update());
                is_cancelled.store(true, Ordering::Relaxed);
                match told {
                    Word::Interrupted => {
                        told = if before == Word::Cancelled { before } else { told };
                        break None;
                    }
                    Word::Cancelled if cancel_grace.is_zero() => break None,
                    Word::Cancelled => grace.as_mut().reset(Instant::now() + cancel_grace),
                    Word::Run | Word::Draining => {}
                }
            }
            () = &mut grace, if told == Word::Cancelled => break None,
            report = &mut guest => break Some(report),
            Some(call) = asked.recv() => {
                // All there is: a guest that takes a turn between any two of these would say more than is heard.
                let more = std::iter::from_fn(|| asked.try_recv().ok());
                std::iter::once(call).chain(more).for_each(|call| answer(context, &assignment.task, assignment.lease, call, said));
            }
            Ok(()) = said_progress.changed() => hear(context, assignment.lease, &mut said_progress, said),
            () = &mut flush => {
                // The store may be slow; the guest, its timeout and its cancellation do not wait for it.
                if !said.lines.is_empty() && keeping.as_ref().is_none_or(JoinHandle::is_finished) {
                    keeping = Some(tokio::spawn(keep_lines(context.clone(), assignment.lease, std::mem::take(&mut said.lines))));
                }
                flush.as_mut().reset(Instant::now() + FLUSH_EVERY);
            }
            () = &mut long, if !long_told => {
                // What it waited for a processor does not count.
                let waited = pace.so_far() + pace.aside(&context.processors).unwrap_or_default();
                let more = waited.saturating_sub(std::mem::replace(&mut long_waited, waited));
                if more > TRIFLE {
                    long.as_mut().reset(Instant::now() + more);
                    continue;
                }
                long_told = true;
                tokio::spawn(tell_long_execution(context.clone(), assignment.lease.task, assignment.task.name.clone(), started_at));
            }
        }
    };
    drop(guest);
    while let Ok(call) = asked.try_recv() {
        answer(context, &assignment.task, assignment.lease, call, said);
    }
    hear(context, assignment.lease, &mut said_progress, said);
    // What is left of the lines is kept at the end, so those before them have to be kept first.
    if let Some(keeping) = keeping {
        let _ = keeping.await;
    }
    end(told, reported)
}

/// What the end means, by what the guest was told before.
fn end(told: Word, reported: Option<Report>) -> End {
    match (told, reported) {
        (Word::Cancelled, _) => End::Cancelled,
        // It stopped because the host asked it to, and nobody cancelled the task.
        (Word::Draining, Some(report)) if report.outcome == Outcome::Cancelled => End::Reported(Report {
            outcome: Outcome::Interrupted,
            ..report
        }),
        (_, Some(report)) => End::Reported(report),
        (_, None) => End::Interrupted,
    }
}

/// A mistake of the host within an attempt ends that attempt, and nobody knows how far the guest came: as if it had trapped.
async fn unless_it_panics(attempt: impl Future<Output = End>) -> End {
    let began = Instant::now();
    let mut attempt = std::pin::pin!(attempt);
    std::future::poll_fn(|cx| {
        catch_unwind(AssertUnwindSafe(|| attempt.as_mut().poll(cx))).unwrap_or_else(|_| {
            Poll::Ready(End::Reported(Report {
                outcome: Outcome::Trap {
                    message: "the host made a mistake while the handler ran; its log says where".into(),
                    details: None,
                },
                usage: Usage::default(),
                execution_time: began.elapsed(),
            }))
        })
    })
    .await
}

/// What a guest is told, and where it is heard.
struct Told {
    cancelled: Arc<AtomicBool>,
    calls: mpsc::UnboundedSender<HostCall>,
    progress: watch::Sender<Option<Progress>>,
}

fn timeout_of(assignment: &Assignment) -> Duration {
    let definition = &assignment.definition;
    assignment.task.timeout.unwrap_or(definition.timeout).min(definition.max_timeout)
}

fn request(
    context: &Context,
    assignment: &mut Assignment,
    started_at: Time,
    timeout: Duration,
    ticket: Ticket,
    told: Told,
) -> AttemptRequest {
    let (task, definition) = (&mut assignment.task, &assignment.definition);
    let max_retries = task.max_retries.unwrap_or(definition.retry.max_retries);
    let document = Document {
        task_id: task.id,
        attempt: task.attempt,
        max_attempts: max_retries.saturating_add(1),
        trigger_time: task.trigger_time,
        timeout_at: started_at + timeout,
        idempotency_key: task.idempotency_key,
        tags: task.tags.clone(),
        parent_task_id: task.origin.parent(),
        needs: std::mem::take(&mut assignment.needs),
    };
    AttemptRequest {
        task_name: task.name.clone(),
        input: std::mem::take(&mut task.payload), // nobody asks for it again
        number: task.attempt,
        document: Some(document),
        limits: context.executor.limits(timeout, definition.fuel_for(timeout), definition.memory),
        cancelled: told.cancelled,
        calls: told.calls,
        progress: told.progress,
        ticket,
    }
}

/// The results of the steps that this one needed, or how the attempt ends without them.
async fn needs(context: &Context, id: TaskId) -> Result<Needs, Outcome> {
    let found = context.store.needs(id).await.map_err(|error| match error {
        StoreError::Conflict(message) => Outcome::Error {
            class: Class::Fatal,
            message,
        },
        error => {
            tracing::error!(task = %id, %error, "the results of a step's needs could not be read; trying again");
            Outcome::Snooze {
                after: POLL,
                message: "the results of the steps that it needs could not be read".into(),
            }
        }
    })?;
    let read = |(key, result)| Some((key, RawValue::from_string(result).ok()?));
    Ok(found.into_iter().filter_map(read).collect())
}

/// Takes the latest word on how far the guest is.
fn hear(context: &Context, lease: Lease, told: &mut watch::Receiver<Option<Progress>>, said: &mut Said) {
    if let Some(progress) = told.borrow_and_update().clone() {
        context.monitor.set_progress(lease.task, progress.clone());
        said.progress = Some(progress);
    }
}

/// Never waits: what takes time goes on beside the guest, so that its timeout and its cancellation are not held up.
fn answer(context: &Context, task: &Task, lease: Lease, call: HostCall, said: &mut Said) {
    match call {
        HostCall::Log(line) => said.lines.push(line),
        HostCall::SaveCheckpoint(data, reply) => {
            let store = context.store.clone();
            tokio::spawn(async move {
                let saved = store.save_checkpoint(lease, data).await;
                let _ = reply.send(saved.map_err(|error| error.to_string()));
            });
        }
        HostCall::Send { what, grants, reply } => {
            let judge = Judge {
                limits: &context.executor,
                grants: &grants,
                accepts: &context.accepts,
                full: context.outbox_full.load(Ordering::Relaxed),
                depth: task.depth,
                now: context.clock.now(),
            };
            let _ = reply.send(said.outbox.take(what, &judge));
        }
        HostCall::LoadCheckpoint(reply) => {
            let store = context.store.clone();
            tokio::spawn(async move {
                let _ = reply.send(load_checkpoint(store.as_ref(), lease.task).await);
            });
        }
    }
}

async fn load_checkpoint(store: &dyn Store, id: TaskId) -> Option<Vec<u8>> {
    store.load_checkpoint(id).await.unwrap_or_else(|error| {
        tracing::error!(task = %id, %error, "a checkpoint could not be read");
        None
    })
}

async fn keep_lines(context: Context, lease: Lease, lines: Vec<LogLine>) {
    if let Err(error) = context.store.append_log(lease, lines).await {
        tracing::warn!(task = %lease.task, %error, "lines of a log could not be kept");
    }
}

async fn tell_long_execution(context: Context, task_id: TaskId, task_name: String, started_at: Time) {
    let at = context.clock.now();
    let execution_time = (at - started_at).to_std().ok();
    let alert = NewAlert {
        kind: AlertType::LongExecution,
        task_id,
        task_name,
        error: None,
        execution_time,
        at,
    };
    if let Err(error) = context.store.raise(alert).await {
        tracing::error!(task = %task_id, %error, "an alert could not be kept");
    }
}

async fn settle(context: &Context, assignment: &Assignment, started_at: Time, report: Report, said: Said) {
    let (task, definition) = (&assignment.task, &assignment.definition);
    let now = context.clock.now();
    let bounds = Bounds {
        policy: &definition.retry,
        max_retries: task.max_retries.unwrap_or(definition.retry.max_retries),
        idempotent: task.idempotent.unwrap_or(definition.idempotent),
        due_at: task.due_at,
    };
    let next = decide(&report.outcome, task.counters, &bounds, now, fastrand::f64());
    let alert = match &next {
        Next::Failed { error, .. } => Some(NewAlert {
            kind: AlertType::TaskFailure,
            task_id: task.id,
            task_name: task.name.clone(),
            error: Some(error.clone()),
            execution_time: Some(report.execution_time),
            at: now,
        }),
        _ => None,
    };
    let waits_again = matches!(next, Next::Pending { .. });
    let outbox = match report.outcome {
        Outcome::Ok { .. } => said.outbox.sealed(task.depth),
        _ => Default::default(),
    };
    let has_sent = !outbox.sent.is_empty();
    let settle = Settle {
        lease: assignment.lease,
        task_name: task.name.clone(),
        tagged: !task.tags.is_empty(),
        ties: task.ties(),
        started_at: Some(started_at),
        outcome: report.outcome,
        next,
        now,
        execution_time: Some(report.execution_time),
        usage: report.usage,
        progress: said.progress,
        log: said.lines,
        alert,
        outbox,
    };
    let settled = settle_at_last(context, Arc::new(settle)).await;
    if !task.ties().is_none() {
        context.wake.notify_one(); // what follows it may be due
    }
    if settled && has_sent {
        context.sent.notify_one();
    }
    if waits_again {
        context.monitor.clear_progress(task.id);
        context.wake.notify_one();
    }
}

/// An outcome is not given up because the disk is full: it is tried again until the store takes it or the process ends.
async fn settle_at_last(context: &Context, settle: Arc<Settle>) -> bool {
    loop {
        match context.store.settle(settle.clone()).await {
            Ok(()) => return true,
            Err(StoreError::LeaseLost) => {
                tracing::debug!(task = %settle.lease.task, "an attempt ended after its lease did; its outcome is dropped");
                return false;
            }
            Err(error) => {
                tracing::error!(task = %settle.lease.task, %error, "an attempt could not be settled; trying again");
                tokio::time::sleep(SETTLE_AGAIN).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_of_the_host_ends_the_attempt_as_one_without_an_answer() {
        let End::Reported(report) = unless_it_panics(async { panic!("in a host call") }).await else {
            panic!("nobody stopped it")
        };
        assert!(!report.outcome.kind().is_answer(), "{report:?}");
    }
}

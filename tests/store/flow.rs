//! Workflows in the store beside their rules: random graphs with random ends, the store closed and opened in between.

use fastrand::Rng;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use taskhost::model::Time;
use taskhost::model::attempt::{Class, Outcome, Usage};
use taskhost::model::ids::{NodeId, WorkflowId};
use taskhost::model::outbox::Outbox;
use taskhost::model::request::{WorkflowRequest, parse};
use taskhost::model::retry::Next;
use taskhost::model::room::{Load, Room};
use taskhost::model::task::{Origin, Task};
use taskhost::model::workflow::{Change, Graph, NewWorkflow, State, When};
use taskhost::store::sqlite::Sqlite;
use taskhost::store::{Claim, Filter, Handled, Keep, Lease, Listing, PageRequest, Settle, Store};

/// A store, and what it should hold.
struct Pair {
    store: Sqlite,
    node: NodeId,
    now: Time,
    id: WorkflowId,
    graph: Graph,
    states: Vec<State>,
    cancelled: bool,
}

fn key(step: usize) -> String {
    format!("s{step}")
}

fn random_request(rng: &mut Rng) -> (WorkflowRequest, usize) {
    let count = rng.usize(1..12);
    let mut places: Vec<usize> = (0..count).collect();
    rng.shuffle(&mut places);
    let steps: Vec<String> = (0..count)
        .map(|place| {
            // Each step needs some of those that come before it in a hidden order.
            let rank = places[place];
            let needs: Vec<String> = (0..count)
                .filter(|other| places[*other] < rank && rng.u8(..) < 90)
                .map(key)
                .collect();
            let when = When::ALL[rng.usize(..3)].as_str();
            format!(
                r#"{{"key":"s{place}","task_name":"t","needs":{},"when":"{when}"}}"#,
                serde_json::json!(needs)
            )
        })
        .collect();
    let request = format!(r#"{{"steps":[{}]}}"#, steps.join(","));
    (parse(request.as_bytes()).expect("a request"), count)
}

impl Pair {
    async fn begin(folder: &Path, rng: &mut Rng) -> Self {
        let now: Time = "2026-01-01T00:00:00Z".parse().expect("a time");
        let (request, count) = random_request(rng);
        let graph = request.graph().expect("no circle");
        let id = WorkflowId::new(now);
        let new = NewWorkflow::new(id, request, |_| None, (Origin::Submitted, 0), now).expect("a workflow");
        let store = Sqlite::open(folder).expect("a store");
        store.submit_workflow(new, None).await.expect("submitted");
        let mut states = vec![State::Blocked; count];
        graph.advance(&mut states);
        Self {
            store,
            node: NodeId::new(now),
            now,
            id,
            graph,
            states,
            cancelled: false,
        }
    }

    /// What the store says is what the rules say.
    async fn compare(&self, what: &str) {
        let kept = self.store.workflow(self.id).await.expect("it");
        let expected: Vec<&str> = self
            .states
            .iter()
            .map(|state| match state {
                State::Blocked | State::Active => "pending",
                State::Success => "success",
                State::Failed => "failed",
                State::Cancelled | State::Skipped => "cancelled",
            })
            .collect();
        let found: Vec<&str> = kept.steps.iter().map(|step| step.status.as_str()).collect();
        assert_eq!(found, expected, "{what}: {:?}", self.states);
        for (step, state) in kept.steps.iter().zip(&self.states) {
            assert_eq!(step.blocked, *state == State::Blocked, "{what}: {}", step.key);
            let task = self.store.task(step.task).await.expect("its task");
            assert_eq!(task.status, step.status, "{what}: {}", step.key);
        }
        assert_eq!(
            kept.status,
            self.graph.status(&self.states, self.cancelled),
            "{what}: {:?}",
            self.states
        );
    }

    async fn claim(&self) -> Vec<Task> {
        let handled = Handled {
            memory: 1,
            idempotent: true,
            max_running: None,
            plugin: "p".into(),
            plugin_digest: "d".into(),
        };
        let claim = Claim {
            node: self.node,
            now: self.now,
            started: [0; 2],
            load: Arc::new(|_| Load::Short),
            handlers: Arc::new(HashMap::from([("t".to_owned(), handled)])),
            hold: Box::new(|| Room::of(1, 1 << 20)),
            give_back: Box::new(|_, _| ()),
        };
        self.store.claim(claim).await.expect("a claim").tasks
    }

    /// Ends what is due, one task after the other, until nothing is.
    async fn drive(&mut self, rng: &mut Rng) {
        while let Some(task) = self.claim().await.pop() {
            let kept = self.store.workflow(self.id).await.expect("it");
            let step = kept.steps.iter().position(|step| step.task == task.id).expect("its step");
            assert_eq!(self.states[step], State::Active, "{} ran out of turn", key(step));
            let lease = Lease {
                task: task.id,
                attempt: task.attempt,
                node: self.node,
            };
            let needs = self.store.needs(task.id).await.expect("its needs");
            let succeeded = self.graph.needs(step).iter().filter(|need| self.states[**need] == State::Success);
            let mut expected: Vec<String> = succeeded.map(|need| key(*need)).collect();
            expected.sort();
            assert_eq!(needs.into_keys().collect::<Vec<_>>(), expected);
            self.states[step] = match rng.u8(..4) {
                0 => {
                    self.store.cancel(task.id, self.now).await.expect("cancelled");
                    State::Cancelled
                }
                1 => {
                    let outcome = Outcome::Error {
                        class: Class::Fatal,
                        message: "no".into(),
                    };
                    let next = Next::Failed {
                        code: "fatal",
                        error: "no".into(),
                    };
                    self.settle(&task, lease, outcome, next).await;
                    State::Failed
                }
                _ => {
                    self.settle(&task, lease, Outcome::Ok { result: "1".into() }, Next::Success).await;
                    State::Success
                }
            };
            let changes = self.graph.advance(&mut self.states);
            assert!(changes.iter().all(|change| matches!(change, Change::Run(_) | Change::Skip(_))));
            self.compare("after an end").await;
        }
    }

    async fn settle(&self, task: &Task, lease: Lease, outcome: Outcome, next: Next) {
        let settle = Settle {
            lease,
            task_name: task.name.clone(),
            tagged: false,
            ties: task.ties(),
            started_at: None,
            outcome,
            next,
            now: self.now,
            execution_time: None,
            usage: Usage::default(),
            progress: None,
            log: vec![],
            alert: None,
            outbox: Outbox::default(),
        };
        self.store.settle(Arc::new(settle)).await.expect("settled");
    }

    /// Takes some step up again, if its state allows; the store and the rules agree on that too.
    async fn retry(&mut self, rng: &mut Rng) {
        let step = rng.usize(..self.states.len());
        let before = self.store.workflow(self.id).await.expect("it");
        let kept = self.store.retry_step(self.id, key(step), self.now).await;
        let expected = self.graph.retry(step, &mut self.states);
        assert_eq!(kept.is_ok(), expected.is_ok(), "{kept:?} {expected:?} {:?}", self.states);
        let (Ok(kept), Ok(mut reset)) = (kept, expected) else { return };
        self.cancelled = false;
        self.graph.advance(&mut self.states);
        reset.retain(|place| *place != step);
        assert_eq!(kept.reset, reset.into_iter().map(key).collect::<Vec<_>>());
        let after = self.store.workflow(self.id).await.expect("it");
        assert_ne!(before.steps[step].task, after.steps[step].task);
        self.compare("after a retry").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_store_follows_the_rules_whatever_happens() {
    for seed in 0..40 {
        let mut rng = Rng::with_seed(seed);
        let folder = tempfile::tempdir().expect("a folder");
        let mut pair = Pair::begin(folder.path(), &mut rng).await;
        pair.compare("at the start").await;
        for _ in 0..4 {
            pair.drive(&mut rng).await;
            assert!(
                pair.states.iter().all(|state| state.is_final()),
                "seed {seed} is stuck: {:?}",
                pair.states
            );
            for _ in 0..3 {
                pair.retry(&mut rng).await;
            }
            if rng.bool() {
                pair.store.close().await;
                drop(pair.store);
                pair.store = Sqlite::open(folder.path()).expect("a store");
            }
            if rng.u8(..4) == 0 && pair.store.cancel_workflow(pair.id, pair.now).await.is_ok() {
                pair.cancelled = true;
                for state in &mut pair.states {
                    *state = match *state {
                        State::Blocked => State::Skipped,
                        State::Active => State::Cancelled,
                        ended => ended,
                    };
                }
                pair.compare("after its cancellation").await;
                pair.retry(&mut rng).await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn workflows_are_forgotten_many_at_a_time_and_those_that_have_not_ended_stay() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Sqlite::open(folder.path()).expect("a store");
    let now: Time = "2026-01-01T00:00:00Z".parse().expect("a time");
    let submit = async || {
        let request = parse(br#"{"steps":[{"key":"a","task_name":"t"},{"key":"b","task_name":"t"}]}"#).expect("a request");
        let id = WorkflowId::new(now);
        let new = NewWorkflow::new(id, request, |_| None, (Origin::Submitted, 0), now).expect("a workflow");
        store.submit_workflow(new, None).await.expect("submitted");
        id
    };
    for _ in 0..200 {
        let id = submit().await;
        store.cancel_workflow(id, now).await.expect("cancelled");
    }
    let mut unfinished = Vec::new();
    for _ in 0..30 {
        let id = submit().await;
        let kept = store.workflow(id).await.expect("it");
        store.cancel(kept.steps[0].task, now).await.expect("cancelled");
        unfinished.push(id);
    }
    let prune = async |limit, after| {
        let before = now + chrono::TimeDelta::days(1);
        store.prune(&Keep::of(before, 0), limit, after).await.expect("pruned")
    };
    let (mut pruned, mut pieces) = (prune(10, None).await, 1);
    while !pruned.is_all() {
        (pruned, pieces) = (prune(10, pruned.after).await, pieces + 1);
    }
    assert!(pieces < 100, "{pieces} pieces");
    // What has to stay is walked over piece by piece too.
    let first = prune(1, None).await;
    assert!(first.most == 0 && first.after.is_some(), "{first:?}");
    assert!(prune(1, first.after).await.is_all());
    let page = PageRequest {
        limit: 1_000,
        cursor: None,
    };
    assert_eq!(store.workflows(page.clone()).await.expect("a page").items.len(), unfinished.len());
    for id in unfinished {
        for step in store.workflow(id).await.expect("it").steps {
            store.task(step.task).await.expect("its task");
        }
    }
    let left = store.tasks(Listing::History(Filter::default()), page).await.expect("a page");
    assert_eq!(left.items.len(), 30);
}

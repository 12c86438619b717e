//! The store's promises, whichever database keeps them: a suite that every driver has to pass.

use serde_json::json;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use taskhost::model::Time;
use taskhost::model::attempt::{Class, Level, LogLine, Outcome, Source, Usage};
use taskhost::model::calendar::Calendar;
use taskhost::model::event::NewEvent;
use taskhost::model::ids::{BatchId, EventId, NodeId, TaskId, TriggerId, WorkflowId};
use taskhost::model::outbox::{Outbox, Sent, Undelivered};
use taskhost::model::priority::Priority;
use taskhost::model::request::{WorkflowRequest, parse};
use taskhost::model::retry::{Counters, Next};
use taskhost::model::task::{NewTask, Origin, Status, Submission, Ties};
use taskhost::model::trigger::{Edits, Patch, Terms, Trigger};
use taskhost::model::workflow::{NewWorkflow, WorkflowStatus};
use taskhost::store::sqlite::Sqlite;
use taskhost::store::{
    Claim, Claimed, Delivery, Filter, FireEvent, Firing, Handled, Lease, Listened, Listing, Offer, PageRequest, Publish, Room, Settle,
    Stage, Store, StoreError,
};

const MEMORY: u64 = 1 << 20;

/// A store on a fresh directory, and a clock that only moves when told.
pub(crate) struct Fixture {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) node: NodeId,
    pub(crate) now: Time,
    _folder: tempfile::TempDir,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let now: Time = "2026-01-01T00:00:00Z".parse().expect("a time");
        Self {
            store: Arc::new(Sqlite::open(folder.path()).expect("a store")),
            node: NodeId::new(now),
            now,
            _folder: folder,
        }
    }

    pub(crate) fn new_task(&self, name: &str, priority: i64, after: i64) -> NewTask {
        let submission = Submission {
            name: name.into(),
            payload: "{}".into(),
            priority: Priority::new(priority),
            trigger_time: Some(self.now + chrono::TimeDelta::seconds(after)),
            ..Submission::default()
        };
        NewTask::from_submission(submission, None, Origin::Submitted, self.now)
    }

    async fn enqueue(&self, name: &str, priority: i64, after: i64) -> TaskId {
        let task = self.new_task(name, priority, after);
        let id = task.id;
        self.store.enqueue(task, None, None).await.expect("enqueued");
        id
    }

    pub(crate) async fn claim(&self, limit: usize) -> Claimed {
        self.claim_with(limit, 1 << 40, &["a", "b"], 0).await
    }

    async fn claim_with(&self, limit: usize, memory_left: u64, names: &[&str], started: u64) -> Claimed {
        let handled = handled();
        let handlers: HashMap<String, Handled> = names.iter().map(|name| ((*name).to_owned(), handled.clone())).collect();
        let claim = Claim {
            started,
            ..self.claim_of(handlers, limit, memory_left)
        };
        self.store.claim(claim).await.expect("a claim")
    }

    fn claim_of(&self, handlers: HashMap<String, Handled>, slots: usize, memory: u64) -> Claim {
        Claim {
            node: self.node,
            now: self.now,
            started: 0,
            handlers: Arc::new(handlers),
            hold: Box::new(move || Room { slots, memory }),
            give_back: Box::new(drop),
        }
    }

    fn settle(&self, lease: Lease, outcome: Outcome, next: Next) -> Settle {
        Settle {
            lease,
            task_name: "a".into(),
            tagged: true,
            ties: Ties::default(),
            started_at: None,
            outcome,
            next,
            now: self.now,
            execution_time: Some(Duration::from_millis(5)),
            usage: Usage {
                fuel_used: Some(7),
                peak_memory: Some(8),
            },
            progress: None,
            log: vec![],
            alert: None,
            outbox: Outbox::default(),
        }
    }

    /// Stages so many tasks of a batch after the first `staged`; returns their ids.
    async fn stage(&self, batch: BatchId, staged: u64, tasks: Vec<NewTask>) -> Result<Vec<TaskId>, StoreError> {
        let ids = tasks.iter().map(|task| task.id).collect();
        let stage = Stage {
            batch,
            node: self.node,
            first_line: staged,
            tasks,
        };
        self.store.stage(stage).await.map(|()| ids)
    }

    async fn publish(&self, batch: BatchId, count: u64) -> Result<(), StoreError> {
        let publish = Publish {
            batch,
            name: None,
            count,
            now: self.now,
            callbacks: vec![],
            key: None,
        };
        self.store.publish(publish).await
    }

    pub(crate) fn ok(&self, lease: Lease) -> Settle {
        self.settle(lease, Outcome::Ok { result: "1".into() }, Next::Success)
    }

    fn lease(&self, task: TaskId, attempt: u32) -> Lease {
        Lease {
            task,
            attempt,
            node: self.node,
        }
    }
}

fn handled() -> Handled {
    Handled {
        memory: MEMORY,
        idempotent: true,
        max_running: None,
        plugin: "p".into(),
        plugin_digest: "sha256:x".into(),
    }
}

fn ids(claimed: &Claimed) -> Vec<TaskId> {
    claimed.tasks.iter().map(|task| task.id).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn claims_go_by_priority_then_time_then_id_and_take_only_what_is_due() {
    let mut f = Fixture::new();
    let (low, high, later, mid) = (
        f.enqueue("a", 9, 0).await,
        f.enqueue("b", 1, 0).await,
        f.enqueue("a", 1, 60).await,
        f.enqueue("a", 5, 0).await,
    );
    let mid2 = f.enqueue("a", 5, 0).await;
    let claimed = f.claim(10).await;
    assert_eq!(ids(&claimed), [high, mid, mid2, low]);
    assert_eq!(
        (claimed.more, claimed.next_due),
        (false, Some(f.now + chrono::TimeDelta::seconds(60)))
    );
    assert_eq!(f.claim(10).await.tasks.len(), 0, "a lease is given once");
    f.now += chrono::TimeDelta::seconds(60);
    assert_eq!(ids(&f.claim(10).await), [later]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_gives_back_what_it_does_not_take_before_it_answers() {
    let f = Fixture::new();
    f.enqueue("a", 5, 0).await;
    let (tell, told) = std::sync::mpsc::channel();
    let claim = Claim {
        give_back: Box::new(move |room| tell.send(room).expect("somebody listens")),
        ..f.claim_of(HashMap::from([("a".to_owned(), handled())]), 3, 10 * MEMORY)
    };
    assert_eq!(f.store.claim(claim).await.expect("a claim").tasks.len(), 1);
    let left = Room {
        slots: 2,
        memory: 9 * MEMORY,
    };
    assert_eq!(told.try_recv(), Ok(left));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sixteenth_start_is_the_longest_due_and_waits_for_its_memory() {
    let f = Fixture::new();
    let patient = f.enqueue("a", 9, 0).await;
    for _ in 0..20 {
        f.enqueue("a", 1, 0).await;
    }
    assert!(!ids(&f.claim_with(15, 1 << 40, &["a"], 0).await).contains(&patient));
    let none = f.claim_with(5, MEMORY - 1, &["a"], 15).await;
    assert!(none.tasks.is_empty(), "what is left is kept for the longest due");
    assert_eq!(ids(&f.claim_with(1, 1 << 40, &["a"], 15).await), [patient]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_no_handler_is_held_until_it_has_one() {
    let f = Fixture::new();
    let orphan = f.enqueue("gone", 1, 0).await;
    let here = f.enqueue("a", 9, 0).await;
    assert_eq!(ids(&f.claim(10).await), [here]);
    assert_eq!(f.store.task(orphan).await.expect("it").held.as_deref(), Some("handler missing"));
    let handled = handled();
    f.store
        .release(Arc::new(HashMap::from([("gone".to_owned(), handled)])))
        .await
        .expect("released");
    assert_eq!(ids(&f.claim_with(10, 1 << 40, &["gone"], 0).await), [orphan]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_settles_once_and_only_under_its_fence() {
    let f = Fixture::new();
    let id = f.enqueue("a", 5, 0).await;
    f.claim(1).await;
    for wrong in [
        f.lease(id, 2),
        Lease {
            node: NodeId::new(f.now),
            ..f.lease(id, 1)
        },
        f.lease(TaskId::new(f.now), 1),
    ] {
        assert!(matches!(f.store.settle(Arc::new(f.ok(wrong))).await, Err(StoreError::LeaseLost)));
    }
    f.store.settle(Arc::new(f.ok(f.lease(id, 1)))).await.expect("settled");
    assert!(matches!(
        f.store.settle(Arc::new(f.ok(f.lease(id, 1)))).await,
        Err(StoreError::LeaseLost)
    ));
    assert!(matches!(
        f.store.save_checkpoint(f.lease(id, 1), vec![1]).await,
        Err(StoreError::LeaseLost)
    ));
    let task = f.store.task(id).await.expect("the task");
    assert_eq!(
        (task.status, task.result.as_deref(), task.attempts.len()),
        (Status::Success, Some("1"), 1)
    );
    assert_eq!(
        task.attempts[0].usage,
        Usage {
            fuel_used: Some(7),
            peak_memory: Some(8)
        }
    );
    assert_eq!(
        f.store.metrics(Some("a")).await.expect("metrics")["a"].count,
        1,
        "refused settlements leave nothing"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_attempt_cannot_be_settled_any_more() {
    let f = Fixture::new();
    let id = f.enqueue("a", 5, 0).await;
    f.claim(1).await;
    assert_eq!(f.store.cancel(id, f.now).await.expect("cancelled"), Some(f.lease(id, 1)));
    assert!(matches!(
        f.store.settle(Arc::new(f.ok(f.lease(id, 1)))).await,
        Err(StoreError::LeaseLost)
    ));
    assert!(matches!(f.store.cancel(id, f.now).await, Err(StoreError::Conflict(_))));
    assert!(matches!(f.store.cancel(TaskId::new(f.now), f.now).await, Err(StoreError::NotFound)));
    assert_eq!(f.store.task(id).await.expect("the task").status, Status::Cancelled);
}

#[tokio::test(flavor = "multi_thread")]
async fn retries_carry_counters_and_failures_into_the_next_attempt() {
    let mut f = Fixture::new();
    let id = f.enqueue("a", 5, 0).await;
    f.claim(1).await;
    let counters = Counters {
        retries: 1,
        ..Counters::default()
    };
    let outcome = Outcome::Error {
        class: Class::Retryable { retry_after: None },
        message: "no".into(),
    };
    let next = Next::Pending {
        trigger_time: f.now + chrono::TimeDelta::seconds(60),
        counters,
    };
    f.store.save_checkpoint(f.lease(id, 1), b"kept".to_vec()).await.expect("saved");
    f.store
        .settle(Arc::new(f.settle(f.lease(id, 1), outcome, next)))
        .await
        .expect("settled");
    assert!(f.claim(1).await.tasks.is_empty());
    let page = PageRequest { limit: 10, cursor: None };
    let failed = f.store.tasks(Listing::Failed, page.clone()).await.expect("a list").items;
    assert_eq!(
        (failed.len(), failed[0].failure.as_ref().map(|failure| failure.error.as_str())),
        (1, Some("no"))
    );
    f.now += chrono::TimeDelta::seconds(60);
    let again = f.claim(1).await;
    assert_eq!((again.tasks[0].attempt, again.tasks[0].counters), (2, counters));
    assert_eq!(f.store.load_checkpoint(id).await.expect("read").as_deref(), Some(&b"kept"[..]));
    f.store.settle(Arc::new(f.ok(f.lease(id, 2)))).await.expect("settled");
    assert_eq!(f.store.load_checkpoint(id).await.expect("read"), None, "gone when the task ends");
    assert!(f.store.tasks(Listing::Failed, page).await.expect("a list").items.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn another_nodes_running_attempts_are_orphans() {
    let f = Fixture::new();
    let id = f.enqueue("a", 5, 0).await;
    f.claim(1).await;
    assert!(f.store.orphans(f.node).await.expect("a list").is_empty());
    let successor = NodeId::new(f.now);
    let orphans = f.store.orphans(successor).await.expect("a list");
    assert_eq!(orphans.iter().map(|orphan| orphan.lease).collect::<Vec<_>>(), [f.lease(id, 1)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_is_leased_as_it_enters_only_where_it_may_start_at_once() {
    let f = Fixture::new();
    let enqueue = async |task: NewTask, free: bool| {
        let (told, kept) = std::sync::mpsc::channel();
        let offer = Offer {
            node: f.node,
            handled: handled(),
            hold: Box::new(move || free),
            kept: Box::new(move |leased| told.send(leased).expect("somebody listens")),
        };
        f.store.enqueue(task, None, Some(offer)).await.expect("enqueued");
        kept.try_recv().expect("told before the answer")
    };
    let later = f.new_task("a", 5, 60);
    assert!(enqueue(later, true).await.is_none(), "its time has not come");
    let task = f.new_task("a", 5, 0);
    let leased = enqueue(task.clone(), true).await.expect("leased");
    assert_eq!((leased.id, leased.attempt, leased.status), (task.id, 1, Status::Running));
    let kept = f.store.task(task.id).await.expect("the task");
    assert_eq!(
        (kept.status, kept.attempts.len(), kept.plugin.as_deref()),
        (Status::Running, 1, Some("p"))
    );
    assert!(f.claim(10).await.tasks.is_empty(), "nobody else may have it");
    f.store
        .settle(Arc::new(f.ok(f.lease(task.id, 1))))
        .await
        .expect("settled under the same fence");

    let waits = f.new_task("a", 9, 0);
    assert!(enqueue(waits.clone(), false).await.is_none(), "no place is free");
    let urgent = f.new_task("a", 1, 0);
    assert!(enqueue(urgent.clone(), true).await.is_none(), "something is due already");
    assert_eq!(ids(&f.claim(10).await), [urgent.id, waits.id]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_intention_undoes_only_itself_in_a_shared_commit() {
    let f = Fixture::new();
    let twin = f.new_task("a", 5, 0);
    let mut work = tokio::task::JoinSet::new();
    for n in 0..64 {
        let (store, task) = (f.store.clone(), if n % 8 == 0 { twin.clone() } else { f.new_task("a", 5, 0) });
        work.spawn(async move { store.enqueue(task, None, None).await.is_ok() });
    }
    let kept = work.join_all().await.into_iter().filter(|kept| *kept).count();
    assert_eq!(kept, 57, "seven of the eight twins are refused");
    assert_eq!(f.claim(100).await.tasks.len(), 57);
}

#[tokio::test(flavor = "multi_thread")]
async fn old_history_is_forgotten_but_never_the_newest() {
    let mut f = Fixture::new();
    for _ in 0..10 {
        let id = f.enqueue("a", 5, 0).await;
        f.claim(1).await;
        f.store.settle(Arc::new(f.ok(f.lease(id, 1)))).await.expect("settled");
    }
    let before = f.now;
    f.now += chrono::TimeDelta::days(40);
    assert_eq!(f.store.prune(before, 0, 100, None).await.expect("pruned").most, 0);
    assert_eq!(f.store.prune(f.now, 4, 100, None).await.expect("pruned").most, 6);
    let left = f
        .store
        .tasks(Listing::History(Filter::default()), PageRequest { limit: 100, cursor: None })
        .await
        .expect("a list");
    assert_eq!(left.items.len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn task_names_have_one_owner() {
    let f = Fixture::new();
    f.store.own("p", vec!["x".into(), "y".into()]).await.expect("owned");
    let refused = f.store.own("q", vec!["z".into(), "x".into()]).await;
    assert!(
        matches!(&refused, Err(StoreError::Conflict(why)) if why.contains("\"x\"") && why.contains("\"p\"")),
        "{refused:?}"
    );
    assert_eq!(f.store.owners().await.expect("owners").len(), 2, "a refused plugin gets nothing");
    f.store.own("p", vec!["y".into()]).await.expect("owned");
    f.store.own("q", vec!["z".into(), "x".into()]).await.expect("free again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_of_a_later_version_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    Sqlite::open(folder.path()).expect("a store").close().await;
    let db = rusqlite::Connection::open(folder.path().join("taskhost.sqlite")).expect("a database");
    db.execute(
        "INSERT INTO refinery_schema_history VALUES (99, 'later', '2030-01-01T00:00:00Z', '1')",
        [],
    )
    .expect("a later migration");
    drop(db);
    let error = Sqlite::open(folder.path()).err().expect("a refusal").to_string();
    assert!(error.contains("another version of Taskhost"), "{error}");
    assert!(json!(error).is_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_large_tasks_ends_early_and_goes_on_where_it_ended() {
    let f = Fixture::new();
    let mut all = Vec::new();
    for _ in 0..9 {
        let mut task = f.new_task("a", 5, 0);
        task.payload = format!("{{\"x\":\"{}\"}}", "y".repeat(5 << 20));
        all.push(task.id);
        f.store.enqueue(task, None, None).await.expect("enqueued");
    }
    let (mut seen, mut cursor, mut pages) = (Vec::new(), None, 0);
    loop {
        let page = f
            .store
            .tasks(Listing::Waiting, PageRequest { limit: 1_000, cursor })
            .await
            .expect("a page");
        seen.extend(page.items.iter().map(|task| task.id));
        pages += 1;
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!((seen, pages), (all.clone(), 3));
    let newest = f
        .store
        .tasks(Listing::All(Filter::default()), PageRequest { limit: 2, cursor: None })
        .await
        .expect("a page");
    assert_eq!(newest.items.iter().map(|task| task.id).collect::<Vec<_>>(), [all[8], all[7]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn small_tasks_start_behind_any_number_of_heavy_ones_that_do_not_fit() {
    let f = Fixture::new();
    for _ in 0..1_100 {
        f.enqueue("heavy", 1, 0).await;
    }
    let small = f.enqueue("small", 9, 0).await;
    let heavy = Handled {
        memory: 10 * MEMORY,
        ..handled()
    };
    let handlers = HashMap::from([("heavy".to_owned(), heavy), ("small".to_owned(), handled())]);
    let claim = f.claim_of(handlers.clone(), 10, 2 * MEMORY);
    let claimed = f.store.claim(claim).await.expect("a claim");
    assert_eq!((ids(&claimed), claimed.more), (vec![small], false));
    let nothing = f.store.claim(f.claim_of(handlers, 10, 2 * MEMORY)).await.expect("a claim");
    assert!(nothing.tasks.is_empty() && !nothing.more, "a freed slot wakes, not a timer");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_definition_says_holds_for_its_attempt_and_does_not_stick() {
    let mut f = Fixture::new();
    let id = f.enqueue("a", 5, 0).await;
    assert_eq!(f.claim(1).await.tasks[0].idempotent, None);
    let again = Next::Pending {
        trigger_time: f.now,
        counters: Counters::default(),
    };
    f.store
        .settle(Arc::new(f.settle(f.lease(id, 1), Outcome::Interrupted, again)))
        .await
        .expect("settled");
    let unsafe_now = Handled {
        idempotent: false,
        ..handled()
    };
    f.now += chrono::TimeDelta::seconds(1);
    let claim = f.claim_of(HashMap::from([("a".to_owned(), unsafe_now)]), 1, 1 << 40);
    let task = f.store.claim(claim).await.expect("a claim").tasks.remove(0);
    assert_eq!((task.idempotent, task.max_retries), (None, None));
    let orphans = f.store.orphans(NodeId::new(f.now)).await.expect("a list");
    assert!(!orphans[0].idempotent, "the running attempt's version counts");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_lines_of_a_cancelled_attempt_are_kept_and_a_strangers_are_not() {
    let mut f = Fixture::new();
    let id = f.enqueue("a", 5, 0).await;
    f.claim(1).await;
    f.now -= chrono::TimeDelta::seconds(60);
    f.store.cancel(id, f.now).await.expect("cancelled");
    let task = f.store.task(id).await.expect("the task");
    assert_eq!(task.execution_time, Some(Duration::ZERO), "the clock was set back");
    let line = LogLine {
        time: f.now,
        level: Level::Info,
        attempt: 1,
        source: Source::Log,
        message: "bye".into(),
        fields: serde_json::Map::new(),
    };
    f.store.append_log(f.lease(id, 1), vec![line.clone()]).await.expect("kept");
    for wrong in [
        f.lease(id, 2),
        Lease {
            node: NodeId::new(f.now),
            ..f.lease(id, 1)
        },
    ] {
        let refused = f.store.append_log(wrong, vec![line.clone()]).await;
        assert!(matches!(refused, Err(StoreError::LeaseLost)));
    }
    let page = PageRequest { limit: 10, cursor: None };
    assert_eq!(f.store.log(id, page).await.expect("a log").items, [line]);
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_forgotten_too() {
    let f = Fixture::new();
    for _ in 0..7 {
        let event = fire_event(&f, vec![], vec![]);
        f.store.fire_events(vec![event]).await.expect("fired");
    }
    let before = f.now + chrono::TimeDelta::days(1);
    let mut counts = Vec::new();
    for _ in 0..3 {
        counts.push(f.store.prune(before, 0, 5, None).await.expect("pruned").most);
    }
    assert_eq!(counts, [5, 2, 0]);
}

fn fire_event(f: &Fixture, firings: Vec<Firing>, skipped: Vec<(TriggerId, Option<String>)>) -> FireEvent {
    FireEvent {
        id: EventId::new(f.now),
        event: NewEvent {
            event_type: "e".into(),
            source: None,
            time: None,
            data: "{}".into(),
            depth: 0,
        },
        now: f.now,
        firings,
        skipped,
    }
}

fn trigger_of(f: &Fixture, name: &str, event_type: &str, payload: String) -> Trigger {
    Trigger {
        id: TriggerId::new(f.now),
        name: name.into(),
        task_name: "a".into(),
        event_type: event_type.into(),
        declared: Terms {
            payload,
            priority: None,
            tags: vec![],
            filter: None,
            debounce: None,
        },
        edits: Edits::default(),
        paused: false,
        created_at: f.now,
        fired_count: 0,
        last_fired: None,
        skipped_count: 0,
        filter_error: None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn triggers_that_an_event_could_not_read_are_refused() {
    let f = Fixture::new();
    let payload = |mebibytes: usize| format!(r#"{{"a":"{}"}}"#, "x".repeat(mebibytes << 20));
    let put =
        async |name: &str, event_type: &str, mebibytes| f.store.put_trigger(trigger_of(&f, name, event_type, payload(mebibytes))).await;
    put("a", "e", 60).await.expect("put");
    let second = put("b", "e", 60).await.expect("put");
    let Err(StoreError::Conflict(sentence)) = put("c", "e", 10).await else {
        panic!("too large")
    };
    assert!(sentence.contains("128 MiB"), "{sentence}");
    put("c", "f", 10).await.expect("another type");
    put("a", "e", 60).await.expect("in its own place");
    let grown = Patch {
        payload: Some(Some(payload(10))),
        ..Patch::default()
    };
    assert!(matches!(f.store.edit_trigger(second, grown).await, Err(StoreError::Conflict(_))));
    assert_eq!(f.store.triggers_of("e").await.expect("those that were let in").len(), 2);
    put("a", "f", 1).await.expect("moved");
    put("d", "e", 60).await.expect("its room is free");
    assert_eq!(f.store.listened("e").await.expect("how much").triggers, 2);
    f.store.remove_trigger(second, f.now).await.expect("removed");
    put("e", "e", 60).await.expect("its room is free");
    assert_eq!(f.store.listened("g").await.expect("how much"), Listened::default());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_filters_let_pass_by_is_counted_over_a_delivery() {
    let f = Fixture::new();
    let trigger = f.store.put_trigger(trigger_of(&f, "t", "e", "{}".into())).await.expect("put");
    let event = |fires: bool, error: Option<&str>| {
        fire_event(
            &f,
            Vec::from_iter(fires.then(|| Firing {
                trigger,
                task: f.new_task("a", 5, 0),
                debounce: None,
            })),
            Vec::from_iter((!fires).then(|| (trigger, error.map(str::to_owned)))),
        )
    };
    for (events, skipped, error) in [
        (
            vec![event(false, Some("x")), event(false, None), event(false, Some("y"))],
            3,
            Some("y"),
        ),
        (vec![event(false, Some("x")), event(true, None)], 4, None),
        (vec![event(true, None), event(false, Some("z"))], 5, Some("z")),
    ] {
        f.store.fire_events(events).await.expect("fired");
        let trigger = f.store.trigger(trigger).await.expect("it");
        assert_eq!((trigger.skipped_count, trigger.filter_error.as_deref()), (skipped, error));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_debounced_task_of_a_trigger_that_makes_another_now_is_left_alone() {
    let f = Fixture::new();
    let trigger = f.store.put_trigger(trigger_of(&f, "t", "e", "{}".into())).await.expect("put");
    let fire = async |name: &str, priority: i64| {
        let event = fire_event(
            &f,
            vec![Firing {
                trigger,
                task: f.new_task(name, priority, 1),
                debounce: Some(Duration::from_secs(1)),
            }],
            vec![],
        );
        f.store.fire_events(vec![event]).await.expect("fired")[0].tasks[0]
    };
    let first = fire("a", 5).await;
    assert_eq!(fire("a", 2).await, first);
    assert_eq!(f.store.task(first).await.expect("it").priority.get(), 2);
    let second = fire("b", 5).await;
    assert_ne!(second, first);
    assert_eq!(f.store.task(second).await.expect("it").name, "b");
    assert_eq!(f.store.task(first).await.expect("it").name, "a");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_debounced_task_is_postponed_until_it_has_waited_ten_times_as_long_or_begins() {
    let mut f = Fixture::new();
    let (began, second) = (f.now, chrono::TimeDelta::seconds(1));
    let trigger = trigger_of(&f, "t", "e", "{}".into());
    let trigger = f.store.put_trigger(trigger).await.expect("put");
    async fn fire(f: &Fixture, trigger: TriggerId, n: u32) -> TaskId {
        let mut task = f.new_task("a", 5, 1);
        task.payload = format!(r#"{{"n":{n}}}"#);
        task.depth = n;
        let event = fire_event(
            f,
            vec![Firing {
                trigger,
                task,
                debounce: Some(Duration::from_secs(1)),
            }],
            vec![],
        );
        f.store.fire_events(vec![event]).await.expect("fired")[0].tasks[0]
    }
    let first = fire(&f, trigger, 1).await;
    for n in 2..40 {
        f.now += second / 2;
        assert_eq!(fire(&f, trigger, n).await, first);
        let task = f.store.task(first).await.expect("it");
        assert_eq!(task.due_at, Some((f.now + second).min(began + second * 10)));
        assert_eq!((task.payload, task.depth), (format!(r#"{{"n":{n}}}"#), n));
    }
    assert_eq!(f.claim(1).await.tasks[0].id, first, "it waits no longer");
    let next = fire(&f, trigger, 40).await;
    assert_ne!(next, first);
    f.store.remove_trigger(trigger, f.now).await.expect("removed");
    assert_eq!(f.store.task(next).await.expect("it stays").status, Status::Pending);
}

#[tokio::test(flavor = "multi_thread")]
async fn questions_that_are_given_up_leave_their_readers() {
    let f = Fixture::new();
    let id = f.enqueue("a", 5, 0).await;
    for _ in 0..50 {
        let asked: Vec<_> = (0..20)
            .map(|_| {
                let store = f.store.clone();
                tokio::spawn(async move { store.task(id).await.map(drop) })
            })
            .collect();
        tokio::task::yield_now().await;
        asked.iter().for_each(tokio::task::JoinHandle::abort);
        f.store.task(id).await.expect("a reader is free");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_unfolded_in_its_order_once_it_is_whole_and_not_before() {
    let mut f = Fixture::new();
    let [second, first, third] = [(); 3].map(|()| BatchId::new(f.now));
    let some = |count: usize| -> Vec<NewTask> { (0..count).map(|_| f.new_task("a", 5, 0)).collect() };
    let (parts, other) = ([some(700), some(900)], some(3));
    let mut mine = Vec::new();
    for part in parts {
        mine.extend(f.stage(first, mine.len() as u64, part).await.expect("staged"));
    }
    let late = f.new_task("a", 5, 90);
    let late_id = f.stage(first, 1_600, vec![late]).await.expect("staged")[0];
    let others = f.stage(second, 0, other).await.expect("staged");
    f.stage(third, 0, vec![f.new_task("a", 1, 0)]).await.expect("staged");
    assert_eq!(f.store.unfold(f.now).await.expect("nothing"), 0);
    assert!(f.claim(10).await.tasks.is_empty(), "nothing is whole");
    f.now += chrono::TimeDelta::seconds(60);
    f.publish(first, 1_601).await.expect("published");
    f.now += chrono::TimeDelta::seconds(1);
    f.publish(second, 3).await.expect("published");
    assert!(f.claim(10).await.tasks.is_empty(), "nothing is a task yet");
    let mut unfolded = Vec::new();
    while let moved @ 1.. = f.store.unfold(f.now).await.expect("unfolded") {
        assert!(moved <= 1_000, "no commit takes long");
        unfolded.push(moved);
    }
    assert_eq!(unfolded.iter().sum::<u64>(), 1_604);
    assert_eq!(unfolded.last(), Some(&3), "one batch after the other");
    let claimed = f.claim(2_000).await;
    mine.extend(others);
    assert_eq!(ids(&claimed), mine, "the batch that was whole first goes first, line by line");
    let task = &claimed.tasks[0];
    assert_eq!(
        (task.batch, task.submitted_at, task.trigger_time),
        (
            Some(first),
            f.now - chrono::TimeDelta::seconds(1),
            f.now - chrono::TimeDelta::seconds(1)
        ),
        "it counts from when all of it was accepted"
    );
    let late = f.store.task(late_id).await.expect("it");
    assert_eq!(
        late.trigger_time,
        f.now + chrono::TimeDelta::seconds(29),
        "and what is dated ahead from its time"
    );
    f.now += chrono::TimeDelta::seconds(29);
    assert_eq!(ids(&f.claim(10).await), [late_id]);
    f.store.settle(Arc::new(f.ok(f.lease(late_id, 1)))).await.expect("settled");
    assert_eq!(f.store.task(late_id).await.expect("it").batch, Some(first));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_published_or_discarded_and_never_both() {
    let f = Fixture::new();
    let [kept, dropped, left] = [(); 3].map(|()| BatchId::new(f.now));
    for batch in [kept, dropped, left] {
        f.stage(batch, 0, (0..1_200).map(|_| f.new_task("a", 5, 0)).collect())
            .await
            .expect("staged");
    }
    f.publish(kept, 1_200).await.expect("published");
    assert!(!f.store.discard(kept).await.expect("it is whole"));
    let mut commits = 0;
    while f.store.discard(dropped).await.expect("discarded") {
        commits += 1;
    }
    assert!(commits > 1, "no commit takes long");
    for refused in [
        f.publish(dropped, 1_200).await,
        f.publish(kept, 1).await,
        f.stage(dropped, 1_200, vec![f.new_task("a", 5, 0)]).await.map(drop),
        f.stage(kept, 1_200, vec![f.new_task("a", 5, 0)]).await.map(drop),
    ] {
        assert!(matches!(refused, Err(StoreError::Conflict(_))), "{refused:?}");
    }
    assert_eq!(f.store.half_staged(f.node).await.expect("none"), []);
    let next_start = NodeId::new(f.now);
    assert_eq!(f.store.half_staged(next_start).await.expect("one"), [left]);
    let mut unfolded = 0;
    while let moved @ 1.. = f.store.unfold(f.now).await.expect("unfolded") {
        unfolded += moved;
    }
    assert_eq!(unfolded, 1_200);
    let before = f.now + chrono::TimeDelta::days(1);
    assert_eq!(
        f.store.prune(before, 0, 5, None).await.expect("pruned").most,
        0,
        "a batch is not old while it is not whole or tasks of it have not ended"
    );
    assert_eq!(f.claim(2_000).await.tasks.len(), 1_200);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_attempt_sent_is_kept_with_an_ok_and_delivered_once() {
    let f = Fixture::new();
    let sends = |settle: Settle| {
        let child = Sent::Task {
            id: TaskId::new(f.now),
            request: r#"{"task_name":"b"}"#.into(),
        };
        let event = Sent::Event {
            id: EventId::new(f.now),
            event_type: "e".into(),
            data: "{}".into(),
        };
        let outbox = Outbox {
            depth: 2,
            sent: vec![child, event],
        };
        Settle { outbox, ..settle }
    };
    let (id, failing) = (f.enqueue("a", 5, 0).await, f.enqueue("a", 6, 0).await);
    f.claim(2).await;
    assert!(matches!(
        f.store.settle(Arc::new(sends(f.ok(f.lease(id, 2))))).await,
        Err(StoreError::LeaseLost)
    ));
    let failed = f.settle(
        f.lease(failing, 1),
        Outcome::Lost,
        Next::Failed {
            code: "lost",
            error: "gone".into(),
        },
    );
    f.store.settle(Arc::new(sends(failed))).await.expect("settled");
    assert_eq!(f.store.undelivered(9, vec![]).await.expect("the outbox"), []);

    let settle = sends(f.ok(f.lease(id, 1)));
    let sent = settle.outbox.sent.clone();
    f.store.settle(Arc::new(settle)).await.expect("settled");
    let kept = f.store.undelivered(9, vec![]).await.expect("the outbox");
    assert_eq!(kept.iter().map(|kept| kept.sent.clone()).collect::<Vec<_>>(), sent);
    assert!(kept.iter().all(|kept| kept.parent == id && kept.depth == 2));
    let skipped = f.store.undelivered(9, vec![kept[0].seq]).await.expect("the outbox");
    assert_eq!(skipped, kept[1..]);

    let Sent::Task { id: promised, .. } = kept[0].sent else {
        panic!("{kept:?}")
    };
    let waiting = f.store.task(promised).await.expect("the child");
    assert_eq!(
        (waiting.name.as_str(), waiting.status, waiting.origin),
        ("b", Status::Pending, Origin::Task(id))
    );
    let child = NewTask {
        id: promised,
        ..f.new_task("c", 5, 0)
    };
    let delivery = || Delivery::Task(child.clone());
    f.store.deliver(kept[0].seq, delivery()).await.expect("delivered");
    assert_eq!(f.store.task(child.id).await.expect("the child").name, "c");
    assert!(matches!(
        f.store.deliver(kept[0].seq, delivery()).await,
        Err(StoreError::Conflict(_))
    ));
    assert_eq!(f.store.undelivered(9, vec![]).await.expect("the outbox"), kept[1..]);
}

#[tokio::test(flavor = "multi_thread")]
async fn events_of_one_attempt_are_delivered_in_their_order() {
    let f = Fixture::new();
    let event = |event_type: &str| Sent::Event {
        id: EventId::new(f.now),
        event_type: event_type.into(),
        data: "{}".into(),
    };
    let task = || Sent::Task {
        id: TaskId::new(f.now),
        request: r#"{"task_name":"b"}"#.into(),
    };
    let (first, second) = (f.enqueue("a", 5, 0).await, f.enqueue("a", 6, 0).await);
    f.claim(2).await;
    for (id, sent) in [
        (first, vec![event("1"), event("2"), task(), event("3")]),
        (second, vec![task(), event("4")]),
    ] {
        let outbox = Outbox { depth: 1, sent };
        let settle = f.ok(f.lease(id, 1));
        f.store.settle(Arc::new(Settle { outbox, ..settle })).await.expect("settled");
    }
    let all = async |limit, skip| f.store.undelivered(limit, skip).await.expect("the outbox");
    let words = |found: &[Undelivered]| -> Vec<String> {
        let word = |one: &Undelivered| match &one.sent {
            Sent::Event { event_type, .. } => event_type.clone(),
            _ => "task".to_owned(),
        };
        found.iter().map(word).collect()
    };
    let has_more_than = async |most| f.store.has_undelivered(most).await.expect("the outbox");
    assert_eq!((has_more_than(5).await, has_more_than(6).await), (true, false));
    let found = all(9, vec![]).await;
    assert_eq!(words(&found), ["1", "task", "task", "4"]);
    assert_eq!(words(&all(2, vec![]).await), ["1", "task"]);
    assert_eq!(words(&all(9, vec![found[0].seq, found[1].seq]).await), ["task", "4"]);
    let fired = Delivery::Event(fire_event(&f, vec![], vec![]));
    f.store.deliver(found[0].seq, fired).await.expect("delivered");
    assert_eq!(words(&all(9, vec![found[0].seq, found[1].seq]).await), ["2", "task", "4"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_promised_is_found_and_cancelled() {
    let f = Fixture::new();
    let (task, workflow) = (TaskId::new(f.now), WorkflowId::new(f.now));
    let sent = vec![
        Sent::Task {
            id: task,
            request: r#"{"task_name":"b"}"#.into(),
        },
        Sent::Workflow {
            id: workflow,
            request: r#"{"name":"w","steps":[{"key":"a","task_name":"b"},{"key":"c","task_name":"b","needs":["a"]}]}"#.into(),
        },
    ];
    let parent = f.enqueue("a", 5, 0).await;
    f.claim(1).await;
    let settle = f.ok(f.lease(parent, 1));
    let outbox = Outbox { depth: 1, sent };
    f.store.settle(Arc::new(Settle { outbox, ..settle })).await.expect("settled");
    let promised = f.store.workflow(workflow).await.expect("it was promised");
    assert_eq!(
        (promised.name.as_deref(), promised.status, promised.steps.len()),
        (Some("w"), WorkflowStatus::Running, 0)
    );
    let kept = f.store.undelivered(9, vec![]).await.expect("the outbox");

    assert_eq!(f.store.cancel(task, f.now).await.expect("cancelled"), None);
    let cancelled = f.store.task(task).await.expect("it");
    assert_eq!((cancelled.status, cancelled.origin), (Status::Cancelled, Origin::Task(parent)));
    assert!(f.store.cancel_workflow(workflow, f.now).await.expect("cancelled").is_empty());
    let cancelled = f.store.workflow(workflow).await.expect("it");
    assert_eq!((cancelled.status, cancelled.steps.len()), (WorkflowStatus::Cancelled, 2));

    assert_eq!(f.store.undelivered(9, vec![]).await.expect("the outbox"), []);
    let late = Delivery::Task(NewTask {
        id: task,
        ..f.new_task("b", 5, 0)
    });
    assert!(matches!(f.store.deliver(kept[0].seq, late).await, Err(StoreError::Conflict(_))));
    assert!(f.claim(9).await.tasks.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_forgotten_once_all_of_it_has_ended_and_is_old() {
    let f = Fixture::new();
    let batch = BatchId::new(f.now);
    let ids = f
        .stage(batch, 0, (0..3).map(|_| f.new_task("a", 5, 0)).collect())
        .await
        .expect("staged");
    f.publish(batch, 3).await.expect("published");
    while f.store.unfold(f.now).await.expect("unfolded") > 0 {}
    let before = f.now + chrono::TimeDelta::days(1);
    for (cancelled, id) in (1..).zip(ids) {
        while f.store.prune(before, 10, 5, None).await.expect("pruned").most > 0 {}
        f.store.cancel(id, f.now).await.expect("cancelled");
        let counted = f.store.batch(batch).await.expect("it is kept");
        assert_eq!((counted.cancelled, counted.pending()), (cancelled, 3 - cancelled));
        assert_eq!(counted.completed_at.is_some(), cancelled == 3);
    }
    while f.store.prune(before, 10, 5, None).await.expect("pruned").most > 0 {}
    assert!(matches!(f.store.batch(batch).await, Err(StoreError::NotFound)));
}

#[tokio::test(flavor = "multi_thread")]
async fn steps_outlive_their_age_as_long_as_their_workflow_does() {
    let f = Fixture::new();
    let request = r#"{"steps":[{"key":"a","task_name":"a"},{"key":"b","task_name":"b","needs":["a"]}]}"#;
    let request: WorkflowRequest = parse(request.as_bytes()).expect("a request");
    let id = WorkflowId::new(f.now);
    let workflow = NewWorkflow::new(id, request, |_| None, (Origin::Submitted, 0), f.now).expect("a workflow");
    let tasks: Vec<TaskId> = workflow.steps.iter().map(|step| step.task.id).collect();
    f.store.submit_workflow(workflow, None).await.expect("submitted");
    let claimed = f.claim(5).await.tasks;
    assert_eq!(
        claimed.iter().map(|task| task.id).collect::<Vec<_>>(),
        tasks[..1],
        "only what needs nothing"
    );
    let settle = f.ok(f.lease(claimed[0].id, 1));
    let ties = claimed[0].ties();
    f.store.settle(Arc::new(Settle { ties, ..settle })).await.expect("settled");
    let before = f.now + chrono::TimeDelta::days(1);
    while f.store.prune(before, 0, 5, None).await.expect("pruned").most > 0 {}
    assert_eq!(f.claim(5).await.tasks.iter().map(|task| task.id).collect::<Vec<_>>(), tasks[1..]);
    let needs = f.store.needs(tasks[1]).await.expect("its needs");
    assert_eq!(needs.into_iter().collect::<Vec<_>>(), [("a".to_owned(), "1".to_owned())]);
    f.store.cancel_workflow(id, f.now).await.expect("cancelled");
    while f.store.prune(before, 0, 5, None).await.expect("pruned").most > 0 {}
    assert!(matches!(f.store.workflow(id).await, Err(StoreError::NotFound)));
    for task in tasks {
        assert!(
            matches!(f.store.task(task).await, Err(StoreError::NotFound)),
            "its steps go with it"
        );
    }
}

#[tokio::test]
async fn a_calendar_that_was_put_goes_before_the_shipped_one_until_it_is_forgotten() {
    let fixture = Fixture::new();
    let store = &fixture.store;
    let calendar = |name: &str, close: &str| {
        let text = format!(
            r#"{{"timezone": "UTC", "official_until": "2026-12-31", "hours": [{{"from": "2026-01-01", "open": "09:00", "close": "{close}"}}]}}"#
        );
        Arc::new(Calendar::parse(name, text.as_bytes()).expect("a calendar"))
    };
    let close = async |name: &str| {
        let named = store.calendar(name).await.expect("a calendar");
        let session = named.calendar.session("2026-06-01".parse().expect("a date")).expect("a session");
        (session.close.format("%H:%M").to_string(), named.updated_at)
    };
    assert!(matches!(store.calendar("desk").await, Err(StoreError::NotFound)));
    assert_eq!(close("XLON").await, ("15:30".into(), None));
    for (name, hour) in [("desk", "17:00"), ("XLON", "12:00")] {
        assert!(
            store.put_calendar(calendar(name, hour), fixture.now).await.expect("kept"),
            "{name} is new"
        );
        assert_eq!(close(name).await, (hour.into(), Some(fixture.now)));
    }
    assert!(
        !store.put_calendar(calendar("desk", "18:00"), fixture.now).await.expect("kept"),
        "no longer new"
    );
    assert_eq!(close("desk").await.0, "18:00");
    let all = store.calendars().await.expect("a list");
    assert_eq!(
        all.keys().map(String::as_str).collect::<Vec<_>>(),
        ["TARGET2", "XETR", "XHKG", "XLON", "XNYS", "XTKS", "desk"]
    );
    for name in ["desk", "XLON"] {
        store.remove_calendar(name).await.expect("forgotten");
        assert!(matches!(store.remove_calendar(name).await, Err(StoreError::NotFound)));
    }
    assert!(matches!(store.calendar("desk").await, Err(StoreError::NotFound)));
    assert_eq!(close("XLON").await, ("15:30".into(), None));
    store.put_calendar(calendar("desk", "16:00"), fixture.now).await.expect("kept");
    assert_eq!(
        close("desk").await.0,
        "16:00",
        "what is put anew is never taken for what was there before"
    );
}

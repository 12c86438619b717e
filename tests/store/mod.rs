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
use taskhost::model::room::{Load, Room};
use taskhost::model::task::{NewTask, Origin, Status, Submission, Ties};
use taskhost::model::trigger::{Edits, Patch, Terms, Trigger};
use taskhost::model::unique::{OnConflict, Unique};
use taskhost::model::workflow::{NewWorkflow, WorkflowStatus};
use taskhost::store::sqlite::Sqlite;
use taskhost::store::{
    Claim, Claimed, Delivery, Filter, FireEvent, Firing, Handled, Keep, Lease, Listened, Listing, Offer, PageRequest, Publish, Settle,
    Stage, Store, StoreError, Swept,
};

mod batches;
mod claims;
mod events;
mod flow;
mod kept;
mod schedules;
mod sent;
mod turns;

const MEMORY: u64 = 1 << 20;

/// A store on a fresh directory, and a clock that only moves when told.
pub(crate) struct Fixture {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) node: NodeId,
    pub(crate) now: Time,
    folder: tempfile::TempDir,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let now: Time = "2026-01-01T00:00:00Z".parse().expect("a time");
        Self {
            store: Arc::new(Sqlite::open(folder.path()).expect("a store")),
            node: NodeId::new(now),
            now,
            folder,
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
            started: [started, 0],
            ..self.claim_of(handlers, limit, memory_left)
        };
        self.store.claim(claim).await.expect("a claim")
    }

    fn claim_of(&self, handlers: HashMap<String, Handled>, slots: usize, memory: u64) -> Claim {
        Claim {
            node: self.node,
            now: self.now,
            started: [0; 2],
            load: Arc::new(|name| if name.starts_with("burns") { Load::Burns } else { Load::Short }),
            handlers: Arc::new(handlers),
            hold: Box::new(move || Room::of(slots, memory)),
            give_back: Box::new(|_, _| ()),
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
                processor_wait: Some(Duration::from_millis(9)),
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
            peak_memory: Some(8),
            processor_wait: Some(Duration::from_millis(9)),
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
    assert_eq!(f.store.prune(&Keep::of(before, 0), 100, None).await.expect("pruned").most, 0);
    assert_eq!(f.store.prune(&Keep::of(f.now, 4), 100, None).await.expect("pruned").most, 6);
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

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_task_that_is_tried_again_is_unique_still() {
    let f = Fixture::new();
    let like = || NewTask {
        unique: Some(Unique {
            key: [1; 32],
            window: None,
            on_conflict: OnConflict::Return,
        }),
        ..f.new_task("a", 5, 0)
    };
    let sweep = || async {
        let later = f.now + chrono::TimeDelta::days(2);
        f.store.sweep(Arc::default(), Swept::default(), later).await.expect("swept");
    };
    let first = f.store.enqueue(like(), None, None).await.expect("enqueued");
    let lease = f.lease(f.claim(1).await.tasks[0].id, 1);
    let failed = Next::Failed {
        code: "unknown_outcome",
        error: "no".into(),
    };
    f.store
        .settle(Arc::new(f.settle(lease, Outcome::Lost, failed)))
        .await
        .expect("settled");
    sweep().await;
    let again = TaskId::new(f.now);
    f.store.retry(first, again, f.now).await.expect("retried");
    sweep().await;
    assert_eq!(f.store.enqueue(like(), None, None).await.expect("enqueued"), again);
    f.claim(1).await;
    f.store.settle(Arc::new(f.ok(f.lease(again, 1)))).await.expect("settled");
    sweep().await;
    let other = f.store.enqueue(like(), None, None).await.expect("enqueued");
    assert!(other != again && other != first, "it has ended");
}

//! What the store promises of what it keeps: how much that is, always exactly; what goes and what stays.

use super::*;
use std::collections::BTreeMap;
use taskhost::store::{KeepOf, Kept, Outdated, Sum};

impl Fixture {
    /// Goes on with the same files as a new process would.
    async fn reopened(self) -> Self {
        let Self { store, node, now, folder } = self;
        store.close().await;
        drop(store);
        let store = Arc::new(Sqlite::open(folder.path()).expect("a store"));
        Self { store, node, now, folder }
    }

    /// The sums as whoever counted all rows would have them: an ended task counts 384 bytes and its texts, and so on.
    fn counted(&self) -> Kept {
        let db = rusqlite::Connection::open(self.folder.path().join("taskhost.sqlite")).expect("a database");
        let sum = |sql: &str| {
            db.query_row(sql, [], |row| {
                Ok(Sum {
                    count: row.get::<_, i64>(0)?.unsigned_abs(),
                    bytes: row.get::<_, Option<i64>>(1)?.unwrap_or(0).unsigned_abs(),
                })
            })
            .unwrap_or_else(|error| panic!("{error}: {sql}"))
        };
        let text = |name: &str| format!("COALESCE(octet_length({name}), 0)");
        let texts = ["name", "payload", "result", "failure", "attempt_error", "progress"]
            .map(text)
            .join(" + ");
        let tags = "COALESCE(3 * octet_length(tags) + 96 * json_array_length(tags), 0)";
        let task = format!("384 + {texts} + {tags}");
        let (attempt, log) = (format!("256 + {}", text("error")), "64 + octet_length(lines)");
        let event = format!(
            "192 + octet_length(type) + octet_length(data) + 2 * ({} + {})",
            text("source"),
            text("source_id")
        );
        let all = |of: &str, table: &str| sum(&format!("SELECT COUNT(*), SUM({of}) FROM {table}"));
        let mut by_name = BTreeMap::new();
        for name in ["a", "b"] {
            let named = |of: &str, table: &str| sum(&format!("SELECT COUNT(*), SUM({of}) FROM {table} WHERE name = '{name}'"));
            let beside = |of: &str, table: &str| {
                let names = "(SELECT id, name FROM task UNION ALL SELECT id, name FROM history) AS named";
                sum(&format!(
                    "SELECT COUNT(*), SUM({of}) FROM {table} JOIN {names} ON named.id = {table}.task WHERE named.name = '{name}'"
                ))
            };
            let (tasks, beside) = (named(&task, "history"), [beside(&attempt, "attempt"), beside(log, "log")]);
            if tasks.count + beside[0].count + beside[1].count > 0 {
                let bytes = tasks.bytes + beside[0].bytes + beside[1].bytes;
                by_name.insert(name.to_owned(), Sum { count: tasks.count, bytes });
            }
        }
        let oldest = |sql: &str| {
            let at: Option<i64> = db.query_row(sql, [], |row| row.get(0)).expect("a time");
            at.and_then(Time::from_timestamp_micros)
        };
        Kept {
            tasks: all(&task, "history"),
            attempts: all(&attempt, "attempt"),
            logs: all(log, "log"),
            checkpoints: all("64 + octet_length(data)", "checkpoint"),
            events: all(&event, "event"),
            by_name,
            oldest_ended_at: oldest("SELECT MIN(completed_at) FROM history"),
            oldest_event_at: oldest("SELECT MIN(at) FROM event"),
        }
    }

    #[track_caller]
    fn check_sums(&self, kept: &Kept) {
        assert_eq!(kept, &self.counted());
    }

    /// Forgets all that may go.
    async fn prune(&self, keep: &Keep) {
        let mut after = None;
        loop {
            let pruned = self.store.prune(keep, 7, after).await.expect("pruned");
            if pruned.is_all() {
                return;
            }
            after = pruned.after;
        }
    }

    /// Keeps what is younger than an hour, and so many bytes.
    fn keep(&self, bytes: u64) -> Keep {
        Keep {
            bytes,
            ..Keep::of(self.now - chrono::TimeDelta::hours(1), 1_000)
        }
    }

    async fn run(&mut self, task: NewTask, result: usize) -> TaskId {
        let id = task.id;
        self.store.enqueue(task, None, None).await.expect("enqueued");
        self.claim(1).await;
        self.now += chrono::TimeDelta::seconds(1);
        let outcome = Outcome::Ok {
            result: format!("\"{}\"", "x".repeat(result)),
        };
        let settle = self.settle(self.lease(id, 1), outcome, Next::Success);
        self.store.settle(Arc::new(settle)).await.expect("settled");
        id
    }

    /// Which of these are there still.
    async fn left(&self, ids: &[TaskId]) -> Vec<usize> {
        let mut left = Vec::new();
        for (index, id) in ids.iter().enumerate() {
            if self.store.task(*id).await.is_ok() {
                left.push(index);
            }
        }
        left
    }
}

fn line(f: &Fixture, length: usize) -> LogLine {
    LogLine {
        time: f.now,
        level: Level::Info,
        attempt: 1,
        source: Source::Log,
        message: "ü\n\"".repeat(length),
        fields: serde_json::Map::new(),
    }
}

/// One claimed task goes on or ends, in one of all ways.
async fn settle_some_way(f: &Fixture, random: &mut fastrand::Rng, task: taskhost::model::task::Task) {
    let lease = f.lease(task.id, task.attempt);
    if random.bool() {
        f.store
            .save_checkpoint(lease, vec![1; random.usize(0..5_000)])
            .await
            .expect("saved");
    }
    if random.bool() {
        f.store.append_log(lease, vec![line(f, random.usize(0..50))]).await.expect("kept");
    }
    if random.u8(0..8) == 0 {
        f.store.cancel(task.id, f.now).await.expect("cancelled");
        f.store.append_log(lease, vec![line(f, 3)]).await.expect("its last words");
        return;
    }
    let length = random.usize(0..300);
    let error = || Outcome::Error {
        class: Class::Retryable { retry_after: None },
        message: "ß".repeat(length),
    };
    let (outcome, next) = match random.u8(0..3) {
        0 => (
            error(),
            Next::Pending {
                trigger_time: f.now,
                counters: Counters::default(),
            },
        ),
        1 => {
            let failed = Next::Failed {
                code: "fatal",
                error: "é".repeat(random.usize(0..300)),
            };
            (error(), failed)
        }
        _ => {
            let result = format!("\"{}\"", "ö".repeat(random.usize(0..9_000)));
            (Outcome::Ok { result }, Next::Success)
        }
    };
    let settle = Settle {
        task_name: task.name.clone(),
        ties: task.ties(),
        log: (0..random.usize(0..3)).map(|_| line(f, 4)).collect(),
        ..f.settle(lease, outcome, next)
    };
    f.store.settle(Arc::new(settle)).await.expect("settled");
}

/// Tasks of which some are refused, so that all that share their commit are done again; beside attempts that end.
async fn collide(f: &Fixture, random: &mut fastrand::Rng) {
    let twin = f.new_task("a", 5, 0);
    let mut work = tokio::task::JoinSet::new();
    for task in f.claim(4).await.tasks {
        let settle = Settle {
            task_name: task.name.clone(),
            ..f.ok(f.lease(task.id, task.attempt))
        };
        let store = f.store.clone();
        work.spawn(async move { store.settle(Arc::new(settle)).await.expect("settled") });
    }
    for n in 0..random.usize(2..20) {
        let task = if n % 3 == 0 { twin.clone() } else { f.new_task("b", 5, 0) };
        let store = f.store.clone();
        work.spawn(async move { drop(store.enqueue(task, None, None).await) });
        let (store, event) = (f.store.clone(), events::fire_event(f, vec![], vec![]));
        work.spawn(async move { drop(store.fire_events(vec![event]).await.expect("fired")) });
    }
    work.join_all().await;
}

async fn cancelled_batch(f: &Fixture) {
    let batch = BatchId::new(f.now);
    f.stage(batch, 0, (0..5).map(|_| f.new_task("b", 5, 0)).collect())
        .await
        .expect("staged");
    f.publish(batch, 5).await.expect("published");
    f.store.cancel_batch(batch, f.now).await.expect("to be cancelled");
    while f.store.cancel_some(f.now).await.expect("cancelled").more {}
}

async fn step(f: &mut Fixture, random: &mut fastrand::Rng) {
    match random.u8(0..12) {
        0..4 => {
            let mut task = f.new_task(if random.bool() { "a" } else { "b" }, 5, 0);
            task.payload = format!("{{\"x\":\"{}\"}}", "ä".repeat(random.usize(0..3_000)));
            task.tags = (0..random.usize(0..3)).map(|n| format!("tag{n}")).collect();
            f.store.enqueue(task, None, None).await.expect("enqueued");
        }
        4..8 => {
            for task in f.claim(2).await.tasks {
                settle_some_way(f, random, task).await;
            }
        }
        8 => collide(f, random).await,
        9 => cancelled_batch(f).await,
        _ => {
            let bytes = random.u64(1_000..60_000);
            let of = KeepOf {
                before: f.now,
                newest: Some(random.u64(0..9)),
                bytes: Some(random.u64(1_000..30_000)),
            };
            let mut keep = Keep::of(f.now - chrono::TimeDelta::seconds(random.i64(0..60)), random.u64(0..50));
            keep.bytes = if random.bool() { bytes } else { u64::MAX };
            if random.bool() {
                keep.by_name.insert("b".into(), of);
            }
            let after = f.store.prune(&keep, random.usize(1..20), None).await.expect("pruned").after;
            f.store.prune(&keep, 5, after).await.expect("pruned");
        }
    }
    f.now += chrono::TimeDelta::seconds(1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_is_known_exactly_whatever_happened() {
    for seed in 0..4 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut f = Fixture::new();
        for n in 0..120 {
            step(&mut f, &mut random).await;
            if n % 10 == 0 {
                f.check_sums(&f.store.kept().await.expect("sums"));
            }
            if n % 40 == 39 {
                f = f.reopened().await;
            }
        }
        f.check_sums(&f.store.kept().await.expect("sums"));
        let page = PageRequest {
            limit: 1_000,
            cursor: None,
        };
        for listing in [Listing::Running, Listing::Waiting] {
            for task in f.store.tasks(listing, page.clone()).await.expect("a list").items {
                f.store.cancel(task.id, f.now).await.expect("cancelled");
            }
        }
        f.now += chrono::TimeDelta::days(1);
        f.prune(&Keep::of(f.now, 0)).await;
        assert_eq!(f.store.kept().await.expect("sums"), Kept::default(), "seed {seed}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn beyond_the_bytes_the_oldest_goes_first_however_young() {
    let mut f = Fixture::new();
    let mut ids = Vec::new();
    for n in 0..20 {
        let task = f.new_task(if n % 3 == 0 { "a" } else { "b" }, 5, 0);
        ids.push(f.run(task, 10_000).await);
        f.store
            .fire_events(vec![events::fire_event(&f, vec![], vec![])])
            .await
            .expect("fired");
    }
    let kept = f.store.kept().await.expect("sums").bytes();
    f.prune(&f.keep(kept)).await;
    assert_eq!(f.left(&ids).await.len(), 20, "as much as is allowed");
    let bytes = 5 * kept / 20;
    let going = f.store.outdated(f.keep(bytes)).await.expect("what would go");
    f.prune(&f.keep(bytes)).await;
    let left = f.store.kept().await.expect("sums");
    assert!(left.bytes() <= bytes && left.bytes() > bytes / 2, "{left:?}");
    assert_eq!(f.left(&ids).await, [15, 16, 17, 18, 19]);
    assert_eq!(left.events.count, 5, "events go in their turn");
    let told: u64 = going.by_name.values().map(|sum| sum.bytes).sum::<u64>() + going.events.bytes;
    assert_eq!((told, going.at_least), (kept - left.bytes(), false), "as was told before");
    assert_eq!(f.store.outdated(f.keep(bytes)).await.expect("nothing"), Outdated::default());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_not_ended_counts_and_stays() {
    let mut f = Fixture::new();
    let ended = f.run(f.new_task("a", 5, 0), 10).await;
    let running = f.enqueue("a", 5, 0).await;
    f.claim(1).await;
    f.store.save_checkpoint(f.lease(running, 1), vec![0; 5_000]).await.expect("saved");
    f.store.append_log(f.lease(running, 1), vec![line(&f, 9)]).await.expect("kept");
    f.prune(&f.keep(4_000)).await;
    assert!(matches!(f.store.task(ended).await, Err(StoreError::NotFound)), "it made room");
    assert_eq!(
        f.store.load_checkpoint(running).await.expect("read").map(|data| data.len()),
        Some(5_000)
    );
    let page = PageRequest { limit: 10, cursor: None };
    assert_eq!(f.store.log(running, page).await.expect("a log").items.len(), 1);
    f.store.settle(Arc::new(f.ok(f.lease(running, 1)))).await.expect("settled");
    assert_eq!(f.store.kept().await.expect("sums").checkpoints, Sum::default());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_of_each_schedule_stays_as_long_as_the_schedule_does() {
    let mut f = Fixture::new();
    let schedule = f.schedule().await.id;
    let mut ids = Vec::new();
    for _ in 0..3 {
        let task = f.task_of(schedule);
        ids.push(f.run(task, 10_000).await);
    }
    for _ in 0..3 {
        let task = f.new_task("a", 5, 0);
        ids.push(f.run(task, 10).await);
    }
    f.prune(&f.keep(2_000)).await;
    assert_eq!(f.left(&ids).await, [2], "by their bytes");
    f.now += chrono::TimeDelta::days(1);
    let mut keep = Keep::of(f.now, 0);
    f.prune(&keep).await;
    assert_eq!(f.left(&ids).await, [2], "by their age");
    keep.by_name.insert(
        "a".into(),
        KeepOf {
            before: f.now,
            newest: Some(0),
            bytes: Some(0),
        },
    );
    f.prune(&keep).await;
    assert_eq!(f.left(&ids).await, [2], "by their name");
    f.store.remove_schedule(schedule, f.now).await.expect("removed");
    f.prune(&keep).await;
    assert!(f.left(&ids).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_may_have_a_rule_of_its_own() {
    let mut f = Fixture::new();
    let (mut of_a, mut of_b) = (Vec::new(), Vec::new());
    // What stays for another reason is none of the newest.
    let of_schedule = f.task_of(f.schedule().await.id);
    of_a.push(f.run(of_schedule, 1_000).await);
    for _ in 0..30 {
        let (a, b) = (f.new_task("a", 5, 0), f.new_task("b", 5, 0));
        of_a.push(f.run(a, 1_000).await);
        of_b.push(f.run(b, 1_000).await);
    }
    let old = f.now;
    f.now += chrono::TimeDelta::days(1);
    let of = |before, newest, bytes| KeepOf { before, newest, bytes };
    let mut keep = Keep::of(old - chrono::TimeDelta::days(9), 0);
    keep.by_name.insert("a".into(), of(f.now, Some(12), None));
    f.prune(&keep).await;
    assert_eq!(
        f.left(&of_a).await,
        [0].into_iter().chain(19..31).collect::<Vec<_>>(),
        "the newest twelve of the name, in whatever pieces"
    );
    assert_eq!(f.left(&of_b).await.len(), 30, "others are kept by the rule of all");
    let each = f.store.kept().await.expect("sums").by_name["b"].bytes / 30;
    keep.by_name.insert("b".into(), of(keep.before, Some(1_000), Some(10 * each)));
    f.prune(&keep).await;
    assert_eq!(f.left(&of_b).await, (20..30).collect::<Vec<_>>(), "by the bytes of the name");
    assert_eq!(f.left(&of_a).await.len(), 13);
    keep.by_name.insert("a".into(), of(keep.before, None, None));
    keep.before = f.now;
    f.prune(&keep).await;
    assert_eq!(f.left(&of_a).await.len(), 13, "it may be kept for longer than the rest");
}

#[tokio::test(flavor = "multi_thread")]
async fn beyond_the_bytes_old_workflows_go_as_a_whole_and_those_that_have_not_ended_stay() {
    let mut f = Fixture::new();
    let submit = async |f: &Fixture| {
        let request = parse(br#"{"steps":[{"key":"a","task_name":"a"},{"key":"b","task_name":"b"}]}"#).expect("a request");
        let id = WorkflowId::new(f.now);
        let new = NewWorkflow::new(id, request, |_| None, (Origin::Submitted, 0), f.now).expect("a workflow");
        f.store.submit_workflow(new, None).await.expect("submitted");
        id
    };
    let half = submit(&f).await;
    let one_step = f.store.workflow(half).await.expect("it").steps[0].task;
    f.store.cancel(one_step, f.now).await.expect("cancelled");
    let mut ended = Vec::new();
    for _ in 0..30 {
        f.now += chrono::TimeDelta::seconds(1);
        let id = submit(&f).await;
        f.store.cancel_workflow(id, f.now).await.expect("cancelled");
        ended.push(id);
    }
    let kept = f.store.kept().await.expect("sums");
    let each = kept.bytes() / kept.tasks.count;
    let keep = f.keep(each * 20);
    let going = f.store.outdated(keep.clone()).await.expect("what would go");
    f.prune(&keep).await;
    let left = f.store.kept().await.expect("sums");
    assert!(left.tasks.count <= 20 && left.tasks.count >= 18, "{left:?}");
    // A workflow goes with the first of its tasks that has to; the other one is then free to go, and may be left for the next time.
    let told = going.by_name.values().map(|sum| sum.count).sum::<u64>();
    assert!(
        (0..=1).contains(&(told - (kept.tasks.count - left.tasks.count))),
        "{going:?} {left:?}"
    );
    let mut there = Vec::new();
    for id in &ended {
        there.push(f.store.workflow(*id).await.is_ok());
    }
    let first = there.iter().position(|there| *there).expect("some");
    assert!(there[first..].iter().all(|there| *there), "the newest: {there:?}");
    assert_eq!(going.workflows, first as u64);
    for id in &ended[first..] {
        for step in f.store.workflow(*id).await.expect("it").steps {
            f.store.task(step.task).await.expect("its task");
        }
    }
    f.store.task(one_step).await.expect("the step of one that has not ended");
}

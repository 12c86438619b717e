//! Limits, pauses and memory at the store: whatever comes in whatever order, no limit is exceeded, and nobody is left behind.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;
use taskhost::model::Time;
use taskhost::model::attempt::{Outcome, Usage};
use taskhost::model::ids::{NodeId, TaskId};
use taskhost::model::limit::{Limit, Rate};
use taskhost::model::outbox::Outbox;
use taskhost::model::priority::Priority;
use taskhost::model::retry::{Counters, Next};
use taskhost::model::room::{Load, Room};
use taskhost::model::task::{NewTask, Origin, Submission, Task};
use taskhost::store::sqlite::Sqlite;
use taskhost::store::{Claim, Handled, Handlers, Lease, Settle, Store, Swept};

const SMALL: u64 = 1 << 20;
const BIG: u64 = 1 << 30;

struct House {
    store: Sqlite,
    node: NodeId,
    now: Time,
    started: [u64; 2],
    running: BTreeMap<TaskId, Task>,
    /// How many of `b` its definition lets run at once.
    most_of_b: u32,
    _folder: tempfile::TempDir,
}

fn handled(memory: u64, max_running: Option<u32>) -> Handled {
    Handled {
        memory,
        idempotent: true,
        max_running,
        plugin: "p".into(),
        plugin_digest: "sha256:x".into(),
    }
}

fn limit(name: &str) -> Limit {
    Limit {
        name: name.into(),
        task_name: None,
        tag: None,
        key: None,
        max_running: None,
        rate: None,
        weight: None,
    }
}

impl House {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let now: Time = "2026-01-01T00:00:00Z".parse().expect("a time");
        Self {
            store: Sqlite::open(folder.path()).expect("a store"),
            node: NodeId::new(now),
            now,
            started: [0; 2],
            running: BTreeMap::new(),
            most_of_b: 3,
            _folder: folder,
        }
    }

    async fn enqueue(&mut self, name: &str, priority: i64, tags: &[&str], payload: &str) -> TaskId {
        self.now += chrono::TimeDelta::milliseconds(1);
        let submission = Submission {
            name: name.into(),
            payload: payload.into(),
            priority: Priority::new(priority),
            tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
            ..Submission::default()
        };
        let task = NewTask::from_submission(submission, None, Origin::Submitted, self.now);
        self.store.enqueue(task, None, None).await.expect("enqueued")
    }

    fn handlers(&self) -> Arc<Handlers> {
        Arc::new(HashMap::from([
            ("a".to_owned(), handled(SMALL, None)),
            ("b".to_owned(), handled(SMALL, Some(self.most_of_b))),
            ("big".to_owned(), handled(BIG, None)),
        ]))
    }

    /// Claims until nothing more comes at once; returns what has begun.
    async fn claim(&mut self, slots: usize, memory: u64) -> Vec<TaskId> {
        let mut begun = Vec::new();
        let mut loops = 0;
        loop {
            let (more, ids) = self.claim_part(slots.saturating_sub(begun.len()), memory).await;
            begun.extend(ids);
            loops += 1;
            assert!(loops < 200, "claims hand tasks to one another for ever");
            if !more || begun.len() >= slots {
                return begun;
            }
        }
    }

    async fn claim_once(&mut self, slots: usize) -> Vec<TaskId> {
        self.claim_part(slots, 1 << 40).await.1
    }

    /// One claim: whether there is more, and what has begun.
    async fn claim_part(&mut self, free: usize, memory: u64) -> (bool, Vec<TaskId>) {
        let claimed = self.store.claim(Claim {
            node: self.node,
            now: self.now,
            started: self.started,
            load: Arc::new(|_| Load::Short),
            handlers: self.handlers(),
            hold: Box::new(move || Room::of(free, memory)),
            give_back: Box::new(|_, _| ()),
        });
        let claimed = claimed.await.expect("a claim");
        self.started = claimed.started;
        let ids = claimed.tasks.iter().map(|task| task.id).collect();
        self.running.extend(claimed.tasks.into_iter().map(|task| (task.id, task)));
        (claimed.more, ids)
    }

    async fn settle(&mut self, id: TaskId, ok: bool) {
        let task = self.running.remove(&id).expect("it runs");
        let again = Next::Pending {
            trigger_time: self.now,
            counters: Counters::default(),
        };
        let settle = Settle {
            lease: Lease {
                task: id,
                attempt: task.attempt,
                node: self.node,
            },
            task_name: task.name.clone(),
            tagged: !task.tags.is_empty(),
            ties: task.ties(),
            started_at: None,
            outcome: if ok {
                Outcome::Ok { result: "1".into() }
            } else {
                Outcome::Interrupted
            },
            next: if ok { Next::Success } else { again },
            now: self.now,
            execution_time: Some(Duration::from_millis(1)),
            usage: Usage::default(),
            progress: None,
            log: vec![],
            alert: None,
            outbox: Outbox::default(),
        };
        self.store.settle(Arc::new(settle)).await.expect("settled");
    }

    /// How many run under each key of a limit.
    fn counts(&self, limit: &Limit) -> BTreeMap<String, u32> {
        let mut counts = BTreeMap::new();
        for task in self.running.values().filter(|task| limit.matches(&task.name, &task.tags)) {
            if let Some(key) = limit.key_of(&task.payload) {
                *counts.entry(key).or_default() += 1;
            }
        }
        counts
    }

    /// Claims, and checks that nothing began above a limit: what ran before one was lowered may run on.
    async fn claim_within(&mut self, limits: &[Limit], slots: usize) {
        let of_b = Limit {
            task_name: Some("b".into()),
            max_running: Some(self.most_of_b),
            ..limit("the definition's own")
        };
        let all: Vec<&Limit> = limits.iter().chain([&of_b]).collect();
        let before: Vec<BTreeMap<String, u32>> = all.iter().map(|limit| self.counts(limit)).collect();
        self.claim(slots, 1 << 40).await;
        for (limit, before) in all.into_iter().zip(before) {
            for (key, count) in self.counts(limit) {
                let most = limit.max_running.map(|max| max.max(before.get(&key).copied().unwrap_or(0)));
                assert!(most.is_none_or(|most| count <= most), "{} of {key}: {count}", limit.name);
            }
        }
    }
}

fn limits(random: &mut fastrand::Rng) -> Vec<Limit> {
    let mut names = ["w", "x", "y", "z"];
    random.shuffle(&mut names); // in which order limits are asked must not matter
    let max = |random: &mut fastrand::Rng| Some(random.u32(1..4));
    vec![
        Limit {
            max_running: Some(random.u32(2..6)),
            ..limit(names[0])
        },
        Limit {
            task_name: Some("a".into()),
            max_running: max(random),
            ..limit(names[1])
        },
        Limit {
            key: Some("/desk".into()),
            max_running: Some(1),
            ..limit(names[2])
        },
        Limit {
            tag: Some("t".into()),
            key: Some("/venue".into()),
            max_running: max(random),
            ..limit(names[3])
        },
    ]
}

/// Raises or lowers a limit, takes it away for a while, or lets another number of `b` run.
async fn change(house: &mut House, limits: &mut [Limit], random: &mut fastrand::Rng) {
    if random.u8(0..4) == 0 {
        house.most_of_b = random.u32(1..5);
        return;
    }
    let limit = random.choice(limits.iter_mut()).expect("some");
    limit.max_running = match random.u8(0..5) {
        0 => None,
        _ => Some(random.u32(1..5)),
    };
    match limit.max_running {
        None => drop(house.store.remove_limit(&limit.name).await), // it may be away already
        Some(_) => drop(house.store.put_limit(limit.clone()).await.expect("kept")),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_limit_is_exceeded_and_no_turn_is_lost_whatever_happens() {
    for seed in 0..12 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut house = House::new();
        let mut limits = limits(&mut random);
        for limit in &limits {
            house.store.put_limit(limit.clone()).await.expect("kept");
        }
        let (mut left, mut waiting, mut cancelled) = (120, Vec::new(), 0);
        let mut ended = 0;
        let mut rounds = 0;
        while ended + cancelled < 120 {
            rounds += 1;
            assert!(rounds < 2_000, "seed {seed}: somebody is left behind, without any sweep");
            for _ in 0..random.usize(0..8).min(left) {
                left -= 1;
                let name = if random.bool() { "a" } else { "b" };
                let tags: &[&str] = if random.bool() { &["t"] } else { &[] };
                let payload = format!(r#"{{"desk":{},"venue":{}}}"#, random.u8(0..4), random.u8(0..2));
                waiting.push(house.enqueue(name, random.i64(1..10), tags, &payload).await);
            }
            if random.u8(0..8) == 0 {
                change(&mut house, &mut limits, &mut random).await;
            }
            house.claim_within(&limits, random.usize(0..7)).await;
            if random.u8(0..6) == 0 && !waiting.is_empty() {
                let id = waiting.swap_remove(random.usize(0..waiting.len()));
                if !house.running.contains_key(&id) && house.store.cancel(id, house.now).await.is_ok() {
                    cancelled += 1;
                }
            }
            let running: Vec<TaskId> = house.running.keys().copied().collect();
            for id in running {
                if random.bool() {
                    let ok = random.u8(0..4) > 0;
                    house.settle(id, ok).await;
                    ended += usize::from(ok);
                }
            }
        }
        let queue = house.store.queue().await.expect("the queue");
        assert_eq!((queue.held, queue.running, queue.due.iter().sum::<u64>()), (0, 0, 0), "seed {seed}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_patient_task_under_a_full_limit_gets_its_turn_within_the_bound() {
    let mut house = House::new();
    let one = Limit {
        max_running: Some(1),
        ..limit("one")
    };
    house.store.put_limit(one).await.expect("kept");
    house.enqueue("a", 1, &[], "{}").await;
    let patient = house.enqueue("a", 9, &[], "{}").await;
    let mut starts = 0;
    while !house.running.contains_key(&patient) {
        for _ in 0..2 {
            house.enqueue("a", 1, &[], "{}").await;
        }
        let running: Vec<TaskId> = house.running.keys().copied().collect();
        for id in running {
            house.settle(id, true).await;
        }
        starts += house.claim(10, 1 << 40).await.len();
        assert!(starts <= 32, "the more urgent went before it {starts} times");
    }
    assert!(starts > 1, "priority did not count");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_paused_or_over_its_limit_keeps_no_memory_from_others() {
    let mut house = House::new();
    house.store.pause("big", house.now).await.expect("paused");
    let paused = house.enqueue("big", 1, &[], "{}").await;
    let others: Vec<TaskId> = {
        let mut others = Vec::new();
        for _ in 0..20 {
            others.push(house.enqueue("a", 9, &[], "{}").await);
        }
        others
    };
    let begun = house.claim(100, 64 * SMALL).await;
    assert_eq!(begun.len(), others.len(), "it waits for nothing that memory could give");
    house.store.resume("big").await.expect("resumed");
    assert_eq!(house.claim(100, 2 * BIG).await, [paused]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rate_is_kept_by_the_clock_of_the_store_and_nobody_overtakes_who_waits() {
    let mut house = House::new();
    let rate = Rate {
        count: 1,
        per: Duration::from_secs(10),
    };
    let slow = Limit {
        rate: Some(rate),
        ..limit("slow")
    };
    house.store.put_limit(slow).await.expect("kept");
    let mut ids = Vec::new();
    for _ in 0..4 {
        ids.push(house.enqueue("a", 5, &[], "{}").await);
    }
    assert_eq!(house.claim(10, 1 << 40).await, ids[..1]);
    for n in 1..4 {
        house.now += chrono::TimeDelta::seconds(9);
        assert!(house.claim(10, 1 << 40).await.is_empty(), "a second early");
        house.now += chrono::TimeDelta::seconds(1);
        // Who comes just now waits behind those who have.
        ids.push(house.enqueue("a", 5, &[], "{}").await);
        assert_eq!(house.claim(10, 1 << 40).await, ids[n..=n], "{n}");
    }
    // The clock is set back: who waits does not wait for as long as that.
    house.now -= chrono::TimeDelta::days(1);
    house.store.sweep(Arc::default(), Swept::default(), house.now).await.expect("swept");
    house.now += chrono::TimeDelta::seconds(11);
    assert_eq!(house.claim(10, 1 << 40).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_that_is_raised_or_removed_holds_at_once() {
    let mut house = House::new();
    let two = |max| Limit {
        max_running: Some(max),
        ..limit("some")
    };
    house.store.put_limit(two(1)).await.expect("kept");
    for _ in 0..5 {
        house.enqueue("a", 5, &[], "{}").await;
    }
    assert_eq!(house.claim(10, 1 << 40).await.len(), 1);
    house.store.put_limit(two(3)).await.expect("kept");
    assert_eq!(house.claim(10, 1 << 40).await.len(), 2, "a raised limit holds at once");
    house.store.remove_limit("some").await.expect("removed");
    assert_eq!(house.claim(10, 1 << 40).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_that_is_lowered_lets_go_on_once_those_above_it_have_ended() {
    let mut house = House::new();
    let some = |max| Limit {
        max_running: Some(max),
        ..limit("some")
    };
    house.store.put_limit(some(2)).await.expect("kept");
    let first = [house.enqueue("a", 5, &[], "{}").await, house.enqueue("a", 5, &[], "{}").await];
    assert_eq!(house.claim(10, 1 << 40).await, first);
    let patient = house.enqueue("a", 9, &[], "{}").await;
    assert!(house.claim(10, 1 << 40).await.is_empty());
    house.store.put_limit(some(1)).await.expect("kept");
    house.settle(first[0], true).await;
    assert!(house.claim(10, 1 << 40).await.is_empty(), "one runs");
    let urgent = house.enqueue("a", 1, &[], "{}").await;
    assert!(house.claim(10, 1 << 40).await.is_empty(), "one runs");
    house.settle(first[1], true).await;
    for expected in [urgent, patient] {
        assert_eq!(house.claim(10, 1 << 40).await, [expected]);
        house.settle(expected, true).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_that_is_changed_over_thousands_is_looked_at_once_and_stops_no_rate() {
    let mut house = House::new();
    let some = |max| Limit {
        task_name: Some("a".into()),
        max_running: Some(max),
        ..limit("some")
    };
    let slow = Limit {
        task_name: Some("b".into()),
        rate: Some(Rate {
            count: 1,
            per: Duration::from_secs(1),
        }),
        ..limit("slow")
    };
    house.store.put_limit(some(1)).await.expect("kept");
    house.store.put_limit(slow).await.expect("kept");
    for _ in 0..3_500 {
        house.enqueue("a", 5, &[], "{}").await;
    }
    assert_eq!(house.claim(10, 1 << 40).await.len(), 1);
    house.store.put_limit(some(2)).await.expect("kept");
    assert_eq!(
        house.claim(10, 1 << 40).await.len(),
        1,
        "and then there is nothing to claim: see House::claim"
    );
    house.store.put_limit(some(3)).await.expect("kept");
    house.enqueue("b", 5, &[], "{}").await;
    house.enqueue("b", 5, &[], "{}").await;
    let begun = house.claim_once(10).await;
    house.now += chrono::TimeDelta::seconds(2);
    let more = house.claim_once(10).await;
    let of_b = |ids: &[TaskId]| ids.iter().filter(|id| house.running[*id].name == "b").count();
    assert_eq!((of_b(&begun), of_b(&more)), (1, 1), "while the limit is looked at");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sweep_lets_in_who_has_room_since_the_definition_changed() {
    let mut house = House::new();
    for _ in 0..6 {
        house.enqueue("b", 5, &[], "{}").await;
    }
    assert_eq!(house.claim(10, 1 << 40).await.len(), 3);
    house.most_of_b = 5;
    assert!(house.claim(10, 1 << 40).await.is_empty(), "nobody has told");
    let place = house
        .store
        .sweep(house.handlers(), Swept::default(), house.now)
        .await
        .expect("swept");
    assert_eq!(house.claim(10, 1 << 40).await.len(), 2);
    house.store.sweep(house.handlers(), place, house.now).await.expect("swept");
    assert!(house.claim(10, 1 << 40).await.is_empty());
}

//! Whose turn it is: fairness keys, weights, processors, and room that is kept.

use super::*;
use taskhost::model::fair::FairKey;
use taskhost::model::limit::Limit;

impl Fixture {
    /// Due tasks of this name and fairness key.
    async fn bring(&self, name: &str, priority: i64, key: &str, count: usize) -> Vec<TaskId> {
        let mut ids = Vec::new();
        for _ in 0..count {
            let fair = FairKey::named(key, &json!({}), "{}").expect("a text");
            let task = NewTask {
                fair: Some(fair),
                ..self.new_task(name, priority, 0)
            };
            ids.push(task.id);
            self.store.enqueue(task, None, None).await.expect("enqueued");
        }
        ids
    }

    /// One claim of so many after another, until nothing is due; how many of each list were among each so many starts.
    async fn start_all(&self, at_once: usize, brought: &[Vec<TaskId>]) -> Vec<usize> {
        let mut order = Vec::new();
        let mut started = [0; 2];
        loop {
            let claim = Claim {
                started,
                ..self.claim_of(handlers(&["a", "b", "burns"]), at_once, 1 << 40)
            };
            let claimed = self.store.claim(claim).await.expect("a claim");
            started = claimed.started;
            if claimed.tasks.is_empty() {
                return order;
            }
            let whose = |task: &taskhost::model::task::Task| brought.iter().position(|ids| ids.contains(&task.id)).expect("one of them");
            order.extend(claimed.tasks.iter().map(whose));
        }
    }
}

fn handlers(names: &[&str]) -> HashMap<String, Handled> {
    names.iter().map(|name| ((*name).to_owned(), handled())).collect()
}

fn share(order: &[usize], of: usize) -> usize {
    order.iter().filter(|whose| **whose == of).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_of_k_keys_gets_its_share_of_any_16_k_starts_however_much_another_brought() {
    for at_once in [1, 3, 100] {
        let f = Fixture::new();
        let brought = [
            f.bring("a", 5, "sweep", 300).await,
            f.bring("a", 5, "colleague", 60).await,
            f.bring("b", 5, "another", 60).await,
        ];
        let order = f.start_all(at_once, &brought).await;
        assert_eq!(order.len(), 420);
        for window in order[..170].windows(16 * 3) {
            for key in 0..3 {
                let share = share(window, key);
                assert!((15..=17).contains(&share), "{share} of 48, {at_once} at once: {window:?}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_single_task_behind_a_hundred_thousand_starts_among_the_first() {
    let f = Fixture::new();
    f.bring("a", 5, "sweep", 2_000).await;
    let single = f.bring("a", 5, "colleague", 1).await[0];
    let first = f.claim_with(3, 1 << 40, &["a"], 0).await;
    assert!(ids(&first).contains(&single), "{first:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn within_a_key_and_over_priorities_the_order_stays() {
    let f = Fixture::new();
    let normal = f.bring("a", 5, "x", 3).await;
    let urgent = f.bring("b", 1, "y", 2).await;
    let order: Vec<TaskId> = urgent.into_iter().chain(normal).collect();
    assert_eq!(ids(&f.claim(10).await), order);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_weight_of_three_is_three_starts_for_each_of_another_key() {
    for at_once in [1, 50] {
        let f = Fixture::new();
        let limit = Limit {
            name: "desk".into(),
            task_name: Some("b".into()),
            tag: None,
            key: None,
            max_running: None,
            rate: None,
            weight: Some(3),
        };
        f.store.put_limit(limit).await.expect("a limit");
        let brought = [f.bring("a", 5, "one", 100).await, f.bring("b", 5, "three", 100).await];
        let order = f.start_all(at_once, &brought).await;
        for window in order[..120].windows(16 * 4) {
            let share = share(window, 1);
            assert!((45..=51).contains(&share), "{share} of 64, {at_once} at once");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_under_a_limit_is_let_in_turn_by_turn_too() {
    let f = Fixture::new();
    let limit = Limit {
        name: "one".into(),
        task_name: None,
        tag: None,
        key: None,
        max_running: Some(1),
        rate: None,
        weight: None,
    };
    f.store.put_limit(limit).await.expect("a limit");
    let sweep = f.bring("a", 5, "sweep", 20).await;
    let single = f.bring("a", 5, "colleague", 1).await[0];
    let mut before = 0;
    loop {
        let claimed = f.claim(10).await;
        let Some(task) = claimed.tasks.first() else {
            panic!("it never starts")
        };
        if task.id == single {
            break;
        }
        assert!(sweep.contains(&task.id));
        before += 1;
        let settle = Settle {
            ties: Ties {
                limited: true,
                ..Ties::default()
            },
            ..f.ok(f.lease(task.id, 1))
        };
        f.store.settle(Arc::new(settle)).await.expect("settled");
    }
    assert!(before <= 2, "{before} of the sweep went before");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_burns_and_finds_no_processor_stands_in_nobodys_way() {
    let f = Fixture::new();
    f.bring("burns", 1, "x", 1_000).await;
    let quick = f.bring("a", 9, "y", 20).await;
    let claim = Claim {
        hold: Box::new(|| Room {
            burning: [1, 2, 2, 2, 2, 2, 2, 2, 2],
            ..Room::of(50, 1 << 40)
        }),
        ..f.claim_of(handlers(&["a", "burns"]), 0, 0)
    };
    let claimed = f.store.claim(claim).await.expect("a claim");
    let (burning, quicks): (Vec<_>, Vec<_>) = claimed.tasks.iter().partition(|task| task.name == "burns");
    assert_eq!((burning.len(), quicks.len()), (1, 20), "{quick:?}");
    assert_eq!(claimed.started, [20, 1]);
    assert!(!claimed.waiting, "a freed slot would help nobody");
    assert_eq!(claimed.waits_for_processor, Priority::new(1));
    // More urgent burning tasks have the processor of less urgent ones.
    let later = f.bring("burns", 2, "x", 2).await;
    let claim = Claim {
        hold: Box::new(|| Room {
            burning: [0, 1, 1, 1, 1, 1, 1, 1, 1],
            ..Room::of(50, 1 << 40)
        }),
        ..f.claim_of(handlers(&["a", "burns"]), 0, 0)
    };
    let none = f.store.claim(claim).await.expect("a claim").tasks;
    assert!(none.is_empty(), "{later:?}: those of priority 1 go first");
}

#[tokio::test(flavor = "multi_thread")]
async fn in_each_lane_every_sixteenth_is_the_longest_due() {
    let mut f = Fixture::new();
    let patient = [f.bring("burns", 9, "x", 1).await[0], f.bring("a", 9, "x", 1).await[0]];
    f.now += chrono::TimeDelta::seconds(1);
    f.bring("burns", 1, "y", 40).await;
    f.bring("a", 1, "y", 40).await;
    let claim = |started| Claim {
        started,
        ..f.claim_of(handlers(&["a", "burns"]), 10, 1 << 40)
    };
    let claimed = f.store.claim(claim([0, 0])).await.expect("a claim");
    assert!(!ids(&claimed).iter().any(|id| patient.contains(id)));
    let claimed = f.store.claim(claim([15, 15])).await.expect("a claim");
    let first = ids(&claimed);
    assert!(first[..2].contains(&patient[0]) && first[..2].contains(&patient[1]), "{first:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_never_ran_start_a_few_at_a_time_beside_all_that_burn() {
    let f = Fixture::new();
    f.bring("burns", 1, "x", 10).await;
    let new = f.bring("a", 5, "y", 10).await;
    let known = f.bring("b", 9, "y", 1).await;
    let claim = Claim {
        hold: Box::new(|| Room {
            new: 3,
            burning: [0; 9],
            ..Room::of(50, 1 << 40)
        }),
        load: Arc::new(|name| match name {
            "burns" => Load::Burns,
            "a" => Load::New,
            _ => Load::Short,
        }),
        ..f.claim_of(handlers(&["a", "b", "burns"]), 0, 0)
    };
    let expected: Vec<TaskId> = new[..3].iter().chain(&known).copied().collect();
    assert_eq!(ids(&f.store.claim(claim).await.expect("a claim")), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn slots_and_memory_are_kept_for_what_is_urgent() {
    let f = Fixture::new();
    let normal = f.bring("a", 3, "x", 5).await;
    let urgent = f.bring("b", 2, "x", 5).await;
    let claim = |slots, common_slots, common_memory| Claim {
        hold: Box::new(move || Room {
            common_slots,
            common_memory,
            ..Room::of(slots, 4 * MEMORY)
        }),
        // The longest due is a normal one, and does not block what is urgent.
        started: [15, 0],
        ..f.claim_of(handlers(&["a", "b"]), 0, 0)
    };
    let claimed = f.store.claim(claim(2, 0, 4 * MEMORY)).await.expect("a claim");
    assert_eq!(ids(&claimed), urgent[..2]);
    let claimed = f.store.claim(claim(5, 5, MEMORY / 2)).await.expect("a claim");
    assert_eq!(ids(&claimed), urgent[2..], "no memory is left for the others");
    let claimed = f.store.claim(claim(2, 1, 4 * MEMORY)).await.expect("a claim");
    assert_eq!(ids(&claimed), normal[..1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn by_default_turns_go_by_where_tasks_came_from() {
    let f = Fixture::new();
    let singles = [f.enqueue("a", 5, 0).await, f.enqueue("a", 5, 0).await, f.enqueue("b", 5, 0).await];
    let batch = BatchId::new(f.now);
    let tasks: Vec<NewTask> = (0..10).map(|_| f.new_task("a", 5, 0)).collect();
    let of_batch = f.stage(batch, 0, tasks).await.expect("staged");
    f.publish(batch, 10).await.expect("published");
    assert_eq!(f.store.unfold(f.now).await.expect("unfolded"), 10);
    let first: Vec<TaskId> = ids(&f.claim(6).await);
    let count = |of: &[TaskId]| first.iter().filter(|id| of.contains(id)).count();
    assert_eq!((count(&singles), count(&of_batch)), (3, 3), "{first:?}");
}

//! Who is claimed, in which order, and who is not.

use super::*;

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
        give_back: Box::new(move |slots, memory| tell.send((slots, memory)).expect("somebody listens")),
        ..f.claim_of(HashMap::from([("a".to_owned(), handled())]), 3, 10 * MEMORY)
    };
    assert_eq!(f.store.claim(claim).await.expect("a claim").tasks.len(), 1);
    assert_eq!(told.try_recv(), Ok((2, 9 * MEMORY)));
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
async fn a_task_is_leased_as_it_enters_only_where_it_may_start_at_once() {
    let f = Fixture::new();
    let enqueue = async |task: NewTask, free: bool| {
        let (told, kept) = std::sync::mpsc::channel();
        let offer = Offer {
            node: f.node,
            handled: handled(),
            load: Arc::new(|_| Load::Short),
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

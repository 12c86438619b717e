//! What the store promises of schedules: each fire once, whatever else happens, with what it makes and what it leaves out.

use crate::store::Fixture;
use std::collections::BTreeMap;
use std::sync::Arc;
use taskhost::model::Time;
use taskhost::model::ids::{ScheduleId, TaskId};
use taskhost::model::schedule::overlap::Overlap;
use taskhost::model::schedule::{Fire, Schedule, Skip, SkipReason};
use taskhost::model::task::{NewTask, Origin, Status};
use taskhost::store::{FireSchedule, Keep, Lease, Listing, Made, MadeFires, MakeFires, PageRequest, PutSchedule, StoreError};

impl Fixture {
    fn at(&self, seconds: i64) -> Time {
        self.now + chrono::TimeDelta::seconds(seconds)
    }

    /// One that is due now.
    pub(super) async fn schedule(&self) -> Schedule {
        let schedule = Schedule {
            id: ScheduleId::new(self.now),
            name: "s".into(),
            task_name: "a".into(),
            declared: r#"{"task_name":"a","cron_expression":"* * * * *"}"#.into(),
            edits: None,
            created_at: self.now,
            next_fire: Some(self.now),
            planned_at: self.now,
            paused_at: None,
            last_fire: None,
            last_task: None,
            revision: 0,
        };
        let put = PutSchedule {
            schedule: schedule.clone(),
            calendar: None,
            seen: None,
            skips: vec![],
            alerts: vec![],
        };
        self.store.put_schedule(put).await.expect("put");
        self.store.schedule(schedule.id).await.expect("it")
    }

    pub(super) fn task_of(&self, id: ScheduleId) -> NewTask {
        NewTask {
            origin: Origin::Schedule(id),
            ..self.new_task("a", 5, 0)
        }
    }

    fn task_at(&self, id: ScheduleId, at: i64) -> NewTask {
        NewTask {
            trigger_time: self.at(at.min(0)),
            ..self.task_of(id)
        }
    }

    fn fire(&self, schedule: &Schedule, fires: &[i64], overlap: Overlap) -> FireSchedule {
        FireSchedule {
            id: schedule.id,
            seen: schedule.revision,
            fires: fires.iter().map(|at| (self.at(*at), self.task_at(schedule.id, *at))).collect(),
            skips: vec![],
            overlap,
            next: Some(self.at(60)),
            now: self.now,
            alerts: vec![],
        }
    }

    async fn fire_one(&self, fire: FireSchedule) -> Result<MadeFires, StoreError> {
        let fired = self.store.fire_schedules(vec![Arc::new(fire)]).await.expect("the store");
        fired.into_iter().next().expect("one")
    }

    /// Fires at these seconds, whatever the revision.
    async fn fires(&self, id: ScheduleId, fires: &[i64], overlap: Overlap) -> MadeFires {
        let schedule = self.store.schedule(id).await.expect("it");
        self.fire_one(self.fire(&schedule, fires, overlap)).await.expect("fired")
    }

    async fn lines(&self, id: ScheduleId) -> Vec<Fire> {
        let page = PageRequest { limit: 100, cursor: None };
        self.store.fires(id, page).await.expect("a list").items
    }

    async fn waiting(&self) -> Vec<(TaskId, Option<String>)> {
        let page = PageRequest { limit: 100, cursor: None };
        let page = self.store.tasks(Listing::Waiting, page).await.expect("a list");
        page.items.into_iter().map(|task| (task.id, task.held)).collect()
    }

    async fn end(&self, lease: Lease) {
        let settle = taskhost::store::Settle {
            ties: self.store.task(lease.task).await.expect("it").ties(),
            ..self.ok(lease)
        };
        self.store.settle(Arc::new(settle)).await.expect("settled");
    }

    async fn claim_one(&self) -> Lease {
        let claimed = self.claim(10).await.tasks;
        assert_eq!(claimed.len(), 1);
        Lease {
            task: claimed[0].id,
            attempt: claimed[0].attempt,
            node: self.node,
        }
    }
}

fn made(fired: &MadeFires) -> Vec<TaskId> {
    let tasks = fired.fires.iter().filter_map(|(_, made)| match made {
        Made::Task(id) => Some(*id),
        Made::Before(_) | Made::LeftOut => None,
    });
    tasks.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fire_happens_once_even_if_two_make_it() {
    let f = Fixture::new();
    let schedule = f.schedule().await;
    let fire = || f.fire(&schedule, &[0], Overlap::Allow);
    let (first, second) = tokio::join!(f.fire_one(fire()), f.fire_one(fire()));
    assert_eq!(usize::from(first.is_ok()) + usize::from(second.is_ok()), 1, "{first:?} {second:?}");
    assert_eq!(f.claim(10).await.tasks.len(), 1);
    assert_eq!(f.store.schedule(schedule.id).await.expect("it").next_fire, Some(f.at(60)));
    assert_eq!(f.store.due_schedules(f.now, 10).await.expect("a list").1, Some(f.at(60)));
    // A cursor that was set back, as after a jump of the clock, makes it no second time.
    let again = f.fires(schedule.id, &[0, 1], Overlap::Allow).await;
    let task = made(&first.or(second).expect("one of them"))[0];
    assert_eq!(again.fires[0].1, Made::Before(task));
    assert_eq!((made(&again).len(), f.claim(10).await.tasks.len()), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fire_that_is_made_up_for_does_not_go_before_what_was_submitted_earlier() {
    let f = Fixture::new();
    let id = f.schedule().await.id;
    let first = f.new_task("a", 5, 0);
    f.store.enqueue(first.clone(), None, None).await.expect("enqueued");
    let fired = f.fires(id, &[-3_600], Overlap::Allow).await;
    let claimed = f.claim(10).await.tasks;
    let task = |id: TaskId| claimed.iter().find(|task| task.id == id).expect("it is due");
    let made = task(made(&fired)[0]);
    assert!(made.due_at >= task(first.id).due_at, "by time it is no older");
    assert_eq!(made.trigger_time, f.at(-3_600), "it tells which fire it is");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_overwrites_a_schedule_that_he_has_not_seen() {
    let f = Fixture::new();
    let seen = f.schedule().await;
    let put = |schedule: &Schedule, seen: Option<u64>| {
        f.store.put_schedule(PutSchedule {
            schedule: schedule.clone(),
            calendar: None,
            seen,
            skips: vec![],
            alerts: vec![],
        })
    };
    assert!(matches!(put(&seen, None).await, Err(StoreError::Conflict(_))), "the name is taken");
    f.fires(seen.id, &[0], Overlap::Allow).await;
    assert!(
        matches!(put(&seen, Some(seen.revision)).await, Err(StoreError::Conflict(_))),
        "it fired meanwhile"
    );
    let seen = f.store.schedule(seen.id).await.expect("it");
    let paused = Schedule {
        paused_at: Some(f.now),
        next_fire: Some(f.now),
        ..seen.clone()
    };
    put(&paused, Some(seen.revision)).await.expect("put");
    let now = f.store.schedule_named("s").await.expect("it");
    assert_eq!(
        (now.paused_at, now.last_fire, now.revision),
        (Some(f.now), Some(f.now), seen.revision + 1)
    );
    assert_eq!(
        f.store.due_schedules(f.at(999), 10).await.expect("a list").0.len(),
        0,
        "a paused one is not due"
    );
    let fire = f.fire(&now, &[1], Overlap::Allow);
    assert!(matches!(f.fire_one(fire).await, Err(StoreError::Conflict(_))), "nor fired");
}

#[tokio::test(flavor = "multi_thread")]
async fn queue_one_lets_one_wait_until_the_one_before_has_ended() {
    let f = Fixture::new();
    let id = f.schedule().await.id;
    let fired = f.fires(id, &[-3, -2, -1], Overlap::QueueOne).await;
    let [first, second] = made(&fired)[..] else { panic!("{fired:?}") };
    assert_eq!(fired.fires[2].1, Made::LeftOut);
    assert_eq!(f.waiting().await, [(first, None), (second, Some("previous fire".into()))]);
    assert_eq!(f.lines(id).await[0], Fire::Skipped(Skip::one(SkipReason::Overlap, f.at(-1))));
    let lease = f.claim_one().await;
    assert_eq!(lease.task, first);
    assert_eq!(f.claim(10).await.tasks.len(), 0);
    f.end(lease).await;
    assert_eq!(f.waiting().await, [(second, None)]);
    assert_eq!(f.claim_one().await.task, second);
}

#[tokio::test(flavor = "multi_thread")]
async fn queue_all_runs_one_after_the_other_in_their_order_and_a_cancelled_one_makes_way() {
    let f = Fixture::new();
    let id = f.schedule().await.id;
    let tasks = made(&f.fires(id, &[-4, -3, -2, -1], Overlap::QueueAll).await);
    assert_eq!(tasks.len(), 4);
    // One that is held is cancelled: the others stay as they are.
    f.store.cancel(tasks[1], f.now).await.expect("cancelled");
    assert_eq!(f.waiting().await.iter().filter(|(_, held)| held.is_none()).count(), 1);
    // The first is cancelled while it waits: the next is let go.
    f.store.cancel(tasks[0], f.now).await.expect("cancelled");
    assert_eq!(f.waiting().await[0], (tasks[2], None));
    let lease = f.claim_one().await;
    f.end(lease).await;
    assert_eq!(f.claim_one().await.task, tasks[3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn skip_allow_and_cancel_previous_do_what_they_say() {
    let f = Fixture::new();
    let id = f.schedule().await.id;
    assert_eq!(made(&f.fires(id, &[-9, -8], Overlap::Skip).await).len(), 1);
    let lease = f.claim_one().await;
    assert_eq!(made(&f.fires(id, &[-7], Overlap::Skip).await).len(), 0, "it runs");
    assert_eq!(made(&f.fires(id, &[-6], Overlap::Allow).await).len(), 1);
    let replaced = f.fires(id, &[-5], Overlap::CancelPrevious).await;
    assert_eq!(replaced.stopped, [lease], "the guest of the running one has to be told");
    let [newest] = made(&replaced)[..] else { panic!("{replaced:?}") };
    assert_eq!(f.waiting().await, [(newest, None)]);
    assert_eq!(f.store.task(lease.task).await.expect("it").status, Status::Cancelled);
}

#[tokio::test(flavor = "multi_thread")]
async fn cancel_previous_over_a_long_queue_goes_on_until_none_of_it_is_left() {
    let f = Fixture::new();
    let id = f.schedule().await.id;
    let many: Vec<i64> = (-500..0).collect();
    f.fires(id, &many, Overlap::QueueAll).await;
    let running = f.claim_one().await;
    let due = f.store.schedule(id).await.expect("it");
    let mut stopped = vec![];
    let mut rounds = 0;
    let fired = loop {
        rounds += 1;
        // The same revision and cursor each time.
        let fired = f.fire_one(f.fire(&due, &[0], Overlap::CancelPrevious)).await.expect("fired");
        stopped.extend(&fired.stopped);
        assert_eq!(
            f.claim(10).await.tasks.len(),
            usize::from(!fired.unfinished),
            "nothing of the old queue starts meanwhile"
        );
        if !fired.unfinished {
            break fired;
        }
        assert!(fired.fires.is_empty() && rounds < 10, "{fired:?}");
    };
    assert!(rounds > 1, "all in one commit");
    assert_eq!((stopped, made(&fired).len()), (vec![running], 1));
    assert_eq!(f.waiting().await, []);
    assert_eq!(f.store.schedule(id).await.expect("it").last_fire, Some(f.at(0)));
}

#[tokio::test(flavor = "multi_thread")]
async fn fires_that_are_asked_for_obey_the_rule_and_are_made_once() {
    let f = Fixture::new();
    let id = f.schedule().await.id;
    let before = made(&f.fires(id, &[-20], Overlap::QueueAll).await)[0];
    let ask = |fires: &[i64]| MakeFires {
        id,
        fires: fires.iter().map(|at| (f.at(*at), f.task_of(id))).collect(),
        overlap: Overlap::QueueAll,
        now: f.now,
    };
    let fired = f.store.make_fires(ask(&[-30, -20, -10])).await.expect("made");
    assert_eq!(made(&fired).len(), 2);
    assert_eq!(fired.fires[1].1, Made::Before(before));
    assert_eq!(made(&f.store.make_fires(ask(&[-30, -20, -10])).await.expect("made")).len(), 0);
    assert_eq!(f.claim(10).await.tasks.len(), 1, "the rest wait for it");
    assert_eq!(f.store.schedule(id).await.expect("it").last_fire, Some(f.at(-10)));
    let unknown = MakeFires {
        id: ScheduleId::new(f.now),
        ..ask(&[-5])
    };
    assert!(matches!(f.store.make_fires(unknown).await, Err(StoreError::NotFound)));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_schedule_did_is_paged_without_a_gap() {
    let f = Fixture::new();
    let schedule = f.schedule().await;
    let mut fire = f.fire(&schedule, &[-50, -40, -30, -20, -10], Overlap::Allow);
    for (reason, at) in [
        (SkipReason::Misfire, -20),
        (SkipReason::Closed, -20),
        (SkipReason::DstGap, -45),
        (SkipReason::Paused, 0),
    ] {
        fire.skips.push(Skip::one(reason, f.at(at)));
    }
    f.fire_one(fire).await.expect("fired");
    let all = f.lines(schedule.id).await;
    assert_eq!(all.len(), 9);
    assert!(all.windows(2).all(|pair| pair[0].at() >= pair[1].at()));
    for limit in 1..5 {
        let (mut lines, mut cursor) = (vec![], None);
        loop {
            let page = f.store.fires(schedule.id, PageRequest { limit, cursor }).await.expect("a page");
            lines.extend(page.items);
            cursor = page.next;
            if cursor.is_none() {
                break;
            }
        }
        assert_eq!(lines, all, "{limit}");
    }
    let prune = async |before: Time| while !f.store.prune(&Keep::of(before, 0), 3, None).await.expect("pruned").is_all() {};
    prune(f.at(-19)).await;
    assert_eq!(
        f.lines(schedule.id).await.len(),
        6,
        "fires go by when they were made, what was skipped by its time"
    );
    prune(f.at(1)).await;
    assert_eq!(f.lines(schedule.id).await.len(), 0);
    // Nobody can tell any more that these were made.
    let ask = MakeFires {
        id: schedule.id,
        fires: vec![(f.at(-30), f.task_of(schedule.id))],
        overlap: Overlap::Allow,
        now: f.at(5),
    };
    assert!(matches!(f.store.make_fires(ask).await, Err(StoreError::Conflict(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_due_check_reads_no_more_with_many_schedules() {
    let f = Fixture::new();
    let schedule = f.schedule().await;
    let far = Schedule {
        next_fire: Some(f.at(10_000)),
        ..schedule.clone()
    };
    let put = |n: u32| {
        let schedule = Schedule {
            id: ScheduleId::new(f.now),
            name: format!("far-{n}"),
            ..far.clone()
        };
        let store = Arc::clone(&f.store);
        tokio::spawn(async move {
            let put = PutSchedule {
                schedule,
                calendar: None,
                seen: None,
                skips: vec![],
                alerts: vec![],
            };
            store.put_schedule(put).await
        })
    };
    for each in (0..500).map(put).collect::<Vec<_>>() {
        each.await.expect("no panic").expect("put");
    }
    let (due, next) = f.store.due_schedules(f.now, 10).await.expect("a list");
    assert_eq!((due.len(), next), (1, Some(f.at(10_000))));
}

#[tokio::test(flavor = "multi_thread")]
async fn cursors_ahead_of_the_clock_are_found() {
    let f = Fixture::new();
    f.schedule().await;
    assert_eq!(f.store.schedules_ahead(f.at(-60), 10).await.expect("a list").len(), 1);
    assert_eq!(f.store.schedules_ahead(f.at(1), 10).await.expect("a list").len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_many_that_was_changed_meanwhile_holds_up_no_other() {
    let f = Fixture::new();
    let schedule = f.schedule().await;
    let stale = FireSchedule {
        seen: 99,
        ..f.fire(&schedule, &[1], Overlap::Allow)
    };
    let fires = vec![Arc::new(stale), Arc::new(f.fire(&schedule, &[0], Overlap::Allow))];
    let fired = f.store.fire_schedules(fires).await.expect("the store");
    assert!(matches!(fired[0], Err(StoreError::Conflict(_))));
    assert_eq!(made(fired[1].as_ref().expect("fired")).len(), 1);
    assert_eq!(f.lines(schedule.id).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fire_and_its_alert_are_one() {
    use taskhost::model::alert::{AlertType, NewAlert};
    let f = Fixture::new();
    let schedule = f.schedule().await;
    let mut fire = f.fire(&schedule, &[], Overlap::Allow);
    fire.alerts.push(NewAlert {
        kind: AlertType::Absent,
        task_id: TaskId::of_schedule(schedule.id),
        task_name: "a".into(),
        error: Some("missed".into()),
        execution_time: None,
        at: f.now,
    });
    let stale = FireSchedule { seen: 99, ..fire.clone() };
    assert!(f.fire_one(stale).await.is_err());
    let count = async || {
        let page = PageRequest { limit: 10, cursor: None };
        let alerts = f.store.alerts(taskhost::store::AlertFilter::default(), page).await.expect("a list");
        alerts
            .items
            .into_iter()
            .map(|alert| (alert.latest.task_id.to_string(), alert.count))
            .collect::<BTreeMap<_, _>>()
    };
    assert_eq!(count().await, BTreeMap::new());
    f.fire_one(fire).await.expect("fired");
    assert_eq!(count().await, BTreeMap::from([(schedule.id.to_string(), 1)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn that_a_schedule_was_removed_is_known_as_long_as_history_is_kept() {
    let f = Fixture::new();
    let id = f.schedule().await.id;
    let was_removed = async || f.store.was_removed(TaskId::of_schedule(id)).await.expect("an answer");
    assert!(!was_removed().await);
    f.store.remove_schedule(id, f.at(0)).await.expect("removed");
    assert!(matches!(f.store.remove_schedule(id, f.at(1)).await, Err(StoreError::NotFound)));
    while !f.store.prune(&Keep::of(f.at(0), 0), 3, None).await.expect("pruned").is_all() {}
    assert!(was_removed().await);
    while !f.store.prune(&Keep::of(f.at(1), 0), 3, None).await.expect("pruned").is_all() {}
    assert!(!was_removed().await);
}

//! What events make of triggers, as the store keeps it.

use super::*;

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
        counts.push(f.store.prune(&Keep::of(before, 0), 5, None).await.expect("pruned").most);
    }
    assert_eq!(counts, [5, 2, 0]);
}

pub(crate) fn fire_event(f: &Fixture, firings: Vec<Firing>, skipped: Vec<(TriggerId, Option<String>)>) -> FireEvent {
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

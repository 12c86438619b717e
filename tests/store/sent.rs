//! What attempts sent, until it is delivered.

use super::events::fire_event;
use super::*;

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

//! Batches and steps on their way through the store.

use super::*;

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
    let of = |lines: &[TaskId]| ids(&claimed).into_iter().filter(|id| lines.contains(id)).collect::<Vec<_>>();
    assert_eq!(
        (of(&mine), of(&others)),
        (mine.clone(), others),
        "each line by line; the batches take turns"
    );
    let task = claimed.tasks.iter().find(|task| task.id == mine[0]).expect("the first line");
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
        f.store.prune(&Keep::of(before, 0), 5, None).await.expect("pruned").most,
        0,
        "a batch is not old while it is not whole or tasks of it have not ended"
    );
    assert_eq!(f.claim(2_000).await.tasks.len(), 1_200);
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
        while f.store.prune(&Keep::of(before, 10), 5, None).await.expect("pruned").most > 0 {}
        f.store.cancel(id, f.now).await.expect("cancelled");
        let counted = f.store.batch(batch).await.expect("it is kept");
        assert_eq!((counted.counts.cancelled, counted.counts.left()), (cancelled, 3 - cancelled));
        assert_eq!(counted.completed_at.is_some(), cancelled == 3);
    }
    while f.store.prune(&Keep::of(before, 10), 5, None).await.expect("pruned").most > 0 {}
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
    while f.store.prune(&Keep::of(before, 0), 5, None).await.expect("pruned").most > 0 {}
    assert_eq!(f.claim(5).await.tasks.iter().map(|task| task.id).collect::<Vec<_>>(), tasks[1..]);
    let needs = f.store.needs(tasks[1]).await.expect("its needs");
    assert_eq!(needs.into_iter().collect::<Vec<_>>(), [("a".to_owned(), "1".to_owned())]);
    f.store.cancel_workflow(id, f.now).await.expect("cancelled");
    while f.store.prune(&Keep::of(before, 0), 5, None).await.expect("pruned").most > 0 {}
    assert!(matches!(f.store.workflow(id).await, Err(StoreError::NotFound)));
    for task in tasks {
        assert!(
            matches!(f.store.task(task).await, Err(StoreError::NotFound)),
            "its steps go with it"
        );
    }
}

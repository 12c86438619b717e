//! A handler against the mock, as a plugin's own tests would be written.

use std::time::Duration;
use taskhost_sdk::{FailureKind, mock::Progress, prelude::*};

#[test]
fn an_attempt_knows_itself() {
    let ctx = Context::mock();
    assert_eq!((ctx.task_id(), ctx.attempt(), ctx.max_attempts()), ("task-1", 1, 4));
    assert_eq!((ctx.idempotency_key(), ctx.tags(), ctx.remaining()), ("task-1", &[][..], None));
    let ctx = ctx
        .with_task_id("t-9")
        .with_attempt(3)
        .with_max_attempts(5)
        .with_idempotency_key("first")
        .with_tags(&["eod"])
        .with_trigger_time("2026-03-02T17:30:00Z")
        .with_remaining(Duration::from_secs(9));
    assert_eq!((ctx.task_id(), ctx.attempt(), ctx.max_attempts()), ("t-9", 3, 5));
    assert_eq!((ctx.idempotency_key(), ctx.tags()), ("first", &["eod".to_owned()][..]));
    assert_eq!(
        (ctx.trigger_time(), ctx.remaining()),
        (Some("2026-03-02T17:30:00Z"), Some(Duration::from_secs(9)))
    );
    assert_eq!((ctx.parent_task_id(), ctx.traceparent()), (None, None));
}

#[test]
fn the_result_of_a_needed_step_is_read_into_a_type() {
    let ctx = Context::mock().with_need("prices", &[1.0, 2.5]).with_need("day", "2026-03-02");
    assert_eq!(ctx.needs::<Vec<f64>>("prices").unwrap(), [1.0, 2.5]);
    assert_eq!(ctx.needs::<String>("day").unwrap(), "2026-03-02");
    let missing = ctx.needs::<String>("night").unwrap_err();
    assert_eq!(missing.kind(), FailureKind::Fatal);
    assert!(missing.message().contains("`night`"));
    assert!(ctx.needs::<u8>("day").unwrap_err().message().contains("does not fit"));
}

#[test]
fn progress_in_a_tight_loop_reaches_the_host_a_thousand_times_at_most() {
    let ctx = Context::mock();
    for done in 0..=1_000_000 {
        ctx.progress(done, 1_000_000, "counting");
    }
    let progress = ctx.progressed();
    assert_eq!(progress.len(), 1001);
    assert_eq!(
        progress[1000],
        Progress {
            done: 1_000_000,
            total: Some(1_000_000),
            message: "counting".into()
        }
    );
    ctx.progress(1_000_000, 1_000_000, "done");
    ctx.progress(5, None, "files");
    ctx.progress(6, None, "files");
    ctx.progress(u64::MAX, u64::MAX, String::from("all"));
    ctx.progress(0, 0, "nothing to do");
    assert_eq!(ctx.progressed().len(), 1006);
}

#[test]
fn what_was_saved_is_there_for_the_next_attempt() {
    let ctx = Context::mock();
    assert_eq!(ctx.checkpoint().load::<u64>().unwrap(), None);
    ctx.checkpoint().save(&7_u64).unwrap();
    ctx.checkpoint().save(&8_u64).unwrap();
    assert_eq!(ctx.checkpoint().load().unwrap(), Some(8_u64));
    assert_eq!(ctx.saved::<u64>(), Some(8));
    assert_eq!(ctx.saved_bytes(), [b"7", b"8"]);
    let ctx = Context::mock().with_checkpoint_bytes(b"v1:raw");
    assert_eq!(ctx.checkpoint().load_bytes().unwrap(), b"v1:raw");
    assert_eq!(ctx.checkpoint().load::<u64>().unwrap_err().kind(), FailureKind::Fatal);
    assert_eq!(ctx.saved::<u64>(), None);
}

#[test]
fn a_handler_can_be_cancelled_after_some_steps() {
    let ctx = Context::mock().cancelled_after(2);
    assert_eq!(
        [ctx.is_cancelled(), ctx.is_cancelled(), ctx.is_cancelled(), ctx.is_cancelled()],
        [false, false, true, true]
    );
    assert_eq!(ctx.check_cancelled().unwrap_err().kind(), FailureKind::Cancelled);
    assert!(Context::mock().check_cancelled().is_ok());
}

#[test]
fn events_and_submissions_are_recorded_in_order() {
    let ctx = Context::mock();
    assert_eq!(ctx.emit("day.closed", &json!({ "day": 1 })).unwrap(), "event-1");
    assert_eq!(ctx.submit(&json!({ "task_name": "report" })).unwrap(), "child-1");
    assert_eq!(ctx.submit(&json!({ "task_name": "other" })).unwrap(), "child-2");
    assert_eq!(ctx.submit_workflow(&json!({ "steps": [] })).unwrap(), "workflow-1");
    assert_eq!(
        (ctx.emitted()[0].event_type.as_str(), &ctx.emitted()[0].data),
        ("day.closed", &json!({ "day": 1 }))
    );
    assert_eq!(ctx.submitted()[1]["task_name"], "other");
    assert_eq!(ctx.submitted_workflows().len(), 1);
    let error = ctx.emit("day.closed", &[1, 2]).unwrap_err();
    assert_eq!(error.message(), "the data of an event is a JSON object, not [1,2]");
}

#[test]
fn what_is_not_granted_fails_for_good() {
    let ctx = Context::mock().denied();
    for error in [ctx.emit("a", &json!({})).unwrap_err(), ctx.submit(&json!({})).unwrap_err()] {
        assert_eq!(error.kind(), FailureKind::Fatal);
        assert!(error.message().contains("denied"));
    }
    assert!(ctx.emitted().is_empty());
}

#[test]
fn log_lines_go_to_the_mock_that_was_made_last() {
    let first = Context::mock();
    log::debug!("one");
    let second = Context::mock();
    log::warn!(rows = 3, file = "a.csv"; "two {}", 2);
    assert_eq!((first.logged().len(), second.logged().len()), (1, 1));
    let line = &second.logged()[0];
    assert_eq!((line.level, line.message.as_str()), (log::Level::Warn, "two 2"));
    assert_eq!(
        line.fields,
        [("rows".to_owned(), "3".to_owned()), ("file".to_owned(), "a.csv".to_owned())]
    );
}

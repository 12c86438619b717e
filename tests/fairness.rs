//! What starts first.

use crate::harness::{Host, guests, in_ms};
use serde_json::{Value, json};
use taskhost::model::Time;

/// A host with one slot, which the returned task holds until it is cancelled.
fn one_slot() -> (Host, String) {
    let mut host = Host::prepare();
    host.drop_plugin("probe", &guests::probe());
    host.start(&["--slots", "1"]);
    let blocker = host.submit(&json!({"task_name": "sleep"}));
    host.wait_for(&blocker, "running");
    (host, blocker)
}

/// The same, where `echo` is known to be short: tasks of a name that never ran are counted by themselves.
fn one_slot_for_what_ran() -> (Host, String) {
    let mut host = Host::prepare();
    host.drop_plugin("probe", &guests::probe());
    host.start(&["--slots", "1"]);
    assert_eq!(host.run("echo", &json!({}))["status"], "success");
    let blocker = host.submit(&json!({"task_name": "sleep"}));
    host.wait_for(&blocker, "running");
    (host, blocker)
}

fn time(task: &Value, member: &str) -> Time {
    let text = task[member].as_str().unwrap_or_else(|| panic!("no {member}: {task}"));
    text.parse().expect("a time")
}

/// The values of the `echo` tasks, in the order in which they started.
fn started_order(host: &Host, ids: &[String]) -> Vec<Value> {
    let mut tasks: Vec<Value> = ids.iter().map(|id| host.end_of(id)).collect();
    tasks.sort_by_key(|task| time(task, "started_at"));
    tasks.into_iter().map(|task| task["result"].clone()).collect()
}

#[test]
fn the_more_urgent_goes_first_and_equals_go_in_order() {
    let (host, blocker) = one_slot();
    let submit = |value: &str, priority: u8| host.submit(&json!({"task_name": "echo", "payload": {"value": value}, "priority": priority}));
    let ids = [
        submit("low", 9),
        submit("normal 1", 5),
        submit("normal 2", 5),
        submit("high", 1),
        submit("medium", 3),
    ];
    host.delete(&format!("/task/cancel/{blocker}")).ok();
    assert_eq!(started_order(&host, &ids), ["high", "medium", "normal 1", "normal 2", "low"]);
}

#[test]
fn every_sixteenth_start_is_the_longest_due_so_nothing_starves() {
    let (host, blocker) = one_slot_for_what_ran();
    let mut ids = vec![host.submit(&json!({"task_name": "echo", "payload": {"value": "patient"}, "priority": 9}))];
    ids.extend((0..40).map(|n| host.submit(&json!({"task_name": "echo", "payload": {"value": n}, "priority": 1}))));
    host.delete(&format!("/task/cancel/{blocker}")).ok();
    let order = started_order(&host, &ids);
    let place = order.iter().position(|value| value == "patient").expect("it ran");
    assert!(place < 16, "the patient one started after {place} others");
    assert!(place > 0, "priority did not count");
}

#[test]
fn a_task_of_the_future_waits_and_one_of_the_past_runs_now() {
    let host = Host::with_probe();
    let past = host.run_with(&json!({"task_name": "echo", "trigger_time": "2001-01-01T00:00:00Z", "payload": {"value": 1}}));
    assert_eq!(past["status"], "success");
    assert!(
        time(&past, "trigger_time") >= time(&past, "submitted_at"),
        "a past time counts as the submission's: {past}"
    );
    let id = host.submit(&json!({"task_name": "echo", "trigger_time": in_ms(700), "payload": {"value": 2}}));
    let waiting = host.task(&id);
    assert_eq!((&waiting["status"], &waiting["phase"]), (&json!("pending"), &json!("scheduled")));
    assert_eq!(host.get("/tasks/scheduled").ok()[0]["task_id"], id.as_str());
    let task = host.end_of(&id);
    assert!(time(&task, "started_at") >= time(&task, "trigger_time"), "{task}");
}

#[test]
fn slots_bound_what_runs_at_once() {
    let mut host = Host::prepare();
    host.drop_plugin("probe", &guests::probe());
    host.start(&["--slots", "3"]);
    let ids: Vec<String> = (0..7).map(|_| host.submit(&json!({"task_name": "sleep"}))).collect();
    host.wait_for(&ids[2], "running");
    let running = host.get("/tasks/running").ok();
    assert_eq!(running.as_object().map(serde_json::Map::len), Some(3), "{running}");
    for member in ["task_id", "task_name", "status", "started_at", "priority", "attempt"] {
        assert!(!running[&ids[0]][member].is_null(), "{member}: {running}");
    }
}

//! What an operator changes of schedules and triggers, over what services declare again and again.

use crate::harness::Host;
use serde_json::{Value, json};

fn put(host: &Host, path: &str, body: &Value) -> String {
    host.post(path, body).ok()["task_id"].as_str().expect("an id").to_owned()
}

fn schedule(host: &Host, body: &Value) -> String {
    put(host, "/task/cron", body)
}

#[test]
fn what_is_cancelled_twice_is_told_so() {
    let host = Host::with_probe();
    let task = host.submit(&json!({"task_name": "sleep"}));
    let cron = schedule(&host, &json!({"task_name": "echo", "cron_expression": "@daily"}));
    let trigger = put(&host, "/task/event-trigger", &json!({"task_name": "echo", "event_type": "e"}));
    let other = schedule(&host, &json!({"task_name": "echo", "cron_expression": "@hourly"}));
    for id in [&task, &cron, &trigger] {
        assert_eq!(host.delete(&format!("/task/cancel/{id}")).ok()["status"], "cancelled");
        host.delete(&format!("/task/cancel/{id}")).problem(409);
    }
    host.delete(&format!("/schedule/{other}")).ok();
    host.delete(&format!("/task/cancel/{other}")).problem(409);
    host.get(&format!("/task/status/{cron}")).problem(404);
    host.delete("/task/cancel/0192f0c1-2345-7abc-8def-0123456789ab").problem(404);
}

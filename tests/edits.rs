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

#[test]
fn a_name_that_nobody_gave_tells_apart_all_that_differs() {
    let host = Host::with_probe();
    let with = |base: &Value, members: &Value| {
        let mut body = base.clone();
        let members = members.as_object().expect("an object").clone();
        body.as_object_mut().expect("an object").extend(members);
        body
    };
    let daily = json!({"task_name": "echo", "cron_expression": "@daily"});
    let listens = json!({"task_name": "echo", "event_type": "e"});
    let common = [
        json!({}),
        json!({"priority": 1}),
        json!({"priority": 2}),
        json!({"tags": ["a"]}),
        json!({"tags": ["a", "b"]}),
    ];
    let timed = [
        json!({"start": "2090-01-01"}),
        json!({"end": "2090-01-01"}),
        json!({"start": "2089-01-01", "end": "2090-01-01"}),
    ];
    let heard = [
        json!({"debounce": 5}),
        json!({"filter": "data.n > 1"}),
        json!({"filter": "data.n > 1", "debounce": 5}),
    ];
    for (path, list, base, own) in [
        ("/task/cron", "/schedules", daily, timed),
        ("/task/event-trigger", "/triggers", listens, heard),
    ] {
        let all: Vec<Value> = common.iter().chain(&own).map(|members| with(&base, members)).collect();
        let ids: Vec<String> = all.iter().map(|body| put(&host, path, body)).collect();
        let again: Vec<String> = all.iter().map(|body| put(&host, path, body)).collect();
        assert_eq!(ids, again);
        assert_eq!(host.get(list).ok().as_array().map(Vec::len), Some(all.len()));
        assert_eq!(
            put(&host, path, &with(&base, &json!({"tags": ["b", "a"]}))),
            ids[4],
            "tags have no order"
        );
    }
}

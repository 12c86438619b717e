//! Schedules: rules that create tasks when their time has come.

use crate::harness::{Host, eventually};
use serde_json::{Value, json};
use std::collections::BTreeSet;

fn history(host: &Host, task_name: &str) -> Vec<Value> {
    host.get(&format!("/tasks/history?task_name={task_name}"))
        .ok()
        .as_array()
        .expect("a list")
        .clone()
}

#[test]
fn a_schedule_fires_again_and_again_each_time_as_a_fresh_task() {
    let host = Host::with_probe();
    let body =
        json!({"task_name": "echo", "cron_expression": "* * * * * *", "payload": {"value": "tick"}, "priority": 2, "tags": ["cron"]});
    let answer = host.post("/task/cron", &body).ok();
    assert_eq!(answer["status"], "scheduled");
    let id = answer["task_id"].as_str().expect("an id").to_owned();
    eventually("it fired three times", || history(&host, "echo").len() >= 3);
    let fired = history(&host, "echo");
    let ids: BTreeSet<&str> = fired.iter().filter_map(|task| task["task_id"].as_str()).collect();
    assert_eq!(ids.len(), fired.len());
    let times: BTreeSet<&str> = fired.iter().filter_map(|task| task["trigger_time"].as_str()).collect();
    assert_eq!(times.len(), fired.len(), "no second fires twice: {times:?}");
    for task in &fired {
        assert_eq!(
            (&task["result"], &task["priority"], &task["schedule_id"]),
            (&json!("tick"), &json!(2), &json!(id)),
            "{task}"
        );
        assert_eq!(task["tags"], json!(["cron", "echo", "demo"]));
    }
    let record = host.get(&format!("/task/status/{id}")).ok();
    assert_eq!(record["cron_expression"], "* * * * * *");
    let waiting = host.get("/tasks/scheduled").ok();
    assert!(
        waiting
            .as_array()
            .expect("a list")
            .iter()
            .any(|entry| entry["task_id"] == id.as_str()),
        "{waiting}"
    );
    host.delete(&format!("/task/cancel/{id}")).ok();
    host.get(&format!("/task/status/{id}")).problem(404);
    host.delete(&format!("/task/cancel/{id}")).problem(409);
}

#[test]
fn a_schedule_of_each_second_goes_on_beside_slow_ones() {
    let host = Host::with_probe();
    let each_second = |task_name: &str, payload: Value| {
        let body = json!({"task_name": task_name, "cron_expression": "* * * * * *", "payload": payload});
        host.post("/task/cron", &body).ok();
    };
    for n in 0..6 {
        each_second("noop", json!({ "takes": vec![n; 500_000] })); // long to read, to check and to store
    }
    each_second("echo", json!({}));
    eventually("it fired seven times", || history(&host, "echo").len() >= 7);
    let time = |task: &Value| -> taskhost::model::Time { task["trigger_time"].as_str().and_then(|t| t.parse().ok()).expect("a time") };
    let mut fired: Vec<_> = history(&host, "echo").iter().map(time).collect();
    fired.sort();
    // How late it may be on a busy machine is the benches' affair; that it goes on, and never twice, is not.
    for pair in fired.windows(2) {
        assert!((pair[1] - pair[0]).num_seconds() >= 1, "a second twice: {fired:?}");
    }
}

#[test]
fn a_schedule_survives_restarts_and_is_updated_under_its_name() {
    let mut host = Host::with_probe();
    let create = |host: &Host, expression: &str, value: u64| {
        let body = json!({"task_name": "echo", "name": "nightly", "cron_expression": expression, "payload": {"value": value}});
        host.post("/task/cron", &body).ok()["task_id"].as_str().expect("an id").to_owned()
    };
    let id = create(&host, "30 17 * * 1-5", 1);
    let fire = host.get(&format!("/schedule/{id}")).ok()["next_fire"].clone();
    host.kill();
    host.start(&[]);
    assert_eq!(create(&host, "30 17 * * 1-5", 2), id);
    let updated = host.get(&format!("/schedule/{id}")).ok();
    assert_eq!((&updated["next_fire"], &updated["payload"]), (&fire, &json!({"value": 2})));
    assert_eq!(create(&host, "0 0 1 1 *", 2), id);
    assert_ne!(host.get(&format!("/schedule/{id}")).ok()["next_fire"], fire);
    assert_eq!(host.get("/schedules").ok().as_array().map(Vec::len), Some(1));
    // Without a name, what it does is its name.
    let body = json!({"task_name": "echo", "cron_expression": "@daily"});
    assert_eq!(
        host.post("/task/cron", &body).ok()["task_id"],
        host.post("/task/cron", &body).ok()["task_id"]
    );
    assert_eq!(host.get("/schedules").ok().as_array().map(Vec::len), Some(2));
}

#[test]
fn a_bad_schedule_is_refused_with_its_field() {
    let host = Host::with_probe();
    for (expression, word) in [
        ("* * * *", "5 fields"),
        ("61 * * * *", "minute"),
        ("0 0 30 2 *", "never"),
        ("0 0 * * 8", "day of week"),
        ("", "5 fields"),
    ] {
        let refused = host
            .post("/task/cron", &json!({"task_name": "echo", "cron_expression": expression}))
            .problem(400);
        assert_eq!(refused["errors"][0]["pointer"], "/cron_expression");
        assert!(
            refused["errors"][0]["detail"].as_str().is_some_and(|detail| detail.contains(word)),
            "{refused}"
        );
    }
    let cron = |members: Value| {
        let mut body = json!({"task_name": "echo", "cron_expression": "@daily"});
        body.as_object_mut()
            .expect("an object")
            .extend(members.as_object().expect("an object").clone());
        host.post("/task/cron", &body)
    };
    for member in [
        "session",
        "timezone",
        "calendar",
        "on_closed",
        "dst_gap",
        "dst_overlap",
        "misfire",
        "overlap",
    ] {
        let refused = cron(json!({ member: "no such word" })).problem(400);
        assert_eq!(refused["errors"][0]["pointer"], format!("/{member}"), "{refused}");
    }
    cron(json!({"end": "2001-01-01T00:00:00Z"})).problem(400);
    cron(json!({"task_name": "ecco"})).problem(404);
    host.post(
        "/task/cron",
        &json!({"task_name": "add", "cron_expression": "@daily", "payload": {"a": 1}}),
    )
    .problem(422);
    assert_eq!(host.get("/schedules").ok(), json!([]));
}

#[test]
fn what_is_scheduled_is_paged_over_tasks_and_schedules_without_a_gap() {
    let host = Host::with_probe();
    let at = |year: u32| format!("{year}-06-15T00:00:00Z");
    let mut expected: Vec<String> = [2033, 2031, 2034, 2032, 2031]
        .iter()
        .map(|year| host.submit(&json!({"task_name": "echo", "trigger_time": at(*year)})))
        .collect();
    for (n, year) in [2032, 2031, 2035].iter().enumerate() {
        let body = json!({"task_name": "echo", "name": format!("s{n}"), "cron_expression": "0 0 1 * *", "start": at(*year), "payload": {"value": n}});
        expected.push(host.post("/task/cron", &body).ok()["task_id"].as_str().expect("an id").to_owned());
    }
    let (mut seen, mut times) = (Vec::new(), Vec::new());
    let mut path = "/tasks/scheduled?limit=2".to_owned();
    loop {
        let answer = host.get(&path);
        let link = answer.headers.get("link").and_then(|link| link.to_str().ok()).map(str::to_owned);
        for item in answer.ok().as_array().expect("a list") {
            seen.push(item["task_id"].as_str().expect("an id").to_owned());
            times.push(item["trigger_time"].as_str().expect("a time").to_owned());
        }
        match link {
            Some(link) => path = link.trim_start_matches('<').split('>').next().expect("an address").to_owned(),
            None => break,
        }
    }
    assert!(times.is_sorted(), "{times:?}");
    seen.sort();
    expected.sort();
    assert_eq!(seen, expected);
}

#[test]
fn large_schedules_and_triggers_fill_no_page_beyond_its_bytes() {
    let host = Host::with_probe();
    let payload = json!({"value": "x".repeat(9 << 20)});
    for n in 0..3 {
        let schedule = json!({"name": format!("s{n}"), "task_name": "echo", "cron_expression": "0 0 1 1 *", "payload": payload});
        host.post("/task/cron", &schedule).ok();
        let trigger = json!({"name": format!("t{n}"), "task_name": "echo", "event_type": "e", "payload": payload});
        host.post("/task/event-trigger", &trigger).ok();
    }
    for list in ["/schedules", "/triggers", "/tasks/scheduled"] {
        let (mut pages, mut next) = (Vec::new(), Some(list.to_owned()));
        while let Some(path) = next {
            let answer = host.get(&path);
            let link = answer.headers.get("link").and_then(|link| link.to_str().ok()).map(str::to_owned);
            next = link.map(|link| link[link.find("/api/v1/scheduler").expect("a path") + 17..link.find('>').expect("its end")].to_owned());
            pages.push(answer.ok().as_array().map_or(0, Vec::len));
        }
        assert_eq!(pages, [2, 1], "{list}");
    }
}

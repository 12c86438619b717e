//! What may not start although it is due: limits, rates, pauses; and saying why.

use crate::harness::{Answer, Host, eventually, guests, in_ms};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use taskhost::model::Time;

fn put(host: &Host, path: &str, body: &Value) -> Answer {
    host.request(
        "PUT",
        path,
        Some(body.to_string().as_bytes()),
        &[("content-type", "application/json")],
    )
}

fn patch(host: &Host, path: &str, body: &Value) -> Answer {
    host.request(
        "PATCH",
        path,
        Some(body.to_string().as_bytes()),
        &[("content-type", "application/json")],
    )
}

fn running(host: &Host) -> usize {
    host.get("/tasks/running").ok().as_object().map_or(0, serde_json::Map::len)
}

fn reasons(host: &Host, id: &str) -> Vec<String> {
    let why = host.get(&format!("/task/{id}/why")).ok();
    let reasons = why["reasons"].as_array().expect("reasons");
    reasons
        .iter()
        .map(|reason| reason["reason"].as_str().expect("a word").to_owned())
        .collect()
}

#[test]
fn a_limit_lets_so_many_run_and_the_next_one_as_each_ends_also_after_a_kill() {
    let mut host = Host::with_probe();
    let limit = json!({"match": {"task_name": "sleep"}, "max_running": 2});
    assert_eq!([(); 2].map(|()| put(&host, "/limit/sleepers", &limit).status), [201, 200]);
    let ids: Vec<String> = (0..5).map(|_| host.submit(&json!({"task_name": "sleep"}))).collect();
    eventually("the limit is full", || running(&host) == 2);
    eventually("the rest is held", || {
        ids[2..]
            .iter()
            .all(|id| host.task(id)["held"].as_str().is_some_and(|held| held.contains("sleepers")))
    });
    assert_eq!(reasons(&host, &ids[4]), ["limit"]);
    assert_eq!(reasons(&host, &ids[0]), Vec::<String>::new(), "it runs");
    assert_eq!(host.run("echo", &json!({"value": 1}))["result"], 1, "others are not held up");
    host.delete(&format!("/task/cancel/{}", ids[0])).ok();
    host.wait_for(&ids[2], "running");
    assert_eq!(running(&host), 2);
    host.kill();
    host.start(&[]);
    eventually("as many run again", || running(&host) == 2);
    let queue = host.get("/queue").ok();
    assert_eq!((&queue["held"], &queue["held_by"]), (&json!(2), &json!({"limit": 2})));
    assert!(queue["oldest_wait"].is_number() && queue["oldest_due_at"].is_null(), "{queue}");
    let rate = |which: &str| host.get("/queue").ok()[which].as_f64().expect("a rate");
    assert!(rate("arrival_rate") < 0.5, "they came in before the kill: {queue}");
    for n in 0..20 {
        host.run("echo", &json!({"value": n}));
    }
    eventually("20 came in within a second or few, and ended", || {
        [rate("arrival_rate"), rate("drain_rate")]
            .iter()
            .all(|rate| (20.0 / 60.0..20.5).contains(rate))
    });
    host.delete("/limit/sleepers").ok();
    eventually("nothing holds them", || running(&host) == 4);
    host.delete("/limit/sleepers").problem(404);
}

#[test]
fn a_limit_with_a_key_holds_for_each_of_its_values() {
    let host = Host::with_probe();
    put(
        &host,
        "/limit/per-desk",
        &json!({"match": {"tag": "desk"}, "key": "/seconds", "max_running": 1}),
    )
    .ok();
    let nap = |seconds: f64| host.submit(&json!({"task_name": "nap", "tags": ["desk"], "payload": {"seconds": seconds}}));
    let (first, second, other) = (nap(600.0), nap(600.0), nap(601.0));
    host.wait_for(&first, "running");
    host.wait_for(&other, "running");
    eventually("its like waits", || reasons(&host, &second) == ["limit"]);
    host.delete(&format!("/task/cancel/{first}")).ok();
    host.wait_for(&second, "running");
    let untagged = host.submit(&json!({"task_name": "nap", "payload": {"seconds": 600.0}}));
    host.wait_for(&untagged, "running");
}

#[test]
fn a_rate_lets_a_burst_start_and_then_one_at_a_time() {
    let host = Host::with_probe();
    put(
        &host,
        "/limit/vendor",
        &json!({"match": {"tag": "vendor"}, "rate": {"count": 2, "per": 1}}),
    )
    .ok();
    let ids: Vec<String> = (0..6)
        .map(|n| host.submit(&json!({"task_name": "echo", "tags": ["vendor"], "payload": {"value": n}})))
        .collect();
    // With all else it may have started meanwhile.
    let why = host.get(&format!("/task/{}/why", ids[5])).ok();
    for reason in why["reasons"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|reason| reason["reason"] == "limit")
    {
        assert!(reason["at"].is_string(), "{why}");
    }
    let mut starts: Vec<Time> = ids
        .iter()
        .map(|id| {
            host.end_of(id)["started_at"]
                .as_str()
                .and_then(|time| time.parse().ok())
                .expect("a start")
        })
        .collect();
    starts.sort();
    let after = |n: usize| (starts[n] - starts[0]).num_milliseconds();
    // Two at once, and one each half second after them: what of the burst came late brings no other forward.
    assert!(after(2) >= 450 && after(3) >= 950 && after(5) >= 1_950, "{starts:?}");
}

#[test]
fn the_queue_is_paused_as_a_whole_and_by_name_and_the_pause_outlives_a_kill() {
    let mut host = Host::with_probe();
    assert_eq!(host.post("/queue/pause", &json!({})).ok()["status"], "paused");
    let id = host.submit(&json!({"task_name": "echo", "payload": {"value": 1}}));
    host.kill();
    host.start(&[]);
    let queue = host.get("/queue").ok();
    assert_eq!(
        (&queue["paused"], &queue["due"], &queue["due_by_priority"]["3"]),
        (&json!(true), &json!(1), &json!(1))
    );
    assert_eq!(
        (&queue["due_by_task"], &queue["held_by"]),
        (&json!({"echo": 1}), &json!({})),
        "{queue}"
    );
    assert_eq!(reasons(&host, &id), ["paused"]);
    let waits = host.task(&id);
    assert_eq!(
        (&waits["status"], &waits["held"]),
        (&json!("pending"), &json!("the whole queue is paused"))
    );
    for list in ["/tasks", "/tasks/scheduled"] {
        assert_eq!(host.get(list).ok()[0]["held"], "the whole queue is paused", "{list}");
    }
    for (changed, name) in [(true, "echo"), (false, "echo")] {
        assert_eq!(host.post("/queue/pause", &json!({"task_name": name})).ok()["changed"], changed);
    }
    let resumed = host.post("/queue/resume", &json!({"task_name": "noop"})).ok();
    assert_eq!(
        (&resumed["status"], &resumed["changed"]),
        (&json!("paused"), &json!(false)),
        "the whole queue is, and noop was not"
    );
    host.post("/queue/resume", &json!({})).ok();
    assert_eq!(host.run("noop", &json!({}))["status"], "success", "others go on");
    assert_eq!(
        (host.task(&id)["status"].clone(), reasons(&host, &id)),
        (json!("pending"), vec!["paused".to_owned()])
    );
    assert!(host.get("/queue").ok()["paused_tasks"]["echo"].is_string());
    host.post("/queue/resume", &json!({"task_name": "echo"})).ok();
    assert_eq!(host.end_of(&id)["status"], "success");
    host.post("/queue/pause", &json!({"task_name": "a b"})).problem(400);
    host.post("/queue/pause", &json!({"task": "echo"})).problem(400);
}

#[test]
fn why_tells_what_stands_in_the_way_in_order() {
    let mut host = Host::prepare();
    host.drop_plugin("probe", &guests::probe());
    host.start(&["--slots", "1"]);
    let later = host.submit(&json!({"task_name": "echo", "trigger_time": in_ms(3_600_000)}));
    let why = host.get(&format!("/task/{later}/why")).ok();
    assert_eq!(why["reasons"][0]["reason"], "due_later");
    assert_eq!(why["reasons"][0]["at"], host.task(&later)["trigger_time"]);
    let blocker = host.submit(&json!({"task_name": "sleep"}));
    host.wait_for(&blocker, "running");
    let waits = host.submit(&json!({"task_name": "echo"}));
    let why = host.get(&format!("/task/{waits}/why")).ok();
    assert_eq!(
        (&why["reasons"][0]["reason"], &why["reasons"][0]["ahead"]),
        (&json!("no_slot"), &json!(0))
    );
    let flow = json!({"steps": [{"key": "a", "task_name": "echo"}, {"key": "b", "task_name": "echo", "needs": ["a"]}]});
    let flow = host.post("/workflow", &flow).ok();
    let flow = host
        .get(&format!("/workflow/{}", flow["workflow_id"].as_str().expect("an id")))
        .ok();
    let step = flow["steps"]["b"]["task_id"].as_str().expect("its task");
    let why = host.get(&format!("/task/{step}/why")).ok();
    assert_eq!(
        (&why["reasons"][0]["reason"], &why["reasons"][0]["steps"]),
        (&json!("blocked_by"), &json!(["a"]))
    );
    assert_eq!(why["reasons"][0]["detail"], "it waits for the step a");
    assert_eq!(host.get("/queue").ok()["held_by"], json!({"blocked_by": 1}));
    host.delete("/plugin/probe").ok();
    host.post("/queue/pause", &json!({})).ok();
    assert_eq!(reasons(&host, &later), ["paused", "handler_missing", "due_later"]);
    host.get("/task/0192f0c1-2345-7abc-8def-0123456789ab/why").problem(404);
}

#[test]
fn an_operator_overrides_a_definition_and_takes_it_back() {
    let mut host = Host::with_probe();
    let path = "/registry/task/flaky";
    let said = host.get(path).ok();
    let edited = patch(
        &host,
        path,
        &json!({"priority": 2, "timeout": 7, "max_concurrency": 1, "retry": {"max_retries": 9, "initial_delay": 0.01}}),
    )
    .ok();
    for (member, value) in [
        ("priority", json!(2)),
        ("timeout", json!(7.0)),
        ("max_concurrency", json!(1)),
        ("retry_count", json!(9)),
    ] {
        assert_eq!(edited[member], value, "{edited}");
    }
    host.kill();
    host.start(&[]);
    assert_eq!(host.get(path).ok(), edited, "it outlives the process");
    host.drop_plugin("probe", &guests::probe_version(2));
    eventually("the new version is live", || {
        host.get(path).ok()["plugin_digest"] != edited["plugin_digest"]
    });
    assert_eq!(host.get(path).ok()["overrides"], edited["overrides"], "and a new version");
    let task = host.run("flaky", &json!({"count": 4}));
    assert_eq!(
        (&task["status"], &task["max_retries"], &task["priority"]),
        (&json!("success"), &json!(9), &json!(2))
    );
    let back = patch(
        &host,
        path,
        &json!({"priority": null, "timeout": null, "max_concurrency": null, "retry": null}),
    )
    .ok();
    for member in ["priority", "timeout", "max_concurrency", "retry", "overrides"] {
        assert_eq!(back[member], said[member], "{member}");
    }
    for (body, pointer) in [
        (json!({"priority": 0}), "/priority"),
        (json!({"priority": "high"}), "/priority"),
        (json!({"timeout": 0}), "/timeout"),
        (json!({"timeout": -1}), "/timeout"),
        (json!({"timeout": 86_401}), "/timeout"),
        (json!({"max_concurrency": 0}), "/max_concurrency"),
        (json!({"max_concurrency": 1.5}), "/max_concurrency"),
        (json!({"retry": {"max_retries": 5000}}), "/retry/max_retries"),
        (json!({"retry": {"jitter": 2}}), "/retry/jitter"),
        (json!({"retry": 3}), "/retry"),
        (json!({"retries": 3}), "/retries"),
        (json!([]), ""),
    ] {
        let problem = patch(&host, path, &body).problem(400);
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{body}: {problem}");
    }
    assert_eq!(host.get(path).ok(), back, "nothing of a refused one holds");
    host.manifest("probe", "[limits]\ntimeout = 60\n");
    eventually("the limit holds", || host.get(path).ok()["max_timeout"] == 60.0);
    let beyond = patch(&host, path, &json!({"timeout": 61})).problem(400);
    assert!(
        beyond["errors"][0]["detail"].as_str().is_some_and(|detail| detail.contains("60 s")),
        "{beyond}"
    );
    assert_eq!(patch(&host, path, &json!({"timeout": 60})).ok()["timeout"], 60.0);
    host.manifest("probe", "[limits]\ntimeout = 30\n");
    eventually("the limit holds", || host.get(path).ok()["timeout"] == 30.0);
    assert_eq!(
        patch(&host, path, &json!({"priority": 1})).ok()["priority"],
        1,
        "what was within its bound stays"
    );
    patch(&host, "/registry/task/flakey", &json!({"priority": 1})).problem(404);
}

#[test]
fn two_operators_who_override_at_once_are_both_heard() {
    let host = Host::with_probe();
    let path = "/registry/task/flaky";
    for round in 1..=9 {
        std::thread::scope(|scope| {
            for body in [
                json!({"priority": round}),
                json!({"timeout": round}),
                json!({"max_concurrency": round}),
            ] {
                let host = &host;
                scope.spawn(move || patch(host, path, &body).ok());
            }
        });
        let seen = host.get(path).ok()["overrides"].clone();
        assert_eq!(
            seen,
            json!({"priority": round, "timeout": f64::from(round), "max_concurrency": round})
        );
    }
}

#[test]
fn a_definition_bounds_how_many_of_it_run() {
    let host = Host::with_probe();
    patch(&host, "/registry/task/sleep", &json!({"max_concurrency": 1})).ok();
    let ids: Vec<String> = (0..3).map(|_| host.submit(&json!({"task_name": "sleep"}))).collect();
    host.wait_for(&ids[0], "running");
    eventually("the others are held", || host.get("/queue").ok()["held"] == 2);
    assert_eq!(reasons(&host, &ids[2]), ["limit"]);
    patch(&host, "/registry/task/sleep", &json!({"max_concurrency": 2})).ok();
    host.wait_for(&ids[1], "running");
    assert_eq!(host.task(&ids[2])["status"], "pending");
    patch(&host, "/registry/task/sleep", &json!({"max_concurrency": null})).ok();
    host.wait_for(&ids[2], "running");
}

#[test]
fn a_bad_limit_says_where_and_changes_nothing() {
    let host = Host::with_probe();
    for (body, pointer) in [
        (json!({"match": {}}), ""),
        (json!({"max_running": 1}), "/match"),
        (json!({"match": null, "max_running": 1}), "/match"),
        (json!({"match": ["echo"], "max_running": 1}), "/match"),
        (json!({"match": {}, "rate": [1, 2]}), "/rate"),
        (json!({"match": {"tag": "a\u{7}"}, "max_running": 1}), "/match/tag"),
        (json!({"match": {"tag": "x".repeat(129)}, "max_running": 1}), "/match/tag"),
        (json!({"match": {}, "max_running": 1, "key": "/a~2"}), "/key"),
        (json!({"match": {"task_name": "a b"}, "max_running": 1}), "/match/task_name"),
        (json!({"match": {"tag": 7}, "max_running": 1}), "/match/tag"),
        (json!({"match": {"name": "x"}, "max_running": 1}), "/match/name"),
        (json!({"match": {}, "max_running": 0}), "/max_running"),
        (json!({"match": {}, "max_running": -1}), "/max_running"),
        (json!({"match": {}, "max_running": 1.5}), "/max_running"),
        (json!({"match": {}, "max_running": 1, "key": "desk"}), "/key"),
        (json!({"match": {}, "rate": {"count": 0, "per": 1}}), "/rate/count"),
        (json!({"match": {}, "rate": {"count": 1, "per": 0}}), "/rate/per"),
        (json!({"match": {}, "rate": {"count": 1, "per": 1e9}}), "/rate/per"),
        (json!({"match": {}, "rate": 5}), "/rate"),
        (json!({"max_running": 1, "colour": 1}), "/colour"),
    ] {
        let problem = put(&host, "/limit/l", &body).problem(400);
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{body}: {problem}");
    }
    put(&host, "/limit/a%20b", &json!({"match": {}, "max_running": 1})).problem(400);
    assert_eq!(host.get("/limits").ok(), json!([]));
    host.get("/limit/l").problem(404);
    let limit = put(&host, "/limit/l", &json!({"match": {"task_name": "echo"}, "max_running": 1})).ok();
    assert_eq!(host.get("/limit/l").ok(), limit);
    assert_eq!(host.get("/limits").ok(), json!([limit]));
}

#[test]
fn many_limits_at_once_leave_nobody_behind() {
    let host = Host::with_probe();
    put(&host, "/limit/all", &json!({"match": {}, "max_running": 3})).ok();
    put(&host, "/limit/echo", &json!({"match": {"task_name": "echo"}, "max_running": 2})).ok();
    put(&host, "/limit/value", &json!({"match": {}, "key": "/value", "max_running": 1})).ok();
    put(
        &host,
        "/limit/fast",
        &json!({"match": {"tag": "fast"}, "rate": {"count": 20, "per": 0.1}}),
    )
    .ok();
    let ids: BTreeSet<String> = (0..150)
        .map(|n| {
            let tags = if n % 3 == 0 { json!(["fast"]) } else { json!([]) };
            host.submit(&json!({"task_name": if n % 2 == 0 { "echo" } else { "noop" }, "tags": tags, "payload": {"value": n % 5}}))
        })
        .collect();
    for id in &ids {
        assert_eq!(host.end_of(id)["status"], "success");
    }
    let queue = host.get("/queue").ok();
    assert_eq!(
        (&queue["held"], &queue["due"], &queue["running"]),
        (&json!(0), &json!(0), &json!(0))
    );
}

//! Once only: request keys, unique tasks; and what is too late: expiry and deadlines.

use crate::harness::{Answer, Host, eventually, in_ms};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

fn keyed(host: &Host, path: &str, body: &Value, key: &str) -> Answer {
    let headers = [("content-type", "application/json"), ("idempotency-key", key)];
    host.request("POST", path, Some(body.to_string().as_bytes()), &headers)
}

fn count(host: &Host) -> usize {
    host.get("/tasks").ok().as_array().map_or(0, Vec::len)
}

#[test]
fn the_same_request_under_its_key_gets_the_same_answer_and_does_nothing() {
    let mut host = Host::with_probe();
    let body = json!({"task_name": "echo", "payload": {"value": 7}});
    let first = keyed(&host, "/task/submit", &body, "order-1").ok();
    assert_eq!(keyed(&host, "/task/submit", &body, "order-1").ok(), first);
    assert_eq!(
        keyed(&host, "/task/submit", &body, "\"order-1\"").ok(),
        first,
        "quotes are of the header"
    );
    host.kill();
    host.start(&[]);
    assert_eq!(keyed(&host, "/task/submit", &body, "order-1").ok(), first);
    let headers = [
        ("content-type", "application/json"),
        ("idempotency-key", "order-1"),
        ("prefer", "wait=60"),
    ];
    let waited = host
        .request("POST", "/task/submit", Some(body.to_string().as_bytes()), &headers)
        .ok();
    assert_eq!((&waited["task_id"], &waited["result"]), (&first["task_id"], &json!(7)));
    let other = keyed(
        &host,
        "/task/submit",
        &json!({"task_name": "echo", "payload": {"value": 8}}),
        "order-1",
    )
    .problem(422);
    assert_eq!(other["code"], "key_reused");
    assert_eq!(count(&host), 1);
    assert_ne!(keyed(&host, "/task/submit", &body, "order-2").ok()["task_id"], first["task_id"]);
    for bad in ["", "ä", &"x".repeat(256)] {
        keyed(&host, "/task/submit", &body, bad).problem(400);
    }
    // A refused request is not remembered.
    keyed(&host, "/task/submit", &json!({"task_name": "ecko"}), "order-3").problem(404);
    keyed(&host, "/task/submit", &body, "order-3").ok();
    assert_eq!(count(&host), 3);
}

#[test]
fn batches_and_workflows_are_carried_out_once_under_a_key() {
    let host = Host::with_probe();
    let lines = "{\"task_name\":\"echo\",\"payload\":{\"value\":1}}\n".repeat(20);
    let send = |lines: &str, key: &str| {
        let headers = [("content-type", "application/x-ndjson"), ("idempotency-key", key)];
        host.request("POST", "/tasks/batch", Some(lines.as_bytes()), &headers)
    };
    let first = send(&lines, "b").ok();
    assert_eq!(first["count"], 20);
    assert_eq!(send(&lines, "b").ok(), first);
    send(&lines[..lines.len() / 2], "b").problem(422);
    let tasks = json!({"tasks": [{"task_name": "echo"}, {"task_name": "echo"}]});
    let second = keyed(&host, "/tasks/batch", &tasks, "c").ok();
    assert_eq!(keyed(&host, "/tasks/batch", &tasks, "c").ok(), second);
    let flow = json!({"steps": [{"key": "a", "task_name": "echo"}]});
    let third = keyed(&host, "/workflow", &flow, "d").ok();
    assert_eq!(keyed(&host, "/workflow", &flow, "d").ok(), third);
    keyed(&host, "/task/submit", &json!({"task_name": "echo"}), "d").problem(422);
    eventually("all have ended", || {
        host.get("/tasks/history?limit=1000").ok().as_array().map(Vec::len) == Some(23)
    });
    assert_eq!(count(&host), 23);
}

#[test]
fn what_was_carried_out_is_answered_again_although_it_would_be_refused_by_now() {
    let host = Host::with_probe();
    let lines = "{\"task_name\":\"echo\"}\n".repeat(3);
    let send = |lines: &str| {
        let headers = [("content-type", "application/x-ndjson"), ("idempotency-key", "b")];
        host.request("POST", "/tasks/batch", Some(lines.as_bytes()), &headers)
    };
    let first = send(&lines).ok();
    host.delete("/plugin/probe").ok();
    host.post("/task/submit", &json!({"task_name": "echo"})).problem(404);
    assert_eq!(send(&lines).ok(), first);
    assert_eq!(send(&lines[1..]).problem(422)["code"], "key_reused");
}

#[test]
fn the_same_request_at_the_same_moment_is_carried_out_once() {
    let host = Host::with_probe();
    for round in 0..10 {
        let (body, key) = (json!({"task_name": "echo"}), format!("k{round}"));
        let ids: HashSet<String> = std::thread::scope(|scope| {
            let same: Vec<_> = (0..8).map(|_| scope.spawn(|| keyed(&host, "/task/submit", &body, &key))).collect();
            let told = same.into_iter().filter_map(|sent| {
                let answer = sent.join().expect("an answer");
                if answer.status == 409 {
                    assert_eq!(answer.problem(409)["code"], "in_flight");
                    return None;
                }
                Some(answer.ok()["task_id"].to_string())
            });
            told.collect()
        });
        assert_eq!(ids.len(), 1, "{ids:?}");
    }
}

#[test]
fn a_request_whose_like_is_under_way_is_refused_until_that_has_ended() {
    let host = Host::with_probe();
    let address = host.url().trim_start_matches("http://").trim_end_matches('/').to_owned();
    let body = r#"{"task_name":"echo"}"#;
    let head = format!(
        "POST /api/v1/scheduler/task/submit HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\nIdempotency-Key: k\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let again = || keyed(&host, "/task/submit", &json!({"task_name": "echo"}), "k");
    let (mut slow, mut refused) = (None, None);
    eventually("the first is under way", || {
        // Where its head is read after the other request, that one is under way instead: then once more.
        let mut connection = TcpStream::connect(&address).expect("a connection");
        connection.write_all(head.as_bytes()).expect("sent");
        slow = Some(connection);
        let answer = keyed(&host, "/task/submit", &json!({"task_name": "nothing"}), "k");
        refused = (answer.status == 409).then(|| answer.problem(409));
        refused.is_some()
    });
    assert_eq!(refused.expect("a refusal")["code"], "in_flight");
    drop(slow); // it broke off, and was carried out by nobody
    eventually("the key is free", || again().status == 200);
    assert_eq!(count(&host), 1);
}

#[test]
fn a_unique_task_is_the_only_one_of_its_kind_while_it_waits_or_runs() {
    let host = Host::with_probe();
    let task = |payload: Value, unique: Value| json!({"task_name": "nap", "payload": payload, "unique": unique});
    let submit = |payload: Value, unique: Value| host.post("/task/submit", &task(payload, unique));
    let id = |answer: Answer| answer.ok()["task_id"].as_str().expect("an id").to_owned();
    let first = id(submit(json!({"seconds": 600}), json!({})));
    assert_eq!(id(submit(json!({"seconds": 600}), json!({}))), first);
    assert_ne!(id(submit(json!({"seconds": 601}), json!({}))), first);
    submit(json!({"seconds": 600}), json!({"on_conflict": "reject"})).problem(409);
    host.wait_for(&first, "running");
    submit(json!({"seconds": 600}), json!({"on_conflict": "replace"})).problem(409);
    host.delete(&format!("/task/cancel/{first}")).ok();
    let second = id(submit(json!({"seconds": 600}), json!({})));
    assert_ne!(second, first, "its end makes room");
    // One that waits is replaced.
    let later = |value: u64, on_conflict: &str| {
        let body = json!({"task_name": "echo", "trigger_time": in_ms(3_600_000), "payload": {"value": value, "order": 7},
            "unique": {"fields": ["/order"], "on_conflict": on_conflict}});
        id(host.post("/task/submit", &body))
    };
    let waits = later(1, "return");
    assert_eq!(later(2, "return"), waits, "only the named member counts");
    let instead = later(3, "replace");
    assert_ne!(instead, waits);
    assert_eq!(
        (host.task(&waits)["status"].clone(), host.task(&instead)["status"].clone()),
        (json!("cancelled"), json!("pending"))
    );
}

#[test]
fn within_its_window_a_unique_task_counts_although_it_has_ended() {
    let host = Host::with_probe();
    let body = |window: Value| json!({"task_name": "echo", "payload": {"value": 1}, "unique": {"window": window}});
    let first = host.run_with(&body(json!(3_600)));
    let again = host.run_with(&body(json!(3_600)));
    assert_eq!(
        (&again["task_id"], &again["result"]),
        (&first["task_id"], &json!(1)),
        "who waits is answered at once"
    );
    host.post(
        "/task/submit",
        &json!({"task_name": "echo", "payload": {"value": 1}, "unique": {"on_conflict": "reject"}}),
    )
    .problem(409);
    for (unique, pointer) in [
        (json!({"window": 0}), "/unique/window"),
        (json!({"window": 1e9}), "/unique/window"),
        (json!({"fields": "x"}), "/unique/fields"),
        (json!({"fields": ["x"]}), "/unique/fields/0"),
        // All that lack it would be the same.
        (json!({"fields": ["/value", "/order_id"]}), "/unique/fields/1"),
        (json!({"fields": ["/value/0"]}), "/unique/fields/0"),
        (json!({"fields": ["/value~2"]}), "/unique/fields/0"),
        (json!({"fields": ["/value~"]}), "/unique/fields/0"),
        (json!({"on_conflict": "merge"}), "/unique/on_conflict"),
        (json!({"on": 1}), "/unique/on"),
        (json!(true), "/unique"),
    ] {
        let problem = host
            .post(
                "/task/submit",
                &json!({"task_name": "echo", "payload": {"value": 1}, "unique": unique}),
            )
            .problem(400);
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{problem}");
    }
    assert_eq!(count(&host), 1);
}

#[test]
fn a_task_that_is_tried_again_stands_where_the_one_before_did() {
    let host = Host::with_probe();
    let body = json!({"task_name": "spin", "timeout": 0.2, "deadline": in_ms(3_600_000), "unique": {"window": 3_600}});
    let first = host.run_with(&body);
    assert_eq!(first["status"], "failed", "{first}");
    host.post("/queue/pause", &json!({})).ok();
    let again = host.post(&format!("/task/{}/retry", first["task_id"].as_str().expect("an id")), &json!({}));
    let again = again.ok()["task_id"].as_str().expect("an id").to_owned();
    assert_eq!(host.post("/task/submit", &body).ok()["task_id"], json!(again));
    let deadline = host.task(&again)["deadline"].clone();
    assert!(deadline.is_string() && deadline == first["deadline"], "{deadline}");
}

#[test]
fn who_waits_for_a_task_hears_of_its_end_whoever_ends_it() {
    let host = Host::with_probe();
    let unique = json!({"on_conflict": "replace", "fields": ["/value"]});
    let body = json!({"task_name": "echo", "payload": {"value": 1}, "trigger_time": in_ms(3_600_000), "unique": unique});
    let begun = Instant::now();
    let replaced = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| host.run_with(&body));
        eventually("it is there", || {
            host.get("/tasks/scheduled").ok().as_array().is_some_and(|tasks| tasks.len() == 1)
        });
        host.submit(&body);
        waiting.join().expect("the answer")
    });
    assert_eq!(replaced["status"], "cancelled", "{replaced}");
    assert!(begun.elapsed() < Duration::from_secs(20), "and not at the end of its patience");
}

#[test]
fn what_has_not_begun_in_time_expires_and_says_so_to_whoever_waits() {
    let mut host = Host::with_probe();
    host.post("/queue/pause", &json!({})).ok();
    let expired = host.run_with(&json!({"task_name": "echo", "expires_at": in_ms(300)}));
    assert_eq!(
        (&expired["status"], &expired["error_code"]),
        (&json!("failed"), &json!("expired")),
        "{expired}"
    );
    assert_eq!(expired["attempts"], json!([]));
    let alerts = host.get("/alerts?alert_type=task_failure").ok();
    assert_eq!(alerts[0]["task_id"], expired["task_id"]);
    // One that expires while the host is down ends at its start, and one that has begun does not expire.
    let over = in_ms(1_500);
    let down = host.submit(&json!({"task_name": "echo", "expires_at": over}));
    let later = host.submit(&json!({"task_name": "echo", "expires_at": in_ms(3_600_000), "payload": {"value": 1}}));
    host.kill();
    eventually("its time is over", || in_ms(0) > over);
    host.start(&[]);
    assert_eq!(host.end_of(&down)["error_code"], "expired");
    host.post("/queue/resume", &json!({})).ok();
    assert_eq!(host.end_of(&later)["status"], "success");
    let runs = host.submit(&json!({"task_name": "nap", "payload": {"seconds": 1.5}, "expires_at": in_ms(500)}));
    assert_eq!(host.end_of(&runs)["status"], "success");
    let problem = host.post(
        "/task/submit",
        &json!({"task_name": "echo", "trigger_time": in_ms(60_000), "expires_at": in_ms(30_000)}),
    );
    assert_eq!(problem.problem(400)["errors"][0]["pointer"], "/expires_at");
}

#[test]
fn who_is_late_is_told_while_late_and_goes_on() {
    let host = Host::with_probe();
    host.post("/queue/pause", &json!({"task_name": "echo"})).ok();
    let runs = host.submit(&json!({"task_name": "nap", "payload": {"seconds": 600}, "deadline": in_ms(1_000)}));
    let waits = host.submit(&json!({"task_name": "echo", "deadline": in_ms(1_000)}));
    // By then they cannot have ended.
    for member in [
        json!({"deadline": in_ms(-1)}),
        json!({"deadline": in_ms(60_000), "trigger_time": in_ms(60_001)}),
        json!({"deadline": "2035-01-01T00:00:00Z", "trigger_time": "2035-01-01T00:00:00Z"}),
    ] {
        let mut task = json!({"task_name": "echo"});
        task.as_object_mut()
            .expect("an object")
            .extend(member.as_object().expect("an object").clone());
        let problem = host.post("/task/submit", &task).problem(400);
        assert_eq!(problem["errors"][0]["pointer"], "/deadline", "{problem}");
    }
    let in_time = host.submit(&json!({"task_name": "noop", "deadline": in_ms(60_000)}));
    let late = || host.get("/alerts?alert_type=late").ok();
    eventually("both are late", || late().as_array().is_some_and(|alerts| alerts.len() == 2));
    let late = late();
    let of = |id: &str| {
        late.as_array()
            .and_then(|alerts| alerts.iter().find(|alert| alert["task_id"] == id))
            .cloned()
    };
    assert!(
        of(&runs).expect("an alert")["error"]
            .as_str()
            .is_some_and(|error| error.contains("running"))
    );
    assert!(
        of(&waits).expect("an alert")["error"]
            .as_str()
            .is_some_and(|error| error.contains("waiting"))
    );
    assert_eq!(host.task(&runs)["status"], "running");
    assert_eq!(host.end_of(&in_time)["status"], "success");
}

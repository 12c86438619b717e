//! Batches once they are in: counts that are right whatever happens, callbacks that come once, sweeps, cancellation.

use crate::harness::{Answer, Host, eventually, guests};
use serde_json::{Value, json};

fn lines(count: usize, line: &str) -> String {
    format!("{line}\n").repeat(count)
}

fn send(host: &Host, query: &str, body: &str) -> Answer {
    let headers = [("content-type", "application/x-ndjson")];
    host.request("POST", &format!("/tasks/batch{query}"), Some(body.as_bytes()), &headers)
}

#[track_caller]
fn id_of(answer: Answer) -> String {
    answer.ok()["batch_id"].as_str().expect("a batch_id").to_owned()
}

fn batch(host: &Host, id: &str) -> Value {
    host.get(&format!("/batch/{id}")).ok()
}

/// A batch's record once all of it has ended.
#[track_caller]
fn end_of(host: &Host, id: &str) -> Value {
    eventually("the batch ends", || {
        !["running", "cancelling"].iter().any(|word| batch(host, id)["status"] == *word)
    });
    batch(host, id)
}

fn counts(batch: &Value) -> [u64; 6] {
    ["count", "pending", "running", "success", "failed", "cancelled"].map(|member| batch[member].as_u64().expect(member))
}

/// All that there is of a list, page by page.
fn all(host: &Host, path: &str) -> Vec<Value> {
    let mut found = Vec::new();
    let mut next = Some(path.to_owned());
    while let Some(path) = next {
        let answer = host.get(&path);
        let link = answer.headers.get("link").and_then(|link| link.to_str().ok());
        next = link.and_then(|link| Some(link.split_once('<')?.1.split_once('>')?.0.to_owned()));
        found.extend(answer.ok().as_array().expect("a list").clone());
    }
    found
}

#[test]
fn a_batch_counts_its_tasks_and_calls_back_once() {
    let host = Host::with_probe();
    let body = json!({
        "name": "mixed",
        "tasks": [{"task_name": "echo"}, {"task_name": "echo", "tags": ["mine"]}, {"task_name": "fatal"}, {"task_name": "fatal"}],
        "on_success": {"task_name": "echo", "payload": {"value": "all good"}},
        "on_failure": {"task_name": "add", "payload": {"a": 1, "b": 2}},
        "on_complete": {"task_name": "echo", "payload": {"value": 12345678901234567890.5}},
    });
    let id = id_of(host.post("/tasks/batch", &body));
    let ended = end_of(&host, &id);
    assert_eq!(counts(&ended), [4, 0, 0, 2, 2, 0], "{ended}");
    assert_eq!((&ended["status"], &ended["name"]), (&json!("failed"), &json!("mixed")));
    let completed_at = ended["completed_at"].clone();
    assert!(completed_at.is_string(), "{ended}");
    let callback = |on: &str| {
        let batch = batch(&host, &id);
        let all = batch["callbacks"].as_array().expect("callbacks").clone();
        all.into_iter().find(|callback| callback["on"] == on).expect("it")
    };
    assert_eq!(callback("on_success")["task_id"], Value::Null);
    // A schema that lets no stranger in is not told the counts.
    let failure = host.end_of(callback("on_failure")["task_id"].as_str().expect("it followed"));
    assert_eq!(
        (&failure["status"], &failure["payload"]),
        (&json!("success"), &json!({"a": 1, "b": 2}))
    );
    let complete = host.end_of(callback("on_complete")["task_id"].as_str().expect("it followed"));
    let told = json!({"batch_id": id, "name": "mixed", "count": 4, "success": 2, "failed": 2, "cancelled": 0});
    assert_eq!(complete["payload"]["batch"], told);
    assert_eq!((&complete["batch_id"], &complete["status"]), (&Value::Null, &json!("success")));

    // Who is tried again is counted again, and what has followed follows no second time.
    let failed = all(&host, &format!("/tasks/history?batch_id={id}&status=failed"));
    assert_eq!(failed.len(), 2);
    let again = host
        .post(
            &format!("/task/{}/retry", failed[0]["task_id"].as_str().expect("an id")),
            &json!({}),
        )
        .ok();
    let again = host.end_of(again["task_id"].as_str().expect("an id"));
    assert_eq!((&again["batch_id"], &again["status"]), (&json!(id), &json!("failed")));
    let ended = end_of(&host, &id);
    assert_eq!((counts(&ended), &ended["completed_at"]), ([4, 0, 0, 2, 2, 0], &completed_at));
    assert_eq!(all(&host, "/tasks/history?task_name=add").len(), 1);
    assert_eq!(all(&host, &format!("/batch/{id}/tasks?limit=2")).len(), 5);
    assert_eq!(all(&host, &format!("/tasks?batch_id={id}&tag=mine")).len(), 1);
    assert_eq!(all(&host, &format!("/tasks?batch_id={id}&task_name=echo&status=success")).len(), 2);
    assert_eq!(all(&host, &format!("/tasks?batch_id={id}&status=pending")).len(), 0);
    let other = id_of(send(&host, "?name=second", &lines(1, r#"{"task_name":"echo"}"#)));
    let listed = all(&host, "/batches?limit=1");
    let listed: Vec<&str> = listed.iter().filter_map(|batch| batch["batch_id"].as_str()).collect();
    assert_eq!(listed, [other.as_str(), id.as_str()]);
    assert_eq!(end_of(&host, &other)["status"], "success");
}

#[test]
fn success_may_come_by_retries() {
    let mut host = Host::prepare();
    host.drop_plugin("probe", &guests::probe());
    std::fs::create_dir(host.path("shared")).expect("a folder");
    host.manifest(
        "probe",
        "[capabilities]\nfs = [{ host = \"shared\", guest = \"/shared\", mode = \"ro\" }]\n",
    );
    std::fs::write(host.path("taskhost.toml"), "").expect("taskhost.toml");
    host.start(&[]);
    let read = |file: &str| json!({"task_name": "file", "payload": {"path": format!("/shared/{file}")}});
    let body = json!({
        "tasks": [read("a"), read("b"), {"task_name": "echo"}],
        "on_success": {"task_name": "noop"}, "on_failure": {"task_name": "version"},
    });
    let id = id_of(host.post("/tasks/batch", &body));
    assert_eq!(counts(&end_of(&host, &id)), [3, 0, 0, 1, 2, 0]);
    for (left, file) in [(1, "a"), (0, "b")] {
        assert_eq!(all(&host, "/tasks?task_name=noop").len(), 0);
        std::fs::write(host.path("shared").join(file), "here").expect("a file");
        let failed = all(&host, &format!("/tasks/history?batch_id={id}&status=failed&task_name=file"));
        let of_file = failed.iter().find(|task| task["payload"]["path"] == format!("/shared/{file}"));
        let task = of_file.expect("it failed")["task_id"].as_str().expect("an id");
        let again = host.post(&format!("/task/{task}/retry"), &json!({})).ok();
        host.end_of(again["task_id"].as_str().expect("an id"));
        assert_eq!(counts(&end_of(&host, &id)), [3, 0, 0, 3 - left, left, 0]);
    }
    assert_eq!(all(&host, "/tasks?task_name=noop").len(), 1, "all have succeeded at last");
    assert_eq!(all(&host, "/tasks?task_name=version").len(), 1);
}

#[test]
fn callbacks_are_checked_at_the_door() {
    let host = Host::with_probe();
    let with = |member: &str, callback: Value| host.post("/tasks/batch", &json!({"tasks": [{"task_name": "echo"}], member: callback}));
    let problem = with("on_success", json!({"task_name": "nothing"})).problem(404);
    assert_eq!(problem["errors"][0]["pointer"], "/on_success/task_name", "{problem}");
    let problem = with("on_failure", json!({"task_name": "add", "payload": {"a": "x", "b": 1}})).problem(422);
    assert_eq!(problem["errors"][0]["pointer"], "/on_failure/payload/a", "{problem}");
    let problem = with("on_complete", json!({"task_name": "echo", "priority": 1})).problem(400);
    assert_eq!(problem["errors"][0]["pointer"], "/on_complete/priority", "{problem}");
    send(&host, "?on_complete=nothing", &lines(1, r#"{"task_name":"echo"}"#)).problem(404);
    send(&host, "?on_complete=add", &lines(1, r#"{"task_name":"echo"}"#)).problem(422);
    let twice = json!({"tasks": [{"task_name": "echo"}], "on_complete": {"task_name": "echo"}});
    let problem = host.post("/tasks/batch?on_complete=noop", &twice).problem(400);
    assert_eq!(problem["errors"][0]["pointer"], "/on_complete", "{problem}");
    assert_eq!(host.get("/batches").ok(), json!([]));
    host.get("/batch/0192f0c1-2345-7abc-8def-0123456789ab").problem(404);
    host.get("/batch/0192f0c1-2345-7abc-8def-0123456789ab/tasks").problem(404);
    host.delete("/batch/x").problem(404);
}

#[test]
fn a_sweep_runs_every_combination() {
    let host = Host::with_probe();
    let body = json!({
        "task_name": "echo", "payload": {"value": {"fixed": true}}, "tags": ["swept"], "priority": 2, "name": "grid",
        "grid": {"/value/a": [1, 2, 3], "/value/deep/b": ["x", "y"]},
    });
    let accepted = host.post("/tasks/batch", &body).ok();
    assert_eq!(accepted["count"], 6);
    let id = accepted["batch_id"].as_str().expect("an id");
    assert_eq!(end_of(&host, id)["status"], "success");
    let tasks = all(&host, &format!("/batch/{id}/tasks"));
    let mut made: Vec<String> = tasks.iter().map(|task| task["result"].to_string()).collect();
    made.sort();
    let mut expected = Vec::new();
    for a in 1..=3 {
        for b in ["x", "y"] {
            expected.push(json!({"fixed": true, "a": a, "deep": {"b": b}}).to_string());
        }
    }
    assert_eq!(made, expected);
    assert!(
        tasks
            .iter()
            .all(|task| task["priority"] == 2 && task["tags"] == json!(["swept", "echo", "demo"]))
    );

    for (body, status, pointer) in [
        (json!({"task_name": "echo", "grid": {"/a": []}}), 400, "/grid/~1a"),
        (json!({"task_name": "echo", "grid": {"a": [1]}}), 400, "/grid/a"),
        (
            json!({"task_name": "echo", "payload": {"value": 1}, "grid": {"/value/b": [1]}}),
            400,
            "/grid/~1value~1b",
        ),
        (json!({"task_name": "nothing", "grid": {"/a": [1]}}), 404, "/task_name"),
        (json!({"task_name": "echo", "priority": 10, "grid": {"/a": [1]}}), 400, "/priority"),
        (
            json!({"task_name": "add", "payload": {"a": 1}, "grid": {"/b": [1, "x"]}}),
            422,
            "/payload/b",
        ),
        (json!({"task_name": "echo", "tasks": [], "grid": {"/a": [1]}}), 400, "/grid"),
        (json!({"task_name": "echo", "tasks": []}), 400, "/task_name"),
        (json!({"task_name": "echo"}), 400, ""),
        (json!({"grid": {"/a": [1]}}), 400, "/task_name"),
    ] {
        let problem = host.post("/tasks/batch", &body).problem(status);
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{problem}");
    }
    assert_eq!(host.get("/batches").ok().as_array().map(Vec::len), Some(1));
}

#[test]
fn a_large_batch_is_counted_to_the_last() {
    const COUNT: usize = 10_000;
    let host = Host::with_probe();
    let mut body = lines(COUNT - 2, r#"{"task_name":"noop"}"#);
    body.push_str(&lines(2, r#"{"task_name":"fatal"}"#));
    let id = id_of(send(&host, "?on_complete=version&on_failure=version&on_success=noop", &body));
    assert_eq!(counts(&end_of(&host, &id)), [COUNT as u64, 0, 0, COUNT as u64 - 2, 2, 0]);
    eventually("both that follow have run", || {
        all(&host, "/tasks/history?task_name=version").len() == 2
    });
}

#[test]
fn a_kill_in_the_middle_loses_no_count_and_doubles_no_callback() {
    let mut host = Host::with_probe();
    let body = lines(6_000, r#"{"task_name":"noop"}"#) + &lines(5, r#"{"task_name":"fatal"}"#);
    let id = id_of(send(&host, "?on_complete=version&on_failure=snoozer", &body));
    for share in [500, 2_500, 4_500] {
        eventually("some have ended", || batch(&host, &id)["success"].as_u64() >= Some(share));
        host.kill();
        host.start(&[]);
    }
    let ended = end_of(&host, &id);
    assert_eq!(counts(&ended), [6_005, 0, 0, 6_000, 5, 0]);
    host.kill();
    host.start(&[]);
    for callback in ended["callbacks"].as_array().expect("callbacks") {
        host.end_of(callback["task_id"].as_str().expect("it followed"));
    }
    for name in ["version", "snoozer"] {
        assert_eq!(all(&host, &format!("/tasks?task_name={name}")).len(), 1, "{name}");
    }
}

#[test]
fn a_cancelled_batch_ends_with_all_that_had_not_ended() {
    let host = Host::with_probe();
    let body = lines(20, r#"{"task_name":"sleep"}"#)
        + &lines(3, r#"{"task_name":"echo"}"#)
        + &lines(
            30_000,
            r#"{"task_name":"echo","trigger_time":"2034-01-01T00:00:00Z","tags":["late"]}"#,
        );
    let id = id_of(send(&host, "?on_complete=version&on_failure=noop", &body));
    eventually("it is under way", || counts(&batch(&host, &id))[2..4] == [20, 3]);
    let answer = host.delete(&format!("/batch/{id}")).ok();
    assert!(answer["cancelled_at"].is_string(), "{answer}");
    let ended = end_of(&host, &id);
    assert_eq!(
        (counts(&ended), &ended["status"]),
        ([30_023, 0, 0, 3, 0, 30_020], &json!("cancelled"))
    );
    host.delete(&format!("/batch/{id}")).problem(409);
    eventually("the guests are stopped", || host.get("/tasks/running").ok() == json!({}));
    assert_eq!(host.get(&format!("/tasks?batch_id={id}&status=pending")).ok(), json!([]));
    let late = host
        .get(&format!("/tasks/history?batch_id={id}&tag=late&status=cancelled&limit=1000"))
        .ok();
    assert_eq!(late.as_array().map(Vec::len), Some(1_000));
    eventually("what follows has run", || all(&host, "/tasks/history?task_name=version").len() == 1);
    assert_eq!(all(&host, "/tasks?task_name=noop").len(), 0, "none failed");
}

#[test]
fn a_cancellation_survives_a_kill() {
    let mut host = Host::with_probe();
    let id = id_of(send(
        &host,
        "",
        &lines(20_000, r#"{"task_name":"echo","trigger_time":"2034-01-01T00:00:00Z"}"#),
    ));
    host.delete(&format!("/batch/{id}")).ok();
    host.kill();
    host.start(&[]);
    assert_eq!(counts(&end_of(&host, &id)), [20_000, 0, 0, 0, 0, 20_000]);
}

//! Workflows: refused where they could never work, run in their order, passed on, failed, cancelled and taken up again.

use crate::harness::{Host, eventually};
use serde_json::{Value, json};

fn step(key: &str, task_name: &str, needs: &[&str]) -> Value {
    json!({"key": key, "task_name": task_name, "needs": needs, "max_retries": 0})
}

fn gather(key: &str, needs: &[&str]) -> Value {
    let mut step = step(key, "gather", needs);
    step["payload"] = json!({"keys": ["a", "b", "c", "bad", "slow"]});
    step
}

fn echo(key: &str, value: &Value, needs: &[&str]) -> Value {
    let mut step = step(key, "echo", needs);
    step["payload"] = json!({ "value": value });
    step
}

#[track_caller]
fn submit(host: &Host, body: &Value) -> String {
    host.post("/workflow", body).ok()["workflow_id"].as_str().expect("an id").to_owned()
}

fn get(host: &Host, id: &str) -> Value {
    host.get(&format!("/workflow/{id}")).ok()
}

#[track_caller]
fn end_of(host: &Host, id: &str) -> Value {
    eventually("the workflow ends", || get(host, id)["status"] != "running");
    get(host, id)
}

/// The status of each step, in the order of the request.
fn statuses(workflow: &Value) -> Vec<(&str, &str)> {
    let steps = workflow["steps"].as_object().expect("steps").iter();
    steps
        .map(|(key, step)| (key.as_str(), step["status"].as_str().expect("a status")))
        .collect()
}

fn task_of(host: &Host, workflow: &Value, key: &str) -> Value {
    host.task(workflow["steps"][key]["task_id"].as_str().expect("a task"))
}

#[test]
fn what_could_never_run_is_refused() {
    let host = Host::with_probe();
    for (steps, status, pointer, word) in [
        (json!([]), 400, "/steps", "at least one"),
        (
            json!([step("a", "echo", &["b"]), step("b", "echo", &["a"])]),
            400,
            "/steps/0/needs",
            "a → b → a",
        ),
        (json!([step("a", "echo", &["b"])]), 400, "/steps/0/needs/0", "\"b\""),
        (json!([step("a", "echo", &["a"])]), 400, "/steps/0/needs/0", "itself"),
        (
            json!([step("a", "echo", &[]), step("a", "echo", &[])]),
            400,
            "/steps/1/key",
            "already",
        ),
        (json!([step("a", "echoo", &[])]), 404, "/steps/0/task_name", "echo"),
        (
            json!([step("a", "echo", &[]), step("b", "add", &[])]),
            422,
            "/steps/1/payload",
            "required",
        ),
        (
            json!([{"key": "a", "task_name": "echo", "when": "soon"}]),
            400,
            "/steps/0/when",
            "all_success",
        ),
        (
            json!([{"key": "a", "task_name": "echo", "timeout": 1e9}]),
            400,
            "/steps/0/timeout",
            "at most",
        ),
        (
            json!([{"key": "a", "task_name": "echo", "retries": 1}]),
            400,
            "/steps/0/retries",
            "unknown",
        ),
    ] {
        let problem = host.post("/workflow", &json!({ "steps": steps })).problem(status);
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{problem}");
        assert!(problem["detail"].as_str().expect("a detail").contains(word), "{problem}");
    }
    host.post("/workflow", &json!({"steps": [step("a", "echo", &[])], "on_failure": "stop"}))
        .problem(400);
    assert_eq!((host.get("/workflows").ok(), host.get("/tasks").ok()), (json!([]), json!([])));
    host.get("/workflow/0192f0c1-2345-7abc-8def-0123456789ab").problem(404);
    host.delete("/workflow/0192f0c1-2345-7abc-8def-0123456789ab").problem(404);
    host.post("/workflow/x/step/a/retry", &json!({})).problem(404);
}

#[test]
fn steps_run_after_their_needs_and_get_their_results() {
    let host = Host::with_probe();
    let big = json!({"price": 0.1, "list": [1, 2]});
    let id = submit(
        &host,
        &json!({"name": "diamond", "steps": [
            gather("d", &["b", "c"]), echo("b", &big, &["a"]), echo("c", &json!("c's"), &["a"]), echo("a", &json!(7), &[]),
        ]}),
    );
    let waiting = get(&host, &id);
    assert!(waiting["steps"]["d"]["task_id"].is_string(), "all tasks exist from the start");
    let ended = end_of(&host, &id);
    assert_eq!(
        statuses(&ended),
        [("a", "success"), ("b", "success"), ("c", "success"), ("d", "success")],
        "{ended}"
    );
    assert_eq!((&ended["status"], &ended["name"]), (&json!("success"), &json!("diamond")));
    let d = task_of(&host, &ended, "d");
    assert_eq!(d["result"], json!({"b": big, "c": "c's"}), "its needs, and no more");
    assert_eq!(d["workflow_id"], json!(id));
    for (before, after) in [("a", "b"), ("a", "c"), ("b", "d"), ("c", "d")] {
        let time = |key: &str, member: &str| task_of(&host, &ended, key)[member].as_str().expect("a time").to_owned();
        assert!(time(before, "completed_at") <= time(after, "started_at"), "{before} before {after}");
    }
    let listed = host.get("/workflows").ok();
    assert_eq!((&listed[0]["workflow_id"], &listed[0]["status"]), (&json!(id), &json!("success")));
    host.delete(&format!("/workflow/{id}")).problem(409);
}

#[test]
fn a_step_that_waits_is_seen_to() {
    let host = Host::with_probe();
    let id = submit(
        &host,
        &json!({"steps": [step("slow", "sleep", &[]), echo("b", &json!(1), &["slow"])]}),
    );
    eventually("the first runs", || get(&host, &id)["steps"]["slow"]["status"] == "running");
    let workflow = get(&host, &id);
    assert_eq!(
        (&workflow["steps"]["b"]["status"], &workflow["steps"]["b"]["blocked"]),
        (&json!("pending"), &json!(true))
    );
    assert_eq!(task_of(&host, &workflow, "b")["phase"], "blocked");
    let scheduled = host.get("/tasks/scheduled").ok();
    assert_eq!(
        (&scheduled[0]["phase"], scheduled.as_array().map(Vec::len)),
        (&json!("blocked"), Some(1))
    );
    let cancelled = host.delete(&format!("/workflow/{id}")).ok();
    assert_eq!(
        (&cancelled["status"], statuses(&cancelled)),
        (&json!("cancelled"), vec![("b", "cancelled"), ("slow", "cancelled")])
    );
    eventually("the guest is stopped", || host.get("/tasks/running").ok() == json!({}));
    assert_eq!(host.get("/tasks/scheduled").ok(), json!([]));
}

#[test]
fn what_follows_a_failure_is_cancelled_or_goes_on_as_it_was_told() {
    let host = Host::with_probe();
    let steps = |when: Option<&str>| {
        let mut after = gather("after", &["bad"]);
        after["when"] = json!(when);
        let mut clean = gather("clean", &["after", "a"]);
        clean["when"] = json!("all_done");
        let mut either = gather("either", &["bad", "a"]);
        either["when"] = json!("any_success");
        json!([echo("a", &json!(1), &[]), step("bad", "fatal", &[]), after, clean, either])
    };
    for (on_failure, when, after) in [
        ("cancel_descendants", None, "cancelled"),
        ("continue", None, "success"),
        ("continue", Some("all_success"), "cancelled"),
        ("cancel_descendants", Some("all_done"), "success"),
    ] {
        let id = submit(&host, &json!({"steps": steps(when), "on_failure": on_failure}));
        let ended = end_of(&host, &id);
        let expected = [
            ("a", "success"),
            ("after", after),
            ("bad", "failed"),
            ("clean", "success"),
            ("either", "success"),
        ];
        assert_eq!(statuses(&ended), expected, "{on_failure} {when:?}");
        assert_eq!(ended["status"], "failed", "what comes after a failure does not hide it");
        let error = ended["steps"]["after"]["error"].as_str().unwrap_or_default();
        assert_eq!(after == "cancelled", error.contains("\"bad\", which it needs, failed"), "{ended}");
        assert_eq!(task_of(&host, &ended, "either")["result"], json!({"a": 1}));
    }
    // A way that failed beside one that did not.
    let mut either = gather("either", &["bad", "a"]);
    either["when"] = json!("any_success");
    let id = submit(
        &host,
        &json!({"steps": [echo("a", &json!(1), &[]), step("bad", "fatal", &[]), either]}),
    );
    assert_eq!(end_of(&host, &id)["status"], "success");
}

#[test]
fn a_retried_step_resumes_downstream_only() {
    let mut host = Host::prepare();
    host.drop_plugin("probe", &crate::harness::guests::probe());
    std::fs::create_dir(host.path("shared")).expect("a folder");
    host.manifest(
        "probe",
        "[capabilities]\nfs = [{ host = \"shared\", guest = \"/shared\", mode = \"ro\" }]\n",
    );
    std::fs::write(host.path("taskhost.toml"), "").expect("taskhost.toml");
    host.start(&[]);
    let mut read = step("b", "file", &["a"]);
    read["payload"] = json!({"path": "/shared/late.txt"});
    let mut tidy = step("tidy", "echo", &["b"]);
    tidy["when"] = json!("all_done");
    let id = submit(
        &host,
        &json!({"steps": [echo("a", &json!(1), &[]), read, gather("c", &["b"]), gather("d", &["c"]), tidy]}),
    );
    let first = end_of(&host, &id);
    let expected = [
        ("a", "success"),
        ("b", "failed"),
        ("c", "cancelled"),
        ("d", "cancelled"),
        ("tidy", "success"),
    ];
    assert_eq!((&first["status"], statuses(&first)), (&json!("failed"), expected.to_vec()));
    let refused = |key: &str, status: u16| host.post(&format!("/workflow/{id}/step/{key}/retry"), &json!({})).problem(status);
    assert!(
        refused("a", 409)["detail"]
            .as_str()
            .is_some_and(|detail| detail.contains("succeeded"))
    );
    assert!(refused("d", 409)["detail"].as_str().is_some_and(|detail| detail.contains("\"c\"")));
    refused("e", 404);

    std::fs::write(host.path("shared/late.txt"), "here").expect("a file");
    let answer = host.post(&format!("/workflow/{id}/step/b/retry"), &json!({})).ok();
    assert_eq!(
        (&answer["retry_of"], &answer["reset"]),
        (&first["steps"]["b"]["task_id"], &json!(["c", "d"]))
    );
    let second = end_of(&host, &id);
    assert_eq!(second["status"], "success", "{second}");
    for (key, replaced) in [("a", false), ("b", true), ("c", true), ("d", true), ("tidy", false)] {
        assert_eq!(first["steps"][key]["task_id"] != second["steps"][key]["task_id"], replaced, "{key}");
    }
    assert_eq!(task_of(&host, &second, "c")["result"], json!({"b": "here"}));
    let before = host.task(first["steps"]["b"]["task_id"].as_str().expect("a task"));
    assert_eq!(
        (&before["status"], &task_of(&host, &second, "b")["retry_of"]),
        (&json!("failed"), &before["task_id"])
    );
    assert_eq!(task_of(&host, &second, "b")["idempotency_key"], before["idempotency_key"]);
    host.post(&format!("/task/{}/retry", before["task_id"].as_str().expect("an id")), &json!({}))
        .problem(409);
}

#[test]
fn a_task_of_a_step_is_retried_and_cancelled_as_the_step() {
    let host = Host::with_probe();
    let id = submit(
        &host,
        &json!({"steps": [step("bad", "fatal", &[]), echo("b", &json!(1), &["bad"])]}),
    );
    let first = end_of(&host, &id);
    let task = first["steps"]["bad"]["task_id"].as_str().expect("a task");
    let again = host.post(&format!("/task/{task}/retry"), &json!({})).ok();
    eventually("the workflow goes on and ends again", || get(&host, &id)["status"] == "failed");
    let second = get(&host, &id);
    assert_eq!(second["steps"]["bad"]["task_id"], again["task_id"]);
    assert_ne!(second["steps"]["b"]["task_id"], first["steps"]["b"]["task_id"]);

    let mut clean = echo("clean", &json!(1), &["b"]);
    clean["when"] = json!("all_done");
    let id = submit(
        &host,
        &json!({"steps": [step("slow", "sleep", &[]), echo("b", &json!(1), &["slow"]), clean]}),
    );
    let slow = get(&host, &id)["steps"]["slow"]["task_id"].as_str().expect("a task").to_owned();
    host.wait_for(&slow, "running");
    host.delete(&format!("/task/cancel/{slow}")).ok();
    let ended = end_of(&host, &id);
    let expected = [("b", "cancelled"), ("clean", "success"), ("slow", "cancelled")];
    assert_eq!((&ended["status"], statuses(&ended)), (&json!("cancelled"), expected.to_vec()));
}

#[test]
fn a_kill_stops_no_workflow() {
    let mut host = Host::with_probe();
    let mut steps = vec![echo("s0", &json!(0), &[])];
    for n in 1..60 {
        let before = format!("s{}", n - 1);
        steps.push(echo(&format!("s{n}"), &json!(n), &[&before]));
    }
    let mut last = gather("last", &["s59", "s30"]);
    last["payload"] = json!({"keys": ["s59", "s30"]});
    steps.push(last);
    let id = submit(&host, &json!({ "steps": steps }));
    for n in [5, 25, 45] {
        eventually("it moves on", || get(&host, &id)["steps"][format!("s{n}")]["status"] == "success");
        host.kill();
        host.start(&[]);
    }
    let ended = end_of(&host, &id);
    assert_eq!(ended["status"], "success", "{ended}");
    assert_eq!(task_of(&host, &ended, "last")["result"], json!({"s59": 59, "s30": 30}));
    let all = host.get("/tasks/history?task_name=echo&limit=1000").ok();
    assert_eq!(all.as_array().map(Vec::len), Some(60), "each step ran once");
}

#[test]
fn a_thousand_steps_come_together() {
    let host = Host::with_probe();
    let keys: Vec<String> = (0..999).map(|n| format!("s{n}")).collect();
    let mut steps: Vec<Value> = keys.iter().map(|key| step(key, "noop", &[])).collect();
    let mut last = step("last", "gather", &keys.iter().map(String::as_str).collect::<Vec<_>>());
    last["payload"] = json!({"keys": ["s0"]});
    steps.insert(0, last);
    let id = submit(&host, &json!({ "steps": steps }));
    let ended = end_of(&host, &id);
    assert_eq!(
        (&ended["status"], &ended["steps"]["last"]["status"]),
        (&json!("success"), &json!("success"))
    );
}

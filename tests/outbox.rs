//! What an attempt emits and submits: granted, bounded, real once the attempt is ok, and then exactly once.

use crate::harness::{Host, eventually, guests, taskhost};
use serde_json::{Value, json};
use std::collections::BTreeSet;

const GRANTS: &str = "[capabilities]\nevents = [\"test.*\", \"loop\"]\nsubmit = [\"*\"]\n";

/// A host whose probe has this manifest.
fn host_with(manifest: &str, config: &str) -> Host {
    let mut host = Host::prepare();
    host.drop_plugin("probe", &guests::probe());
    host.manifest("probe", manifest);
    std::fs::write(host.path("taskhost.toml"), config).expect("taskhost.toml");
    host.start(&[]);
    host
}

fn history(host: &Host, task_name: &str) -> Vec<Value> {
    let list = host.get(&format!("/tasks/history?limit=1000&task_name={task_name}")).ok();
    list.as_array().expect("a list").clone()
}

fn payloads(tasks: &[Value]) -> BTreeSet<i64> {
    tasks.iter().filter_map(|task| task["payload"]["value"].as_i64()).collect()
}

/// The only answer of a `send`.
#[track_caller]
fn answer(task: &Value) -> &Value {
    assert_eq!(
        (&task["status"], task["result"].as_array().map(Vec::len)),
        (&json!("success"), Some(1)),
        "{task}"
    );
    &task["result"][0]
}

#[test]
fn what_was_emitted_and_submitted_becomes_real_once_the_attempt_is_ok_and_never_otherwise() {
    let host = host_with(GRANTS, "");
    let trigger = json!({"task_name": "echo", "event_type": "test.done", "payload": {"value": 0}});
    let trigger = host.post("/task/event-trigger", &trigger).ok()["task_id"].clone();
    let send = |n: i64, end: &str| {
        let child = json!({"task_name": "echo", "payload": {"value": n + 100}, "tags": ["child"]});
        let payload = json!({"emit": [["test.done", {"value": n}]], "submit": [child], "end": end});
        host.run_with(&json!({"task_name": "send", "payload": payload, "timeout": if end == "sleep" { 0.5 } else { 30.0 }}))
    };
    for (n, end, outcome) in [(1, "fail", "error"), (2, "panic", "trap"), (3, "sleep", "timeout")] {
        assert_eq!(send(n, end)["attempts"][0]["outcome"], outcome);
    }
    let cancelled = json!({"task_name": "send", "payload": {"emit": [["test.done", {"value": 4}]], "end": "sleep"}});
    let cancelled = host.submit(&cancelled);
    host.wait_for(&cancelled, "running");
    host.delete(&format!("/task/cancel/{cancelled}")).ok();
    let parent = send(5, "");
    let child = parent["result"][1].as_str().expect("the child's id");
    eventually("the child is delivered", || {
        host.get(&format!("/task/status/{child}")).status == 200
    });
    let child = host.end_of(child);
    assert_eq!(
        (&child["result"], &child["parent_task_id"], &child["idempotency_key"]),
        (&json!(105), &parent["task_id"], &child["task_id"]),
        "{child}"
    );
    assert_eq!(child["tags"], json!(["child", "echo", "demo"]));
    eventually("the event has fired its trigger", || history(&host, "echo").len() == 2);
    let fired = history(&host, "echo");
    assert_eq!(payloads(&fired), BTreeSet::from([5, 105]));
    assert!(
        fired
            .iter()
            .any(|task| task["trigger_id"] == trigger && task["parent_task_id"].is_null())
    );
}

#[test]
fn a_child_knows_its_parent_and_waits_for_its_time() {
    let host = host_with(GRANTS, "");
    let later = json!({"task_name": "noop", "trigger_time": "2030-01-01T00:00:00Z", "priority": 1, "max_retries": 7});
    let sent = host.run("send", &json!({"submit": [later]}));
    let id = answer(&sent).as_str().expect("an id").to_owned();
    eventually("the child is there", || host.get(&format!("/task/status/{id}")).status == 200);
    let child = host.task(&id);
    assert_eq!(
        (
            &child["status"],
            &child["priority"],
            &child["max_retries"],
            &child["parent_task_id"]
        ),
        (&json!("pending"), &json!(1), &json!(7), &sent["task_id"]),
        "{child}"
    );
    assert_eq!(child["trigger_time"], "2030-01-01T00:00:00Z");
}

#[test]
fn without_a_grant_the_answer_and_the_log_name_the_line_that_would_grant_it() {
    let host = host_with("[capabilities]\nevents = [\"other.*\"]\n", "");
    let emitted = host.run("emitter", &json!({}));
    let error = emitted["error"].as_str().expect("an error");
    assert!(
        error.contains("denied") && error.contains("probe.toml") && error.contains("events = [\"test.event\"]"),
        "{error}"
    );
    let payload = json!({"submit": [{"task_name": "noop"}], "times": 3});
    let denied = host.run("send", &payload);
    assert!(
        denied["result"][2]["message"]
            .as_str()
            .is_some_and(|text| text.contains("submit = [\"noop\"]")),
        "{denied}"
    );
    let log = host.get(&format!("/task/{}/logs", denied["task_id"].as_str().expect("an id"))).ok();
    let notes: Vec<&Value> = log
        .as_array()
        .expect("lines")
        .iter()
        .filter(|line| line["source"] == "host")
        .collect();
    assert_eq!(notes.len(), 1, "said once: {log}");
    assert!(
        notes[0]["message"]
            .as_str()
            .is_some_and(|text| text.contains("submit = [\"noop\"]")),
        "{log}"
    );

    let plugin = host.get("/plugin/probe").ok();
    let granted = |name: &str| {
        let imports = plugin["imports"].as_array().expect("imports");
        imports
            .iter()
            .find(|import| import["name"].as_str().is_some_and(|known| known.contains(name)))
            .expect(name)["granted"]
            .clone()
    };
    assert_eq!((granted("plugin/events"), granted("plugin/tasks")), (json!(true), json!(false)));
    assert_eq!(plugin["grants"], json!(["may emit events other.*"]));
}

#[test]
fn what_cannot_run_is_refused_at_once_with_its_place() {
    let host = host_with("[capabilities]\nevents = [\"e\"]\nsubmit = [\"add\", \"ad*\", \"nobody\"]\n", "");
    let refused = |payload: Value| answer(&host.run("send", &payload)).clone();
    for (request, kind, pointer, word) in [
        (json!({"task_name": "nobody"}), "invalid_input", "/task_name", "no loaded plugin"),
        (json!({"task_name": "ad"}), "invalid_input", "/task_name", "add"),
        (json!({"task_name": "add", "payload": {"a": 1}}), "invalid_input", "/payload", "b"),
        (
            json!({"task_name": "add", "priority": 10}),
            "invalid_input",
            "/priority",
            "1 (most urgent)",
        ),
        (json!({"task_name": "add", "colour": 1}), "invalid_input", "/colour", "colour"),
        (
            json!({"task_name": "add", "trigger_time": "2999-01-01T00:00:00Z"}),
            "invalid_input",
            "/trigger_time",
            "ten years",
        ),
    ] {
        let answer = refused(json!({"submit": [request]}));
        assert_eq!(
            (&answer["kind"], &answer["details"]["errors"][0]["pointer"]),
            (&json!(kind), &json!(pointer)),
            "{answer}"
        );
        assert!(answer["message"].as_str().is_some_and(|text| text.contains(word)), "{answer}");
    }
    for (event, word) in [
        (json!(["e e", {}]), "1 to 256 characters"),
        (json!(["e", {"x": "x".repeat(1_100_000)}]), "1048576 bytes"),
    ] {
        let answer = refused(json!({"emit": [event]}));
        assert!(answer["message"].as_str().is_some_and(|text| text.contains(word)), "{answer}");
    }
    let workflow = refused(json!({"workflows": [{"steps": []}]}));
    assert!(workflow["kind"].is_string(), "{workflow}");
}

#[test]
fn each_cap_of_an_attempt_trips() {
    let host = host_with(GRANTS, "[executor]\nmax_emits = 3\nmax_submits = 2\noutbox_limit = \"2 KiB\"\n");
    let sent = host.run(
        "send",
        &json!({"emit": [["test.x", {}]], "submit": [{"task_name": "noop"}], "times": 4}),
    );
    let answers = sent["result"].as_array().expect("answers");
    let refused: Vec<(usize, &str)> = answers
        .iter()
        .enumerate()
        .filter_map(|(n, answer)| Some((n, answer["message"].as_str()?)))
        .collect();
    assert_eq!(refused.iter().map(|(n, _)| *n).collect::<Vec<_>>(), [5, 6, 7], "{sent}");
    assert!(
        refused[0].1.contains("executor.max_submits") && refused[1].1.contains("executor.max_emits"),
        "{sent}"
    );
    let large = host.run("send", &json!({"emit": [["test.x", {"x": "x".repeat(3_000)}]]}));
    assert!(
        answer(&large)["message"]
            .as_str()
            .is_some_and(|text| text.contains("executor.outbox_limit")),
        "{large}"
    );
    eventually("what was within the caps is there", || history(&host, "noop").len() == 2);
}

#[test]
fn loops_of_events_and_of_submissions_end() {
    let host = host_with(GRANTS, "");
    let around = json!({"task_name": "send", "event_type": "loop", "payload": {"emit": [["loop", {}]]}});
    host.post("/task/event-trigger", &around).ok();
    host.post("/event/trigger/loop", &json!({})).ok();
    host.submit(&json!({"task_name": "again"}));
    eventually("the last of the chain has failed", || {
        history(&host, "again").iter().any(|task| task["status"] == "failed")
    });
    eventually("the events went around", || history(&host, "send").len() >= 17);
    for name in ["again", "send"] {
        assert_eq!(history(&host, name).len(), 17, "{name}");
    }
    let failed: Vec<Value> = history(&host, "again")
        .into_iter()
        .filter(|task| task["status"] == "failed")
        .collect();
    assert!(
        failed[0]["error"].as_str().is_some_and(|error| error.contains("chain of 16")),
        "{failed:?}"
    );
    let stopped = history(&host, "send").iter().filter(|task| answer(task)["kind"] == "fatal").count();
    assert_eq!(stopped, 1);
}

#[test]
fn a_kill_between_the_settling_and_the_delivery_loses_nothing_and_doubles_nothing() {
    let mut host = host_with(GRANTS, "");
    host.post("/task/event-trigger", &json!({"task_name": "echo", "event_type": "test.done"}))
        .ok();
    let events: Vec<Value> = (0..300).map(|n| json!(["test.done", {"value": n}])).collect();
    let children: Vec<Value> = (300..600).map(|n| json!({"task_name": "echo", "payload": {"value": n}})).collect();
    let sent = host.run("send", &json!({"emit": events, "submit": children}));
    host.kill();
    host.start(&[]);
    eventually("all is delivered", || payloads(&history(&host, "echo")).len() == 600);
    let echoed = history(&host, "echo");
    assert_eq!(echoed.len(), 600);
    let ids: BTreeSet<&str> = echoed.iter().filter_map(|task| task["task_id"].as_str()).collect();
    let promised = sent["result"].as_array().expect("ids").iter().skip(300).filter_map(Value::as_str);
    assert_eq!(promised.filter(|id| ids.contains(id)).count(), 300);
}

#[test]
fn without_a_server_what_is_sent_is_shown_and_goes_nowhere() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("probe.wasm"), guests::probe()).expect("the probe");
    std::fs::write(folder.path().join("probe.toml"), GRANTS).expect("its manifest");
    let payload = json!({"emit": [["test.x", {"a": 1}]], "submit": [{"task_name": "elsewhere"}]}).to_string();
    let mut command = taskhost();
    let ran = command
        .args(["plugin", "run", "probe.wasm", "send", "--json", "--payload", &payload])
        .current_dir(folder.path())
        .output()
        .expect("taskhost");
    let run: Value = serde_json::from_slice(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:?}"));
    assert_eq!(
        (
            &run["emitted"][0]["event_type"],
            &run["emitted"][0]["data"],
            &run["submitted"][0]["request"]["task_name"]
        ),
        (&json!("test.x"), &json!({"a": 1}), &json!("elsewhere")),
        "{run}"
    );
}

#[test]
fn a_plugin_that_sends_nothing_asks_for_no_grant() {
    let mut command = taskhost();
    let checked = command
        .args(["plugin", "check", "--json"])
        .arg(guests::path("backtest"))
        .output()
        .expect("taskhost");
    let plugin: Value = serde_json::from_slice(&checked.stdout).unwrap_or_else(|error| panic!("{error}: {checked:?}"));
    let imports = plugin["imports"].to_string();
    assert!(imports.contains("plugin/context") || imports.contains("plugin/log"), "{imports}");
    assert!(!imports.contains("plugin/events") && !imports.contains("plugin/tasks"), "{imports}");
}

//! Every limit of an attempt, tripped by a handler that does not keep to it.

use crate::harness::{Host, eventually};
use serde_json::{Value, json};
use std::time::Duration;

fn outcome(task: &Value) -> String {
    format!(
        "{} {}",
        task["status"].as_str().unwrap_or_default(),
        task["error_code"].as_str().unwrap_or_default()
    )
}

#[test]
fn a_handler_is_stopped_at_its_timeout_wherever_it_is() {
    let mut host = Host::prepare();
    host.drop_plugin("probe", &crate::harness::guests::probe());
    host.start(&[]);
    for name in ["spin", "sleep", "busy", "restless"] {
        let task = host.run_with(&json!({"task_name": name, "timeout": 0.5, "max_retries": 0}));
        assert_eq!(outcome(&task), "failed timeout", "{name}: {task}");
        let ran = task["attempts"][0]["execution_time"].as_f64().expect("a time");
        assert!(ran >= 0.5, "{name} was stopped after {ran} s");
    }
}

#[test]
fn cancelling_stops_a_handler_wherever_it_is() {
    let host = Host::with_probe();
    for name in ["spin", "sleep", "busy", "restless"] {
        let id = host.submit(&json!({"task_name": name}));
        host.wait_for(&id, "running");
        assert_eq!(
            host.delete(&format!("/task/cancel/{id}")).ok(),
            json!({"task_id": id, "status": "cancelled"})
        );
        assert_eq!(host.task(&id)["status"], "cancelled");
        host.delete(&format!("/task/cancel/{id}")).problem(409);
    }
    // Whether a guest is really gone shows in the CPU that it burns; how soon, in the next test.
    eventually("the host is idle", || cpu_share(host.pid(), Duration::from_millis(100)) < 0.2);
}

/// How much of a core a process used while this waited.
fn cpu_share(pid: u32, span: Duration) -> f64 {
    let ticks = || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("a process");
        let rest = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
        rest.skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum::<f64>()
    };
    let before = ticks();
    std::thread::sleep(span);
    (ticks() - before) / 100.0 / span.as_secs_f64()
}

#[test]
fn a_slot_is_free_again_after_a_cancellation() {
    let mut host = Host::prepare();
    host.drop_plugin("probe", &crate::harness::guests::probe());
    host.start(&["--slots", "1"]);
    for name in ["spin", "sleep", "busy", "restless"] {
        let id = host.submit(&json!({"task_name": name}));
        host.wait_for(&id, "running");
        let next = host.submit(&json!({"task_name": "noop"}));
        assert_eq!(host.task(&next)["status"], "pending");
        host.delete(&format!("/task/cancel/{id}")).ok();
        eventually("the next task runs", || host.task(&next)["status"] == "success");
    }
}

#[test]
fn with_a_grace_a_cancelled_handler_sees_it_and_cleans_up() {
    let mut host = Host::prepare();
    host.drop_plugin("probe", &crate::harness::guests::probe());
    std::fs::write(host.path("taskhost.toml"), "[worker]\ncancel_grace = 10.0\nslots = 1\n").expect("taskhost.toml");
    host.start(&[]);
    let id = host.submit(&json!({"task_name": "polite"}));
    host.wait_for(&id, "running");
    host.delete(&format!("/task/cancel/{id}")).ok();
    assert_eq!(host.run("noop", &json!({}))["status"], "success");
    assert_eq!(host.task(&id)["status"], "cancelled");
    crate::harness::eventually("what it said last is kept", || {
        host.get(&format!("/task/{id}/logs")).ok().to_string().contains("cleaning up")
    });
}

#[test]
fn memory_fuel_stack_and_panics_end_the_attempt_and_nothing_else() {
    let host = Host::with_probe();
    let cases = [
        ("allocate", "failed out_of_memory"),
        ("recurse", "failed trap"),
        ("panics", "failed trap"),
    ];
    for (name, expected) in cases {
        let task = host.run(name, &json!({}));
        assert_eq!(outcome(&task), expected, "{task}");
        let attempt = &task["attempts"][0];
        assert!(attempt["fuel_used"].as_u64() > Some(0), "{attempt}");
        assert!(attempt["peak_memory_bytes"].as_u64() > Some(0), "{attempt}");
        assert!(
            attempt["plugin_digest"]
                .as_str()
                .is_some_and(|digest| digest.starts_with("sha256:")),
            "{attempt}"
        );
    }
    let panicked = host.run("panics", &json!({}));
    assert!(
        panicked["error"].as_str().is_some_and(|error| error.contains("the moon is full")),
        "{panicked}"
    );
    assert_eq!(host.run("echo", &json!({"value": "well"}))["result"], "well");
}

#[test]
fn the_operators_fuel_memory_and_timeout_bound_a_plugin() {
    let mut host = Host::prepare();
    host.drop_plugin("probe", &crate::harness::guests::probe());
    host.manifest("probe", "[limits]\ntimeout = 20\nfuel = 50_000_000\nmemory = \"16MiB\"\n");
    host.start(&[]);
    let task = host.run("spin", &json!({}));
    assert_eq!(outcome(&task), "failed out_of_fuel", "{task}");
    assert_eq!(task["attempts"][0]["fuel_used"], 50_000_000);
    let task = host.run("allocate", &json!({}));
    assert_eq!(outcome(&task), "failed out_of_memory", "{task}");
    assert!(task["attempts"][0]["peak_memory_bytes"].as_u64() <= Some(16 << 20), "{task}");
    let refused = host.post("/task/submit", &json!({"task_name": "spin", "timeout": 21})).problem(400);
    assert_eq!(refused["errors"][0]["pointer"], "/timeout");
}

#[test]
fn an_oversized_result_fails_the_attempt_and_the_largest_allowed_one_does_not() {
    let mut host = Host::prepare();
    host.drop_plugin("probe", &crate::harness::guests::probe());
    host.manifest("probe", "[limits]\nmemory = \"1GiB\"\n");
    host.start(&[]);
    let limit = 4 << 20;
    let fits = host.run("big_result", &json!({"bytes": limit - 2}));
    assert_eq!(fits["result"].as_str().map(str::len), Some(limit - 2));
    for bytes in [limit - 1, 100 << 20] {
        let task = host.run("big_result", &json!({"bytes": bytes}));
        assert_eq!(outcome(&task), "failed result_too_large", "{}", task["error"]);
        assert_eq!(
            task["attempts"].as_array().map(Vec::len),
            Some(1),
            "repeating it makes it no smaller"
        );
    }
}

#[test]
fn a_flood_of_lines_is_cut_with_a_note() {
    let host = Host::with_probe();
    let task = host.run_with(&json!({"task_name": "flood", "timeout": 3}));
    assert_eq!(outcome(&task), "failed timeout");
    let id = task["task_id"].as_str().expect("an id");
    let (mut bytes, mut last, mut path) = (0, json!(null), format!("/task/{id}/logs"));
    loop {
        let answer = host.get(&path);
        let next = answer.headers.get("link").and_then(|link| link.to_str().ok()).map(str::to_owned);
        let lines = answer.ok();
        for line in lines.as_array().expect("lines") {
            bytes += line["message"].as_str().map_or(0, str::len);
            last = line.clone();
        }
        match next {
            Some(link) => path = link.split(['<', '>']).nth(1).expect("a link").to_owned(),
            None => break,
        }
    }
    assert!((1 << 20..=4 << 20).contains(&bytes), "{bytes}");
    assert_eq!(last["source"], "host", "{last}");
}

#[test]
fn calls_to_the_host_are_throttled() {
    let mut host = Host::prepare();
    host.drop_plugin("probe", &crate::harness::guests::probe());
    std::fs::write(host.path("taskhost.toml"), "[executor]\ncalls_per_second = 200\n").expect("taskhost.toml");
    host.start(&[]);
    let id = host.submit(&json!({"task_name": "busy", "timeout": 2, "max_retries": 0}));
    let task = host.end_of(&id);
    let calls = task["progress"]["done"].as_u64().expect("calls");
    assert!(
        (300..=700).contains(&calls),
        "{calls} calls in 2 s at 200 a second and a burst of 200"
    );
}

#[test]
fn with_every_slot_burning_cpu_the_api_answers_at_once() {
    let host = Host::with_probe();
    let spinning: Vec<String> = (0..64).map(|_| host.submit(&json!({"task_name": "spin", "timeout": 60}))).collect();
    host.wait_for(&spinning[0], "running");
    (0..100).for_each(|_| drop(host.get("/healthz").ok()));
    assert_eq!(host.run("noop", &json!({}))["status"], "success", "and others run");
}

#[test]
fn what_was_not_granted_is_not_there() {
    let host = Host::with_probe();
    let around = host.run("surroundings", &json!({}));
    assert_eq!(around["result"], json!({"environment": [], "connected": false}));
    for path in ["/etc/passwd", "taskhost.toml", "../data", "/prices/a.csv"] {
        assert_eq!(outcome(&host.run("file", &json!({"path": path}))), "failed fatal", "{path}");
    }
    let emitted = host.run("emitter", &json!({}));
    assert_eq!(emitted["status"], "failed");
    assert!(emitted["error"].as_str().is_some_and(|error| error.contains("denied")), "{emitted}");
}

#[test]
fn granted_folders_and_variables_are_there_and_nothing_beside_them() {
    let mut host = Host::prepare();
    for folder in ["prices", "reports", "secrets"] {
        std::fs::create_dir(host.path(folder)).expect("a folder");
    }
    std::fs::write(host.path("prices/a.csv"), "1,2").expect("a file");
    std::fs::write(host.path("secrets/key"), "k").expect("a file");
    std::os::unix::fs::symlink(host.path("secrets/key"), host.path("prices/link")).expect("a link");
    host.drop_plugin("probe", &crate::harness::guests::probe());
    host.manifest(
        "probe",
        r#"[capabilities]
env = { REGION = "eu" }
fs = [{ host = "prices", guest = "/prices", mode = "ro" }, { host = "reports", guest = "/reports", mode = "rw" }]
"#,
    );
    host.start(&[]);
    let file = |payload: Value| host.run("file", &payload);
    assert_eq!(file(json!({"path": "/prices/a.csv"}))["result"], "1,2");
    assert_eq!(file(json!({"path": "/reports/r.txt", "write": "done"}))["status"], "success");
    assert_eq!(std::fs::read_to_string(host.path("reports/r.txt")).expect("a report"), "done");
    for payload in [
        json!({"path": "/prices/b.csv", "write": "x"}),
        json!({"path": "/prices/a.csv", "write": "x"}),
        json!({"path": "/prices/../secrets/key"}),
        json!({"path": "/prices/link"}),
        json!({"path": "/secrets/key"}),
    ] {
        assert_eq!(outcome(&file(payload.clone())), "failed fatal", "{payload}");
    }
    assert_eq!(
        host.run("surroundings", &json!({}))["result"]["environment"],
        json!([["REGION", "eu"]])
    );
    assert_eq!(std::fs::read_to_string(host.path("prices/a.csv")).expect("a file"), "1,2");
}

#[test]
fn a_task_waits_for_memory_rather_than_overcommit_it() {
    let mut host = Host::prepare();
    host.drop_plugin("probe", &crate::harness::guests::probe());
    let config = "[executor]\nmax_memory = \"128 MiB\"\n[worker]\nmemory_budget = \"256 MiB\"\n";
    std::fs::write(host.path("taskhost.toml"), config).expect("taskhost.toml");
    host.manifest("probe", "[limits]\nmemory = \"128MiB\"\n");
    host.start(&[]);
    let ids: Vec<String> = (0..4).map(|_| host.submit(&json!({"task_name": "sleep"}))).collect();
    host.wait_for(&ids[1], "running");
    let running = host.get("/tasks/running").ok();
    assert_eq!(running.as_object().map(serde_json::Map::len), Some(2), "{running}");
    host.delete(&format!("/task/cancel/{}", ids[0])).ok();
    host.wait_for(&ids[2], "running");
}

//! Nothing that was acknowledged is lost, whatever dies.

use crate::harness::{Host, eventually, guests, in_ms, taskhost};
use serde_json::json;
use std::io::Write;
use std::net::TcpStream;
use std::process::Stdio;
use taskhost::model::Time;

#[test]
fn after_a_kill_every_acknowledged_task_is_there_and_runs() {
    let mut host = Host::with_probe();
    let ids: Vec<String> = std::thread::scope(|scope| {
        let submitters: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    (0..40)
                        .map(|n| host.submit(&json!({"task_name": "echo", "payload": {"value": n}})))
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        submitters
            .into_iter()
            .flat_map(|submitter| submitter.join().expect("a submitter"))
            .collect()
    });
    host.kill();
    host.start(&[]);
    for id in &ids {
        let task = host.end_of(id);
        assert_eq!(task["status"], "success", "{task}");
        assert!(task["result"].is_u64());
    }
    assert_eq!(ids.len(), 320);
}

/// Whoever hangs up does not know whether the task was taken; if it was, it runs.
#[test]
fn a_client_that_hangs_up_leaves_no_task_behind_unfinished() {
    let host = Host::with_probe();
    let body = r#"{"task_name":"echo","payload":{"value":1}}"#;
    let request = format!(
        "POST /api/v1/scheduler/task/submit HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    for _ in 0..100 {
        let mut stream = TcpStream::connect(host.url().trim_start_matches("http://")).expect("a connection");
        stream.write_all(request.as_bytes()).expect("a request");
    }
    host.run("echo", &json!({"value": 2}));
    eventually("nothing runs or waits", || {
        host.get("/tasks?status=running").ok() == json!([]) && host.get("/tasks?status=pending").ok() == json!([])
    });
    assert!(host.get("/tasks/history?limit=1000").ok().as_array().map_or(0, Vec::len) > 1);
}

#[test]
fn what_ran_when_the_host_died_is_lost_and_runs_again_at_once() {
    let mut host = Host::with_probe();
    let id = host.submit(&json!({"task_name": "nap", "payload": {"seconds": 1.0}}));
    host.wait_for(&id, "running");
    host.kill();
    host.start(&[]);
    let task = host.end_of(&id);
    assert_eq!(task["status"], "success", "{task}");
    let outcomes: Vec<_> = task["attempts"]
        .as_array()
        .expect("attempts")
        .iter()
        .map(|attempt| attempt["outcome"].clone())
        .collect();
    assert_eq!(outcomes, ["lost", "ok"]);
    assert_eq!(task["retry_count"], 0);
}

#[test]
fn what_is_not_idempotent_is_left_to_a_person() {
    let mut host = Host::with_probe();
    let id = host.submit(&json!({"task_name": "pay", "payload": {"seconds": 30.0}}));
    host.wait_for(&id, "running");
    host.kill();
    host.start(&[]);
    let task = host.end_of(&id);
    assert_eq!(
        (&task["status"], &task["error_code"]),
        (&json!("failed"), &json!("unknown_outcome")),
        "{task}"
    );
    let alerts = host.get("/alerts?alert_type=task_failure").ok();
    assert_eq!(alerts[0]["task_id"], id.as_str());
    // A person who knows that it took no effect runs it again, under the same key.
    let retried = host.post(&format!("/task/{id}/retry"), &json!({})).ok()["task_id"]
        .as_str()
        .expect("an id")
        .to_owned();
    let again = host.task(&retried);
    assert_eq!((&again["retry_of"], &again["idempotency_key"]), (&json!(id), &json!(id)), "{again}");
    host.post(&format!("/task/{id}/retry"), &json!({})).problem(409);
}

#[test]
fn a_task_that_kills_its_host_again_and_again_is_given_up() {
    let mut host = Host::with_probe();
    let id = host.submit(&json!({"task_name": "sleep"}));
    for attempt in 1..=4 {
        eventually("the next attempt runs", || host.task(&id)["attempt"] == attempt);
        host.kill();
        host.start(&[]);
    }
    let task = host.end_of(&id);
    assert_eq!((&task["status"], &task["error_code"]), (&json!("failed"), &json!("lost")), "{task}");
    assert_eq!(task["attempts"].as_array().map(Vec::len), Some(4));
}

#[test]
fn an_orderly_stop_lets_short_attempts_finish_and_hands_back_long_ones() {
    let mut host = Host::prepare();
    host.drop_plugin("probe", &guests::probe());
    std::fs::write(host.path("taskhost.toml"), "[worker]\nshutdown_grace = 1.5\n").expect("taskhost.toml");
    host.start(&[]);
    let short = host.submit(&json!({"task_name": "nap", "payload": {"seconds": 0.6}}));
    let long = host.submit(&json!({"task_name": "nap", "payload": {"seconds": 4.0}}));
    let payment = host.submit(&json!({"task_name": "pay", "payload": {"seconds": 40.0}}));
    for id in [&short, &long, &payment] {
        host.wait_for(id, "running");
    }
    assert_eq!(host.stop(), Some(0), "{}", host.stderr());
    host.start(&[]);
    let attempts = |task: &serde_json::Value| task["attempts"].as_array().cloned().unwrap_or_default();
    let task = host.end_of(&short);
    assert_eq!((&task["status"], attempts(&task).len()), (&json!("success"), 1), "{task}");
    let task = host.end_of(&long);
    assert_eq!(
        (&task["status"], &attempts(&task)[0]["outcome"]),
        (&json!("success"), &json!("interrupted")),
        "{task}"
    );
    assert_eq!(task["retry_count"], 0);
    assert_eq!(host.task(&payment)["error_code"], "unknown_outcome");
}

#[test]
fn a_second_process_on_the_same_data_is_refused_with_a_clear_sentence() {
    let host = Host::with_probe();
    let second = taskhost()
        .args(["serve", "--listen", "127.0.0.1:0"])
        .current_dir(host.path(""))
        .stdin(Stdio::null())
        .output()
        .expect("a second host");
    assert_eq!(second.status.code(), Some(1));
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(said.contains("another taskhost uses the data directory"), "{said}");
    assert_eq!(host.run("echo", &json!({"value": 1}))["status"], "success");
}

#[test]
fn metrics_history_alerts_and_waiting_tasks_survive_a_restart() {
    let mut host = Host::with_probe();
    host.run("echo", &json!({"value": 1}));
    host.run("fatal", &json!({}));
    let later = host.submit(&json!({"task_name": "echo", "trigger_time": "2035-01-01T00:00:00"}));
    let before = [
        host.get("/metrics/performance").ok(),
        host.get("/tasks/history").ok(),
        host.get("/alerts").ok(),
        host.get("/tasks/scheduled").ok(),
    ];
    assert_eq!(before[0]["echo"]["count"], 1);
    assert_eq!(before[1].as_array().map(Vec::len), Some(2));
    host.kill();
    host.start(&[]);
    let after = [
        host.get("/metrics/performance").ok(),
        host.get("/tasks/history").ok(),
        host.get("/alerts").ok(),
        host.get("/tasks/scheduled").ok(),
    ];
    assert_eq!(before, after);
    assert_eq!(host.task(&later)["trigger_time"], "2035-01-01T00:00:00Z");
}

#[test]
fn a_checkpoint_survives_retries_and_a_kill() {
    let mut host = Host::with_probe();
    let id = host.submit(&json!({"task_name": "flaky", "payload": {"count": 3}}));
    eventually("a first failure", || {
        host.task(&id)["retry_count"].as_u64() >= Some(1) || host.task(&id)["status"] == "success"
    });
    host.kill();
    host.start(&[]);
    let task = host.end_of(&id);
    assert_eq!(
        (&task["status"], &task["result"], &task["retry_count"]),
        (&json!("success"), &json!(3), &json!(3)),
        "{task}"
    );
}

#[test]
fn an_interruption_as_the_first_attempt_of_its_name_does_no_harm() {
    let mut host = Host::prepare();
    host.drop_plugin("probe", &guests::probe());
    std::fs::write(host.path("taskhost.toml"), "[worker]\nshutdown_grace = 0.1\n").expect("taskhost.toml");
    host.start(&[]);
    let id = host.submit(&json!({"task_name": "nap", "payload": {"seconds": 1.5}}));
    host.wait_for(&id, "running");
    assert_eq!(host.stop(), Some(0));
    host.start(&[]);
    assert_eq!(host.end_of(&id)["status"], "success");
    assert_eq!(host.get("/metrics/performance?task_name=nap").ok()["count"], 1);
}

#[test]
fn a_handler_that_sees_the_host_stop_may_end_early_and_runs_again() {
    let mut host = Host::with_probe();
    let id = host.submit(&json!({"task_name": "polite"}));
    host.wait_for(&id, "running");
    let begun = std::time::Instant::now();
    assert_eq!(host.stop(), Some(0), "{}", host.stderr());
    assert!(begun.elapsed().as_secs() < 20, "it ended long before the grace of 30 s did");
    host.start(&[]);
    host.wait_for(&id, "running");
    let task = host.task(&id);
    assert_eq!(task["attempts"][0]["outcome"], "interrupted", "{task}");
    assert!(task["attempts"][0]["fuel_used"].is_u64(), "{task}");
    host.delete(&format!("/task/cancel/{id}")).ok();
}

#[test]
fn a_start_that_fails_says_why_and_nothing_else() {
    let host = Host::prepare();
    std::fs::write(host.path("README.md"), "not a folder").expect("a file");
    for flags in [["--plugins", "README.md"], ["--data", "README.md"]] {
        let output = taskhost()
            .args(["serve", "--listen", "127.0.0.1:0"])
            .args(flags)
            .current_dir(host.path(""))
            .stdin(Stdio::null())
            .output()
            .expect("a host");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("README.md") && !said.contains("panicked"), "{said}");
    }
}

#[test]
fn a_plugin_that_takes_long_to_load_delays_no_others_tasks() {
    let mut host = Host::prepare();
    host.drop_plugin("probe", &guests::probe());
    host.drop_plugin("frozen", &guests::frozen("normal"));
    host.start(&[]);
    let later = in_ms(500);
    let ids = ["echo", "frozen"].map(|name| host.submit(&json!({"task_name": name, "trigger_time": later, "payload": {"value": 1}})));
    host.kill();
    let now = || -> Time { in_ms(0).parse().expect("a time") };
    eventually("both are due", || now() > later.parse::<Time>().expect("a time"));
    host.drop_plugin("slow", &guests::frozen("loop"));
    host.start(&[]);
    let ready = now();
    for id in &ids {
        let task = host.end_of(id);
        assert_eq!(
            task["status"], "success",
            "one of them was held until its plugin was loaded: {task}"
        );
        let started: Time = task["started_at"].as_str().and_then(|time| time.parse().ok()).expect("a time");
        assert!((ready - started).num_milliseconds() > 300, "it waited for the slow one: {task}");
    }
}

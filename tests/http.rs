//! The API, member for member.

use crate::harness::Host;
use serde_json::{Value, json};

fn members(value: &Value) -> Vec<&str> {
    value.as_object().expect("an object").keys().map(String::as_str).collect()
}

#[test]
fn the_record_of_a_task_is_whole() {
    let host = Host::with_probe();
    let task = host.run_with(&json!({"task_name": "echo", "payload": {"value": [1, "two"]}, "tags": ["mine"], "priority": 2}));
    for member in [
        "task_id",
        "task_name",
        "status",
        "payload",
        "priority",
        "tags",
        "trigger_time",
        "submitted_at",
        "started_at",
        "completed_at",
        "timestamp",
        "execution_time",
        "result",
        "error",
        "error_code",
        "error_details",
        "retry_count",
        "max_retries",
        "next_retry_at",
        "progress",
        "plugin",
        "attempts",
    ] {
        assert!(members(&task).contains(&member), "no {member}: {task}");
    }
    assert_eq!(
        (&task["status"], &task["result"], &task["timestamp"]),
        (&json!("success"), &json!([1, "two"]), &task["completed_at"])
    );
    assert_eq!(
        (&task["tags"], &task["priority"], &task["max_retries"]),
        (&json!(["mine", "echo", "demo"]), &json!(2), &json!(3))
    );
    let attempt = &task["attempts"][0];
    for member in [
        "number",
        "outcome",
        "started_at",
        "ended_at",
        "execution_time",
        "fuel_used",
        "peak_memory_bytes",
        "plugin_digest",
        "node",
    ] {
        assert!(!attempt[member].is_null(), "no {member}: {attempt}");
    }
    assert!(task["completed_at"].as_str().is_some_and(|time| time.ends_with('Z')), "{task}");
    assert_eq!(host.task(task["task_id"].as_str().expect("an id")), task);
}

#[test]
fn defaults_come_from_the_definition_and_big_numbers_survive() {
    let host = Host::with_probe();
    assert_eq!(host.run("echo", &json!({}))["priority"], 3);
    let body = br#"{"task_name":"echo","payload":{"value":"x","big":123456789012345678901234567890,"price":0.1000000000000000055511151231257827}}"#;
    let id = host
        .request("POST", "/task/submit", Some(body), &[("content-type", "application/json")])
        .ok()["task_id"]
        .clone();
    let path = format!("{}/api/v1/scheduler/task/status/{}", host.url(), id.as_str().expect("an id"));
    let record = ureq::get(&path)
        .call()
        .expect("an answer")
        .body_mut()
        .read_to_string()
        .expect("text");
    for digits in ["123456789012345678901234567890", "0.1000000000000000055511151231257827"] {
        assert!(record.contains(digits), "{record}");
    }
    let me = host.run("whoami", &json!({}));
    assert_eq!((&me["result"]["attempt"], &me["result"]["max_attempts"]), (&json!(1), &json!(8)));
    assert_eq!(
        (&me["result"]["task_id"], &me["result"]["idempotency_key"]),
        (&me["task_id"], &me["task_id"])
    );
}

#[test]
fn retries_follow_their_class() {
    let host = Host::with_probe();
    let flaky = host.run("flaky", &json!({"count": 2}));
    assert_eq!(
        (&flaky["status"], &flaky["retry_count"], &flaky["error"]),
        (&json!("success"), &json!(2), &json!(null)),
        "{flaky}"
    );
    let snoozed = host.run("snoozer", &json!({}));
    assert_eq!((&snoozed["result"], &snoozed["retry_count"]), (&json!(2), &json!(0)), "{snoozed}");
    assert_eq!(snoozed["attempts"][0]["outcome"], "snooze");
    for (name, code) in [("fatal", "fatal"), ("picky", "invalid_input")] {
        let task = host.run(name, &json!({}));
        assert_eq!((&task["status"], &task["error_code"]), (&json!("failed"), &json!(code)), "{task}");
        assert_eq!(task["attempts"].as_array().map(Vec::len), Some(1));
    }
    let picky = host.run("picky", &json!({}));
    assert_eq!(
        picky["error_details"]["errors"],
        json!([{"pointer": "/value", "detail": "is not to my taste"}])
    );
    let id = host.submit(&json!({"task_name": "fail"}));
    crate::harness::eventually("a retry is planned", || host.task(&id)["retry_count"] == 1);
    let waiting = host.task(&id);
    assert_eq!(
        (&waiting["status"], &waiting["phase"], &waiting["error"]),
        (&json!("pending"), &json!("retrying"), &json!("no luck today"))
    );
    assert!(waiting["next_retry_at"].is_string(), "{waiting}");
    let spent = host.run_with(&json!({"task_name": "fail", "max_retries": 0}));
    assert_eq!(
        (&spent["status"], &spent["error_code"]),
        (&json!("failed"), &json!("error")),
        "{spent}"
    );
}

#[test]
fn failed_tasks_are_listed_retried_and_dismissed() {
    let host = Host::with_probe();
    let failed = |name: &str| {
        host.run_with(&json!({"task_name": name, "max_retries": 0}))["task_id"]
            .as_str()
            .expect("an id")
            .to_owned()
    };
    let (first, second) = (failed("fatal"), failed("fatal"));
    let waiting = host.submit(&json!({"task_name": "fail"}));
    crate::harness::eventually("a retry is planned", || host.task(&waiting)["retry_count"] == 1);
    let list = host.get("/tasks/failed").ok();
    for (id, status) in [
        (&first, "permanently_failed"),
        (&second, "permanently_failed"),
        (&waiting, "retrying"),
    ] {
        for member in ["task_id", "task_name", "retry_count", "last_failure", "error", "status"] {
            assert!(!list[id][member].is_null(), "no {member}: {list}");
        }
        assert_eq!(list[id]["status"], status);
    }
    let retried = host.post(&format!("/task/{first}/retry"), &json!({})).ok()["task_id"]
        .as_str()
        .expect("an id")
        .to_owned();
    let again = host.end_of(&retried);
    assert_eq!(
        (&again["retry_of"], &again["idempotency_key"], &again["status"]),
        (&json!(first), &json!(first), &json!("failed"))
    );
    host.delete(&format!("/tasks/failed/{second}")).ok();
    let list = host.get("/tasks/failed").ok();
    assert_eq!(list.as_object().expect("an object").len(), 2, "{list}");
    assert!(list.get(&retried).is_some());
    assert_eq!(host.task(&second)["status"], "failed", "its history stays");
    let twice = host.delete(&format!("/tasks/failed/{second}")).problem(409);
    assert_eq!(twice["detail"], "the task is off the list already");
    host.delete(&format!("/tasks/failed/{waiting}")).problem(409);
    host.post(&format!("/task/{waiting}/retry"), &json!({})).problem(409);
    host.delete(&format!("/task/cancel/{waiting}")).ok();
    assert_eq!(host.task(&waiting)["status"], "cancelled");
}

#[test]
fn history_is_filtered_paged_and_exported() {
    let host = Host::with_probe();
    let ids: Vec<Value> = (0..7).map(|n| host.run_with(&json!({"task_name": "echo", "payload": {"value": n}, "tags": [if n % 2 == 0 { "even" } else { "odd" }]}))["task_id"].clone()).collect();
    host.run("fatal", &json!({}));
    let count = |path: &str| host.get(path).ok().as_array().expect("a list").len();
    for (query, expected) in [
        ("", 8),
        ("?task_name=echo", 7),
        ("?status=failed", 1),
        ("?status=success&task_name=fatal", 0),
        ("?tag=even", 4),
        ("?limit=3", 3),
        ("?since=", 8),
        ("?since=2001-01-01T00:00:00", 8),
        ("?until=2001-01-01T00:00:00Z", 0),
        ("?task_name=nobody", 0),
    ] {
        assert_eq!(count(&format!("/tasks/history{query}")), expected, "{query}");
    }
    let (mut seen, mut path) = (Vec::new(), "/tasks/history?task_name=echo&limit=3".to_owned());
    loop {
        let answer = host.get(&path);
        let link = answer.headers.get("link").map(|link| link.to_str().expect("text").to_owned());
        seen.extend(answer.ok().as_array().expect("a list").iter().map(|task| task["task_id"].clone()));
        let Some(link) = link else { break };
        assert!(link.ends_with("; rel=\"next\""), "{link}");
        path = link.split(['<', '>']).nth(1).expect("a link").to_owned();
    }
    assert_eq!(
        seen,
        ids.into_iter().rev().collect::<Vec<_>>(),
        "newest first, nothing twice, nothing missing"
    );
    let csv = host.request("GET", "/tasks/history?task_name=fatal", None, &[("accept", "text/csv")]);
    assert_eq!(
        csv.headers["content-type"].to_str().expect("text").split(';').next(),
        Some("text/csv")
    );
    assert_eq!(csv.body.as_str().expect("text").lines().count(), 2);
    let ndjson = host.request("GET", "/tasks/history", None, &[("accept", "application/x-ndjson")]);
    let text = ndjson.body.as_str().expect("text").to_owned();
    assert!(
        text.lines()
            .all(|line| serde_json::from_str::<Value>(line).is_ok_and(|task| task["task_id"].is_string()))
    );
    assert_eq!(text.lines().count(), 8);
}

#[test]
fn one_list_shows_all_tasks() {
    let host = Host::with_probe();
    let done = host.run("echo", &json!({}))["task_id"].as_str().expect("an id").to_owned();
    let later = host.submit(&json!({"task_name": "noop", "trigger_time": "2035-01-01T00:00:00Z", "tags": ["later"]}));
    let list = |query: &str| -> Vec<Value> {
        host.get(&format!("/tasks{query}"))
            .ok()
            .as_array()
            .expect("a list")
            .iter()
            .map(|t| t["task_id"].clone())
            .collect()
    };
    assert_eq!(list(""), [later.as_str(), done.as_str()]);
    assert_eq!(list("?status=pending"), [later.as_str()]);
    assert_eq!(list("?status=success"), [done.as_str()]);
    assert_eq!(list("?tag=later"), [later.as_str()]);
    assert_eq!(list("?q=ech"), [done.as_str()]);
    assert_eq!(list(&format!("?q={later}")), [later.as_str()]);
    assert_eq!(list("?task_name=noop&status=success"), Vec::<Value>::new());
    let answer = host.get("/tasks?limit=1");
    let link = answer.headers["link"]
        .to_str()
        .expect("text")
        .split(['<', '>'])
        .nth(1)
        .expect("a link")
        .to_owned();
    assert_eq!(host.get(&link).ok()[0]["task_id"], done.as_str());
}

#[test]
fn metrics_and_alerts_come_from_what_ran() {
    let host = Host::with_probe();
    assert_eq!(host.get("/metrics/performance").ok(), json!({}));
    assert_eq!(host.get("/metrics/performance?task_name=echo").ok(), json!({}));
    assert_eq!(host.get("/alerts").ok(), json!([]));
    for _ in 0..3 {
        host.run("echo", &json!({}));
    }
    let failed = host.run("fatal", &json!({}));
    let all = host.get("/metrics/performance").ok();
    assert_eq!(members(&all), ["echo", "fatal"]);
    let echo = host.get("/metrics/performance?task_name=echo").ok();
    assert_eq!(echo, all["echo"]);
    for member in [
        "count",
        "avg_execution_time",
        "min_execution_time",
        "max_execution_time",
        "p50",
        "p95",
        "p99",
        "failure_rate",
    ] {
        assert!(echo[member].is_number(), "no {member}: {echo}");
    }
    assert_eq!(
        (&echo["count"], &echo["failure_rate"], &all["fatal"]["failure_rate"]),
        (&json!(3), &json!(0.0), &json!(1.0))
    );
    let alerts = host.get("/alerts").ok();
    assert_eq!(alerts.as_array().map(Vec::len), Some(1));
    assert_eq!(
        (&alerts[0]["type"], &alerts[0]["task_id"], &alerts[0]["error"]),
        (&json!("task_failure"), &failed["task_id"], &json!("not in this life"))
    );
    for member in ["alert_id", "task_name", "timestamp", "count"] {
        assert!(!alerts[0][member].is_null(), "no {member}: {alerts}");
    }
    host.run("fatal", &json!({}));
    assert_eq!(host.get("/alerts").ok()[0]["count"], 2, "alike cases are one alert");
    assert_eq!(host.get("/alerts?since=2099-01-01T00:00:00").ok(), json!([]));
    assert_eq!(host.get("/alerts?since=").ok().as_array().map(Vec::len), Some(1));
    assert_eq!(
        host.delete("/alerts/clear?alert_type=long_execution").ok(),
        json!({"cleared_count": 0})
    );
    assert_eq!(host.delete("/alerts/clear").ok(), json!({"cleared_count": 1}));
    assert_eq!(host.get("/alerts").ok(), json!([]));
}

#[test]
fn a_long_execution_is_told_while_it_runs() {
    let host = Host::with_probe();
    let id = host.submit(&json!({"task_name": "sleep", "timeout": 3}));
    crate::harness::eventually("the alert", || {
        host.get("/alerts?alert_type=long_execution").ok()[0]["task_id"] == id.as_str()
    });
    assert_eq!(host.task(&id)["status"], "running");
    let alert = host.get("/alerts").ok()[0].clone();
    assert!(
        alert["execution_time"].as_f64().is_some_and(|ran| (2.4..3.0).contains(&ran)),
        "{alert}"
    );
}

#[test]
fn progress_and_logs_are_seen_while_the_attempt_runs() {
    let host = Host::with_probe();
    let id = host.submit(&json!({"task_name": "halfway"}));
    crate::harness::eventually("progress", || host.task(&id)["progress"]["done"] == 1);
    assert_eq!(
        host.get("/tasks/running").ok()[&id]["progress"],
        json!({"done": 1, "total": 2, "message": "halfway there"})
    );
    crate::harness::eventually("the log", || host.get(&format!("/task/{id}/logs")).ok()[0]["message"] == "waiting");
    host.delete(&format!("/task/cancel/{id}")).ok();
    let id = host.run("log_lines", &json!({"count": 3}))["task_id"]
        .as_str()
        .expect("an id")
        .to_owned();
    let lines = host.get(&format!("/task/{id}/logs")).ok();
    let told: Vec<(&str, &str, &str)> = lines
        .as_array()
        .expect("lines")
        .iter()
        .map(|line| {
            (
                line["source"].as_str().unwrap_or(""),
                line["level"].as_str().unwrap_or(""),
                line["message"].as_str().unwrap_or(""),
            )
        })
        .collect();
    assert_eq!(
        &told[..3],
        [("log", "info", "line 0"), ("log", "info", "line 1"), ("log", "info", "line 2")]
    );
    assert_eq!(lines[2]["fields"], json!({"number": "2"}));
    for (source, text) in [("stdout", "on stdout"), ("stderr", "on stderr"), ("stdout", "without an end")] {
        assert!(told.iter().any(|(s, _, m)| *s == source && *m == text), "{source} {text}: {told:?}");
    }
    assert!(lines[0]["time"].is_string() && lines[0]["attempt"] == 1);
    host.get("/task/0192f0c1-2345-7abc-8def-0123456789ab/logs").problem(404);
}

#[test]
fn a_submission_can_wait_for_the_end() {
    let host = Host::with_probe();
    let body = json!({"task_name": "nap", "payload": {"seconds": 0.2}}).to_string();
    let waits = |seconds: &str| {
        host.request(
            "POST",
            "/task/submit",
            Some(body.as_bytes()),
            &[("content-type", "application/json"), ("prefer", seconds)],
        )
    };
    assert_eq!(waits("wait=20").ok()["status"], "success");
    let body = json!({"task_name": "sleep"}).to_string();
    let answer = host.request(
        "POST",
        "/task/submit",
        Some(body.as_bytes()),
        &[("content-type", "application/json"), ("prefer", "wait=1")],
    );
    assert!(["running", "pending"].contains(&answer.ok()["status"].as_str().expect("a status")));
}

#[test]
fn the_api_describes_itself() {
    let host = Host::with_probe();
    let document = host.get("/api/v1/openapi.json").ok();
    assert!(
        document["openapi"].as_str().is_some_and(|version| version.starts_with("3.1")),
        "{}",
        document["openapi"]
    );
    let paths = members(&document["paths"]);
    for path in [
        "/task/submit",
        "/task/cron",
        "/task/event-trigger",
        "/event/trigger/{event_type}",
        "/task/status/{task_id}",
        "/task/cancel/{task_id}",
        "/tasks/running",
        "/tasks/scheduled",
        "/tasks/failed",
        "/tasks/history",
        "/metrics/performance",
        "/alerts",
        "/alerts/clear",
        "/tasks/failed/{task_id}",
        "/tasks",
        "/task/{task_id}/logs",
        "/task/{task_id}/retry",
        "/schedules",
        "/triggers",
        "/calendars",
        "/calendar/{name}",
        "/calendar/{name}/sessions",
        "/calendar/{name}/settlement-date",
        "/registry/tasks",
        "/plugins",
        "/plugin/{name}",
        "/plugins/reload",
    ] {
        let full = format!("/api/v1/scheduler{path}");
        assert!(paths.contains(&full.as_str()), "no {full} in {paths:?}");
    }
    assert!(host.get("/healthz").status == 200 && host.get("/").status == 200);
    host.get("/no/such/thing").problem(404);
    let wrong = host.request("PATCH", "/task/submit", None, &[]);
    assert!(wrong.headers.contains_key("allow"));
    wrong.problem(405);
}

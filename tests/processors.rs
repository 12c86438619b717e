//! Attempts that burn, more of them than there are processors.

use crate::harness::{Host, eventually};
use serde_json::{Value, json};

#[test]
fn who_waits_for_a_processor_says_so_and_others_run_beside() {
    let host = Host::with_probe();
    assert_eq!(host.run("noop", &json!({}))["status"], "success");
    let spinning: Vec<String> = (0..24).map(|_| host.submit(&json!({"task_name": "spin", "timeout": 60}))).collect();
    let last = spinning.last().expect("one");
    let why = |id: &str| host.get(&format!("/task/{id}/why")).ok()["reasons"][0].clone();
    eventually("it waits for a processor", || why(last)["reason"] == "no_processor");
    let queue = host.get("/queue").ok();
    let number = |member: &str| queue[member].as_u64().unwrap_or_else(|| panic!("{member}: {queue}"));
    assert!(number("burning") <= number("processors") && number("processors") > 0, "{queue}");
    assert!(number("waits_for_processor") > 0 && number("slots_free") > 0, "{queue}");
    assert!(number("memory_reserved") <= number("memory_budget"), "{queue}");
    // Neither what is short nor what is more urgent waits for them.
    assert_eq!(host.run("noop", &json!({}))["status"], "success");
    let urgent = host.submit(&json!({"task_name": "spin", "timeout": 0.3, "priority": 1}));
    let urgent = host.end_of(&urgent);
    assert_eq!(urgent["error_code"], "timeout", "{urgent}");
    assert_eq!(host.task(last)["status"], "pending");
    for id in &spinning {
        host.delete(&format!("/task/cancel/{id}")).ok();
    }
}

#[test]
fn a_timeout_does_not_run_while_the_host_withholds_the_processor() {
    let host = Host::with_probe();
    let ids: Vec<String> = (0..8).map(|_| host.submit(&json!({"task_name": "spin", "timeout": 0.5}))).collect();
    let ended: Vec<Value> = ids.iter().map(|id| host.end_of(id)).collect();
    for task in &ended {
        let attempt = &task["attempts"][0];
        let number = |member: &str| attempt[member].as_f64().unwrap_or_else(|| panic!("{member}: {attempt}"));
        assert_eq!(task["error_code"], "timeout", "{task}");
        assert!(number("execution_time") >= 0.5, "{attempt}");
        assert!(number("processor_wait") >= 0.0, "{attempt}");
    }
}

#[test]
fn a_fair_key_that_points_at_nothing_or_at_much_is_refused_with_its_place() {
    let host = Host::with_probe();
    let submit = |key: Value, payload: Value| host.post("/task/submit", &json!({"task_name": "echo", "payload": payload, "fair_key": key}));
    for key in ["fx", "/value"] {
        submit(key.into(), json!({"value": "fx"})).ok();
    }
    for (key, payload, why) in [
        ("/none", json!({}), "no member of the payload"),
        ("/value", json!({"value": {}}), "no object"),
        ("/value", json!({"value": "x".repeat(1 << 20)}), "1048576 bytes"),
        ("", json!({}), "1 to 128 characters"),
    ] {
        let problem = submit(key.into(), payload).problem(400);
        let error = &problem["errors"][0];
        assert_eq!(error["pointer"], "/fair_key", "{problem}");
        assert!(error["detail"].as_str().is_some_and(|detail| detail.contains(why)), "{problem}");
    }
    let limit = |weight: Value| {
        let body = json!({"match": {"task_name": "echo"}, "weight": weight}).to_string();
        host.request("PUT", "/limit/l", Some(body.as_bytes()), &[("content-type", "application/json")])
    };
    assert_eq!(limit(3.into()).ok()["weight"], 3);
    for weight in [json!(0), json!(-1), json!(1.5), json!(1_001)] {
        assert_eq!(limit(weight).problem(400)["errors"][0]["pointer"], "/weight");
    }
}

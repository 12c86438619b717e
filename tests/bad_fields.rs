//! Every field of every request, wrong in type, range and size: refused with its place, and nothing comes of it.

use crate::harness::{Answer, Host};
use serde_json::{Value, json};

/// A request that is right.
struct Right {
    method: &'static str,
    path: &'static str,
    body: Value,
}

fn right(method: &'static str, path: &'static str, body: Value) -> Right {
    Right { method, path, body }
}

/// Each member that a request may have, in one of them at least.
fn all() -> Vec<Right> {
    let (start, end) = ("2034-01-01T00:00:00Z", "2034-01-02T00:00:00Z");
    let child = json!({"task_name": "echo", "payload": {"a": 1}, "priority": 2, "tags": ["t"]});
    let callback = json!({"task_name": "echo", "payload": {"a": 1}});
    vec![
        right(
            "POST",
            "/task/submit",
            json!({"task_name": "echo", "payload": {"a": 1}, "trigger_time": start, "priority": 3, "tags": ["t"], "timeout": 5,
                "max_retries": 2, "deadline": end, "expires_at": end, "idempotent": true,
                "unique": {"fields": ["/a"], "window": 5, "on_conflict": "return"}}),
        ),
        right(
            "POST",
            "/task/cron",
            json!({"task_name": "echo", "cron_expression": "0 0 1 1 *", "payload": {"a": 1}, "priority": 2, "name": "n", "tags": ["t"],
                "start": start, "end": "2044-01-01T00:00:00Z", "timezone": "Europe/Paris", "calendar": "XNYS", "on_closed": "next",
                "dst_gap": "skip", "dst_overlap": "both", "misfire": "all", "overlap": "skip"}),
        ),
        right(
            "POST",
            "/task/cron",
            json!({"task_name": "echo", "session": {"edge": "close", "offset": 60}, "calendar": "XNYS"}),
        ),
        right(
            "POST",
            "/schedule/preview",
            json!({"cron_expression": "0 0 1 1 *", "count": 5, "after": start, "timezone": "UTC", "misfire": "all"}),
        ),
        right(
            "POST",
            "/task/event-trigger",
            json!({"task_name": "echo", "event_type": "e", "payload": {"x": 1}, "priority": 2, "filter": "data.x > 1", "name": "n",
                "tags": ["t"], "debounce": 3}),
        ),
        right(
            "POST",
            "/tasks/batch",
            json!({"tasks": [child], "name": "n", "on_success": callback, "on_failure": callback, "on_complete": callback}),
        ),
        right(
            "POST",
            "/tasks/batch",
            json!({"task_name": "echo", "payload": {"a": {}}, "grid": {"/a/x": [1, 2]}, "name": "n", "trigger_time": start,
                "priority": 3, "tags": ["t"], "timeout": 5, "max_retries": 2}),
        ),
        right(
            "POST",
            "/workflow",
            json!({"name": "n", "on_failure": "continue", "steps": [{"key": "a", "task_name": "echo"},
                {"key": "b", "task_name": "echo", "payload": {"a": 1}, "needs": ["a"], "when": "all_done", "priority": 2, "tags": ["t"]}]}),
        ),
        right(
            "PUT",
            "/limit/n",
            json!({"match": {"task_name": "echo", "tag": "t"}, "key": "/a", "max_running": 3, "rate": {"count": 3, "per": 60}}),
        ),
        right(
            "PUT",
            "/calendar/n",
            json!({"timezone": "UTC", "weekend": ["sat", "sun"], "hours": [{"from": "2020-01-01", "open": "09:00", "close": "17:00"}],
                "holidays": [{"date": "2024-12-25", "name": "n"}], "early_closes": [{"date": "2024-12-24", "close": "12:00"}],
                "official_until": "2030-12-31", "description": "n"}),
        ),
        right(
            "PATCH",
            "/registry/task/echo",
            json!({"timeout": 5, "priority": 3, "max_concurrency": 2, "retry": {"max_retries": 2, "initial_delay": 1, "backoff_factor": 2,
                "max_delay": 10, "jitter": 0.1, "retry_on": ["fatal"]}}),
        ),
        right(
            "PATCH",
            "/schedule/by-cron",
            json!({"cron_expression": "0 0 1 1 *", "payload": {"a": 1}, "priority": 2, "tags": ["t"], "start": start,
                "end": "2044-01-01T00:00:00Z", "timezone": "Europe/Paris", "calendar": "XNYS", "on_closed": "next", "dst_gap": "skip",
                "dst_overlap": "both", "misfire": "all", "overlap": "skip", "paused": true}),
        ),
        right(
            "PATCH",
            "/schedule/by-session",
            json!({"session": {"edge": "close", "offset": 60}, "calendar": "XNYS"}),
        ),
        right(
            "POST",
            "/schedule/by-cron/backfill",
            json!({"from": "2020-01-01T00:00:00Z", "to": "2020-01-02T00:00:00Z"}),
        ),
        right(
            "PATCH",
            "/trigger/there",
            json!({"payload": {"x": 1}, "priority": 2, "filter": "data.x > 1", "tags": ["t"], "debounce": 3, "paused": true}),
        ),
        right(
            "POST",
            "/events",
            json!({"specversion": "1.0", "id": "1", "source": "/desk", "type": "e", "time": start, "subject": "s",
                "dataschema": "https://example.com/schema", "datacontenttype": "application/json", "data": {"x": 1}}),
        ),
        right("POST", "/event/trigger/e", json!({})),
        right("POST", "/queue/pause", json!({"task_name": "echo"})),
        right("POST", "/queue/resume", json!({"task_name": "echo"})),
    ]
}

/// The places of all values in a document, but of those that may be anything.
fn places(value: &Value, at: &str, found: &mut Vec<String>) {
    let members: Vec<(String, &Value)> = match value {
        Value::Object(members) => members.iter().map(|(name, value)| (name.replace('/', "~1"), value)).collect(),
        Value::Array(items) => items.iter().enumerate().map(|(n, value)| (n.to_string(), value)).collect(),
        _ => return,
    };
    for (name, value) in members {
        let place = format!("{at}/{name}");
        let is_free = at == "/grid/~1a~1x" || at.ends_with("/payload") || at == "/data";
        if !is_free {
            places(value, &place, found);
            found.push(place);
        }
    }
}

/// What no member may be that is right with such a value.
fn wrong(place: &str, value: &Value) -> Vec<Value> {
    let long = Value::String("x".repeat(100_000));
    let all = [
        json!(-7),
        json!(1e300),
        json!(true),
        json!("\u{0}"),
        long,
        json!([[[]]]),
        json!({"nonsense": 1}),
    ];
    let is_offset = *value == json!(60); // the only number that may be below 0, or a rate's time
    let may_be = |other: &Value| match value {
        Value::Object(_) if place.ends_with("/payload") || place == "/data" => other.is_object(),
        Value::Array(_) if place.starts_with("/grid/") => other.is_array(),
        Value::Bool(_) => other.is_boolean(),
        Value::Number(_) => is_offset && *other == json!(-7),
        _ => false,
    };
    all.into_iter().filter(|other| !may_be(other)).collect()
}

fn send(host: &Host, right: &Right, body: &Value) -> Answer {
    let content_type = match (right.method, right.path) {
        ("PATCH", _) => "application/merge-patch+json",
        (_, "/events") => "application/cloudevents+json",
        _ => "application/json",
    };
    let body = body.to_string();
    host.request(right.method, right.path, Some(body.as_bytes()), &[("content-type", content_type)])
}

/// What no member of another name may be, where not every one may be there.
fn nonsense(right: &Right) -> Option<Value> {
    match right.path {
        "/event/trigger/e" => None,
        "/events" => Some(json!({"an": "extension"})),
        _ => Some(json!(1)),
    }
}

/// What is changed by some of the requests.
fn set_up(host: &Host) {
    for rule in [
        json!({"name": "by-cron", "task_name": "echo", "cron_expression": "@yearly"}),
        json!({"name": "by-session", "task_name": "echo", "cron_expression": "@yearly"}),
    ] {
        host.post("/task/cron", &rule).ok();
    }
    let trigger = json!({"name": "there", "task_name": "echo", "event_type": "there"});
    host.post("/task/event-trigger", &trigger).ok();
}

/// What is there, as a client sees it.
fn seen(host: &Host) -> Vec<Value> {
    [
        "/tasks",
        "/schedules",
        "/triggers",
        "/batches",
        "/workflows",
        "/limits",
        "/calendars",
        "/registry/tasks",
        "/queue",
    ]
    .map(|list| {
        let mut seen = host.get(list).ok();
        if let Some(members) = seen.as_object_mut() {
            members.retain(|name, _| !name.ends_with("_rate"));
        }
        seen
    })
    .to_vec()
}

#[test]
fn a_wrong_field_is_refused_with_its_place_and_nothing_comes_of_it() {
    let host = Host::with_probe();
    set_up(&host);
    let before = seen(&host);
    let mut sent = 0;
    for right in all() {
        let mut found = Vec::new();
        places(&right.body, "", &mut found);
        for place in found {
            let value = right.body.pointer(&place).expect("a value");
            for wrong in wrong(&place, value) {
                let mut body = right.body.clone();
                *body.pointer_mut(&place).expect("a value") = wrong.clone();
                let answer = send(&host, &right, &body);
                let what = format!(
                    "{} {} with {place} {:.40}: {} {}",
                    right.method,
                    right.path,
                    wrong.to_string(),
                    answer.status,
                    answer.body
                );
                let is_name = place.ends_with("/task_name") && wrong.is_string();
                assert!(matches!(answer.status, 400 | 422) || is_name && answer.status == 404, "{what}");
                let points = |error: &Value| {
                    error["pointer"]
                        .as_str()
                        .is_some_and(|at| at.starts_with(&place) || place.starts_with(at) && !at.is_empty())
                };
                let pointed = answer.body["errors"].as_array().is_some_and(|errors| errors.iter().any(points));
                assert!(pointed || answer.status == 404, "{what}");
                sent += 1;
            }
        }
        for whole in wrong("", &Value::Null).iter().filter(|whole| !whole.is_object()) {
            send(&host, &right, whole).problem(400);
        }
        if let Some(nonsense) = nonsense(&right) {
            let mut body = right.body.clone();
            body["nonsense"] = nonsense;
            let problem = send(&host, &right, &body).problem(400);
            assert_eq!(problem["errors"][0]["pointer"], "/nonsense", "{} {}", right.method, right.path);
        }
    }
    assert!(sent > 500, "only {sent} requests");
    assert_eq!(seen(&host), before);
    // That it was the field and nothing else: as they are, all are right.
    for right in all() {
        let answer = send(&host, &right, &right.body);
        assert!(
            matches!(answer.status, 200 | 201),
            "{} {}: {}",
            right.method,
            right.path,
            answer.body
        );
    }
}

//! Triggers and events: what happened outside sets tasks off.

use crate::harness::{Answer, Host, eventually};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Instant;
use taskhost::model::Time;
use taskhost::model::ids::TriggerId;
use taskhost::model::trigger::{Edits, Terms, Trigger};
use taskhost::store::Store;
use taskhost::store::sqlite::Sqlite;

/// Registers a trigger of `echo` on `event_type` with more members; returns its id.
fn listen(host: &Host, event_type: &str, members: Value) -> String {
    let answer = register(host, event_type, members).ok();
    answer["task_id"].as_str().expect("an id").to_owned()
}

fn register(host: &Host, event_type: &str, members: Value) -> Answer {
    let mut body = json!({"task_name": "echo", "event_type": event_type});
    let more = members.as_object().expect("an object").clone();
    body.as_object_mut().expect("an object").extend(more);
    host.post("/task/event-trigger", &body)
}

/// Sends a CloudEvent in its envelope, with more members.
fn send(host: &Host, id: &str, members: Value) -> Answer {
    structured(host, &envelope(id, members))
}

fn structured(host: &Host, event: &Value) -> Answer {
    let body = event.to_string();
    host.request(
        "POST",
        "/events",
        Some(body.as_bytes()),
        &[("content-type", "application/cloudevents+json")],
    )
}

fn envelope(id: &str, members: Value) -> Value {
    let mut event = json!({"specversion": "1.0", "id": id, "source": "/desk/fx", "type": "fill"});
    let more = members.as_object().expect("an object").clone();
    event.as_object_mut().expect("an object").extend(more);
    event
}

fn batched(host: &Host, events: &Value) -> Answer {
    let body = events.to_string();
    host.request(
        "POST",
        "/events",
        Some(body.as_bytes()),
        &[("content-type", "application/cloudevents-batch+json")],
    )
}

fn first_task(answer: &Value) -> &str {
    answer["triggered_tasks"][0].as_str().unwrap_or_else(|| panic!("no task: {answer}"))
}

fn trigger(host: &Host, id: &str) -> Value {
    host.get(&format!("/trigger/{id}")).ok()
}

fn patch(host: &Host, id: &str, body: &Value) -> Answer {
    let body = body.to_string();
    host.request(
        "PATCH",
        &format!("/trigger/{id}"),
        Some(body.as_bytes()),
        &[("content-type", "application/json")],
    )
}

#[test]
fn registering_a_trigger_runs_nothing_and_each_event_runs_it_with_a_fresh_id() {
    let host = Host::with_probe();
    let body = json!({"task_name": "echo", "event_type": "market_data_update", "payload": {"value": "stored", "kept": 1}, "priority": 1});
    let answer = host.post("/task/event-trigger", &body).ok();
    assert_eq!(answer["status"], "registered");
    let id = answer["task_id"].as_str().expect("an id");
    assert_eq!(
        host.post("/event/trigger/other", &json!({})).ok(),
        json!({"triggered_tasks": [], "count": 0})
    );
    assert_eq!(host.get("/tasks").ok(), json!([]));
    let fire = |data: Value| {
        let fired = host.post("/event/trigger/market_data_update", &data).ok();
        assert_eq!(fired["count"], 1);
        host.end_of(fired["triggered_tasks"][0].as_str().expect("an id"))
    };
    let first = fire(json!({"value": "from the event"}));
    assert_eq!(
        (&first["result"], &first["payload"]),
        (&json!("from the event"), &json!({"value": "from the event", "kept": 1}))
    );
    let second = fire(json!({}));
    assert_eq!(
        (&second["result"], &second["trigger_id"]),
        (&json!("stored"), &json!(id)),
        "the stored payload stays as it was"
    );
    assert_ne!(first["task_id"], second["task_id"]);
    host.delete(&format!("/trigger/{id}")).ok();
    assert_eq!(host.post("/event/trigger/market_data_update", &json!({})).ok()["count"], 0);
}

#[test]
fn a_merged_payload_that_does_not_fit_ends_as_a_failed_task_with_pointers() {
    let host = Host::with_probe();
    host.post(
        "/task/event-trigger",
        &json!({"task_name": "add", "event_type": "sum", "payload": {"a": 1}}),
    )
    .ok();
    let fired = host.post("/event/trigger/sum", &json!({"b": "two"})).ok();
    let task = host.task(fired["triggered_tasks"][0].as_str().expect("an id"));
    assert_eq!(
        (&task["status"], &task["error_code"]),
        (&json!("failed"), &json!("invalid_input")),
        "{task}"
    );
    assert_eq!(task["error_details"]["errors"][0]["pointer"], "/b");
    assert_eq!(task["attempts"], json!([]));
    let again = host.post(&format!("/task/{}/retry", task["task_id"].as_str().expect("an id")), &json!({}));
    assert_eq!(again.problem(422)["errors"][0]["pointer"], "/payload/b");
    let fits = host.post("/event/trigger/sum", &json!({"b": 2})).ok();
    assert_eq!(host.end_of(fits["triggered_tasks"][0].as_str().expect("an id"))["result"], 3);
}

#[test]
fn a_trigger_is_found_by_its_name_and_an_idempotency_key_is_not_passed_over() {
    let host = Host::with_probe();
    let id = listen(&host, "fill", json!({"name": "on.fill"}));
    assert_eq!(trigger(&host, "on.fill")["trigger_id"], id);
    host.post("/trigger/on.fill/pause", &json!({"until": "noon"})).problem(400);
    assert_eq!(host.post("/trigger/on.fill/pause", &json!({})).ok()["status"], "paused");
    host.request("POST", "/trigger/on.fill/resume", None, &[]).ok();
    for (path, kind, body) in [
        ("/event/trigger/fill", "application/json", json!({})),
        ("/events", "application/cloudevents+json", envelope("1", json!({}))),
    ] {
        let headers = [("content-type", kind), ("idempotency-key", "k")];
        let refused = host.request("POST", path, Some(body.to_string().as_bytes()), &headers).problem(400);
        assert!(
            refused["detail"].as_str().is_some_and(|detail| detail.contains("source")),
            "{refused}"
        );
    }
    assert_eq!(host.get("/tasks").ok(), json!([]));
    host.delete("/trigger/on.fill").ok();
    host.get("/trigger/on.fill").problem(404);
}

#[test]
fn one_event_fires_all_its_triggers() {
    let host = Host::with_probe();
    for n in 0..5 {
        host.post(
            "/task/event-trigger",
            &json!({"task_name": "echo", "event_type": "close", "payload": {"value": n}}),
        )
        .ok();
    }
    assert_eq!(host.get("/triggers").ok().as_array().map(Vec::len), Some(5));
    let fired = host.post("/event/trigger/close", &json!({})).ok();
    let results: BTreeSet<u64> = fired["triggered_tasks"]
        .as_array()
        .expect("ids")
        .iter()
        .filter_map(|id| host.end_of(id.as_str()?)["result"].as_u64())
        .collect();
    assert_eq!(results, (0..5).collect());
}

#[test]
fn an_event_that_would_fill_the_memory_is_refused() {
    let host = Host::with_probe();
    for n in 0..70 {
        let body = json!({"task_name": "echo", "event_type": "flood", "payload": {"value": n}});
        host.post("/task/event-trigger", &body).ok();
    }
    let refused = host.post("/event/trigger/flood", &json!({"x": "y".repeat(1 << 20)})).problem(413);
    assert_eq!(refused["code"], "too_large");
    assert!(
        refused["detail"].as_str().is_some_and(|detail| detail.contains("70 triggers")),
        "{refused}"
    );
    assert_eq!(host.get("/tasks").ok(), json!([]), "nothing of it was kept");
}

#[test]
fn a_cloud_event_comes_in_all_three_modes() {
    let host = Host::with_probe();
    listen(&host, "fill", json!({"payload": {"kept": 1}}));
    let one = send(
        &host,
        "1",
        json!({"data": {"value": "structured"}, "traceparent": "00-1", "time": "2026-03-02T09:30:00Z"}),
    )
    .ok();
    assert_eq!((&one["count"], &one["duplicate"]), (&json!(1), &json!(false)));
    assert_eq!(host.end_of(first_task(&one))["payload"], json!({"kept": 1, "value": "structured"}));
    let headers = [
        ("content-type", "application/json"),
        ("ce-specversion", "1.0"),
        ("ce-id", "2"),
        ("ce-source", "/desk/fx"),
        ("ce-type", "fill"),
        ("ce-subject", "caf%C3%A9"),
    ];
    let binary = |body: &[u8]| host.request("POST", "/events", Some(body), &headers);
    let two = binary(br#"{"value": "binary"}"#).ok();
    assert_eq!(host.end_of(first_task(&two))["result"], "binary");
    assert_eq!(binary(b"{}").ok()["duplicate"], true);
    let many = json!([
        envelope("3", json!({"data": {"value": 3}})),
        envelope("1", json!({"data": {"value": "again"}})),
        envelope("4", json!({"type": "other"})),
        envelope("3", json!({"data": {"value": "twice in the batch"}})),
    ]);
    let answer = batched(&host, &many).ok();
    assert_eq!(answer["count"], 1, "{answer}");
    let events = answer["events"].as_array().expect("events");
    let told: Vec<(&str, bool)> = events
        .iter()
        .map(|e| (e["id"].as_str().expect("an id"), e["duplicate"] == true))
        .collect();
    assert_eq!(told, [("3", false), ("1", true), ("4", false), ("3", true)]);
    assert_eq!(
        (&events[0]["source"], events[0]["triggered_tasks"].as_array().map(Vec::len)),
        (&json!("/desk/fx"), Some(1))
    );
    assert_eq!(host.end_of(first_task(&answer))["result"], 3);
    assert_eq!(
        batched(&host, &json!([])).ok(),
        json!({"triggered_tasks": [], "count": 0, "events": []})
    );
}

#[test]
fn a_refused_event_changes_nothing_and_says_where() {
    let host = Host::with_probe();
    listen(&host, "fill", json!({}));
    for (event, pointer) in [
        (json!({"specversion": "0.3"}), "/specversion"),
        (json!({"id": ""}), "/id"),
        (json!({"source": "a b"}), "/source"),
        (json!({"type": "no spaces"}), "/type"),
        (json!({"time": "yesterday"}), "/time"),
        (json!({"data": [1]}), "/data"),
        (json!({"datacontenttype": "text/xml", "data": {}}), "/datacontenttype"),
        (json!({"data_base64": "?"}), "/data_base64"),
        (json!({"Wrong": 1}), "/Wrong"),
    ] {
        let refused = send(&host, "1", event.clone()).problem(400);
        assert_eq!(refused["errors"][0]["pointer"], pointer, "{refused}");
        let refused = batched(&host, &json!([envelope("0", json!({})), envelope("1", event)])).problem(400);
        assert_eq!(refused["errors"][0]["pointer"], format!("/1{pointer}"), "{refused}");
    }
    let with = |kind: &str, body: &[u8]| host.request("POST", "/events", Some(body), &[("content-type", kind), ("ce-specversion", "1.0")]);
    with("text/plain", b"{}").problem(415);
    with("application/cloudevents+avro", b"{}").problem(415);
    with("application/json", b"{}").problem(400);
    host.request("POST", "/events", Some(b"{}"), &[("content-type", "application/json")])
        .problem(400);
    with("application/cloudevents+json", b"{").problem(400);
    with("application/cloudevents-batch+json", b"{}").problem(400);
    batched(&host, &json!(vec![envelope("1", json!({})); 1_001])).problem(400);
    assert_eq!(host.get("/tasks").ok(), json!([]));
    assert_eq!(
        send(&host, "0", json!({})).ok()["duplicate"],
        false,
        "nothing of what was refused was kept"
    );
}

#[test]
fn of_the_same_event_from_everywhere_at_once_one_is_delivered() {
    let mut host = Host::with_probe();
    listen(&host, "fill", json!({}));
    let fresh = |host: &Host, id: &str| {
        let answers: Vec<Value> = std::thread::scope(|scope| {
            let sent: Vec<_> = (0..8).map(|_| scope.spawn(|| send(host, id, json!({})).ok())).collect();
            sent.into_iter().map(|sent| sent.join().expect("an answer")).collect()
        });
        answers
            .iter()
            .filter(|answer| answer["duplicate"] == false && answer["count"] == 1)
            .count()
    };
    for id in ["a", "b", "c"] {
        assert_eq!(fresh(&host, id), 1);
    }
    host.kill();
    host.start(&[]);
    assert_eq!(fresh(&host, "c"), 0, "it is known over restarts");
    assert_eq!(
        send(&host, "c", json!({"source": "/desk/rates"})).ok()["duplicate"],
        false,
        "another source is another event"
    );
}

#[test]
fn only_what_the_filter_lets_through_fires() {
    let host = Host::with_probe();
    let large = listen(&host, "fill", json!({"filter": "data.delta > 1000000.0"}));
    let desk = listen(
        &host,
        "fill",
        json!({"filter": "source.startsWith('/desk/') && time > timestamp('2026-01-01T00:00:00Z')"}),
    );
    let all = listen(&host, "fill", json!({}));
    let fired = |id: &str, event: Value| {
        let answer = send(&host, id, event).ok();
        let ids: BTreeSet<String> = answer["triggered_tasks"]
            .as_array()
            .expect("ids")
            .iter()
            .map(|task| {
                host.end_of(task.as_str().expect("an id"))["trigger_id"]
                    .as_str()
                    .expect("a trigger")
                    .to_owned()
            })
            .collect();
        ids
    };
    let set = |ids: &[&String]| ids.iter().map(|id| (*id).clone()).collect::<BTreeSet<_>>();
    let early = "2025-01-01T00:00:00Z";
    assert_eq!(fired("1", json!({"data": {"delta": 1_500_000}})), set(&[&large, &desk, &all]));
    assert_eq!(
        fired("2", json!({"data": {"delta": 1_500_000.5}, "time": early})),
        set(&[&large, &all])
    );
    assert_eq!(fired("3", json!({"data": {"delta": 1_000_000}, "source": "/books"})), set(&[&all]));
    assert_eq!(
        fired("4", json!({"data": {}, "time": early})),
        set(&[&all]),
        "a missing member is no match"
    );
    assert_eq!(fired("5", json!({"data": {"delta": "much"}, "time": early})), set(&[&all]));
    let record = trigger(&host, &large);
    assert_eq!(
        (&record["fired_count"], &record["skipped_count"]),
        (&json!(2), &json!(3)),
        "{record}"
    );
    assert!(
        record["filter_error"].as_str().is_some_and(|error| error.contains("overload")),
        "{record}"
    );
    assert_eq!(record["filter"], "data.delta > 1000000.0");
    patch(&host, &large, &json!({"filter": "data.delta > 1000001.0"})).ok();
    assert_eq!(trigger(&host, &large)["filter_error"], Value::Null, "it was the other filter's");
    patch(&host, &large, &json!({"filter": null})).ok();
    assert_eq!(fired("6", json!({"data": {"delta": 2e6}, "time": early})), set(&[&large, &all]));
    assert_eq!(trigger(&host, &large)["filter_error"], Value::Null);
    let too_large = send(&host, "7", json!({"data": {"x": "y".repeat(1 << 20)}})).problem(413);
    assert!(
        too_large["detail"].as_str().is_some_and(|detail| detail.contains("filters")),
        "{too_large}"
    );
    // The seed's way in goes through the same filters.
    assert_eq!(host.post("/event/trigger/fill", &json!({"delta": 5})).ok()["count"], 1);
}

#[test]
fn a_trigger_that_cannot_be_meant_is_refused_with_its_place() {
    let host = Host::with_probe();
    let deep = format!("{}1{} == 1", "[".repeat(60), "]".repeat(60));
    for (member, value) in [
        ("filter", json!("data.delta >")),
        ("filter", json!("delta > 5")),
        ("filter", json!("now() > time")),
        ("filter", json!("data.delta + 1")),
        ("filter", json!(deep)),
        ("filter", json!("x".repeat(5_000))),
        ("filter", json!(5)),
        ("filter", json!("")),
        ("debounce", json!(0)),
        ("debounce", json!(-1)),
        ("debounce", json!(86_401)),
        ("debounce", json!("5")),
        ("priority", json!(10)),
        ("priority", json!("high")),
        ("tags", json!("one")),
        ("payload", json!([1])),
        ("name", json!("a b")),
        ("event_type", json!("a b")),
        ("paused", json!(true)),
    ] {
        let refused = register(&host, "fill", json!({ member: value })).problem(400);
        assert_eq!(refused["errors"][0]["pointer"], format!("/{member}"), "{refused}");
    }
    register(&host, "fill", json!({"task_name": "ecco"})).problem(404);
    assert_eq!(host.get("/triggers").ok(), json!([]));
    let id = listen(&host, "fill", json!({"priority": 4}));
    let before = trigger(&host, &id);
    for (member, value) in [
        ("filter", json!("nonsense(")),
        ("debounce", json!(-1)),
        ("debounce", json!(1e9)),
        ("priority", json!(0)),
        ("payload", json!("text")),
        ("tags", json!([""])),
        ("paused", json!("yes")),
        ("task_name", json!("noop")),
        ("name", json!("other")),
    ] {
        let refused = patch(&host, &id, &json!({"tags": ["changed"], member: value})).problem(400);
        assert!(
            refused["errors"][0]["pointer"]
                .as_str()
                .is_some_and(|at| at.starts_with(&format!("/{member}"))),
            "{refused}"
        );
    }
    assert_eq!(trigger(&host, &id), before);
    patch(&host, &TriggerId::new(Time::UNIX_EPOCH).to_string(), &json!({})).problem(404);
}

#[test]
fn an_operators_edits_survive_registrations_and_restarts_until_they_are_taken_back() {
    let mut host = Host::with_probe();
    let declared = json!({"name": "scan", "payload": {"value": 1, "limit": 0.1}, "priority": 4, "filter": "data.n > 1"});
    let id = listen(&host, "fill", declared.clone());
    let edit = json!({"payload": {"value": 2, "note": "x"}, "priority": 1, "filter": "data.n > 10", "tags": ["ops"]});
    let edited = patch(&host, &id, &edit).ok();
    assert_eq!(edited["payload"], json!({"value": 2, "limit": 0.1, "note": "x"}));
    assert_eq!(edited["edits"], edit);
    assert_eq!(host.post(&format!("/trigger/{id}/pause"), &json!({})).ok()["status"], "paused");
    host.kill();
    host.start(&[]);
    assert_eq!(
        listen(
            &host,
            "fill",
            json!({"name": "scan", "payload": {"value": 1, "limit": 0.2}, "filter": "data.n > 1"})
        ),
        id
    );
    assert_eq!(send(&host, "1", json!({"data": {"n": 11}})).ok()["count"], 0, "it is still paused");
    host.post(&format!("/trigger/{id}/resume"), &json!({})).ok();
    let record = trigger(&host, &id);
    assert_eq!(
        record["payload"],
        json!({"value": 2, "limit": 0.2, "note": "x"}),
        "edits over what is declared now"
    );
    assert_eq!(
        (&record["priority"], &record["filter"], &record["status"]),
        (&json!(1), &json!("data.n > 10"), &json!("registered"))
    );
    assert_eq!(send(&host, "2", json!({"data": {"n": 9}})).ok()["count"], 0);
    let fired = send(&host, "3", json!({"data": {"n": 11}})).ok();
    let task = host.end_of(first_task(&fired));
    assert_eq!(
        (&task["priority"], &task["payload"]),
        (&json!(1), &json!({"value": 2, "limit": 0.2, "note": "x", "n": 11}))
    );
    let back = patch(
        &host,
        &id,
        &json!({"payload": {"value": null}, "filter": null, "priority": null, "tags": null}),
    )
    .ok();
    assert_eq!(back["payload"], json!({"value": 1, "limit": 0.2, "note": "x"}));
    assert_eq!(
        (&back["filter"], &back["priority"], &back["edits"]),
        (&json!("data.n > 1"), &Value::Null, &json!({"payload": {"note": "x"}}))
    );
    assert_eq!(
        patch(&host, &id, &json!({"payload": null, "paused": true})).ok()["edits"],
        Value::Null
    );
    listen(&host, "fill", declared);
    let record = trigger(&host, &id);
    assert_eq!(
        (&record["status"], &record["fired_count"], &record["skipped_count"]),
        (&json!("paused"), &json!(1), &json!(1))
    );
}

#[test]
fn with_a_debounce_many_events_make_one_task_that_runs_with_the_last() {
    let mut host = Host::with_probe();
    let id = listen(&host, "fill", json!({"debounce": 86_400, "payload": {"kept": 1}}));
    let due = |task: &str| -> Time {
        let waiting = host.get("/tasks/scheduled").ok();
        let of_task = waiting
            .as_array()
            .expect("a list")
            .iter()
            .find(|entry| entry["task_id"] == task)
            .expect("it waits")
            .clone();
        of_task["trigger_time"].as_str().expect("a time").parse().expect("a time")
    };
    let first = send(&host, "1", json!({"data": {"value": 1, "old": true}})).ok();
    let task = first_task(&first).to_owned();
    let first_due = due(&task);
    let second = send(&host, "2", json!({"data": {"value": 2}})).ok();
    assert_eq!((first_task(&second), &second["count"]), (task.as_str(), &json!(1)));
    assert!(due(&task) > first_due, "it waits for quiet again");
    let record = host.task(&task);
    assert_eq!(
        (&record["payload"], &record["status"]),
        (&json!({"value": 2, "kept": 1}), &json!("pending"))
    );
    host.kill();
    host.start(&[]);
    assert_eq!(
        first_task(&send(&host, "3", json!({"data": {"value": 3}})).ok()),
        task,
        "over restarts too"
    );
    // It has not begun, but a cancelled task waits for nothing.
    host.delete(&format!("/task/cancel/{task}")).ok();
    let fresh = send(&host, "4", json!({"data": {"value": 4}})).ok();
    assert_ne!(first_task(&fresh), task);
    assert_eq!(trigger(&host, &id)["fired_count"], 4);
    // Short ones run, each once all is quiet.
    patch(&host, &id, &json!({"debounce": 0.05})).ok();
    let last = send(&host, "5", json!({"data": {"value": 5}})).ok();
    assert_eq!(
        first_task(&last),
        first_task(&fresh),
        "what waits for a day waits for the new time now"
    );
    let ended = host.end_of(first_task(&last));
    assert_eq!((&ended["status"], &ended["result"]), (&json!("success"), &json!(5)));
    let next = send(&host, "6", json!({"data": {"value": 6}})).ok();
    assert_ne!(first_task(&next), first_task(&last));
    assert_eq!(host.end_of(first_task(&next))["result"], 6);
    assert_eq!(patch(&host, &id, &json!({"debounce": 0})).ok()["debounce"], Value::Null);
    eventually("nothing waits", || host.get("/tasks/scheduled").ok() == json!([]));
}

/// Triggers in the store as the API would leave them.
fn with_listeners(host: &Host, count: usize) {
    let store = Sqlite::open(&host.path("data")).expect("a store");
    let store = std::sync::Arc::new(store);
    tokio::runtime::Runtime::new().expect("a runtime").block_on(async {
        let mut put = tokio::task::JoinSet::new();
        for n in 0..count {
            let store = store.clone();
            let trigger = Trigger {
                id: TriggerId::new(Time::UNIX_EPOCH + chrono::TimeDelta::seconds(1)),
                name: format!("t{n}"),
                task_name: "noop".into(),
                event_type: "fill".into(),
                declared: Terms {
                    payload: format!(r#"{{"n":{n}}}"#),
                    priority: None,
                    tags: vec![],
                    filter: Some(format!("data.delta > {n}.0 && has(data.desk) && data.desk in ['fx', 'rates']")),
                    debounce: None,
                },
                edits: Edits::default(),
                paused: false,
                created_at: Time::UNIX_EPOCH,
                fired_count: 0,
                last_fired: None,
                skipped_count: 0,
                filter_error: None,
            };
            put.spawn(async move { store.put_trigger(trigger).await });
        }
        while let Some(done) = put.join_next().await {
            done.expect("a task").expect("put");
        }
        store.close().await;
    });
}

#[test]
fn an_event_with_ten_thousand_listeners_is_one_transaction() {
    let mut host = Host::prepare();
    with_listeners(&host, 10_000);
    host.drop_plugin("probe", &crate::harness::guests::probe());
    host.start(&[]);
    let began = Instant::now();
    let fired = send(&host, "1", json!({"data": {"delta": 10_000, "desk": "fx"}})).ok();
    let took = began.elapsed();
    assert_eq!(
        (&fired["count"], fired["triggered_tasks"].as_array().map(Vec::len)),
        (&json!(10_000), Some(10_000))
    );
    eprintln!("10,000 listeners: {took:?}");
    assert!(took.as_secs() < 20, "{took:?}");
    let began = Instant::now();
    assert_eq!(send(&host, "2", json!({"data": {"delta": 50, "desk": "fx"}})).ok()["count"], 50);
    eprintln!("50 of 10,000 listeners: {:?}", began.elapsed());
    // It is there whole after a kill, and known.
    host.kill();
    host.start(&[]);
    assert_eq!(
        send(&host, "1", json!({"data": {"delta": 10_000, "desk": "fx"}})).ok()["duplicate"],
        true
    );
    for task in [&fired["triggered_tasks"][0], &fired["triggered_tasks"][9_999]] {
        assert_eq!(host.task(task.as_str().expect("an id"))["task_name"], "noop");
    }
}

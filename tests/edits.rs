//! What an operator changes of schedules and triggers, over what services declare again and again.

use crate::harness::{Answer, Host, eventually, guests};
use serde_json::{Value, json};

fn put(host: &Host, path: &str, body: &Value) -> String {
    host.post(path, body).ok()["task_id"].as_str().expect("an id").to_owned()
}

fn schedule(host: &Host, body: &Value) -> String {
    put(host, "/task/cron", body)
}

fn patch_text(host: &Host, path: &str, text: &str) -> Answer {
    let headers = [("content-type", "application/merge-patch+json")];
    host.request("PATCH", path, Some(text.as_bytes()), &headers)
}

fn patch(host: &Host, path: &str, body: &Value) -> Answer {
    patch_text(host, path, &body.to_string())
}

fn record(host: &Host, id: &str) -> Value {
    host.get(&format!("/task/status/{id}")).ok()
}

fn told(host: &Host, kind: &str, id: &str) -> String {
    let alerts = host.get(&format!("/alerts?alert_type={kind}")).ok();
    assert_eq!(alerts[0]["task_id"], id, "{alerts}");
    alerts[0]["error"].as_str().expect("a sentence").to_owned()
}

#[test]
fn a_service_that_registers_again_wins_over_the_edits_that_do_not_fit() {
    let host = Host::with_probe();
    let declared = json!({"name": "nightly", "task_name": "echo", "cron_expression": "@daily", "payload": {"value": 1}});
    let id = schedule(&host, &declared);
    let path = format!("/schedule/{id}");
    let edits = json!({"timezone": "Asia/Tokyo", "end": "2090-01-01T00:00:00Z", "priority": 1, "payload": {"a": 7}});
    patch(&host, &path, &edits).ok();
    assert_eq!(schedule(&host, &declared), id);
    assert_eq!(record(&host, &id)["edits"], edits, "what fits stays");
    assert_eq!(host.get("/alerts").ok(), json!([]));
    // A session has no zone of its own, and this one begins after the edited end.
    let sessions = json!({"name": "nightly", "task_name": "echo", "session": {"edge": "open"}, "calendar": "XNYS"});
    assert_eq!(schedule(&host, &sessions), id);
    let now = record(&host, &id);
    assert_eq!(
        (&now["edits"], &now["calendar"], &now["priority"]),
        (&json!({"priority": 1, "payload": {"a": 7}}), &json!("XNYS"), &json!(1))
    );
    assert!(now["error"].is_null() && now["next_fire"].is_string(), "{now}");
    let sentence = told(&host, "edit", &id);
    assert!(
        ["nightly", "end, timezone", "/timezone"].iter().all(|word| sentence.contains(word)),
        "{sentence}"
    );
    assert!(host.stderr().contains("does not fit it any more"), "{}", host.stderr());
    // An edit that leaves no fire goes too.
    patch(&host, &path, &json!({"end": "2090-01-01T00:00:00Z"})).ok();
    let later = json!({"name": "nightly", "task_name": "echo", "cron_expression": "@daily", "start": "2095-01-01T00:00:00Z"});
    assert_eq!(schedule(&host, &later), id);
    assert_eq!(record(&host, &id)["next_fire"], "2095-01-01T00:00:00Z");
    // What is wrong in itself is refused as ever, and takes no edit with it.
    let before = record(&host, &id);
    let wrong = json!({"name": "nightly", "task_name": "echo", "cron_expression": "@daily", "on_closed": "next"});
    assert_eq!(host.post("/task/cron", &wrong).problem(400)["errors"][0]["pointer"], "/on_closed");
    assert_eq!(record(&host, &id), before);
}

#[test]
fn an_edited_payload_is_held_against_the_schema_of_the_task_that_is_declared() {
    let host = Host::with_probe();
    let id = schedule(&host, &json!({"name": "s", "task_name": "echo", "cron_expression": "@daily"}));
    let path = format!("/schedule/{id}");
    let sum = json!({"name": "s", "task_name": "add", "cron_expression": "@daily", "payload": {"a": 1, "b": 2}});
    patch(&host, &path, &json!({"payload": {"a": 7}})).ok();
    schedule(&host, &sum);
    assert_eq!(record(&host, &id)["payload"], json!({"a": 7, "b": 2}), "it fits");
    schedule(&host, &json!({"name": "s", "task_name": "echo", "cron_expression": "@daily"}));
    patch(&host, &path, &json!({"payload": {"a": "seven"}, "priority": 2})).ok();
    assert_eq!(schedule(&host, &sum), id);
    let now = record(&host, &id);
    assert_eq!(
        (&now["task_name"], &now["payload"], &now["edits"]),
        (&json!("add"), &json!({"a": 1, "b": 2}), &json!({"priority": 2}))
    );
    assert!(told(&host, "edit", &id).contains("/payload/a"));
    let refused = patch(&host, &path, &json!({"payload": {"b": "two"}})).problem(422);
    assert_eq!(refused["errors"][0]["pointer"], "/payload/b");
}

#[test]
fn a_manifest_wins_over_edits_that_do_not_fit_too() {
    let host = Host::with_probe();
    let manifest = |rest: &str| {
        host.manifest(
            "probe",
            &format!("[[schedules]]\nname = \"s\"\ncron_expression = \"@daily\"\n{rest}\n"),
        )
    };
    manifest("task_name = \"echo\"");
    eventually("the schedule is there", || host.get("/schedule/s").status == 200);
    patch(
        &host,
        "/schedule/s",
        &json!({"payload": {"a": "one"}, "end": "2090-01-01", "priority": 1}),
    )
    .ok();
    manifest("task_name = \"add\"\npayload = { a = 1, b = 2 }\nstart = 2091-01-01");
    eventually("it is declared anew", || host.get("/schedule/s").ok()["task_name"] == "add");
    let now = host.get("/schedule/s").ok();
    assert_eq!(
        (&now["payload"], &now["edits"]),
        (&json!({"a": 1, "b": 2}), &json!({"priority": 1}))
    );
    assert_eq!(host.get("/plugin/probe").ok()["error"], Value::Null);
    let sentence = told(&host, "edit", now["task_id"].as_str().expect("an id"));
    assert!(
        ["of end (/end", "of payload (/payload/a"]
            .iter()
            .all(|word| sentence.contains(word)),
        "{sentence}"
    );
}

#[test]
fn a_trigger_that_is_registered_for_another_task_takes_no_payload_with_it() {
    let host = Host::with_probe();
    let register = |task: &str| {
        put(
            &host,
            "/task/event-trigger",
            &json!({"name": "t", "task_name": task, "event_type": "e", "payload": {"a": 1}}),
        )
    };
    let id = register("echo");
    let edited = patch(&host, "/trigger/t", &json!({"payload": {"a": {"x": 1.50}}, "priority": 1})).ok();
    assert_eq!(edited["payload"], json!({"a": {"x": 1.50}}));
    let deeper = patch(&host, "/trigger/t", &json!({"payload": {"a": {"x": null, "y": 2}}})).ok();
    assert_eq!(deeper["payload"], json!({"a": {"y": 2}}));
    assert_eq!(register("echo"), id);
    assert_eq!(record(&host, &id)["edits"], json!({"payload": {"a": {"y": 2}}, "priority": 1}));
    assert_eq!(register("noop"), id);
    let now = record(&host, &id);
    assert_eq!((&now["edits"], &now["payload"]), (&json!({"priority": 1}), &json!({"a": 1})));
    assert!(told(&host, "edit", &id).contains("meant for the task \"echo\""));
}

#[test]
fn a_payload_that_its_task_does_not_take_any_more_is_told_to_who_fires_it() {
    let host = Host::with_probe();
    // Of a task that another plugin handles: nobody holds its payload against the schema.
    host.drop_plugin("frozen", &guests::component("frozen"));
    host.manifest(
        "frozen",
        "[[schedules]]\nname = \"wrong\"\ntask_name = \"add\"\ncron_expression = \"@yearly\"\npayload = { a = \"one\", b = 2 }\n",
    );
    eventually("the schedule is there", || host.get("/schedule/wrong").status == 200);
    let refused = host.post("/schedule/wrong/run", &json!({})).problem(422);
    assert_eq!(refused["errors"][0]["pointer"], "/payload/a");
    let years = json!({"from": "2020-01-01", "to": "2022-01-01"});
    host.post("/schedule/wrong/backfill", &years).problem(422);
    assert_eq!(host.get("/schedule/wrong/fires").ok(), json!([]));
    patch(&host, "/schedule/wrong", &json!({"payload": {"a": 1}})).ok();
    let ran = host.post("/schedule/wrong/run", &json!({})).ok();
    assert_eq!(host.end_of(ran["task_id"].as_str().expect("an id"))["result"], 3);
}

#[test]
fn a_calendar_that_ends_ends_its_schedules_aloud_and_gives_them_back() {
    let host = Host::with_probe();
    let calendar = |weekend: Value| {
        let body = json!({"name": "DESK", "timezone": "UTC", "weekend": weekend, "holidays": [], "official_until": "2090-12-31",
            "hours": [{"from": "2000-01-01", "open": "09:00", "close": "17:00"}]});
        let headers = [("content-type", "application/json")];
        host.request("PUT", "/calendar/DESK", Some(body.to_string().as_bytes()), &headers)
            .ok();
    };
    let never = json!(["mon", "tue", "wed", "thu", "fri", "sat", "sun"]);
    calendar(json!([]));
    let declared = json!({"name": "s", "task_name": "echo", "cron_expression": "0 12 * * *", "calendar": "DESK"});
    let id = schedule(&host, &declared);
    let path = format!("/schedule/{id}");
    calendar(never.clone());
    let ended = record(&host, &id);
    assert_eq!((&ended["status"], &ended["next_fire"]), (&json!("ended"), &Value::Null));
    let sentence = told(&host, "calendar", &id);
    assert!(sentence.contains("DESK") && sentence.contains("no session left"), "{sentence}");
    calendar(never.clone());
    assert_eq!(host.get("/alerts?alert_type=calendar").ok()[0]["count"], 1, "it ended once");
    // It can be edited, and whoever declares it at every start goes on.
    assert_eq!(patch(&host, &path, &json!({"priority": 1})).ok()["priority"], 1);
    assert_eq!(schedule(&host, &declared), id);
    for (body, pointer) in [
        (json!({"cron_expression": "0 13 * * *"}), "/calendar"),
        (json!({"cron_expression": "0 13 * * *", "on_closed": "next"}), "/calendar"),
        (json!({"session": {"edge": "open"}}), "/calendar"),
    ] {
        assert_eq!(patch(&host, &path, &body).problem(400)["errors"][0]["pointer"], pointer, "{body}");
    }
    calendar(json!([]));
    assert_eq!(record(&host, &id)["status"], "scheduled");
    calendar(never);
    assert_eq!(patch(&host, &path, &json!({"calendar": "XNYS"})).ok()["status"], "scheduled");
}

#[test]
fn a_patch_of_a_schedule_is_a_merge_patch_and_takes_no_member_twice() {
    let host = Host::with_probe();
    let declared = json!({"name": "s", "task_name": "echo", "cron_expression": "@daily", "payload": {"desk": {"a": 1, "b": 2}, "n": 1}});
    schedule(&host, &declared);
    let payload = |body: &Value| patch(&host, "/schedule/s", &json!({ "payload": body })).ok()["payload"].clone();
    assert_eq!(payload(&json!({"desk": {"b": 3}})), json!({"desk": {"a": 1, "b": 3}, "n": 1}));
    assert_eq!(
        payload(&json!({"desk": {"c": 4}, "n": 2})),
        json!({"desk": {"a": 1, "b": 3, "c": 4}, "n": 2})
    );
    assert_eq!(
        payload(&json!({"desk": {"b": null}})),
        json!({"desk": {"a": 1, "b": 2, "c": 4}, "n": 2})
    );
    assert_eq!(payload(&Value::Null), declared["payload"]);
    assert_eq!(
        record(&host, host.get("/schedule/s").ok()["task_id"].as_str().expect("an id"))["edits"],
        Value::Null
    );
    for (text, pointer, word) in [
        (r#"{"priority":1,"priority":2}"#, "/priority", "twice"),
        (r#"{"paused":true,"paused":true}"#, "/paused", "twice"),
        (r#"{"paused":"yes"}"#, "/paused", "true or false"),
        (r#"{"paused":true,"priority":0}"#, "/priority", "from 1"),
        (r#"{"payload":5}"#, "/payload", "must be a JSON object"),
        (r#"{"payload":{"n":1,"n":2}}"#, "/payload/n", "twice"),
        (
            r#"{"payload":{"desk":[0,{"a":{"b":1,"c":2,"b":3}}]}}"#,
            "/payload/desk/1/a/b",
            "twice",
        ),
        (r#"{"session":{"edge":"open","edge":"close"}}"#, "/session/edge", "twice"),
        (r#"{"bogus":null}"#, "/bogus", "is unknown; it takes cron_expression, session"),
        (r#"{"paused":true,"bogus":1}"#, "/bogus", "is unknown"),
        (r#"{"name":null}"#, "/name", "cannot be changed"),
        (r#"{"task_name":"noop"}"#, "/task_name", "cannot be changed"),
        (r#"{"session":{}}"#, "/session/edge", "is missing"),
        ("[]", "", "must be a JSON object"),
    ] {
        let refused = patch_text(&host, "/schedule/s", text).problem(400);
        assert_eq!(refused["errors"][0]["pointer"], pointer, "{text} {refused}");
        assert!(
            refused["errors"][0]["detail"].as_str().is_some_and(|detail| detail.contains(word)),
            "{refused}"
        );
    }
    put(
        &host,
        "/task/event-trigger",
        &json!({"name": "t", "task_name": "echo", "event_type": "e"}),
    );
    let twice = patch_text(&host, "/trigger/t", r#"{"payload":{"a":[{"b":1,"b":2}]}}"#).problem(400);
    assert_eq!(twice["errors"][0]["pointer"], "/payload/a/0/b");
    let paused = patch(&host, "/schedule/s", &json!({"paused": true, "priority": 3})).ok();
    assert_eq!(
        (&paused["status"], &paused["priority"], &paused["edits"]),
        (&json!("paused"), &json!(3), &json!({"priority": 3}))
    );
    let since = paused["paused_at"].clone();
    assert_eq!(patch(&host, "/schedule/s", &json!({"paused": true})).ok()["paused_at"], since);
    let resumed = patch(&host, "/schedule/s", &json!({"paused": false, "cron_expression": "@hourly"})).ok();
    assert_eq!(
        (&resumed["status"], &resumed["cron_expression"]),
        (&json!("scheduled"), &json!("@hourly"))
    );
    assert!(resumed["next_fire"].is_string() && resumed["paused_at"].is_null(), "{resumed}");
    for text in [r#"{"priority":1,"priority":2}"#, r#"{"retry":{"jitter":0,"jitter":1}}"#] {
        let refused = patch_text(&host, "/registry/task/echo", text).problem(400);
        assert!(
            refused["detail"].as_str().is_some_and(|detail| detail.contains("twice")),
            "{refused}"
        );
    }
}

#[test]
fn a_nested_edit_that_is_taken_back_gives_the_declared_value_back() {
    let host = Host::with_probe();
    let payload = json!({"a": 1, "b": {"c": 2}});
    schedule(
        &host,
        &json!({"name": "s", "task_name": "echo", "cron_expression": "@daily", "payload": payload}),
    );
    put(
        &host,
        "/task/event-trigger",
        &json!({"name": "t", "task_name": "echo", "event_type": "e", "payload": payload}),
    );
    for path in ["/schedule/s", "/trigger/t"] {
        let edit = |change: Value| {
            let now = patch(&host, path, &json!({ "payload": change })).ok();
            (now["payload"].clone(), now["edits"].clone())
        };
        edit(json!({"a": {"x": {"y": 1}}, "b": {"d": 3}}));
        let (now, edits) = edit(json!({"a": {"x": {"y": null}}}));
        assert_eq!(now, json!({"a": 1, "b": {"c": 2, "d": 3}}), "{path}");
        assert_eq!(edits, json!({"payload": {"b": {"d": 3}}}), "{path}");
        assert_eq!(edit(json!({"b": {"d": null}})), (payload.clone(), Value::Null), "{path}");
        // Given empty, it is what is wanted.
        assert_eq!(edit(json!({"a": {}})).0, json!({"a": {}, "b": {"c": 2}}), "{path}");
        assert_eq!(edit(json!({"a": null})), (payload.clone(), Value::Null), "{path}");
    }
}

#[test]
fn what_keeps_a_schedule_alive_can_be_taken_back() {
    let host = Host::with_probe();
    let calendar = |weekend: Value| {
        let body = json!({"timezone": "UTC", "weekend": weekend, "holidays": [], "official_until": "2090-12-31",
            "hours": [{"from": "2000-01-01", "open": "09:00", "close": "17:00"}]});
        let headers = [("content-type", "application/json")];
        host.request("PUT", "/calendar/DESK", Some(body.to_string().as_bytes()), &headers)
            .ok();
    };
    calendar(json!([]));
    schedule(
        &host,
        &json!({"name": "s", "task_name": "echo", "cron_expression": "0 12 * * *", "calendar": "DESK"}),
    );
    let edit = json!({"calendar": "XNYS", "priority": 2});
    patch(&host, "/schedule/s", &edit).ok();
    calendar(json!(["mon", "tue", "wed", "thu", "fri", "sat", "sun"]));
    let never = patch(&host, "/schedule/s", &json!({"calendar": null, "priority": 3})).problem(400);
    assert_eq!(never["errors"][0]["pointer"], "/calendar");
    let ended = patch(&host, "/schedule/s", &json!({"calendar": null, "priority": null})).ok();
    assert_eq!(
        (&ended["status"], &ended["next_fire"], &ended["edits"]),
        (&json!("ended"), &Value::Null, &Value::Null)
    );
    assert_eq!(patch(&host, "/schedule/s", &edit).ok()["status"], "scheduled");
}

#[test]
fn edits_stay_short_and_a_long_payload_is_declared() {
    let host = Host::with_probe();
    let long = |of: &str, bytes: usize| json!({ of: "x".repeat(bytes) });
    // A payload that is long itself is edited by a few bytes, and its tasks get all of it.
    let declared = json!({"name": "s", "task_name": "echo", "cron_expression": "@yearly", "payload": long("a", 2 << 20)});
    let id = schedule(&host, &declared);
    assert_eq!(
        patch(&host, "/schedule/s", &json!({"payload": {"b": {"c": 1}}})).ok()["payload"]["b"]["c"],
        1
    );
    assert_eq!(schedule(&host, &declared), id);
    let ran = host.post("/schedule/s/run", &json!({})).ok();
    let got = host.end_of(ran["task_id"].as_str().expect("an id"))["payload"].clone();
    assert_eq!((&got["a"], &got["b"]), (&declared["payload"]["a"], &json!({"c": 1})));
    put(
        &host,
        "/task/event-trigger",
        &json!({"name": "t", "task_name": "echo", "event_type": "e"}),
    );
    // How much an operator edited of a trigger only the write knows.
    for (path, status) in [("/schedule/s", 400), ("/trigger/t", 409)] {
        patch(&host, path, &json!({ "payload": long("x", 600_000) })).ok();
        let kept = host.get(path).ok();
        for (more, status) in [(long("y", 600_000), status), (long("z", 1 << 20), 400)] {
            let refused = patch(&host, path, &json!({ "payload": more })).problem(status).to_string();
            assert!(refused.contains("1 MiB together; declare the payload anew"), "{refused}");
        }
        assert_eq!(host.get(path).ok(), kept);
        assert_eq!(patch(&host, path, &json!({"payload": null})).ok()["edits"], Value::Null);
    }
}

#[test]
fn what_never_fires_points_to_its_cause_as_does_its_preview() {
    let host = Host::with_probe();
    let weekends = json!({"name": "WEEKENDS", "timezone": "UTC", "weekend": ["mon", "tue", "wed", "thu", "fri"], "holidays": [],
        "official_until": "2090-12-31", "hours": [{"from": "2000-01-01", "open": "09:00", "close": "17:00"}]});
    let headers = [("content-type", "application/json")];
    host.request("PUT", "/calendar/WEEKENDS", Some(weekends.to_string().as_bytes()), &headers)
        .ok();
    for (members, pointer) in [
        (json!({"cron_expression": "@daily", "end": "2001-01-01"}), "/end"),
        (
            json!({"cron_expression": "@yearly", "start": "2090-02-01", "end": "2090-03-01"}),
            "/end",
        ),
        (json!({"cron_expression": "@yearly", "start": "9000-01-01"}), "/start"),
        (
            json!({"cron_expression": "@yearly", "start": "9000-01-01", "end": "9100-01-01"}),
            "/start",
        ),
        (
            json!({"cron_expression": "0 9 * * mon", "calendar": "WEEKENDS"}),
            "/cron_expression",
        ),
        (
            json!({"cron_expression": "0 9 * * mon", "calendar": "WEEKENDS", "end": "2090-01-01"}),
            "/cron_expression",
        ),
        (
            json!({"session": {"edge": "open"}, "calendar": "WEEKENDS", "end": "2020-01-01"}),
            "/end",
        ),
    ] {
        let shown = host.post("/schedule/preview", &members).problem(400);
        let mut body = members.clone();
        body["task_name"] = json!("echo");
        let refused = host.post("/task/cron", &body).problem(400);
        assert_eq!(refused["errors"][0]["pointer"], pointer, "{members} {refused}");
        assert_eq!(shown, refused, "{members}");
    }
    assert_eq!(host.get("/schedules").ok(), json!([]));
    // Later than the last fire there is none, and that is no mistake.
    for (members, after) in [
        (
            json!({"cron_expression": "@daily", "end": "2001-01-01T12:00:00Z"}),
            "2001-01-01T00:00:00Z",
        ),
        (
            json!({"cron_expression": "@yearly", "start": "2090-02-01", "end": "2091-03-01"}),
            "2091-02-01",
        ),
        (
            json!({"session": {"edge": "open"}, "calendar": "WEEKENDS", "end": "2020-01-01"}),
            "2025-01-01",
        ),
    ] {
        let mut body = members.clone();
        body["after"] = json!(after);
        assert_eq!(host.post("/schedule/preview", &body).ok()["fires"], json!([]), "{members}");
    }
    let never = json!({"cron_expression": "@yearly", "start": "2090-02-01", "end": "2090-03-01", "after": "2090-04-01"});
    assert_eq!(host.post("/schedule/preview", &never).problem(400)["errors"][0]["pointer"], "/end");
}

#[test]
fn a_name_that_nobody_gave_tells_apart_all_that_differs() {
    let host = Host::with_probe();
    let with = |base: &Value, members: &Value| {
        let mut body = base.clone();
        let members = members.as_object().expect("an object").clone();
        body.as_object_mut().expect("an object").extend(members);
        body
    };
    let daily = json!({"task_name": "echo", "cron_expression": "@daily"});
    let listens = json!({"task_name": "echo", "event_type": "e"});
    let common = [
        json!({}),
        json!({"priority": 1}),
        json!({"priority": 2}),
        json!({"tags": ["a"]}),
        json!({"tags": ["a", "b"]}),
    ];
    let timed = [
        json!({"start": "2090-01-01"}),
        json!({"end": "2090-01-01"}),
        json!({"start": "2089-01-01", "end": "2090-01-01"}),
    ];
    let heard = [
        json!({"debounce": 5}),
        json!({"filter": "data.n > 1"}),
        json!({"filter": "data.n > 1", "debounce": 5}),
    ];
    for (path, list, base, own) in [
        ("/task/cron", "/schedules", daily, timed),
        ("/task/event-trigger", "/triggers", listens, heard),
    ] {
        let all: Vec<Value> = common.iter().chain(&own).map(|members| with(&base, members)).collect();
        let ids: Vec<String> = all.iter().map(|body| put(&host, path, body)).collect();
        let again: Vec<String> = all.iter().map(|body| put(&host, path, body)).collect();
        assert_eq!(ids, again);
        assert_eq!(host.get(list).ok().as_array().map(Vec::len), Some(all.len()));
        assert_eq!(
            put(&host, path, &with(&base, &json!({"tags": ["b", "a"]}))),
            ids[4],
            "tags have no order"
        );
    }
}

#[test]
fn what_is_cancelled_twice_is_told_so() {
    let host = Host::with_probe();
    let task = host.submit(&json!({"task_name": "sleep"}));
    let cron = schedule(&host, &json!({"task_name": "echo", "cron_expression": "@daily"}));
    let trigger = put(&host, "/task/event-trigger", &json!({"task_name": "echo", "event_type": "e"}));
    let other = schedule(&host, &json!({"task_name": "echo", "cron_expression": "@hourly"}));
    for id in [&task, &cron, &trigger] {
        assert_eq!(host.delete(&format!("/task/cancel/{id}")).ok()["status"], "cancelled");
        host.delete(&format!("/task/cancel/{id}")).problem(409);
    }
    host.delete(&format!("/schedule/{other}")).ok();
    host.delete(&format!("/task/cancel/{other}")).problem(409);
    host.delete(&format!("/schedule/{other}")).problem(409);
    host.delete(&format!("/schedule/{cron}")).problem(409);
    host.delete(&format!("/trigger/{trigger}")).problem(409);
    for path in ["/schedule", "/trigger"] {
        host.delete(&format!("{path}/0192f0c1-2345-7abc-8def-0123456789ab")).problem(404);
        host.delete(&format!("{path}/nobody")).problem(404);
    }
    host.get(&format!("/task/status/{cron}")).problem(404);
    host.delete("/task/cancel/0192f0c1-2345-7abc-8def-0123456789ab").problem(404);
}

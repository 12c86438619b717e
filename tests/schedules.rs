//! Schedules as operators see them: what fires, what does not and why, over pauses, restarts and busy tasks.

use crate::harness::{Host, eventually, in_ms};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use taskhost::model::Time;

const SECOND: &str = "* * * * * *";

fn add(host: &Host, members: &Value) -> String {
    let mut body = json!({"task_name": "echo", "cron_expression": SECOND});
    body.as_object_mut()
        .expect("an object")
        .extend(members.as_object().expect("an object").clone());
    host.post("/task/cron", &body).ok()["task_id"].as_str().expect("an id").to_owned()
}

fn patch(host: &Host, id: &str, body: &Value) -> crate::harness::Answer {
    let headers = [("content-type", "application/merge-patch+json")];
    host.request("PATCH", &format!("/schedule/{id}"), Some(body.to_string().as_bytes()), &headers)
}

fn act(host: &Host, id: &str, what: &str) -> Value {
    host.post(&format!("/schedule/{id}/{what}"), &json!({})).ok()
}

fn record(host: &Host, id: &str) -> Value {
    host.get(&format!("/schedule/{id}")).ok()
}

fn fires(host: &Host, id: &str) -> Vec<Value> {
    host.get(&format!("/schedule/{id}/fires?limit=1000"))
        .ok()
        .as_array()
        .expect("a list")
        .clone()
}

fn made(host: &Host, id: &str) -> Vec<Value> {
    fires(host, id).into_iter().filter(|fire| fire["task_id"].is_string()).collect()
}

fn skipped(host: &Host, id: &str, reason: &str) -> Vec<Value> {
    fires(host, id).into_iter().filter(|fire| fire["skipped"] == reason).collect()
}

fn time(value: &Value) -> Time {
    value.as_str().and_then(|text| text.parse().ok()).expect("a time")
}

/// All seconds that a schedule of each second has fired at or told of, each once.
fn seconds(host: &Host, id: &str) -> BTreeSet<i64> {
    let mut seconds = BTreeSet::new();
    for fire in fires(host, id) {
        let first = time(&fire["at"]).timestamp();
        let last = fire["until"].as_str().map_or(first, |_| time(&fire["until"]).timestamp());
        for second in first..=last {
            assert!(seconds.insert(second), "{second} twice: {fire}");
        }
    }
    seconds
}

#[test]
fn a_preview_shows_the_fires_and_keeps_nothing() {
    let host = Host::with_probe();
    let preview = |members: Value| host.post("/schedule/preview", &members);
    let new_york =
        preview(json!({"cron_expression": "30 2 * * *", "timezone": "America/New_York", "after": "2026-03-07T12:00:00Z", "count": 2}));
    assert_eq!(new_york.ok()["fires"], json!(["2026-03-08T07:00:00Z", "2026-03-09T06:30:00Z"]));
    let strictly = preview(json!({"cron_expression": "0 0 * * *", "after": "2026-01-01T00:00:00Z", "count": 1}));
    assert_eq!(strictly.ok()["fires"], json!(["2026-01-02T00:00:00Z"]));
    let session =
        preview(json!({"session": {"edge": "close", "offset": 1800}, "calendar": "XNYS", "after": "2026-11-26T00:00:00Z", "count": 1}));
    assert_eq!(session.ok()["fires"], json!(["2026-11-27T18:30:00Z"]));
    assert_eq!(
        preview(json!({"cron_expression": "@hourly"})).ok()["fires"]
            .as_array()
            .map(Vec::len),
        Some(5)
    );
    let ended = preview(json!({"cron_expression": "@hourly", "end": "2026-01-01", "after": "2026-01-01"}));
    assert_eq!(ended.ok()["fires"], json!([]));
    for (members, pointer) in [
        (json!({"cron_expression": "0 24 * * *"}), "/cron_expression"),
        (json!({"cron_expression": "0 0 30 2 *"}), "/cron_expression"),
        (json!({"cron_expression": 5}), "/cron_expression"),
        (json!({}), "/cron_expression"),
        (json!({"cron_expression": "@daily", "count": 0}), "/count"),
        (json!({"cron_expression": "@daily", "count": 1001}), "/count"),
        (json!({"cron_expression": "@daily", "count": "many"}), "/count"),
        (json!({"cron_expression": "@daily", "after": "soon"}), "/after"),
        (json!({"cron_expression": "@daily", "timezone": "Mars"}), "/timezone"),
        (json!({"cron_expression": "@daily", "calendar": "XXXX"}), "/calendar"),
        (json!({"cron_expression": "@daily", "task_name": "echo"}), "/task_name"),
    ] {
        let refused = preview(members.clone()).problem(400);
        assert_eq!(refused["errors"][0]["pointer"], pointer, "{members} {refused}");
    }
    assert_eq!(host.get("/schedules").ok(), json!([]));
}

#[test]
fn a_pause_an_edit_and_the_cursor_survive_a_restart_and_a_service_that_registers_again() {
    let mut host = Host::with_probe();
    let register = |host: &Host| {
        add(
            host,
            &json!({"name": "nightly", "cron_expression": "30 17 * * *", "timezone": "Europe/London", "priority": 4}),
        )
    };
    let id = register(&host);
    let edited = patch(
        &host,
        &id,
        &json!({"priority": 1, "overlap": "skip", "cron_expression": "0 9 * * *", "payload": {"value": 1.10}}),
    )
    .ok();
    assert_eq!(
        (&edited["priority"], &edited["overlap"], &edited["misfire"]),
        (&json!(1), &json!("skip"), &json!("latest"))
    );
    assert_eq!(edited["timezone"], "Europe/London");
    act(&host, &id, "pause");
    host.kill();
    host.start(&[]);
    assert_eq!(register(&host), id);
    let kept = record(&host, &id);
    assert_eq!(
        (&kept["status"], &kept["priority"], &kept["cron_expression"]),
        (&json!("paused"), &json!(1), &json!("0 9 * * *"))
    );
    assert_eq!(kept["payload"], json!({"value": 1.10}));
    assert_eq!(host.get("/tasks/scheduled").ok(), json!([]), "a paused one is not to come");
    assert!(kept["paused_at"].is_string() && kept["next_fire"].is_null(), "{kept}");
    // Taken back, what is declared holds again.
    let back = patch(&host, &id, &json!({"priority": null, "cron_expression": null})).ok();
    assert_eq!((&back["priority"], &back["cron_expression"]), (&json!(4), &json!("30 17 * * *")));
    assert_eq!(back["edits"].as_object().map(serde_json::Map::len), Some(2));
    let resumed = act(&host, &id, "resume");
    assert_eq!((&resumed["status"], &resumed["paused_at"]), (&json!("scheduled"), &Value::Null));
    let preview = json!({"cron_expression": "30 17 * * *", "timezone": "Europe/London", "count": 1});
    assert_eq!(resumed["next_fire"], host.post("/schedule/preview", &preview).ok()["fires"][0]);
}

#[test]
fn an_edit_that_does_not_fit_changes_nothing() {
    let host = Host::with_probe();
    let id = add(&host, &json!({"cron_expression": "@daily"}));
    let before = record(&host, &id);
    for (body, status, pointer) in [
        (json!({"priority": 0}), 400, "/priority"),
        (json!({"cron_expression": "0 0 31 2 *"}), 400, "/cron_expression"),
        (json!({"timezone": "Moon"}), 400, "/timezone"),
        (json!({"on_closed": "next"}), 400, "/on_closed"),
        (json!({"name": "other"}), 400, "/name"),
        (json!({"task_name": "noop"}), 400, "/task_name"),
        (json!({"prio": 1}), 400, "/prio"),
        (json!({"payload": 5}), 400, "/payload"),
        (json!({"end": "2001-01-01"}), 400, "/end"),
    ] {
        let refused = patch(&host, &id, &body).problem(status);
        assert_eq!(refused["errors"][0]["pointer"], pointer, "{body} {refused}");
    }
    assert_eq!(record(&host, &id), before);
    let sum = add(
        &host,
        &json!({"task_name": "add", "cron_expression": "@daily", "payload": {"a": 1, "b": 2}}),
    );
    let refused = patch(&host, &sum, &json!({"payload": {"a": "one"}})).problem(422);
    assert_eq!(refused["errors"][0]["pointer"], "/payload/a");
    for path in ["pause", "resume", "run"] {
        host.post("/schedule/0192f0c1-2345-7abc-8def-0123456789ab/pause", &json!({}))
            .problem(404);
        host.post(&format!("/schedule/x/{path}"), &json!({})).problem(404);
        let refused = host
            .post(&format!("/schedule/{sum}/{path}"), &json!({"payload": {"a": 5}}))
            .problem(400);
        assert_eq!(refused["errors"][0]["pointer"], "/payload");
        host.post(&format!("/schedule/{sum}/{path}"), &json!([])).problem(400);
    }
}

#[test]
fn a_schedule_is_found_by_its_name_too() {
    let host = Host::with_probe();
    let id = add(
        &host,
        &json!({"task_name": "echo", "cron_expression": "@yearly", "name": "year.end"}),
    );
    assert_eq!(record(&host, "year.end")["schedule_id"], id);
    assert_eq!(host.request("POST", "/schedule/year.end/pause", None, &[]).ok()["status"], "paused");
    assert_eq!(patch(&host, "year.end", &json!({"priority": 2})).ok()["priority"], 2);
    let task = host.post("/schedule/year.end/run", &json!({})).ok();
    host.end_of(task["task_id"].as_str().expect("an id"));
    assert_eq!(host.get("/schedule/year.end/fires").ok()[0]["task_id"], task["task_id"]);
    host.delete("/schedule/year.end").ok();
    host.get(&format!("/schedule/{id}")).problem(404);
    host.delete("/schedule/year.end").problem(404);
}

#[test]
fn what_a_pause_left_out_is_told() {
    let host = Host::with_probe();
    let id = add(&host, &json!({"overlap": "allow"}));
    eventually("it fired", || !made(&host, &id).is_empty());
    let paused = time(&act(&host, &id, "pause")["paused_at"]);
    let count = made(&host, &id).len();
    eventually("two seconds passed", || {
        (time(&json!(in_ms(0))) - paused).num_milliseconds() > 2_100
    });
    assert_eq!(made(&host, &id).len(), count, "it makes nothing while it is paused");
    act(&host, &id, "resume");
    let left_out = skipped(&host, &id, "paused");
    assert_eq!(left_out.len(), 1);
    assert!(left_out[0]["count"].as_u64().is_some_and(|count| count >= 2), "{left_out:?}");
    eventually("it fires again", || made(&host, &id).len() > count);
    let shown = record(&host, &id);
    assert!(
        shown["fires"]
            .as_array()
            .is_some_and(|fires| fires.iter().any(|fire| fire["skipped"] == "paused")),
        "{shown}"
    );
    let all = seconds(&host, &id);
    assert_eq!(
        all.len() as i64,
        all.last().expect("one") - all.first().expect("one") + 1,
        "no second without a word: {all:?}"
    );
}

#[test]
fn run_now_makes_a_task_and_obeys_the_overlap_rule() {
    let host = Host::with_probe();
    let id = add(&host, &json!({"cron_expression": "@yearly", "payload": {"value": 7}}));
    let ran = act(&host, &id, "run");
    assert_eq!(ran["status"], "scheduled");
    let task = host.end_of(ran["task_id"].as_str().expect("an id"));
    assert_eq!((&task["result"], &task["schedule_id"]), (&json!(7), &json!(id)));
    assert_eq!(made(&host, &id)[0]["task_id"], ran["task_id"]);
    let slow = add(
        &host,
        &json!({"task_name": "sleep", "cron_expression": "@yearly", "overlap": "skip"}),
    );
    let first = act(&host, &slow, "run")["task_id"].as_str().expect("an id").to_owned();
    host.wait_for(&first, "running");
    let refused = host.post(&format!("/schedule/{slow}/run"), &json!({})).problem(409);
    assert!(
        refused["detail"].as_str().is_some_and(|detail| detail.contains("overlap")),
        "{refused}"
    );
    patch(&host, &slow, &json!({"overlap": "cancel_previous"})).ok();
    let second = act(&host, &slow, "run")["task_id"].as_str().expect("an id").to_owned();
    assert_eq!(host.end_of(&first)["status"], "cancelled");
    host.wait_for(&second, "running");
}

#[test]
fn a_backfill_makes_the_missing_fires_and_no_other() {
    let host = Host::with_probe();
    let id = add(&host, &json!({"cron_expression": "0 12 * * *", "overlap": "allow"}));
    let backfill = |from: &str, to: &str| host.post(&format!("/schedule/{id}/backfill"), &json!({"from": from, "to": to}));
    let first = backfill("2026-01-02T12:00:00Z", "2026-01-03T12:00:00Z").ok();
    assert_eq!(
        (&first["created"], &first["fires"][0]["at"]),
        (&json!(2), &json!("2026-01-02T12:00:00Z"))
    );
    let second = backfill("2026-01-01T00:00:00Z", "2026-01-05T00:00:00Z").ok();
    let statuses: Vec<&str> = second["fires"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|fire| fire["status"].as_str())
        .collect();
    assert_eq!(statuses, ["created", "existed", "existed", "created"]);
    assert_eq!(second["created"], 2);
    for (before, now) in [(0, 1), (1, 2)] {
        assert_eq!(second["fires"][now]["task_id"], first["fires"][before]["task_id"], "{second}");
    }
    let task = host.end_of(second["fires"][0]["task_id"].as_str().expect("an id"));
    assert_eq!(task["trigger_time"], "2026-01-01T12:00:00Z");
    assert_eq!(made(&host, &id).len(), 4);
    for (from, to, pointer) in [
        ("2026-01-05", "2026-01-01", "/to"),
        ("2026-01-01", "2099-01-01", "/to"),
        ("1980-01-01", "2026-01-01", "/to"),
        ("then", "2026-01-01", "/from"),
    ] {
        assert_eq!(backfill(from, to).problem(400)["errors"][0]["pointer"], pointer);
    }
    assert_eq!(made(&host, &id).len(), 4);
}

#[test]
fn a_busy_schedule_does_what_its_overlap_rule_says() {
    let host = Host::with_probe();
    let ids = ["queue_one", "skip", "queue_all", "allow"]
        .map(|overlap| add(&host, &json!({"task_name": "sleep", "name": overlap, "overlap": overlap})));
    let of = |id: &str, status: &str| {
        let tasks = host.get(&format!("/tasks?task_name=sleep&status={status}")).ok();
        tasks
            .as_array()
            .expect("a list")
            .iter()
            .filter(|task| task["schedule_id"] == id)
            .count()
    };
    let [one, skip, all, allow] = &ids;
    eventually("one is skipped", || {
        !skipped(&host, one, "overlap").is_empty() && !skipped(&host, skip, "overlap").is_empty()
    });
    eventually("many wait", || of(all, "pending") >= 2 && of(allow, "running") >= 2);
    assert_eq!((of(one, "running"), of(one, "pending")), (1, 1));
    assert_eq!((of(skip, "running"), of(skip, "pending")), (1, 0));
    assert_eq!(of(all, "running"), 1);
    eventually("what is allowed waits for nothing", || of(allow, "pending") == 0);
    assert!(skipped(&host, all, "overlap").is_empty());
    for id in &ids {
        act(&host, id, "pause");
    }
    let waiting = made(&host, one)[0]["task_id"].as_str().expect("an id").to_owned();
    assert_eq!(host.task(&waiting)["held"], "previous fire");
    let running = made(&host, one)[1]["task_id"].as_str().expect("an id").to_owned();
    host.delete(&format!("/task/cancel/{running}")).ok();
    host.wait_for(&waiting, "running");
}

#[test]
fn cancel_previous_runs_the_newest_alone() {
    let host = Host::with_probe();
    let id = add(&host, &json!({"task_name": "sleep", "overlap": "cancel_previous"}));
    eventually("three fired", || made(&host, &id).len() >= 3);
    act(&host, &id, "pause");
    let tasks: Vec<String> = made(&host, &id)
        .iter()
        .filter_map(|fire| fire["task_id"].as_str().map(str::to_owned))
        .collect();
    host.wait_for(&tasks[0], "running");
    for earlier in &tasks[1..] {
        assert_eq!(host.task(earlier)["status"], "cancelled");
    }
}

#[test]
fn cancel_previous_leaves_nothing_of_a_long_queue_whoever_fires() {
    let host = Host::with_probe();
    host.post("/queue/pause", &json!({})).ok();
    let id = add(&host, &json!({"overlap": "cancel_previous"}));
    act(&host, &id, "pause");
    let backfill = |from: &str, to: &str| {
        let many = host.post(&format!("/schedule/{id}/backfill"), &json!({"from": from, "to": to}));
        assert_eq!(many.ok()["created"], 500);
    };
    let pending = || {
        host.get("/tasks?task_name=echo&status=pending&limit=1000")
            .ok()
            .as_array()
            .expect("a list")
            .clone()
    };
    backfill("2026-01-01T00:00:00Z", "2026-01-01T00:08:19Z");
    assert!(pending().len() >= 500);
    let newest = act(&host, &id, "run");
    let left: Vec<Value> = pending().iter().map(|task| task["task_id"].clone()).collect();
    assert_eq!(left, [newest["task_id"].clone()]);
    backfill("2026-01-02T00:00:00Z", "2026-01-02T00:08:19Z");
    assert_eq!(pending().len(), 501);
    act(&host, &id, "resume");
    eventually("the next fire is alone", || pending().len() == 1);
}

#[test]
fn kills_at_any_point_of_a_fire_neither_double_nor_lose_one() {
    let mut host = Host::with_probe();
    let id = add(&host, &json!({"name": "s", "overlap": "allow", "misfire": "all"}));
    let none = add(
        &host,
        &json!({"name": "n", "overlap": "allow", "misfire": "none", "task_name": "noop", "payload": {}}),
    );
    for round in 0..6 {
        let before = made(&host, &id).len();
        eventually("it fires", || made(&host, &id).len() > before);
        // Somewhere within the next second, each round elsewhere.
        let until = std::time::Instant::now() + std::time::Duration::from_millis(150 * round);
        eventually("a moment passed", || std::time::Instant::now() >= until);
        host.kill();
        host.start(&[]);
    }
    let before = made(&host, &id).len();
    eventually("it fires", || made(&host, &id).len() > before + 1);
    act(&host, &id, "pause");
    act(&host, &none, "pause");
    for id in [&id, &none] {
        let all = seconds(&host, id);
        assert_eq!(
            all.len() as i64,
            all.last().expect("one") - all.first().expect("one") + 1,
            "a second is missing: {all:?}"
        );
    }
    assert_eq!(skipped(&host, &id, "misfire"), Vec::<Value>::new());
    let fires = made(&host, &id);
    let tasks: BTreeSet<&str> = fires.iter().filter_map(|fire| fire["task_id"].as_str()).collect();
    assert_eq!(tasks.len(), fires.len());
    for task in tasks {
        assert_eq!(host.end_of(task)["status"], "success");
    }
}

#[test]
fn fires_that_were_missed_and_not_made_up_for_are_told_as_absent() {
    let mut host = Host::with_probe();
    let id = add(&host, &json!({"overlap": "allow", "misfire": "latest"}));
    eventually("it fired", || !made(&host, &id).is_empty());
    host.kill();
    let down = time(&json!(in_ms(0)));
    eventually("three seconds passed", || {
        (time(&json!(in_ms(0))) - down).num_milliseconds() > 3_100
    });
    host.start(&[]);
    eventually("it is told", || !skipped(&host, &id, "misfire").is_empty());
    let alerts = host.get("/alerts?alert_type=absent").ok();
    assert_eq!(
        (&alerts[0]["task_id"], &alerts[0]["task_name"]),
        (&json!(id), &json!("echo")),
        "{alerts}"
    );
    assert!(
        alerts[0]["error"].as_str().is_some_and(|error| error.contains("missed")),
        "{alerts}"
    );
}

#[test]
fn a_schedule_of_a_calendar_shows_what_it_is() {
    let host = Host::with_probe();
    let body = json!({"task_name": "echo", "session": {"edge": "open", "offset": -600}, "calendar": "XLON"});
    let id = host.post("/task/cron", &body).ok()["task_id"].as_str().expect("an id").to_owned();
    let shown = record(&host, &id);
    assert_eq!(
        (&shown["session"], &shown["calendar"]),
        (&json!({"edge": "open", "offset": -600}), &json!("XLON"))
    );
    assert!(
        shown["cron_expression"].is_null() && shown["timezone"].is_null() && shown["next_fire"].is_string(),
        "{shown}"
    );
    let gated = add(
        &host,
        &json!({"cron_expression": "0 12 * * *", "calendar": "XNYS", "on_closed": "previous"}),
    );
    assert_eq!(record(&host, &gated)["on_closed"], "previous");
}

#[test]
fn the_command_line_does_what_the_api_does() {
    let host = Host::with_probe();
    let ask = |arguments: &[&str]| {
        let output = crate::harness::taskhost()
            .args(arguments)
            .args(["--url", host.url()])
            .output()
            .expect("taskhost");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8").trim().to_owned();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let ok = |arguments: &[&str]| {
        let (code, out, err) = ask(arguments);
        assert_eq!(code, Some(0), "{arguments:?}: {out} {err}");
        out
    };
    let preview = [
        "schedule",
        "preview",
        "--cron",
        "30 2 * * *",
        "--timezone",
        "America/New_York",
        "--after",
        "2026-03-07T12:00:00Z",
        "--count",
        "1",
    ];
    assert_eq!(ok(&preview), "2026-03-08T07:00:00Z");
    let add = [
        "schedule",
        "add",
        "--task",
        "echo",
        "--session",
        "close+1800",
        "--calendar",
        "XNYS",
        "--misfire",
        "none",
        "--overlap",
        "skip",
        "--name",
        "after-close",
    ];
    let id = ok(&add);
    let shown = record(&host, &id);
    assert_eq!(
        (&shown["session"], &shown["misfire"], &shown["overlap"]),
        (&json!({"edge": "close", "offset": 1800}), &json!("none"), &json!("skip"))
    );
    let gated = ok(&[
        "schedule",
        "add",
        "--task",
        "echo",
        "--cron",
        "0 12 * * *",
        "--calendar",
        "XNYS",
        "--on-closed",
        "next",
        "--timezone",
        "Europe/London",
        "--dst-gap",
        "skip",
        "--dst-overlap",
        "both",
    ]);
    let shown = record(&host, &gated);
    assert_eq!(
        (&shown["on_closed"], &shown["dst_gap"], &shown["dst_overlap"]),
        (&json!("next"), &json!("skip"), &json!("both"))
    );
    assert_eq!(ok(&["schedule", "pause", &id]), format!("paused {id}"));
    assert!(ok(&["schedule", "list"]).contains("paused"));
    assert_eq!(ok(&["schedule", "resume", &id]), format!("resumed {id}"));
    let task = ok(&["schedule", "run", &id]);
    assert_eq!(host.end_of(&task)["status"], "success");
    assert!(ok(&["schedule", "fires", &id]).contains(&task));
    let made = ok(&["schedule", "backfill", &gated, "--from", "2026-01-05", "--to", "2026-01-06"]);
    assert!(made.contains("created"), "{made}");
    assert_eq!(ok(&["schedule", "remove", &id]), format!("removed {id}"));
    for (wrong, word) in [
        (&["schedule", "add", "--task", "echo"][..], "--cron"),
        (
            &["schedule", "add", "--task", "echo", "--session", "noon", "--calendar", "XNYS"],
            "close+1800",
        ),
        (&["schedule", "add", "--task", "echo", "--session", "open"], "--calendar"),
        (
            &["schedule", "add", "--task", "echo", "--cron", "@daily", "--overlap", "kill"],
            "queue_one",
        ),
    ] {
        let (code, _, err) = ask(wrong);
        assert!(code == Some(2) && err.contains(word), "{wrong:?}: {code:?} {err}");
    }
}

#[test]
fn a_calendar_that_changes_moves_the_fires_of_its_schedules_and_stays_while_one_goes_by_it() {
    let host = Host::with_probe();
    let put = |holidays: Value| {
        let body = json!({"name": "DESK", "timezone": "UTC", "weekend": [], "holidays": holidays, "official_until": "2090-12-31",
            "hours": [{"from": "2000-01-01", "open": "09:00", "close": "17:00"}]});
        let headers = [("content-type", "application/json")];
        host.request("PUT", "/calendar/DESK", Some(body.to_string().as_bytes()), &headers)
            .ok();
    };
    put(json!([]));
    let preview = |holidays: &Value| {
        put(holidays.clone());
        let body = json!({"cron_expression": "0 12 * * *", "calendar": "DESK", "after": "2040-01-01T00:00:00Z", "count": 1});
        host.post("/schedule/preview", &body).ok()["fires"][0].clone()
    };
    assert_eq!(preview(&json!([])), "2040-01-01T12:00:00Z");
    assert_eq!(
        preview(&json!([{"date": "2040-01-01", "name": "New Year"}])),
        "2040-01-02T12:00:00Z"
    );
    let id = add(
        &host,
        &json!({"cron_expression": "0 12 * * *", "calendar": "DESK", "start": "2040-01-01T00:00:00Z"}),
    );
    assert_eq!(record(&host, &id)["next_fire"], "2040-01-02T12:00:00Z");
    put(json!([{"date": "2040-01-01", "name": "New Year"}, {"date": "2040-01-02", "name": "Another"}]));
    assert_eq!(record(&host, &id)["next_fire"], "2040-01-03T12:00:00Z");
    let refused = host.delete("/calendar/DESK").problem(409);
    assert!(
        refused["detail"].as_str().is_some_and(|detail| detail.contains("goes by")),
        "{refused}"
    );
    patch(&host, &id, &json!({"calendar": "XNYS"})).ok();
    host.delete("/calendar/DESK").ok();
}

#[test]
fn a_fire_on_a_day_that_nobody_has_confirmed_is_told() {
    let host = Host::with_probe();
    let calendar = json!({"name": "OLD", "timezone": "UTC", "weekend": [], "official_until": "2020-12-31",
        "hours": [{"from": "2000-01-01", "open": "09:00", "close": "17:00"}]});
    let headers = [("content-type", "application/json")];
    host.request("PUT", "/calendar/OLD", Some(calendar.to_string().as_bytes()), &headers)
        .ok();
    let id = add(&host, &json!({"calendar": "OLD"}));
    eventually("it is told", || host.get("/alerts?alert_type=calendar").ok() != json!([]));
    let alerts = host.get("/alerts?alert_type=calendar").ok();
    assert_eq!(alerts[0]["task_id"], id.as_str());
    assert!(alerts[0]["error"].as_str().is_some_and(|error| error.contains("OLD")), "{alerts}");
    assert!(!made(&host, &id).is_empty(), "it fires all the same");
}

//! Batches: all of one or nothing of it, whatever happens on the way.

use crate::harness::{Answer, Host, eventually, guests, in_ms};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const LINES: &str = "application/x-ndjson";

/// So many lines of one kind.
fn lines(count: usize, line: &str) -> String {
    format!("{line}\n").repeat(count)
}

fn echo(count: usize) -> String {
    lines(count, r#"{"task_name":"echo","payload":{"value":1}}"#)
}

fn later(count: usize) -> String {
    lines(
        count,
        r#"{"task_name":"echo","payload":{"value":"0123456789012345678901234567890123456789"},"trigger_time":"2034-01-01T00:00:00Z"}"#,
    )
}

fn send(host: &Host, body: &str) -> Answer {
    host.request("POST", "/tasks/batch", Some(body.as_bytes()), &[("content-type", LINES)])
}

/// How many rows a table of the host's database has.
fn rows(host: &Host, table: &str) -> u64 {
    let db = rusqlite::Connection::open(host.path("data/taskhost.sqlite")).expect("the database");
    db.busy_timeout(Duration::from_secs(10)).expect("a timeout");
    let count: i64 = db
        .query_row(&format!("SELECT COUNT(*) FROM {table}"), [], |row| row.get(0))
        .expect("a count");
    count.unsigned_abs()
}

/// Nothing of any batch is left, nor was ever seen.
#[track_caller]
fn nothing_is_left(host: &Host) {
    eventually("what was staged is discarded", || rows(host, "staged") + rows(host, "batch") == 0);
    assert_eq!((rows(host, "task"), rows(host, "history"), rows(host, "task_tag")), (0, 0, 0));
    assert_eq!(host.get("/tasks").ok(), json!([]));
}

/// A request whose body comes in pieces.
struct Upload(TcpStream);

impl Upload {
    fn begin(host: &Host) -> Self {
        let mut stream = TcpStream::connect(host.url().trim_start_matches("http://")).expect("a connection");
        stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a timeout");
        let head = format!(
            "POST /api/v1/scheduler/tasks/batch HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: {LINES}\r\ntransfer-encoding: chunked\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).expect("a head");
        Self(stream)
    }

    fn send(&mut self, text: &str) {
        let piece = format!("{:x}\r\n{text}\r\n", text.len());
        self.0.write_all(piece.as_bytes()).expect("a piece");
    }

    fn finish(&mut self) {
        self.0.write_all(b"0\r\n\r\n").expect("an end");
    }

    /// The head and as much of the body as came in one go.
    fn answer(&mut self) -> String {
        let mut answer = vec![0; 4_096];
        let read = self.0.read(&mut answer).expect("an answer");
        String::from_utf8_lossy(&answer[..read]).into_owned()
    }
}

#[test]
fn all_of_a_batch_run_as_if_each_had_been_submitted_alone() {
    let host = Host::with_probe();
    let trigger_time = in_ms(3_600_000);
    let mut body = format!("\r\n{}", echo(1_200).replace('\n', "\r\n"));
    body.push_str("\n   \n");
    body.push_str(
        &json!({"task_name": "echo", "payload": {"n": 1}, "trigger_time": trigger_time, "tags": ["mine"], "priority": 2, "timeout": 7,
            "max_retries": 9, "idempotent": false})
        .to_string(),
    );
    let headers = [("content-type", LINES)];
    let accepted = host
        .request("POST", "/tasks/batch?name=nightly", Some(body.as_bytes()), &headers)
        .ok();
    assert_eq!(accepted["count"], 1_201);
    eventually("all have run", || host.get("/metrics/performance").ok()["echo"]["count"] == 1_200);
    let ended = host.get("/tasks/history?limit=1000&status=success&tag=demo").ok();
    assert_eq!(ended.as_array().map(Vec::len), Some(1_000));
    assert_eq!((&ended[0]["batch_id"], &ended[0]["priority"]), (&accepted["batch_id"], &json!(3)));
    let waiting = host.get("/tasks?status=pending").ok();
    assert_eq!(waiting.as_array().map(Vec::len), Some(1));
    let task = host.task(waiting[0]["task_id"].as_str().expect("an id"));
    let alone = host.submit(&serde_json::from_str(body.lines().last().expect("a line")).expect("JSON"));
    let mut alone = host.task(&alone);
    for own in ["task_id", "idempotency_key", "submitted_at", "batch_id"] {
        alone[own] = task[own].clone();
    }
    assert_eq!(task, alone);
    assert_eq!(task["tags"], json!(["mine", "echo", "demo"]));
    assert_eq!(host.get("/tasks?tag=mine").ok().as_array().map(Vec::len), Some(2));
    eventually("nothing is staged any more", || rows(&host, "staged") == 0);
}

#[test]
fn a_bad_last_line_refuses_all_that_came_before_it() {
    let host = Host::with_probe();
    let body = echo(2_500) + r#"{"task_name":"echo","priority":10}"#;
    let problem = send(&host, &body).problem(400);
    assert_eq!(
        (&problem["errors"][0]["line"], &problem["errors"][0]["pointer"]),
        (&json!(2_501), &json!("/priority")),
        "{problem}"
    );
    assert!(
        problem["detail"]
            .as_str()
            .is_some_and(|detail| detail.starts_with("line 2501: /priority: ")),
        "{problem}"
    );
    nothing_is_left(&host);
}

#[test]
fn what_is_wrong_is_told_with_its_line_and_member() {
    let host = Host::with_probe();
    let cases = [
        ("x", 400, "bad_json", ""),
        ("[]", 400, "invalid_value", ""),
        (r#"{"task_name":"echo"} {"task_name":"echo"}"#, 400, "bad_json", ""),
        (r#"{"task_name":"echo","tags":["a",""]}"#, 400, "invalid_value", "/tags/1"),
        (r#"{"task_name":"echo","tgas":[]}"#, 400, "unknown_member", "/tgas"),
        (r#"{"task_name":"echo","deadline":1}"#, 400, "invalid_value", "/deadline"),
        (
            r#"{"task_name":"echo","trigger_time":"9999-01-01T00:00:00Z"}"#,
            400,
            "invalid_value",
            "/trigger_time",
        ),
        (r#"{"task_name":"ecko"}"#, 404, "unknown_task", "/task_name"),
        (
            r#"{"task_name":"add","payload":{"a":1,"b":"x"}}"#,
            422,
            "invalid_payload",
            "/payload/b",
        ),
    ];
    for (line, status, code, pointer) in cases {
        let problem = send(&host, &format!("{}\n{line}\n", echo(1))).problem(status);
        let first = &problem["errors"][0];
        assert_eq!(
            (&problem["code"], &first["pointer"], &first["line"]),
            (&json!(code), &json!(pointer), &json!(3)),
            "{line}: {problem}"
        );
        assert!(
            problem["detail"].as_str().is_some_and(|detail| detail.starts_with("line 3")),
            "{problem}"
        );
        if code == "bad_json" {
            continue; // JSON itself cannot be a part of JSON
        }
        let body = format!(r#"{{"tasks":[{{"task_name":"echo"}},{line}]}}"#);
        let headers = [("content-type", "application/json")];
        let problem = host
            .request("POST", "/tasks/batch", Some(body.as_bytes()), &headers)
            .problem(status);
        let expected = format!("/tasks/1{pointer}");
        assert_eq!(
            (&problem["code"], &problem["errors"][0]["pointer"]),
            (&json!(code), &json!(expected)),
            "{body}: {problem}"
        );
    }
    for empty in ["", "\n", " \r\n\n"] {
        let problem = send(&host, empty).problem(400);
        assert!(
            problem["detail"].as_str().is_some_and(|detail| detail.contains("no task")),
            "{problem}"
        );
    }
    assert_eq!(
        host.post("/tasks/batch", &json!({"tasks": []})).problem(400)["errors"][0]["pointer"],
        "/tasks"
    );
    for (path, content_type, status) in [
        ("/tasks/batch?on_complete=nothing", LINES, 404),
        ("/tasks/batch?name=a%20b", LINES, 400),
        ("/tasks/batch?nmae=a", LINES, 400),
        ("/tasks/batch", "application/x-www-form-urlencoded", 415),
        ("/tasks/batch", "application/json", 400),
    ] {
        let headers = [("content-type", content_type)];
        host.request("POST", path, Some(echo(2).as_bytes()), &headers).problem(status);
    }
    nothing_is_left(&host);
}

#[test]
fn a_batch_may_be_one_json_document() {
    let host = Host::with_probe();
    let tasks: Vec<Value> = (0..1_100).map(|n| json!({"task_name": "echo", "payload": {"value": n}})).collect();
    let accepted = host.post("/tasks/batch", &json!({"tasks": tasks, "name": "all"})).ok();
    assert_eq!(accepted["count"], 1_100);
    eventually("all have run", || host.get("/metrics/performance").ok()["echo"]["count"] == 1_100);
    let ended = host.get("/tasks/history?limit=1000").ok();
    let mut results: Vec<u64> = ended
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|task| task["result"].as_u64())
        .collect();
    results.sort_unstable();
    results.dedup();
    assert_eq!(results.len(), 1_000, "each ran once");
    let mut tasks = tasks;
    tasks[700]["priority"] = json!(0);
    let problem = host.post("/tasks/batch", &json!({ "tasks": tasks })).problem(400);
    assert_eq!(problem["errors"][0]["pointer"], "/tasks/700/priority", "{problem}");
    assert!(
        problem["detail"]
            .as_str()
            .is_some_and(|detail| detail.starts_with("/tasks/700/priority: ")),
        "{problem}"
    );
    eventually("what was staged is discarded", || {
        rows(&host, "staged") == 0 && rows(&host, "batch") == 1
    });
}

#[test]
fn a_line_or_body_that_is_too_long_is_refused() {
    let host = Host::with_probe();
    let long = |bytes: usize| format!(r#"{{"task_name":"echo","payload":{{"x":"{}"}}}}"#, "x".repeat(bytes));
    let problem = send(&host, &format!("{}{}\n", echo(600), long(1 << 20))).problem(413);
    assert_eq!(
        (&problem["code"], &problem["errors"][0]["line"]),
        (&json!("too_large"), &json!(601))
    );
    let mut upload = TcpStream::connect(host.url().trim_start_matches("http://")).expect("a connection");
    let head = format!(
        "POST /api/v1/scheduler/tasks/batch HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: {LINES}\r\ncontent-length: {}\r\n\r\n",
        (1 << 30) + 1
    );
    upload.write_all(head.as_bytes()).expect("a head");
    let answer = Upload(upload).answer();
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    nothing_is_left(&host);
    let accepted = send(&host, &format!("{}\n{}", long((1 << 20) - 60), long((1 << 20) - 60))).ok();
    assert_eq!(accepted["count"], 2, "so much fits");
}

#[test]
fn a_client_that_hangs_up_half_way_leaves_nothing() {
    let host = Host::with_probe();
    let mut upload = Upload::begin(&host);
    upload.send(&echo(3_000));
    eventually("some of it is staged", || rows(&host, "staged") > 0);
    assert_eq!(host.get("/tasks").ok(), json!([]), "and nobody sees it");
    drop(upload);
    nothing_is_left(&host);
}

#[test]
fn a_client_that_hangs_up_at_the_end_leaves_all_or_nothing() {
    let host = Host::with_probe();
    for _ in 0..10 {
        let mut upload = Upload::begin(&host);
        upload.send(&echo(700));
        eventually("some of it is staged", || rows(&host, "batch WHERE node IS NOT NULL") == 1);
        upload.finish();
        drop(upload);
        eventually("it is whole or gone", || rows(&host, "batch WHERE node IS NOT NULL") == 0);
    }
    let published = rows(&host, "batch WHERE node IS NULL");
    eventually("all have run", || rows(&host, "history") == published * 700);
    assert_eq!(rows(&host, "staged") + rows(&host, "task"), 0);
}

#[test]
fn what_a_killed_host_had_half_staged_is_discarded() {
    let mut host = Host::with_probe();
    let mut upload = Upload::begin(&host);
    upload.send(&echo(3_000));
    eventually("some of it is staged", || rows(&host, "staged") >= 2_000);
    host.kill();
    host.start(&[]);
    nothing_is_left(&host);
    assert_eq!(host.run("echo", &json!({"value": 2}))["status"], "success");
}

#[test]
fn an_orderly_stop_waits_for_no_upload() {
    let mut host = Host::with_probe();
    let mut upload = Upload::begin(&host);
    upload.send(&echo(1_000));
    eventually("some of it is staged", || rows(&host, "staged") > 0);
    let begun = Instant::now();
    assert_eq!(host.stop(), Some(0), "{}", host.stderr());
    assert!(begun.elapsed() < Duration::from_secs(45), "it waited {:?}", begun.elapsed());
    let answer = upload.answer();
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("shutting_down"), "{answer}");
    host.start(&[]);
    nothing_is_left(&host);
}

#[test]
fn after_a_kill_all_of_an_acknowledged_batch_is_there_and_runs() {
    let mut host = Host::with_probe();
    let accepted = send(&host, &(later(30_000) + &echo(500))).ok();
    host.kill();
    assert!(rows(&host, "staged") > 0, "it died before it had unfolded all");
    host.start(&[]);
    eventually("the last ones have run", || rows(&host, "history") == 500);
    assert_eq!((rows(&host, "task"), rows(&host, "staged")), (30_000, 0));
    let newest = host.get("/tasks/history?limit=1&status=success").ok();
    assert_eq!(newest[0]["batch_id"], accepted["batch_id"]);
}

#[test]
fn other_submissions_stay_fast_while_a_large_batch_comes_in() {
    const COUNT: usize = 100_000;
    let host = Host::with_probe();
    let body = later(COUNT);
    let is_in = AtomicBool::new(false);
    let mut slowest = Duration::ZERO;
    let mut beside = 0;
    std::thread::scope(|scope| {
        let upload = scope.spawn(|| {
            let accepted = send(&host, &body);
            is_in.store(true, Ordering::Relaxed);
            accepted.ok()
        });
        let mut submit = || {
            let begun = Instant::now();
            assert_eq!(host.run("echo", &json!({"value": 1}))["status"], "success");
            slowest = slowest.max(begun.elapsed());
        };
        while !is_in.load(Ordering::Relaxed) {
            submit();
            beside += 1;
        }
        while rows(&host, "staged") > 0 {
            submit();
        }
        assert_eq!(upload.join().expect("an upload")["count"], COUNT);
    });
    assert!(beside > 3, "only {beside} ran while it came in");
    assert!(slowest < Duration::from_secs(2), "one took {slowest:?}");
    assert_eq!(rows(&host, "task"), COUNT as u64);
}

#[test]
fn a_stalled_client_is_cut_off_and_a_steady_one_is_not() {
    let mut host = Host::prepare();
    host.drop_plugin("probe", &guests::probe());
    std::fs::write(host.path("taskhost.toml"), "[server]\nbody_timeout = 1.0\n").expect("taskhost.toml");
    host.start(&[]);
    let (mut stalled, mut steady) = (Upload::begin(&host), Upload::begin(&host));
    stalled.send(&later(2_000));
    for _ in 0..10 {
        steady.send(&later(300)); // more than is asked for within the second
        std::thread::sleep(Duration::from_millis(250));
    }
    steady.finish();
    let answer = steady.answer();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("3000"), "{answer}");
    let answer = stalled.answer();
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    eventually("only the steady one is kept", || {
        rows(&host, "staged") == 0 && rows(&host, "batch") == 1
    });
    assert_eq!(rows(&host, "task"), 3_000);
}

#[test]
fn too_many_at_once_have_to_come_again() {
    let host = Host::with_probe();
    let mut uploads: Vec<Upload> = (0..4).map(|_| Upload::begin(&host)).collect();
    for upload in &mut uploads {
        upload.send(&later(1_000));
    }
    eventually("all four are taken in", || rows(&host, "batch") == 4);
    let refused = send(&host, &echo(1));
    assert_eq!(refused.headers.get("retry-after").and_then(|value| value.to_str().ok()), Some("1"));
    assert_eq!(refused.problem(503)["code"], "busy");
    uploads.iter_mut().for_each(Upload::finish);
    for upload in &mut uploads {
        let answer = upload.answer();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    assert_eq!(send(&host, &echo(1)).ok()["count"], 1);
}

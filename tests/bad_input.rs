//! Bad input gets a clear error that says what to do, and loses nothing.

use crate::harness::{Host, eventually, guests};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// Sends bytes as they are and returns what comes back.
fn raw(host: &Host, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(host.url().trim_start_matches("http://")).expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout");
    // The host may answer and hang up before it has read everything, which is the point.
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

fn send(host: &Host, body: &[u8]) -> crate::harness::Answer {
    host.request("POST", "/task/submit", Some(body), &[("content-type", "application/json")])
}

#[test]
fn a_submission_that_is_wrong_says_where_and_creates_nothing() {
    let host = Host::with_probe();
    let cases: [(&[u8], u16, &str); 31] = [
        (b"", 400, ""),
        (b"{", 400, ""),
        (b"[]", 400, ""),
        (b"null", 400, ""),
        (b"\xff\xfe", 400, ""),
        (br#"{"task_name":"echo"} trailing"#, 400, ""),
        (b"{}", 400, ""),
        (br#"{"task_name":7}"#, 400, "/task_name"),
        (br#"{"task_name":"echo","task_nam":1}"#, 400, "/task_nam"),
        (br#"{"task_name":"echo","payload":[]}"#, 400, "/payload"),
        (br#"{"task_name":"echo","payload":"x"}"#, 400, "/payload"),
        (br#"{"task_name":"echo","payload":null}"#, 400, "/payload"),
        (br#"{"task_name":"echo","priority":0}"#, 400, "/priority"),
        (br#"{"task_name":"echo","priority":10}"#, 400, "/priority"),
        (br#"{"task_name":"echo","priority":"high"}"#, 400, "/priority"),
        (br#"{"task_name":"echo","priority":1.5}"#, 400, "/priority"),
        (br#"{"task_name":"echo","tags":"x"}"#, 400, "/tags"),
        (br#"{"task_name":"echo","tags":[7]}"#, 400, "/tags/0"),
        (br#"{"task_name":"echo","tags":[""]}"#, 400, "/tags/0"),
        (
            br#"{"task_name":"echo","trigger_time":"9999-01-01T00:00:00Z"}"#,
            400,
            "/trigger_time",
        ),
        (br#"{"task_name":"echo","trigger_time":"tomorrow"}"#, 400, "/trigger_time"),
        (br#"{"task_name":"echo","trigger_time":1700000000}"#, 400, "/trigger_time"),
        (br#"{"task_name":"echo","timeout":0}"#, 400, "/timeout"),
        (br#"{"task_name":"echo","timeout":1e300}"#, 400, "/timeout"),
        (br#"{"task_name":"echo","max_retries":-1}"#, 400, "/max_retries"),
        (br#"{"task_name":"echo","deadline":"soon"}"#, 400, "/deadline"),
        (br#"{"task_name":"echo","deadline":1900000000}"#, 400, "/deadline"),
        (br#"{"task_name":"echo","expires_at":"2020-01-01T00:00:00Z"}"#, 400, "/expires_at"),
        (br#"{"task_name":"echo","expires_at":7}"#, 400, "/expires_at"),
        (br#"{"task_name":"add","payload":{"a":1}}"#, 422, "/payload"),
        (br#"{"task_name":"add","payload":{"a":1,"b":"x"}}"#, 422, "/payload/b"),
    ];
    for (body, status, pointer) in cases {
        let shown = String::from_utf8_lossy(body).into_owned();
        let problem = send(&host, body).problem(status);
        if !pointer.is_empty() {
            assert_eq!(problem["errors"][0]["pointer"], pointer, "{shown}: {problem}");
        }
    }
    assert_eq!(host.get("/tasks").ok(), json!([]));
}

#[test]
fn an_unknown_task_is_a_404_that_lists_near_names() {
    let host = Host::with_probe();
    let problem = host.post("/task/submit", &json!({"task_name": "ecko"})).problem(404);
    assert!(
        problem["detail"].as_str().is_some_and(|detail| detail.contains("echo")),
        "{problem}"
    );
    for name in ["<script>", "", "a b", &"x".repeat(10_000)] {
        let answer = host.post("/task/submit", &json!({ "task_name": name }));
        assert!([400, 404].contains(&answer.status), "{name}: {}", answer.status);
    }
}

#[test]
fn times_without_a_zone_are_utc() {
    let host = Host::with_probe();
    for (written, meant) in [
        ("2035-06-01T12:00:00", "2035-06-01T12:00:00Z"),
        ("2035-06-01T12:00:00+02:00", "2035-06-01T10:00:00Z"),
        ("2035-06-01T12:00:00.25Z", "2035-06-01T12:00:00.250Z"),
    ] {
        let id = host.submit(&json!({"task_name": "echo", "trigger_time": written}));
        let told = host.task(&id)["trigger_time"].as_str().expect("a time").to_owned();
        let parse = |text: &str| text.parse::<chrono::DateTime<chrono::Utc>>().expect("a time");
        assert_eq!(parse(&told), parse(meant), "{written}");
        assert!(told.ends_with('Z'));
    }
}

#[test]
fn ids_that_are_not_ids_are_not_found() {
    let host = Host::with_probe();
    for id in [
        "x",
        "0",
        "..%2F..%2Fetc",
        "%00",
        "0192f0c1-2345-7abc-8def-0123456789ab",
        "'; DROP TABLE task; --",
        &"a".repeat(5_000),
    ] {
        let id = id.replace(' ', "%20");
        host.get(&format!("/task/status/{id}")).problem(404);
        host.delete(&format!("/task/cancel/{id}")).problem(404);
        host.delete(&format!("/tasks/failed/{id}")).problem(404);
        host.post(&format!("/task/{id}/retry"), &json!({})).problem(404);
    }
}

#[test]
fn queries_that_are_wrong_are_refused() {
    let host = Host::with_probe();
    for path in [
        "/tasks/history?limit=0",
        "/tasks/history?limit=1001",
        "/tasks/history?limit=x",
        "/tasks/history?status=done",
        "/tasks/history?since=yesterday",
        "/tasks/history?cursor=x",
        "/tasks/history?colour=red",
        "/tasks?status=1",
        "/tasks?cursor=zzz",
        "/alerts?alert_type=none",
        "/alerts?since=x",
        "/tasks/history?batch_id=1",
        "/alerts/clear?alert_type=none",
    ] {
        let answer = if path.contains("clear") {
            host.delete(path)
        } else {
            host.get(path)
        };
        let problem = answer.problem(400);
        assert!(
            problem["detail"].as_str().is_some_and(|detail| detail.len() > 10),
            "{path}: {problem}"
        );
    }
}

#[test]
fn a_body_of_50_mb_is_refused_without_being_kept() {
    let host = Host::with_probe();
    let before = memory(&host);
    let body = vec![b' '; 50 << 20];
    let head = format!(
        "POST /api/v1/scheduler/task/submit HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let answer = raw(&host, &[head.as_bytes(), &body].concat());
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    let mut chunked = b"POST /api/v1/scheduler/task/submit HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    for piece in body.chunks(1 << 20) {
        chunked.extend(format!("{:x}\r\n", piece.len()).as_bytes());
        chunked.extend(piece);
        chunked.extend(b"\r\n");
    }
    let answer = raw(&host, &chunked);
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    assert!(memory(&host) < before + (40 << 20), "{before} became {}", memory(&host));
    assert_eq!(host.run("echo", &json!({"value": 1}))["status"], "success");
}

fn memory(host: &Host) -> u64 {
    let statm = std::fs::read_to_string(format!("/proc/{}/statm", host.pid())).expect("a process");
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).expect("pages") * 4_096
}

#[test]
fn a_body_that_would_fill_the_memory_is_refused_or_has_to_wait() {
    let host = Host::with_probe();
    let dense = |objects: usize| {
        format!(
            r#"{{"task_name":"echo","payload":{{"value":[{}0]}}}}"#,
            r#"{"a":1},"#.repeat(objects)
        )
    };
    let problem = send(&host, dense(1_500_000).as_bytes()).problem(413);
    assert!(
        problem["detail"].as_str().is_some_and(|detail| detail.contains("body_budget")),
        "{problem}"
    );
    let csv = json!({"task_name": "echo", "payload": {"value": "1,{[:".repeat(2 << 20)}});
    assert_eq!(
        send(&host, csv.to_string().as_bytes()).status,
        200,
        "a long text is no more than that"
    );
    // Three of these at once have no room beside one another; each alone has.
    let body = dense(150_000);
    std::thread::scope(|scope| {
        let sent: Vec<_> = (0..8).map(|_| scope.spawn(|| send(&host, body.as_bytes()).status)).collect();
        let statuses: Vec<u16> = sent.into_iter().map(|sent| sent.join().expect("an answer")).collect();
        assert!(
            statuses.iter().all(|status| matches!(status, 200 | 503)) && statuses.contains(&200),
            "{statuses:?}"
        );
    });
    let status = std::fs::read_to_string(format!("/proc/{}/status", host.pid())).expect("its status");
    let peak = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    assert!(peak.is_some_and(|kib| kib < 700 << 10), "{peak:?} KiB");
    assert_eq!(send(&host, br#"{"task_name":"echo"}"#).status, 200);
}

#[test]
fn what_takes_no_body_passes_over_none() {
    let host = Host::with_probe();
    let id = host.submit(&json!({"task_name": "echo", "trigger_time": "2034-01-01T00:00:00Z"}));
    let (cancel, retry) = (format!("/task/cancel/{id}"), format!("/task/{id}/retry"));
    for (method, path) in [
        ("DELETE", cancel.as_str()),
        ("POST", retry.as_str()),
        ("POST", "/plugins/reload"),
        ("DELETE", "/alerts/clear"),
        ("DELETE", "/plugin/probe"),
        ("DELETE", "/limit/x"),
        ("POST", "/workflow/x/step/y/retry"),
    ] {
        let answer = host.request(
            method,
            path,
            Some(br#"{"alert_type":"late"}"#),
            &[("content-type", "application/json")],
        );
        let problem = answer.problem(400);
        assert_eq!(problem["errors"][0]["pointer"], "/alert_type", "{method} {path}: {problem}");
    }
    assert_eq!(host.task(&id)["status"], "pending", "nothing was done");
    host.request("DELETE", &cancel, Some(b"{}"), &[]).ok();
}

#[test]
fn nesting_headers_and_half_requests_are_bounded() {
    let host = Host::with_probe();
    for depth in [1_000, 1_000_000] {
        let deep = format!(
            r#"{{"task_name":"echo","payload":{{"value":{}{}}}}}"#,
            "[".repeat(depth),
            "]".repeat(depth)
        );
        send(&host, deep.as_bytes()).problem(400);
    }
    let many = format!(
        "GET /healthz HTTP/1.1\r\nhost: 127.0.0.1\r\n{}\r\n",
        (0..1_000).map(|n| format!("x-{n}: y\r\n")).collect::<String>()
    );
    assert!(raw(&host, many.as_bytes()).starts_with("HTTP/1.1 431"));
    let long = format!("GET /healthz HTTP/1.1\r\nhost: 127.0.0.1\r\nx: {}\r\n\r\n", "y".repeat(1 << 20));
    assert!(raw(&host, long.as_bytes()).starts_with("HTTP/1.1 431"));
    assert!(raw(&host, b"nonsense\r\n\r\n").starts_with("HTTP/1.1 400"));
    assert_eq!(host.get("/healthz").status, 200);
}

#[test]
fn foreign_hosts_and_origins_are_refused() {
    let host = Host::with_probe();
    let port = host.url().rsplit(':').next().expect("a port").to_owned();
    for good in [format!("localhost:{port}"), format!("127.0.0.1:{port}"), format!("[::1]:{port}")] {
        assert_eq!(host.request("GET", "/tasks", None, &[("host", &good)]).status, 200, "{good}");
    }
    for bad in ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80"] {
        host.request("GET", "/tasks", None, &[("host", bad)]).problem(403);
    }
    let body = br#"{"task_name":"echo"}"#;
    let with_origin = |origin: &str| {
        host.request(
            "POST",
            "/task/submit",
            Some(body),
            &[("content-type", "application/json"), ("origin", origin)],
        )
    };
    // A page that another program serves on this machine is a stranger too.
    for bad in [
        "https://evil.example",
        "null",
        "http://localhost.evil.example",
        "http://127.0.0.1:1",
    ] {
        with_origin(bad).problem(403);
    }
    with_origin(&format!("http://127.0.0.1:{port}")).ok();
    // What a form on a foreign page can send without asking the browser.
    host.request("POST", "/task/submit", Some(body), &[("content-type", "text/plain")])
        .problem(415);
    assert_eq!(host.get("/tasks").ok().as_array().map(Vec::len), Some(1));
}

#[test]
fn a_bad_component_is_refused_with_the_reason_and_harms_nothing() {
    let host = Host::with_probe();
    let core_module = b"\0asm\x01\0\0\0";
    let other_world = wat::parse_str("(component)").expect("a component");
    let whole = guests::probe();
    let cases: [(&str, Vec<u8>, &str); 17] = [
        ("empty", vec![], "empty"),
        ("text", b"hello".to_vec(), "not"),
        ("truncated", whole[..whole.len() / 2].to_vec(), "truncated"),
        ("core-module", core_module.to_vec(), "core module"),
        ("other-world", other_world, "taskhost:plugin/handler"),
        ("unknown-import", guests::component("stranger"), "acme:vault/secret"),
        ("loops", guests::frozen("loop"), "describe"),
        ("allocates", guests::frozen("allocate"), "memory"),
        ("traps", guests::frozen("trap"), "describe"),
        ("many-tasks", guests::frozen("many"), "10000"),
        ("script", guests::frozen("script"), "script"),
        ("twice", guests::frozen("twice"), "twice"),
        ("none", guests::frozen("none"), "task"),
        ("nonsense", guests::frozen("nonsense"), "JSON"),
        ("huge", guests::frozen("huge"), "describe"),
        ("priority", guests::frozen("priority"), "priority"),
        ("schema", guests::frozen("schema"), "schema"),
    ];
    for (name, bytes, _) in &cases {
        host.drop_plugin(name, bytes);
    }
    for (name, _, word) in &cases {
        eventually(&format!("{name} is refused"), || {
            host.get(&format!("/plugin/{name}")).body["error"].is_string()
        });
        let plugin = host.get(&format!("/plugin/{name}")).ok();
        assert_eq!((&plugin["state"], &plugin["tasks"]), (&json!("failed"), &json!([])), "{plugin}");
        let error = plugin["error"].as_str().expect("an error");
        assert!(error.contains(word) && error.len() <= 1_100, "{name}: {error}");
    }
    assert_eq!(host.run("echo", &json!({"value": 1}))["status"], "success");
    host.drop_plugin("remote", &guests::frozen("remote"));
    eventually("remote is refused", || {
        host.get("/plugin/remote").body["error"]
            .as_str()
            .is_some_and(|error| error.contains("schema"))
    });
}

#[test]
fn a_file_that_is_too_large_or_no_file_is_refused() {
    let host = Host::with_probe();
    let large = std::fs::File::create(host.path("plugins/large.wasm")).expect("a file");
    large.set_len(65 << 20).expect("a sparse file");
    std::fs::create_dir(host.path("plugins/folder.wasm")).expect("a folder");
    let fifo = std::process::Command::new("mkfifo")
        .arg(host.path("plugins/fifo.wasm"))
        .status()
        .expect("mkfifo");
    assert!(fifo.success());
    std::fs::write(host.path("plugins/bad name.wasm"), guests::probe()).expect("a file");
    eventually("the large file is refused", || host.get("/plugin/large").body["error"].is_string());
    assert_eq!(host.run("echo", &json!({"value": 1}))["status"], "success");
    let names: Vec<Value> = host
        .get("/plugins")
        .ok()
        .as_array()
        .expect("plugins")
        .iter()
        .map(|p| p["name"].clone())
        .collect();
    assert!(!names.contains(&json!("folder")), "{names:?}");
    let upload = host.request(
        "PUT",
        "/plugin/large",
        Some(&vec![0; 65 << 20]),
        &[("content-type", "application/wasm")],
    );
    upload.problem(413);
}

//! What is kept of what has ended: bounded by bytes, shown, and tried before it is configured.

use crate::harness::{Host, eventually, guests, taskhost};
use serde_json::{Value, json};

fn host(toml: &str) -> Host {
    let mut host = Host::prepare();
    host.drop_plugin("probe", &guests::probe());
    std::fs::write(host.path("taskhost.toml"), toml).expect("taskhost.toml");
    host.start(&[]);
    host
}

fn big(host: &Host) -> String {
    let task = host.run("big_result", &json!({"bytes": 100_000}));
    assert_eq!(task["status"], "success", "{task}");
    task["task_id"].as_str().expect("an id").to_owned()
}

fn bytes(host: &Host) -> u64 {
    host.get("/retention").ok()["kept"]["bytes"].as_u64().expect("bytes")
}

#[test]
fn what_is_kept_stays_below_its_bytes_and_the_newest_of_a_schedule_with_it() {
    let mut host = host("[monitor]\nkeep_bytes = \"1MiB\"\n\n[monitor.tasks.echo]\nkeep_newest = 2\nretention_days = 0\n");
    let cron = json!({"task_name": "big_result", "cron_expression": "0 0 1 1 *", "payload": {"bytes": 100_000}});
    let schedule = host.post("/task/cron", &cron).ok()["task_id"].as_str().expect("an id").to_owned();
    let run = host.post(&format!("/schedule/{schedule}/run"), &json!({})).ok();
    let of_schedule = run["task_id"].as_str().expect("an id").to_owned();
    assert_eq!(host.end_of(&of_schedule)["status"], "success");
    let all: Vec<String> = (0..25).map(|_| big(&host)).collect();
    eventually("the oldest went", || bytes(&host) <= 1 << 20);
    assert_eq!(host.get(&format!("/task/status/{}", all[0])).status, 404);
    assert_eq!(host.task(&of_schedule)["result"].as_str().map(str::len), Some(100_000));
    assert_eq!(host.task(&all[24])["status"], "success");

    let shown = host.get("/retention").ok();
    assert_eq!(shown["rule"]["keep_bytes"], 1 << 20);
    assert_eq!(
        shown["rule"]["tasks"]["echo"],
        json!({"retention_days": 0, "keep_newest": 2, "keep_bytes": null})
    );
    assert_eq!((&shown["tried"], &shown["kept"]["bytes_over"]), (&json!(false), &json!(0)));
    let of_name = &shown["kept"]["by_task"]["big_result"];
    assert!(of_name["count"].as_u64().is_some_and(|count| (5..=10).contains(&count)), "{shown}");
    assert_eq!(of_name["count"], shown["kept"]["by_kind"]["tasks"]["count"]);
    assert!(shown["kept"]["oldest_ended_at"].is_string());

    // After a kill the sums are what they were.
    let before = bytes(&host);
    host.kill();
    host.start(&[]);
    assert_eq!(bytes(&host), before);
}

#[test]
fn a_rule_is_tried_before_it_is_configured() {
    let host = host("");
    let ids: Vec<String> = (0..15).map(|_| big(&host)).collect();
    let kept = host.get("/retention").ok();
    assert_eq!(kept["would_drop"]["tasks"], json!({"count": 0, "bytes": 0}), "{kept}");
    let tried = host.get("/retention?keep_bytes=1MiB").ok();
    assert_eq!((&tried["tried"], &tried["rule"]["keep_bytes"]), (&json!(true), &json!(1 << 20)));
    assert_eq!(tried["rule"]["keep_newest"], 10_000);
    let (over, going) = (&tried["kept"]["bytes_over"], &tried["would_drop"]["tasks"]);
    assert!(over.as_u64() > Some(0) && going["bytes"].as_u64() >= over.as_u64(), "{tried}");
    assert_eq!(going["count"], 5, "{tried}");
    assert_eq!(&tried["would_drop"]["by_task"]["big_result"], going);
    let all = host.get("/retention?retention_days=0&keep_newest=4").ok();
    assert_eq!(
        (&all["would_drop"]["tasks"]["count"], &all["would_drop"]["at_least"]),
        (&json!(11), &json!(false))
    );
    for id in &ids {
        host.task(id); // nothing went
    }

    let ask = |arguments: &[&str]| {
        let output = taskhost()
            .env("TASKHOST_URL", host.url())
            .args(arguments)
            .output()
            .expect("it runs");
        (
            output.status.code(),
            String::from_utf8(output.stdout).expect("text"),
            String::from_utf8(output.stderr).expect("text"),
        )
    };
    let (code, out, err) = ask(&["retention", "--keep-bytes", "1MiB"]);
    assert_eq!(code, Some(0), "{err}");
    for word in [
        "RULE",
        "10000",
        "1.0 MiB",
        "checkpoints",
        "big_result",
        "only tried, 5 ended tasks and 0 events would go",
    ] {
        assert!(out.contains(word), "{word}: {out}");
    }
    let (code, out, _) = ask(&["retention", "--json", "--keep-bytes", "1048576"]);
    let told: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!((code, &told), (Some(0), &tried));
    let (code, out, _) = ask(&["retention"]);
    assert!(code == Some(0) && out.contains("nothing would go"), "{out}");
    let (code, _, err) = ask(&["retention", "--retention-days", "x"]);
    assert!(code == Some(1) && err.contains("retention_days"), "{err}");
}

#[test]
fn a_rule_that_cannot_be_is_refused_where_it_stands() {
    let host = host("");
    for (query, pointer) in [
        ("keep_bytes=10", "/keep_bytes"),
        ("keep_bytes=much", "/keep_bytes"),
        ("keep_bytes=-1", "/keep_bytes"),
        ("keep_bytes=2PiB", "/keep_bytes"),
        ("retention_days=36501", "/retention_days"),
        ("retention_days=-1", "/retention_days"),
        ("keep_newest=1.5", "/keep_newest"),
        ("keep_days=1", "/keep_days"),
    ] {
        let problem = host.get(&format!("/retention?{query}")).problem(400);
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{query}: {problem}");
    }
    let file = host.path("bad.toml");
    for (toml, word) in [
        ("keep_bytes = 10", "monitor.keep_bytes is 10 B; it must be 1 MiB to 1 PiB"),
        ("keep_bytes = \"much\"", "keep_bytes"),
        ("keep_bites = 10", "keep_bites"),
        ("tasks.echo.keep_days = 1", "keep_days"),
        ("tasks.echo.keep_bytes = 1", "monitor.tasks.echo.keep_bytes"),
        ("tasks.\"a b\".keep_newest = 1", "a b"),
    ] {
        std::fs::write(&file, format!("[monitor]\n{toml}\n")).expect("bad.toml");
        let said = taskhost()
            .args(["serve", "--print-config", "--config"])
            .arg(&file)
            .output()
            .expect("it runs");
        let err = String::from_utf8(said.stderr).expect("text");
        assert!(!said.status.success() && err.contains(word), "{toml}: {err}");
    }
}

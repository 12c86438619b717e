//! The commands, from start to end, as a person or a script types them.

use crate::harness::{Host, guests, taskhost};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, Output, Stdio};

/// What a command said and how it ended.
#[derive(Debug)]
struct Said {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Said {
    fn of(output: Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).expect("text"),
            err: String::from_utf8(output.stderr).expect("text"),
        }
    }

    /// What a command printed that has to succeed, without the last newline.
    #[track_caller]
    fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.out.trim_end().to_owned()
    }

    /// The same as JSON.
    #[track_caller]
    fn json(self) -> Value {
        let out = self.ok();
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}"))
    }

    /// What a command wrote on stderr that has to fail so.
    #[track_caller]
    fn fails(self, code: i32) -> String {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert!(!self.err.contains("panicked"), "{self:?}");
        self.err
    }
}

fn run(arguments: &[&str]) -> Said {
    Said::of(taskhost().args(arguments).output().expect("the command runs"))
}

fn command(host: &Host) -> Command {
    let mut command = taskhost();
    command.env("TASKHOST_URL", host.url());
    command
}

fn ask(host: &Host, arguments: &[&str]) -> Said {
    Said::of(command(host).args(arguments).output().expect("the command runs"))
}

fn ask_with(host: &Host, arguments: &[&str], input: &str) -> Said {
    let mut command = command(host);
    let mut child = command
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the command runs");
    child
        .stdin
        .take()
        .expect("stdin")
        .write_all(input.as_bytes())
        .expect("stdin is read");
    Said::of(child.wait_with_output().expect("the command ends"))
}

#[test]
fn help_and_version_need_no_host() {
    let help = run(&["--help"]).ok();
    for name in [
        "serve",
        "dev",
        "submit",
        "task",
        "schedule",
        "trigger",
        "event",
        "alerts",
        "plugin",
        "openapi",
        "Examples:",
        "Exit codes",
    ] {
        assert!(help.contains(name), "no {name}: {help}");
    }
    assert!(run(&["--version"]).ok().starts_with("taskhost "));
    assert!(run(&["submit", "--help"]).ok().contains("--wait"));
    run(&[]).fails(2);
    run(&["submit"]).fails(2);
    run(&["task", "juggle"]).fails(2);
    let secret = Said::of(
        taskhost()
            .env("TASKHOST_TOKEN", "hush")
            .args(["task", "list", "--help"])
            .output()
            .expect("the command runs"),
    )
    .ok();
    assert!(!secret.contains("hush"), "{secret}");
}

#[test]
fn where_no_host_is_the_command_says_how_to_start_one() {
    let said = run(&["task", "list", "--url", "http://127.0.0.1:9"]).fails(1);
    assert!(
        said.contains("no host answers at http://127.0.0.1:9") && said.contains("taskhost serve"),
        "{said}"
    );
    assert!(
        run(&["task", "list", "--url", "nonsense"])
            .fails(2)
            .contains("http://127.0.0.1:8080")
    );
}

#[test]
fn a_submission_prints_its_id_or_its_result() {
    let host = Host::with_probe();
    let id = ask(
        &host,
        &["submit", "echo", "--payload", r#"{"value": 1}"#, "--tag", "mine", "--priority", "2"],
    )
    .ok();
    let task = host.end_of(&id);
    assert_eq!(
        (&task["result"], &task["priority"], &task["tags"][0]),
        (&json!(1), &json!(2), &json!("mine"))
    );
    let result = ask(&host, &["submit", "echo", "--wait", "--payload", r#"{"value": {"a": [1, "two"]}}"#]);
    assert_eq!(result.ok(), "{\n  \"a\": [\n    1,\n    \"two\"\n  ]\n}");
    let file = host.path("payload.json");
    std::fs::write(&file, r#"{"value": "from a file"}"#).expect("a file");
    assert_eq!(
        ask(&host, &["submit", "echo", "--wait", "--payload", &format!("@{}", file.display())]).json(),
        json!("from a file")
    );
    assert_eq!(
        ask_with(&host, &["submit", "echo", "--wait", "--payload", "-"], r#"{"value": "from stdin"}"#).json(),
        json!("from stdin")
    );
    let later = ask(
        &host,
        &["submit", "noop", "--at", "2035-01-01", "--timeout", "7.5", "--max-retries", "1"],
    )
    .ok();
    let task = host.task(&later);
    assert_eq!(
        (&task["status"], &task["timeout"], &task["max_retries"]),
        (&json!("pending"), &json!(7.5), &json!(1)),
        "{task}"
    );
}

#[test]
fn waiting_ends_with_the_task_and_tells_how() {
    let host = Host::with_probe();
    let failed = ask(&host, &["submit", "fatal", "--wait"]);
    assert_eq!(failed.out, "");
    let said = failed.fails(1);
    assert!(said.contains("not in this life") && said.contains("fatal"), "{said}");
    let said = ask(&host, &["submit", "picky", "--wait"]).fails(1);
    assert!(
        said.contains("invalid_input") && said.contains("/value: is not to my taste"),
        "{said}"
    );
    let record = ask(&host, &["submit", "fatal", "--wait", "--json"]);
    assert_eq!(record.code, Some(1));
    let record: Value = serde_json::from_str(&record.out).expect("JSON");
    assert_eq!(
        (&record["status"], &record),
        (&json!("failed"), &host.task(record["task_id"].as_str().expect("an id")))
    );
}

#[test]
fn a_batch_comes_from_a_file_or_a_pipe() {
    let host = Host::with_probe();
    let lines = "{\"task_name\":\"echo\"}\n".repeat(600);
    std::fs::write(host.path("tasks.ndjson"), &lines).expect("a file");
    let file = host.path("tasks.ndjson").display().to_string();
    let said = ask(&host, &["batch", "submit", &file, "--name", "nightly"]).ok();
    let (id, count) = said.split_once(' ').expect("an id and a number");
    assert_eq!(count, "600");
    let answer = ask_with(&host, &["batch", "submit", "-", "--json"], &lines).json();
    assert_eq!(answer["count"], 600);
    assert_ne!(answer["batch_id"], id);
    crate::harness::eventually("all have run", || host.get("/metrics/performance").ok()["echo"]["count"] == 1_200);
    let said = ask_with(&host, &["batch", "submit", "-"], &format!("{lines}{{\n")).fails(1);
    assert!(said.starts_with("error: line 601 is not JSON"), "{said}");
    let said = ask(&host, &["batch", "submit", &file, "--name", "a b"]).fails(1);
    assert!(said.contains("/name"), "{said}");
}

#[test]
fn a_sweep_is_a_batch_that_can_be_waited_for_and_looked_at() {
    let host = Host::with_probe();
    let swept = [
        "submit",
        "echo",
        "--payload",
        "{\"value\":{\"x\":0}}",
        "--sweep",
        "/value/x=1,2",
        "--sweep",
        "y=a b,true",
    ];
    let said = ask(&host, &[&swept[..], &["--batch-name", "grid", "--wait"]].concat()).ok();
    for line in ["name          grid", "status        success", "count         4"] {
        assert!(said.lines().any(|told| told.trim_end() == line), "{said}");
    }
    let said = ask(&host, &swept).ok();
    let (id, count) = said.split_once(' ').expect("an id and a number");
    assert_eq!(count, "4");
    crate::harness::eventually("all are tasks", || {
        ask(&host, &["batch", "tasks", id, "--json"]).json().as_array().map(Vec::len) == Some(4)
    });
    assert_eq!(ask(&host, &["batch", "status", id, "--json"]).json()["batch_id"], id);
    assert!(ask(&host, &["batch", "list"]).ok().contains(id));
    ask(&host, &["submit", "fatal", "--sweep", "x=1,2", "--max-retries", "0", "--wait"]).fails(1);

    let lines = "{\"task_name\":\"echo\",\"trigger_time\":\"2034-01-01\"}\n".repeat(3);
    let said = ask_with(&host, &["batch", "submit", "-", "--on-complete", "version"], &lines).ok();
    let (id, _) = said.split_once(' ').expect("an id");
    assert_eq!(ask(&host, &["batch", "cancel", id]).ok(), format!("cancelling {id}"));
    crate::harness::eventually("it is cancelled", || {
        ask(&host, &["batch", "status", id]).ok().contains("status        cancelled")
    });
    assert!(ask(&host, &["batch", "status", id]).ok().contains("on_complete"));
    ask(&host, &["batch", "cancel", id]).fails(1);
    ask(&host, &["batch", "status", "nothing"]).fails(1);
}

#[test]
fn a_workflow_is_submitted_looked_at_retried_and_cancelled() {
    let host = Host::with_probe();
    let workflow = json!({"name": "night", "steps": [
        {"key": "bad", "task_name": "fatal"}, {"key": "after", "task_name": "echo", "needs": ["bad"]}]});
    std::fs::write(host.path("night.json"), workflow.to_string()).expect("a file");
    let id = ask(&host, &["workflow", "submit", &host.path("night.json").display().to_string()]).ok();
    crate::harness::eventually("it ends", || {
        ask(&host, &["workflow", "status", &id, "--json"]).json()["status"] == "failed"
    });
    let said = ask(&host, &["workflow", "status", &id]).ok();
    for word in ["night", "after", "bad", "cancelled", "not in this life"] {
        assert!(said.contains(word), "{word}: {said}");
    }
    let task = ask(&host, &["workflow", "retry", &id, "bad"]).ok();
    host.end_of(&task);
    assert!(ask(&host, &["workflow", "retry", &id, "after"]).fails(1).contains("bad"));
    assert!(ask(&host, &["workflow", "list"]).ok().contains(&id));
    let sleeps = "{\"steps\":[{\"key\":\"a\",\"task_name\":\"sleep\"}]}";
    let id = ask_with(&host, &["workflow", "submit", "-"], sleeps).ok();
    let blocked = ask(&host, &["workflow", "status", &id, "--json"]).json();
    let task = blocked["steps"]["a"]["task_id"].as_str().expect("its task");
    host.wait_for(task, "running");
    assert_eq!(ask(&host, &["task", "why", task]).ok(), "the task is running");
    assert_eq!(ask(&host, &["workflow", "cancel", &id]).ok(), format!("cancelled {id}"));
    host.end_of(task);
    assert_eq!(ask(&host, &["task", "why", task]).ok(), "the task has ended: cancelled");
    ask(&host, &["workflow", "cancel", &id]).fails(1);
    assert!(ask_with(&host, &["workflow", "submit", "-"], "[]").fails(2).contains("JSON object"));
}

#[test]
fn wrong_usage_is_two_and_a_refusal_is_one() {
    let host = Host::with_probe();
    for (arguments, word) in [
        (&["submit", "echo", "--payload", "{"][..], "not valid JSON"),
        (&["submit", "echo", "--payload", "[1]"], "must be a JSON object"),
        (&["submit", "echo", "--payload", "@no/such/file"], "no/such/file"),
        (&["submit", "echo", "--priority", "0"], "1..=9"),
        (&["submit", "echo", "--sweep", "a"], "FIELD=A,B,C"),
        (&["batch", "submit", "no/such/file"], "no/such/file"),
        (&["event", "emit", "x", "--data", "1"], "must be a JSON object"),
        (&["plugin", "push", "no/such/file.wasm"], "no/such/file.wasm"),
        (&["plugin", "check", "no/such/file.wasm"], "no/such/file.wasm"),
        (&["serve", "--store", "postgres://localhost/taskhost"], "SQLite"),
    ] {
        let said = ask(&host, arguments).fails(2);
        assert!(said.contains(word), "{arguments:?}: {said}");
    }
    for (arguments, word) in [
        (&["submit", "ecco"][..], "ecco"),
        (&["submit", "add", "--payload", r#"{"a": 1, "b": "two"}"#], "/payload/b"),
        (&["submit", "echo", "--at", "soon"], "/trigger_time"),
        (&["schedule", "add", "--task", "echo", "--cron", "61 * * * *"], "minute"),
        (&["task", "status", "a/b"], "a/b"),
        (&["task", "list", "--status", "odd"], "/status"),
        (&["plugin", "remove", "nobody"], "nobody"),
    ] {
        let said = ask(&host, arguments).fails(1);
        assert!(said.starts_with("error: ") && said.contains(word), "{arguments:?}: {said}");
    }
    let problem = ask(&host, &["submit", "ecco", "--json"]);
    let body: Value = serde_json::from_str(&problem.out).expect("the problem");
    assert_eq!((problem.code, &body["status"]), (Some(1), &json!(404)));
}

#[test]
fn tasks_are_seen_cancelled_and_retried() {
    let host = Host::with_probe();
    let logged = ask(&host, &["submit", "log_lines", "--payload", r#"{"count": 2}"#]).ok();
    host.end_of(&logged);
    let status = ask(&host, &["task", "status", &logged]).ok();
    for word in [logged.as_str(), "log_lines", "success", "ATTEMPT", "OUTCOME"] {
        assert!(status.contains(word), "no {word}: {status}");
    }
    let logs = ask(&host, &["task", "logs", &logged]).ok();
    for word in ["INFO  line 0", "line 1 number=1", "[stdout] on stdout", "[stderr] on stderr"] {
        assert!(logs.contains(word), "no {word}: {logs}");
    }
    let failed = host.run("fatal", &json!({}))["task_id"].as_str().expect("an id").to_owned();
    let again = ask(&host, &["task", "retry", &failed]).ok();
    assert_eq!(host.end_of(&again)["retry_of"], json!(failed));
    let later = ask(&host, &["submit", "noop", "--at", "2035-01-01T00:00:00Z"]).ok();
    assert!(ask(&host, &["task", "status", &later]).ok().contains("2035-01-01 00:00:00Z"));
    ask(&host, &["task", "retry", &later]).fails(1);
    assert_eq!(ask(&host, &["task", "cancel", &later]).ok(), format!("cancelled {later}"));
    ask(&host, &["task", "cancel", &later]).fails(1);
    let list = ask(&host, &["task", "list"]).ok();
    assert_eq!(list.lines().count(), 5, "a header and four tasks: {list}");
    assert!(
        list.starts_with("ID") && list.contains("cancelled") && !list.contains('\u{1b}'),
        "{list}"
    );
    let failures = ask(&host, &["task", "history", "--status", "failed", "--name", "fatal"]).ok();
    assert!(failures.lines().count() == 3 && failures.contains("not in this life"), "{failures}");
    let nothing = ask(&host, &["task", "list", "--tag", "nobody"]);
    assert_eq!(
        (nothing.code, nothing.out.as_str(), nothing.err.as_str()),
        (Some(0), "", "no task\n")
    );
}

#[test]
fn json_is_what_the_api_answered_and_pages_follow_each_other() {
    let host = Host::with_probe();
    for n in 0..3 {
        host.run("echo", &json!({ "value": n }));
    }
    let id = host.submit(&json!({"task_name": "echo", "payload": {"value": "x"}}));
    host.end_of(&id);
    let status = format!("/task/status/{id}");
    for (arguments, path) in [
        (&["task", "list", "--json"][..], "/tasks"),
        (&["--json", "task", "history", "--limit", "2"], "/tasks/history?limit=2"),
        (&["task", "status", &id, "--json"], status.as_str()),
        (&["schedule", "list", "--json"], "/schedules"),
        (&["alerts", "list", "--json"], "/alerts"),
        (&["plugin", "list", "--json"], "/plugins"),
    ] {
        assert_eq!(ask(&host, arguments).json(), host.get(path).ok(), "{arguments:?}");
    }
    let (mut seen, mut cursor) = (Vec::new(), None::<String>);
    loop {
        let mut arguments = vec!["task", "history", "--limit", "3", "--json"];
        arguments.extend(cursor.iter().flat_map(|cursor| ["--cursor", cursor]));
        let said = ask(&host, &arguments);
        cursor = said
            .err
            .trim_end()
            .rsplit_once("--cursor ")
            .map(|(_, cursor)| cursor.trim_matches('\'').to_owned());
        seen.extend(said.json().as_array().expect("a list").iter().map(|task| task["task_id"].clone()));
        if cursor.is_none() {
            break;
        }
    }
    let all: Vec<Value> = host
        .get("/tasks/history")
        .ok()
        .as_array()
        .expect("a list")
        .iter()
        .map(|task| task["task_id"].clone())
        .collect();
    assert_eq!(seen, all);
}

#[test]
fn rules_are_added_listed_and_removed_and_events_set_them_off() {
    let host = Host::with_probe();
    let schedule = ask(
        &host,
        &[
            "schedule",
            "add",
            "--task",
            "echo",
            "--cron",
            "30 17 * * 1-5",
            "--name",
            "nightly",
            "--tag",
            "late",
            "--end",
            "2035-01-01",
        ],
    )
    .ok();
    let session = ["schedule", "add", "--task", "echo", "--calendar", "XNYS", "--session", "close+1800"];
    ask(&host, &session).ok();
    let neither = ask(&host, &["schedule", "add", "--task", "echo"]).fails(2);
    assert!(neither.contains("--cron") && neither.contains("--session"), "{neither}");
    let list = ask(&host, &["schedule", "list"]).ok();
    assert!(list.contains("close+1800"), "{list}");
    for word in [schedule.as_str(), "nightly", "30 17 * * 1-5", "late"] {
        assert!(list.contains(word), "no {word}: {list}");
    }
    assert!(ask(&host, &["task", "status", &schedule]).ok().contains("30 17 * * 1-5"));
    let edit = [
        "schedule",
        "edit",
        &schedule,
        "--cron",
        "0 9 * * *",
        "--overlap",
        "skip",
        "--payload",
        r#"{"n":1.10}"#,
    ];
    assert_eq!(ask(&host, &edit).ok(), format!("edited {schedule}"));
    let take_back = ["schedule", "edit", &schedule, "--reset", "cron_expression"];
    assert_eq!(ask(&host, &take_back).ok(), format!("edited {schedule}"));
    let edited = host.get(&format!("/schedule/{schedule}")).ok();
    assert_eq!(edited["edits"], json!({"overlap": "skip", "payload": {"n": 1.10}}));
    assert_eq!(edited["cron_expression"], "30 17 * * 1-5");
    let nothing = ask(&host, &["schedule", "edit", &schedule]).fails(2);
    assert!(nothing.contains("say what to change"), "{nothing}");
    host.end_of(&ask(&host, &["schedule", "run", "nightly"]).ok());
    assert_eq!(ask(&host, &["schedule", "remove", "nightly"]).ok(), "removed nightly");
    ask(&host, &["schedule", "remove", &schedule]).fails(1);
    let trigger = ask(
        &host,
        &[
            "trigger",
            "add",
            "--task",
            "echo",
            "--event",
            "daily/close",
            "--payload",
            r#"{"value": "stored", "kept": 1}"#,
        ],
    )
    .ok();
    assert!(ask(&host, &["trigger", "list"]).ok().contains("daily/close"));
    let fired = ask(&host, &["event", "emit", "daily/close", "--data", r#"{"value": "told"}"#]).ok();
    assert_eq!(host.end_of(&fired)["payload"], json!({"value": "told", "kept": 1}));
    assert_eq!(ask(&host, &["event", "emit", "daily/close", "--json"]).json()["count"], 1);
    let told = [
        "event",
        "emit",
        "daily/close",
        "--source",
        "/desk",
        "--id",
        "1",
        "--data",
        r#"{"value": "once"}"#,
    ];
    assert_eq!(host.end_of(&ask(&host, &told).ok())["result"], "once");
    assert!(ask(&host, &told).err.contains("before"));
    ask(&host, &["event", "emit", "daily/close", "--id", "1"]).fails(2);
    assert_eq!(ask(&host, &["trigger", "pause", &trigger]).ok(), format!("paused {trigger}"));
    assert_eq!(ask(&host, &["event", "emit", "daily/close", "--json"]).json()["count"], 0);
    assert_eq!(ask(&host, &["trigger", "resume", &trigger]).ok(), format!("resumed {trigger}"));
    let add = |filter: &str| {
        ask(
            &host,
            &[
                "trigger",
                "add",
                "--task",
                "echo",
                "--event",
                "fill",
                "--filter",
                filter,
                "--debounce",
                "0.1",
            ],
        )
    };
    let filtered = add("data.delta > 5").ok();
    assert!(ask(&host, &["trigger", "list"]).ok().contains("data.delta > 5"));
    assert!(add("delta > 5").fails(1).contains("data.delta"));
    let edit = ["trigger", "edit", &filtered, "--filter", "data.delta > 7", "--priority", "2"];
    assert_eq!(ask(&host, &edit).ok(), format!("edited {filtered}"));
    ask(&host, &["trigger", "edit", &filtered, "--reset", "filter"]).ok();
    let edited = host.get(&format!("/trigger/{filtered}")).ok();
    assert_eq!((&edited["filter"], &edited["priority"]), (&json!("data.delta > 5"), &json!(2)));
    ask(&host, &["trigger", "remove", &filtered]).ok();
    assert_eq!(ask(&host, &["trigger", "remove", &trigger]).ok(), format!("removed {trigger}"));
    let nobody = ask(&host, &["event", "emit", "daily/close"]);
    assert_eq!((nobody.code, nobody.out.as_str()), (Some(0), ""));
    assert!(nobody.err.contains("daily/close"), "{nobody:?}");
}

#[test]
fn limits_and_the_queue_read_as_words() {
    let host = Host::with_probe();
    ask(&host, &["limit", "put", "vendor", "--tag", "desk", "--rate", "5/60"]).ok();
    let limits = ask(&host, &["limit", "list"]).ok();
    assert!(limits.contains("#desk") && limits.contains("5/60 s"), "{limits}");
    assert!(!ask(&host, &["queue"]).ok().contains('{'));
    ask(&host, &["queue", "pause"]).ok();
    ask(&host, &["submit", "echo"]).ok();
    let queue = ask(&host, &["queue"]).ok();
    assert!(queue.contains("echo: 1") && !queue.contains('{'), "{queue}");
    let waits = ask(&host, &["queue", "resume", "echo"]).err;
    assert!(waits.contains("whole queue is paused"), "{waits}");
    ask(&host, &["queue", "resume"]).ok();
    assert!(ask(&host, &["queue", "resume"]).err.contains("was not paused"));
    std::fs::write(host.path("tasks.ndjson"), "{\"task_name\": \"noop\"}\n{\"task_name\": \"nop\"}\n").expect("a file");
    let file = format!("@{}", host.path("tasks.ndjson").display());
    let refused = ask(&host, &["batch", "submit", &file]).fails(1);
    assert_eq!(refused.matches("nop").count(), 1, "said once: {refused}");
    let calendar = ask(&host, &["calendar", "show", "XNYS"]).ok();
    assert!(
        calendar.contains("hours: from 2000-01-01: 09:30 to 16:00") && !calendar.contains('{'),
        "{calendar}"
    );
}

#[test]
fn alerts_are_listed_and_cleared() {
    let host = Host::with_probe();
    host.run("fatal", &json!({}));
    let list = ask(&host, &["alerts", "list", "--type", "task_failure"]).ok();
    assert!(list.contains("task_failure") && list.contains("not in this life"), "{list}");
    assert_eq!(ask(&host, &["alerts", "clear", "--type", "long_execution"]).ok(), "cleared 0");
    assert_eq!(ask(&host, &["alerts", "clear", "--json"]).json(), json!({"cleared_count": 1}));
    assert_eq!(ask(&host, &["alerts", "list", "--json"]).json(), json!([]));
}

#[test]
fn plugins_are_pushed_listed_reloaded_and_removed() {
    let mut host = Host::prepare();
    host.start(&[]);
    let file = guests::path("probe").display().to_string();
    let pushed = ask(&host, &["plugin", "push", &file]).ok();
    assert!(pushed.contains("probe") && pushed.contains("granted"), "{pushed}");
    assert_eq!(
        ask(&host, &["submit", "echo", "--wait", "--payload", r#"{"value": 7}"#]).json(),
        json!(7)
    );
    let list = ask(&host, &["plugin", "list"]).ok();
    assert!(list.contains("probe") && list.contains("loaded"), "{list}");
    assert!(ask(&host, &["plugin", "reload"]).ok().contains("probe"));
    let bad = host.path("bad.wasm");
    std::fs::write(&bad, b"this is no component").expect("a file");
    ask(&host, &["plugin", "push", &bad.display().to_string(), "--name", "probe"]).fails(1);
    assert_eq!(host.get("/plugin/probe").ok()["state"], "loaded", "the good version stays");
    assert_eq!(ask(&host, &["plugin", "remove", "probe"]).ok(), "removed probe");
    host.get("/plugin/probe").problem(404);
}

#[test]
fn a_component_is_checked_and_tried_without_a_host() {
    let file = guests::path("probe").display().to_string();
    let checked = run(&["plugin", "check", &file]).ok();
    for word in ["probe", "sha256:", "version", "echo", "granted"] {
        assert!(checked.contains(word), "no {word}: {checked}");
    }
    let record = run(&["plugin", "check", &file, "--json"]).json();
    assert!(
        record["tasks"].as_array().is_some_and(|tasks| tasks.contains(&json!("echo"))),
        "{record}"
    );
    let folder = tempfile::tempdir().expect("a temporary folder");
    let bad = folder.path().join("bad.wasm");
    std::fs::write(&bad, b"this is no component").expect("a file");
    assert!(
        run(&["plugin", "check", &bad.display().to_string()])
            .fails(1)
            .starts_with("error: ")
    );
    let echo = run(&["plugin", "run", &file, "echo", "--payload", r#"{"value": [1]}"#]);
    assert!(echo.err.contains("ok in ") && echo.err.contains(" fuel"), "{echo:?}");
    assert_eq!(echo.json(), json!([1]));
    let lines = run(&["plugin", "run", &file, "log_lines", "--payload", r#"{"count": 1}"#]);
    assert!(lines.err.contains("INFO  line 0"), "{lines:?}");
    let whole = run(&["plugin", "run", &file, "echo", "--payload", r#"{"value": 1}"#, "--json"]).json();
    assert_eq!((&whole["outcome"], &whole["result"]), (&json!("ok"), &json!(1)));
    let fatal = run(&["plugin", "run", &file, "fatal"]);
    assert_eq!(fatal.out, "");
    assert!(fatal.fails(1).contains("not in this life"));
    run(&["plugin", "run", &file, "ecco"]).fails(1);
    run(&["plugin", "run", &file, "echo", "--payload", "{"]).fails(2);
}

#[test]
fn the_description_and_the_configuration_are_printed_without_a_host() {
    let description = run(&["openapi"]).json();
    assert!(
        description["paths"]
            .as_object()
            .is_some_and(|paths| paths.contains_key("/api/v1/scheduler/task/submit"))
    );
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut command = taskhost();
    let printed = command
        .args(["serve", "--print-config", "--slots", "3", "--listen", "127.0.0.1:7"])
        .current_dir(folder.path())
        .output();
    let printed = Said::of(printed.expect("the command runs")).ok();
    assert!(
        printed.contains("[worker]") && printed.contains("slots = 3") && printed.contains("127.0.0.1:7"),
        "{printed}"
    );
}

#[test]
fn whoever_stops_reading_gets_no_panic() {
    let host = Host::with_probe();
    // More than a pipe holds, so that the command is still writing when nobody reads.
    let long = "x".repeat(300_000);
    let id = host.run("echo", &json!({ "value": long }))["task_id"]
        .as_str()
        .expect("an id")
        .to_owned();
    let mut child = command(&host)
        .args(["task", "status", &id, "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the command runs");
    let mut first = [0];
    let mut stdout = BufReader::with_capacity(1, child.stdout.take().expect("stdout"));
    stdout.read_exact(&mut first).expect("a byte");
    drop(stdout);
    let mut said = String::new();
    for line in BufReader::new(child.stderr.take().expect("stderr")).lines() {
        said.push_str(&line.expect("text"));
    }
    assert_eq!((child.wait().expect("the command's end").code(), said.as_str()), (Some(0), ""));
}

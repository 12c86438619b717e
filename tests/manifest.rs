//! What an operator's manifest adds to a plugin: its word on each task, and the schedules and triggers that come with it.

use crate::harness::{Host, eventually};
use serde_json::{Value, json};

fn error_of(host: &Host, manifest: &str) -> String {
    host.manifest("probe", manifest);
    eventually("the manifest is refused", || host.get("/plugin/probe").ok()["error"].is_string());
    let error = host.get("/plugin/probe").ok()["error"].as_str().expect("an error").to_owned();
    host.manifest("probe", "");
    eventually("the plugin is well again", || host.get("/plugin/probe").ok()["error"].is_null());
    error
}

#[test]
fn the_operators_word_on_a_task_wins_over_the_plugins() {
    let host = Host::with_probe();
    host.manifest(
        "probe",
        "[limits]\ntimeout = 100\n[tasks.whoami]\ntimeout = 400\npriority = 2\n[tasks.whoami.retry]\nmax_retries = 1\n[tasks.echo.retry]\ninitial_delay = 0\n",
    );
    eventually("the word holds", || host.get("/registry/task/whoami").ok()["retry_count"] == 1);
    let whoami = host.get("/registry/task/whoami").ok();
    assert_eq!((&whoami["priority"], &whoami["timeout"]), (&json!(2), &json!(100.0)), "{whoami}");
    assert_eq!(host.run("whoami", &json!({}))["result"]["max_attempts"], 2);
    let echo = host.get("/registry/task/echo").ok();
    assert_eq!((&echo["retry_count"], &echo["priority"]), (&json!(3), &json!(3)), "{echo}");
    assert!(error_of(&host, "[tasks.nobody]\npriority = 2\n").contains("tasks.nobody"));
    assert_eq!(host.get("/registry/task/whoami").ok()["retry_count"], 7);
}

#[test]
fn schedules_and_triggers_come_with_a_plugin_and_keep_their_ids() {
    let host = Host::with_probe();
    let manifest = |cron: &str, value: u32| {
        format!(
            "[[schedules]]\nname = \"nightly\"\ntask_name = \"add\"\ncron_expression = \"{cron}\"\nstart = 2026-01-01T00:00:00Z\n\
             payload = {{ a = 1, b = 2 }}\npriority = 2\ntags = [\"eod\"]\n\
             [[triggers]]\nname = \"on-close\"\ntask_name = \"echo\"\nevent_type = \"daily_close\"\npayload = {{ value = {value} }}\n"
        )
    };
    let rule = |path: &str, name: &str| {
        let rules = host.get(path).ok();
        rules.as_array().expect("rules").iter().find(|rule| rule["name"] == name).cloned()
    };
    host.manifest("probe", &manifest("30 17 * * 1-5", 1));
    eventually("the schedule is there", || rule("/schedules", "nightly").is_some());
    eventually("the trigger is there", || rule("/triggers", "on-close").is_some());
    let first = rule("/schedules", "nightly").expect("the schedule");
    assert_eq!(
        (&first["task_name"], &first["priority"], &first["tags"], &first["payload"]),
        (&json!("add"), &json!(2), &json!(["eod"]), &json!({"a": 1, "b": 2})),
        "{first}"
    );
    assert!(first["next_fire"].is_string(), "{first}");
    let fired = host.post("/event/trigger/daily_close", &json!({})).ok();
    let task = host.end_of(fired["triggered_tasks"][0].as_str().expect("a task"));
    assert_eq!(task["result"], 1);

    host.manifest("probe", &manifest("45 17 * * 1-5", 2));
    eventually("the schedule is updated", || {
        rule("/schedules", "nightly").is_some_and(|rule| rule["cron_expression"] == "45 17 * * 1-5")
    });
    let id = |rule: &Value| {
        rule["schedule_id"]
            .as_str()
            .or(rule["task_id"].as_str())
            .or(rule["id"].as_str())
            .map(str::to_owned)
    };
    let second = rule("/schedules", "nightly").expect("the schedule");
    assert!(id(&first).is_some(), "{first}");
    assert_eq!(id(&first), id(&second));

    std::fs::remove_file(host.path("plugins/probe.wasm")).expect("the plugin");
    eventually("the plugin is gone", || host.get("/plugin/probe").status == 404);
    assert!(rule("/schedules", "nightly").is_some() && rule("/triggers", "on-close").is_some());
}

#[test]
fn a_rule_that_cannot_run_refuses_the_manifest_with_its_place() {
    let host = Host::with_probe();
    let schedule = |rest: &str| format!("# a rule\n[[schedules]]\nname = \"x\"\ntask_name = \"add\"\n{rest}\n");
    for (manifest, words) in [
        (
            schedule("cron_expression = \"61 * * * *\""),
            ["probe.toml, line 2", "schedules[0].cron_expression"],
        ),
        (
            schedule("cron_expression = \"@daily\"\npayload = { a = 1 }"),
            ["probe.toml", "schedules[0].payload"],
        ),
        (
            "[[triggers]]\nname = \"x\"\ntask_name = \"add\"\n".to_owned(),
            ["probe.toml, line 1", "event_type"],
        ),
    ] {
        let error = error_of(&host, &manifest);
        assert!(words.iter().all(|word| error.contains(word)), "{error}");
    }
    assert_eq!(host.get("/schedules").ok(), json!([]));
}

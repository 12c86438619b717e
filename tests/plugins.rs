//! Plugins come, change, break and go while the host runs.

use crate::harness::{Host, eventually, guests, in_ms};
use serde_json::{Value, json};
use std::io::Write;
use std::time::Duration;

fn version(host: &Host) -> String {
    let task = host.run("version", &json!({}));
    task["result"].as_str().unwrap_or_else(|| panic!("{task}")).to_owned()
}

fn plugin(host: &Host, name: &str) -> Value {
    host.get(&format!("/plugin/{name}")).ok()
}

#[test]
fn a_dropped_component_is_live_within_a_second_of_compiling_and_so_is_its_next_version() {
    let mut host = Host::prepare();
    host.start(&[]);
    host.post("/task/submit", &json!({"task_name": "version"})).problem(404);
    for n in 1..=2 {
        host.drop_plugin("probe", &guests::probe_version(n));
        eventually("the version is live", || {
            host.get("/plugin/probe").status == 200 && version(&host).ends_with(&n.to_string())
        });
        assert!(plugin(&host, "probe")["compile_time"].is_number(), "it was compiled");
    }
    // Compiled code is kept: the first version again takes no compiling.
    host.drop_plugin("probe", &guests::probe_version(1));
    eventually("the version is live", || version(&host).ends_with('1'));
    assert!(plugin(&host, "probe")["compile_time"].is_null(), "it was not compiled again");
}

#[test]
fn attempts_in_flight_finish_on_the_version_they_started_with() {
    let host = Host::with_probe();
    let id = host.submit(&json!({"task_name": "nap", "payload": {"seconds": 3.0}}));
    host.wait_for(&id, "running");
    let before = plugin(&host, "probe")["digest"].clone();
    host.drop_plugin("probe", &guests::probe_version(2));
    eventually("the new version is live", || plugin(&host, "probe")["digest"] != before);
    let task = host.end_of(&id);
    assert_eq!(
        (&task["status"], &task["attempts"][0]["plugin_digest"]),
        (&json!("success"), &before),
        "{task}"
    );
}

#[test]
fn a_broken_file_keeps_the_last_good_version_and_its_error_is_visible() {
    let host = Host::with_probe();
    let good = plugin(&host, "probe");
    host.drop_plugin("probe", b"this is no component");
    eventually("the error is visible", || plugin(&host, "probe")["error"].is_string());
    let broken = plugin(&host, "probe");
    assert_eq!((&broken["state"], &broken["digest"]), (&json!("loaded"), &good["digest"]));
    assert_eq!(host.run("echo", &json!({"value": 1}))["status"], "success");
    host.drop_plugin("probe", &guests::probe_version(2));
    eventually("the next good version is live", || plugin(&host, "probe")["error"].is_null());
    assert!(version(&host).ends_with('2'));
}

#[test]
fn a_copy_in_pieces_is_loaded_when_it_is_whole() {
    let mut host = Host::prepare();
    host.start(&[]);
    let bytes = guests::probe();
    let mut file = std::fs::File::create(host.path("plugins/probe.wasm")).expect("a file");
    for piece in bytes.chunks(bytes.len() / 4 + 1) {
        file.write_all(piece).expect("a piece");
        file.sync_all().expect("a piece");
        std::thread::sleep(Duration::from_millis(300));
        let seen = host.get("/plugin/probe");
        assert!(
            seen.status == 404 || seen.body["error"].is_null(),
            "a half-written file is no error yet: {}",
            seen.body
        );
    }
    drop(file);
    eventually("the plugin is live", || host.get("/registry/task/echo").status == 200);
}

#[test]
fn a_removed_plugin_leaves_its_tasks_waiting_until_it_returns() {
    let host = Host::with_probe();
    let id = host.submit(&json!({"task_name": "echo", "payload": {"value": 7}, "trigger_time": in_ms(1_000)}));
    std::fs::remove_file(host.path("plugins/probe.wasm")).expect("the plugin");
    eventually("its tasks are gone", || host.get("/registry/task/echo").status == 404);
    host.post("/task/submit", &json!({"task_name": "echo"})).problem(404);
    eventually("the task is held", || host.task(&id)["held"] == "handler missing");
    assert_eq!(host.task(&id)["status"], "pending");
    host.drop_plugin("probe", &guests::probe());
    assert_eq!(host.end_of(&id)["result"], 7);
}

#[test]
fn a_task_name_belongs_to_one_plugin_also_after_a_restart() {
    let mut host = Host::with_probe();
    host.drop_plugin("a-rival", &guests::frozen("echo"));
    eventually("the rival is refused", || {
        host.get("/plugin/a-rival").status == 200 && plugin(&host, "a-rival")["error"].is_string()
    });
    let refused = |host: &Host| {
        let rival = plugin(host, "a-rival");
        assert_eq!(rival["state"], "failed");
        assert!(
            rival["error"]
                .as_str()
                .is_some_and(|error| error.contains("echo") && error.contains("probe")),
            "{rival}"
        );
        assert_eq!(host.get("/registry/task/echo").ok()["plugin"], "probe");
    };
    refused(&host);
    host.stop();
    // "a-rival" is scanned first.
    host.start(&[]);
    refused(&host);
    std::fs::remove_file(host.path("plugins/probe.wasm")).expect("the owner");
    eventually("the rival takes over", || {
        host.get("/registry/task/echo").body["plugin"] == "a-rival"
    });
}

#[test]
fn several_directories_and_one_level_of_folders_are_scanned() {
    let mut host = Host::prepare();
    for folder in ["plugins/desk", "plugins/desk/deeper", "more"] {
        std::fs::create_dir_all(host.path(folder)).expect("a folder");
    }
    std::fs::write(host.path("plugins/desk/probe.wasm"), guests::probe()).expect("a plugin");
    std::fs::write(host.path("plugins/desk/deeper/too_deep.wasm"), guests::probe()).expect("a plugin");
    std::fs::write(host.path("more/frozen.wasm"), guests::frozen("normal")).expect("a plugin");
    host.start(&["--plugins", "plugins", "--plugins", "more"]);
    let names: Vec<Value> = host
        .get("/plugins")
        .ok()
        .as_array()
        .expect("plugins")
        .iter()
        .map(|p| p["name"].clone())
        .collect();
    assert_eq!(names, ["frozen", "probe"]);
    // A folder that comes later is watched too.
    std::fs::create_dir(host.path("more/later")).expect("a folder");
    std::fs::rename(host.path("plugins/desk/probe.wasm"), host.path("more/later/other.wasm")).expect("a move");
    eventually("the moved plugin is live", || {
        host.get("/registry/task/echo").body["plugin"] == "other"
    });
}

#[test]
fn a_component_on_the_frozen_contract_runs() {
    let mut host = Host::prepare();
    host.drop_plugin("frozen", &guests::frozen("normal"));
    host.start(&[]);
    let task = host.run("frozen", &json!({"kept": [1, 2]}));
    assert_eq!(
        (&task["status"], &task["result"], &task["retry_count"]),
        (&json!("success"), &json!({"kept": [1, 2]}), &json!(1)),
        "{task}"
    );
    let future = host.run("frozen.kind", &json!({}));
    assert_eq!(
        (&future["error_code"], &future["error"]),
        (&json!("fatal"), &json!("unheard of")),
        "{future}"
    );
}

#[test]
fn uploads_are_live_when_answered_and_bad_ones_change_nothing() {
    let mut host = Host::prepare();
    host.start(&[]);
    let put = |name: &str, bytes: &[u8]| {
        host.request(
            "PUT",
            &format!("/plugin/{name}"),
            Some(bytes),
            &[("content-type", "application/wasm")],
        )
    };
    let uploaded = put("probe", &guests::probe()).ok();
    assert_eq!(
        (&uploaded["state"], &uploaded["version"]),
        (&json!("loaded"), &json!("1.2.3")),
        "{uploaded}"
    );
    assert_eq!(host.run("echo", &json!({"value": 1}))["status"], "success");
    for bad in [&b"no component"[..], &guests::frozen("trap")] {
        put("probe", bad).problem(422);
        assert_eq!(plugin(&host, "probe"), uploaded);
    }
    assert_eq!(std::fs::read(host.path("plugins/probe.wasm")).expect("the file"), guests::probe());
    put("..%2Fescape", &guests::probe()).problem(400);
    put("rival", &guests::frozen("echo")).problem(422);
    assert!(!host.path("plugins/rival.wasm").exists());
    host.delete("/plugin/probe").ok();
    host.get("/plugin/probe").problem(404);
    host.post("/task/submit", &json!({"task_name": "echo"})).problem(404);
}

#[test]
fn the_record_of_a_plugin_tells_what_it_asks_for_and_gets() {
    let host = Host::with_probe();
    let probe = plugin(&host, "probe");
    for member in ["name", "state", "digest", "version", "size", "imports", "grants", "tasks"] {
        assert!(!probe[member].is_null(), "{member}: {probe}");
    }
    let events = probe["imports"]
        .as_array()
        .expect("imports")
        .iter()
        .find(|i| i["name"].as_str().is_some_and(|n| n.contains("plugin/events")));
    assert_eq!(events.expect("the probe imports events")["granted"], false);
    let tasks = host.get("/registry/tasks").ok();
    let echo = tasks
        .as_array()
        .expect("tasks")
        .iter()
        .find(|task| task["name"] == "echo")
        .expect("echo");
    assert_eq!(
        (&echo["priority"], &echo["tags"], &echo["plugin"]),
        (&json!(3), &json!(["echo", "demo"]), &json!("probe"))
    );
    assert_eq!(echo["description"], "Gives its input back.");
    assert_eq!(host.get("/registry/task/whoami").ok()["retry_count"], 7);
    assert_eq!(host.get("/registry/task/add").ok()["input_schema"]["required"], json!(["a", "b"]));
}

#[test]
fn manifests_are_checked_and_their_change_reloads() {
    let host = Host::with_probe();
    let later = ["events = [\"a b\"]", "submit = [\"a/b\"]", "http = [{ host = \"x\" }]"].map(|grant| format!("[capabilities]\n{grant}\n"));
    let overlap =
        ["data", "plugins", "."].map(|folder| format!("[capabilities]\nfs = [{{ host = \"{folder}\", guest = \"/x\", mode = \"ro\" }}]\n"));
    let wrong = [
        "digest = \"sha256:00\"",
        "unknown = 1",
        "[limits]\nmemory = \"lots\"",
        "[limits]\ntimeout = -1",
        "[",
    ]
    .map(str::to_owned);
    for manifest in later.iter().chain(&overlap).chain(&wrong) {
        host.manifest("probe", manifest);
        eventually(&format!("{manifest:?} is refused"), || plugin(&host, "probe")["error"].is_string());
        assert_eq!(plugin(&host, "probe")["state"], "loaded", "{manifest}");
        host.manifest("probe", "");
        eventually("the plugin is well again", || plugin(&host, "probe")["error"].is_null());
    }
    host.manifest("probe", "[limits]\ntimeout = 5\n");
    eventually("the limit holds", || host.get("/registry/task/echo").ok()["timeout"] == 5.0);
    host.manifest("probe", "strict = true\n");
    eventually("strict refuses what is not granted", || {
        plugin(&host, "probe")["error"]
            .as_str()
            .is_some_and(|error| error.contains("events"))
    });
}

//! The plugins that ship, on real input, through the real host; and the first command of the README.

use crate::harness::{Host, PATIENCE, eventually, guests, project, taskhost};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

/// A host beside the real samples, with the shipped manifests.
fn with_samples() -> Host {
    let mut host = Host::prepare();
    std::fs::create_dir(host.path("samples")).expect("samples/");
    for entry in std::fs::read_dir(project().join("samples")).expect("samples/") {
        let path = entry.expect("an entry").path();
        std::fs::copy(&path, host.path("samples").join(path.file_name().expect("a name"))).expect("a copy");
    }
    for name in ["backtest", "settlement", "strategy_deploy"] {
        host.drop_plugin(name, &guests::component(name));
        host.manifest(
            name,
            &std::fs::read_to_string(project().join(format!("plugins/{name}.toml"))).expect("a manifest"),
        );
    }
    host.start(&[]);
    host
}

fn sample(name: &str) -> Value {
    let text = std::fs::read_to_string(project().join("samples").join(name)).expect("a sample");
    serde_json::from_str(&text).expect("JSON")
}

/// The closes of the sample, read apart from the plugin.
fn closes() -> Vec<f64> {
    let text = std::fs::read_to_string(project().join("samples/sp500-daily-2000-2020.csv")).expect("a sample");
    text.lines()
        .skip(1)
        .filter_map(|line| line.split(',').nth(4)?.parse().ok())
        .collect()
}

#[test]
fn backtest_over_twenty_years_of_the_sp500_agrees_with_a_naive_walk() {
    let host = with_samples();
    let closes = closes();
    let payload = json!({"strategy": "sma_cross", "params": {"fast": 50, "slow": 200}, "data": "sp500-daily-2000-2020.csv", "fee_bps": 5});
    let task = host.run("backtest", &payload);
    assert_eq!(task["status"], "success", "{task}");
    let mean = |end: usize, n: usize| closes[end + 1 - n..=end].iter().sum::<f64>() / n as f64;
    let (mut equity, mut long, mut curve) = (100_000.0, false, vec![100_000.0]);
    for day in 0..closes.len() - 1 {
        let wants = day + 1 >= 200 && mean(day, 50) > mean(day, 200);
        if wants != long {
            equity *= 1.0 - 5.0 / 10_000.0;
            long = wants;
        }
        equity *= if long { closes[day + 1] / closes[day] } else { 1.0 };
        curve.push(equity);
    }
    let told: Vec<f64> = task["result"]["equity_curve"]
        .as_array()
        .expect("a curve")
        .iter()
        .filter_map(Value::as_f64)
        .collect();
    assert_eq!(told.len(), closes.len());
    for (day, (told, expected)) in told.iter().zip(&curve).enumerate() {
        assert!((told / expected - 1.0).abs() < 1e-9, "day {day}: {told} {expected}");
    }
    let result = &task["result"];
    let total = equity / 100_000.0 - 1.0;
    assert!((result["total_return"].as_f64().expect("a number") - total).abs() < 1e-9);
    let annual = (1.0 + total).powf(252.0 / (closes.len() - 1) as f64) - 1.0;
    assert!((result["annual_return"].as_f64().expect("a number") - annual).abs() < 1e-9);
    for member in ["bars", "trades", "annual_volatility", "sharpe", "max_drawdown", "win_rate"] {
        assert!(!result[member].is_null(), "no {member}");
    }
    let held = host.run(
        "backtest",
        &json!({"strategy": "buy_and_hold", "params": {}, "data": "sp500-daily-2000-2020.csv"}),
    );
    let expected = closes[closes.len() - 1] / closes[0] - 1.0;
    assert!(
        (held["result"]["total_return"].as_f64().expect("a number") - expected).abs() < 1e-9,
        "{}",
        held["error"]
    );
}

#[test]
fn the_samples_run_as_they_are() {
    let host = with_samples();
    for (name, file) in [("backtest", "backtest-sp500.json"), ("settlement", "settlement.json")] {
        let task = host.run(name, &sample(file));
        assert_eq!(task["status"], "success", "{name}: {} {}", task["error"], task["error_details"]);
    }
}

#[test]
fn a_roll_out_promotes_what_is_better_and_rolls_back_what_is_not() {
    let host = with_samples();
    let conclude = |thresholds: Value| {
        let mut payload = sample("strategy_deploy-sp500.json");
        payload["thresholds"] = thresholds;
        let begun = host.run("strategy_deploy", &payload);
        assert_eq!(begun["status"], "success", "{begun}");
        let path = format!("/workflow/{}", begun["result"]["workflow_id"].as_str().expect("an id"));
        eventually("the roll-out ends", || {
            let answer = host.get(&path);
            answer.status == 200 && answer.body["status"] != "running"
        });
        let workflow = host.get(&path).ok();
        let task = |key: &str| host.task(workflow["steps"][key]["task_id"].as_str().expect("a task"));
        let (compared, concluded) = (task("compare"), task("conclude"));
        assert_eq!(concluded["status"], "success", "{concluded}");
        assert_eq!(concluded["parent_task_id"], begun["task_id"]);
        assert!(concluded["result"]["event_id"].is_string(), "{concluded}");
        (workflow["status"].clone(), compared["result"].clone(), concluded["result"].clone())
    };
    let easy = json!({"min_return_gain": -1000, "min_sharpe_gain": -1000, "max_drawdown": 1, "max_drawdown_increase": 1});
    let (status, compared, concluded) = conclude(easy);
    assert_eq!(
        (&status, &concluded["decision"], &concluded["params"]["fast"]),
        (&json!("success"), &json!("promoted"), &json!(20))
    );
    // What was compared is what the backtests of the newer days say.
    let mut payload = sample("strategy_deploy-sp500.json");
    let canary = json!({"strategy": payload["strategy"], "params": payload["candidate"].take(), "data": payload["data"],
        "from": payload["canary_from"], "fee_bps": payload["fee_bps"]});
    let canary = host.run("backtest", &canary);
    assert_eq!(
        compared["candidate"]["total_return"], canary["result"]["total_return"],
        "{compared}"
    );
    let (status, compared, concluded) = conclude(json!({"min_return_gain": 1000}));
    assert_eq!((&status, &compared["promote"]), (&json!("success"), &json!(false)));
    assert_eq!(
        (&concluded["decision"], &concluded["params"]["fast"]),
        (&json!("rolled_back"), &json!(50))
    );
    let (status, compared, concluded) = conclude(json!({"min_trades": 100_000}));
    assert_eq!((status, compared), (json!("failed"), Value::Null));
    assert_eq!(concluded["decision"], "rolled_back");
}

#[test]
fn wrong_input_of_the_shipped_plugins_is_pointed_at() {
    let host = with_samples();
    let bars = |closes: &[f64]| {
        let bars: Vec<Value> = closes
            .iter()
            .enumerate()
            .map(|(n, close)| json!({"date": format!("2026-01-{:02}", n + 1), "close": close}))
            .collect();
        json!({"strategy": "buy_and_hold", "params": {}, "bars": bars})
    };
    let crossed = json!({"strategy": "sma_cross", "params": {"fast": 3, "slow": 3}, "bars": [{"date": "2026-01-01", "close": 1}, {"date": "2026-01-02", "close": 1}]});
    for (payload, pointer) in [
        (bars(&[1.0, -2.0, 3.0]), "/bars/1/close"),
        (bars(&[1.0, 2.0, 0.0]), "/bars/2/close"),
        (bars(&[1.0]), "/bars"),
        (crossed, "/params/fast"),
    ] {
        // What the schema can say is refused at the door; the rest by the handler.
        let answer = host.request(
            "POST",
            "/task/submit",
            Some(json!({"task_name": "backtest", "payload": payload}).to_string().as_bytes()),
            &[("content-type", "application/json"), ("prefer", "wait=60")],
        );
        let errors = if answer.status == 422 {
            &answer.body["errors"]
        } else {
            &answer.body["error_details"]["errors"]
        };
        let told = errors[0]["pointer"].as_str().unwrap_or_default();
        assert!(told.ends_with(pointer), "{payload}: {}", answer.body);
    }
}

#[test]
fn settlement_nets_to_zero() {
    let host = with_samples();
    let task = host.run("settlement", &sample("settlement.json"));
    assert_eq!(task["status"], "success", "{task}");
    let obligations = task["result"]["obligations"].as_array().expect("obligations");
    assert!(obligations.len() >= 8, "{obligations:?}");
    let mut sums = std::collections::BTreeMap::new();
    for line in obligations {
        let amount = hundred_millionths(line["amount"].as_str().expect("text: exact decimals"));
        assert_ne!(amount, 0, "{line}");
        *sums
            .entry((line["asset"].to_string(), line["settlement_date"].to_string()))
            .or_insert(0) += amount;
    }
    assert!(sums.len() >= 3 && sums.values().all(|sum| *sum == 0), "{sums:?}");
    // Bought 1,000, sold 400 and bought 600 more, on two days, T+2 over Christmas.
    let of = |account: &str, asset: &str| -> Vec<_> {
        let lines = obligations
            .iter()
            .filter(|line| line["account"] == account && line["asset"] == asset);
        lines.map(|line| line["amount"].as_str().unwrap_or_default()).collect()
    };
    assert_eq!(of("ALPHA-FUND", "VOD.L"), ["600", "600"]);
    assert_eq!(of("BETA-FUND", "EUR"), ["-59112.5"]);
}

/// A decimal as a whole number of hundred-millionths.
fn hundred_millionths(text: &str) -> i128 {
    let (sign, digits) = text.strip_prefix('-').map_or((1, text), |rest| (-1, rest));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    sign * format!("{whole}{fraction:0<8}").parse::<i128>().expect("a decimal")
}

#[test]
fn trades_that_cannot_be_settled_are_pointed_at() {
    let host = with_samples();
    let with = |change: &dyn Fn(&mut Value)| {
        let mut payload = sample("settlement.json");
        change(&mut payload["trades"]);
        json!({"task_name": "settlement", "payload": payload})
    };
    let cases: [(&str, Value); 4] = [
        (
            "/trades/1/trade_id",
            with(&|trades| trades[1]["trade_id"] = trades[0]["trade_id"].clone()),
        ),
        ("/trades/2/side", with(&|trades| trades[2]["side"] = json!("borrow"))),
        ("/trades/3/quantity", with(&|trades| trades[3]["quantity"] = json!("-600"))),
        (
            "/trades/0/trade_date",
            with(&|trades| trades[0]["trade_date"] = json!("2024-02-30")),
        ),
    ];
    for (pointer, submission) in cases {
        let answer = host.request(
            "POST",
            "/task/submit",
            Some(submission.to_string().as_bytes()),
            &[("content-type", "application/json"), ("prefer", "wait=60")],
        );
        let (errors, prefix) = match answer.status {
            422 => (&answer.body["errors"], "/payload"),
            _ => (&answer.body["error_details"]["errors"], ""),
        };
        assert_eq!(errors[0]["pointer"], format!("{prefix}{pointer}"), "{}", answer.body);
    }
}

/// Lines of the README's shell blocks that begin so.
fn readme_commands(program: &str) -> Vec<String> {
    let readme = std::fs::read_to_string(project().join("README.md")).expect("README.md");
    let five_minutes = readme
        .split("## ")
        .find(|section| section.starts_with("Five minutes"))
        .expect("the section")
        .to_owned();
    let lines = five_minutes.lines().filter(|line| line.starts_with(program));
    lines
        .map(|line| line.split("  #").next().unwrap_or(line).trim().to_owned())
        .collect()
}

#[test]
fn the_commands_of_the_readme_work_as_written() {
    let host = with_samples();
    let commands = readme_commands("taskhost ");
    assert!(commands.len() >= 6, "{commands:?}");
    for command in commands {
        let line = command.replacen("taskhost", env!("CARGO_BIN_EXE_taskhost"), 1);
        let output = Command::new("sh")
            .args(["-c", &line])
            .current_dir(host.path(""))
            .env("TASKHOST_URL", host.url())
            .output()
            .expect("sh");
        assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
        assert!(!output.stdout.is_empty(), "{command} says nothing");
    }
    assert_eq!(host.get("/schedules").ok().as_array().map(Vec::len), Some(2));
    assert_eq!(host.get("/triggers").ok().as_array().map(Vec::len), Some(1));
    eventually("the batch has run", || {
        let ended = host.get("/tasks/history?tag=sma&status=success").ok();
        ended.as_array().is_some_and(|ended| ended.len() == 12)
    });
}

#[test]
fn the_plugin_of_the_readme_is_the_one_that_the_sdk_compiles() {
    let read = |name: &str| std::fs::read_to_string(project().join(name)).expect("a text");
    let (readme, sdk) = (read("README.md"), read("sdk/src/lib.rs"));
    let example = readme
        .split("```rust\n")
        .nth(1)
        .and_then(|rest| rest.split("```").next())
        .expect("an example");
    for line in example.lines().filter(|line| !line.is_empty()) {
        assert!(
            sdk.contains(&format!("//! {line}\n")),
            "{line:?} is not in the SDK's documentation, which is compiled and run"
        );
    }
}

/// The README's first command, on a copy of the plugin crates and an empty data directory.
#[test]
fn dev_builds_the_plugins_and_says_what_to_try() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut host = taskhost()
        .args(["dev", "--listen", "127.0.0.1:0", "--data"])
        .arg(folder.path().join("data"))
        .current_dir(project())
        .env("CARGO", env!("CARGO"))
        .env("CARGO_TARGET_DIR", project().join("target/guests"))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the host starts");
    let (tell, told) = std::sync::mpsc::channel();
    let lines = BufReader::new(host.stdout.take().expect("stdout")).lines();
    std::thread::spawn(move || lines.map_while(Result::ok).for_each(|line| drop(tell.send(line))));
    let (mut url, mut tried) = (String::new(), false);
    while let Ok(line) = told.recv_timeout(PATIENCE * 5) {
        if let Some(at) = line.find("http://127.0.0.1:") {
            url = line[at..].split(['/', ' ']).take(3).collect::<Vec<_>>().join("/");
        }
        tried |= line.contains("taskhost submit backtest");
        if tried && !url.is_empty() {
            break;
        }
    }
    if !tried {
        let _ = host.kill();
        panic!("it does not say what to try");
    }
    let submitted = taskhost()
        .args([
            "--url",
            &url,
            "submit",
            "backtest",
            "--payload",
            "@samples/backtest-sp500.json",
            "--wait",
        ])
        .current_dir(project())
        .output()
        .expect("a submission");
    let said = String::from_utf8_lossy(&submitted.stdout).into_owned();
    let _ = host.kill();
    let _ = host.wait();
    assert!(submitted.status.success(), "{said} {}", String::from_utf8_lossy(&submitted.stderr));
    assert!(said.contains("total_return"), "{said}");
    let ignored = Command::new("git")
        .args(["check-ignore", "plugins/backtest.wasm"])
        .current_dir(project())
        .output();
    assert!(
        ignored.is_ok_and(|output| output.status.success()),
        "built components are not committed"
    );
}

//! Handlers to measure with, built on the bare contract: `noop`, `sleep` (for ever), `spin` (burns fuel for ever).
#![cfg(target_arch = "wasm32")]

wit_bindgen::generate!({ path: "../../wit", world: "plugin" });
use exports::taskhost::plugin::handler::{Failure, Guest};

struct Plugin;

impl Guest for Plugin {
    fn describe() -> String {
        // Small caps, so that ten thousand fit a budget.
        let task = |name: &str| format!(r#"{{"name":"{name}","memory":"2MiB"}}"#);
        format!(
            r#"{{"version":"1.0.0","tasks":[{}]}}"#,
            ["noop", "sleep", "spin"].map(task).join(",")
        )
    }

    fn run(name: String, _input: String) -> Result<String, Failure> {
        match name.as_str() {
            "sleep" => loop {
                std::thread::sleep(std::time::Duration::from_secs(3_600));
            },
            "spin" => loop {
                std::hint::black_box(0);
            },
            _ => Ok("null".to_owned()),
        }
    }
}

export!(Plugin);

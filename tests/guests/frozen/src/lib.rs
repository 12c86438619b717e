//! Built on a frozen copy of the contract's 1.0.0 text, without the SDK: it has to run in every later host.
//!
//! What it says of itself is chosen by a text that tests patch into the built component, so that one build serves for every
//! way in which `describe` can go wrong.
#![cfg(target_arch = "wasm32")]

wit_bindgen::generate!({ path: "wit", world: "plugin" });
use exports::taskhost::plugin::handler::{Failure, Guest};
use taskhost::plugin::{checkpoint, context, log};

/// Patched by tests: the same length, another word.
static MODE: [u8; 32] = *b"frozen-mode:normal--------------";

fn mode() -> String {
    let text = String::from_utf8_lossy(std::hint::black_box(&MODE)).into_owned();
    text.trim_start_matches("frozen-mode:").trim_end_matches('-').to_owned()
}

fn document(tasks: &str) -> String {
    format!(r#"{{"name":"frozen","version":"1.0.0","a_later_member":true,"tasks":[{tasks}]}}"#)
}

struct Plugin;

impl Guest for Plugin {
    fn describe() -> String {
        match mode().as_str() {
            "loop" => loop {
                std::hint::black_box(0);
            },
            "allocate" => {
                let mut all: Vec<Vec<u8>> = Vec::new();
                loop {
                    all.push(std::hint::black_box(vec![1; 1 << 20]));
                }
            }
            "trap" => panic!("I will not describe myself"),
            "many" => document(
                &(0..10_000)
                    .map(|n| format!(r#"{{"name":"task{n}"}}"#))
                    .collect::<Vec<_>>()
                    .join(","),
            ),
            "script" => document(r#"{"name":"<script>alert(1)</script>"}"#),
            "twice" => document(r#"{"name":"one"},{"name":"one"}"#),
            "none" => document(""),
            "nonsense" => "this is not JSON".into(),
            "huge" => "x".repeat(32 << 20),
            "priority" => document(r#"{"name":"one","priority":10}"#),
            "schema" => document(r#"{"name":"one","input_schema":{"type":"no such type"}}"#),
            "remote" => document(r##"{"name":"one","input_schema":{"$ref":"http://127.0.0.1:1/schema.json"}}"##),
            "concurrency" => document(r#"{"name":"one","max_concurrency":1}"#),
            "echo" => document(r#"{"name":"echo"}"#),
            _ => document(r#"{"name":"frozen","retry":{"max_retries":1,"initial_delay":0}},{"name":"frozen.kind","a_later_member":1}"#),
        }
    }

    fn run(name: String, input: String) -> Result<String, Failure> {
        log::write(
            log::Level::Info,
            "frozen and well",
            &[("attempt".into(), context::attempt().len().to_string())],
        );
        if name == "frozen.kind" {
            return Err(Failure {
                kind: "a kind of the future".into(),
                message: "unheard of".into(),
                details: Some("not JSON".into()),
            });
        }
        if checkpoint::load().is_none() {
            checkpoint::save(b"once")?;
            return Err(Failure {
                kind: "retryable".into(),
                message: "once".into(),
                details: None,
            });
        }
        Ok(input)
    }
}

export!(Plugin);

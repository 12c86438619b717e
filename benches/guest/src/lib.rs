//! Handlers to measure with, built on the bare contract. What comes as a number in the input bounds them:
//!
//! - `noop` returns at once.
//! - `sleep` writes to some of its memory, then sleeps for so many seconds, or for ever.
//! - `spin` burns fuel for so many thousand turns of a loop, or for ever.
#![cfg(target_arch = "wasm32")]

use std::hint::black_box;
use std::time::Duration;

wit_bindgen::generate!({ path: "../../wit", world: "plugin" });
use exports::taskhost::plugin::handler::{Failure, Guest};

/// Bytes that a sleeper has written to, besides its stack and what its start took.
const TOUCHED: usize = 16 << 10;

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

    fn run(name: String, input: String) -> Result<String, Failure> {
        match name.as_str() {
            "sleep" => {
                let touched = black_box(vec![1_u8; TOUCHED]);
                std::thread::sleep(Duration::from_secs(number(&input).unwrap_or(u64::MAX >> 32)));
                drop(black_box(touched));
            }
            "spin" => {
                for turn in 0..number(&input).map_or(u64::MAX, |thousands| thousands * 1_000) {
                    black_box(turn);
                }
            }
            _ => {}
        }
        Ok("null".to_owned())
    }
}

/// The digits of the input, where there are any.
fn number(input: &str) -> Option<u64> {
    let digits: String = input.chars().filter(char::is_ascii_digit).collect();
    digits.parse().ok()
}

export!(Plugin);

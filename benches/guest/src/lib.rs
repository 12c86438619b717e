//! Handlers to measure with, built on the bare contract. What comes as a number in the input bounds them:
//!
//! - `noop` returns at once.
//! - `sleep` writes to some of its memory, then sleeps for so many milliseconds, or for ever.
//! - `spin` burns fuel for so many thousand turns of a loop, or for ever.
//! - `read` counts the lines of a file that its manifest grants.
//! - `give` returns so many bytes of text.
#![cfg(target_arch = "wasm32")]

use std::hint::black_box;
use std::time::Duration;

wit_bindgen::generate!({ path: "../../wit", world: "plugin" });
use exports::taskhost::plugin::handler::{Failure, Guest};

/// Bytes that a sleeper has written to, besides its stack and what its start took.
const TOUCHED: usize = 16 << 10;
/// What `read` reads, of the project's samples.
const FILE: &str = "/samples/sp500-daily-2000-2020.csv";

struct Plugin;

impl Guest for Plugin {
    fn describe() -> String {
        // Small caps, so that ten thousand fit a budget; a file or a megabyte takes more.
        let task = |(name, memory): (&str, &str)| format!(r#"{{"name":"{name}","memory":"{memory}"}}"#);
        let small = ["noop", "sleep", "spin"].map(|name| task((name, "2MiB")));
        let large = ["read", "give"].map(|name| task((name, "4MiB")));
        format!(r#"{{"version":"1.0.0","tasks":[{},{}]}}"#, small.join(","), large.join(","))
    }

    fn run(name: String, input: String) -> Result<String, Failure> {
        match name.as_str() {
            "sleep" => {
                let touched = black_box(vec![1_u8; TOUCHED]);
                std::thread::sleep(Duration::from_millis(number(&input).unwrap_or(u64::MAX >> 32)));
                drop(black_box(touched));
            }
            "spin" => {
                for turn in 0..number(&input).map_or(u64::MAX, |thousands| thousands * 1_000) {
                    black_box(turn);
                }
            }
            "read" => return lines().map(|lines| lines.to_string()).map_err(failure),
            "give" => return Ok(text(number(&input).unwrap_or(0))),
            _ => {}
        }
        Ok("null".to_owned())
    }
}

/// How many lines the file has.
fn lines() -> std::io::Result<usize> {
    Ok(std::fs::read(FILE)?.iter().filter(|byte| **byte == b'\n').count())
}

fn failure(error: std::io::Error) -> Failure {
    Failure {
        kind: "fatal".to_owned(),
        message: format!("{FILE}: {error}"),
        details: None,
    }
}

/// So many bytes as a JSON text.
fn text(bytes: u64) -> String {
    let mut text = vec![b'a'; bytes as usize + 2];
    text[0] = b'"';
    text[bytes as usize + 1] = b'"';
    String::from_utf8(text).unwrap_or_default()
}

/// The digits of the input, where there are any.
fn number(input: &str) -> Option<u64> {
    let digits: String = input.chars().filter(char::is_ascii_digit).collect();
    digits.parse().ok()
}

export!(Plugin);

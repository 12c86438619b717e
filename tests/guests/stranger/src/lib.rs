//! Asks for something that no host of this contract knows.
#![cfg(target_arch = "wasm32")]

wit_bindgen::generate!({ path: ["../../../wit", "wit"], world: "acme:vault/stranger", generate_all });
use exports::taskhost::plugin::handler::{Failure, Guest};

struct Plugin;

impl Guest for Plugin {
    fn describe() -> String {
        r#"{"tasks":[{"name":"stranger"}]}"#.into()
    }
    fn run(_name: String, _input: String) -> Result<String, Failure> {
        Ok(format!("{:?}", acme::vault::secret::reveal()))
    }
}

export!(Plugin);

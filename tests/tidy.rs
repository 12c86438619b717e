//! The house rules that a compiler does not hold: who may import whom, and that every file says what it is for.

use crate::harness::project;
use std::path::{Path, PathBuf};

/// Which rooms a room may import. ARCHITECTURE.md tells why.
const ROOMS: [(&str, &[&str]); 12] = [
    ("model", &[]),
    ("clock", &[]),
    ("store", &["model"]),
    ("executor", &["model", "clock"]),
    ("registry", &["model", "clock", "store", "executor"]),
    ("monitor", &["model", "clock", "store"]),
    ("worker", &["model", "clock", "store", "executor", "monitor"]),
    ("scheduler", &["model", "clock", "store", "registry", "monitor", "worker"]),
    ("api", &["model", "clock", "store", "registry", "monitor", "scheduler"]),
    ("config", &["api", "executor", "monitor", "registry", "store", "worker"]),
    (
        "app",
        &[
            "api",
            "cli",
            "clock",
            "config",
            "executor",
            "model",
            "monitor",
            "registry",
            "scheduler",
            "store",
            "worker",
        ],
    ),
    ("cli", &["app", "config", "api"]),
];

/// Crates that belong to one room.
const KEPT: [(&str, &str); 5] = [
    ("wasmtime", "executor"),
    ("wasmtime_wasi", "executor"),
    ("rusqlite", "store"),
    ("notify", "registry"),
    ("axum", "api"),
];

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let path = entry.expect("an entry").path();
        if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

/// The room that a file belongs to.
fn room(path: &Path) -> String {
    let inside = path.strip_prefix(project().join("host/src")).expect("a host source");
    let first = inside
        .components()
        .next()
        .expect("a name")
        .as_os_str()
        .to_string_lossy()
        .into_owned();
    first.trim_end_matches(".rs").to_owned()
}

/// What follows `crate::` or a crate's name in a line, outside comments.
fn mentions<'a>(text: &'a str, prefix: &str) -> Vec<&'a str> {
    let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    code.flat_map(|line| {
        line.match_indices(prefix)
            .filter(|(at, _)| !line[..*at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':'))
            .map(|(at, _)| {
                line[at + prefix.len()..]
                    .split(|c: char| !c.is_alphanumeric() && c != '_')
                    .next()
                    .unwrap_or_default()
            })
            .collect::<Vec<_>>()
    })
    .collect()
}

#[test]
fn rooms_import_forward_only() {
    for path in sources(&project().join("host/src")) {
        let room = room(&path);
        if ["main", "lib"].contains(&room.as_str()) {
            continue;
        }
        let (_, allowed) = ROOMS
            .iter()
            .find(|(name, _)| *name == room)
            .unwrap_or_else(|| panic!("{room} is no room of the table"));
        let text = std::fs::read_to_string(&path).expect("a source");
        // `use crate::{a, b}` hides its rooms from a search by line.
        let flat = text.replace("crate::{", "crate::");
        assert!(
            flat == text || room == "config" || room == "app",
            "{}: name each room in a line of its own",
            path.display()
        );
        for other in mentions(&text, "crate::").into_iter().filter(|other| !other.is_empty()) {
            assert!(
                other == room || allowed.contains(&other),
                "{}: {room} may not import {other}",
                path.display()
            );
        }
        for (krate, home) in KEPT {
            let used = !mentions(&text, &format!("{krate}::")).is_empty();
            assert!(!used || room == home, "{}: only {home} knows {krate}", path.display());
        }
    }
}

#[test]
fn every_source_opens_with_what_it_is_for() {
    for folder in ["host/src", "business-days", "sdk", "plugins", "tests", "benches"] {
        for path in sources(&project().join(folder)) {
            let text = std::fs::read_to_string(&path).expect("a source");
            let first = text.lines().find(|line| !line.starts_with("#!")).unwrap_or_default();
            assert!(first.starts_with("//!"), "{} opens with {first:?}", path.display());
        }
    }
}

#[test]
fn nothing_names_a_machine_or_hides_unfinished_work() {
    let words = ["/work/", "/root/", "/home/", "todo!", "unimplemented!", "FIXME", "#[ignore"];
    for folder in ["host", "business-days", "sdk", "plugins", "benches"] {
        for path in sources(&project().join(folder)) {
            let text = std::fs::read_to_string(&path).expect("a source");
            for word in words {
                assert!(!text.contains(word), "{} has {word}", path.display());
            }
        }
    }
}

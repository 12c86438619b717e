//! `taskhost dev`: every plugin crate under the plugin directories is built by plain cargo, and again when its source changes.
//!
//! What is built is put beside its crate as `<name>.wasm`, by a rename, as any other drop: the registry does the rest.

use crate::registry::snapshot::Snapshot;
use anyhow::{Context, bail};
use serde_json::Value;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

const TARGET: &str = "wasm32-wasip2";
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Builds all plugin crates. One that fails is told and does not keep the others from being built.
pub(super) fn build_all(dirs: &[PathBuf]) -> anyhow::Result<()> {
    let crates = crates(dirs);
    if crates.is_empty() {
        eprintln!("no plugin crates under {}: put one there, with a Cargo.toml", shown(dirs));
        return Ok(());
    }
    add_target()?;
    for folder in &crates {
        build_and_tell(folder);
    }
    Ok(())
}

/// Builds a crate again whenever its source changes, until the process ends.
pub(super) fn build_on_change(dirs: Vec<PathBuf>) -> anyhow::Result<()> {
    let look = move || {
        let mut seen: Vec<(PathBuf, Option<SystemTime>)> = stamps(&dirs);
        loop {
            std::thread::sleep(LOOK_EVERY);
            let now = stamps(&dirs);
            for (folder, _) in now.iter().filter(|stamp| !seen.contains(stamp)) {
                build_and_tell(folder);
            }
            seen = now;
        }
    };
    std::thread::Builder::new()
        .name("plugin-builder".into())
        .spawn(look)
        .context("the builder's thread cannot start")?;
    Ok(())
}

/// What a person can do next.
pub(super) fn what_to_try(snapshot: &Snapshot, address: SocketAddr, data: &Path) -> String {
    let mut text = format!("\n  data      {}\n", data.display());
    for plugin in snapshot.plugins.values() {
        let told = plugin.error.clone().unwrap_or_else(|| plugin.tasks.join(", "));
        text.push_str(&format!(
            "  plugin    {} {}: {told}\n",
            plugin.name,
            plugin.version.as_deref().unwrap_or("")
        ));
    }
    text.push_str("\nTry, in another terminal:\n\n");
    let url = if address.port() == 8080 {
        String::new()
    } else {
        format!(" --url http://{address}")
    };
    for (task, sample) in [
        ("backtest", "samples/backtest-sp500.json"),
        ("settlement", "samples/settlement.json"),
    ] {
        if snapshot.handlers.contains_key(task) && Path::new(sample).exists() {
            text.push_str(&format!(
                "  target/release/taskhost submit {task} --payload @{sample} --wait{url}\n"
            ));
        }
    }
    text.push_str(&format!("  target/release/taskhost task list{url}\n"));
    text.push_str(&format!("  curl -s http://{address}/api/v1/scheduler/registry/tasks\n"));
    text
}

fn shown(dirs: &[PathBuf]) -> String {
    dirs.iter().map(|dir| dir.display().to_string()).collect::<Vec<_>>().join(", ")
}

/// Folders with a `Cargo.toml` right under a plugin directory.
fn crates(dirs: &[PathBuf]) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = dirs
        .iter()
        .filter_map(|dir| std::fs::read_dir(dir).ok())
        .flat_map(|entries| entries.filter_map(Result::ok).map(|entry| entry.path()))
        .filter(|path| path.join("Cargo.toml").is_file())
        .collect();
    found.sort();
    found
}

/// When each crate's source was last touched.
fn stamps(dirs: &[PathBuf]) -> Vec<(PathBuf, Option<SystemTime>)> {
    crates(dirs)
        .into_iter()
        .map(|folder| {
            let newest = newest(&folder);
            (folder, newest)
        })
        .collect()
}

fn newest(folder: &Path) -> Option<SystemTime> {
    let entries = std::fs::read_dir(folder).ok()?.filter_map(Result::ok);
    entries
        .filter_map(|entry| {
            let name = entry.file_name();
            let kind = entry.file_type().ok()?;
            match kind.is_dir() {
                true if name == "target" || name.to_string_lossy().starts_with('.') => None,
                true => newest(&entry.path()),
                false => entry.metadata().ok()?.modified().ok(),
            }
        })
        .max()
}

fn cargo() -> OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// A toolchain that was installed before a project named its target does not have it yet.
fn add_target() -> anyhow::Result<()> {
    let libdir = Command::new("rustc")
        .args(["--print", "target-libdir", "--target", TARGET])
        .stderr(Stdio::null())
        .output();
    if libdir.is_ok_and(|output| Path::new(String::from_utf8_lossy(&output.stdout).trim()).is_dir()) {
        return Ok(());
    }
    eprintln!("adding the target {TARGET}");
    let added = Command::new("rustup").args(["target", "add", TARGET]).status();
    if !added.is_ok_and(|status| status.success()) {
        bail!("plugins are built for {TARGET}, which this toolchain lacks; install it with `rustup target add {TARGET}`");
    }
    Ok(())
}

fn build_and_tell(folder: &Path) {
    match build(folder) {
        Ok(component) => eprintln!("built {}", component.display()),
        Err(error) => eprintln!("{} was not built: {error:#}", folder.display()),
    }
}

/// Builds one crate and puts its component beside it. Returns where.
fn build(folder: &Path) -> anyhow::Result<PathBuf> {
    eprintln!("building {}", folder.display());
    let output = Command::new(cargo())
        .args([
            "build",
            "--release",
            "--target",
            TARGET,
            "--message-format=json-render-diagnostics",
            "--manifest-path",
        ])
        .arg(folder.join("Cargo.toml"))
        .stderr(Stdio::inherit())
        .output()
        .context("cargo cannot be run; install Rust from https://rustup.rs")?;
    if !output.status.success() {
        bail!("cargo build failed; see above");
    }
    let component =
        component(&output.stdout, folder).context("the crate makes no component; give it crate-type = [\"cdylib\", \"rlib\"]")?;
    let name = component.file_name().context("a component has a name")?.to_owned();
    let beside = folder.parent().unwrap_or(Path::new("."));
    let place = beside.join(&name);
    let bytes = std::fs::read(&component).with_context(|| format!("{} cannot be read", component.display()))?;
    if std::fs::read(&place).is_ok_and(|there| there == bytes) {
        return Ok(place);
    }
    // A name that the registry does not look at, so that it never sees half a file.
    let mut hidden = OsString::from(".");
    hidden.push(&name);
    hidden.push(".new");
    let new = beside.join(hidden);
    std::fs::write(&new, bytes)
        .and_then(|()| std::fs::rename(&new, &place))
        .with_context(|| format!("{} cannot be written", place.display()))?;
    Ok(place)
}

/// The `.wasm` that cargo says it made of this crate.
fn component(messages: &[u8], folder: &Path) -> Option<PathBuf> {
    let manifest = folder.join("Cargo.toml").canonicalize().ok()?;
    let ours = |message: &Value| {
        let path = message["manifest_path"]
            .as_str()
            .map(PathBuf::from)
            .and_then(|path| path.canonicalize().ok());
        message["reason"] == "compiler-artifact" && path.as_deref() == Some(manifest.as_path())
    };
    let messages = String::from_utf8_lossy(messages);
    let messages = messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(ours);
    let files: Vec<PathBuf> = messages
        .flat_map(|message| message["filenames"].as_array().cloned().unwrap_or_default())
        .filter_map(|file| file.as_str().map(PathBuf::from))
        .collect();
    files
        .into_iter()
        .find(|file| file.extension().is_some_and(|extension| extension == "wasm"))
}

//! The components that the tests run, built once by plain cargo.

use super::project;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

/// Builds all guests and plugins; returns the folder that they are in.
fn built() -> &'static PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        add_target();
        let target = project().join("target/guests");
        let status = Command::new(env!("CARGO"))
            .args([
                "build",
                "--release",
                "--target",
                "wasm32-wasip2",
                "--locked",
                "--quiet",
                "--target-dir",
            ])
            .arg(&target)
            .args([
                "-p",
                "probe",
                "-p",
                "frozen",
                "-p",
                "stranger",
                "-p",
                "backtest",
                "-p",
                "settlement",
                "-p",
                "strategy_deploy",
            ])
            .current_dir(project())
            .status()
            .expect("cargo");
        assert!(status.success(), "the guests do not build");
        target.join("wasm32-wasip2/release")
    })
}

/// A toolchain that was installed before this project named its target does not have it yet.
fn add_target() {
    let rustc = Command::new("rustc")
        .args(["--print", "target-libdir", "--target", "wasm32-wasip2"])
        .current_dir(project())
        .output();
    let there = rustc.is_ok_and(|output| PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()).is_dir());
    if !there {
        let added = Command::new("rustup")
            .args(["target", "add", "wasm32-wasip2"])
            .current_dir(project())
            .status();
        assert!(
            added.is_ok_and(|status| status.success()),
            "install the target: rustup target add wasm32-wasip2"
        );
    }
}

/// A component by its crate's name.
pub(crate) fn component(name: &str) -> Vec<u8> {
    let path = built().join(format!("{name}.wasm"));
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Where a component is.
pub(crate) fn path(name: &str) -> PathBuf {
    built().join(format!("{name}.wasm"))
}

/// Handlers that do every good and bad thing.
pub(crate) fn probe() -> Vec<u8> {
    component("probe")
}

/// The probe as another version: `n` is what its task `version` answers last.
pub(crate) fn probe_version(n: u8) -> Vec<u8> {
    patched(probe(), b"probe-version-0000000001", format!("probe-version-{n:010}").as_bytes())
}

/// The component on the frozen contract, which describes itself as `mode` says.
pub(crate) fn frozen(mode: &str) -> Vec<u8> {
    let text = format!("{:-<32}", format!("frozen-mode:{mode}"));
    patched(component("frozen"), b"frozen-mode:normal--------------", text.as_bytes())
}

fn patched(mut bytes: Vec<u8>, from: &[u8], to: &[u8]) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let at = bytes
        .windows(from.len())
        .position(|window| window == from)
        .expect("the text to patch");
    bytes[at..at + to.len()].copy_from_slice(to);
    bytes
}

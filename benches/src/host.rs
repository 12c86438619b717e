//! The real release binary on a fresh directory.

use crate::load::{self, Load};
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const BASE: &str = "/api/v1/scheduler";

/// What is measured.
pub(crate) struct Built {
    pub(crate) host: PathBuf,
    pub(crate) guest: PathBuf,
}

impl Built {
    /// Builds both in release.
    pub(crate) fn new() -> Result<Self> {
        let project = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the project")?;
        let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| project.join("target"), PathBuf::from);
        for arguments in [
            &["build", "--release", "--locked", "-p", "taskhost"][..],
            &["build", "--release", "--locked", "-p", "noop", "--target", "wasm32-wasip2"][..],
        ] {
            let status = Command::new(env!("CARGO"))
                .args(arguments)
                .current_dir(project)
                .status()
                .context("cargo")?;
            if !status.success() {
                bail!("cargo {} failed", arguments.join(" "));
            }
        }
        Ok(Self {
            host: target.join("release/taskhost"),
            guest: target.join("wasm32-wasip2/release/noop.wasm"),
        })
    }
}

/// A host that runs until this is dropped.
pub(crate) struct Host {
    process: Child,
    pub(crate) address: String,
    /// From the start of the process to ready.
    pub(crate) ready_after: Duration,
    folder: tempfile::TempDir,
}

impl Host {
    /// On a fresh directory with the no-op plugin.
    pub(crate) fn start(built: &Built, flags: &[&str]) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        std::fs::create_dir(folder.path().join("plugins"))?;
        std::fs::copy(&built.guest, folder.path().join("plugins/noop.wasm"))?;
        Self::start_in(built, folder, flags)
    }

    fn start_in(built: &Built, folder: tempfile::TempDir, flags: &[&str]) -> Result<Self> {
        let begun = Instant::now();
        let mut process = Command::new(&built.host)
            .args(["serve", "--listen", "127.0.0.1:0"])
            .args(flags)
            .current_dir(folder.path())
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(folder.path().join("stderr.log"))?)
            .spawn()
            .context("the host")?;
        let mut lines = BufReader::new(process.stdout.take().context("stdout")?)
            .lines()
            .map_while(Result::ok);
        let line = lines.find(|line| line.contains("http://"));
        let Some(line) = line else {
            bail!(
                "the host did not start: {}",
                std::fs::read_to_string(folder.path().join("stderr.log"))?
            );
        };
        let at = line.find("http://").context("an address")?;
        let address = line[at + 7..].split_whitespace().next().unwrap_or_default().to_owned();
        std::thread::spawn(move || lines.for_each(drop));
        while load::get(&address, "/readyz").is_err() {
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(Self {
            process,
            address,
            ready_after: begun.elapsed(),
            folder,
        })
    }

    /// Submissions of no-ops with these further members.
    pub(crate) fn load(&self, members: &str, connections: usize, seconds: f64) -> Load {
        Load {
            address: self.address.clone(),
            path: format!("{BASE}/task/submit"),
            content_type: "application/json".to_owned(),
            body: crate::submission(members),
            connections,
            seconds,
            rate: None,
        }
    }

    /// What a path of the scheduler's answers.
    pub(crate) fn get(&self, path: &str) -> Result<Value> {
        Ok(serde_json::from_slice(&load::get(&self.address, &format!("{BASE}{path}"))?)?)
    }

    /// Waits until so many no-ops have been settled.
    pub(crate) fn settled(&self, count: u64) -> Result<()> {
        let begun = Instant::now();
        loop {
            let metrics = self.get("/metrics/performance?task_name=noop")?;
            if metrics["count"].as_u64().unwrap_or(0) >= count {
                return Ok(());
            }
            if begun.elapsed() > Duration::from_secs(120) {
                bail!("{metrics} after two minutes, and not {count}");
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Resident memory in MiB.
    pub(crate) fn rss(&self) -> Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id()))?;
        let kib = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.trim().parse::<f64>().ok());
        Ok(kib.context("VmRSS")? / 1_024.0)
    }

    /// Kills it and starts it again on what it left.
    pub(crate) fn restart(mut self, built: &Built) -> Result<Self> {
        self.process.kill()?;
        self.process.wait()?;
        let folder = std::mem::replace(&mut self.folder, tempfile::tempdir()?);
        Self::start_in(built, folder, &[])
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

//! The real release binary on a fresh directory.

use crate::client::{Answer, Client};
use crate::load::{Load, Sample};
use crate::table::Runs;
use anyhow::{Context, Result, bail};
use chrono::{DateTime, Utc};
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Where the scheduler's routes begin.
pub(crate) const BASE: &str = "/api/v1/scheduler";

/// What is measured.
pub(crate) struct Built {
    pub(crate) host: PathBuf,
    pub(crate) guest: PathBuf,
}

impl Built {
    /// Builds both in release.
    pub(crate) fn new() -> Result<Self> {
        let target = cargo_build(&["-p", "taskhost"])?;
        Ok(Self {
            host: target.join("release/taskhost"),
            guest: build_guest("noop")?,
        })
    }
}

/// Builds a plugin in release; returns its file.
pub(crate) fn build_guest(package: &str) -> Result<PathBuf> {
    let target = cargo_build(&["-p", package, "--target", "wasm32-wasip2"])?;
    Ok(target.join(format!("wasm32-wasip2/release/{package}.wasm")))
}

/// Builds in release; returns the target directory.
fn cargo_build(what: &[&str]) -> Result<PathBuf> {
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the project")?;
    let mut cargo = Command::new(env!("CARGO"));
    // What the cargo that runs this says of this package: build scripts that look at it would run again each time.
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")) {
        cargo.env_remove(name);
    }
    let status = cargo
        .args(["build", "--release", "--locked"])
        .args(what)
        .current_dir(project)
        .status()
        .context("cargo")?;
    if !status.success() {
        bail!("cargo build {} failed", what.join(" "));
    }
    Ok(std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| project.join("target"), PathBuf::from))
}

/// Variables of the environment that configure a host.
pub(crate) type Variables<'a> = &'a [(&'a str, &'a str)];

/// A host that runs until this is dropped.
pub(crate) struct Host {
    process: Child,
    pub(crate) address: String,
    /// When the process was started.
    pub(crate) begun: Instant,
    /// From then to ready.
    pub(crate) ready_after: Duration,
    folder: tempfile::TempDir,
}

impl Host {
    /// On a fresh directory with the plugin to measure with.
    pub(crate) fn start(built: &Built, variables: Variables<'_>) -> Result<Self> {
        Self::start_in(built, fresh(built)?, variables)
    }

    /// On what another has left.
    pub(crate) fn start_in(built: &Built, folder: tempfile::TempDir, variables: Variables<'_>) -> Result<Self> {
        let begun = Instant::now();
        let mut process = Command::new(&built.host)
            .args(["serve", "--listen", "127.0.0.1:0"])
            .envs(variables.iter().copied())
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
        let mut client = Client::connect(&address)?;
        while client.get("/readyz").is_err() {
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(Self {
            process,
            address,
            begun,
            ready_after: begun.elapsed(),
            folder,
        })
    }

    pub(crate) fn plugins(&self) -> PathBuf {
        self.folder.path().join("plugins")
    }

    /// The file in which the store is.
    pub(crate) fn database(&self) -> PathBuf {
        database(self.folder.path())
    }

    /// Submissions of no-ops with these further members.
    pub(crate) fn load(&self, members: &str, connections: usize, seconds: f64) -> Load {
        Load {
            address: self.address.clone(),
            path: format!("{BASE}/task/submit"),
            content_type: "application/json".to_owned(),
            headers: String::new(),
            body: crate::submission(members),
            connections,
            seconds,
            rate: None,
            ids: None,
        }
    }

    /// Tasks a second, from the first submission of a closed loop to the last durable settlement.
    pub(crate) fn live(&self, connections: usize, seconds: f64) -> Result<Sample> {
        let before = self.metrics("noop")?.0;
        let begun = Instant::now();
        let sample = self.load("", connections, seconds).run()?;
        self.settled("noop", before + sample.answers)?;
        let per_second = sample.answers as f64 / begun.elapsed().as_secs_f64();
        Ok(Sample { per_second, ..sample })
    }

    /// A connection of one's own.
    pub(crate) fn client(&self) -> Result<Client> {
        Client::connect(&self.address)
    }

    /// What a path of the scheduler's answers.
    pub(crate) fn get(&self, path: &str) -> Result<Value> {
        Ok(serde_json::from_slice(&self.client()?.get(&format!("{BASE}{path}"))?.body)?)
    }

    /// All pages of a list, up to so many items at least.
    pub(crate) fn pages(&self, path: &str, up_to: usize) -> Result<Vec<Value>> {
        let mut client = self.client()?;
        let mut items = Vec::new();
        let mut next = Some(format!("{BASE}{path}"));
        while let Some(path) = next.filter(|_| items.len() < up_to) {
            let answer: Answer = client.get(&path)?;
            match serde_json::from_slice(&answer.body)? {
                Value::Array(page) => items.extend(page),
                Value::Object(page) => items.extend(page.into_iter().map(|(_, item)| item)),
                other => bail!("{path} is no list but {other}"),
            }
            next = answer.next_page();
        }
        Ok(items)
    }

    /// How long the newest of the no-ops waited, in milliseconds from submission: for the guest's start, and for the settlement.
    pub(crate) fn waits(&self, tasks: usize) -> Result<[Runs; 2]> {
        let mut waits = [Vec::new(), Vec::new()];
        let limit = tasks.min(1_000);
        for task in self.pages(&format!("/tasks/history?task_name=noop&limit={limit}"), tasks)? {
            let time = |member: &str| -> Result<f64> {
                let time: DateTime<Utc> = task[member].as_str().context("a time")?.parse()?;
                Ok(time.timestamp_micros() as f64 / 1e3)
            };
            waits[0].push(time("started_at")? - time("submitted_at")?);
            waits[1].push(time("completed_at")? - time("submitted_at")?);
        }
        Ok(waits.map(Runs::sorted))
    }

    /// Attempts of a name that ended, and the share of them that failed.
    pub(crate) fn metrics(&self, name: &str) -> Result<(u64, f64)> {
        let metrics = self.get(&format!("/metrics/performance?task_name={name}"))?;
        let count = metrics["count"].as_u64().unwrap_or(0);
        Ok((count, metrics["failure_rate"].as_f64().unwrap_or(0.0)))
    }

    /// Waits until so many attempts of a name have been settled.
    pub(crate) fn settled(&self, name: &str, count: u64) -> Result<()> {
        let path = format!("GET {BASE}/metrics/performance?task_name={name}");
        let begun = Instant::now();
        let mut client = self.client()?;
        loop {
            let metrics: Value = serde_json::from_slice(&client.ask(&path, "", "")?.body)?;
            if metrics["count"].as_u64().unwrap_or(0) >= count {
                return Ok(());
            }
            if begun.elapsed() > Duration::from_secs(300) {
                bail!("{metrics} after five minutes, and not {count}");
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Resident memory in MiB.
    pub(crate) fn rss(&self) -> Result<f64> {
        self.status("VmRSS:")
    }

    /// Page tables in MiB, which resident memory does not count.
    pub(crate) fn page_tables(&self) -> Result<f64> {
        self.status("VmPTE:")
    }

    fn status(&self, name: &str) -> Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id()))?;
        let kib = status
            .lines()
            .find_map(|line| line.strip_prefix(name)?.trim().strip_suffix(" kB")?.trim().parse::<f64>().ok());
        Ok(kib.context("a line of /proc/…/status")? / 1_024.0)
    }

    /// Time that the processors have given it.
    pub(crate) fn processor_time(&self) -> Result<Duration> {
        processor_time(&self.process.id().to_string())
    }

    /// Ranges of memory that the kernel keeps a record of each for.
    pub(crate) fn mappings(&self) -> Result<usize> {
        let maps = std::fs::read_to_string(format!("/proc/{}/maps", self.process.id()))?;
        Ok(maps.lines().count())
    }

    /// What it said on stderr.
    pub(crate) fn log(&self) -> Result<String> {
        Ok(std::fs::read_to_string(self.folder.path().join("stderr.log"))?)
    }

    /// Kills it, and returns what it left.
    pub(crate) fn kill(mut self) -> Result<tempfile::TempDir> {
        self.process.kill()?;
        self.process.wait()?;
        Ok(std::mem::replace(&mut self.folder, tempfile::tempdir()?))
    }
}

/// Time that the processors have given a process, `self` or a number.
pub(crate) fn processor_time(process: &str) -> Result<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    // After the name, which may hold anything but ends in the last bracket: user and system time are the 12th and 13th.
    let (_, rest) = stat.rsplit_once(") ").context("/proc/…/stat")?;
    let ticks: u64 = rest.split(' ').skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
    Ok(Duration::from_secs_f64(
        ticks as f64 / rustix::param::clock_ticks_per_second() as f64,
    ))
}

/// A fresh directory with the plugin to measure with.
pub(crate) fn fresh(built: &Built) -> Result<tempfile::TempDir> {
    let folder = tempfile::tempdir()?;
    std::fs::create_dir(folder.path().join("plugins"))?;
    std::fs::copy(&built.guest, folder.path().join("plugins/noop.wasm"))?;
    Ok(folder)
}

/// Submits a task and returns its id.
pub(crate) fn submit(client: &mut Client, name: &str, payload: &str) -> Result<String> {
    let body = format!(r#"{{"task_name":"{name}","payload":{payload}}}"#);
    let answer = client.ask(&format!("POST {BASE}/task/submit"), "", &body)?;
    let accepted: Value = serde_json::from_slice(&answer.body)?;
    Ok(accepted["task_id"].as_str().context("a task_id")?.to_owned())
}

/// The file in which the store of a host is that ran in `folder`.
pub(crate) fn database(folder: &Path) -> PathBuf {
    folder.join("data/taskhost.sqlite")
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

//! From HTTP submit to durable done, on the real binary: medians and ranges of three runs.

mod load;

use anyhow::{Context, Result, bail};
use load::{Load, Sample};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const RUNS: usize = 3;
const CONNECTIONS: [usize; 3] = [1, 32, 128];

fn main() -> Result<()> {
    let seconds: f64 = std::env::args()
        .nth(1)
        .map_or(Ok(3.0), |text| text.parse())
        .context("the argument is the seconds a run takes")?;
    let span = Duration::from_secs_f64(seconds);
    let built = build()?;
    println!("| case | connections | per second, median (range) | p50 ms | p99 ms |\n|---|---|---|---|---|");
    for connections in CONNECTIONS {
        report("submit, dated ahead", connections, || submit(&built, connections, span))?;
    }
    for connections in CONNECTIONS {
        report("submit to done, tasks", connections, || done(&built, connections, span))?;
    }
    for connections in CONNECTIONS {
        report("submit to done, waiting for each", connections, || {
            waited(&built, connections, span)
        })?;
    }
    Ok(())
}

fn report(case: &str, connections: usize, mut run: impl FnMut() -> Result<Sample>) -> Result<()> {
    let samples = (0..RUNS).map(|_| run()).collect::<Result<Vec<_>>>()?;
    let middle = |value: fn(&Sample) -> f64| {
        let mut values: Vec<f64> = samples.iter().map(value).collect();
        values.sort_by(f64::total_cmp);
        (values[RUNS / 2], values[0], values[RUNS - 1])
    };
    let (rate, low, high) = middle(|sample| sample.per_second);
    let (p50, _, _) = middle(|sample| sample.p50_ms);
    let (p99, _, _) = middle(|sample| sample.p99_ms);
    println!("| {case} | {connections} | {rate:.0} ({low:.0} to {high:.0}) | {p50:.2} | {p99:.2} |");
    Ok(())
}

fn submit(built: &Built, connections: usize, span: Duration) -> Result<Sample> {
    let host = Host::start(built)?;
    host.load(connections, span, r#","trigger_time":"2034-01-01T00:00:00Z""#, "").run()
}

/// Counts tasks, not answers: the clock stops when the last one is settled.
fn done(built: &Built, connections: usize, span: Duration) -> Result<Sample> {
    let host = Host::start(built)?;
    let begun = Instant::now();
    let sample = host.load(connections, span, "", "").run()?;
    while host.settled()? < sample.answers {
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(Sample {
        per_second: sample.answers as f64 / begun.elapsed().as_secs_f64(),
        ..sample
    })
}

fn waited(built: &Built, connections: usize, span: Duration) -> Result<Sample> {
    let host = Host::start(built)?;
    host.load(connections, span, "", "prefer: wait=30\r\n").run()
}

struct Built {
    host: PathBuf,
    guest: PathBuf,
}

/// Builds what is measured, in release.
fn build() -> Result<Built> {
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the project")?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| project.join("target"), PathBuf::from);
    for arguments in [
        &["build", "--release", "-p", "taskhost"][..],
        &["build", "--release", "-p", "probe", "--target", "wasm32-wasip2"][..],
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
    Ok(Built {
        host: target.join("release/taskhost"),
        guest: target.join("wasm32-wasip2/release/probe.wasm"),
    })
}

struct Host {
    process: Child,
    address: String,
    _folder: tempfile::TempDir,
}

impl Host {
    fn start(built: &Built) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        std::fs::create_dir(folder.path().join("plugins"))?;
        std::fs::copy(&built.guest, folder.path().join("plugins/probe.wasm"))?;
        let mut process = Command::new(&built.host)
            .args(["serve", "--listen", "127.0.0.1:0"])
            .current_dir(folder.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("the host")?;
        let stdout = BufReader::new(process.stdout.take().context("stdout")?);
        let line = stdout
            .lines()
            .map_while(Result::ok)
            .find(|line| line.contains("http://"))
            .context("the host said no address")?;
        let at = line.find("http://").context("an address")?;
        let address = line[at + 7..].split_whitespace().next().unwrap_or_default().to_owned();
        let host = Self {
            process,
            address,
            _folder: folder,
        };
        while !load::get(&host.address, "/readyz")?.starts_with("HTTP/1.1 200") {
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(host)
    }

    fn load(&self, connections: usize, span: Duration, members: &str, headers: &str) -> Load {
        let body = format!(r#"{{"task_name":"noop","payload":{{"x":"{}"}}{members}}}"#, "a".repeat(190));
        let request = format!(
            "POST /api/v1/scheduler/task/submit HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n{headers}content-length: {}\r\n\r\n{body}",
            body.len()
        );
        Load {
            address: self.address.clone(),
            connections,
            span,
            request,
        }
    }

    fn settled(&self) -> Result<usize> {
        let answer = load::get(&self.address, "/api/v1/scheduler/metrics/performance?task_name=noop")?;
        let body = answer.split("\r\n\r\n").nth(1).unwrap_or("{}");
        let metrics: serde_json::Value = serde_json::from_str(body)?;
        Ok(usize::try_from(metrics["count"].as_u64().unwrap_or(0))?)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

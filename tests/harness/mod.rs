//! A real host on a fresh directory: started, asked over HTTP, killed.

pub(crate) mod guests;
pub(crate) mod tools;

use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};
use ureq::http::Response;

/// Nothing here takes longer, even on a busy machine; what does is stuck.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The binary under test.
pub(crate) fn taskhost() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_taskhost"));
    command.env_remove("TASKHOST_URL").env_remove("TASKHOST_TOKEN");
    command
}

/// The folder that the project lies in.
pub(crate) fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the project").to_owned()
}

/// A fresh directory with `plugins/`, `data/` and, while one runs, a host.
pub(crate) struct Host {
    folder: tempfile::TempDir,
    process: Option<Child>,
    url: String,
}

/// An answer: its status, its headers and its body as JSON, or as a string where it is none.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: ureq::http::HeaderMap,
    pub(crate) body: Value,
}

impl Answer {
    /// The body of an answer that has to be a success.
    #[track_caller]
    pub(crate) fn ok(self) -> Value {
        assert!((200..300).contains(&self.status), "{} {}", self.status, self.body);
        self.body
    }

    /// The body of a problem that has to have this status.
    #[track_caller]
    pub(crate) fn problem(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.body);
        let content_type = self.headers.get("content-type").and_then(|v| v.to_str().ok()).unwrap_or_default();
        assert_eq!(content_type, "application/problem+json", "{}", self.body);
        for member in ["type", "title", "status", "detail", "code"] {
            assert!(!self.body[member].is_null(), "no {member}: {}", self.body);
        }
        assert_eq!(self.body["status"], status);
        self.body
    }
}

impl Host {
    /// A fresh directory, with nothing in it yet.
    pub(crate) fn prepare() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::create_dir(folder.path().join("plugins")).expect("plugins/");
        Self {
            folder,
            process: None,
            url: String::new(),
        }
    }

    /// A host that runs the probe.
    pub(crate) fn with_probe() -> Self {
        let mut host = Self::prepare();
        host.drop_plugin("probe", &guests::probe());
        host.start(&[]);
        host
    }

    /// Starts the host and waits until it is ready.
    pub(crate) fn start(&mut self, flags: &[&str]) {
        self.start_by(taskhost(), flags);
    }

    /// The same by a command that becomes the host.
    pub(crate) fn start_by(&mut self, mut command: Command, flags: &[&str]) {
        let mut process = command
            .args(["serve", "--listen", "127.0.0.1:0"])
            .args(flags)
            .current_dir(self.folder.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::from(self.log_file()))
            .spawn()
            .expect("the host starts");
        let lines = BufReader::new(process.stdout.take().expect("stdout")).lines();
        let (tell, told) = mpsc::channel();
        // Reads on to the end, so that the host never waits for a full pipe.
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if let Some(at) = line.find("http://127.0.0.1:") {
                    let _ = tell.send(line[at..].split_whitespace().next().unwrap_or_default().to_owned());
                }
            }
        });
        self.process = Some(process);
        self.url = told
            .recv_timeout(PATIENCE)
            .unwrap_or_else(|_| panic!("the host said no address: {}", self.stderr()));
        eventually("the host is ready", || self.request("GET", "/readyz", None, &[]).status == 200);
    }

    fn log_file(&self) -> std::fs::File {
        std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.path("stderr.log"))
            .expect("stderr.log")
    }

    /// What the host wrote on stderr.
    pub(crate) fn stderr(&self) -> String {
        std::fs::read_to_string(self.path("stderr.log")).unwrap_or_default()
    }

    /// A path in the host's directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Copies a component into `plugins/`, as a user does.
    pub(crate) fn drop_plugin(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.path(&format!("plugins/{name}.wasm")), bytes).expect("plugins/ is writable");
    }

    /// Writes a plugin's manifest.
    pub(crate) fn manifest(&self, name: &str, toml: &str) {
        std::fs::write(self.path(&format!("plugins/{name}.toml")), toml).expect("plugins/ is writable");
    }

    /// Where the host listens.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// The host's process id.
    pub(crate) fn pid(&self) -> u32 {
        self.process.as_ref().expect("a running host").id()
    }

    /// Kills the host as a power cut would, as far as a process can feel one.
    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().expect("SIGKILL");
            process.wait().expect("the host's end");
        }
    }

    /// Asks the host to stop, waits until it did and returns its exit code.
    pub(crate) fn stop(&mut self) -> Option<i32> {
        let mut process = self.process.take().expect("a running host");
        let pid = process.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().expect("kill").success());
        process.wait().expect("the host's end").code()
    }

    /// Any request.
    pub(crate) fn request(&self, method: &str, path: &str, body: Option<&[u8]>, headers: &[(&str, &str)]) -> Answer {
        let path = if path.starts_with("/api") || ["/", "/healthz", "/readyz"].contains(&path) {
            path.to_owned()
        } else {
            format!("/api/v1/scheduler{path}")
        };
        let mut request = ureq::http::Request::builder().method(method).uri(format!("{}{path}", self.url));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .allow_non_standard_methods(true)
            .timeout_global(Some(PATIENCE * 2))
            .build()
            .into();
        let answer = match body {
            Some(body) => agent.run(request.body(body).expect("a request")),
            None => agent.run(request.body(()).expect("a request")),
        };
        read(answer.unwrap_or_else(|error| panic!("{method} {path}: {error}; {}", self.stderr())))
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.request("GET", path, None, &[])
    }

    pub(crate) fn delete(&self, path: &str) -> Answer {
        self.request("DELETE", path, None, &[])
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Answer {
        self.request(
            "POST",
            path,
            Some(body.to_string().as_bytes()),
            &[("content-type", "application/json")],
        )
    }

    /// Submits and returns the task's id.
    #[track_caller]
    pub(crate) fn submit(&self, body: &Value) -> String {
        let answer = self.post("/task/submit", body).ok();
        assert_eq!(answer["status"], "scheduled");
        answer["task_id"].as_str().expect("a task_id").to_owned()
    }

    /// Submits a task and returns its record once it has ended.
    #[track_caller]
    pub(crate) fn run(&self, task_name: &str, payload: &Value) -> Value {
        self.run_with(&serde_json::json!({ "task_name": task_name, "payload": payload }))
    }

    /// As [`Host::run`], with all members of the submission.
    #[track_caller]
    pub(crate) fn run_with(&self, body: &Value) -> Value {
        let headers = [("content-type", "application/json"), ("prefer", "wait=60")];
        let task = self
            .request("POST", "/task/submit", Some(body.to_string().as_bytes()), &headers)
            .ok();
        assert!(is_final(&task), "{task}");
        task
    }

    /// A task's record.
    #[track_caller]
    pub(crate) fn task(&self, id: &str) -> Value {
        self.get(&format!("/task/status/{id}")).ok()
    }

    /// A task's record once it has ended.
    #[track_caller]
    pub(crate) fn end_of(&self, id: &str) -> Value {
        eventually(&format!("task {id} ends"), || is_final(&self.task(id)));
        self.task(id)
    }

    /// A task's record once it has this status.
    #[track_caller]
    pub(crate) fn wait_for(&self, id: &str, status: &str) -> Value {
        eventually(&format!("task {id} is {status}"), || self.task(id)["status"] == status);
        self.task(id)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("--- the host's stderr ---\n{}", self.stderr());
        }
    }
}

fn is_final(task: &Value) -> bool {
    ["success", "failed", "cancelled"].iter().any(|status| task["status"] == *status)
}

fn read(mut answer: Response<ureq::Body>) -> Answer {
    let text = answer.body_mut().with_config().limit(256 << 20).read_to_string().expect("a body");
    Answer {
        status: answer.status().as_u16(),
        headers: answer.headers().clone(),
        body: serde_json::from_str(&text).unwrap_or(Value::String(text)),
    }
}

/// Waits for what has to become true.
#[track_caller]
pub(crate) fn eventually(what: &str, mut is_true: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_true() {
        assert!(start.elapsed() < PATIENCE, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A time that is so far ahead, as users write it.
pub(crate) fn in_ms(millis: i64) -> String {
    (taskhost::clock::Clock::System.now() + chrono::TimeDelta::milliseconds(millis)).to_rfc3339()
}

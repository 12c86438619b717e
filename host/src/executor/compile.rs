//! From a component to machine code, in a child process: a hostile file can make a compiler eat hours and gigabytes, and must harm
//! nobody when it does.
//!
//! The child is this very binary, started with [`COMMAND`], with an empty environment, the component on its stdin and limits on its
//! time and memory. What it made is kept: see `cache`.

use super::cache::Cache;
use super::engine::{LoadError, be_nice, code_settings};
use super::{Options, answer};
use anyhow::{Context, bail};
use rustix::process::{Resource, Rlimit, setrlimit};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;
use tokio::sync::Semaphore;
use wasmtime::Engine;
use wasmtime::component::Component;

/// The hidden first argument that makes this binary a compiler: see [`run_child`].
pub const COMMAND: &str = "compile-component";
/// Threads of one compilation.
const THREADS: usize = 4;
/// Compilations at once: two, so that one hostile file delays nobody else's.
const AT_ONCE: usize = 2;
/// Bytes of the child's stderr that are read.
const MAX_STDERR: u64 = 8 << 10;
/// Bytes of compiled code that one component may come to.
const MAX_CODE: u64 = 512 << 20;
/// The child's exit code where it could not do its work, whatever the component.
const BROKEN: u8 = 2;
/// How nice the child is while somebody may wait for a plugin to be live, and what it is once it has taken too long for that: behind the
/// API, but before guests that burn, which are at 10.
const NICE: (i32, i32) = (3, 6);
/// When that is.
const LONG: Duration = Duration::from_secs(2);

/// Where components are compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompileIn {
    /// In a child process of this binary, whose `main` hands [`COMMAND`] to [`run_child`].
    Child,
    /// In this process and without limits: for tests, whose binary has another `main`.
    Here,
}

/// Compiled code, and where it came from.
pub(super) struct Compiled {
    pub component: Component,
    /// `None` where compiled code was at hand.
    pub compile_time: Option<Duration>,
}

/// Compiles a few components at a time and keeps what was made.
pub(super) struct Compiler {
    cache: Cache,
    place: CompileIn,
    timeout: Duration,
    memory: u64,
    turn: Semaphore,
}

impl Compiler {
    pub(super) fn new(engine: &Engine, options: &Options, dir: PathBuf, place: CompileIn) -> anyhow::Result<Self> {
        Ok(Self {
            cache: Cache::new(engine, dir)?,
            place,
            timeout: Duration::from_secs(options.compile_timeout),
            memory: options.compile_memory.as_u64(),
            turn: Semaphore::new(AT_ONCE),
        })
    }

    /// The code of a component with this SHA-256, in hexadecimal: what is kept, or made now.
    pub(super) async fn compile(&self, bytes: Arc<[u8]>, sha256: &str) -> Result<Compiled, LoadError> {
        let kept = |component| Compiled {
            component,
            compile_time: None,
        };
        if let Some(component) = self.cache.find(sha256).await {
            return Ok(kept(component));
        }
        let _turn = self.turn.acquire().await.map_err(|error| LoadError::host(error.to_string()))?;
        // Another may have compiled the same meanwhile.
        if let Some(component) = self.cache.find(sha256).await {
            return Ok(kept(component));
        }
        let begun = Instant::now();
        let made = self.cache.room_for(sha256);
        match self.place {
            CompileIn::Child => self.in_child(&bytes, made.path()).await?,
            CompileIn::Here => {
                let out = made.path().to_owned();
                let compile = move || {
                    let code = precompile(&bytes).map_err(|error| refused(&format!("{error:#}")))?;
                    std::fs::write(out, code).map_err(|error| LoadError::host(error.to_string()))
                };
                blocking(compile).await?;
            }
        }
        let compile_time = Some(begun.elapsed());
        let component = self.cache.keep(made, sha256).await?;
        Ok(Compiled { component, compile_time })
    }

    async fn in_child(&self, bytes: &[u8], out: &Path) -> Result<(), LoadError> {
        let run = tokio::time::timeout(self.timeout, self.child(bytes, out));
        match run.await {
            Ok(Ok((status, _))) if status.success() => Ok(()),
            Ok(Ok((status, stderr))) => Err(why(status, &stderr, self.memory)),
            Ok(Err(error)) => Err(LoadError::host(format!("the compiler could not be started: {error}"))),
            Err(_) => Err(LoadError::new(format!(
                "compiling took longer than {} s and was stopped: make the component smaller or raise executor.compile_timeout",
                self.timeout.as_secs()
            ))),
        }
    }

    /// Runs the child to its end; dropping the future kills it.
    async fn child(&self, bytes: &[u8], out: &Path) -> std::io::Result<(std::process::ExitStatus, String)> {
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(THREADS);
        let cpu = self.timeout.as_secs().saturating_mul(threads as u64).max(1);
        let mut child = Command::new(this_binary()?)
            .arg(COMMAND)
            .arg(out)
            .args([self.memory.to_string(), cpu.to_string()])
            .env_clear()
            // Each thread of the pool and of malloc takes address space, which is what is limited.
            .env("RAYON_NUM_THREADS", threads.to_string())
            .env("MALLOC_ARENA_MAX", "2")
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let (stdin, stderr) = (child.stdin.take(), child.stderr.take());
        let feed = async {
            if let Some(mut stdin) = stdin {
                let _ = stdin.write_all(bytes).await; // a child that died early says why in its status
            }
        };
        let listen = async {
            let mut text = Vec::new();
            if let Some(mut stderr) = stderr {
                let _ = (&mut stderr).take(MAX_STDERR).read_to_end(&mut text).await;
                let _ = tokio::io::copy(&mut stderr, &mut tokio::io::sink()).await;
            }
            text
        };
        let (status, (), text) = tokio::join!(child.wait(), feed, listen);
        Ok((status?, String::from_utf8_lossy(&text).into_owned()))
    }
}

/// What it means that the child did not end well.
fn why(status: std::process::ExitStatus, stderr: &str, memory: u64) -> LoadError {
    use std::os::unix::process::ExitStatusExt;
    const SIGKILL: i32 = 9;
    const SIGXCPU: i32 = 24;
    const SIGXFSZ: i32 = 25;
    let out_of_memory = stderr.contains("memory allocation") || stderr.contains("Cannot allocate memory");
    match (status.code(), status.signal()) {
        (Some(1), _) if !out_of_memory => refused(stderr.trim()),
        (Some(code), _) if code == i32::from(BROKEN) && !out_of_memory => {
            LoadError::host(format!("the compiler could not do its work: {}", answer::end(stderr.trim(), 300)))
        }
        (_, Some(SIGXCPU)) => LoadError::new("compiling took too much CPU time and was stopped: make the component smaller"),
        (_, Some(SIGXFSZ)) => LoadError::new(format!(
            "the component's code has more than {}: make the component smaller",
            bytesize::ByteSize(MAX_CODE)
        )),
        (_, Some(SIGKILL)) => LoadError::host("the compiler was killed from outside, perhaps because the machine had no memory left"),
        _ if out_of_memory => LoadError::new(format!(
            "compiling took more than {} and was stopped: make the component smaller or raise executor.compile_memory",
            bytesize::ByteSize(memory)
        )),
        _ => LoadError::new(format!(
            "the compiler broke on this component ({status}): {}",
            answer::end(stderr.trim(), 300)
        )),
    }
}

/// The compiler's complaint as a sentence for whoever made the file.
fn refused(complaint: &str) -> LoadError {
    let complaint = answer::cut(complaint, 700);
    if complaint.contains("unexpected end") || complaint.contains("is out of bounds (bound") {
        return LoadError::new(format!("the file is truncated: copy the component again ({complaint})"));
    }
    LoadError::new(format!("the file is not a valid component: {complaint}"))
}

/// This program, even where its file was replaced since it was started.
fn this_binary() -> std::io::Result<PathBuf> {
    let running = Path::new("/proc/self/exe");
    if running.exists() {
        Ok(running.to_owned())
    } else {
        std::env::current_exe()
    }
}

/// The child's whole life: `compile-component OUT BYTES SECONDS`, the component on stdin. `args` are those after [`COMMAND`].
/// To be called first thing in `main`, before any thread is started.
pub fn run_child(args: impl Iterator<Item = std::ffi::OsString>) -> ExitCode {
    let told = |error: anyhow::Error| eprintln!("{error:#}");
    match child_main(args) {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(refused)) => {
            told(refused);
            ExitCode::FAILURE
        }
        Err(broken) => {
            told(broken);
            ExitCode::from(BROKEN)
        }
    }
}

/// The inner error is the component's fault.
fn child_main(args: impl Iterator<Item = std::ffi::OsString>) -> anyhow::Result<anyhow::Result<()>> {
    let args: Vec<_> = args.collect();
    let [out, memory, seconds] = args.as_slice() else {
        bail!("{COMMAND} is for the host's own use")
    };
    let number = |arg: &std::ffi::OsString| arg.to_str().and_then(|text| text.parse::<u64>().ok()).context("not a number");
    let limit = |resource, most: u64, at_last: u64| {
        let bounds = Rlimit {
            current: Some(most),
            maximum: Some(at_last),
        };
        setrlimit(resource, bounds).context("a limit could not be set")
    };
    let (memory, seconds) = (number(memory)?, number(seconds)?);
    limit(Resource::Core, 0, 0)?;
    limit(Resource::As, memory, memory)?;
    limit(Resource::Fsize, MAX_CODE, MAX_CODE)?;
    limit(Resource::Cpu, seconds, seconds + 1)?; // at the first a signal says why, at the second it is killed
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000"); // of all processes, this one can be spared
    be_nice(NICE.0);
    std::thread::spawn(|| {
        std::thread::sleep(LONG);
        all_be_nice();
    });
    let mut bytes = Vec::new();
    std::io::stdin().lock().read_to_end(&mut bytes)?;
    let code = match precompile(&bytes) {
        Ok(code) => code,
        Err(refused) => return Ok(Err(refused)),
    };
    std::fs::write(out, code)?;
    Ok(Ok(()))
}

/// Niceness is a thread's own, and the compiler has several.
fn all_be_nice() {
    for thread in std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten() {
        let id = thread
            .file_name()
            .to_str()
            .and_then(|id| id.parse().ok())
            .and_then(rustix::process::Pid::from_raw);
        if id.is_some() {
            let _ = rustix::process::setpriority_process(id, NICE.1); // it may have ended
        }
    }
}

fn precompile(bytes: &[u8]) -> anyhow::Result<Vec<u8>> {
    Ok(Engine::new(&code_settings())?.precompile_component(bytes)?)
}

pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, LoadError> + Send + 'static) -> Result<T, LoadError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(LoadError::new(format!("loading failed: {error}"))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;

    #[test]
    fn only_what_is_the_components_fault_is_held_against_it() {
        let cases = [
            (ExitStatus::from_raw(9), "", true, "killed from outside"),
            (ExitStatus::from_raw(24), "", false, "CPU time"),
            (ExitStatus::from_raw(25), "", false, "code has more than"),
            (
                ExitStatus::from_raw(2 << 8),
                "No space left on device (os error 28)",
                true,
                "No space left",
            ),
            (ExitStatus::from_raw(1 << 8), "invalid leading byte", false, "not a valid component"),
            (
                ExitStatus::from_raw(6),
                "memory allocation of 8 bytes failed",
                false,
                "compile_memory",
            ),
        ];
        for (status, stderr, is_hosts, words) in cases {
            let error = why(status, stderr, 1 << 30);
            assert_eq!(error.is_hosts(), is_hosts, "{error}");
            assert!(error.to_string().contains(words), "{error}");
        }
    }
}

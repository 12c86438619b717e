//! From a component to machine code, in a child process: a hostile file can make a compiler eat hours and gigabytes, and must harm
//! nobody when it does.
//!
//! The child is this very binary, started with [`COMMAND`], with an empty environment, the component on its stdin and limits on its
//! time and memory. What it made is kept in the host's private directory as `<sha256>-<settings>-<sha256 of the code>.cwasm` and
//! mapped from there; a file that does not match its name is thrown away and made again.

use super::engine::{LoadError, be_nice, code_settings};
use super::{Options, answer};
use anyhow::{Context, bail};
use rustix::process::{Resource, Rlimit, setrlimit};
use sha2::{Digest, Sha256};
use std::fmt::Write as _;
use std::hash::{Hash, Hasher};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
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
/// Bytes of compiled code that are kept.
const MAX_CACHE: u64 = 1 << 30;
/// The child's exit code where it could not do its work, whatever the component.
const BROKEN: u8 = 2;
/// How nice the child is while somebody may wait for a plugin to be live, and what it is once it has taken too long for that.
const NICE: (i32, i32) = (3, 15);
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
    dir: PathBuf,
    /// Fingerprint of the code-generation settings and of the engine's version.
    settings: String,
    place: CompileIn,
    timeout: Duration,
    memory: u64,
    turn: Semaphore,
    /// Numbers the files under way.
    made: AtomicU64,
}

impl Compiler {
    /// Prepares the directory; what other versions left there is removed.
    pub(super) fn new(engine: &Engine, options: &Options, dir: PathBuf, place: CompileIn) -> anyhow::Result<Self> {
        let mut hasher = std::hash::DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        let settings = format!("{:016x}", hasher.finish());
        private_dir(&dir).with_context(|| format!("cannot use {} for compiled code", dir.display()))?;
        // The child is started in another folder.
        let dir = dir.canonicalize()?;
        for entry in std::fs::read_dir(&dir)?.flatten() {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let ours = name.split('-').nth(1) == Some(settings.as_str()) && name.ends_with(".cwasm");
            if !ours {
                let _ = std::fs::remove_file(entry.path()); // it costs room, nothing else
            }
        }
        Ok(Self {
            dir,
            settings,
            place,
            timeout: Duration::from_secs(options.compile_timeout),
            memory: options.compile_memory.as_u64(),
            turn: Semaphore::new(AT_ONCE),
            made: AtomicU64::new(0),
        })
    }

    /// The code of a component with this SHA-256, in hexadecimal: from the directory, or made now.
    pub(super) async fn compile(&self, engine: &Engine, bytes: Arc<[u8]>, sha256: &str) -> Result<Compiled, LoadError> {
        let prefix = format!("{sha256}-{}-", self.settings);
        let cached = |component| Compiled {
            component,
            compile_time: None,
        };
        if let Some(component) = self.cached(engine, prefix.clone()).await {
            return Ok(cached(component));
        }
        let _turn = self.turn.acquire().await.map_err(|error| LoadError::host(error.to_string()))?;
        // Another may have compiled the same meanwhile.
        if let Some(component) = self.cached(engine, prefix.clone()).await {
            return Ok(cached(component));
        }
        let begun = Instant::now();
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        let made = self.dir.join(format!("{prefix}new-{}-{number}", std::process::id()));
        let result = match self.place {
            CompileIn::Child => self.in_child(&bytes, &made).await,
            CompileIn::Here => {
                let made = made.clone();
                blocking(move || {
                    let code = precompile(&bytes).map_err(|error| refused(&format!("{error:#}")))?;
                    std::fs::write(&made, code).map_err(|error| LoadError::host(error.to_string()))
                })
                .await
            }
        };
        let compile_time = Some(begun.elapsed());
        let component = match result {
            Ok(()) => self.keep(engine, made.clone(), prefix).await,
            Err(error) => Err(error),
        };
        let component = component.inspect_err(|_| {
            let _ = std::fs::remove_file(&made); // it may not be there
        })?;
        Ok(Compiled { component, compile_time })
    }

    async fn cached(&self, engine: &Engine, prefix: String) -> Option<Component> {
        let (dir, engine) = (self.dir.clone(), engine.clone());
        let found = blocking(move || {
            for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                let Some(expect) = name.strip_prefix(&prefix).and_then(|rest| rest.strip_suffix(".cwasm")) else {
                    continue;
                };
                match read_code(&engine, &entry.path(), expect) {
                    Ok(component) => return Ok(Some(component)),
                    Err(error) => {
                        tracing::warn!(file = name, error = format!("{error:#}"), "compiled code is damaged and made again");
                        let _ = std::fs::remove_file(entry.path());
                    }
                }
            }
            Ok(None)
        });
        found.await.ok().flatten()
    }

    /// Gives the code the name that its content asks for. Nothing is made durable: a file that a power cut tore does not fit its name.
    async fn keep(&self, engine: &Engine, made: PathBuf, prefix: String) -> Result<Component, LoadError> {
        let (dir, engine) = (self.dir.clone(), engine.clone());
        let keep = move || -> anyhow::Result<Component> {
            let kept = dir.join(format!("{prefix}{}.cwasm", hash_file(&made)?));
            std::fs::rename(&made, &kept)?;
            let component = map_code(&engine, &kept)?;
            prune(&dir, &kept)?;
            Ok(component)
        };
        blocking(move || keep().map_err(|error| LoadError::host(format!("compiled code could not be kept: {error:#}")))).await
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

fn read_code(engine: &Engine, path: &Path, expect: &str) -> anyhow::Result<Component> {
    if hash_file(path)? != expect {
        bail!("the content does not match the name");
    }
    map_code(engine, path)
}

/// Maps code whose content was just found to match its name.
fn map_code(engine: &Engine, path: &Path) -> anyhow::Result<Component> {
    #[expect(
        unsafe_code,
        reason = "the file is the compiler's own: in a directory that only this user can write, whole by its hash, and never changed once named"
    )]
    // SAFETY: as said above.
    let component = unsafe { Component::deserialize_file(engine, path) }?;
    Ok(component)
}

/// Removes what was made longest ago, once all that is kept is too much. What runs stays mapped.
fn prune(dir: &Path, latest: &Path) -> std::io::Result<()> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir)?.flatten() {
        let metadata = entry.metadata()?;
        if entry.path() != latest && entry.path().extension().is_some_and(|extension| extension == "cwasm") {
            files.push((metadata.modified()?, metadata.len(), entry.path()));
        }
    }
    files.sort();
    let mut room = MAX_CACHE.saturating_sub(std::fs::metadata(latest)?.len());
    for (_, size, path) in files.into_iter().rev() {
        match room.checked_sub(size) {
            Some(left) => room = left,
            None => {
                room = 0;
                std::fs::remove_file(path)?;
            }
        }
    }
    Ok(())
}

fn hash_file(path: &Path) -> std::io::Result<String> {
    let mut file = std::fs::File::open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            read => hasher.update(&buffer[..read]),
        }
    }
    Ok(hex(&hasher.finalize()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn private_dir(dir: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::create_dir_all(dir)?;
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700))
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, LoadError> + Send + 'static) -> Result<T, LoadError> {
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

    #[test]
    fn what_was_made_longest_ago_gives_way() {
        let dir = tempfile::tempdir().unwrap();
        let make = |name: &str, mib: u64, age: u64| {
            let path = dir.path().join(name);
            let file = std::fs::File::create(&path).unwrap();
            file.set_len(mib << 20).unwrap();
            file.set_modified(std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000 - age))
                .unwrap();
            path
        };
        let latest = make("latest.cwasm", 400, 9);
        let kept = [make("new.cwasm", 300, 1), make("newer.cwasm", 300, 0), make("other.txt", 900, 9)];
        let gone = [make("old.cwasm", 100, 2), make("older.cwasm", 1, 3)];
        prune(dir.path(), &latest).unwrap();
        assert!(latest.exists() && kept.iter().all(|path| path.exists()));
        assert!(!gone.iter().any(|path| path.exists()));
    }
}

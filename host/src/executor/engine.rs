//! The engine: one per process, with room for every slot, and the code that it loaded.

use super::bindings::{PluginFull, PluginFullPre};
use super::capabilities::{self, Grants};
use super::compile::{CompileIn, Compiler};
use super::instance::{self, Instance, Setting, State};
use super::limits::{MAX_INSTANCES, MAX_MEMORIES, MAX_TABLES, handles_with_folders};
use super::{AttemptRequest, Execute, Limits, Options, Processors, Report};
use crate::clock::Clock;
use crate::model::attempt::{Class, Outcome, Usage};
use crate::model::priority::Priority;
use async_trait::async_trait;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;
use wasmtime::component::{Component, HasSelf, Linker};
use wasmtime::{Config, Enabled, InstanceAllocationStrategy, PoolingAllocationConfig};

/// Bytes of a component.
pub const MAX_COMPONENT: usize = 64 << 20;
/// Instances besides the slots: plugins that describe themselves, and slots whose last instance is being taken down.
const SPARE: u32 = 8;
/// Plugins that describe themselves at once.
const DESCRIBED: usize = SPARE as usize / 2;
/// Address space of one memory: all that 32 bits can address, so that no bounds check is compiled into a guest. It costs nothing
/// but numbers: 128 slots of 4 memories take 2 TiB of the 128 that a process has, and no byte of it is real until it is used.
const RESERVATION: u64 = 4 << 30;
/// Most memories in the pool, whatever the slots: half of a process's address space.
const MAX_POOL_MEMORIES: u32 = 16_384;

/// Why a component was refused: one sentence that says what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{sentence}")]
pub struct LoadError {
    sentence: String,
    is_hosts: bool,
}

impl LoadError {
    /// Bounded, and without control characters: parts of it come from hostile files.
    pub(crate) fn new(sentence: impl AsRef<str>) -> Self {
        let plain: String = sentence.as_ref().chars().flat_map(plain).collect();
        Self {
            sentence: super::answer::cut(&plain, 1 << 10).to_owned(),
            is_hosts: false,
        }
    }

    /// What is no fault of the component: the same file may load in a minute.
    pub(crate) fn host(sentence: impl AsRef<str>) -> Self {
        Self {
            is_hosts: true,
            ..Self::new(sentence)
        }
    }

    /// Whether the host is to blame, so that another try makes sense.
    pub(crate) fn is_hosts(&self) -> bool {
        self.is_hosts
    }
}

fn plain(c: char) -> impl Iterator<Item = char> {
    let hidden = c.is_control() || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let (kept, escaped) = if hidden {
        (None, Some(c.escape_default()))
    } else {
        (Some(c), None)
    };
    kept.into_iter().chain(escaped.into_iter().flatten())
}

/// Settings that shape the code: the same where it is compiled and where it runs.
pub(super) fn code_settings() -> Config {
    let mut config = Config::new();
    config
        .consume_fuel(true)
        .cranelift_nan_canonicalization(true)
        .relaxed_simd_deterministic(true)
        .concurrency_support(false)
        .memory_reservation(RESERVATION)
        .memory_guard_size(32 << 20)
        .max_wasm_stack(1 << 20)
        .async_stack_size(2 << 20);
    config
}

fn pool(options: &Options, slots: usize) -> PoolingAllocationConfig {
    let instances = u32::try_from(slots).unwrap_or(u32::MAX / 256).saturating_add(SPARE);
    let memory = usize::try_from(options.max_memory.as_u64().min(RESERVATION)).unwrap_or(usize::MAX);
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(instances)
        .total_core_instances(instances.saturating_mul(MAX_INSTANCES))
        .total_memories(instances.saturating_mul(MAX_MEMORIES).min(MAX_POOL_MEMORIES.max(instances)))
        .total_tables(instances.saturating_mul(MAX_TABLES))
        .total_stacks(instances)
        // One component takes no more than its share of the totals.
        .max_core_instances_per_component(MAX_INSTANCES)
        .max_memories_per_component(MAX_MEMORIES)
        .max_tables_per_component(MAX_TABLES)
        .max_memories_per_module(MAX_MEMORIES)
        .max_tables_per_module(MAX_TABLES)
        .table_elements(1 << 16)
        .max_memory_size(memory)
        .linear_memory_keep_resident(2 << 20) // no madvise for small guests …
        .table_keep_resident(64 << 10)
        .pagemap_scan(Enabled::Auto); // … and only the pages that were written are cleared, where the kernel can tell
    pool
}

/// An attempt takes some six mappings of memory (measured: two for its stack, four for its memory). Where a process may have no more,
/// attempts could not be started, which nobody would guess from "Cannot allocate memory".
fn warn_of_mappings(slots: usize) {
    const OF_AN_ATTEMPT: usize = 6;
    let most = std::fs::read_to_string("/proc/sys/vm/max_map_count");
    let most: Option<usize> = most.ok().and_then(|text| text.trim().parse().ok());
    if most.is_some_and(|most| slots.saturating_mul(OF_AN_ATTEMPT) > most / 10 * 9) {
        tracing::warn!(
            slots,
            "vm.max_map_count is {}: with all slots taken, attempts may not find room for their memory; raise it with sysctl, or have fewer slots",
            most.unwrap_or_default()
        );
    }
}

struct Shared {
    engine: wasmtime::Engine,
    linker: Linker<State>,
    compiler: Compiler,
    clock: Clock,
    max_memory: u64,
    /// Handles of a guest that may open files.
    handles: usize,
    describing: Semaphore,
}

/// Loads components and runs them. Cheap to clone.
#[derive(Clone)]
pub struct Engine(Arc<Shared>);

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Engine")
    }
}

impl Engine {
    /// An engine for so many attempts at once. Compiled code is kept in `cache_dir`, which has to be the host's own.
    pub fn new(options: &Options, slots: usize, cache_dir: PathBuf, clock: Clock) -> anyhow::Result<Self> {
        Self::with_compiler(options, slots, cache_dir, clock, CompileIn::Child)
    }

    /// The same, told where to compile.
    pub fn with_compiler(options: &Options, slots: usize, cache_dir: PathBuf, clock: Clock, place: CompileIn) -> anyhow::Result<Self> {
        options.check().map_err(anyhow::Error::msg)?;
        warn_of_mappings(slots);
        let mut config = code_settings();
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool(options, slots)));
        let engine = wasmtime::Engine::new(&config)?;
        let mut linker = Linker::<State>::new(&engine);
        wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
        PluginFull::add_to_linker::<_, HasSelf<_>>(&mut linker, State::called)?;
        let compiler = Compiler::new(&engine, options, cache_dir, place)?;
        Ok(Self(Arc::new(Shared {
            engine,
            linker,
            compiler,
            clock,
            max_memory: options.max_memory.as_u64(),
            handles: handles_with_folders(slots),
            describing: Semaphore::new(DESCRIBED),
        })))
    }

    /// Checks a component, compiles it where no compiled code is at hand, and links it to what it is granted. `sha256` is the
    /// component's, in hexadecimal: whoever read it knows it already, and hashing takes its time.
    pub async fn load(&self, bytes: Arc<[u8]>, sha256: &str, grants: Grants) -> Result<Code, LoadError> {
        check_bytes(&bytes)?;
        let compiled = self.0.compiler.compile(bytes, sha256).await?;
        let this = self.clone();
        let link = tokio::task::spawn_blocking(move || {
            let component = compiled.component;
            let imports = capabilities::inspect(&this.0.engine, &component, &grants)?;
            this.check_memory(&component)?;
            let pre = this.0.linker.instantiate_pre(&component).and_then(PluginFullPre::new);
            let pre = pre.map_err(|error| LoadError::new(format!("the component does not fit this host: {error:#}")))?;
            Ok(Code {
                engine: this,
                pre,
                grants: Arc::new(grants),
                imports,
                compile_time: compiled.compile_time,
            })
        });
        link.await
            .unwrap_or_else(|error| Err(LoadError::new(format!("loading failed: {error}"))))
    }

    fn check_memory(&self, component: &Component) -> Result<(), LoadError> {
        let pages = component.resources_required().and_then(|needed| needed.max_initial_memory_size);
        let bytes = pages.unwrap_or(0).saturating_mul(64 << 10);
        if bytes > self.0.max_memory {
            return Err(LoadError::new(format!(
                "the component starts with a memory of {bytes} bytes; executor.max_memory is {}",
                self.0.max_memory
            )));
        }
        Ok(())
    }
}

/// Refuses at the first bytes what is no component at all.
fn check_bytes(bytes: &[u8]) -> Result<(), LoadError> {
    const BUILD: &str = "build it as a component (cargo build --target wasm32-wasip2)";
    let refuse = |why: String| Err(LoadError::new(why));
    if bytes.is_empty() {
        return refuse("the file is empty: copy the component again".to_owned());
    }
    if bytes.len() > MAX_COMPONENT {
        return refuse(format!("the file has {} bytes; a component may have {MAX_COMPONENT}", bytes.len()));
    }
    if wasmtime::Engine::detect_precompiled(bytes).is_some() {
        return refuse(format!("the file is precompiled machine code, which is never loaded: {BUILD}"));
    }
    match bytes {
        [0, b'a', b's', b'm', 0x0d, 0, 1, 0, ..] => Ok(()),
        [0, b'a', b's', b'm', 1, 0, 0, 0, ..] => refuse(format!("the file is a core module: {BUILD}")),
        [0, b'a', b's', b'm', _, _, _, _, ..] => refuse(format!("the file is of another version of WebAssembly: {BUILD}")),
        _ if b"\0asm\x0d\0\x01\0".starts_with(bytes) => refuse("the file is truncated: copy the component again".to_owned()),
        _ => refuse(format!("the file is not WebAssembly: {BUILD}")),
    }
}

/// One version of a plugin, compiled and linked. Cheap to clone; attempts that run keep it alive.
#[derive(Clone)]
pub struct Code {
    engine: Engine,
    pre: PluginFullPre<State>,
    grants: Arc<Grants>,
    imports: Vec<(String, bool)>,
    compile_time: Option<Duration>,
}

impl std::fmt::Debug for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Code")
    }
}

impl Code {
    /// What it imports, and whether that is granted.
    pub fn imports(&self) -> Vec<(String, bool)> {
        self.imports.clone()
    }

    /// How long compiling took; `None` where compiled code was at hand.
    pub fn compile_time(&self) -> Option<Duration> {
        self.compile_time
    }

    /// The plugin's own document of what it handles: asked with no capability, for a second at most.
    pub async fn describe(&self) -> Result<String, LoadError> {
        const LIMITS: Limits = Limits {
            timeout: Duration::from_secs(1),
            fuel: 10_000_000_000,
            memory: 64 << 20,
            result: 1 << 20,
            log: 0,
            calls_per_second: 10_000,
        };
        let describing = &self.engine.0.describing;
        let _turn = describing.acquire().await.map_err(|error| LoadError::host(error.to_string()))?;
        let code = self.clone();
        let handle = tokio::runtime::Handle::current();
        // On a thread of its own: a plugin that loops here takes turns with nobody on this runtime.
        let asked = tokio::task::spawn_blocking(move || {
            handle.block_on(async {
                let setting = Setting {
                    grants: &Arc::default(),
                    clock: &code.engine.0.clock,
                    limits: LIMITS,
                    attempt: 0,
                    document: None,
                    cancelled: Arc::default(),
                    handles: 0,
                    says: None,
                    // A thread of its own has its own turn.
                    ticket: Processors::new(1, 1, Arc::default()).ticket("describe", Priority::NORMAL),
                };
                let instance = Instance::new(&code.engine.0.engine, setting).await;
                match instance {
                    Ok(instance) => instance.describe(&code.pre).await,
                    Err(error) => Err(instance::busy(&error)),
                }
            })
        });
        let answer = asked.await.map_err(|error| LoadError::new(format!("describe failed: {error}")))?;
        answer.map_err(|outcome| {
            let why = outcome.message().unwrap_or_default();
            let why = format!("the plugin could not describe itself: {why}");
            match outcome {
                Outcome::Error {
                    class: Class::Retryable { .. },
                    ..
                } => LoadError::host(why),
                _ => LoadError::new(why),
            }
        })
    }
}

#[async_trait]
impl Execute for Code {
    async fn execute(&self, request: AttemptRequest) -> Report {
        let shared = &self.engine.0;
        let (timeout, began) = (request.limits.timeout, Instant::now());
        let (name, input, setting) = Setting::of(request, &self.grants, &shared.clock, shared.handles);
        // Folders may lie on a disk that does not answer.
        let outcome = match tokio::time::timeout(timeout, Instance::new(&shared.engine, setting)).await {
            Ok(Ok(instance)) => return instance.run(&self.pre, &name, &input).await,
            Ok(Err(error)) => instance::busy(&error),
            Err(_) => Outcome::Timeout { limit: timeout },
        };
        Report {
            outcome,
            usage: Usage::default(),
            execution_time: began.elapsed(),
        }
    }
}

/// Threads for guests only, at nice 10, so that the API keeps its turn while every slot burns CPU.
pub fn guest_runtime(threads: usize) -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads.max(1))
        .thread_name("guest")
        .event_interval(8) // turns between two looks at timers and wakes: some are longer than others
        .global_queue_interval(1) // who starts or is woken goes before who has given up its thread
        .on_thread_start(|| be_nice(10))
        .enable_all()
        .build()
}

/// Lowers the priority of the calling thread; on Linux that is a thread's own.
pub(super) fn be_nice(by: i32) {
    if let Err(error) = rustix::process::setpriority_process(None, by) {
        tracing::debug!(%error, "a thread runs at normal priority");
    }
}

//! One attempt in one fresh instance: what it may call, how it is stopped, and what its end means.

use super::answer;
use super::bindings::PluginFullPre;
use super::bindings::taskhost::plugin::{checkpoint, context, events, log, tasks, types};
use super::capabilities::Grants;
use super::journal::{Journal, Outlet, Stdio, Stream};
use super::limits::{MAX_HANDLES, Memory, OverMemory, Throttle};
use super::outbox::{MAX_NOTES, MAX_REQUEST, Outgoing, Refused};
use super::processors::{Pace, Ticket};
use super::turns::{Turns, within};
use super::{AttemptRequest, HostCall, Limits, MAX_CHECKPOINT, Report};
use crate::clock::Clock;
use crate::model::attempt::{Class, Document, Level, Outcome, Progress, Source, Usage};
use serde_json::{Map, Value};
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc::UnboundedSender, oneshot, watch};
use wasmtime::component::ResourceTable;
use wasmtime::{PoolConcurrencyLimitError, Store, Trap, WasmBacktrace};
use wasmtime_wasi::{FsPerms, I32Exit, WasiCtx, WasiCtxView, WasiView};

/// Fuel between two turns of a guest: about 0.1 ms.
const YIELD_FUEL: u64 = 1_000_000;
/// Random bytes in one call: the host makes them, so no fuel is burnt on them.
const MAX_RANDOM: u64 = 64 << 10;
/// Bytes that one host call may carry besides a result's worth: no call of the host is long.
const MAX_CALL: usize = 1 << 20;
/// Fields of one log line.
const MAX_FIELDS: usize = 64;
/// Bytes of a progress message.
const MAX_PROGRESS: usize = 1 << 10;
/// Bytes of a log message.
const MAX_LOG: usize = 64 << 10;
/// Bytes of a trap's details.
const MAX_TRAP: usize = 16 << 10;

/// What a store holds.
pub(crate) struct State {
    wasi: WasiCtx,
    table: ResourceTable,
    memory: Memory,
    pub(super) outlet: Arc<Outlet>,
    says: Option<Says>,
    cancelled: Arc<AtomicBool>,
    document: Option<Document>,
    deadline: Instant,
    pace: Arc<Pace>,
    grants: Arc<Grants>,
    /// The refused grants that the log tells of.
    denied: HashSet<String>,
}

impl WasiView for State {
    /// Every function of WASI comes through here.
    fn ctx(&mut self) -> WasiCtxView<'_> {
        self.outlet.count();
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

impl types::Host for State {}

impl log::Host for State {
    fn write(&mut self, level: log::Level, message: String, fields: Vec<(String, String)>) {
        let level = match level {
            log::Level::Trace => Level::Trace,
            log::Level::Debug => Level::Debug,
            log::Level::Info => Level::Info,
            log::Level::Warn => Level::Warn,
            log::Level::Error => Level::Error,
        };
        let fields: Map<String, Value> = fields
            .into_iter()
            .take(MAX_FIELDS)
            .map(|(key, value)| (key, value.into()))
            .collect();
        let message = answer::cut(&message, MAX_LOG).to_owned();
        self.outlet.journal().line(level, Source::Log, message, fields);
    }
}

impl context::Host for State {
    fn attempt(&mut self) -> String {
        self.document.as_ref().map_or_else(|| "{}".to_owned(), Document::to_json)
    }

    fn is_cancelled(&mut self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    fn remaining_ms(&mut self) -> Option<u64> {
        let left = (self.deadline + self.pace.so_far()).saturating_duration_since(Instant::now());
        u64::try_from(left.as_millis()).ok()
    }

    fn progress(&mut self, done: u64, total: Option<u64>, message: String) {
        let message = answer::cut(&message, MAX_PROGRESS).to_owned();
        if let Some(says) = &self.says {
            says.progress.send_replace(Some(Progress { done, total, message }));
        }
    }
}

impl checkpoint::Host for State {
    async fn save(&mut self, data: Vec<u8>) -> Result<(), types::Failure> {
        if data.len() > MAX_CHECKPOINT {
            let why = format!("a checkpoint holds at most {MAX_CHECKPOINT} bytes; this has {}", data.len());
            return Err(refusal("fatal", why));
        }
        let (reply, answer) = oneshot::channel();
        self.send(HostCall::SaveCheckpoint(data, reply));
        match answer.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(why)) => Err(refusal("retryable", why)),
            Err(_) => Err(refusal(
                "retryable",
                "the checkpoint was not saved: nobody keeps checkpoints now".to_owned(),
            )),
        }
    }

    async fn load(&mut self) -> Option<Vec<u8>> {
        let (reply, answer) = oneshot::channel();
        self.send(HostCall::LoadCheckpoint(reply));
        answer.await.unwrap_or_default()
    }
}

impl events::Host for State {
    async fn emit(&mut self, event_type: String, data: String) -> Result<String, types::Failure> {
        let granted = match self.grants.events.is_empty() {
            true => self.grants.may_emit(&event_type),
            false => Ok(()),
        };
        self.ask(granted, Outgoing::Event { event_type, data }).await
    }
}

impl tasks::Host for State {
    async fn submit(&mut self, request: String) -> Result<String, types::Failure> {
        let granted = self.any_submission(&request);
        self.ask(granted, Outgoing::Task(request)).await
    }

    async fn submit_workflow(&mut self, request: String) -> Result<String, types::Failure> {
        let granted = self.any_submission(&request);
        self.ask(granted, Outgoing::Workflow(request)).await
    }
}

impl From<Refused> for types::Failure {
    fn from(refused: Refused) -> Self {
        Self {
            kind: refused.kind.to_owned(),
            message: refused.message,
            details: refused.details.map(|details| details.to_string()),
        }
    }
}

fn refusal(kind: &str, message: String) -> types::Failure {
    types::Failure {
        kind: kind.to_owned(),
        message,
        details: None,
    }
}

impl State {
    /// Every function of the contract comes through here.
    pub(super) fn called(&mut self) -> &mut Self {
        self.outlet.count();
        self
    }

    fn send(&self, call: HostCall) {
        if let Some(says) = &self.says {
            let _ = says.calls.send(call); // nobody listens any more: the attempt is being stopped
        }
    }

    /// Asks the worker, whatever it takes: only what is granted nothing at all is refused here.
    async fn ask(&mut self, granted: Result<(), Refused>, what: Outgoing) -> Result<String, types::Failure> {
        let answer = match granted {
            Ok(()) => self.ask_worker(what).await,
            Err(refused) => Err(refused),
        };
        Ok(answer.inspect_err(|refused| self.note_denial(refused))?)
    }

    async fn ask_worker(&mut self, what: Outgoing) -> Result<String, Refused> {
        let bytes = what.bytes();
        if bytes > MAX_REQUEST {
            let why = format!(
                "an event or a request may have {MAX_REQUEST} bytes; this has {bytes}: send less, for example where it can be found"
            );
            return Err(Refused::new("fatal", why));
        }
        let (reply, answer) = oneshot::channel();
        let grants = self.grants.clone();
        self.send(HostCall::Send { what, grants, reply });
        let nobody = |_| Err(Refused::new("retryable", "nothing was sent: nobody takes requests now"));
        answer.await.unwrap_or_else(nobody)
    }

    /// Whether anything may be submitted at all. Which names may is seen when the request is read.
    fn any_submission(&self, request: &str) -> Result<(), Refused> {
        /// For a sentence only.
        #[derive(serde::Deserialize)]
        struct Named {
            task_name: String,
        }
        if !self.grants.submit.is_empty() {
            return Ok(());
        }
        let named = serde_json::from_str::<Named>(answer::cut(request, MAX_REQUEST));
        self.grants
            .may_submit(named.as_ref().map_or("the task's name", |named| &named.task_name))
    }

    fn note_denial(&mut self, refused: &Refused) {
        let is_news = || !self.denied.contains(&refused.message);
        if refused.is_denial() && self.denied.len() < MAX_NOTES && is_news() {
            self.denied.insert(refused.message.clone());
            self.outlet.journal().note(refused.message.clone());
        }
    }
}

/// A guest that is about to run.
pub(crate) struct Instance {
    store: Store<State>,
    outlet: Arc<Outlet>,
    limits: Limits,
    started: Instant,
    ticket: Ticket,
}

/// Builds the guest's view of the system: empty, but for what is granted.
fn wasi(grants: &Grants, outlet: &Arc<Outlet>) -> wasmtime::Result<WasiCtx> {
    let stdio = |stream| Stdio {
        outlet: outlet.clone(),
        stream,
    };
    let mut wasi = WasiCtx::builder();
    wasi.stdout(stdio(Stream::Out))
        .stderr(stdio(Stream::Err))
        .max_random_size(MAX_RANDOM);
    wasi.allow_tcp(false).allow_udp(false).allow_ip_name_lookup(false);
    wasi.envs(&grants.env);
    for folder in &grants.folders {
        // A guest that may write above a granted folder could have put a link in its place since the plugin was loaded.
        if folder.host.canonicalize()? != folder.host {
            return Err(wasmtime::Error::msg(format!(
                "the granted folder {} is not where it was",
                folder.host.display()
            )));
        }
        let perms = if folder.writable { FsPerms::ReadWrite } else { FsPerms::ReadOnly };
        wasi.preopened_dir(&folder.host, &folder.guest, perms)?;
    }
    Ok(wasi.build())
}

/// Where what a guest says goes.
#[derive(Clone)]
pub(crate) struct Says {
    calls: UnboundedSender<HostCall>,
    progress: watch::Sender<Option<Progress>>,
}

/// What an instance may do and know; `says` is `None` while a plugin describes itself.
pub(crate) struct Setting<'a> {
    pub grants: &'a Arc<Grants>,
    pub clock: &'a Clock,
    pub limits: Limits,
    pub attempt: u32,
    pub document: Option<Document>,
    pub cancelled: Arc<AtomicBool>,
    /// Handles that it may hold where it is granted folders.
    pub handles: usize,
    pub says: Option<Says>,
    /// Its claim on the processors.
    pub ticket: Ticket,
}

impl<'a> Setting<'a> {
    /// Splits a request into what runs and how it is set.
    pub(crate) fn of(request: AttemptRequest, grants: &'a Arc<Grants>, clock: &'a Clock, handles: usize) -> (String, String, Self) {
        let setting = Self {
            grants,
            clock,
            limits: request.limits,
            attempt: request.number,
            document: request.document,
            cancelled: request.cancelled,
            handles,
            says: Some(Says {
                calls: request.calls,
                progress: request.progress,
            }),
            ticket: request.ticket,
        };
        (request.task_name, request.input, setting)
    }
}

impl Instance {
    /// A store that is ready to be instantiated in. Blocks only where folders have to be opened, and then not this thread.
    pub(crate) async fn new(engine: &wasmtime::Engine, setting: Setting<'_>) -> wasmtime::Result<Self> {
        let started = Instant::now();
        let Setting { limits, says, ticket, .. } = setting;
        let calls = says.as_ref().map(|says| says.calls.clone());
        let journal = Journal::new(calls, setting.clock.clone(), setting.attempt, limits.log);
        let outlet = Outlet::new(journal, Throttle::new(limits.calls_per_second, started));
        let (wasi, handles) = if setting.grants.folders.is_empty() {
            (wasi(setting.grants, &outlet)?, MAX_HANDLES)
        } else {
            let (grants, outlet) = (setting.grants.clone(), outlet.clone());
            let opened = tokio::task::spawn_blocking(move || wasi(&grants, &outlet)).await??;
            (opened, setting.handles)
        };
        let mut table = ResourceTable::new();
        table.set_max_capacity(handles);
        let state = State {
            wasi,
            table,
            memory: Memory::new(limits.memory),
            outlet: outlet.clone(),
            says,
            cancelled: setting.cancelled,
            document: setting.document,
            deadline: started.checked_add(limits.timeout).unwrap_or(started),
            pace: ticket.pace(),
            grants: setting.grants.clone(),
            denied: HashSet::new(),
        };
        let mut store = Store::new(engine, state);
        store.limiter(|state| &mut state.memory);
        store.set_max_component_handles(MAX_HANDLES);
        store.set_hostcall_fuel(limits.result.saturating_add(MAX_CALL));
        store.call_hook_async(Turns);
        store.set_fuel(limits.fuel)?;
        store.fuel_async_yield_interval(Some(YIELD_FUEL))?;
        Ok(Self {
            store,
            outlet,
            limits,
            started,
            ticket,
        })
    }

    /// Runs one task to its end, its timeout, or the drop of this future.
    pub(crate) async fn run(mut self, code: &PluginFullPre<State>, name: &str, input: &str) -> Report {
        let mut begun = false;
        let call = async {
            let plugin = code.instantiate_async(&mut self.store).await?;
            begun = true;
            plugin.taskhost_plugin_handler().call_run(&mut self.store, name, input).await
        };
        let ended = within(self.limits.timeout, self.started.elapsed(), &mut self.ticket, call).await;
        let outcome = match ended {
            Some(Ok(Ok(result))) => answer::result(result, self.limits.result),
            Some(Ok(Err(failure))) => answer::failure(&answer::Failure {
                kind: failure.kind,
                message: failure.message,
                details: failure.details,
            }),
            Some(Err(error)) => self.fault(&error, begun),
            None => Outcome::Timeout {
                limit: self.limits.timeout,
            },
        };
        self.outlet.journal().flush();
        Report {
            outcome,
            usage: self.usage(),
            execution_time: self.started.elapsed().saturating_sub(self.ticket.pace().so_far()),
        }
    }

    /// Asks a plugin what it handles.
    pub(crate) async fn describe(mut self, code: &PluginFullPre<State>) -> Result<String, Outcome> {
        let mut begun = false;
        let call = async {
            let plugin = code.instantiate_async(&mut self.store).await?;
            begun = true;
            plugin.taskhost_plugin_handler().call_describe(&mut self.store).await
        };
        match within(self.limits.timeout, Duration::ZERO, &mut self.ticket, call).await {
            Some(Ok(document)) if document.len() > self.limits.result => Err(answer::too_large(Some(document.len()), self.limits.result)),
            Some(Ok(document)) => Ok(document),
            Some(Err(error)) => Err(self.fault(&error, begun)),
            None => Err(Outcome::Timeout {
                limit: self.limits.timeout,
            }),
        }
    }

    fn usage(&self) -> Usage {
        let left = self.store.get_fuel().ok();
        Usage {
            fuel_used: left.map(|left| self.limits.fuel.saturating_sub(left)),
            peak_memory: Some(self.store.data().memory.peak()),
            processor_wait: Some(self.ticket.pace().so_far()),
        }
    }

    /// What it means that a call did not return; `begun` says whether the guest was called at all.
    fn fault(&self, error: &wasmtime::Error, begun: bool) -> Outcome {
        if let Some(over) = error.downcast_ref::<OverMemory>() {
            return Outcome::OutOfMemory { limit: over.limit };
        }
        let trap = error.downcast_ref::<Trap>();
        if trap == Some(&Trap::OutOfFuel) {
            return Outcome::OutOfFuel { limit: self.limits.fuel };
        }
        let in_guest = trap.is_some() || error.is::<WasmBacktrace>() || error.is::<I32Exit>();
        if !in_guest && !begun {
            return busy(error);
        }
        let cause = error.root_cause().to_string();
        if !in_guest && cause.contains("fuel allocated for hostcalls") {
            return answer::too_large(None, self.limits.result);
        }
        let stderr = self.outlet.journal().stderr();
        let message = match (error.downcast_ref::<I32Exit>(), trap) {
            (Some(exit), _) => format!("the handler called exit({}) instead of returning", exit.0),
            _ if let Some(panic) = answer::panic_message(&stderr) => panic,
            (_, Some(Trap::StackOverflow)) => "the handler's call stack overflowed".to_owned(),
            (_, Some(trap)) => format!("the handler trapped: {trap}"),
            _ if in_guest => format!("the handler trapped: {}", answer::cut(&cause, 1 << 10)),
            _ => format!("the handler gave back what cannot be read: {}", answer::cut(&cause, 1 << 10)),
        };
        let trace = format!("{error:?}");
        let mut details = answer::cut(&trace, MAX_TRAP).to_owned();
        if !stderr.is_empty() {
            details = format!("{details}\nstderr:\n{stderr}");
        }
        Outcome::Trap {
            message,
            details: Some(details),
        }
    }
}

/// The host could not start the guest: no fault of the guest, so it is tried again.
pub(crate) fn busy(error: &wasmtime::Error) -> Outcome {
    let (message, after) = if error.is::<PoolConcurrencyLimitError>() {
        ("the host had no room left for another instance".to_owned(), Duration::from_secs(1))
    } else {
        let why = format!("{error:#}");
        (
            format!("the host could not start the handler: {}", answer::cut(&why, 1 << 10)),
            Duration::from_secs(10),
        )
    };
    tracing::error!(error = format!("{error:#}"), "an attempt could not be started");
    Outcome::Error {
        class: Class::Retryable { retry_after: Some(after) },
        message,
    }
}

//! The composition root: which rooms there are, in which order they start, and in which they stop.

mod dev;
mod house;
mod local;

pub use local::{LocalRun, check_plugin, run_plugin};

use crate::config::{self, Loaded, Sources};
use crate::executor::guest_runtime;
use rustix::process::{Resource, getrlimit, setrlimit};
use tracing_subscriber::EnvFilter;

/// Runs the host until it is told to stop. With `dev` it first builds the plugin crates that it finds, and again whenever their
/// source changes.
pub fn serve(sources: Sources, dev: bool) -> anyhow::Result<()> {
    let loaded = config::load(sources)?;
    tell_on_stderr();
    allow_open_files();
    if dev {
        dev::build_all(&loaded.config.plugins.dirs)?;
        dev::build_on_change(loaded.config.plugins.dirs.clone())?;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .thread_name("taskhost")
        .enable_all()
        .build()?;
    let Loaded { config, file } = loaded;
    // Made here, because a runtime that is dropped within another panics, and with it would go what a failed start has to say.
    let guests = guest_runtime(processors())?;
    let served = runtime.block_on(house::run(config, file, guests.handle(), dev));
    guests.shutdown_background();
    runtime.shutdown_background();
    served
}

/// As many processors as this process may use.
fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// As many as the system lets this user have: the default that a shell hands on is for `select`, which nobody here calls.
fn allow_open_files() {
    let mut most = getrlimit(Resource::Nofile);
    most.current = most.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, most) {
        tracing::debug!(%error, "the number of open files stays as it is");
    }
}

/// The configuration that holds, as a file with comments.
pub fn print_config(sources: Sources) -> anyhow::Result<String> {
    config::load(sources)?.config.to_commented_toml()
}

/// The document that describes the API.
pub fn openapi() -> anyhow::Result<String> {
    Ok(serde_json::to_string_pretty(&crate::api::document())?)
}

/// `RUST_LOG` says what is told; by default what an operator should know.
fn tell_on_stderr() {
    let filter =
        EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,wasmtime=warn,cranelift=warn,refinery_core=warn"));
    let colours = std::io::IsTerminal::is_terminal(&std::io::stderr());
    // Somebody who embeds this in a test may have a subscriber already.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(colours)
        .try_init();
}

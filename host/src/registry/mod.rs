//! Plugins on disk become task definitions: watched, loaded, validated, swapped.
//!
//! Readers see an immutable [`snapshot::Snapshot`]; a swap never waits for them. A file that cannot be loaded never evicts the
//! last good version of its plugin.

mod change;
mod describe;
mod entry;
mod event;
mod kept;
mod load;
mod manifest;
mod overrides;
mod patterns;
mod revive;
mod rules;
mod scan;
mod schema;
mod service;
pub mod snapshot;
mod store_file;
#[cfg(test)]
mod tests;
mod watch;

use crate::clock::Clock;
pub use crate::executor::MAX_COMPONENT;
use crate::executor::{self, Engine};
use crate::model::request::{Given, Refusal};
use crate::store::{Store, StoreError};
use event::{Event, Reply};
pub use load::load_one;
use serde::{Deserialize, Serialize};
use service::Service;
use snapshot::{Plugin, Snapshot};
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot, watch as latest};
use tokio::task::JoinHandle;

/// `[plugins]`: where plugins come from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// Directories that are searched for `*.wasm`, one level of folders deep. New plugins go into the first.
    pub dirs: Vec<PathBuf>,
    /// Seconds of quiet after a change before it is looked at.
    pub debounce: f64,
    /// Seconds between two looks at the directories where no change was told.
    pub rescan: f64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            dirs: vec![PathBuf::from("plugins")],
            debounce: 0.15,
            rescan: 2.0,
        }
    }
}

impl Options {
    /// What each key means, for `serve --print-config`.
    pub const COMMENTS: &'static [(&'static str, &'static str)] = &[
        (
            "dirs",
            "Directories that are searched for plugins, one level of folders deep. New plugins go into the first.",
        ),
        ("debounce", "Seconds of quiet after a change before it is looked at."),
        ("rescan", "Seconds between two looks at the directories where no change was told."),
    ];

    /// Says what is out of range, for whoever wrote the configuration.
    pub fn check(&self) -> Result<(), String> {
        if self.dirs.is_empty() {
            return Err("plugins.dirs is empty; it must name a directory".to_owned());
        }
        for (name, value, low, high) in [("debounce", self.debounce, 0.0, 10.0), ("rescan", self.rescan, 0.1, 3_600.0)] {
            if !(low..=high).contains(&value) {
                return Err(format!("plugins.{name} is {value}; it must be {low} to {high} seconds"));
            }
        }
        Ok(())
    }
}

/// What the registry has to know of the house.
#[derive(Clone, Debug)]
pub struct Context {
    /// The configuration file: folder grants are relative to its folder, or to the working directory where there is none.
    pub config_file: Option<PathBuf>,
    /// The host's private data: never granted to a plugin; last good versions are kept there.
    pub data_dir: PathBuf,
    /// What bounds every manifest.
    pub executor: executor::Options,
}

/// Why a plugin could not be loaded, stored or removed.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// There is no plugin of that name.
    #[error("there is no plugin {0:?}")]
    UnknownPlugin(String),
    /// The file, its manifest or what it says of itself was refused: a sentence that says what to do.
    #[error("{0}")]
    Refused(String),
    /// A plugin directory could not be read or written.
    #[error("{0}")]
    Io(String),
    /// A change of an operator's word was refused.
    #[error("{}", .0.sentence)]
    Patch(Refusal),
    /// The store could not keep it.
    #[error(transparent)]
    Store(StoreError),
}

/// What the rest of the house may ask of the registry. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Registry {
    snapshot: Arc<arc_swap::ArcSwap<Snapshot>>,
    changed: latest::Receiver<u64>,
    events: mpsc::Sender<Event>,
}

/// Whether a plugin can be called so; the error is a sentence.
fn check_name(name: &str) -> Result<(), String> {
    if !crate::model::name::is_valid(name) {
        return Err(crate::model::name::why_invalid("the plugin name", name));
    }
    if name.starts_with('.') {
        return Err(format!(
            "the plugin name {name:?} begins with a dot, and hidden files are no plugins: choose another"
        ));
    }
    Ok(())
}

impl Registry {
    /// Starts to look after the plugin directories. The first look is under way on return: [`Snapshot::ready`] tells its end.
    /// The task ends after [`Registry::stop`].
    pub fn start(
        options: Options,
        engine: Engine,
        store: Arc<dyn Store>,
        clock: Clock,
        context: Context,
    ) -> Result<(Self, JoinHandle<()>), RegistryError> {
        options.check().map_err(RegistryError::Io)?;
        if let Some(first) = options.dirs.first() {
            let failed = |error| RegistryError::Io(format!("the plugin directory {} cannot be created: {error}", first.display()));
            std::fs::create_dir_all(first).map_err(failed)?;
        }
        let snapshot = Arc::new(arc_swap::ArcSwap::from_pointee(Snapshot::default()));
        let (changes, changed) = latest::channel(0);
        let (events, inbox) = mpsc::channel(64);
        let loader = load::Loader::new(engine, context, options);
        let service = Service::new(loader, store, clock, service::Shelf::new(snapshot.clone(), changes), events.clone());
        let task = tokio::spawn(service.run(inbox));
        let registry = Self { snapshot, changed, events };
        Ok((registry, task))
    }

    /// What is loaded now.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// Counts the swaps.
    pub fn changes(&self) -> latest::Receiver<u64> {
        self.changed.clone()
    }

    /// Looks at all plugin directories now; returns once what was found is live or refused.
    pub async fn reload(&self) -> Result<(), RegistryError> {
        self.ask(Event::Reload).await
    }

    /// Validates a component and, only if it is good, puts it into the first plugin directory (or over the file that it
    /// replaces) and makes it live.
    pub async fn push(&self, name: &str, bytes: Vec<u8>) -> Result<Arc<Plugin>, RegistryError> {
        check_name(name).map_err(RegistryError::Refused)?;
        let (name, bytes) = (name.to_owned(), bytes.into());
        self.ask(|reply| Event::Push { name, bytes, reply }).await
    }

    /// Removes a plugin's file (its manifest stays) and unregisters its tasks.
    pub async fn remove(&self, name: &str) -> Result<(), RegistryError> {
        let name = name.to_owned();
        self.ask(|reply| Event::Remove { name, reply }).await
    }

    /// Changes an operator's word on a task member by member (RFC 7396), and lets it hold from now on; an empty one is taken back.
    pub async fn override_task(&self, task_name: String, patch: Given) -> Result<(), RegistryError> {
        self.ask(|reply| Event::Override { task_name, patch, reply }).await
    }

    /// Ends the task; what is loading is given up. Snapshots stay as they are.
    pub async fn stop(&self) {
        let _ = self.events.send(Event::Stop).await; // it has ended already
    }

    async fn ask<T>(&self, event: impl FnOnce(Reply<T>) -> Event) -> Result<T, RegistryError> {
        let stopped = || RegistryError::Io("the registry is stopped".to_owned());
        let (reply, answer) = oneshot::channel();
        self.events.send(event(reply)).await.map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())?
    }
}

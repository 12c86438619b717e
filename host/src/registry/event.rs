//! All that can happen to the registry, as one closed enum.

use super::RegistryError;
use super::load::Version;
use super::snapshot::Plugin;
use crate::executor::LoadError;
use crate::model::request::Given;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::oneshot;

/// Where an answer goes.
pub(super) type Reply<T> = oneshot::Sender<Result<T, RegistryError>>;

/// All that can happen to the registry.
pub(super) enum Event {
    /// Something changed on disk, perhaps; and it may be whole.
    Changed { is_whole: bool },
    /// A load came to its end; `None` where the files hold what runs already.
    Loaded {
        name: String,
        number: u64,
        result: Result<Option<Version>, LoadError>,
    },
    /// The last good version of an earlier run came to be loaded again; `None` where that failed.
    Revived {
        name: String,
        number: u64,
        version: Option<Version>,
    },
    /// Look now.
    Reload(Reply<()>),
    /// Validate these bytes.
    Push {
        name: String,
        bytes: Arc<[u8]>,
        reply: Reply<Arc<Plugin>>,
    },
    /// They were validated.
    Pushed {
        name: String,
        path: PathBuf,
        bytes: Arc<[u8]>,
        result: Result<Version, LoadError>,
        reply: Reply<Arc<Plugin>>,
    },
    /// Delete a plugin's file.
    Remove { name: String, reply: Reply<()> },
    /// A change of an operator's word on a task.
    Override { task_name: String, patch: Given, reply: Reply<()> },
    /// End.
    Stop,
}

//! What is loaded at one moment. Immutable: a change makes the next snapshot.

use super::schema::Schema;
use crate::executor::Execute;
use crate::model::Time;
use crate::model::attempt::InputError;
use crate::model::definition::Definition;
use crate::model::name;
use crate::model::overrides::Override;
use crate::store::{Handled, Handlers, Schemas};
use async_trait::async_trait;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// A task definition with the code that handles it.
#[derive(Debug)]
pub struct Handler {
    /// What the plugin says of the task, within the operator's limits.
    pub definition: Arc<Definition>,
    /// What the store needs to know of it.
    pub handled: Handled,
    /// Runs an attempt.
    pub code: Arc<dyn Execute>,
    /// The compiled `input_schema`.
    pub schema: Option<Arc<Schema>>,
    /// What the operator said by the API, which is in the definition.
    pub overridden: Override,
}

impl Handler {
    /// Puts it together.
    pub fn new(definition: Definition, code: Arc<dyn Execute>, schema: Option<Schema>) -> Self {
        Self {
            handled: Handled {
                memory: definition.memory,
                idempotent: definition.idempotent,
                max_running: definition.max_concurrency,
                plugin: definition.plugin.as_str().into(),
                plugin_digest: definition.plugin_digest.as_str().into(),
            },
            definition: Arc::new(definition),
            code,
            schema: schema.map(Arc::new),
            overridden: Override::default(),
        }
    }

    /// The same under the operator's word. The error is a sentence.
    pub fn overridden(&self, word: &Override) -> Result<Self, String> {
        let mut definition = (*self.definition).clone();
        word.apply(&mut definition)?;
        Ok(Self {
            schema: self.schema.clone(),
            overridden: word.clone(),
            ..Self::new(definition, self.code.clone(), None)
        })
    }

    /// What is wrong with a payload by the task's schema; empty where nothing is. May take seconds.
    pub fn check(&self, payload: &serde_json::Value) -> Vec<InputError> {
        self.schema.as_ref().map_or_else(Vec::new, |schema| schema.errors(payload))
    }

    /// The same in a moment; `None` where it takes longer.
    pub fn check_quickly(&self, payload: &serde_json::Value) -> Option<Vec<InputError>> {
        self.schema
            .as_ref()
            .map_or_else(|| Some(Vec::new()), |schema| schema.quick_errors(payload))
    }

    /// The same however long it takes, and without holding up anybody; empty too where the check died.
    pub async fn errors(self: &Arc<Self>, payload: serde_json::Value) -> Vec<InputError> {
        match self.check_quickly(&payload) {
            Some(errors) => errors,
            None => self.check_aside(payload).await.map(|(errors, _)| errors).unwrap_or_default(),
        }
    }

    /// [`Handler::check`] where it holds up nobody, two at a time over all handlers: schemas are strangers'. Gives the payload back;
    /// `None` where the check died.
    pub async fn check_aside(self: &Arc<Self>, payload: serde_json::Value) -> Option<(Vec<InputError>, serde_json::Value)> {
        static TURN: Semaphore = Semaphore::const_new(2);
        let handler = self.clone();
        let turn = TURN.acquire().await.ok()?;
        let check = move || {
            let _turn = turn; // kept to the end, even if whoever asked has gone
            (handler.check(&payload), payload)
        };
        let checked = tokio::task::spawn_blocking(check).await;
        checked
            .inspect_err(|error| tracing::error!(%error, "a payload could not be checked"))
            .ok()
    }
}

/// Where a plugin stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PluginState {
    /// Its tasks can run. `error` may still tell that a newer file was refused.
    Loaded,
    /// No version of it could be loaded.
    Failed,
}

/// An import of a component.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Import {
    /// `namespace:package/interface@version`.
    pub name: String,
    /// Whether calls do something, or answer with a denial.
    pub granted: bool,
}

/// One plugin, as operators see it.
#[derive(Clone, Debug)]
pub struct Plugin {
    /// The file's stem.
    pub name: String,
    /// Where it stands.
    pub state: PluginState,
    /// `sha256:…` of the version that runs.
    pub digest: Option<String>,
    /// The version that it says it has.
    pub version: Option<String>,
    /// For people.
    pub description: Option<String>,
    /// Bytes of the component.
    pub size: u64,
    /// What it asks of the host.
    pub imports: Vec<Import>,
    /// What the operator's manifest grants, one sentence each.
    pub grants: Vec<String>,
    /// Names of its task definitions.
    pub tasks: Vec<String>,
    /// Why the file that is there now was refused.
    pub error: Option<String>,
    /// When the running version was loaded.
    pub loaded_at: Option<Time>,
    /// How long compiling took; `None` where compiled code was at hand.
    pub compile_time: Option<std::time::Duration>,
}

/// All plugins and tasks at one moment.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// By name.
    pub plugins: BTreeMap<String, Arc<Plugin>>,
    /// By task name.
    pub handlers: BTreeMap<String, Arc<Handler>>,
    /// Whether the plugin directories have been scanned once.
    pub ready: bool,
}

#[async_trait]
impl Schemas for Snapshot {
    async fn misfits(&self, task_name: &str, payload: serde_json::Value) -> Vec<InputError> {
        match self.handlers.get(task_name) {
            Some(handler) => handler.errors(payload).await,
            None => Vec::new(),
        }
    }
}

impl Snapshot {
    /// What claiming needs to know.
    pub fn handled(&self) -> Handlers {
        self.handlers
            .iter()
            .map(|(name, handler)| (name.clone(), handler.handled.clone()))
            .collect()
    }

    /// Task names that look like `name`, nearest first. What can be no task's name is near to none: comparing takes time by its length.
    pub fn near(&self, name: &str) -> Vec<String> {
        if !name::is_valid(name) {
            return Vec::new();
        }
        let mut near: Vec<(f64, &String)> = self
            .handlers
            .keys()
            .map(|known| (strsim::jaro_winkler(name, known), known))
            .collect();
        near.retain(|(likeness, _)| *likeness > 0.7);
        near.sort_by(|a, b| b.0.total_cmp(&a.0));
        near.into_iter().take(3).map(|(_, known)| known.clone()).collect()
    }
}

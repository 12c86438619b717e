//! Task definitions and plugins, as clients see them.

use crate::model::overrides::Override;
use crate::model::retry::RetryPolicy;
use crate::registry::snapshot::{Handler, Plugin, PluginState};
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

/// A task that a loaded plugin handles.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct DefinitionRecord {
    /// What submissions name.
    pub name: String,
    /// For people.
    pub description: String,
    /// Seconds of an attempt where the submission names none.
    pub timeout: f64,
    /// The longest timeout that a submission may ask for, in seconds.
    pub max_timeout: f64,
    /// Retries allowed where the submission names none.
    pub retry_count: u32,
    /// When failed attempts are repeated.
    #[schema(value_type = Object)]
    pub retry: RetryPolicy,
    /// 1 (most urgent) to 9.
    pub priority: u8,
    /// United with those of a submission.
    pub tags: Vec<String>,
    /// JSON Schema of the payload.
    #[schema(value_type = Option<Object>)]
    pub input_schema: Option<Value>,
    /// JSON Schema of the result.
    #[schema(value_type = Option<Object>)]
    pub output_schema: Option<Value>,
    /// Attempts that may run at once; null: as many as there are slots.
    pub max_concurrency: Option<u32>,
    /// What an operator said by `PATCH`; it is in the members above.
    #[schema(value_type = Object)]
    pub overrides: Override,
    /// Whether an attempt that gave no answer may be repeated without asking a person.
    pub idempotent: bool,
    /// CPU budget of an attempt with the default timeout.
    pub fuel: u64,
    /// Cap on the memory of an attempt, in bytes.
    pub memory: u64,
    /// The plugin that handles it.
    pub plugin: String,
    /// The version that the plugin says it has.
    pub plugin_version: String,
    /// `sha256:…` of the component.
    pub plugin_digest: String,
}

impl From<&Handler> for DefinitionRecord {
    fn from(handler: &Handler) -> Self {
        let definition = &handler.definition;
        Self {
            max_concurrency: definition.max_concurrency,
            overrides: handler.overridden.clone(),
            name: definition.name.clone(),
            description: definition.description.clone(),
            timeout: definition.timeout.as_secs_f64(),
            max_timeout: definition.max_timeout.as_secs_f64(),
            retry_count: definition.retry.max_retries,
            retry: definition.retry.clone(),
            priority: definition.priority.get(),
            tags: definition.tags.clone(),
            input_schema: definition.input_schema.clone(),
            output_schema: definition.output_schema.clone(),
            idempotent: definition.idempotent,
            fuel: definition.fuel_for(definition.timeout),
            memory: definition.memory,
            plugin: definition.plugin.clone(),
            plugin_version: definition.plugin_version.clone(),
            plugin_digest: definition.plugin_digest.clone(),
        }
    }
}

/// An import of a component.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ImportRecord {
    /// `namespace:package/interface@version`.
    pub name: String,
    /// Whether calls do something, or answer with a denial.
    pub granted: bool,
}

/// A plugin.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct PluginRecord {
    /// The file's stem.
    pub name: String,
    /// `loaded` or `failed`. A loaded one may still have an `error`: a newer file that was refused.
    #[schema(example = "loaded")]
    pub state: &'static str,
    /// `sha256:…` of the version that runs.
    pub digest: Option<String>,
    /// The version that it says it has.
    pub version: Option<String>,
    /// For people.
    pub description: Option<String>,
    /// Bytes of the component.
    pub size: u64,
    /// What it asks of the host.
    pub imports: Vec<ImportRecord>,
    /// What the operator's manifest grants, one sentence each.
    pub grants: Vec<String>,
    /// Names of its task definitions.
    pub tasks: Vec<String>,
    /// Why the file that is there now was refused.
    pub error: Option<String>,
    /// When the running version was loaded.
    pub loaded_at: Option<DateTime<Utc>>,
    /// Seconds of compiling; null where compiled code was at hand.
    pub compile_time: Option<f64>,
}

impl From<&Plugin> for PluginRecord {
    fn from(plugin: &Plugin) -> Self {
        let imports = plugin.imports.iter().map(|import| ImportRecord {
            name: import.name.clone(),
            granted: import.granted,
        });
        Self {
            name: plugin.name.clone(),
            state: match plugin.state {
                PluginState::Loaded => "loaded",
                PluginState::Failed => "failed",
            },
            digest: plugin.digest.clone(),
            version: plugin.version.clone(),
            description: plugin.description.clone(),
            size: plugin.size,
            imports: imports.collect(),
            grants: plugin.grants.clone(),
            tasks: plugin.tasks.clone(),
            error: plugin.error.clone(),
            loaded_at: plugin.loaded_at,
            compile_time: plugin.compile_time.map(|time| time.as_secs_f64()),
        }
    }
}

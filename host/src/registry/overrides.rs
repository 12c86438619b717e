//! The operator's word on one task, `[tasks.<name>]` of a manifest: what it sets wins over what the plugin says, within the limits.

use crate::model::definition::Definition;
use crate::model::priority::Priority;
use crate::model::retry::RetryPolicy;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::time::Duration;
use toml::Value;

/// Tasks that one manifest may speak of: no plugin has more.
const MAX_TASKS: usize = 256;

/// What is said of each task, by name.
pub(super) type Overrides = BTreeMap<String, Override>;

/// What is said of one task.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Override {
    timeout: Option<f64>,
    priority: Option<i64>,
    retry: Retry,
    max_concurrency: Option<Value>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Retry {
    max_retries: Option<u32>,
    initial_delay: Option<f64>,
    backoff_factor: Option<f64>,
    max_delay: Option<f64>,
    jitter: Option<f64>,
    retry_on: Option<Vec<String>>,
}

/// Says what can hold for no plugin.
pub(super) fn check(overrides: &Overrides) -> Result<(), String> {
    if overrides.len() > MAX_TASKS {
        return Err(format!("tasks may name {MAX_TASKS} tasks; it names {}", overrides.len()));
    }
    for (name, word) in overrides {
        let of_task = |why: String| format!("tasks.{name}.{why}");
        if word.max_concurrency.is_some() {
            return Err(of_task(
                "max_concurrency comes in a later version of Taskhost; remove it".to_owned(),
            ));
        }
        word.timeout().map_err(of_task)?;
        word.priority().map_err(of_task)?;
        word.retry(&RetryPolicy::default()).check().map_err(of_task)?;
    }
    Ok(())
}

/// Lets them win over what the plugin says. The error is a sentence.
pub(super) fn apply<'a>(overrides: &Overrides, definitions: impl Iterator<Item = &'a mut Definition>) -> Result<(), String> {
    let mut left: BTreeMap<&String, &Override> = overrides.iter().collect();
    for definition in definitions {
        if let Some(word) = left.remove(&definition.name) {
            word.apply(definition)?;
        }
    }
    match left.keys().next() {
        Some(name) => Err(format!("tasks.{name} speaks of a task that the plugin does not handle; remove it")),
        None => Ok(()),
    }
}

impl Override {
    fn timeout(&self) -> Result<Option<Duration>, String> {
        match self.timeout.map(Duration::try_from_secs_f64) {
            None => Ok(None),
            Some(Ok(timeout)) if !timeout.is_zero() => Ok(Some(timeout)),
            Some(_) => Err("timeout must be seconds, more than 0".to_owned()),
        }
    }

    fn priority(&self) -> Result<Option<Priority>, String> {
        let read = |value| Priority::new(value).ok_or_else(|| format!("priority is {value}; it must be 1 to 9"));
        self.priority.map(read).transpose()
    }

    fn retry(&self, said: &RetryPolicy) -> RetryPolicy {
        let retry = self.retry.clone();
        RetryPolicy {
            max_retries: retry.max_retries.unwrap_or(said.max_retries),
            initial_delay: retry.initial_delay.unwrap_or(said.initial_delay),
            backoff_factor: retry.backoff_factor.unwrap_or(said.backoff_factor),
            max_delay: retry.max_delay.unwrap_or(said.max_delay),
            jitter: retry.jitter.unwrap_or(said.jitter),
            retry_on: retry.retry_on.unwrap_or_else(|| said.retry_on.clone()),
        }
    }

    fn apply(&self, definition: &mut Definition) -> Result<(), String> {
        if let Some(timeout) = self.timeout()? {
            definition.timeout = timeout.min(definition.max_timeout);
        }
        if let Some(priority) = self.priority()? {
            definition.priority = priority;
        }
        definition.retry = self.retry(&definition.retry);
        Ok(())
    }
}

//! The operator's word on one task: what it sets wins over what the plugin says, within the limits. It comes by a manifest
//! (`[tasks.<name>]`) and by the API, which goes before the manifest.

use crate::model::definition::{Definition, max_concurrency};
use crate::model::patch::merge_patch;
use crate::model::priority::Priority;
use crate::model::request::{Given, Input, Refusal, RefusalKind, check_once, parse};
use crate::model::retry::RetryPolicy;
use crate::model::schedule::text;
use serde::{Deserialize, Serialize};
use std::time::Duration;
use utoipa::ToSchema;

/// What is said of one task.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Override {
    /// Seconds of an attempt where the submission names none.
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout: Option<f64>,
    /// 1 (most urgent) to 9.
    #[serde(skip_serializing_if = "Option::is_none")]
    priority: Option<i64>,
    /// When failed attempts are repeated.
    #[serde(skip_serializing_if = "Retry::is_empty")]
    retry: Retry,
    /// Attempts that may run at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    max_concurrency: Option<i64>,
}

impl Input for Override {}

/// What is said of the retries of one task.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Retry {
    #[serde(skip_serializing_if = "Option::is_none")]
    max_retries: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    initial_delay: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    backoff_factor: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_delay: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    jitter: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_on: Option<Vec<String>>,
}

impl Retry {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Override {
    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Says what can hold for no plugin: where, as the path of a member, and why.
    pub fn check(&self) -> Result<(), String> {
        self.timeout()?;
        self.priority()?;
        self.max_concurrency()?;
        self.retry(&RetryPolicy::default()).check()
    }

    /// What it comes to with a change over it, member by member (RFC 7396).
    pub fn patched(&self, patch: &Given) -> Result<Self, Refusal> {
        patch.0.iter().try_for_each(|(name, value)| check_once(name, value.get()))?;
        let word = serde_json::to_string(self).unwrap_or_default();
        let word: Self = parse(merge_patch(&word, &text(&patch.0)).as_bytes())?;
        word.check().map_err(|why| {
            // A manifest is told the member with the reason; here the pointer says it.
            let (member, why) = why.split_once(' ').unwrap_or(("", &why));
            Refusal::new(RefusalKind::Value, format!("/{}", member.replace('.', "/")), why)
        })?;
        Ok(word)
    }

    /// Says what the definition's limits do not allow: it would hold only up to them.
    pub fn check_within(&self, definition: &Definition) -> Result<(), Refusal> {
        let max = definition.max_timeout;
        match self.timeout().ok().flatten() {
            Some(timeout) if timeout > max => {
                let sentence = format!(
                    "must be at most {} s, which is what the limits of plugin {} allow",
                    max.as_secs_f64(),
                    definition.plugin
                );
                Err(Refusal::new(RefusalKind::Value, "/timeout", sentence))
            }
            _ => Ok(()),
        }
    }

    fn max_concurrency(&self) -> Result<Option<u32>, String> {
        self.max_concurrency.map(max_concurrency).transpose()
    }

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

    /// Lets it win over what was said. The error is a sentence.
    pub fn apply(&self, definition: &mut Definition) -> Result<(), String> {
        if let Some(timeout) = self.timeout()? {
            definition.timeout = timeout.min(definition.max_timeout);
        }
        if let Some(priority) = self.priority()? {
            definition.priority = priority;
        }
        if let Some(max) = self.max_concurrency()? {
            definition.max_concurrency = Some(max);
        }
        definition.retry = self.retry(&definition.retry);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_out_of_range_is_said() {
        for (text, word) in [
            (json!({"timeout": 0}), "timeout"),
            (json!({"priority": 10}), "priority"),
            (json!({"max_concurrency": 0}), "max_concurrency"),
            (json!({"retry": {"max_retries": 5000}}), "retry.max_retries"),
        ] {
            let word_of: Override = serde_json::from_value(text).unwrap();
            assert!(word_of.check().unwrap_err().starts_with(word));
        }
    }
}

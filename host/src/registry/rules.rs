//! Schedules and triggers that come with a plugin, `[[schedules]]` and `[[triggers]]` of its manifest: put by their names each time it
//! is loaded, as a service does that registers its own at every start. They stay when the file goes: somebody may have changed them.

use super::snapshot::{Handler, Snapshot};
use crate::model::Time;
use crate::model::attempt::InputError;
use crate::model::request::{CronTaskRequest, EventTriggerRequest, Input, Refusal, RefusalKind, parse};
use crate::model::schedule::timing::Timing;
use crate::model::trigger::Trigger;
use crate::store::{Change, Schemas, Store, StoreError, change_schedule};
use async_trait::async_trait;
use serde::Deserialize;
use std::collections::HashSet;
use std::sync::Arc;
use toml::{Spanned, Value};

/// Schedules of one manifest, and as many triggers.
const MAX_RULES: usize = 100;

/// As they stand in the manifest.
#[derive(Debug, Default, Deserialize)]
#[serde(transparent)]
pub(super) struct Entries(Vec<Spanned<Value>>);

/// What is put when the plugin is loaded.
#[derive(Debug, Default)]
pub(super) struct Rules {
    schedules: Vec<CronTaskRequest>,
    triggers: Vec<EventTriggerRequest>,
}

/// Why a manifest's rules are refused, and where.
#[derive(Debug)]
pub(super) struct Fault {
    /// The byte of the text that it begins at.
    pub at: usize,
    pub sentence: String,
}

/// What tasks take once a version is live, by its handlers and those of others.
pub(super) struct Upcoming<'a> {
    pub handlers: &'a [Arc<Handler>],
    pub others: Arc<Snapshot>,
}

#[async_trait]
impl Schemas for Upcoming<'_> {
    async fn misfits(&self, task_name: &str, payload: serde_json::Value) -> Vec<InputError> {
        match self.handlers.iter().find(|handler| handler.definition.name == task_name) {
            Some(handler) => handler.errors(payload).await,
            None => self.others.misfits(task_name, payload).await,
        }
    }
}

impl Rules {
    pub(super) fn read(schedules: &Entries, triggers: &Entries) -> Result<Self, Fault> {
        let read = Self {
            schedules: all("schedules", schedules, |request: &CronTaskRequest| {
                Timing::of(request).check()?;
                Ok(request.name.clone())
            })?,
            triggers: all("triggers", triggers, |request: &EventTriggerRequest| Ok(request.name.clone()))?,
        };
        Ok(read)
    }

    /// Why one of them could not run by these handlers, as far as that shows in a moment. What another plugin handles is not looked at.
    pub(super) fn misfit(&self, handlers: &[Arc<Handler>]) -> Option<String> {
        self.schedules.iter().enumerate().find_map(|(index, request)| {
            let handler = handlers.iter().find(|handler| handler.definition.name == request.task_name)?;
            let error = handler.check_quickly(&request.payload.value)?.into_iter().next()?;
            let pointer = error.pointer.replace('/', ".");
            Some(format!("schedules[{index}].payload{pointer}: {}", error.detail))
        })
    }

    /// Creates or updates them.
    pub(super) async fn put(&self, store: &dyn Store, schemas: &dyn Schemas, now: Time) -> Result<(), StoreError> {
        for request in &self.schedules {
            let name = request.name.as_deref().unwrap_or_default();
            if let Err(error) = change_schedule(store, schemas, &Change::Put { name, request }, now).await {
                // What is wrong with its members was found when the manifest was read: this one has no fire left, or lacks its calendar.
                let refusal = error.refusal()?;
                tracing::warn!(schedule = name, %refusal, "a schedule of a manifest is passed over");
            }
        }
        for request in &self.triggers {
            let trigger = Trigger::declare(request, request.name.clone().unwrap_or_default(), now);
            match store.put_trigger(trigger).await {
                Err(StoreError::Conflict(sentence)) => {
                    tracing::warn!(trigger = request.name, "a trigger of a manifest is passed over: {sentence}");
                }
                put => drop(put?),
            }
        }
        Ok(())
    }
}

/// Reads each entry; `check` says what is wrong with one that could be read, and what its name is.
fn all<T: Input>(key: &str, entries: &Entries, check: impl Fn(&T) -> Result<Option<String>, Refusal>) -> Result<Vec<T>, Fault> {
    let (mut read, mut names) = (Vec::new(), HashSet::new());
    for (index, entry) in entries.0.iter().enumerate() {
        let fault = |refusal: Refusal| Fault {
            at: entry.span().start,
            sentence: format!("{key}[{index}]{}: {}", refusal.pointer.replace('/', "."), refusal.sentence),
        };
        let refuse = |pointer: &str, sentence: &str| fault(Refusal::new(RefusalKind::Value, pointer, sentence));
        if index == MAX_RULES {
            return Err(refuse("", &format!("a manifest may have {MAX_RULES} of them")));
        }
        let json = json(entry.get_ref()).ok_or_else(|| refuse("", "a number in it is not finite"))?;
        let request: T = parse(json.to_string().as_bytes()).map_err(fault)?;
        let name = check(&request).map_err(fault)?;
        let name = name.ok_or_else(|| {
            refuse(
                "/name",
                "must be there: the rule is updated under it when the plugin is loaded again",
            )
        })?;
        if !names.insert(name) {
            return Err(refuse("/name", "another entry has it too"));
        }
        read.push(request);
    }
    Ok(read)
}

/// The same value in JSON; a date or time as text. `None` where a number has no form there.
fn json(value: &Value) -> Option<serde_json::Value> {
    Some(match value {
        Value::String(text) => text.as_str().into(),
        Value::Integer(number) => (*number).into(),
        Value::Float(number) => serde_json::Number::from_f64(*number)?.into(),
        Value::Boolean(word) => (*word).into(),
        Value::Datetime(time) => time.to_string().into(),
        Value::Array(items) => items.iter().map(json).collect::<Option<_>>()?,
        Value::Table(members) => {
            let members = members.iter().map(|(name, value)| Some((name.clone(), json(value)?)));
            serde_json::Value::Object(members.collect::<Option<_>>()?)
        }
    })
}

//! The operator's word on the tasks of one plugin, `[tasks.<name>]` of its manifest.

use crate::model::definition::Definition;
use crate::model::overrides::Override;
use std::collections::BTreeMap;

/// Tasks that one manifest may speak of: no plugin has more.
const MAX_TASKS: usize = 256;

/// What is said of each task, by name.
pub(super) type Overrides = BTreeMap<String, Override>;

/// Says what can hold for no plugin.
pub(super) fn check(overrides: &Overrides) -> Result<(), String> {
    if overrides.len() > MAX_TASKS {
        return Err(format!("tasks may name {MAX_TASKS} tasks; it names {}", overrides.len()));
    }
    for (name, word) in overrides {
        let of_task = |why: String| format!("tasks.{name}.{why}");
        word.check().map_err(of_task)?;
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

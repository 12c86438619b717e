//! The configuration: one table a room, from a file, then `TASKHOST_…` variables, then flags.
//!
//! Every room states its own `Options`; nobody reads the configuration from afar. Unknown keys are errors, so that a
//! misspelt limit is not a missing one.

use crate::{api, executor, monitor, registry, store, worker};
use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use toml::{Table, Value};

/// The file that is read where none is named.
pub const DEFAULT_FILE: &str = "taskhost.toml";

/// Everything that an operator can set.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The HTTP door.
    pub server: api::Options,
    /// Where state lives.
    pub store: store::Options,
    /// Where plugins come from.
    pub plugins: registry::Options,
    /// The sandbox.
    pub executor: executor::Options,
    /// The pool of slots.
    pub worker: worker::Options,
    /// How long history is kept.
    pub monitor: monitor::retention::Options,
}

const TABLES: [(&str, &[(&str, &str)]); 6] = [
    ("server", api::Options::COMMENTS),
    ("store", store::Options::COMMENTS),
    ("plugins", registry::Options::COMMENTS),
    ("executor", executor::Options::COMMENTS),
    ("worker", worker::Options::COMMENTS),
    ("monitor", monitor::retention::Options::COMMENTS),
];

/// Where the layers come from.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// `--config`.
    pub file: Option<PathBuf>,
    /// Environment variables.
    pub variables: Vec<(String, String)>,
    /// Flags: table, key and value.
    pub flags: Vec<(&'static str, &'static str, Value)>,
}

/// The outcome, and the file that took part in it.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What holds.
    pub config: Config,
    /// The configuration file, where there is one.
    pub file: Option<PathBuf>,
}

/// Reads all layers.
pub fn load(sources: Sources) -> anyhow::Result<Loaded> {
    let file = match sources.file {
        Some(file) => Some(file),
        None => Some(PathBuf::from(DEFAULT_FILE)).filter(|file| file.exists()),
    };
    let mut table = match &file {
        Some(file) => read_file(file)?,
        None => Table::new(),
    };
    for (name, value) in &sources.variables {
        if let Some((room, key)) = room_of(name)? {
            set(&mut table, room, &key, variable_value(value))?;
        }
    }
    for (room, key, value) in sources.flags {
        set(&mut table, room, key, value)?;
    }
    let config: Config = table.try_into().context("the configuration is not valid")?;
    config.check().map_err(anyhow::Error::msg)?;
    Ok(Loaded { config, file })
}

impl Config {
    fn check(&self) -> Result<(), String> {
        self.server.check()?;
        self.plugins.check()?;
        self.executor.check()?;
        self.worker.check()?;
        self.monitor.check()
    }

    /// The configuration as a file, each key with what it means.
    pub fn to_commented_toml(&self) -> anyhow::Result<String> {
        let table = Table::try_from(self)?;
        let mut text = String::new();
        for (room, comments) in TABLES {
            text.push_str(&format!("[{room}]\n"));
            let Some(Value::Table(keys)) = table.get(room) else { continue };
            for (key, value) in keys {
                if let Some((_, comment)) = comments.iter().find(|(known, _)| known == key) {
                    text.push_str(&format!("# {comment}\n"));
                }
                text.push_str(&format!("{key} = {value}\n"));
            }
            text.push('\n');
        }
        Ok(text)
    }
}

fn read_file(file: &Path) -> anyhow::Result<Table> {
    let text = std::fs::read_to_string(file).with_context(|| format!("the configuration file {} cannot be read", file.display()))?;
    let mut table: Table = text
        .parse()
        .with_context(|| format!("the configuration file {} is not valid TOML", file.display()))?;
    // What a file names lies beside it, wherever the process was started.
    let folder = file.parent().unwrap_or(Path::new(""));
    if let Some(data) = table.get_mut("store").and_then(|store| store.get_mut("data")) {
        beside(folder, data);
    }
    let dirs = table
        .get_mut("plugins")
        .and_then(|plugins| plugins.get_mut("dirs"))
        .and_then(Value::as_array_mut);
    for dir in dirs.into_iter().flatten() {
        beside(folder, dir);
    }
    Ok(table)
}

fn beside(folder: &Path, value: &mut Value) {
    if let Value::String(path) = value {
        *path = folder.join(&path).to_string_lossy().into_owned();
    }
}

/// `TASKHOST_WORKER_SLOTS` is `slots` of `[worker]`. Variables that begin so and name no table are left alone, and so are those that
/// container platforms set for a service of the name `taskhost-worker` and its like.
fn room_of(variable: &str) -> anyhow::Result<Option<(&'static str, String)>> {
    const LATER: [&str; 3] = ["TASKHOST_ADMIN_TOKEN", "TASKHOST_STORE", "TASKHOST_STORE_URL"];
    if LATER.contains(&variable) {
        bail!("{variable} is set, and this version knows neither tokens nor other stores than SQLite: unset it");
    }
    let Some(rest) = variable.strip_prefix("TASKHOST_").map(str::to_ascii_lowercase) else {
        return Ok(None);
    };
    let found = TABLES
        .iter()
        .find_map(|(room, comments)| Some((*room, *comments, rest.strip_prefix(room)?.strip_prefix('_')?)));
    match found {
        None => Ok(None),
        Some((room, comments, key)) if comments.iter().any(|(known, _)| *known == key) => Ok(Some((room, key.to_owned()))),
        Some((_, _, key)) if key.starts_with("service_") || key == "port" || key.starts_with("port_") => Ok(None),
        Some((room, comments, key)) => {
            let keys: Vec<&str> = comments.iter().map(|(known, _)| *known).collect();
            bail!("{variable} is set, and [{room}] has no key {key:?}; it has {}", keys.join(", "))
        }
    }
}

/// A variable's text is TOML where it can be (`8`, `["a", "b"]`) and a string otherwise.
fn variable_value(text: &str) -> Value {
    let parsed: Option<Table> = format!("value = {text}").parse().ok();
    parsed
        .and_then(|mut table| table.remove("value"))
        .unwrap_or_else(|| Value::String(text.to_owned()))
}

fn set(table: &mut Table, room: &str, key: &str, value: Value) -> anyhow::Result<()> {
    let entry = table.entry(room).or_insert_with(|| Value::Table(Table::new()));
    match entry {
        Value::Table(keys) => {
            keys.insert(key.to_owned(), value);
            Ok(())
        }
        _ => bail!("{room} must be a table in the configuration file"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(toml: &str, variables: &[(&str, &str)], flags: Vec<(&'static str, &'static str, Value)>) -> anyhow::Result<Config> {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("taskhost.toml");
        std::fs::write(&file, toml)?;
        let variables = variables.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Ok(load(Sources {
            file: Some(file),
            variables,
            flags,
        })?
        .config)
    }

    #[test]
    fn flags_win_over_variables_and_these_over_the_file() {
        let toml = "[worker]\nslots = 3\ncancel_grace = 1.5\n";
        assert_eq!(from(toml, &[], vec![]).unwrap().worker.slots, 3);
        let variables = [("TASKHOST_WORKER_SLOTS", "4"), ("TASKHOST_PORT", "tcp://10.0.0.1")];
        assert_eq!(from(toml, &variables, vec![]).unwrap().worker.slots, 4);
        let config = from(toml, &variables, vec![("worker", "slots", Value::Integer(5))]).unwrap();
        assert_eq!((config.worker.slots, config.worker.cancel_grace), (5, 1.5));
        let platform = [
            ("TASKHOST_SERVER_PORT", "tcp://10.0.0.1"),
            ("TASKHOST_WORKER_SERVICE_HOST", "10.0.0.1"),
            ("TASKHOST_URL", "x"),
        ];
        assert_eq!(from("", &platform, vec![]).unwrap().worker.slots, 128);
    }

    #[test]
    fn a_variable_that_is_not_honoured_is_refused() {
        for (name, word) in [
            ("TASKHOST_WORKER_SLOT", "slots"),
            ("TASKHOST_ADMIN_TOKEN", "tokens"),
            ("TASKHOST_STORE", "SQLite"),
            ("TASKHOST_WORKER_SLOTS", "slots"),
        ] {
            let error = format!("{:#}", from("", &[(name, "many")], vec![]).expect_err(name));
            assert!(error.contains(word), "{name}: {error}");
        }
    }

    #[test]
    fn what_is_unknown_or_out_of_range_is_named() {
        for (toml, word) in [
            ("[worker]\nslot = 3", "slot"),
            ("[werker]", "werker"),
            ("[worker]\nslots = 0", "worker.slots"),
            ("[worker]\nslots = \"many\"", "slots"),
            ("[worker]\nshutdown_grace = -1", "shutdown_grace"),
            ("[executor]\nmax_memory = \"8GiB\"", "max_memory"),
            ("worker = 1", "worker"),
            ("[", "TOML"),
        ] {
            let error = format!("{:#}", from(toml, &[], vec![]).expect_err(toml));
            assert!(error.contains(word), "{toml}: {error}");
        }
    }

    #[test]
    fn the_printed_configuration_explains_each_key_and_can_be_read_back() {
        let text = Config::default().to_commented_toml().unwrap();
        for (number, line) in text
            .lines()
            .enumerate()
            .filter(|(_, line)| line.contains(" = ") && !line.starts_with('#'))
        {
            assert!(text.lines().nth(number - 1).unwrap().starts_with("# "), "no comment above {line:?}");
        }
        let again: Config = toml::from_str(&text).unwrap();
        assert_eq!(again.to_commented_toml().unwrap(), text);
    }
}

//! `plugin`: checks and tries a component here, deploys it there.

use super::client::{Client, complaints, segment};
use super::list::{Page, done, show};
use super::serve::variables;
use super::table::{self, As, Column};
use super::task::log_line;
use super::{Failure, Options, json, print, print_raw, tell};
use crate::app::LocalRun;
use crate::config::Sources;
use clap::Subcommand;
use serde_json::Value;
use std::path::{Path, PathBuf};

const CHECK_EXAMPLES: &str = "Examples:
  taskhost plugin check plugins/backtest.wasm

Exit code 1 says that a host would refuse it. A manifest beside the file (backtest.toml) takes part, and so does the host's
configuration.";

const RUN_EXAMPLES: &str = "Examples:
  taskhost plugin run plugins/backtest.wasm backtest --payload @samples/backtest-sp500.json
  echo '{\"value\": 1}' | taskhost plugin run probe.wasm echo --payload -";

const PUSH_EXAMPLES: &str = "Examples:
  taskhost plugin push target/wasm32-wasip2/release/backtest.wasm
  taskhost plugin push backtest-2.wasm --name backtest";

/// What `plugin` understands.
#[derive(Debug, Subcommand)]
pub(super) enum Plugin {
    /// Check a component as a host would, without one.
    #[command(after_help = CHECK_EXAMPLES)]
    Check {
        /// The component.
        file: PathBuf,
        /// The host's configuration file [default: taskhost.toml, where there is one].
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Run one task of a component without a host, within production limits.
    #[command(after_help = RUN_EXAMPLES)]
    Run {
        /// The component.
        file: PathBuf,
        /// The task's name.
        task: String,
        /// Its input, a JSON object.
        #[arg(long, value_name = "JSON|@FILE|-", allow_hyphen_values = true)]
        payload: Option<String>,
        /// The host's configuration file [default: taskhost.toml, where there is one].
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// List the host's plugins.
    List(Page),
    /// Upload a component; tasks that run finish on the version they began with.
    #[command(after_help = PUSH_EXAMPLES)]
    Push {
        /// The component.
        file: PathBuf,
        /// The plugin's name [default: the file's, without its extension].
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
    },
    /// Remove a plugin.
    Remove {
        /// Its name.
        name: String,
    },
    /// Look at the plugin folders again.
    Reload,
}

const PLUGINS: &[Column] = &[
    ("NAME", &["name"], As::Text(40)),
    ("STATE", &["state"], As::State),
    ("VERSION", &["version"], As::Text(20)),
    ("SIZE", &["size"], As::Bytes),
    ("DIGEST", &["digest"], As::Digest),
    ("LOADED", &["loaded_at"], As::Time),
    ("TASKS", &["tasks"], As::Text(50)),
    ("ERROR", &["error"], As::Text(80)),
];

impl Plugin {
    pub(super) fn run(self, options: &Options) -> Result<(), Failure> {
        match self {
            Self::Check { file, config } => check(&file, config, options.json),
            Self::Run {
                file,
                task,
                payload,
                config,
            } => try_out(&file, &task, payload.as_ref(), config, options.json),
            Self::List(page) => {
                let (client, limit) = (Client::new(options)?, page.limit());
                let query = [("limit", limit.as_deref()), ("cursor", page.cursor())];
                show(&client, &client.get("/plugins", &query)?, PLUGINS, "no plugin")
            }
            Self::Push { file, name } => push(&Client::new(options)?, &file, name),
            Self::Remove { name } => {
                let client = Client::new(options)?;
                done(
                    &client,
                    &client.delete(&format!("/plugin/{}", segment(&name)), &[])?,
                    "removed",
                    &name,
                )
            }
            Self::Reload => {
                let client = Client::new(options)?;
                show(&client, &client.post("/plugins/reload", "{}")?, PLUGINS, "no plugin")
            }
        }
    }
}

/// What a host started here with this file would go by.
fn sources(file: Option<PathBuf>) -> Sources {
    Sources {
        file,
        variables: variables(),
        flags: Vec::new(),
    }
}

fn there(file: &Path) -> Result<(), Failure> {
    if file.is_file() {
        Ok(())
    } else {
        Err(Failure::Usage(format!("there is no file {}", file.display())))
    }
}

fn check(file: &Path, config: Option<PathBuf>, json: bool) -> Result<(), Failure> {
    there(file)?;
    let plugin = crate::app::check_plugin(file, sources(config))?;
    if json {
        return print(&plugin.to_string());
    }
    describe(plugin.to_string().as_bytes())
}

/// Prints what a plugin is, with each import granted or denied.
fn describe(plugin: &[u8]) -> Result<(), Failure> {
    table::record(
        plugin,
        &["name", "state", "version", "description", "digest", "size", "tasks", "grants"],
        &["imports"],
    )?;
    let plugin: Value = serde_json::from_slice(plugin).map_err(anyhow::Error::from)?;
    for import in plugin["imports"].as_array().into_iter().flatten() {
        let verdict = if import["granted"] == true { "granted" } else { "denied " };
        print(&format!("{verdict}  {}", table::shown(As::Text(200), &import["name"])))?;
    }
    Ok(())
}

fn try_out(file: &Path, task: &str, payload: Option<&String>, config: Option<PathBuf>, json: bool) -> Result<(), Failure> {
    there(file)?;
    let payload = json::optional_object("--payload", payload)?.map_or_else(|| "{}".to_owned(), |payload| payload.get().to_owned());
    let run = crate::app::run_plugin(file, task, payload, sources(config))?;
    if json {
        let text = serde_json::to_string(&run).map_err(anyhow::Error::from)?;
        print(&text)?;
    } else {
        for line in &run.log {
            tell(&log_line(line));
        }
        for sent in &run.emitted {
            tell(&format!("emitted {}", table::plain(&sent.to_string())));
        }
        for sent in &run.submitted {
            tell(&format!("submitted {}", table::plain(&sent.to_string())));
        }
        tell(&summary(&run));
    }
    if run.outcome != "ok" {
        let error = run
            .error
            .as_deref()
            .map(|error| format!(": {}", table::plain(error)))
            .unwrap_or_default();
        tell(&format!("error: {task} ended with {}{error}", run.outcome));
        for complaint in run.error_details.iter().flat_map(|details| complaints(&details["errors"])) {
            tell(&format!("  {}", table::plain(&complaint)));
        }
        return Err(Failure::Told);
    }
    if json {
        return Ok(());
    }
    print(&json::pretty(run.result.as_ref().map_or("null", |result| result.get())))
}

/// `ok in 12 ms, 1234567 fuel, 1.2 MiB at most`.
fn summary(run: &LocalRun) -> String {
    let mut text = format!("{} in {}", run.outcome, table::seconds(run.execution_time));
    if let Some(fuel) = run.fuel_used {
        text.push_str(&format!(", {fuel} fuel"));
    }
    if let Some(memory) = run.peak_memory_bytes {
        text.push_str(&format!(", {} at most", table::bytes(memory)));
    }
    text
}

fn push(client: &Client, file: &Path, name: Option<String>) -> Result<(), Failure> {
    let stem = || file.file_stem().and_then(|stem| stem.to_str()).map(str::to_owned);
    let name = name
        .or_else(stem)
        .ok_or_else(|| Failure::Usage(format!("{} names no plugin; give --name", file.display())))?;
    let bytes = std::fs::read(file).map_err(|error| Failure::Usage(format!("{} cannot be read: {error}", file.display())))?;
    let answer = client.put(&format!("/plugin/{}", segment(&name)), "application/wasm", &bytes)?;
    if client.json {
        print_raw(&answer.bytes)
    } else {
        describe(&answer.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_summed_up_in_one_line() {
        let mut run = LocalRun {
            outcome: "ok".into(),
            error: None,
            error_details: None,
            result: None,
            log: Vec::new(),
            emitted: Vec::new(),
            submitted: Vec::new(),
            fuel_used: Some(1_234),
            peak_memory_bytes: Some(1 << 20),
            execution_time: 0.5,
        };
        assert_eq!(summary(&run), "ok in 500 ms, 1234 fuel, 1.0 MiB at most");
        (run.fuel_used, run.peak_memory_bytes) = (None, None);
        assert_eq!(summary(&run), "ok in 500 ms");
    }
}

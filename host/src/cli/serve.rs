//! `serve` and `dev`: flags on their way into the configuration.

use super::{Failure, print};
use crate::config::Sources;
use clap::Args;
use std::path::PathBuf;
use toml::Value;

const EXAMPLES: &str = "Examples:
  taskhost serve
  taskhost serve --listen 127.0.0.1:9000 --data /var/lib/taskhost --plugins /opt/plugins
  taskhost serve --print-config > taskhost.toml

A file (taskhost.toml), then TASKHOST_… variables, then flags say what holds.";

/// What `serve` and `dev` understand.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Flags {
    /// The configuration file [default: taskhost.toml, where there is one].
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where to listen [default: 127.0.0.1:8080].
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,
    /// The folder for the database and all other private files [default: data].
    #[arg(long, value_name = "DIR")]
    data: Option<String>,
    /// A folder with plugins; may be given again [default: plugins].
    #[arg(long, value_name = "DIR")]
    plugins: Vec<String>,
    /// How many attempts run at once.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(1..=10_000))]
    slots: Option<i64>,
    /// Another store; comes in a later version.
    #[arg(long, value_name = "URL", hide = true, value_parser = no_store)]
    store: Option<String>,
    /// Print the configuration that would hold, with comments, and end.
    #[arg(long)]
    print_config: bool,
}

fn no_store(_: &str) -> Result<String, &'static str> {
    Err("PostgreSQL comes in a later version; leave --store out, SQLite in the data directory is used")
}

/// Environment variables; what is not UTF-8 is no setting of ours.
pub(super) fn variables() -> Vec<(String, String)> {
    let all = std::env::vars_os();
    all.filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

impl Flags {
    pub(super) fn run(self, dev: bool) -> Result<(), Failure> {
        let print_config = self.print_config;
        let sources = self.sources(variables());
        if print_config {
            return print(&crate::app::print_config(sources)?);
        }
        Ok(crate::app::serve(sources, dev)?)
    }

    fn sources(self, variables: Vec<(String, String)>) -> Sources {
        let plugins = (!self.plugins.is_empty()).then(|| Value::Array(self.plugins.into_iter().map(Value::String).collect()));
        let flags = [
            ("server", "listen", self.listen.map(Value::String)),
            ("store", "data", self.data.map(Value::String)),
            ("plugins", "dirs", plugins),
            ("worker", "slots", self.slots.map(Value::Integer)),
        ];
        let given = flags.into_iter().filter_map(|(table, key, value)| Some((table, key, value?)));
        Sources {
            file: self.config,
            variables,
            flags: given.collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        flags: Flags,
    }

    #[test]
    fn only_flags_that_were_given_override() {
        let sources = |line: &str| Line::parse_from(line.split_whitespace()).flags.sources(Vec::new());
        assert!(sources("serve").flags.is_empty());
        let given = sources("serve --config c.toml --plugins a --plugins b --slots 4");
        assert_eq!(given.file, Some("c.toml".into()));
        let dirs = Value::Array(vec!["a".into(), "b".into()]);
        assert_eq!(given.flags, [("plugins", "dirs", dirs), ("worker", "slots", Value::Integer(4))]);
    }
}

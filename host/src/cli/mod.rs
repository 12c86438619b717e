//! The commands: what a person types, and what they see.
//!
//! One file a group. Client commands speak to a host over HTTP alone and know nothing of its rooms; only `serve`, `plugin
//! check`, `plugin run` and `openapi` work in this process, and these ask `app`. Results go to stdout, everything else to
//! stderr, so that a script reads one and a person both.

mod alerts;
mod answer;
mod batch;
mod calendar;
mod client;
mod json;
mod list;
mod plugin;
mod queue;
mod retention;
mod rules;
mod schedule;
mod serve;
mod submit;
mod table;
mod task;
mod workflow;

use clap::{Args, Parser, Subcommand};
use client::Client;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

const EXAMPLES: &str = "Examples:
  taskhost serve
  taskhost submit backtest --payload @backtest.json --wait
  taskhost task list --status failed
  taskhost schedule add --task settlement --cron '30 17 * * 1-5'

Exit codes: 0 done, 1 the task or request failed, 2 wrong usage.";

/// A durable task scheduler whose handlers are WebAssembly components.
#[derive(Debug, Parser)]
#[command(name = "taskhost", version, arg_required_else_help = true, after_help = EXAMPLES)]
struct Cli {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    command: Command,
}

/// What all client commands understand.
#[derive(Debug, Args)]
#[command(next_help_heading = "Client options")]
struct Options {
    /// Where the host is.
    #[arg(long, global = true, env = "TASKHOST_URL", default_value = client::DEFAULT_URL, value_name = "URL")]
    url: String,
    /// The token to show it.
    #[arg(long, global = true, env = "TASKHOST_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    token: Option<String>,
    /// Print exactly what the API answered.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a host.
    Serve(serve::Flags),
    /// Run a host that also builds plugin crates when their source changes.
    Dev(serve::Flags),
    /// Submit a task.
    Submit(submit::Submit),
    /// Submit many tasks at once.
    #[command(subcommand)]
    Batch(batch::Batch),
    /// Run tasks that need one another.
    #[command(subcommand)]
    Workflow(workflow::Workflow),
    /// Look at tasks, cancel and retry them.
    #[command(subcommand)]
    Task(task::Task),
    /// Run tasks at certain times.
    #[command(subcommand)]
    Schedule(schedule::Schedule),
    /// Run tasks when something happens.
    #[command(subcommand)]
    Trigger(rules::Trigger),
    /// Say that something happened.
    #[command(subcommand)]
    Event(rules::Event),
    /// Business calendars: sessions, holidays, half days.
    #[command(subcommand)]
    Calendar(calendar::Calendar),
    /// See what waits and runs; pause and resume.
    Queue(queue::Queue),
    /// Limit how many tasks of a kind run at once.
    #[command(subcommand)]
    Limit(queue::Limit),
    /// See what went wrong.
    #[command(subcommand)]
    Alerts(alerts::Alerts),
    /// See what is kept of what has ended, and what would be forgotten.
    Retention(retention::Retention),
    /// Check, try and deploy plugins.
    #[command(subcommand)]
    Plugin(plugin::Plugin),
    /// Print the API's description (OpenAPI 3.1).
    Openapi,
}

/// Why a command did not do what it was asked.
#[derive(Debug)]
enum Failure {
    /// Wrong usage, in one sentence.
    Usage(String),
    /// What failed, in one sentence or a few lines.
    Failed(String),
    /// No answer from the host, in one sentence.
    Unreachable(String),
    /// It failed, and that has been told.
    Told,
    /// Whoever read stdout has seen enough.
    Unread,
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::Unread,
            _ => Self::Failed(format!("the output cannot be written: {error}")),
        }
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Failed(format!("{error:#}"))
    }
}

/// Reads the command line, does what it says and returns the exit code.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Nobody may be reading; the code says it as well.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    match run(cli) {
        Ok(()) | Err(Failure::Unread) => ExitCode::SUCCESS,
        Err(Failure::Usage(text)) => complain(&text, 2),
        Err(Failure::Failed(text) | Failure::Unreachable(text)) => complain(&text, 1),
        Err(Failure::Told) => ExitCode::FAILURE,
    }
}

fn run(cli: Cli) -> Result<(), Failure> {
    let options = &cli.options;
    match cli.command {
        Command::Serve(_) | Command::Dev(_) | Command::Openapi if options.json => {
            Err(Failure::Usage("--json is for the commands that ask a host".to_owned()))
        }
        Command::Serve(flags) => flags.run(false),
        Command::Dev(flags) => flags.run(true),
        Command::Openapi => print(&crate::app::openapi()?),
        Command::Plugin(command) => command.run(options),
        Command::Submit(command) => command.run(&Client::new(options)?),
        Command::Batch(command) => command.run(&Client::new(options)?),
        Command::Workflow(command) => command.run(&Client::new(options)?),
        Command::Task(command) => command.run(&Client::new(options)?),
        Command::Schedule(command) => command.run(&Client::new(options)?),
        Command::Trigger(command) => command.run(&Client::new(options)?),
        Command::Event(command) => command.run(&Client::new(options)?),
        Command::Calendar(command) => command.run(&Client::new(options)?),
        Command::Queue(command) => command.run(&Client::new(options)?),
        Command::Limit(command) => command.run(&Client::new(options)?),
        Command::Alerts(command) => command.run(&Client::new(options)?),
        Command::Retention(command) => command.run(&Client::new(options)?),
    }
}

fn complain(text: &str, code: u8) -> ExitCode {
    tell(&format!("error: {text}"));
    ExitCode::from(code)
}

/// A line for a person, on stderr. That nobody reads it is no failure.
fn tell(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// Text on stdout, ended by a newline.
fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    if !text.ends_with('\n') {
        stdout.write_all(b"\n")?;
    }
    Ok(stdout.flush()?)
}

/// Bytes on stdout as they are; a terminal gets its newline.
fn print_raw(bytes: &[u8]) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes)?;
    if stdout.is_terminal() && !bytes.ends_with(b"\n") {
        stdout.write_all(b"\n")?;
    }
    Ok(stdout.flush()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split_whitespace())
    }

    #[test]
    fn the_commands_are_well_formed_and_each_has_its_line_of_help() {
        fn check(command: &clap::Command) {
            assert!(command.get_about().is_some(), "{} has no help", command.get_name());
            command.get_subcommands().for_each(check);
        }
        let command = Cli::command();
        command.clone().debug_assert();
        check(&command);
    }

    #[test]
    fn client_options_may_stand_before_and_after_the_command() {
        for line in [
            "taskhost --url http://h:1 --json task list",
            "taskhost task list --url http://h:1 --json",
        ] {
            let cli = parse(line).unwrap();
            assert_eq!((cli.options.url.as_str(), cli.options.json), ("http://h:1", true), "{line}");
        }
    }

    #[test]
    fn wrong_usage_is_refused_with_its_reason() {
        for (line, word) in [
            ("taskhost submit x --priority 10", "1..=9"),
            ("taskhost submit x --sweep a", "FIELD=A,B,C"),
            ("taskhost submit x --timeout -1", "greater than 0"),
            ("taskhost submit x --timeout inf", "greater than 0"),
            ("taskhost serve --store postgres://h/d", "SQLite"),
            ("taskhost serve --slots 0", "1..=10000"),
            ("taskhost task list --limit 1001", "1..=1000"),
            ("taskhost schedule add --task x", "--cron"),
            ("taskhost nonsense", "nonsense"),
        ] {
            let error = parse(line).expect_err(line);
            assert_eq!(error.exit_code(), 2);
            assert!(error.to_string().contains(word), "{line}: {error}");
        }
    }
}

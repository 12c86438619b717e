//! The binary: commands are in `cli`. A child that compiles is told apart first, before any thread is started.

use std::process::ExitCode;
use taskhost::executor::compile;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_some_and(|first| first == compile::COMMAND) {
        return compile::run_child(arguments);
    }
    taskhost::cli::main()
}

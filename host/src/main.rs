//! The binary: commands are in `cli`.

fn main() -> std::process::ExitCode {
    taskhost::cli::main()
}

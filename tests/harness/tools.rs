//! Programs of the machine that single tests need.

use std::io::Write;
use std::process::Command;

/// Whether a program works here. Says so where not, past the capture of test output; where nothing may be skipped, fails.
pub(crate) fn works(test: &str, program: &str, arguments: &[&str]) -> bool {
    let output = Command::new(program).args(arguments).output();
    if output.is_ok_and(|output| output.status.success()) {
        return true;
    }
    let why = format!("SKIPPED: {test} needs a {program} that works here (apt-get install {program})");
    assert!(std::env::var_os("NOTHING_SKIPPED").is_none(), "{why}");
    let _ = writeln!(std::io::stderr(), "{why}");
    false
}

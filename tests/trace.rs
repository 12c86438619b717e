//! An acknowledgement comes after its fsync: seen in the system calls, since a kill alone would not tell. What a killed process wrote
//! and never forced to the disk is still in the page cache.

use crate::harness::{Host, eventually, guests, taskhost, tools};
use serde_json::json;
use std::process::Command;

#[test]
fn an_acknowledgement_comes_after_its_fsync() {
    if !tools::works(
        "an_acknowledgement_comes_after_its_fsync",
        "strace",
        &["-qq", "-o", "/dev/null", "true"],
    ) {
        return;
    }
    let mut host = Host::prepare();
    host.drop_plugin("probe", &guests::probe());
    let file = host.path("trace");
    let mut strace = Command::new("strace");
    // -D: the host stays our own child, so that it can be killed like any other.
    strace.args([
        "-D",
        "-f",
        "-qq",
        "-y",
        "-s",
        "65536",
        "-e",
        "trace=pwrite64,fsync,fdatasync,write,writev,sendto",
        "-o",
    ]);
    strace.arg(&file).arg(taskhost().get_program());
    strace.env_remove("TASKHOST_URL").env_remove("TASKHOST_TOKEN");
    host.start_by(strace, &[]);
    for n in 0..5 {
        let marker = format!("marker-{n}-of-the-trace");
        let ahead = json!({"task_name": "echo", "payload": {"value": 1, "marker": marker}, "trigger_time": "2034-01-01T00:00:00Z"});
        let id = host.submit(&ahead);
        let lines = || -> Vec<String> {
            let trace = std::fs::read(&file).expect("the trace");
            String::from_utf8_lossy(&trace).lines().map(str::to_owned).collect()
        };
        // The tracer writes as it likes.
        eventually("the answer is in the trace", || answered(&lines(), &id).is_some());
        check(&lines(), &marker, &id);
    }
}

/// Where the answer begins to be written.
fn answered(trace: &[String], id: &str) -> Option<usize> {
    trace.iter().position(|line| line.contains("200 OK") && line.contains(id))
}

fn check(trace: &[String], marker: &str, id: &str) {
    let answered = answered(trace, id).expect("an answer");
    let written = trace
        .iter()
        .position(|line| line.contains("pwrite64(") && line.contains("-wal>") && line.contains(marker))
        .expect("the task is written to the log of the database");
    let on_disk = (written..trace.len()).filter(|n| trace[*n].contains("sync(") && trace[*n].contains("-wal>"));
    let on_disk = on_disk.filter_map(|begun| ended(trace, begun)).min();
    let on_disk = on_disk.expect("the log of the database is forced to the disk");
    assert!(
        written < on_disk && on_disk < answered,
        "written at {written}, on disk at {on_disk}, answered at {answered}"
    );
}

/// Where a call has succeeded that begins in this line.
fn ended(trace: &[String], begun: usize) -> Option<usize> {
    if !trace[begun].contains("<unfinished") {
        return trace[begun].ends_with("= 0").then_some(begun);
    }
    let thread = trace[begun].split_whitespace().next()?;
    let resumed = |line: &String| line.starts_with(thread) && line.contains("sync resumed>");
    let ended = begun + trace[begun..].iter().position(resumed)?;
    trace[ended].ends_with("= 0").then_some(ended)
}

//! Checks that could not be made here are told, never passed over in silence.

use std::io::Write;
use std::process::{Command, Stdio};

/// Says on the terminal, and in the file `EDGEWAY_SKIPPED` where it is set,
/// that a check was skipped and why.
pub fn skipped(check: &str, reason: &str) {
    let line = format!("skipped: {check}: {reason}\n");
    // Not `eprintln!`: the test runner would swallow it.
    let _ = std::io::stderr().write_all(line.as_bytes());
    if let Some(path) = std::env::var_os("EDGEWAY_SKIPPED") {
        let mut file = std::fs::OpenOptions::new();
        let opened = file.create(true).append(true).open(path);
        opened.unwrap().write_all(line.as_bytes()).unwrap();
    }
}

/// Whether a program can be started.
pub fn installed(program: &str) -> bool {
    let mut command = Command::new(program);
    command.arg("--help").stdin(Stdio::null());
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok()
}

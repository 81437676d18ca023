//! The store alone, by its own example program `append_bench`.

use std::path::Path;
use std::process::Command;

use crate::bench::build;
use crate::bench::error::{BenchError, io};
use crate::bench::groups::Context;
use crate::bench::options::REPETITIONS;
use crate::bench::report::{Goal, Row, Spread, Unit};

/// Events that one repetition appends, and events in a commit.
const EVENTS: &str = "4000000";
const EVENTS_PER_COMMIT: &str = "2000";

/// Appends, syncs and reads on one thread.
pub fn run(context: &Context) -> Result<Vec<Row>, BenchError> {
    let what = ["--package", "sled-data", "--example", "append_bench"];
    let program = build::release(&context.root, &what)?.join("examples/append_bench");
    let mut runs = Vec::new();
    for _ in 0..REPETITIONS {
        runs.push(once(&program)?);
    }
    let spread = |name: &str, scale: f64| {
        Spread::of(runs.iter().filter_map(|text| figure(text, name)).map(|figure| figure * scale).collect())
    };
    let append = Row::new("store append, one thread, synced", Unit::PerSecond, spread("append", 1.0));
    Ok(vec![
        append.goal(Goal::AtLeast(1_500_000.0)),
        Row::new("  sync of a commit, mean", Unit::Milliseconds, spread("sync", 1e-3)),
        Row::new("store read, one thread", Unit::PerSecond, spread("read", 1.0)),
    ])
}

fn once(program: &Path) -> Result<String, BenchError> {
    let output = Command::new(program).args([EVENTS, EVENTS_PER_COMMIT, "lz4"]).output();
    let output = output.map_err(io(format!("starting {}", program.display())))?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => {
            let errors = String::from_utf8_lossy(&output.stderr);
            Err(BenchError::Program(format!("{}: {}", program.display(), errors.trim())))
        }
    }
}

/// The number behind a name that begins a line.
fn figure(text: &str, name: &str) -> Option<f64> {
    text.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        (words.next()? == name).then(|| words.next()?.parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_found_by_the_first_word() {
        let text = "4000000 events of 108 bytes\nappend       1916000 events/s\n  sync      85.5 us a commit\n";
        assert_eq!(figure(text, "append"), Some(1_916_000.0));
        assert_eq!(figure(text, "sync"), Some(85.5));
        assert_eq!(figure(text, "read"), None);
    }
}

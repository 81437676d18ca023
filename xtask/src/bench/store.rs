//! The store alone, by its own example program.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::bench::build;
use crate::bench::error::{BenchError, io};
use crate::bench::groups::Context;
use crate::bench::options::REPETITIONS;
use crate::bench::report::{Goal, Row, Spread, Unit};

/// Appends, syncs and reads on one thread.
pub fn run(context: &Context) -> Result<Vec<Row>, BenchError> {
    let program = build::release(&context.root, &["--package", "sled-data", "--example", "throughput"])?
        .join("examples/throughput");
    let mut runs = Vec::new();
    for _ in 0..REPETITIONS {
        let data = context.store("store")?;
        runs.push(once(&program, &data, context.window.as_secs())?);
        context.remove(&data)?;
    }
    let spread = |name: &str, scale: f64| {
        Spread::of(runs.iter().filter_map(|run| run.get(name)?.as_f64()).map(|figure| figure * scale).collect())
    };
    Ok(vec![
        Row::new("store append, one thread, synced", Unit::PerSecond, spread("append_per_s", 1.0))
            .goal(Goal::AtLeast(1_500_000.0)),
        Row::new("  processor time per event", Unit::Microseconds, spread("append_cpu_us", 1.0)),
        Row::new("  sync, p50", Unit::Milliseconds, spread("sync_p50_us", 1e-3)),
        Row::new("  sync, p99", Unit::Milliseconds, spread("sync_p99_us", 1e-3)),
        Row::new("store read, one thread", Unit::PerSecond, spread("read_per_s", 1.0)),
    ])
}

fn once(program: &Path, data: &Path, seconds: u64) -> Result<Value, BenchError> {
    let output = Command::new(program).arg(data).arg(seconds.to_string()).output();
    let output = output.map_err(io(format!("starting {}", program.display())))?;
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&text).map_err(|_| {
        BenchError::Program(format!("{}: {}", program.display(), String::from_utf8_lossy(&output.stderr).trim()))
    })
}

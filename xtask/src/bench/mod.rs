//! `cargo xtask bench`: one run, one table; `docs/performance.md` tells what
//! each figure means.

pub mod build;
mod channel;
mod commands;
mod connection;
mod device_size;
pub mod error;
mod frames;
mod groups;
mod inbound;
mod latency;
mod metrics;
mod mosquitto;
mod node;
mod options;
mod paced;
mod payload;
mod plugins;
mod proc;
mod publisher;
mod quantile;
mod quic;
mod report;
mod saturate;
pub mod site;
mod size;
mod store;
mod subscriber;
mod throughput;

use std::fs;
use std::path::Path;
use std::time::Duration;

pub use error::BenchError;
pub use node::Node;

use error::io;
use groups::{Context, chosen};
use options::Options;

/// Builds the release binary, measures, and prints the table. The load shares the machine with what it measures, so
/// that it is a release build too: any other starts that one in its place.
pub fn run(root: &Path, args: impl Iterator<Item = String>) -> Result<(), BenchError> {
    if cfg!(debug_assertions) {
        return build::run_released(root, args);
    }
    let options = Options::parse(args)?;
    let binary = match &options.binary {
        Some(binary) => binary.clone(),
        None => build::release(root, &["--package", "edgeway"])?.join("edgeway"),
    };
    let scratch = build::target_folder(root).join("bench");
    fs::create_dir_all(&scratch).map_err(io(format!("making {}", scratch.display())))?;
    let context = Context {
        root: root.to_owned(),
        binary,
        mosquitto: mosquitto::find(),
        window: Duration::from_secs(options.seconds),
        scratch: tempfile::tempdir_in(&scratch).map_err(io(format!("making a folder in {}", scratch.display())))?,
    };
    if context.mosquitto.is_none() {
        eprintln!("mosquitto is not installed: its figures and the ratios are left out");
    }
    let mut rows = Vec::new();
    let mut failures = Vec::new();
    for group in chosen(options.only.as_deref()) {
        eprintln!("{}: {} ...", group.name, group.about);
        match (group.run)(&context) {
            Ok(measured) => rows.extend(measured),
            Err(error) => failures.push(format!("{}: {error}", group.name)),
        }
    }
    let machine = machine();
    println!("{machine}; windows of {} s, median (least - most) of {}\n", options.seconds, options::REPETITIONS);
    print!("{}", report::table(&rows));
    if let Some(path) = &options.json {
        let text = format!("{:#}\n", report::json(&rows, &machine, options.seconds));
        fs::write(path, text).map_err(io(format!("writing {}", path.display())))?;
    }
    match failures.is_empty() {
        true => Ok(()),
        false => Err(BenchError::Program(format!("not measured:\n{}", failures.join("\n")))),
    }
}

/// Processors and what they are called.
fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    format!("{cores} x {}", model.map_or("unknown processor", |(_, name)| name))
}

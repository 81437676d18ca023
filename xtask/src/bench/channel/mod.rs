//! The command channel: its rate with many devices, its latency, and what absent devices cost the others.

mod absent;
mod devices;
mod paced;
mod rate;

use std::path::Path;

use crate::bench::error::BenchError;
use crate::bench::groups::Context;
use crate::bench::node::{NOWHERE, Node};
use crate::bench::report::Row;

/// What the node is told besides: a job for each command of the absent devices is under way at once.
const CONFIG: &str = "[commands]\njobs_max = 1000\njob_rate_max = 100000\n";

/// Rate and latency.
pub fn run(context: &Context) -> Result<Vec<Row>, BenchError> {
    let data = context.store("channel")?;
    let node = start(&context.binary, &data)?;
    let rows = rate::run(&node, context.window)?;
    node.stop()?;
    context.remove(&data)?;
    Ok(rows)
}

/// Absent devices.
pub fn run_absent(context: &Context) -> Result<Vec<Row>, BenchError> {
    let data = context.store("absent")?;
    let node = start(&context.binary, &data)?;
    let rows = absent::run(&node, context.window)?;
    node.stop()?;
    context.remove(&data)?;
    Ok(rows)
}

fn start(binary: &Path, data: &Path) -> Result<Node, BenchError> {
    Node::start_configured(binary, data, NOWHERE, &[], CONFIG)
}

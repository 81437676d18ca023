//! What the node costs before any work: its binary, its start, its memory.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::bench::error::{BenchError, io};
use crate::bench::groups::Context;
use crate::bench::node::Node;
use crate::bench::options::REPETITIONS;
use crate::bench::payload::Payload;
use crate::bench::proc;
use crate::bench::report::{Goal, Row, Spread, Unit};
use crate::bench::saturate::{Load, Saturation};

/// What the large store's files hold.
const LARGE_BYTES: u64 = 1 << 30;
/// How long filling it may take.
const FILL_MAX: Duration = Duration::from_secs(600);
/// From ready to the reading of the idle memory.
const SETTLE: Duration = Duration::from_secs(2);

/// The binary's size, and start-up time and memory on a fresh store.
pub fn run(context: &Context) -> Result<Vec<Row>, BenchError> {
    let size = fs::metadata(&context.binary).map_err(io("reading the binary's size"))?.len();
    let mut ready_ms = Vec::new();
    let mut idle = Vec::new();
    for _ in 0..REPETITIONS {
        let data = context.store("size")?;
        let node = Node::start(&context.binary, &data)?;
        ready_ms.push(node.ready_after.as_secs_f64() * 1e3);
        std::thread::sleep(SETTLE);
        idle.push(proc::memory(node.pid())?.resident as f64);
        node.stop()?;
        context.remove(&data)?;
    }
    Ok(vec![
        Row::new("binary", Unit::Bytes, Spread::once(size as f64)).goal(Goal::AtMost(25e6)),
        Row::new("ready on a fresh store", Unit::Milliseconds, Spread::of(ready_ms)).goal(Goal::AtMost(200.0)),
        Row::new("idle memory", Unit::Bytes, Spread::of(idle)).goal(Goal::AtMost(30e6)),
    ])
}

/// Start-up time on a store of 1 GB, after a clean stop and after a kill.
pub fn start_large(context: &Context) -> Result<Vec<Row>, BenchError> {
    let data = context.store("start")?;
    let node = Node::start(&context.binary, &data)?;
    fill(&node)?;
    node.stop()?;
    let mut after_stop = Vec::new();
    let mut after_kill = Vec::new();
    for _ in 0..REPETITIONS {
        let stopped = Node::start(&context.binary, &data)?;
        after_stop.push(stopped.ready_after.as_secs_f64() * 1e3);
        drop(stopped); // kills it
        let killed = Node::start(&context.binary, &data)?;
        after_kill.push(killed.ready_after.as_secs_f64() * 1e3);
        killed.stop()?;
    }
    context.remove(&data)?;
    let row = |name, samples| Row::new(name, Unit::Milliseconds, Spread::of(samples)).goal(Goal::AtMost(2_000.0));
    Ok(vec![row("ready on 1 GB, after a stop", after_stop), row("ready on 1 GB, after a kill", after_kill)])
}

/// Publishes random payloads until the store's files are large enough.
fn fill(node: &Node) -> Result<(), BenchError> {
    let load = Load { qos: 1, subscriber: false, payload: Payload::Random };
    let mut saturation = Saturation::open(node.mqtt, load)?;
    let started = Instant::now();
    while folder_bytes(node.data()) < LARGE_BYTES {
        if started.elapsed() > FILL_MAX {
            return Err(BenchError::Timeout { what: "filling a store of 1 GB".to_owned(), limit: FILL_MAX });
        }
        saturation.run_until(Instant::now() + Duration::from_secs(1))?;
    }
    saturation.drain().map(|_| ())
}

/// Bytes allocated to the files under `folder`; those that vanish meanwhile count nothing.
pub fn folder_bytes(folder: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let Ok(entries) = fs::read_dir(folder) else {
        return 0;
    };
    let sizes = entries.flatten().map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => folder_bytes(&entry.path()),
        Ok(metadata) => metadata.blocks() * 512,
        Err(_) => 0,
    });
    sizes.sum()
}

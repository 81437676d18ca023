//! 1,000 commands wait for each of 1,000 devices that are away: what it costs the others, and how fast they drain.

use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use serde_json::json;

use super::devices::Devices;
use super::{paced, rate};
use crate::bench::error::BenchError;
use crate::bench::node::Node;
use crate::bench::options::REPETITIONS;
use crate::bench::proc;
use crate::bench::report::{Goal, Row, Spread, Unit};

const ABSENT: u64 = 1_000;
const COMMANDS_EACH: u64 = 1_000;
/// Connected devices that get commands meanwhile.
const HERE: u64 = 100;
/// The longest that a command may wait, in milliseconds.
const DELIVER_WITHIN_MS: u64 = 3_600_000;
/// How long queueing them all, and their draining, may take.
const LONG: Duration = Duration::from_secs(300);

pub fn run(node: &Node, window: Duration) -> Result<Vec<Row>, BenchError> {
    // Seen once, so that they are known.
    Devices::connect(node.mqtt, "away", ABSENT as usize)?.leave()?;
    let here = Devices::connect(node.mqtt, "here", HERE as usize)?;
    let empty = windows(node, &here, window)?;
    let queued = queue(node)?;
    let full = windows(node, &here, window)?;
    let memory = proc::memory(node.pid())?;
    let drained = drain(node)?;
    here.leave()?;
    let ratio = full.zip(empty).map(|(full, empty)| full.median / empty.median);
    Ok(vec![
        Row::new("commands queued for absent devices", Unit::PerSecond, Spread::once(queued)),
        Row::new("others' p99, nothing queued", Unit::Milliseconds, empty),
        Row::new("others' p99, 1,000,000 queued", Unit::Milliseconds, full),
        Row::new("others' p99, queued against not", Unit::Plain, ratio.and_then(Spread::once)).goal(Goal::AtMost(1.2)),
        Row::new("RSS with 1,000,000 queued", Unit::Bytes, Spread::once(memory.resident as f64)),
        Row::new("drain of 1,000,000 to 1,000 devices, seconds", Unit::Plain, Spread::once(drained))
            .goal(Goal::AtMost(30.0)),
    ])
}

fn windows(node: &Node, here: &Devices, window: Duration) -> Result<Option<Spread>, BenchError> {
    let mut p99 = Vec::new();
    for _ in 0..REPETITIONS {
        p99.extend(paced::window(node, here, ("here", HERE), 1_000, window)?.quantile_ms(0.99));
    }
    Ok(Spread::of(p99))
}

/// Queues them, a job for one command to each; how many a second.
fn queue(node: &Node) -> Result<f64, BenchError> {
    let begun = Instant::now();
    for _ in 0..COMMANDS_EACH {
        let body = json!({
            "where": "device = \"away-*\"", "name": "set", "payload": "{\"interval_s\":30}", "rate": 100_000,
            "deliver_within_ms": DELIVER_WITHIN_MS,
        });
        node.post("/v1/jobs", &body)?;
    }
    let all = (ABSENT * COMMANDS_EACH) as f64;
    while pending(node)? < all {
        if begun.elapsed() > LONG {
            return Err(BenchError::Timeout { what: "the queueing of a million commands".to_owned(), limit: LONG });
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(all / begun.elapsed().as_secs_f64())
}

fn pending(node: &Node) -> Result<f64, BenchError> {
    let metrics = node.get("/metrics")?;
    let line = metrics.lines().find_map(|line| line.strip_prefix("edgeway_commands_pending "));
    Ok(line.and_then(|value| value.trim().parse().ok()).unwrap_or(0.0))
}

/// Has the devices come back; seconds from the first connection until every command was delivered and its answer
/// acknowledged.
fn drain(node: &Node) -> Result<f64, BenchError> {
    let begun = Instant::now();
    let away = Devices::connect(node.mqtt, "away", ABSENT as usize)?;
    let mut last = 0;
    while last < ABSENT * COMMANDS_EACH {
        rate::wait(&away, last + 1)?;
        last = away.seen.answered.load(Relaxed);
    }
    let took = begun.elapsed();
    away.leave()?;
    Ok(took.as_secs_f64())
}

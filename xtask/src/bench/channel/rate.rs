//! 10,000 connected devices: commands a second that are delivered and answered, and the latency of single ones.

use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use serde_json::json;

use super::devices::Devices;
use super::paced;
use crate::bench::error::BenchError;
use crate::bench::node::Node;
use crate::bench::options::REPETITIONS;
use crate::bench::proc;
use crate::bench::report::{Goal, Row, Spread, Unit};

const DEVICES: u64 = 10_000;
/// Commands a second that the jobs ask for.
const RATE: u64 = 20_000;
/// How long all commands of a window may take.
const WINDOW_MAX: Duration = Duration::from_secs(60);

pub fn run(node: &Node, window: Duration) -> Result<Vec<Row>, BenchError> {
    let devices = Devices::connect(node.mqtt, "dev", DEVICES as usize)?;
    let mut rates = Vec::new();
    for _ in 0..REPETITIONS {
        rates.extend(jobs(node, &devices, window)?);
    }
    let (mut p50, mut p99) = (Vec::new(), Vec::new());
    for _ in 0..REPETITIONS {
        let latencies = paced::window(node, &devices, ("dev", DEVICES), 1_000, window)?;
        p50.extend(latencies.quantile_ms(0.5));
        p99.extend(latencies.quantile_ms(0.99));
    }
    let memory = proc::memory(node.pid())?;
    devices.leave()?;
    Ok(vec![
        Row::new("commands delivered and answered, 10,000 devices", Unit::PerSecond, Spread::of(rates))
            .goal(Goal::AtLeast(10_000.0)),
        Row::new("submit to device at 1,000/s, p50", Unit::Milliseconds, Spread::of(p50)),
        Row::new("submit to device at 1,000/s, p99", Unit::Milliseconds, Spread::of(p99)).goal(Goal::AtMost(10.0)),
        Row::new("peak RSS with 10,000 devices", Unit::Bytes, Spread::once(memory.peak as f64)),
    ])
}

/// As many jobs over all devices as fill the window at 10,000 commands a second; how many a second were delivered and
/// had their answer acknowledged, from the first submission to the last answer.
fn jobs(node: &Node, devices: &Devices, window: Duration) -> Result<Option<f64>, BenchError> {
    let (before, jobs) = (devices.seen.answered.load(Relaxed), window.as_secs().max(1));
    let begun = Instant::now();
    for number in 0..jobs {
        let body = json!({"where": "device = \"dev-*\"", "name": "ping", "payload": "x", "rate": RATE});
        node.post("/v1/jobs", &body)?;
        // The next one comes when the most of this one has gone.
        wait(devices, before + number * DEVICES + DEVICES / 2)?;
    }
    wait(devices, before + jobs * DEVICES)?;
    Ok(Some((jobs * DEVICES) as f64 / begun.elapsed().as_secs_f64()))
}

/// Waits until so many answers were acknowledged.
pub fn wait(devices: &Devices, answered: u64) -> Result<(), BenchError> {
    let begun = Instant::now();
    while devices.seen.answered.load(Relaxed) < answered {
        if begun.elapsed() > WINDOW_MAX {
            let what = format!("answer {answered} ({} came)", devices.seen.answered.load(Relaxed));
            return Err(BenchError::Timeout { what, limit: WINDOW_MAX });
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

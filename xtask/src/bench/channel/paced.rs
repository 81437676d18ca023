//! Commands submitted through the HTTP API at their times: from the call until the device has each.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use serde_json::json;

use super::devices::Devices;
use crate::bench::error::BenchError;
use crate::bench::node::Node;
use crate::bench::quantile::Latencies;

/// Callers that share the rate, each with a connection that is kept.
const CALLERS: u64 = 16;
/// How long the last commands may take.
const LAST_MAX: Duration = Duration::from_secs(10);

/// Submits `rate` commands a second for `length`, to `devices` in turn.
pub fn window(
    node: &Node,
    devices: &Devices,
    (prefix, count): (&str, u64),
    rate: u64,
    length: Duration,
) -> Result<Latencies, BenchError> {
    let total = rate * length.as_millis() as u64 / 1_000;
    devices.seen.take_arrivals();
    let submitted: Vec<AtomicU64> = (0..total).map(|_| AtomicU64::new(0)).collect();
    let (start, failed) = (Instant::now() + Duration::from_millis(50), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let callers: Vec<_> = (0..CALLERS)
            .map(|caller| {
                let (submitted, failed) = (&submitted, &failed);
                scope.spawn(move || {
                    let called = (caller..total).step_by(CALLERS as usize).try_for_each(|number| {
                        let due = start + Duration::from_micros(number * 1_000_000 / rate);
                        std::thread::sleep(due.saturating_duration_since(Instant::now()));
                        if let Some(at) = submitted.get(number as usize) {
                            at.store(start.elapsed().as_micros() as u64, Relaxed);
                        }
                        let device = format!("{prefix}-{}", number % count);
                        let body = json!({"device": device, "name": "ping", "payload": number.to_string()});
                        node.post("/v1/commands", &body).map(drop)
                    });
                    failed.fetch_or(called.is_err(), Relaxed);
                    called
                })
            })
            .collect();
        let arrived = gather(devices, total, start, length, &failed);
        for caller in callers {
            caller.join().map_err(|_| BenchError::Program("a caller panicked".to_owned()))??;
        }
        let samples = arrived?.into_iter().filter_map(|(number, at)| {
            let submitted = submitted.get(usize::try_from(number).ok()?)?.load(Relaxed);
            Some(at.saturating_duration_since(start).saturating_sub(Duration::from_micros(submitted)))
        });
        Ok(Latencies::new(samples.collect()))
    })
}

/// Waits until every number has come.
fn gather(
    devices: &Devices,
    total: u64,
    start: Instant,
    length: Duration,
    failed: &AtomicBool,
) -> Result<Vec<(u64, Instant)>, BenchError> {
    let mut arrived = Vec::new();
    let end = start + length + LAST_MAX;
    while (arrived.len() as u64) < total && !failed.load(Relaxed) {
        if Instant::now() > end {
            let what = format!("the last command ({} of {total} came)", arrived.len());
            return Err(BenchError::Timeout { what, limit: LAST_MAX });
        }
        std::thread::sleep(Duration::from_millis(5));
        arrived.extend(devices.seen.take_arrivals());
    }
    Ok(arrived)
}

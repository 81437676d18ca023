//! What a plugin costs, without a log: for `cargo xtask bench` and the example `plugin_bench`.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use sled_data::HeadersRef;

use super::batch::{Batch, EventRef};
use super::compiled::CompileCache;
use super::counters::PluginCounters;
use super::deploy::Workshop;
use super::engine::Ticking;
use super::manifest::Manifest;
use super::prepare::prepare;
use super::run::run;
use super::sandbox::Sandbox;
use super::state::{PendingState, Place, StateSource};
use super::{DeployError, StartError};

/// What was measured.
#[derive(Debug, Clone, Copy)]
pub struct Measured {
    /// Events given to the guest.
    pub events: u64,
    /// Effects made of its answers.
    pub effects: u64,
    /// Processor time taken by the thread (wall time where the system does not tell).
    pub time: Duration,
}

impl Measured {
    /// Events per second.
    #[allow(clippy::cast_precision_loss)] // a figure for people
    pub fn events_per_second(&self) -> f64 {
        self.events as f64 / self.time.as_secs_f64()
    }
}

struct NoState;

impl StateSource for NoState {
    fn get(&self, _place: Place, _key: &[u8]) -> Result<Option<Vec<u8>>, String> {
        Ok(None)
    }
}

/// Gives the events to a plugin again and again, for about `time`, in batches as
/// its manifest says. Counts all that the host does but reading and the commit.
///
/// # Errors
/// The plugin cannot be loaded, or fails for a reason that no event caused.
pub fn measure(
    wasm: &[u8],
    manifest: &Manifest,
    events: &[(Vec<u8>, Vec<u8>)],
    time: Duration,
    cache: &Path,
) -> Result<Measured, DeployError> {
    let engine = Ticking::start().map_err(|error| StartError::Engine(error.to_string()));
    let ticking = Arc::new(engine.map_err(|error| DeployError::Broken(error.to_string()))?);
    let workshop = Workshop { ticking, cache: CompileCache::open(cache)?, now_ms: Arc::new(|| 0) };
    let template = Arc::new(workshop.template(wasm, manifest.clone())?);
    let mut sandbox = Sandbox::new(template, PendingState::new(Arc::new(NoState)));
    let stored: Vec<EventRef<'_>> = (0u64..)
        .zip(events)
        .map(|(offset, (key, value))| EventRef {
            offset,
            timestamp_ms: 0,
            key: Some(key),
            value: Some(value),
            headers: HeadersRef::EMPTY,
            is_late: false,
        })
        .collect();
    let counters = PluginCounters::default();
    let topic = manifest.topics.first().map_or("", String::as_str);
    let mut measured = Measured { events: 0, effects: 0, time: Duration::ZERO };
    let (begin, begin_busy) = (Instant::now(), processor_time());
    while begin.elapsed() < time && !stored.is_empty() {
        for events in stored.chunks(manifest.limits.batch_events as usize) {
            let batch = Batch { topic, partition: 0, origin: 1, term: 0, state_of: None, doubt: None, events };
            let effects = run(&mut sandbox, &batch, &counters, &AtomicBool::new(false))
                .map_err(|fault| DeployError::Init(fault.to_string()))?;
            let mut prepared = Vec::new();
            prepare(effects, &batch, &manifest.name, 0, &mut prepared);
            measured.effects += prepared.len() as u64;
            measured.events += events.len() as u64;
        }
        sandbox.state().lock().clear();
    }
    measured.time = match (begin_busy, processor_time()) {
        (Some(before), Some(after)) if after > before => after - before,
        _ => begin.elapsed(),
    };
    Ok(measured)
}

/// What this thread has used of a processor so far, as Linux tells it.
fn processor_time() -> Option<Duration> {
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    Some(Duration::from_nanos(told.split_whitespace().next()?.parse().ok()?))
}

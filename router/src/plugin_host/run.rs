//! One batch through the sandbox: calls, judges the answers, finds the events
//! at fault.

use std::sync::atomic::{AtomicBool, Ordering};

use super::batch::Batch;
use super::bisect::{Bisection, Verdict};
use super::counters::PluginCounters;
use super::effects::Effects;
use super::fault::Fault;
use super::sandbox::Sandbox;

/// Gives the whole batch to the plugin, in parts where need be. Events at fault
/// are among the effects, as dead letters; accepted state is in the sandbox.
///
/// # Errors
/// Faults that no event caused. Nothing of the batch counts then: the caller
/// drops the sandbox's pending state. `stop` ends it between two calls.
pub fn run(
    sandbox: &mut Sandbox,
    batch: &Batch<'_>,
    counters: &PluginCounters,
    stop: &AtomicBool,
) -> Result<Effects, Fault> {
    let mut effects = Effects::default();
    let mut search = Bisection::new(batch.events.len());
    while let Some(range) = search.next_range() {
        if stop.load(Ordering::Acquire) {
            return Err(Fault::Stopped);
        }
        let part = batch.part(range.clone());
        let fault = match attempt(sandbox, &part, range.start, &mut effects, counters) {
            Ok(()) => {
                search.succeeded();
                continue;
            }
            Err(fault) => fault,
        };
        if !fault.by_event() {
            return Err(fault);
        }
        if let Verdict::SetAside(index) = search.failed() {
            let plugin = &**sandbox.template().plugin();
            let offset = batch.events.get(index).map_or(0, |event| event.offset);
            tracing::warn!(
                plugin, topic = batch.topic, partition = batch.partition, offset, error = %fault,
                "an event is set aside"
            );
            effects.set_aside(index, fault.to_string());
        }
    }
    Ok(effects)
}

fn attempt(
    sandbox: &mut Sandbox,
    part: &Batch<'_>,
    base: usize,
    effects: &mut Effects,
    counters: &PluginCounters,
) -> Result<(), Fault> {
    let answer = counters.timed_call(part.events.len(), || sandbox.call(part));
    let judged = answer.and_then(|actions| {
        let manifest = sandbox.template().manifest();
        effects.add(actions, part, base, manifest).map_err(Fault::Denied)
    });
    match judged {
        Ok(()) => {
            sandbox.state().lock().accept_call();
            Ok(())
        }
        Err(fault) => {
            if fault.by_event() {
                counters.count_fault(&fault);
            }
            sandbox.discard();
            Err(fault)
        }
    }
}

#[cfg(test)]
mod tests;

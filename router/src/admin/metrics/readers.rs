//! Figures of the readers: what plugins did, and what became of commands.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::sheet::{Sheet, read};
use crate::commands::Commands;
use crate::plugin_host::{GuardCounters, PluginCounters, PluginHost};

/// One of a plugin's counters.
type Counter = fn(&PluginCounters) -> &AtomicU64;
/// One of a guard's.
type GuardCounter = fn(&GuardCounters) -> &AtomicU64;

/// Name, help and counter of what is shown of every plugin.
const PLUGIN_COUNTERS: [(&str, &str, Counter); 8] = [
    ("plugin_calls", "Calls of the plugin", |of| &of.calls),
    ("plugin_events", "Events given to the plugin", |of| &of.events),
    ("plugin_traps", "Calls ended by a trap, the deadline or the memory limit", |of| &of.traps),
    ("plugin_refusals", "Calls answered with an error, or with what was not granted", |of| &of.refusals),
    ("plugin_dead_letters", "Events set aside", |of| &of.dead_letters),
    ("plugin_appended", "Events that the plugin had appended", |of| &of.appended),
    ("plugin_commands", "Commands that the plugin had queued", |of| &of.commands),
    ("plugin_wishes", "Changes that the plugin wished of device twins", |of| &of.wishes),
];

/// What every plugin did.
pub(super) fn write_plugins(host: &PluginHost, sheet: &mut Sheet<'_>) -> fmt::Result {
    let all: Vec<(String, Arc<PluginCounters>)> = host.counters();
    for (name, help, counter) in PLUGIN_COUNTERS {
        let values: Vec<(&str, u64)> =
            all.iter().map(|(of, counters)| (of.as_str(), read(counter(counters)))).collect();
        sheet.counters(name, help, "plugin", &values)?;
    }
    let busy: Vec<(&str, f64)> =
        all.iter().map(|(of, counters)| (of.as_str(), read(&counters.busy_ns) as f64 / 1e9)).collect();
    sheet.seconds("plugin_busy", "Time in calls of the plugin", "plugin", &busy)?;
    write_guards(host, sheet)
}

/// Name, help and counter of what is shown of every command guard.
const GUARD_COUNTERS: [(&str, &str, GuardCounter); 6] = [
    ("guard_asked", "Commands that the guard was asked about", |of| &of.asked),
    ("guard_allowed", "Commands that the guard let go as they were", |of| &of.allowed),
    ("guard_denied", "Commands that the guard forbade", |of| &of.denied),
    ("guard_rewritten", "Commands that the guard let go with another payload", |of| &of.rewritten),
    ("guard_failed", "Commands that the guard did not answer in its bounds", |of| &of.failed),
    ("guard_overridden", "Urgent commands that went against the guard", |of| &of.overridden),
];

/// What every command guard did.
fn write_guards(host: &PluginHost, sheet: &mut Sheet<'_>) -> fmt::Result {
    let all: Vec<(String, Arc<GuardCounters>)> = host.guard_counters();
    for (name, help, counter) in GUARD_COUNTERS {
        let values: Vec<(&str, u64)> =
            all.iter().map(|(of, counters)| (of.as_str(), read(counter(counters)))).collect();
        sheet.counters(name, help, "guard", &values)?;
    }
    let busy: Vec<(&str, f64)> =
        all.iter().map(|(of, counters)| (of.as_str(), read(&counters.busy_ns) as f64 / 1e9)).collect();
    sheet.seconds("guard_busy", "Time from question to answer of the guard", "guard", &busy)
}

/// How many commands are pending, and what became of the others.
pub(super) fn write_commands(commands: &Commands, sheet: &mut Sheet<'_>) -> fmt::Result {
    let stats = commands.stats();
    sheet.gauge("commands_pending", "Commands that have not ended", commands.pending() as u64)?;
    let steps = [
        ("queued", read(&stats.queued)),
        ("sent", read(&stats.sent)),
        ("returned", read(&stats.returned)),
        ("delivered", read(&stats.delivered)),
        ("rewritten", read(&stats.rewritten)),
        ("guard-overridden", read(&stats.overridden)),
    ];
    sheet.counters("commands", "Steps of commands", "step", &steps)?;
    let ended: Vec<(&str, u64)> = stats.ended().into_iter().map(|(state, count)| (state.as_str(), count)).collect();
    sheet.counters("commands_ended", "Commands that ended", "outcome", &ended)?;
    sheet.gauge("jobs_open", "Jobs that run or are paused", commands.jobs_open() as u64)?;
    sheet.counter("job_commands", "Commands that jobs submitted", read(&stats.job_commands))?;
    let refused = read(&stats.answers_refused);
    sheet.counter("command_answers_refused", "Answers of devices that did not count", refused)?;
    sheet.counter("command_events_unreadable", "Events that are no step or answer", read(&stats.unreadable))
}

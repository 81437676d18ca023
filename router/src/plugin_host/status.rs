//! What is told of a plugin.

use serde::Serialize;

use super::guard::GuardFigures;
use super::manifest::{Kind, Manifest};

/// Whether a plugin runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(tag = "state", content = "reason", rename_all = "kebab-case")]
pub enum RunState {
    /// Being loaded.
    #[default]
    Starting,
    /// Reading, or waiting for events.
    Running,
    /// It waits: the node is cut off from most of its site, and people want plugins to pause then.
    Paused,
    /// It failed for a reason that no event caused; it is tried again. Or, of a guard: its last call failed, and it is
    /// made anew for the next command.
    BackingOff(String),
    /// It could not be loaded; it has to be deployed again.
    Broken(String),
    /// Its thread has ended.
    Stopped,
}

/// A plugin, for `plugin list` and the metrics.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct PluginStatus {
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// Whether it runs.
    #[serde(flatten)]
    pub state: RunState,
    /// Why the version that was agreed on does not run on this node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// SHA-256 of the component, in hexadecimal.
    pub sha256: String,
    /// When it was deployed, in ms since 1970-01-01 UTC.
    pub deployed_ms: i64,
    /// Its manifest.
    pub manifest: Manifest,
    /// Events it has not processed yet.
    pub lag_events: u64,
    /// Calls of the guest since the node started.
    pub calls: u64,
    /// Events given in calls; those of repeated calls count again.
    pub events: u64,
    /// Time in calls, in ms.
    pub busy_ms: u64,
    /// Calls ended by a trap, the deadline or the memory limit.
    pub traps: u64,
    /// Calls answered with an error, or with what was not granted.
    pub refusals: u64,
    /// Events set aside.
    pub dead_letters: u64,
    /// Events appended.
    pub appended: u64,
    /// Commands queued.
    pub commands: u64,
    /// What a command guard did; `None` for others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guard: Option<GuardFigures>,
}

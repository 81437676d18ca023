//! The plugins of the node: deployed, listed, removed, restored.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};

use super::charge::CHARGES_TREE;
use super::charge_index::ChargeIndex;
use super::compiled::CompileCache;
use super::counters::{PluginCounters, read};
use super::deploy::Workshop;
use super::doubt::DOUBTS_TREE;
use super::duties::Duties;
use super::engine::Ticking;
use super::forget::forget_removed;
use super::guard::Roster;
use super::manifest::{Kind, Manifest};
use super::registry::{self, Files, PLUGINS_TREE, RecordV2, STATE_OF_TREE, STATE_TREE};
use super::rests::begin_in_ended;
use super::round::ensure_dead_letters;
use super::sandbox::{Sandbox, Template};
use super::state::PendingState;
use super::status::{PluginStatus, RunState};
use super::task::{Shared, Task, Work};
use super::{DeployError, Deployed, RemoveError, StartError};
use crate::event_log::{CommitFailed, EventLog, OpenCommit};

use expected::Expected;

pub use agreed::{Here, Settled, Step, step};

/// Plugins that a node runs at most.
pub const PLUGINS_MAX: usize = 64;
/// State entries removed in one commit.
const STATE_REMOVED_MAX: usize = 1000;

/// Runs plugins. One per node.
pub struct PluginHost {
    log: Arc<EventLog>,
    files: Files,
    workshop: Arc<Workshop>,
    plugins: Mutex<BTreeMap<String, Plugin>>,
    guards: Arc<Roster>,
    work: Work,
    /// Held while plugins are deployed or removed, one at a time.
    changing: Mutex<()>,
    /// What was agreed on, as far as it was told.
    expected: Mutex<Expected>,
    /// Nothing is deployed any more.
    stopped: AtomicBool,
}

struct Plugin {
    manifest: Manifest,
    record: RecordV2,
    task: Task,
}

impl PluginHost {
    /// Starts the engine and the plugins that were deployed before, on a node without a site; `folder` is
    /// the host's own. A plugin that cannot be restored is listed as broken.
    ///
    /// # Errors
    /// The folder, the engine or the store fails.
    pub fn start(log: Arc<EventLog>, folder: &Path) -> Result<PluginHost, StartError> {
        let duties = Duties::alone_after(log.ended_lives().to_vec());
        PluginHost::start_with(log, folder, Arc::new(duties))
    }

    /// The same with the duties of a node in a site.
    ///
    /// # Errors
    /// As [`PluginHost::start`].
    pub fn start_with(log: Arc<EventLog>, folder: &Path, duties: Arc<Duties>) -> Result<PluginHost, StartError> {
        let files = Files::open(folder)?;
        let cache = CompileCache::open(&folder.join("compiled"))?;
        let ticking = Ticking::start().map_err(|error| StartError::Engine(error.to_string()))?;
        let clock = Arc::clone(log.clock());
        let workshop = Workshop { ticking: Arc::new(ticking), cache, now_ms: Arc::new(move || clock.wall_ms()) };
        let index = ChargeIndex::new(Arc::clone(&log));
        index.set_duties(&duties);
        let work = Work { duties: Arc::new(RwLock::new(duties)), index };
        let host = PluginHost {
            work,
            log,
            files,
            workshop: Arc::new(workshop),
            plugins: Mutex::default(),
            guards: Arc::default(),
            changing: Mutex::default(),
            expected: Mutex::default(),
            stopped: AtomicBool::new(false),
        };
        host.restore()?;
        Ok(host)
    }

    /// Says what the node is to read from now on; each plugin takes it up before its next round.
    pub fn set_duties(&self, duties: Arc<Duties>) {
        self.work.index.set_duties(&duties);
        *self.work.duties.write() = duties;
    }

    /// Which derived events count, for others who read them.
    pub fn charges(&self) -> &Arc<ChargeIndex> {
        &self.work.index
    }

    fn restore(&self) -> Result<(), StartError> {
        self.forget_removed();
        let records = self.log.state_scan(PLUGINS_TREE, b"", None, PLUGINS_MAX)?;
        for (name, value) in records {
            let name = String::from_utf8_lossy(&name).into_owned();
            let record =
                RecordV2::decode(&value).map_err(|reason| StartError::Record { name: name.clone(), reason })?;
            let manifest = Manifest::read(&record.manifest)
                .map_err(|error| StartError::Record { name: name.clone(), reason: error.to_string() })?;
            // An earlier version may have taken what is refused now: that stops the plugin, not the node.
            let wasm = match manifest.check() {
                Ok(()) => self.files.read(&record.sha256),
                Err(error) => Err(error.to_string()),
            };
            if manifest.kind == Kind::CommandGuard {
                self.restore_guard(manifest, record, wasm)?;
                continue;
            }
            // Before retention looks.
            if let Err(fault) = begin_in_ended(&self.log, &manifest, self.work.duties.read().is_alone) {
                tracing::error!(plugin = name, %fault, "where a plugin begins in a life that has ended is not stored");
            }
            let shared = Shared::new(Arc::default(), RunState::Starting);
            self.run(manifest, record, shared, move |workshop, manifest| {
                let template = workshop.template(&wasm?, manifest);
                template.map(Arc::new).map_err(|error| error.to_string())
            })?;
        }
        Ok(())
    }

    fn ensure_topics(&self, manifest: &Manifest) -> Result<(), DeployError> {
        ensure_dead_letters(&self.log)?;
        for topic in &manifest.grants.emit {
            self.log.ensure_topic(topic, None)?;
        }
        Ok(())
    }

    fn run(
        &self,
        manifest: Manifest,
        record: RecordV2,
        shared: Arc<Shared>,
        load: impl FnOnce(&Workshop, Manifest) -> Result<Arc<Template>, String> + Send + 'static,
    ) -> Result<(), std::io::Error> {
        let name = manifest.name.clone();
        let source = registry::StoredState { log: Arc::clone(&self.log), plugin: name.clone() };
        let workshop = Arc::clone(&self.workshop);
        let loaded = manifest.clone();
        self.work.index.set_running(&name, true);
        let task = Task::start(Arc::clone(&self.log), self.work.clone(), &name, shared, move || {
            let template = load(&workshop, loaded)?;
            Ok(Sandbox::new(template, PendingState::new(Arc::new(source))))
        })?;
        self.plugins.lock().insert(name, Plugin { manifest, record, task });
        Ok(())
    }

    /// Stops a plugin and removes it with its state. Deployed again, it is new.
    ///
    /// # Errors
    /// There is none of that name, or the store fails.
    pub fn remove(&self, name: &str) -> Result<(), RemoveError> {
        let _changing = self.changing.lock();
        self.remove_now(name)
    }

    /// The same while nothing else changes.
    fn remove_now(&self, name: &str) -> Result<(), RemoveError> {
        if self.guards.get(name).is_some() {
            return self.remove_guard(name);
        }
        let plugin = self.plugins.lock().remove(name).ok_or_else(|| RemoveError::Unknown(name.to_owned()))?;
        drop(plugin.task); // waits until it has stopped
        // State first: were the node to stop in between, the plugin is still there.
        for tree in [STATE_TREE, STATE_OF_TREE, CHARGES_TREE, DOUBTS_TREE] {
            self.remove_state(tree, name)?;
        }
        self.commit(|open| _ = open.put_state(PLUGINS_TREE, name.as_bytes(), None))?;
        self.forget_removed();
        self.work.index.set_running(name, false);
        self.work.index.refresh();
        self.sweep();
        tracing::info!(plugin = name, "plugin removed");
        Ok(())
    }

    /// What is not forgotten now is at the next start, or with the next one that is removed.
    fn forget_removed(&self) {
        if let Err(error) = forget_removed(&self.log) {
            tracing::warn!(%error, "where removed plugins stood is kept until the next start");
        }
    }

    /// Removes what a plugin has in a tree.
    fn remove_state(&self, tree: &str, name: &str) -> Result<(), RemoveError> {
        let prefix = registry::state_prefix(name);
        loop {
            let entries = self.log.state_scan(tree, &prefix, None, STATE_REMOVED_MAX)?;
            if entries.is_empty() {
                return Ok(());
            }
            self.commit(|open| {
                for (key, _) in &entries {
                    open.put_state(tree, key, None);
                }
            })?;
        }
    }

    fn commit(&self, fill: impl FnOnce(&mut OpenCommit<'_>)) -> Result<(), CommitFailed> {
        let ticket = {
            let mut open = self.log.lock();
            fill(&mut open);
            open.ticket()
        };
        self.log.durable_blocking(ticket)
    }

    fn sweep(&self) {
        let mut in_use: Vec<[u8; 32]> = self.plugins.lock().values().map(|plugin| plugin.record.sha256).collect();
        in_use.extend(self.guards.posts().iter().map(|post| post.record.sha256));
        in_use.extend(self.expected.lock().components());
        self.files.sweep(&in_use);
        self.workshop.cache.sweep(&in_use);
    }

    /// All plugins, by name.
    pub fn list(&self) -> Vec<PluginStatus> {
        let mut all: Vec<PluginStatus> = self.guards.posts().iter().map(|post| self.guard_status(post)).collect();
        all.extend(self.plugins.lock().values().map(|plugin| self.status(plugin)));
        self.expected.lock().tell(&mut all);
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    fn status(&self, plugin: &Plugin) -> PluginStatus {
        let shared = plugin.task.shared();
        let count = |counter: fn(&PluginCounters) -> &AtomicU64| read(counter(&shared.counters));
        PluginStatus {
            name: plugin.manifest.name.clone(),
            kind: Kind::Consumer,
            state: shared.state.lock().clone(),
            sha256: super::hex(&plugin.record.sha256),
            deployed_ms: plugin.record.deployed_ms,
            problem: None,
            manifest: plugin.manifest.clone(),
            lag_events: self.lag_events(&plugin.manifest),
            calls: count(|c| &c.calls),
            events: count(|c| &c.events),
            busy_ms: count(|c| &c.busy_ns) / 1_000_000,
            traps: count(|c| &c.traps),
            refusals: count(|c| &c.refusals),
            dead_letters: count(|c| &c.dead_letters),
            appended: count(|c| &c.appended),
            commands: count(|c| &c.commands),
            guard: None,
        }
    }

    /// The counters of each plugin that reads, for the metrics' face.
    pub fn counters(&self) -> Vec<(String, Arc<PluginCounters>)> {
        let plugins = self.plugins.lock();
        plugins.iter().map(|(name, plugin)| (name.clone(), Arc::clone(&plugin.task.shared().counters))).collect()
    }

    /// Stops all plugins; their cursors are where they are to go on. Guards stay on duty.
    pub fn stop(&self) {
        let _changing = self.changing.lock();
        self.stopped.store(true, Ordering::Release);
        let plugins = std::mem::take(&mut *self.plugins.lock());
        for plugin in plugins.values() {
            plugin.task.ask_to_stop();
        }
    }

    /// Whether a plugin is in this state, for those who wait for it.
    pub fn is(&self, name: &str, state: &RunState) -> bool {
        let guard = self.guards.get(name).is_some_and(|post| post.state() == *state);
        guard || self.plugins.lock().get(name).is_some_and(|plugin| *plugin.task.shared().state.lock() == *state)
    }
}

mod agreed;
mod audit;
mod deploying;
mod expected;
mod guards;
mod reach;
#[cfg(test)]
mod tests;

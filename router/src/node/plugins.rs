//! Brings the node's plugins to what the site agreed on: missing components are fetched from other nodes.
//!
//! `plan` says what is to be done and when it is tried again (pure); `components` is what nodes say to each other. `above` deploys what links bring;
//! `below` and `spread` are for what sites that feed this one are to have.

pub(super) mod above;
pub(super) mod below;
pub(super) mod components;
mod plan;
pub(super) mod spread;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use components::{Components, fetch};
use plan::{Failures, Task, tasks};

use super::site::SiteNode;
use crate::catalog::{AGREED_PLUGINS_MAX, AgreedPlugin, Catalog, Change, NewPlugin, PLUGIN_BYTES_MAX};
use crate::event_log::EventLog;
use crate::plugin_host::{Kind, Manifest, PLUGINS_MAX, PluginHost, RecordV2, Settled, WASM_BYTES_MAX};
use crate::transport::NodeId;

/// How often it looks besides when the catalog changes, while something is still to be done.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How often it looks otherwise.
const LOOK_SELDOM: Duration = Duration::from_secs(10);
/// Who the audit says proposed it.
const WHO: &str = "node";

// What may be agreed on can run.
const _: () = assert!(AGREED_PLUGINS_MAX == PLUGINS_MAX && PLUGIN_BYTES_MAX == WASM_BYTES_MAX as u64);

/// Keeps the plugins of a node.
pub struct PluginKeeper {
    log: Arc<EventLog>,
    catalog: Arc<Catalog>,
    host: Arc<PluginHost>,
    others: Arc<dyn Components>,
    failures: Failures,
}

type Agreed = BTreeMap<String, Arc<AgreedPlugin>>;

impl SiteNode {
    /// What keeps this node's plugins.
    pub fn plugin_keeper(&self, host: Arc<PluginHost>) -> PluginKeeper {
        let others = Arc::clone(&self.way) as _;
        PluginKeeper::new(Arc::clone(&self.log), Arc::clone(&self.catalog), host, others)
    }
}

impl PluginKeeper {
    fn new(log: Arc<EventLog>, catalog: Arc<Catalog>, host: Arc<PluginHost>, others: Arc<dyn Components>) -> Self {
        Self { log, catalog, host, others, failures: Failures::default() }
    }

    /// Goes on for as long as the node runs.
    pub async fn run(mut self) {
        let mut changed = self.catalog.watch();
        loop {
            changed.borrow_and_update();
            let is_done = self.pass().await;
            let pause = if is_done { LOOK_SELDOM } else { LOOK_EVERY };
            if let Ok(Err(_)) = tokio::time::timeout(pause, changed.changed()).await {
                return;
            }
        }
    }

    /// Does what can be done now; whether nothing is left.
    async fn pass(&mut self) -> bool {
        // Before this node was let in, it knows nothing of what was agreed on.
        if self.catalog.site().is_none() {
            return true;
        }
        let agreed: Agreed = self.catalog.plugins().into_iter().map(|(name, set)| (name.to_string(), set)).collect();
        let records: BTreeMap<String, RecordV2> =
            agreed.iter().map(|(name, set)| (name.clone(), RecordV2::from(&**set))).collect();
        let host = Arc::clone(&self.host);
        let is_alone = matches!(self.catalog.members().as_slice(), [only] if only.node == self.catalog.me());
        let looked = tokio::task::spawn_blocking(move || {
            host.expect(records.clone());
            tasks(&records, &host.all_here(), is_alone)
        });
        let Ok(tasks) = looked.await else { return false };
        self.failures.keep(&tasks);
        let mut absent = Vec::new();
        for task in &tasks {
            let wanted = agreed.get(task.plugin());
            if !self.is_due(task.plugin(), wanted.map_or((0, 0), |wanted| place(wanted))) {
                continue;
            }
            match (task, wanted) {
                (Task::Agree(name), _) => self.agree(name).await,
                (Task::Run(name), Some(wanted)) if !self.has_component(wanted).await => absent.push((name, wanted)),
                (Task::Run(name) | Task::Remove(name), wanted) => self.settle(name, wanted.map(|set| &**set)).await,
            }
        }
        // Those that are here do not wait for those that are not.
        for (name, wanted) in absent {
            self.fetch(name, wanted).await;
        }
        tasks.is_empty()
    }

    async fn has_component(&self, wanted: &Arc<AgreedPlugin>) -> bool {
        let (host, sha256) = (Arc::clone(&self.host), wanted.sha256);
        tokio::task::spawn_blocking(move || host.has_component(&sha256)).await.unwrap_or(false)
    }

    fn now(&self) -> Duration {
        self.log.clock().monotonic()
    }

    fn is_due(&self, name: &str, place: (u64, u64)) -> bool {
        self.failures.is_due(name, place, self.now(), &self.others.nodes())
    }

    /// Makes a plugin what was agreed on, its component being here.
    async fn settle(&mut self, name: &str, wanted: Option<&AgreedPlugin>) {
        let place = wanted.map_or((0, 0), place);
        let (host, catalog, plugin) = (Arc::clone(&self.host), Arc::clone(&self.catalog), name.to_owned());
        let settled = tokio::task::spawn_blocking(move || {
            host.settle(&plugin, || catalog.plugin(&plugin).map(|agreed| RecordV2::from(&*agreed)))
        });
        match settled.await {
            Ok(Ok(settled)) => {
                self.failures.clear(name);
                if settled != Settled::Unchanged {
                    tracing::info!(plugin = name, version = place.1, ?settled, "the plugin is what was agreed on");
                }
            }
            Ok(Err(error)) => {
                if self.failures.add(name, place, self.now(), None) {
                    tracing::error!(plugin = name, version = place.1, %error, "what was agreed on does not run here");
                }
            }
            // The host has panicked, or the node stops.
            Err(_) => drop(self.failures.add(name, place, self.now(), None)),
        }
    }

    /// Fetches a component from the first node that has it, and has it run.
    async fn fetch(&mut self, name: &str, wanted: &AgreedPlugin) {
        let nodes = self.others.nodes();
        let mut why = "no other node is connected that could have it".to_owned();
        for node in &nodes {
            match self.fetch_from(*node, wanted).await {
                Ok(()) => {
                    tracing::info!(plugin = name, %node, bytes = wanted.bytes, "a plugin's component was fetched");
                    return self.settle(name, Some(wanted)).await;
                }
                Err(error) => why = format!("node {node}: {error}"),
            }
        }
        let asked: BTreeSet<_> = nodes.into_iter().collect();
        if self.failures.add(name, place(wanted), self.now(), Some(asked)) {
            tracing::warn!(plugin = name, why, "a plugin's component is not here yet");
        }
        self.host.note_waiting(name, format!("its component is not here yet: {why}"));
    }

    async fn fetch_from(&self, node: NodeId, wanted: &AgreedPlugin) -> Result<(), String> {
        let (sha256, bytes) = (wanted.sha256, wanted.bytes.min(PLUGIN_BYTES_MAX));
        let wasm = fetch(&*self.others, node, sha256, bytes).await?;
        let host = Arc::clone(&self.host);
        let kept = tokio::task::spawn_blocking(move || host.keep_component(&wasm, &sha256)).await;
        match kept.map_err(|_| "the node is stopping".to_owned())? {
            Ok(true) => Ok(()),
            Ok(false) => Err("what it has is damaged".to_owned()),
            Err(error) => Err(format!("it cannot be kept here: {error}")),
        }
    }

    /// Has the site, which is this node alone, agree on a plugin that runs here already.
    async fn agree(&mut self, name: &str) {
        let (host, plugin) = (Arc::clone(&self.host), name.to_owned());
        let found = tokio::task::spawn_blocking(move || new_of(&host, &plugin)).await;
        let agreed = match found.unwrap_or_else(|_| Err("the node is stopping".to_owned())) {
            Ok(new) => self.catalog.propose(Change::DeployPlugin(new), WHO).await.map_err(|error| error.to_string()),
            Err(why) => Err(why),
        };
        match agreed {
            Ok(_) => self.failures.clear(name),
            Err(why) => {
                if self.failures.add(name, (0, 0), self.now(), None) {
                    tracing::warn!(plugin = name, why, "the plugin runs on this node alone; deploy it again");
                }
            }
        }
    }
}

/// Which version of a plugin it is.
fn place(agreed: &AgreedPlugin) -> (u64, u64) {
    (agreed.begun, agreed.version)
}

/// What is to be agreed on of a plugin that runs here.
fn new_of(host: &PluginHost, name: &str) -> Result<NewPlugin, String> {
    let here = host.here(name).ok_or_else(|| "it is gone".to_owned())?;
    let RecordV2 { manifest, sha256, .. } = here.record;
    let bytes = host.component_bytes(&sha256).ok_or_else(|| "its component's file is gone".to_owned())?;
    let kind = Manifest::parse(&manifest).map_err(|error| error.to_string())?.kind;
    Ok(NewPlugin { name: name.to_owned(), manifest, is_guard: kind == Kind::CommandGuard, sha256, bytes })
}

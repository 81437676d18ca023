//! The guards among the plugins: deployed, removed, restored, like the others.

use std::sync::Arc;

use super::{DeployError, Deployed, PLUGINS_TREE, PluginHost, PluginStatus, RecordV2, RemoveError, StartError};
use crate::plugin_host::guard::{GuardCounters, Kept, Post, Sandbox, StoredState};
use crate::plugin_host::manifest::{Kind, Manifest};
use crate::security::Guard;

impl PluginHost {
    /// What judges commands before they are sent: all deployed guards. Guards that were deployed before the node
    /// stopped are on duty when [`PluginHost::start`] returns.
    pub fn guard(&self) -> Arc<dyn Guard> {
        Arc::clone(&self.guards) as _
    }

    pub(super) fn kept(&self) -> Arc<dyn Kept> {
        Arc::new(StoredState(Arc::clone(&self.log)))
    }

    /// Puts a guard that was deployed before on duty, whether it can be loaded or not; `wasm` is why not, or its component.
    pub(super) fn restore_guard(
        &self,
        manifest: Manifest,
        record: RecordV2,
        wasm: Result<Vec<u8>, String>,
    ) -> Result<(), StartError> {
        let (workshop, kept, manifest) = (Arc::clone(&self.workshop), self.kept(), Arc::new(manifest));
        let loaded = Arc::clone(&manifest);
        let post = Post::load(manifest, record, move || {
            workshop.guard_template(&wasm?, loaded, kept).map_err(|error| error.to_string())
        })?;
        self.guards.put(post);
        Ok(())
    }

    /// Puts a guard that has started on duty; the old version judges until then.
    pub(super) fn put_guard(
        &self,
        manifest: Manifest,
        record: RecordV2,
        sandbox: Sandbox,
    ) -> Result<Deployed, DeployError> {
        let manifest = Arc::new(manifest);
        self.commit(|open| _ = open.put_state(PLUGINS_TREE, manifest.name.as_bytes(), Some(&record.encode())))?;
        let before = self.guards.get(&manifest.name).map(|post| Arc::clone(&post.counters));
        let (name, redeployed) = (manifest.name.clone(), before.is_some());
        let sha256 = crate::plugin_host::hex(&record.sha256);
        self.guards.put(Arc::new(Post::ready(manifest, record, before.unwrap_or_default(), sandbox)));
        self.sweep();
        tracing::info!(guard = name, sha256, redeployed, "command guard deployed");
        Ok(Deployed { name, sha256, redeployed })
    }

    /// Removes a guard: first from the store, so that none is gone that would come back.
    pub(super) fn remove_guard(&self, name: &str) -> Result<(), RemoveError> {
        self.commit(|open| _ = open.put_state(PLUGINS_TREE, name.as_bytes(), None))?;
        self.guards.remove(name);
        self.sweep();
        tracing::info!(guard = name, "command guard removed");
        Ok(())
    }

    /// Refuses a plugin of one kind the name of one of the other kind.
    pub(super) fn check_kind(&self, manifest: &Manifest) -> Result<(), DeployError> {
        let taken = match manifest.kind {
            Kind::Consumer => self.guards.get(&manifest.name).is_some(),
            Kind::CommandGuard => self.plugins.lock().contains_key(&manifest.name),
        };
        if taken { Err(DeployError::OtherKind(manifest.name.clone())) } else { Ok(()) }
    }

    pub(super) fn guard_status(&self, post: &Post) -> PluginStatus {
        let figures = post.counters.figures();
        PluginStatus {
            name: post.manifest.name.clone(),
            kind: Kind::CommandGuard,
            state: post.state(),
            sha256: crate::plugin_host::hex(&post.record.sha256),
            deployed_ms: post.record.deployed_ms,
            manifest: Manifest::clone(&post.manifest),
            calls: figures.asked,
            busy_ms: crate::plugin_host::counters::read(&post.counters.busy_ns) / 1_000_000,
            guard: Some(figures),
            ..PluginStatus::default()
        }
    }

    /// The counters of each guard, for the metrics' face.
    pub fn guard_counters(&self) -> Vec<(String, Arc<GuardCounters>)> {
        let posts = self.guards.posts();
        posts.iter().map(|post| (post.manifest.name.clone(), Arc::clone(&post.counters))).collect()
    }
}

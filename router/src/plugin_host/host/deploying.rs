//! Deploying: a component is checked, compiled and kept; then it takes the place of the version before.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::{DeployError, Deployed, PluginHost};
use crate::event_log::fits_state;
use crate::plugin_host::deploy;
use crate::plugin_host::guard;
use crate::plugin_host::host::PLUGINS_MAX;
use crate::plugin_host::manifest::{Kind, Manifest};
use crate::plugin_host::registry::{RecordV2, digest};
use crate::plugin_host::sandbox::Template;
use crate::plugin_host::status::RunState;
use crate::plugin_host::task::Shared;

/// What was compiled, and has started once.
pub(super) enum Made {
    Consumer(Arc<Template>),
    Guard(Box<guard::Sandbox>),
}

impl PluginHost {
    /// Deploys a plugin on this node alone, or a new version of one, which goes on at its cursor.
    /// Compiles, so that it takes up to seconds.
    ///
    /// # Errors
    /// [`DeployError`] with the reason; what ran before runs on.
    pub fn deploy(&self, wasm: &[u8], manifest: Manifest) -> Result<Deployed, DeployError> {
        let _changing = self.changing.lock();
        let made = self.make(wasm, &manifest)?;
        let record = self.keep(wasm, &manifest)?;
        self.put(manifest, record, made)
    }

    /// Finds out whether a plugin could be deployed, and keeps its component, for others as well, until it is
    /// [released](Self::release). What is to be agreed on then.
    /// Compiles, so that it takes up to seconds.
    ///
    /// # Errors
    /// [`DeployError`] with the reason.
    pub fn check(&self, wasm: &[u8], manifest: &Manifest) -> Result<RecordV2, DeployError> {
        let _changing = self.changing.lock();
        // What was compiled of a refused one goes, so that refusals do not fill the disk.
        drop(self.make(wasm, manifest).inspect_err(|_| self.sweep())?);
        // Another deployment must not throw it away meanwhile.
        let sha256 = digest(wasm);
        self.expected.lock().hold(sha256);
        self.keep(wasm, manifest).inspect_err(|_| self.expected.lock().release(&sha256))
    }

    /// Finds out whether a plugin that runs could run with another manifest, as far as that is seen without starting it.
    ///
    /// # Errors
    /// [`DeployError`] with the reason.
    pub fn check_manifest(&self, manifest: &Manifest) -> Result<(), DeployError> {
        manifest.check()?;
        self.check_kind(manifest)?;
        self.check_place(manifest)
    }

    /// Checks and compiles a component, and starts it once.
    pub(super) fn make(&self, wasm: &[u8], manifest: &Manifest) -> Result<Made, DeployError> {
        if self.stopped.load(Ordering::Acquire) {
            return Err(DeployError::Stopping);
        }
        manifest.check()?;
        deploy::check_bytes(wasm)?;
        self.check_kind(manifest)?;
        self.check_place(manifest)?;
        if manifest.kind == Kind::CommandGuard {
            let template = self.workshop.guard_template(wasm, Arc::new(manifest.clone()), self.kept())?;
            let mut sandbox = guard::Sandbox::new(Arc::new(template));
            let until = Instant::now() + Duration::from_millis(u64::from(manifest.limits.call_ms));
            sandbox.start(until).map_err(deploy::not_started)?;
            return Ok(Made::Guard(Box::new(sandbox)));
        }
        let template = Arc::new(self.workshop.template(wasm, manifest.clone())?);
        deploy::try_start(&template)?;
        Ok(Made::Consumer(template))
    }

    /// Whether there is room, and no plugin would feed itself through others.
    fn check_place(&self, manifest: &Manifest) -> Result<(), DeployError> {
        let plugins = self.plugins.lock();
        let known = plugins.contains_key(&manifest.name) || self.guards.get(&manifest.name).is_some();
        if plugins.len() + self.guards.posts().len() >= PLUGINS_MAX && !known {
            return Err(DeployError::TooMany);
        }
        let others = plugins.values().map(|plugin| &plugin.manifest).filter(|other| other.name != manifest.name);
        deploy::check_loops(manifest, others)
    }

    /// Keeps the component; what is left to do for a deployment is to store the record.
    pub(super) fn keep(&self, wasm: &[u8], manifest: &Manifest) -> Result<RecordV2, DeployError> {
        let record = RecordV2 {
            manifest: toml::to_string(manifest).map_err(|error| DeployError::Broken(error.to_string()))?,
            sha256: digest(wasm),
            deployed_ms: self.log.clock().wall_ms(),
            ..RecordV2::default()
        };
        if !fits_state(manifest.name.as_bytes(), &record.encode()) {
            return Err(DeployError::Broken(
                "its manifest is too large to be stored; give it fewer settings".to_owned(),
            ));
        }
        self.files.keep(wasm, &record.sha256)?;
        Ok(record)
    }

    /// Stores the record, and has the new version run in the place of the old one.
    pub(super) fn put(&self, manifest: Manifest, record: RecordV2, made: Made) -> Result<Deployed, DeployError> {
        let template = match made {
            Made::Guard(sandbox) => return self.put_guard(manifest, record, *sandbox),
            Made::Consumer(template) => template,
        };
        self.ensure_topics(&manifest)?;
        let before = self.plugins.lock().get(&manifest.name).map(|plugin| Arc::clone(&plugin.task.shared().counters));
        self.register(&manifest, &record, before.is_none())?;
        let removed = self.plugins.lock().remove(&manifest.name);
        drop(removed); // waits until the old version has stopped
        let sha256 = crate::plugin_host::hex(&record.sha256);
        let name = manifest.name.clone();
        let redeployed = before.is_some();
        // It was started once: it runs on return, although its thread may have to wait for its turn.
        let shared = Shared::new(before.unwrap_or_default(), RunState::Running);
        self.run(manifest, record, shared, move |_, _| Ok(template))?;
        self.sweep();
        tracing::info!(plugin = name, sha256, redeployed, "plugin deployed");
        Ok(Deployed { name, sha256, redeployed })
    }
}

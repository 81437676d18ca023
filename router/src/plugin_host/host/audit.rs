//! Who deployed and removed what, where the catalog does not tell it: acts on `_audit`.

use serde_json::json;

use super::PluginHost;
use crate::event_log::{Act, AppendError};
use crate::plugin_host::hex;
use crate::plugin_host::manifest::{Kind, Manifest};
use crate::plugin_host::registry::digest;

/// What is said of a plugin whose manifest cannot be read.
const UNNAMED: &str = "unnamed";

impl PluginHost {
    /// Notes that a component was refused that `who` wanted to deploy, with a code. What is agreed on, the catalog tells.
    pub fn audit_refused(&self, who: &str, component: &[u8], manifest: Option<&Manifest>, code: &str) {
        let mut detail = json!({"sha256": hex(&digest(component))});
        if let Some(manifest) = manifest {
            detail["kind"] = json!(manifest.kind);
        }
        let what = manifest.map_or(UNNAMED, |manifest| manifest.name.as_str());
        self.audit(Act { who, act: "plugin.deploy", what, outcome: code, detail });
    }

    /// Notes that `who` removed a plugin that nobody had agreed on; `outcome`: `done`, or the code with which it was
    /// refused.
    pub fn audit_remove(&self, who: &str, name: &str, kind: Option<Kind>, outcome: &str) {
        let detail = kind.map_or(serde_json::Value::Null, |kind| json!({"kind": kind}));
        self.audit(Act { who, act: "plugin.remove", what: name, outcome, detail });
    }

    /// What a deployed plugin is.
    pub fn kind_of(&self, name: &str) -> Option<Kind> {
        let plugin = self.plugins.lock().get(name).map(|plugin| plugin.manifest.kind);
        plugin.or_else(|| self.guards.get(name).map(|_| Kind::CommandGuard))
    }

    fn audit(&self, act: Act<'_>) {
        let (name, what) = (act.act, act.what.to_owned());
        // Durable on return, as what it tells of is.
        let durable = |ticket| self.log.durable_blocking(ticket).map_err(AppendError::Refused);
        if let Err(error) = self.log.audit(act).and_then(durable) {
            tracing::warn!(%error, act = name, what, "an act could not be recorded");
        }
    }
}

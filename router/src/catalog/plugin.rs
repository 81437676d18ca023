//! The plugins that people deploy: which version of each runs on the nodes of the site. Pure.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use super::change::Terms;
use super::encoding::{decode, encode};
use super::refusal::Class;
use super::state::State;
use super::write::Write;

/// Plugins that people may have deployed at once.
pub const AGREED_PLUGINS_MAX: usize = 64;
/// Bytes of a plugin's name, at most.
pub const PLUGIN_NAME_BYTES_MAX: usize = 64;
/// Bytes of a plugin's manifest, at most: a change goes to the other nodes whole, with what is around it.
pub const PLUGIN_MANIFEST_BYTES_MAX: usize = 48 << 10;
/// Bytes of a plugin's component, at most. The component itself is not in the catalog.
pub const PLUGIN_BYTES_MAX: u64 = 64 << 20;
/// The version byte before a stored plugin.
const VERSION: u8 = 1;

/// What is deployed: a plugin of which a version is to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewPlugin {
    /// Its name.
    pub name: String,
    /// Its manifest, as TOML.
    pub manifest: String,
    /// Whether it judges commands, rather than reads topics.
    pub is_guard: bool,
    /// The SHA-256 of its component.
    pub sha256: [u8; 32],
    /// The component's length in bytes.
    pub bytes: u64,
}

/// A plugin that runs on the nodes of the site. Stored as it is: a change of this struct makes a new version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgreedPlugin {
    /// Its manifest, as TOML.
    pub manifest: String,
    /// Whether it judges commands, rather than reads topics.
    pub is_guard: bool,
    /// The SHA-256 of its component.
    pub sha256: [u8; 32],
    /// The component's length in bytes.
    pub bytes: u64,
    /// When this version was deployed, in milliseconds since 1970.
    pub deployed_at_ms: i64,
    /// How often it was deployed, 1 at first. A plugin that was removed and is deployed again is a new one.
    pub version: u64,
    /// The change by which it was deployed first: what tells it from one of the same name that was removed.
    pub begun: u64,
}

/// Why a plugin was not deployed or removed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PluginRefusal {
    /// It cannot be a plugin's name.
    #[error("{0:?} cannot be a plugin's name: 1 to {PLUGIN_NAME_BYTES_MAX} lower-case letters, digits and '-'")]
    Name(String),
    /// Its manifest is too long.
    #[error(
        "the manifest of plugin {name} has {bytes} bytes, {PLUGIN_MANIFEST_BYTES_MAX} can be; give it fewer settings"
    )]
    Manifest {
        /// The plugin.
        name: String,
        /// The manifest's length.
        bytes: usize,
    },
    /// Its component is empty or too long.
    #[error("the component of plugin {name} has {bytes} bytes; 1 to {PLUGIN_BYTES_MAX} can be")]
    Bytes {
        /// The plugin.
        name: String,
        /// The component's length.
        bytes: u64,
    },
    /// A plugin of another kind has the name.
    #[error("`{0}` is the name of a plugin of another kind; remove that first, or take another name")]
    OtherKind(String),
    /// It was changed meanwhile.
    #[error("plugin `{name}` has version {newest} meanwhile, and version {version} was looked at; look and try again")]
    Changed {
        /// The plugin.
        name: String,
        /// The version that was looked at.
        version: u64,
        /// The version that there is.
        newest: u64,
    },
    /// There is none.
    #[error("there is no plugin `{0}`; `edgeway plugin list` names what there is")]
    Unknown(String),
    /// There are as many as there may be.
    #[error("there are {0} plugins, as many as can be; remove some")]
    TooMany(usize),
}

impl PluginRefusal {
    pub(super) fn code(&self) -> &'static str {
        match self {
            Self::Name(_) | Self::Manifest { .. } | Self::Bytes { .. } => "bad_request",
            Self::OtherKind(_) => "plugin_refused",
            Self::Changed { .. } => "plugin-changed",
            Self::Unknown(_) => "not_found",
            Self::TooMany(_) => "too-many-plugins",
        }
    }

    pub(super) fn class(&self) -> Class {
        match self {
            Self::Name(_) | Self::Manifest { .. } | Self::Bytes { .. } => Class::Bad,
            Self::OtherKind(_) | Self::Changed { .. } => Class::Conflict,
            Self::Unknown(_) => Class::Unknown,
            Self::TooMany(_) => Class::TooMuch,
        }
    }
}

impl AgreedPlugin {
    pub(super) fn encode(&self) -> Vec<u8> {
        encode(VERSION, self)
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        decode(VERSION, bytes)
    }

    /// As people and programs read it.
    pub fn json(&self) -> Json {
        json!({
            "manifest": self.manifest,
            "kind": kind(self.is_guard),
            "sha256": hex(&self.sha256),
            "bytes": self.bytes,
            "deployed_at_ms": self.deployed_at_ms,
            "version": self.version,
        })
    }

    /// What the audit says of its deployment: not the manifest, which may be long.
    pub(super) fn detail(&self) -> Json {
        json!({
            "kind": kind(self.is_guard),
            "sha256": hex(&self.sha256),
            "bytes": self.bytes,
            "version": self.version,
            "redeployed": self.version > 1,
        })
    }
}

fn kind(is_guard: bool) -> &'static str {
    if is_guard { "command-guard" } else { "consumer" }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn check_name(name: &str) -> Result<(), PluginRefusal> {
    let fits = (1..=PLUGIN_NAME_BYTES_MAX).contains(&name.len()) && !name.starts_with('-');
    let is_plain = name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'));
    if fits && is_plain { Ok(()) } else { Err(PluginRefusal::Name(name.to_owned())) }
}

pub(super) fn judge_deploy(state: &State, new: &NewPlugin, terms: &Terms) -> Result<Vec<Write>, PluginRefusal> {
    let NewPlugin { name, manifest, is_guard, sha256, bytes } = new.clone();
    check_name(&name)?;
    if manifest.len() > PLUGIN_MANIFEST_BYTES_MAX {
        return Err(PluginRefusal::Manifest { name, bytes: manifest.len() });
    }
    if !(1..=PLUGIN_BYTES_MAX).contains(&bytes) {
        return Err(PluginRefusal::Bytes { name, bytes });
    }
    let old = state.plugin(&name);
    if old.is_some_and(|old| old.is_guard != is_guard) {
        return Err(PluginRefusal::OtherKind(name));
    }
    let count = state.plugins().count();
    if old.is_none() && count >= AGREED_PLUGINS_MAX {
        return Err(PluginRefusal::TooMany(count));
    }
    let (version, begun) = old.map_or((1, terms.index), |old| (old.version.saturating_add(1), old.begun));
    let agreed = AgreedPlugin { manifest, is_guard, sha256, bytes, deployed_at_ms: terms.at_ms, version, begun };
    Ok(vec![Write::Plugin(name.into(), Some(Arc::new(agreed)))])
}

/// The same component with another manifest: a version of its own, so that every node takes it up as one.
pub(super) fn judge_grant(
    state: &State,
    name: &str,
    version: u64,
    manifest: &str,
) -> Result<Vec<Write>, PluginRefusal> {
    let old = state.plugin(name).ok_or_else(|| PluginRefusal::Unknown(name.to_owned()))?;
    if old.version != version {
        return Err(PluginRefusal::Changed { name: name.to_owned(), version, newest: old.version });
    }
    if manifest.len() > PLUGIN_MANIFEST_BYTES_MAX {
        return Err(PluginRefusal::Manifest { name: name.to_owned(), bytes: manifest.len() });
    }
    let (manifest, version) = (manifest.to_owned(), version.saturating_add(1));
    let agreed = AgreedPlugin { manifest, version, ..AgreedPlugin::clone(old) };
    Ok(vec![Write::Plugin(name.into(), Some(Arc::new(agreed)))])
}

pub(super) fn judge_remove(state: &State, name: &str) -> Result<Vec<Write>, PluginRefusal> {
    match state.plugin(name) {
        Some(_) => Ok(vec![Write::Plugin(name.into(), None)]),
        None => Err(PluginRefusal::Unknown(name.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::{Change, Config};

    fn new(name: &str) -> NewPlugin {
        NewPlugin { name: name.into(), manifest: "m".into(), is_guard: false, sha256: [7; 32], bytes: 300 }
    }

    fn terms(index: u64) -> Terms {
        Terms::new(&Config::default(), 5, index)
    }

    /// Judges a change and takes it over.
    fn make(state: &mut State, change: &Change, index: u64) -> Option<Arc<AgreedPlugin>> {
        let applied = change.judge(state, &terms(index)).ok()?;
        applied.writes.iter().for_each(|write| state.apply(write));
        state.plugin("p").cloned()
    }

    #[test]
    fn a_stored_plugin_has_these_bytes() {
        let agreed = AgreedPlugin {
            manifest: "m".into(),
            is_guard: true,
            sha256: [7; 32],
            bytes: 300,
            deployed_at_ms: 1,
            version: 2,
            begun: 130,
        };
        let golden = [&[1, 1, b'm', 1][..], &[7; 32], &[0xac, 2, 2, 2, 0x82, 1]].concat();
        assert_eq!(agreed.encode(), golden);
        assert_eq!(AgreedPlugin::decode(&golden), Some(agreed.clone()));
        assert_eq!(AgreedPlugin::decode(&golden[..golden.len() - 1]), None);
        let write = Write::Plugin("p".into(), Some(agreed.into()));
        assert_eq!(write.key(), b"plugin/p");
        assert_eq!(Write::decode(&write.key(), &golden), Some(write));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let mut guard = State::default();
        make(&mut guard, &Change::DeployPlugin(NewPlugin { is_guard: true, ..new("p") }), 1).unwrap();
        let mut full = State::default();
        for number in 0..AGREED_PLUGINS_MAX {
            let change = Change::DeployPlugin(new(&format!("p{number}")));
            full.apply(&change.judge(&full, &terms(1)).unwrap().writes[0]);
        }
        let none = State::default();
        let long = "m".repeat(PLUGIN_MANIFEST_BYTES_MAX + 1);
        let deploy = Change::DeployPlugin;
        let remove = |name: &str| Change::RemovePlugin { name: name.into() };
        let longest = "a".repeat(PLUGIN_NAME_BYTES_MAX);
        let cases = [
            (&none, deploy(new("p")), "done"),
            (&none, deploy(new(&longest)), "done"),
            (&none, deploy(new(&format!("{longest}a"))), "bad_request"),
            (&none, deploy(new("")), "bad_request"),
            (&none, deploy(new("-p")), "bad_request"),
            (&none, deploy(new("P")), "bad_request"),
            (&none, deploy(new("a/b")), "bad_request"),
            (&none, deploy(NewPlugin { manifest: long[1..].into(), ..new("p") }), "done"),
            (&none, deploy(NewPlugin { manifest: long.clone(), ..new("p") }), "bad_request"),
            (&none, deploy(NewPlugin { bytes: 0, ..new("p") }), "bad_request"),
            (&none, deploy(NewPlugin { bytes: PLUGIN_BYTES_MAX, ..new("p") }), "done"),
            (&none, deploy(NewPlugin { bytes: PLUGIN_BYTES_MAX + 1, ..new("p") }), "bad_request"),
            (&guard, deploy(new("p")), "plugin_refused"),
            (&guard, deploy(NewPlugin { is_guard: true, ..new("p") }), "done"),
            (&full, deploy(new("one-more")), "too-many-plugins"),
            (&full, deploy(new("p0")), "done"),
            (&full, remove("p0"), "done"),
            (&none, remove("p"), "not_found"),
        ];
        for (state, change, want) in cases {
            let got = change.judge(state, &terms(2)).map_or_else(|refusal| refusal.code(), |_| "done");
            assert_eq!(got, want, "{} {}", change.act(), change.what());
        }
    }

    #[test]
    fn versions_rise_and_a_removed_plugin_begins_anew() {
        let mut state = State::default();
        let deploy = Change::DeployPlugin(new("p"));
        let mut places = Vec::new();
        for index in [3, 4] {
            let agreed = make(&mut state, &deploy, index).unwrap();
            places.push((agreed.begun, agreed.version));
        }
        assert_eq!(make(&mut state, &Change::RemovePlugin { name: "p".into() }, 5), None);
        let agreed = make(&mut state, &deploy, 6).unwrap();
        places.push((agreed.begun, agreed.version));
        assert_eq!(places, [(3, 1), (3, 2), (6, 1)]);
    }

    #[test]
    fn grants_change_with_a_version_and_only_as_they_were_looked_at() {
        let mut state = State::default();
        let before = make(&mut state, &Change::DeployPlugin(new("p")), 3).unwrap();
        let grant = |name: &str, version, manifest: &str| Change::GrantPlugin {
            name: name.into(),
            version,
            manifest: manifest.into(),
        };
        let code = |state: &State, change: &Change| change.judge(state, &terms(4)).unwrap_err().code();
        assert_eq!(code(&state, &grant("p", 1, "n")), "site-not-upgraded");
        state.apply(&Write::Level(2));
        assert_eq!(code(&state, &grant("q", 1, "n")), "not_found");
        assert_eq!(code(&state, &grant("p", 2, "n")), "plugin-changed");
        assert_eq!(code(&state, &grant("p", 1, &"m".repeat(PLUGIN_MANIFEST_BYTES_MAX + 1))), "bad_request");
        let after = make(&mut state, &grant("p", 1, "n"), 4).unwrap();
        let expected = AgreedPlugin { manifest: "n".into(), version: 2, ..AgreedPlugin::clone(&before) };
        assert_eq!(*after, expected, "the component and when it was deployed stay");
        assert_eq!(code(&state, &grant("p", 1, "n")), "plugin-changed", "somebody was faster");
    }

    #[test]
    fn the_longest_manifest_fits_an_entry_of_the_log_and_a_value_of_the_store() {
        let manifest = "m".repeat(PLUGIN_MANIFEST_BYTES_MAX);
        let new = NewPlugin { manifest, name: "a".repeat(PLUGIN_NAME_BYTES_MAX), ..new("p") };
        let change = Change::DeployPlugin(new);
        let applied = change.judge(&State::default(), &terms(u64::MAX)).unwrap();
        let write = &applied.writes[0];
        assert!(crate::event_log::fits_state(&write.key(), &write.value().unwrap()));
        let bytes = crate::catalog::consensus::encode_change(&change).len();
        assert!(bytes + (1 << 10) <= crate::catalog::consensus::PROPOSAL_BYTES_MAX, "{bytes}");
    }
}

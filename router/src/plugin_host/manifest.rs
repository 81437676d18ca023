//! What a plugin's author asks for and its operator agrees to: TOML.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::guard;
use crate::event_log::SITE_SEPARATOR;

/// A plugin's name has at most this many bytes.
pub const NAME_BYTES_MAX: usize = 64;
/// A plugin reads at most this many topics.
pub const SOURCE_TOPICS_MAX: usize = 64;
/// A guard's answer within this many ms is waited for where its manifest says nothing.
const GUARD_CALL_MS_DEFAULT: u32 = 50;
/// Settings a manifest may have.
const SETTINGS_MAX: usize = 256;
/// A manifest's text has at most this many bytes.
pub const MANIFEST_BYTES_MAX: usize = 64 << 10;

/// Why a manifest is refused.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Not TOML, or with unknown or missing entries; says the line.
    #[error("the manifest cannot be read: {0}")]
    Syntax(#[from] toml::de::Error),
    /// An entry has a value that cannot be.
    #[error("the manifest's `{entry}`: {reason}")]
    Value {
        /// The entry.
        entry: &'static str,
        /// What is wrong with it.
        reason: String,
    },
}

/// What a plugin is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A reader of the log: world `plugin`.
    #[default]
    Consumer,
    /// Asked before commands are sent: world `command-guard`.
    CommandGuard,
}

/// Where a plugin deployed for the first time begins to read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum From {
    /// With the first event still stored.
    Start,
    /// With the next event to come.
    #[default]
    End,
}

/// Where a plugin runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    /// On the node whose store the events were first written to.
    #[default]
    Origin,
    /// On one node for each partition number, which reads the partitions of that number of all origins. Its state
    /// belongs to the number, over all origins.
    Site,
}

/// What a plugin may do with device twins.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TwinGrant {
    /// Nothing.
    #[default]
    None,
    /// Read them.
    Read,
    /// Read them, and set what is desired.
    Set,
}

/// What a plugin may do.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Grants {
    /// Topics it may append to.
    pub emit: Vec<String>,
    /// Command names it may send; `*` stands for any text.
    pub commands: Vec<String>,
    /// Whether its commands may be urgent: no guard holds such a one.
    pub urgent: bool,
    /// Internal topics it may read (not append to).
    pub internal: Vec<String>,
    /// Whether it may keep state.
    pub state: bool,
    /// Whether it is given the events' headers.
    pub headers: bool,
    /// For a command guard: plugins whose state it may read.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub read_state: Vec<String>,
    /// What it may do with device twins: `none`, `read` or `set`.
    pub twins: TwinGrant,
}

/// What a plugin may use.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Linear memory of the instance, in MiB.
    pub memory_mib: u32,
    /// Time for one batch, or for the judgement of one command (50 then, unless it is said), in ms; told apart in
    /// steps of 10 ms.
    pub call_ms: u32,
    /// Bytes that one batch's answer may have, and may cause to be appended.
    pub output_kib: u32,
    /// Events given at once.
    pub batch_events: u32,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { memory_mib: 64, call_ms: 250, output_kib: 8192, batch_events: 256 }
    }
}

/// A plugin's manifest.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The plugin's name: lower-case letters, digits and `-`.
    pub name: String,
    /// What it is.
    #[serde(default)]
    pub kind: Kind,
    /// The topics it reads; none for a command guard.
    #[serde(default)]
    pub topics: Vec<String>,
    /// For a command guard: names of the commands it judges; `*` stands for any text.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub commands: Vec<String>,
    /// For a command guard: the devices whose commands it judges, likewise; all where none is named.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<String>,
    /// Where it begins.
    #[serde(default)]
    pub from: From,
    /// Where it runs.
    #[serde(default)]
    pub scope: Scope,
    /// What it may do.
    #[serde(default)]
    pub grants: Grants,
    /// What it may use.
    #[serde(default)]
    pub limits: Limits,
    /// Its settings.
    #[serde(default)]
    pub config: BTreeMap<String, toml::Value>,
}

impl Manifest {
    /// Reads and checks a manifest.
    ///
    /// # Errors
    /// [`ManifestError`] names the line or the entry.
    pub fn parse(text: &str) -> Result<Manifest, ManifestError> {
        let manifest = Manifest::read(text)?;
        manifest.check()?;
        Ok(manifest)
    }

    /// Reads a manifest that was checked when it was kept: what is refused since is to be told, or mended.
    ///
    /// # Errors
    /// [`ManifestError::Syntax`].
    pub fn read(text: &str) -> Result<Manifest, ManifestError> {
        let mut manifest: Manifest = toml::from_str(text)?;
        if manifest.kind == Kind::CommandGuard && !says_call_ms(text)? {
            manifest.limits.call_ms = GUARD_CALL_MS_DEFAULT;
        }
        Ok(manifest)
    }

    /// Checks everything that can be checked without the node.
    ///
    /// # Errors
    /// [`ManifestError::Value`] names the entry.
    pub fn check(&self) -> Result<(), ManifestError> {
        check_name(&self.name)?;
        match self.kind {
            Kind::Consumer => check_consumer(self)?,
            Kind::CommandGuard => guard::check_manifest(self)?,
        }
        check_limits(&self.limits)?;
        if self.config.len() > SETTINGS_MAX {
            return refuse("config", format!("more than {SETTINGS_MAX} settings"));
        }
        match self.settings().find(|(_, value)| value.is_none()) {
            Some((name, _)) => refuse("config", format!("`{name}` is neither text, number nor boolean")),
            None => Ok(()),
        }
    }

    /// The settings as the guest sees them; `None` for what has no text form.
    pub fn settings(&self) -> impl Iterator<Item = (&str, Option<String>)> {
        self.config.iter().map(|(name, value)| {
            let text = match value {
                toml::Value::String(text) => Some(text.clone()),
                toml::Value::Integer(number) => Some(number.to_string()),
                toml::Value::Float(number) => Some(number.to_string()),
                toml::Value::Boolean(yes) => Some(yes.to_string()),
                _ => None,
            };
            (name.as_str(), text)
        })
    }
}

/// A refusal of this entry.
///
/// # Errors
/// Always.
pub fn refuse<T>(entry: &'static str, reason: impl Into<String>) -> Result<T, ManifestError> {
    let reason = reason.into();
    Err(ManifestError::Value { entry, reason })
}

/// Whether it can be a plugin's name.
///
/// # Errors
/// It cannot; says why.
pub fn check_name(name: &str) -> Result<(), ManifestError> {
    let fits = (1..=NAME_BYTES_MAX).contains(&name.len());
    let plain = name.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'));
    if fits && plain && !name.starts_with('-') {
        return Ok(());
    }
    refuse("name", format!("`{name}` is not 1 to {NAME_BYTES_MAX} lower-case letters, digits and `-`"))
}

/// Whether the manifest sets the time of a call itself.
fn says_call_ms(text: &str) -> Result<bool, toml::de::Error> {
    let table: toml::Table = toml::from_str(text)?;
    Ok(table.get("limits").is_some_and(|limits| limits.get("call_ms").is_some()))
}

fn check_consumer(manifest: &Manifest) -> Result<(), ManifestError> {
    for (entry, patterns) in [("commands", &manifest.commands), ("devices", &manifest.devices)] {
        if !patterns.is_empty() {
            return refuse(
                entry,
                "is for plugins of `kind = \"command-guard\"`; what it may send is `grants.commands`",
            );
        }
    }
    if !manifest.grants.read_state.is_empty() {
        return refuse("grants.read_state", "is for plugins of `kind = \"command-guard\"`");
    }
    check_topics(manifest)
}

fn check_topics(manifest: &Manifest) -> Result<(), ManifestError> {
    let grants = &manifest.grants;
    if manifest.topics.is_empty() || manifest.topics.len() > SOURCE_TOPICS_MAX {
        return refuse("topics", format!("must name 1 to {SOURCE_TOPICS_MAX} topics"));
    }
    if let Some(topic) = manifest.topics.iter().find(|t| t.starts_with('_') && !grants.internal.contains(t)) {
        return refuse("topics", format!("`{topic}` is internal, and `grants.internal` does not name it"));
    }
    if let Some(topic) = grants.emit.iter().find(|topic| topic.starts_with('_')) {
        return refuse("grants.emit", format!("`{topic}` is internal: no plugin may append to it"));
    }
    if let Some(topic) = grants.emit.iter().find(|topic| topic.contains(SITE_SEPARATOR)) {
        return refuse("grants.emit", format!("`{topic}` is another site's: nobody appends to it here"));
    }
    if let Some(topic) = grants.emit.iter().find(|topic| manifest.topics.contains(topic)) {
        return refuse("grants.emit", format!("`{topic}` is also read: the plugin would feed itself for ever"));
    }
    let mut names = manifest.topics.iter().chain(&grants.emit).chain(&grants.commands);
    match names.find(|name| name.is_empty()) {
        Some(_) => refuse("topics", "a name is empty"),
        None => Ok(()),
    }
}

fn check_limits(limits: &Limits) -> Result<(), ManifestError> {
    let ranges = [
        ("limits.memory_mib", limits.memory_mib, 1..=1024),
        ("limits.call_ms", limits.call_ms, 10..=10_000),
        ("limits.output_kib", limits.output_kib, 1..=65_536),
        ("limits.batch_events", limits.batch_events, 1..=4096),
    ];
    for (entry, value, range) in ranges {
        if !range.contains(&value) {
            return refuse(entry, format!("{value} is not within {} to {}", range.start(), range.end()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shipped_manifests_are_sound() {
        let threshold = include_str!("../../../plugins/threshold-alarm/manifest.toml");
        let downsample = include_str!("../../../plugins/downsample/manifest.toml");
        assert_eq!(Manifest::parse(downsample).unwrap().grants.emit, ["downsampled"]);
        let manifest = Manifest::parse(threshold).unwrap();
        assert_eq!(manifest.limits, Limits::default(), "the file says that it shows the defaults");
        let watch = Manifest::parse(include_str!("../../../plugins/pressure-watch/manifest.toml")).unwrap();
        let guard = Manifest::parse(include_str!("../../../plugins/valve-guard/manifest.toml")).unwrap();
        assert_eq!(guard.grants.read_state, [watch.name]);
        assert_eq!(
            guard.limits,
            Limits { call_ms: 50, ..Limits::default() },
            "the file says that it shows the defaults"
        );
        let limit = manifest.settings().find(|(name, _)| *name == "limit");
        assert_eq!(limit, Some(("limit", Some("80".to_owned()))));
    }

    #[test]
    fn wrong_manifests_are_refused_with_the_entry() {
        let cases = [
            ("", "missing field `name`"),
            ("name='a'\ntopics=['t']\nx=1", "unknown field `x`"),
            ("name='A'\ntopics=['t']", "`name`"),
            ("name='a'\ntopics=[]", "`topics`"),
            ("name='a'\ntopics=['_answers']", "`_answers` is internal"),
            ("name='a'\ntopics=['t']\n[grants]\nemit=['_x']", "no plugin may append"),
            ("name='a'\ntopics=['t']\n[grants]\nemit=['t']", "feed itself"),
            ("name='a'\ntopics=['t']\n[grants]\nemit=['hq/x']", "`hq/x` is another site's"),
            ("name='a'\ntopics=['t']\n[limits]\ncall_ms=1", "`limits.call_ms`: 1 is not within 10"),
            ("name='a'\ntopics=['t']\n[config]\nx=[1]", "`x` is neither"),
            ("name='a'\ntopics=['']", "a name is empty"),
            ("name='a'\ntopics=['t']\ncommands=['x']", "`commands`: is for plugins of `kind"),
            ("name='a'\ntopics=['t']\n[grants]\nread_state=['x']", "`grants.read_state`: is for"),
            ("name='a'\nkind='guard'", "unknown variant `guard`"),
            ("name='a'\nkind='command-guard'", "`commands`: must name"),
            ("name='a'\nkind='command-guard'\ncommands=['x']\ntopics=['t']", "reads no topics"),
            ("name='a'\nkind='command-guard'\ncommands=['']", "1 to 256 bytes"),
            ("name='a'\nkind='command-guard'\ncommands=['x']\n[grants]\nstate=true", "`read_state` alone"),
            ("name='a'\nkind='command-guard'\ncommands=['x']\n[grants]\nread_state=['X']", "`X` is not"),
            ("name='a'\nkind='command-guard'\ncommands=['x']\n[limits]\ncall_ms=1001", "at most 1000 ms"),
        ];
        for (text, want) in cases {
            let error = Manifest::parse(text).unwrap_err().to_string();
            assert!(error.contains(want), "{text}: {error}");
        }
        let granted = "name='a'\ntopics=['_answers']\n[grants]\ninternal=['_answers']";
        assert!(Manifest::parse(granted).is_ok());
    }

    #[test]
    fn a_guards_call_has_its_own_default_and_survives_being_stored() {
        let text = "name='a'\nkind='command-guard'\ncommands=['open*']";
        let manifest = Manifest::parse(text).unwrap();
        assert_eq!(manifest.limits.call_ms, 50);
        assert_eq!(Manifest::parse(&toml::to_string(&manifest).unwrap()).unwrap(), manifest);
        let said = Manifest::parse(&format!("{text}\n[limits]\ncall_ms=250")).unwrap();
        assert_eq!(said.limits.call_ms, 250);
    }
}

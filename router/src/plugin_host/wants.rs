//! What sites that feed this one are to have of plugins: kept on this node, until their gateways have said what came of it.

use std::io;
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use sled_data::STATE_VALUE_BYTES_MAX;
use tokio::sync::watch;

use super::deploy::check_bytes;
use super::registry::{Files, digest};
use super::{DeployError, Kind, Manifest, ManifestError};
use crate::event_log::{Act, CommitFailed, EventLog, fits_state};

/// The small named tree, its keys: the site, 0, and the plugin's name.
pub const WANTS_TREE: &str = "plugins_below";
/// The version byte before a value.
const VERSION: u8 = 1;
/// Plugins that one site is to have, those included that it is to lose; and all sites together.
pub const WANTS_OF_SITE_MAX: usize = 64;
pub const WANTS_MAX: usize = 1_024;
/// Bytes of all components that are kept for sites.
pub const COMPONENTS_BYTES_MAX: u64 = 1 << 30;
/// Bytes of a manifest, as the catalog of a site takes it.
const MANIFEST_BYTES_MAX: usize = 48 << 10;
/// Answers of gateways that are kept of one plugin, as many as a link may have gateways.
pub const ANSWERS_MAX: usize = 32;
/// Bytes of a text of an answer, and of who wants a plugin.
const TEXT_BYTES_MAX: usize = 128;
/// Bytes of the numbers and lengths of an answer, and of all else that is kept of a plugin.
const ANSWER_HEAD_BYTES_MAX: usize = 32;
const HEAD_BYTES_MAX: usize = 128;

const _: () = assert!(
    MANIFEST_BYTES_MAX + TEXT_BYTES_MAX + HEAD_BYTES_MAX + ANSWERS_MAX * (2 * TEXT_BYTES_MAX + ANSWER_HEAD_BYTES_MAX)
        <= STATE_VALUE_BYTES_MAX
);

/// What a site is to have of one plugin. Frozen: another shape is another version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WantV1 {
    /// What tells it from what was wanted before.
    pub number: u64,
    /// The manifest, as TOML; empty where it is to be removed.
    pub manifest: String,
    /// SHA-256 of the component.
    pub sha256: [u8; 32],
    /// Its length in bytes; 0: the plugin is to be removed.
    pub bytes: u64,
    /// When that was said, Unix milliseconds.
    pub given_ms: i64,
    /// Who said it.
    pub who: String,
    /// What gateways have answered for good.
    pub answers: Vec<AnswerV1>,
}

/// What a gateway has answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnswerV1 {
    /// The gateway, by its id here.
    pub gateway: u64,
    /// The code of its refusal; empty: it was done.
    pub code: String,
    /// Why, for people.
    pub text: String,
    /// When, Unix milliseconds.
    pub at_ms: i64,
}

/// Why a site is not given a plugin.
#[derive(Debug, thiserror::Error)]
pub enum WantError {
    /// The plugin.
    #[error(transparent)]
    Plugin(#[from] DeployError),
    /// A guard.
    #[error("`{0}` is a command guard: those are deployed at the site whose commands they judge")]
    Guard(String),
    /// Too many, or too much.
    #[error("there are {0}, as many as there may be")]
    TooMany(String),
    /// It was not said that the site is to have it.
    #[error("site {site} was not given a plugin `{name}` here")]
    Unknown {
        /// The site.
        site: String,
        /// The plugin.
        name: String,
    },
    /// The store.
    #[error("the store: {0}")]
    Store(String),
    /// The store did not take it.
    #[error(transparent)]
    Commit(#[from] CommitFailed),
    /// The component's file.
    #[error("the component's file: {0}")]
    File(#[from] io::Error),
}

impl From<ManifestError> for WantError {
    fn from(error: ManifestError) -> Self {
        DeployError::from(error).into()
    }
}

/// What sites are to have.
pub struct Wants {
    log: Arc<EventLog>,
    files: Files,
    /// One change at a time; the last number that was given, so that none is given again of what is forgotten.
    changing: Mutex<u64>,
    changed: watch::Sender<u64>,
}

fn key(site: &str, name: &str) -> Vec<u8> {
    [site.as_bytes(), &[0], name.as_bytes()].concat()
}

fn cut(text: &str) -> String {
    text[..text.floor_char_boundary(TEXT_BYTES_MAX)].to_owned()
}

fn encode(want: &WantV1) -> Vec<u8> {
    postcard::to_extend(want, vec![VERSION]).unwrap_or_default()
}

fn decode(bytes: &[u8]) -> Option<WantV1> {
    let (&VERSION, rest) = bytes.split_first()? else { return None };
    match postcard::take_from_bytes(rest).ok()? {
        (want, []) => Some(want),
        _ => None,
    }
}

impl Wants {
    /// Opens what is kept; components are files in `folder`.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub fn open(log: Arc<EventLog>, folder: &Path) -> io::Result<Self> {
        let (files, changed) = (Files::open(folder)?, watch::Sender::new(0));
        Ok(Self { log, files, changing: Mutex::default(), changed })
    }

    /// Changes whenever something more is wanted: who has read what is wanted, and done it, has nothing to read until then.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// All that is wanted: site, plugin, and what of it. Reads the store.
    fn all(&self) -> Result<Vec<(String, String, WantV1)>, WantError> {
        self.scan(b"")
    }

    /// The same of the keys that begin so.
    fn scan(&self, prefix: &[u8]) -> Result<Vec<(String, String, WantV1)>, WantError> {
        let entries = self
            .log
            .state_scan(WANTS_TREE, prefix, None, WANTS_MAX)
            .map_err(|error| WantError::Store(error.to_string()))?;
        let read = |(key, value): (Vec<u8>, Vec<u8>)| {
            let at = key.iter().position(|byte| *byte == 0)?;
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
            Some((text(&key[..at])?, text(&key[at + 1..])?, decode(&value)?))
        };
        Ok(entries.into_iter().filter_map(|(key, value)| read((key.to_vec(), value.to_vec()))).collect())
    }

    /// What a site is to have, by name. Reads what the store has of that site.
    ///
    /// # Errors
    /// The store's.
    pub fn of_site(&self, site: &str) -> Result<Vec<(String, WantV1)>, WantError> {
        let all = self.scan(&key(site, ""))?;
        Ok(all.into_iter().map(|(_, name, want)| (name, want)).collect())
    }

    /// Says that a site is to have a plugin; its name and the digest. Durable on return.
    ///
    /// # Errors
    /// [`WantError`] with the reason.
    pub fn give(&self, site: &str, wasm: &[u8], manifest: &str, who: &str) -> Result<(String, [u8; 32]), WantError> {
        check_bytes(wasm)?;
        let read = Manifest::parse(manifest)?;
        if read.kind == Kind::CommandGuard {
            return Err(WantError::Guard(read.name));
        }
        let text = toml::to_string(&read).map_err(|error| DeployError::Broken(error.to_string()))?;
        if text.len() > MANIFEST_BYTES_MAX {
            return Err(WantError::TooMany(format!(
                "{} bytes of the manifest; {MANIFEST_BYTES_MAX} can be",
                text.len()
            )));
        }
        let mut last = self.changing.lock();
        let (sha256, bytes) = (digest(wasm), wasm.len() as u64);
        self.make_room(site)?;
        self.check_room(site, &read.name, (sha256, bytes))?;
        self.files.keep(wasm, &sha256)?;
        let kept = self.put(&mut last, (site, &read.name), (text, sha256, bytes), who);
        self.sweep();
        kept.map(|()| (read.name, sha256))
    }

    /// Says that a site is not to have a plugin any more. Where it is known to be gone already, or nobody can be told, nothing is kept of it.
    ///
    /// # Errors
    /// [`WantError::Unknown`], or the store's.
    pub fn take_back(&self, site: &str, name: &str, is_linked: bool, who: &str) -> Result<(), WantError> {
        let mut last = self.changing.lock();
        let unknown = || WantError::Unknown { site: site.to_owned(), name: name.to_owned() };
        let (_, want) = self.of_site(site)?.into_iter().find(|(of, _)| of == name).ok_or_else(unknown)?;
        *last = want.number.max(*last);
        if is_linked {
            self.put(&mut last, (site, name), (String::new(), [0; 32], 0), who)?;
        } else {
            self.store(site, name, None)?;
            self.audit(who, site, name, "forgotten", "no site of that name feeds this one");
        }
        self.sweep();
        Ok(())
    }

    /// Forgets what sites are to have whose link was removed: whoever gets the name next is not given it. Durable on return.
    ///
    /// # Errors
    /// The store's.
    pub fn forget(&self, is_removed: &dyn Fn(&str) -> bool) -> Result<(), WantError> {
        let mut last = self.changing.lock();
        let mut all = self.all()?;
        all.retain(|(site, ..)| is_removed(site));
        if all.is_empty() {
            return Ok(());
        }
        for (site, name, want) in all {
            *last = want.number.max(*last);
            self.store(&site, &name, None)?;
            self.audit("node", &site, &name, "forgotten", "the site's link was removed");
        }
        self.sweep();
        Ok(())
    }

    /// Where a site has as many as it may, the oldest removal that a gateway has done goes: others may be gone for good, and never answer.
    fn make_room(&self, site: &str) -> Result<(), WantError> {
        let all = self.of_site(site)?;
        if all.len() < WANTS_OF_SITE_MAX {
            return Ok(());
        }
        let removed = all.iter().filter(|(_, want)| want.bytes == 0 && !want.answers.is_empty());
        match removed.min_by_key(|(_, want)| want.number) {
            Some((name, _)) => self.store(site, name, None),
            None => Ok(()),
        }
    }

    /// Whether one more, or other bytes of one, may be kept.
    fn check_room(&self, site: &str, name: &str, (sha256, bytes): ([u8; 32], u64)) -> Result<(), WantError> {
        let mut all = self.all()?;
        all.retain(|(of, known, _)| (of.as_str(), known.as_str()) != (site, name));
        if all.len() >= WANTS_MAX {
            return Err(WantError::TooMany(format!("{WANTS_MAX} plugins of all sites")));
        }
        if all.iter().filter(|(of, ..)| of == site).count() >= WANTS_OF_SITE_MAX {
            return Err(WantError::TooMany(format!("{WANTS_OF_SITE_MAX} plugins of site {site}")));
        }
        let mut components: std::collections::BTreeMap<[u8; 32], u64> =
            all.into_iter().map(|(.., want)| (want.sha256, want.bytes)).collect();
        components.insert(sha256, bytes);
        let total = components.values().fold(0_u64, |sum, bytes| sum.saturating_add(*bytes));
        if total > COMPONENTS_BYTES_MAX {
            return Err(WantError::TooMany(format!(
                "{total} bytes of components for sites; {COMPONENTS_BYTES_MAX} can be"
            )));
        }
        Ok(())
    }

    /// Keeps what is wanted now, under a number of its own.
    fn put(
        &self,
        last: &mut u64,
        (site, name): (&str, &str),
        (manifest, sha256, bytes): (String, [u8; 32], u64),
        who: &str,
    ) -> Result<(), WantError> {
        *last = self.all()?.iter().map(|(.., want)| want.number).fold(*last, u64::max).saturating_add(1);
        let given_ms = self.log.clock().wall_ms();
        let want = WantV1 { number: *last, manifest, sha256, bytes, given_ms, who: cut(who), answers: Vec::new() };
        self.store(site, name, Some(&want))?;
        self.audit(who, site, name, if bytes > 0 { "wanted" } else { "unwanted" }, &super::hex(&sha256));
        self.changed.send_modify(|changes| *changes += 1);
        Ok(())
    }

    fn store(&self, site: &str, name: &str, want: Option<&WantV1>) -> Result<(), WantError> {
        let (key, value) = (key(site, name), want.map(encode));
        if !fits_state(&key, value.as_deref().unwrap_or_default()) {
            return Err(WantError::Plugin(DeployError::Broken("its manifest is too large to be stored".to_owned())));
        }
        let ticket = {
            let mut open = self.log.lock();
            open.put_state(WANTS_TREE, &key, value.as_deref());
            open.ticket()
        };
        Ok(self.log.durable_blocking(ticket)?)
    }

    /// Files of components that no site is to have any more go.
    fn sweep(&self) {
        let Ok(all) = self.all() else { return };
        let in_use: Vec<[u8; 32]> = all.into_iter().map(|(.., want)| want.sha256).collect();
        self.files.sweep(&in_use);
    }

    /// A part of a component; `None` where it is not here.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn part(&self, sha256: &[u8; 32], offset: u64, bytes_max: u64) -> io::Result<Option<Vec<u8>>> {
        Ok(self.files.read_part(sha256, offset, bytes_max)?.map(|(_, part)| part))
    }

    /// What a gateway of a site has not answered yet, in the order in which it was said. Reads what the store has of that site.
    ///
    /// # Errors
    /// The store's.
    pub fn wanted(&self, site: &str, gateway: u64) -> Result<Vec<(String, WantV1)>, WantError> {
        let mut all = self.of_site(site)?;
        all.retain(|(_, want)| want.answers.iter().all(|answer| answer.gateway != gateway));
        all.sort_by_key(|(_, want)| want.number);
        Ok(all)
    }

    /// A gateway says for good what has come of what was wanted under a number; `refused` has code and text. What is wanted otherwise
    /// meanwhile is left alone. A removal is forgotten when all of the link's `gateways` have answered: before, one that has not may be about to
    /// deploy what is to go. Durable on return.
    ///
    /// # Errors
    /// The store's.
    pub fn answered(
        &self,
        site: &str,
        (gateway, gateways): (u64, &[u64]),
        (name, number): (&str, u64),
        refused: Option<(String, String)>,
    ) -> Result<(), WantError> {
        let mut last = self.changing.lock();
        let found = self.of_site(site)?.into_iter().find(|(of, want)| of == name && want.number == number);
        let Some((_, mut want)) = found else { return Ok(()) };
        *last = want.number.max(*last);
        let (code, text) = refused.map(|(code, text)| (cut(&code), cut(&text))).unwrap_or_default();
        let said = if code.is_empty() { "done".to_owned() } else { format!("{code}: {text}") };
        self.audit(&format!("gateway:{gateway:016x}"), site, name, "answered", &said);
        let has_answered = |of: &u64| *of == gateway || want.answers.iter().any(|answer| answer.gateway == *of);
        if want.bytes == 0 && gateways.iter().all(has_answered) {
            return self.store(site, name, None);
        }
        want.answers.retain(|answer| answer.gateway != gateway);
        if want.answers.len() >= ANSWERS_MAX {
            want.answers.remove(0);
        }
        want.answers.push(AnswerV1 { gateway, code, text, at_ms: self.log.clock().wall_ms() });
        self.store(site, name, Some(&want))
    }

    fn audit(&self, who: &str, site: &str, name: &str, outcome: &str, detail: &str) {
        let what = format!("{site}/{name}");
        let act = Act { who, act: "plugin.give", what: &what, outcome, detail: detail.to_owned().into() };
        if let Err(error) = self.log.audit(act) {
            tracing::warn!(%error, "it is not in the audit");
        }
    }
}

#[cfg(test)]
mod tests;

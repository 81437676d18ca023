//! What sites that feed this one are to have of plugins, and what their gateways have said of it: kept at each node of the site.
//!
//! `stored` is what is kept of one plugin, `merge` what two nodes know together (pure); `others` is what is said to other nodes and heard from them;
//! `whose` for which gateways something was wanted.
//! A plugin that is gone is kept as a note that says so, for who has heard of it and not of its end.

mod merge;
mod others;
mod stored;
mod whose;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::watch;

use super::deploy::check_bytes;
use super::registry::{Files, digest};
use super::{DeployError, Kind, Manifest, ManifestError};
use crate::event_log::{Act, CommitFailed, EventLog, fits_state};
pub use others::{ENTRIES_AT_ONCE_MAX, Head, Known};
pub use stored::{ANSWERS_MAX, AnswerV1, WantV1};
use stored::{MANIFEST_BYTES_MAX, NOBODY, UNLINKED, cut};

/// The small named tree, its keys: the site, 0, and the plugin's name.
pub const WANTS_TREE: &str = "plugins_below";
/// Plugins that one site is to have, those included that it is to lose.
pub const WANTS_OF_SITE_MAX: usize = 64;
/// The same of all sites together.
pub const WANTS_MAX: usize = 1_024;
/// Notes of plugins that are gone, of all sites: beyond them the oldest goes.
pub const GONE_MAX: usize = 1_024;
/// What is read at most: that, and what one change, or what is heard at once, adds.
const READ_MAX: usize = WANTS_MAX + GONE_MAX + ENTRIES_AT_ONCE_MAX;
/// Bytes of all components that are kept for sites.
pub const COMPONENTS_BYTES_MAX: u64 = 1 << 30;

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
    /// Rises with each change; begins at random, so that who knows one of an earlier run does not take it for one of this.
    revision: AtomicU64,
}

/// Site, plugin, and what of it.
type Entry = (String, String, WantV1);

fn key(site: &str, name: &str) -> Vec<u8> {
    [site.as_bytes(), &[0], name.as_bytes()].concat()
}

impl Wants {
    /// Opens what is kept; components are files in `folder`.
    ///
    /// # Errors
    /// The folder cannot be made, or the system gives no random numbers.
    pub fn open(log: Arc<EventLog>, folder: &Path) -> io::Result<Self> {
        let (files, changed) = (Files::open(folder)?, watch::Sender::new(0));
        let revision = AtomicU64::new(getrandom::u64()? >> 1);
        Ok(Self { log, files, changing: Mutex::default(), changed, revision })
    }

    /// Changes whenever something more is wanted: who has read what is wanted, and done it, has nothing to read until then.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// All that is known, what is gone as well. Reads the store.
    fn all(&self) -> Result<Vec<Entry>, WantError> {
        self.scan(b"")
    }

    /// The same of the keys that begin so.
    fn scan(&self, prefix: &[u8]) -> Result<Vec<Entry>, WantError> {
        let entries = self
            .log
            .state_scan(WANTS_TREE, prefix, None, READ_MAX)
            .map_err(|error| WantError::Store(error.to_string()))?;
        let read = |(key, value): (Vec<u8>, Vec<u8>)| {
            let at = key.iter().position(|byte| *byte == 0)?;
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
            Some((text(&key[..at])?, text(&key[at + 1..])?, WantV1::decode(&value)?))
        };
        Ok(entries.into_iter().filter_map(|(key, value)| read((key.to_vec(), value.to_vec()))).collect())
    }

    /// What a site is to have, by name. Reads what the store has of that site.
    ///
    /// # Errors
    /// The store's.
    pub fn of_site(&self, site: &str) -> Result<Vec<(String, WantV1)>, WantError> {
        Ok(self.known_of(site)?.into_iter().filter(|(_, want)| !want.is_gone()).collect())
    }

    /// The same with what is gone.
    fn known_of(&self, site: &str) -> Result<Vec<(String, WantV1)>, WantError> {
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

    /// Says that a site is not to have a plugin any more. Where nobody can be told, it counts as gone.
    ///
    /// # Errors
    /// [`WantError::Unknown`], or the store's.
    pub fn take_back(&self, site: &str, name: &str, is_linked: bool, who: &str) -> Result<(), WantError> {
        let mut last = self.changing.lock();
        let unknown = || WantError::Unknown { site: site.to_owned(), name: name.to_owned() };
        let (_, want) = self.of_site(site)?.into_iter().find(|(of, _)| of == name).ok_or_else(unknown)?;
        *last = want.number.max(*last);
        self.put(&mut last, (site, name), (String::new(), [0; 32], 0), who)?;
        if !is_linked {
            // No gateway of whoever has the name next is told.
            let found = self.of_site(site)?.into_iter().find(|(of, want)| of == name && want.number == *last);
            let (_, want) = found.ok_or_else(unknown)?;
            let want = self.with_answer(want, (NOBODY, UNLINKED.to_owned(), String::new()));
            self.store(&[(site, name, Some(&want))])?;
            self.audit("node", site, name, "forgotten", "no site of that name feeds this one");
            self.trim_notes()?;
        }
        self.sweep();
        Ok(())
    }

    /// Forgets what sites are to have whose link was removed: whoever gets the name next is not given it, nor told to remove it. Notes of what
    /// is gone stay, for the other nodes. Durable on return.
    ///
    /// # Errors
    /// The store's.
    pub fn forget(&self, is_removed: &dyn Fn(&str) -> bool) -> Result<(), WantError> {
        let mut last = self.changing.lock();
        let mut all = self.all()?;
        *last = all.iter().map(|(.., want)| want.number).fold(*last, u64::max);
        all.retain(|(site, _, want)| is_removed(site) && !want.is_unlinked());
        self.unlink(&mut last, all, "the site's link was removed")
    }

    /// Notes these as gone with their site's link. Durable on return.
    fn unlink(&self, last: &mut u64, mut all: Vec<Entry>, why: &str) -> Result<(), WantError> {
        if all.is_empty() {
            return Ok(());
        }
        for (_, _, want) in &mut all {
            *last = last.saturating_add(1);
            *want = WantV1::unlinked(*last, self.log.clock().wall_ms());
        }
        self.store_all(&all)?;
        for (site, name, _) in &all {
            self.audit("node", site, name, "forgotten", why);
        }
        self.trim_notes()?;
        self.sweep();
        Ok(())
    }

    /// Notes as gone what is to be removed where all gateways of the site have answered, each to some node. Durable on return.
    ///
    /// # Errors
    /// The store's.
    pub fn finish(&self, gateways: &dyn Fn(&str) -> Vec<u64>) -> Result<(), WantError> {
        let _last = self.changing.lock();
        let mut all = self.all()?;
        all.retain(|(site, _, want)| want.bytes == 0 && !want.is_gone() && want.is_answered_by(&gateways(site)));
        if all.is_empty() {
            return Ok(());
        }
        let gone: Vec<Entry> = all.into_iter().map(|(site, name, want)| (site, name, self.as_gone(want))).collect();
        self.store_all(&gone)?;
        self.trim_notes()
    }

    fn store_all(&self, all: &[Entry]) -> Result<(), WantError> {
        let all: Vec<_> = all.iter().map(|(site, name, want)| (site.as_str(), name.as_str(), Some(want))).collect();
        all.chunks(ENTRIES_AT_ONCE_MAX).try_for_each(|chunk| self.store(chunk))
    }

    /// With one more answer: gateway, code, and text.
    fn with_answer(&self, mut want: WantV1, (gateway, code, text): (u64, String, String)) -> WantV1 {
        // Newer than all others, whatever the clock says: it is kept.
        let newest = want.answers.iter().map(|answer| answer.at_ms.saturating_add(1)).max();
        let at_ms = self.log.clock().wall_ms().max(newest.unwrap_or(i64::MIN));
        want.answers = merge::answers(want.answers.iter().chain([&AnswerV1 { gateway, code, text, at_ms }]));
        want
    }

    fn as_gone(&self, want: WantV1) -> WantV1 {
        self.with_answer(want, (NOBODY, String::new(), String::new()))
    }

    /// Where a site has as many as it may, the oldest removal that a gateway has done is gone: others may be gone for good, and never answer.
    fn make_room(&self, site: &str) -> Result<(), WantError> {
        let all = self.of_site(site)?;
        if all.len() < WANTS_OF_SITE_MAX {
            return Ok(());
        }
        let removed = all.into_iter().filter(|(_, want)| want.bytes == 0 && !want.answers.is_empty());
        match removed.min_by_key(|(_, want)| want.number) {
            Some((name, want)) => {
                self.store(&[(site, &name, Some(&self.as_gone(want)))]).and_then(|()| self.trim_notes())
            }
            None => Ok(()),
        }
    }

    /// Whether one more, or other bytes of one, may be kept.
    fn check_room(&self, site: &str, name: &str, (sha256, bytes): ([u8; 32], u64)) -> Result<(), WantError> {
        let mut all = self.all()?;
        all.retain(|(of, known, want)| (of.as_str(), known.as_str()) != (site, name) && !want.is_gone());
        if all.len() >= WANTS_MAX {
            return Err(WantError::TooMany(format!("{WANTS_MAX} plugins of all sites")));
        }
        if all.iter().filter(|(of, ..)| of == site).count() >= WANTS_OF_SITE_MAX {
            return Err(WantError::TooMany(format!("{WANTS_OF_SITE_MAX} plugins of site {site}")));
        }
        let mut components: BTreeMap<[u8; 32], u64> =
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
        self.store(&[(site, name, Some(&want))])?;
        self.audit(who, site, name, if bytes > 0 { "wanted" } else { "unwanted" }, &super::hex(&sha256));
        self.changed.send_modify(|changes| *changes += 1);
        Ok(())
    }

    /// Keeps these, at most [`ENTRIES_AT_ONCE_MAX`], or forgets them; durable on return.
    fn store(&self, all: &[(&str, &str, Option<&WantV1>)]) -> Result<(), WantError> {
        let write = |(site, name, want): &(&str, &str, Option<&WantV1>)| (key(site, name), want.map(WantV1::encode));
        let writes: Vec<(Vec<u8>, Option<Vec<u8>>)> = all.iter().map(write).collect();
        if !writes.iter().all(|(key, value)| fits_state(key, value.as_deref().unwrap_or_default())) {
            return Err(WantError::Plugin(DeployError::Broken("its manifest is too large to be stored".to_owned())));
        }
        let ticket = {
            let mut open = self.log.lock();
            for (key, value) in &writes {
                open.put_state(WANTS_TREE, key, value.as_deref());
            }
            open.ticket()
        };
        let stored = self.log.durable_blocking(ticket);
        self.revision.fetch_add(1, Ordering::Relaxed);
        Ok(stored?)
    }

    /// Notes of what is gone are bounded: the oldest go.
    fn trim_notes(&self) -> Result<(), WantError> {
        let mut gone: Vec<Entry> = self.all()?.into_iter().filter(|(.., want)| want.is_gone()).collect();
        gone.sort_by(|(.., one), (.., other)| merge::place(one).cmp(&merge::place(other)));
        gone.truncate(gone.len().saturating_sub(GONE_MAX));
        let oldest: Vec<_> = gone.iter().map(|(site, name, _)| (site.as_str(), name.as_str(), None)).collect();
        oldest.chunks(ENTRIES_AT_ONCE_MAX).try_for_each(|chunk| self.store(chunk))
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
        Ok(self.component_part(sha256, offset, bytes_max)?.map(|(_, part)| part))
    }

    /// The same with the length of the whole.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn component_part(&self, sha256: &[u8; 32], offset: u64, bytes_max: u64) -> io::Result<Option<(u64, Vec<u8>)>> {
        self.files.read_part(sha256, offset, bytes_max)
    }

    /// Whether all that is needed to hand something over is at this node.
    pub fn is_ready(&self, want: &WantV1) -> bool {
        want.bytes == 0 || self.files.has(&want.sha256)
    }

    /// What a gateway of a site has not answered yet and can be handed over by this node, in the order in which it was said. Reads what the store has of
    /// that site.
    ///
    /// # Errors
    /// The store's.
    pub fn wanted(&self, site: &str, gateway: u64) -> Result<Vec<(String, WantV1)>, WantError> {
        let mut all = self.known_of(site)?;
        let is_open =
            |want: &WantV1| !want.is_unlinked() && want.answers.iter().all(|answer| answer.gateway != gateway);
        all.retain(|(_, want)| is_open(want) && self.is_ready(want));
        all.sort_by_key(|(_, want)| want.number);
        Ok(all)
    }

    /// A gateway says for good what has come of what was wanted, where that `is` what is wanted still; `refused` has code and text. A removal
    /// is gone when all of the link's `gateways` have answered: before, one that has not may be about to deploy what is to go. Durable on return.
    ///
    /// # Errors
    /// The store's.
    pub fn answered(
        &self,
        site: &str,
        (gateway, gateways): (u64, &[u64]),
        name: &str,
        is: impl Fn(&WantV1) -> bool,
        refused: Option<(String, String)>,
    ) -> Result<(), WantError> {
        if gateway == NOBODY {
            tracing::warn!(link = site, plugin = name, "a gateway has the id of none: what it says is passed over");
            return Ok(());
        }
        let mut last = self.changing.lock();
        let found = self.known_of(site)?.into_iter().find(|(of, want)| of == name && is(want));
        let Some((_, want)) = found else { return Ok(()) };
        *last = want.number.max(*last);
        let (code, text) = refused.map(|(code, text)| (cut(&code), cut(&text))).unwrap_or_default();
        let said = if code.is_empty() { "done".to_owned() } else { format!("{code}: {text}") };
        self.audit(&format!("gateway:{gateway:016x}"), site, name, "answered", &said);
        let want = self.with_answer(want, (gateway, code, text));
        let is_over = want.is_answered_by(gateways) && !want.is_gone();
        let want = if is_over { self.as_gone(want) } else { want };
        self.store(&[(site, name, Some(&want))])?;
        if is_over { self.trim_notes() } else { Ok(()) }
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

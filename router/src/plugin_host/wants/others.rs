//! What is wanted, for the site's other nodes: what is here in short, and what is heard from them.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::atomic::Ordering;

use serde::{Deserialize, Serialize};

use super::super::registry::digest;
use super::stored::is_name;
use super::{COMPONENTS_BYTES_MAX, Entry, GONE_MAX, WANTS_MAX, WantError, WantV1, Wants, merge};

/// Plugins that are asked for, and stored, at once.
pub const ENTRIES_AT_ONCE_MAX: usize = 64;

/// One plugin of one site, in short. Frozen: it is said to other nodes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The site.
    pub site: String,
    /// The plugin.
    pub name: String,
    /// Of what is known of it.
    pub digest: u64,
}

/// All that is known at a node, in short.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// It changes whenever that does.
    pub revision: u64,
    /// Each plugin.
    pub heads: Vec<Head>,
}

fn digest_of(want: &WantV1) -> u64 {
    let digest = digest(&want.encode());
    digest.iter().take(8).fold(0, |all, byte| all << 8 | u64::from(*byte))
}

fn head((site, name, want): Entry) -> Head {
    Head { site, name, digest: digest_of(&want) }
}

impl Wants {
    /// The steady clock.
    pub fn now(&self) -> std::time::Duration {
        self.log.clock().monotonic()
    }

    /// A number that changes with what is known here; it is another one after a restart.
    pub fn revision(&self) -> u64 {
        self.revision.load(Ordering::Relaxed)
    }

    /// All that is known here, in short. Reads the store.
    ///
    /// # Errors
    /// The store's.
    pub fn known(&self) -> Result<Known, WantError> {
        // Before it is read: what changes meanwhile is told with the next one.
        let revision = self.revision();
        Ok(Known { revision, heads: self.all()?.into_iter().map(head).collect() })
    }

    /// Those of another node's that are not known here as they are there.
    ///
    /// # Errors
    /// The store's.
    pub fn unknown(&self, theirs: Vec<Head>) -> Result<Vec<(String, String)>, WantError> {
        let here: BTreeMap<(String, String), u64> =
            self.all()?.into_iter().map(head).map(|head| ((head.site, head.name), head.digest)).collect();
        let all = theirs.into_iter().map(|head| ((head.site, head.name), head.digest));
        Ok(all.filter(|(of, digest)| here.get(of) != Some(digest)).map(|(of, _)| of).collect())
    }

    /// What is known here of these, as it is stored: site, plugin, and that.
    ///
    /// # Errors
    /// The store's.
    pub fn entries(&self, of: &[(String, String)]) -> Result<Vec<(String, String, Vec<u8>)>, WantError> {
        let mut found = Vec::new();
        for (site, name) in of.iter().take(ENTRIES_AT_ONCE_MAX) {
            let want = self.known_of(site)?.into_iter().find(|(known, _)| known == name);
            found.extend(want.map(|(_, want)| (site.clone(), name.clone(), want.encode())));
        }
        Ok(found)
    }

    /// Another node says what it knows, of at most [`ENTRIES_AT_ONCE_MAX`] plugins; how many of them are otherwise here now. Durable on return. What cannot
    /// be meant is passed over, and beyond the bounds only what is known here changes.
    ///
    /// # Errors
    /// The store's.
    pub fn hear(&self, said: Vec<(String, String, Vec<u8>)>) -> Result<usize, WantError> {
        let _last = self.changing.lock();
        let all = self.all()?;
        let mut wanted = all.iter().filter(|(.., want)| !want.is_gone()).count();
        let mut here: BTreeMap<(String, String), WantV1> =
            all.into_iter().map(|(site, name, want)| ((site, name), want)).collect();
        let (mut changed, mut is_said) = (BTreeMap::<(String, String), WantV1>::new(), false);
        for (site, name, want) in said.into_iter().take(ENTRIES_AT_ONCE_MAX) {
            let read = WantV1::decode(&want).filter(|want| want.is_sound() && is_name(&site) && is_name(&name));
            let Some(want) = read else {
                tracing::warn!(link = site, plugin = name, "another node says of a plugin what cannot be read here");
                continue;
            };
            let of = (site, name);
            let is_new = here.get(&of).is_none_or(WantV1::is_gone) && !want.is_gone();
            let Some(joined) = merge::join(here.get(&of), want) else { continue };
            if is_new && wanted >= WANTS_MAX {
                tracing::warn!(
                    link = of.0,
                    plugin = of.1,
                    "another node knows more plugins that sites are to have than there may be"
                );
                continue;
            }
            wanted += usize::from(is_new && !joined.is_gone());
            // An answer alone gives gateways nothing to do.
            is_said |= here.get(&of).is_none_or(|known| !merge::is_same(known, &joined));
            tracing::info!(
                link = of.0,
                plugin = of.1,
                number = joined.number,
                "a plugin of a site below, as another node has it"
            );
            here.insert(of.clone(), joined.clone());
            changed.insert(of, joined);
        }
        let writes: Vec<_> =
            changed.iter().map(|((site, name), want)| (site.as_str(), name.as_str(), Some(want))).collect();
        if !writes.is_empty() {
            self.store(&writes)?;
            if here.values().filter(|want| want.is_gone()).count() > GONE_MAX {
                self.trim_notes()?;
            }
            self.sweep();
        }
        if is_said {
            self.changed.send_modify(|changes| *changes += 1);
        }
        Ok(changed.len())
    }

    /// Components that are wanted and not here, with their lengths, in the order in which they were said, as far as there is room for all.
    ///
    /// # Errors
    /// The store's.
    pub fn lacking(&self) -> Result<Vec<([u8; 32], u64)>, WantError> {
        let mut all = self.all()?;
        all.retain(|(.., want)| want.bytes > 0);
        all.sort_by_key(|(.., want)| want.number);
        let (mut total, mut lacking, mut counted) = (0_u64, Vec::new(), BTreeSet::new());
        for (.., want) in all.into_iter().filter(|(.., want)| counted.insert(want.sha256)) {
            total = total.saturating_add(want.bytes);
            if total <= COMPONENTS_BYTES_MAX && !self.files.has(&want.sha256) {
                lacking.push((want.sha256, want.bytes));
            }
        }
        Ok(lacking)
    }

    /// Keeps a component that another node had, where it is wanted still; whether it is the right one.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn keep_component(&self, wasm: &[u8], sha256: &[u8; 32]) -> io::Result<bool> {
        if digest(wasm) != *sha256 {
            return Ok(false);
        }
        {
            let _last = self.changing.lock();
            self.files.keep(wasm, sha256)?;
            self.sweep();
        }
        self.changed.send_modify(|changes| *changes += 1);
        Ok(true)
    }
}

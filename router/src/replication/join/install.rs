//! Makes a node's place in a site from its welcome, and reads what it was told.

use std::path::Path;

use super::message::{self, SiteFacts, Welcome};
use super::{FACTS_FILE, TAKEN_FILE};
use crate::replication::Member;
use crate::transport::{Admitted, NodeKey, SiteError, SiteIdentity};

impl Welcome {
    /// Makes the folder of the node's place in the site; `key` is the one that the node joined with. A crash in
    /// between leaves no place or a whole one.
    ///
    /// # Errors
    /// When the node is of a site already, the certificates do not belong together or to the key, or a file cannot be
    /// made.
    pub fn install(&self, folder: &Path, key: &NodeKey) -> Result<SiteIdentity, SiteError> {
        let facts = message::encode(&self.facts);
        SiteIdentity::install(folder, &self.admitted(), key, &[(FACTS_FILE, &facts)])
    }

    pub(super) fn admitted(&self) -> Admitted {
        Admitted { certificate: self.certificate.clone(), ca: self.ca.clone(), ca_key: self.ca_key.clone() }
    }
}

/// What a node was told of its site when it joined; `None` for the first node of a site.
///
/// # Errors
/// When it is there and cannot be read.
pub fn read_facts(folder: &Path) -> Result<Option<SiteFacts>, SiteError> {
    read(folder, FACTS_FILE)
}

/// Notes that the store now says which node it is: one that was wiped later is not taken for it.
///
/// # Errors
/// When the file cannot be renamed.
pub fn take_facts(folder: &Path) -> Result<(), SiteError> {
    SiteIdentity::rename_further(folder, FACTS_FILE, TAKEN_FILE)
}

/// The nodes of the site as they were when this one joined, for as long as the catalog has not told of them.
///
/// # Errors
/// As those of [`read_facts`].
pub fn first_members(folder: &Path) -> Result<Vec<Member>, SiteError> {
    let facts = read(folder, TAKEN_FILE)?;
    Ok(facts.map(|facts| facts.members).unwrap_or_default())
}

fn read(folder: &Path, file: &'static str) -> Result<Option<SiteFacts>, SiteError> {
    let Some(bytes) = SiteIdentity::further(folder, file)? else { return Ok(None) };
    let damaged = |error| SiteError::Content { folder: folder.to_owned(), what: format!("{file} is {error}") };
    message::decode(&bytes).map(Some).map_err(damaged)
}

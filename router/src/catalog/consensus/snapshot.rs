//! The whole state, page by page: as it is sent to a node that is far behind, and as it is installed there.
//!
//! What is set may be more than one commit takes. So the pages are stored beside it first; then one commit says that
//! they are whole; then they replace what was set, in several commits; the last one says up to where the state has
//! come. After a crash in between the rest is done at the next start.

use std::collections::BTreeMap;
use std::sync::Arc;

use openraft::SnapshotMeta;
use serde::{Deserialize, Serialize};

use super::log_store::{LOG, PURGED, RAFT_TREE};
use super::stored::{AppliedV1, decode, encode};
use super::wire::PROPOSAL_BYTES_MAX;
use super::writer::{Put, in_commits};
use crate::catalog::CATALOG_TREE;
use crate::catalog::state::State;
use crate::catalog::write::Write;
use crate::event_log::EventLog;
use crate::transport::NodeId;

/// Up to where the state has come.
pub(super) const APPLIED: &[u8] = b"applied";
/// That a state is being installed, and which.
const INSTALL: &[u8] = b"install";
/// What the key of a stored page begins with; its number follows, four bytes, the highest first.
const PAGE: &[u8] = b"page/";
/// Bytes of a page: one value of the store.
const PAGE_BYTES: usize = PROPOSAL_BYTES_MAX;
/// What an entry takes in a page besides its key and value, at most.
const ENTRY_BYTES: usize = 8;
/// Entries read at once.
const READ_MAX: usize = 1_000;
/// Bytes of pages that are taken, as a multiple of the bound of what devices take in memory.
const PAGES_FACTOR: usize = 2;
/// Bytes of pages that are taken besides, for all that is no device.
const PAGES_BYTES: usize = 64 << 20;

/// All that is set as of one change: what openraft calls a snapshot.
#[derive(Debug, Clone)]
pub(in crate::catalog) struct Capture {
    pub(super) state: Arc<State>,
    pub(super) applied: AppliedV1,
}

/// A page as it is sent and stored. Frozen.
#[derive(Debug, Default, Serialize, Deserialize)]
struct PageV1(Vec<(Vec<u8>, Vec<u8>)>);

impl Capture {
    /// What openraft knows of it.
    pub(super) fn meta(&self) -> SnapshotMeta<NodeId, ()> {
        let snapshot_id = self.applied.last.map_or_else(String::new, |last| format!("{}-{}", last.term, last.index));
        let last_log_id = self.applied.last.map(openraft::LogId::from);
        SnapshotMeta { last_log_id, last_membership: self.applied.membership(), snapshot_id }
    }

    /// Its pages; at least one.
    pub(super) fn pages(&self) -> impl Iterator<Item = Vec<u8>> + Send {
        let mut all = self.state.all().peekable();
        let mut is_begun = false;
        std::iter::from_fn(move || {
            if all.peek().is_none() && is_begun {
                return None;
            }
            is_begun = true;
            let (mut page, mut bytes) = (PageV1::default(), 0);
            while let Some(write) = all.peek() {
                let (key, value) = (write.key(), write.value().unwrap_or_default());
                bytes += key.len() + value.len() + ENTRY_BYTES;
                if bytes > PAGE_BYTES && !page.0.is_empty() {
                    break;
                }
                page.0.push((key, value));
                all.next();
            }
            Some(encode(&page))
        })
    }
}

/// A state that a leader is sending.
pub(super) struct Incoming {
    snapshot: String,
    /// The highest level that is known here.
    level_max: u16,
    next: u32,
    bytes: usize,
    state: State,
}

impl Incoming {
    /// The first page is still to come.
    pub(super) fn begin(snapshot: String, level_max: u16) -> Self {
        Self { snapshot, level_max, next: 0, bytes: 0, state: State::default() }
    }

    /// Whether that page is the next one of this state.
    pub(super) fn expects(&self, snapshot: &str, number: u32) -> bool {
        self.snapshot == snapshot && self.next == number
    }

    /// Takes a page. `false`: it is damaged, of a newer edgeway, or more than is taken.
    pub(super) fn take(&mut self, page: &[u8], devices_bytes_max: usize) -> bool {
        self.bytes += page.len();
        if page.len() > PAGE_BYTES + 1 || self.bytes > PAGES_BYTES + PAGES_FACTOR * devices_bytes_max {
            return false;
        }
        let Some(PageV1(entries)) = decode(page) else { return false };
        self.next += 1;
        entries.iter().all(|(key, value)| match Write::decode(key, value) {
            Some(Write::Level(level)) if level > self.level_max => false,
            Some(write) => {
                self.state.apply(&write);
                true
            }
            None => false,
        })
    }

    /// All pages were taken.
    pub(super) fn end(self, applied: AppliedV1) -> Capture {
        Capture { state: Arc::new(self.state), applied }
    }
}

/// That the stored pages are whole, and up to where the state in them has come. Frozen.
#[derive(Serialize, Deserialize)]
struct InstallV1 {
    pages: u32,
    applied: AppliedV1,
}

/// What stores the pages beside what is set, and says that they are whole.
pub(super) fn stage(capture: &Capture) -> Vec<Vec<Put>> {
    let page_put = |(number, page): (u32, Vec<u8>)| (RAFT_TREE, page_key(number), Some(page));
    let puts: Vec<Put> = (0..).zip(capture.pages()).map(page_put).collect();
    let pages = u32::try_from(puts.len()).unwrap_or(u32::MAX);
    let install = encode(&InstallV1 { pages, applied: capture.applied.clone() });
    let mut commits = in_commits(puts);
    commits.push(vec![(RAFT_TREE, INSTALL.to_vec(), Some(install))]);
    commits
}

/// What replaces all that is set by what the stored pages say; nothing where none are stored whole.
///
/// # Errors
/// What cannot be read.
pub(super) fn replace(log: &EventLog) -> Result<Vec<Vec<Put>>, String> {
    let read = |key: &[u8]| log.state_get(RAFT_TREE, key).map_err(|error| error.to_string());
    let Some(install) = read(INSTALL)? else { return Ok(Vec::new()) };
    let damaged = || "a stored page of the catalog is damaged or of a newer edgeway".to_owned();
    let InstallV1 { pages, applied } = decode(&install).ok_or_else(damaged)?;
    let mut new: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
    for number in 0..pages {
        let page: PageV1 = read(&page_key(number))?.and_then(|page| decode(&page)).ok_or_else(damaged)?;
        new.extend(page.0);
    }
    let mut puts: Vec<Put> = Vec::new();
    scan(log, CATALOG_TREE, b"", |key, value| match new.get(&key) {
        Some(same) if *same == value => drop(new.remove(&key)),
        Some(_) => {}
        None => puts.push((CATALOG_TREE, key, None)),
    })?;
    puts.extend(new.into_iter().map(|(key, value)| (CATALOG_TREE, key, Some(value))));
    let mut commits = in_commits(puts);
    commits.push(last_puts(log, pages, &applied)?);
    Ok(commits)
}

/// Up to where the state has come that is being installed; `None`: none is, or what says so is damaged.
///
/// # Errors
/// What cannot be read.
pub(super) fn installing(log: &EventLog) -> Result<Option<AppliedV1>, String> {
    let install = log.state_get(RAFT_TREE, INSTALL).map_err(|error| error.to_string())?;
    Ok(install.and_then(|install| decode(&install)).map(|InstallV1 { applied, .. }| applied))
}

/// The last commit: the state is whole, and the log before it and the pages go.
fn last_puts(log: &EventLog, pages: u32, applied: &AppliedV1) -> Result<Vec<Put>, String> {
    let mut puts: Vec<Put> = vec![
        (RAFT_TREE, APPLIED.to_vec(), Some(encode(applied))),
        (RAFT_TREE, PURGED.to_vec(), applied.last.as_ref().map(encode)),
        (RAFT_TREE, INSTALL.to_vec(), None),
    ];
    let last = [LOG, &applied.index().to_be_bytes()].concat();
    scan(log, RAFT_TREE, LOG, |key, _| {
        if key <= last {
            puts.push((RAFT_TREE, key, None));
        }
    })?;
    puts.extend((0..pages).map(|number| (RAFT_TREE, page_key(number), None)));
    Ok(puts)
}

/// Pages that were stored and never became whole go.
///
/// # Errors
/// What cannot be read.
pub(super) fn leftovers(log: &EventLog) -> Result<Vec<Put>, String> {
    let mut puts = Vec::new();
    scan(log, RAFT_TREE, PAGE, |key, _| puts.push((RAFT_TREE, key, None)))?;
    Ok(puts)
}

fn page_key(number: u32) -> Vec<u8> {
    [PAGE, &number.to_be_bytes()].concat()
}

/// Shows all entries of a small named tree whose keys begin with `prefix`.
pub(super) fn scan(
    log: &EventLog,
    tree: &str,
    prefix: &[u8],
    mut show: impl FnMut(Vec<u8>, Vec<u8>),
) -> Result<(), String> {
    let mut after: Option<Vec<u8>> = None;
    loop {
        let page = log.state_scan(tree, prefix, after.as_deref(), READ_MAX).map_err(|error| error.to_string())?;
        let Some((last, _)) = page.last() else { return Ok(()) };
        after = Some(last.clone());
        page.into_iter().for_each(|(key, value)| show(key, value));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::catalog::device::{Device, TAGS_MAX};

    fn state(devices: usize) -> State {
        let mut state = State::default();
        let tags: std::collections::BTreeSet<String> = (0..TAGS_MAX).map(|n| format!("{n:0>60}")).collect();
        for n in 0..devices {
            let device = Device { tags: tags.clone(), ..Device::default() };
            state.apply(&Write::Device(format!("d{n:05}").into(), Some(Arc::new(device))));
        }
        state.apply(&Write::Removed(NodeId(7)));
        state
    }

    #[test]
    fn a_state_comes_back_from_its_pages() {
        for devices in [0, 1, 100] {
            let capture = Capture { state: Arc::new(state(devices)), applied: AppliedV1::default() };
            let pages: Vec<_> = capture.pages().collect();
            assert!(pages.iter().all(|page| crate::event_log::fits_state(b"page/0000", page)));
            assert_eq!(pages.len() > 1, devices == 100);
            let mut incoming = Incoming::begin("a".into(), 2);
            for (number, page) in (0..).zip(&pages) {
                assert!(incoming.expects("a", number) && !incoming.expects("b", number));
                assert!(incoming.take(page, 0));
            }
            let back = incoming.end(AppliedV1::default());
            assert!(back.state.all().eq(capture.state.all()));
        }
        let empty = Capture { state: Arc::default(), applied: AppliedV1::default() };
        assert_eq!(empty.pages().count(), 1);
    }

    #[test]
    fn a_damaged_page_or_too_many_are_not_taken() {
        let mut incoming = Incoming::begin("a".into(), 2);
        assert!(!incoming.take(&[1, 1, 1, b'?', 0], 0), "an unknown kind");
        assert!(!incoming.take(&[2], 0));
        let level = |level| encode(&PageV1(vec![(b"level".to_vec(), vec![1, level])]));
        assert!(!incoming.take(&level(3), 1 << 20) && incoming.take(&level(2), 1 << 20), "of a site that is further");
        assert!(!incoming.take(&vec![1; PAGE_BYTES + 2], 0));
        let page = encode(&PageV1(vec![(b"removed/0000000000000007".to_vec(), vec![1])]));
        incoming.bytes = PAGES_BYTES;
        assert!(!incoming.take(&page, 0) && incoming.take(&page, 1 << 20));
    }
}

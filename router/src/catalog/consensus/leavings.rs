//! For tests: what a crash leaves in the store.

use super::answer::GROUP;
use super::group::ME;
use super::log_store::{RAFT_TREE, VOTE, find_ends, log_key, stored};
use super::proposal::Proposal;
use super::snapshot::{Capture, replace, scan, stage};
use super::stored::{EntryV1, LogIdV1, PayloadV1, VoteV1, encode};
use super::writer::{Put, commit_blocking};
use crate::catalog::change::{Change, Terms};
use crate::catalog::{CATALOG_TREE, Catalog, Config};
use crate::event_log::EventLog;
use crate::transport::NodeId;

/// How many entries of tree `raft` begin with `prefix`.
pub(in crate::catalog) fn count(log: &EventLog, prefix: &[u8]) -> usize {
    let mut count = 0;
    scan(log, RAFT_TREE, prefix, |_, _| count += 1).unwrap();
    count
}

/// The group that a store's node is of.
pub(in crate::catalog) fn group(log: &EventLog) -> Option<u64> {
    stored(log, GROUP).unwrap()
}

/// The store knows nothing any more of groups, votes and changes; what is set stays.
pub(in crate::catalog) fn forget_raft(log: &EventLog) {
    super::group::forget(log, false).unwrap();
}

/// The node has come to that term, as one that has stood in it, or was elected.
pub(in crate::catalog) fn set_term(log: &EventLog, me: NodeId, term: u64, is_won: bool) {
    let vote = encode(&VoteV1 { term, leader: me, is_won });
    write(log, &[vec![(RAFT_TREE, VOTE.to_vec(), Some(vote))]]);
}

/// An entry that is in the log, and not in the state.
pub(in crate::catalog) fn leave_entry(log: &EventLog, me: NodeId, change: Change) {
    assert_eq!(stored(log, ME), Ok(Some(me)));
    let last = find_ends(log).unwrap().last.unwrap();
    let (number, terms) = (log.clock().next_hybrid(), Terms::new(&Config::default(), log.clock().wall_ms(), 0));
    let proposal = Proposal { from: me, number, who: "cli".into(), terms, change };
    let id = LogIdV1 { index: last.index + 1, ..last };
    let entry = encode(&EntryV1 { id, payload: PayloadV1::Proposal(proposal.encode()) });
    write(log, &[vec![(RAFT_TREE, log_key(id.index), Some(entry))]]);
}

/// The commits that replace what is set in `log` by what is set in another catalog.
pub(in crate::catalog) fn install_commits(log: &EventLog, from: &Catalog) -> Vec<Vec<Put>> {
    let held = from.book.held();
    let mut commits = stage(&Capture { state: held.state, applied: held.applied });
    let staged = commits.len();
    // On a store without devices, as they are written.
    forget_devices(log);
    write(log, &commits);
    commits.extend(replace(log).unwrap());
    write(log, &commits[staged..]);
    commits
}

/// Whether the commits have all pages and say so.
pub(in crate::catalog) fn is_staged(commits: &[Vec<Put>]) -> bool {
    commits.iter().flatten().any(|(_, key, value)| key == b"install" && value.is_some())
}

/// Takes all devices out of what is set.
pub(in crate::catalog) fn forget_devices(log: &EventLog) {
    let mut puts: Vec<Put> = Vec::new();
    scan(log, CATALOG_TREE, b"device/", |key, _| puts.push((CATALOG_TREE, key, None))).unwrap();
    write(log, &[puts]);
}

/// Writes commits.
pub(in crate::catalog) fn write(log: &EventLog, commits: &[Vec<Put>]) {
    for puts in commits.iter().filter(|puts| !puts.is_empty()) {
        commit_blocking(log, puts).unwrap();
    }
}

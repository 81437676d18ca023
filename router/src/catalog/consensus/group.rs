//! Groups of nodes that agree: one is founded by a node alone, once in its life or when the majority is lost for good.

use std::collections::BTreeSet;

use sled_data::OriginId;

use super::answer::GROUP;
use super::log_store::{PURGED, RAFT_TREE, VOTE, deleted, find_ends, log_key, read, stored};
use super::open::PrepareError;
use super::proposal::Proposal;
use super::snapshot::{APPLIED, installing, scan};
use super::stored::{AppliedV1, EntryV1, LogIdV1, PayloadV1, RolesV1, VoteV1, encode};
use super::writer::{Put, commit_blocking, in_commits};
use crate::catalog::CATALOG_TREE;
use crate::catalog::change::{Change, Terms};
use crate::catalog::device::is_name;
use crate::catalog::member::{MemberState, MemberUpdate, NewMember};
use crate::catalog::site::{Lease, Site};
use crate::catalog::state::State;
use crate::catalog::write::Write;
use crate::event_log::EventLog;
use crate::transport::NodeId;

/// Which node this store belongs to.
pub(super) const ME: &[u8] = b"me";
/// That the store's node has forgotten its group and waits to be let into it again. It stays: who was let in founds no group either.
const WAITS: &[u8] = b"waits";

/// Draws a random number that is not 0.
///
/// # Errors
/// When the system has none.
pub(super) fn draw() -> Result<u64, String> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(|error| format!("the system gives no random numbers: {error}"))?;
    Ok(u64::from_le_bytes(bytes).max(1))
}

/// What a node alone is called and where it is reached.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Founder {
    /// What people call it; its id where this cannot be a name.
    pub name: String,
    /// Where it will be reached by others, host and port; may be set later.
    pub address: String,
    /// The version of its program.
    pub version: String,
}

/// Founds a group of one on what is set in the store: the first leader is named already, so that nobody votes.
///
/// # Errors
/// What cannot be written or drawn.
pub(super) fn found(
    log: &EventLog,
    (me, level): (NodeId, u16),
    founder: &Founder,
    state: &State,
) -> Result<(), PrepareError> {
    let first = LogIdV1 { term: 1, leader: me, index: 0 };
    let name = if is_name(&founder.name) { founder.name.clone() } else { me.to_string() };
    let OriginId(origin) = log.store().origin();
    let (address, version) = (founder.address.clone(), founder.version.clone());
    let new = NewMember { node: me, name: name.clone(), address, origin: Some(origin), version };
    let mut writes = Vec::new();
    if state.member(me).is_none() {
        let member = crate::catalog::member::Member { voter: true, ..new.member(0) };
        writes.push(Write::Member(me, Some(member.into())));
    }
    if state.site().is_none() {
        writes.push(Write::Site(Site { id: log.site().map_or_else(draw, Ok)?, name, lease: Lease::default() }.into()));
    }
    if level > state.level() {
        // Nobody else is of it yet.
        writes.push(Write::Level(level));
    }
    let roles = RolesV1::alone(me);
    let applied = AppliedV1 { last: Some(first), roles_id: Some(first), roles, proposed: Default::default() };
    let mut puts: Vec<Put> = writes.iter().map(|write| (CATALOG_TREE, write.key(), write.value())).collect();
    puts.extend([
        (RAFT_TREE, ME.to_vec(), Some(encode(&me))),
        (RAFT_TREE, GROUP.to_vec(), Some(encode(&draw()?))),
        (RAFT_TREE, VOTE.to_vec(), Some(encode(&VoteV1 { term: 1, leader: me, is_won: true }))),
        (RAFT_TREE, PURGED.to_vec(), Some(encode(&first))),
        (RAFT_TREE, APPLIED.to_vec(), Some(encode(&applied))),
    ]);
    Ok(commit_blocking(log, &puts)?)
}

/// Whether a node that has not begun may found a group on what its store holds: it does not wait to be let in, no leader has given it its group,
/// and no other members are set.
///
/// # Errors
/// What cannot be read.
pub(super) fn may_found(log: &EventLog, me: NodeId, state: &State) -> Result<bool, String> {
    let waits = stored::<bool>(log, WAITS)?.is_some() || stored::<u64>(log, GROUP)?.is_some();
    Ok(!waits && state.members().all(|member| member.node == me))
}

/// Names the node that the store belongs to.
///
/// # Errors
/// What cannot be written.
pub(super) fn name_me(log: &EventLog, me: NodeId) -> Result<(), PrepareError> {
    Ok(commit_blocking(log, &[(RAFT_TREE, ME.to_vec(), Some(encode(&me)))])?)
}

/// Forgets the group that the store's node was in; what is set stays until a leader sends something else. One that waits to be let in again
/// (`waits`) founds no other one meanwhile, however often it is started.
///
/// # Errors
/// What cannot be read or written.
pub(super) fn forget(log: &EventLog, waits: bool) -> Result<(), String> {
    // First, so that it is there as soon as anything is forgotten.
    let mut puts: Vec<Put> = Vec::from_iter(waits.then(|| (RAFT_TREE, WAITS.to_vec(), Some(encode(&true)))));
    scan(log, RAFT_TREE, b"", |key, _| {
        if !waits || key != WAITS {
            puts.push((RAFT_TREE, key, None));
        }
    })?;
    in_commits(puts).iter().try_for_each(|puts| commit_blocking(log, puts)).map_err(|error| error.to_string())
}

/// Who counts as lost where a node goes on alone.
pub(super) struct LostMembers<'a> {
    /// Who says so.
    pub(super) who: &'a str,
    /// The members, as the state has them.
    pub(super) nodes: BTreeSet<NodeId>,
    /// By what it is judged.
    pub(super) terms: Terms,
}

/// Makes this node the only one of a new group. All that is in its log counts as agreed: the others may have known. Behind it stands, in the same
/// commit, that the others are lost: half of it would leave nodes that nobody hears as if they were there.
/// What members of the old group say is not heard from now on.
///
/// Where nothing is known of what led to the state, as in a store that was restored, the state is what the group begins with, as one that is founded
/// does: who joins gets it as a whole. The log alone would not bring it.
///
/// # Errors
/// What cannot be read, written or drawn.
pub(super) fn take_alone(log: &EventLog, me: NodeId, lost: LostMembers<'_>) -> Result<u64, String> {
    if installing(log)?.is_some() {
        return Err(
            "what a leader has sent is half in place: start the node again, which ends it, and repeat this".to_owned()
        );
    }
    let ends = find_ends(log)?;
    let vote: Option<VoteV1> = stored(log, VOTE)?;
    let term = vote.map_or(0, |vote| vote.term).max(ends.last.map_or(0, |last| last.term)) + 1;
    let next = LogIdV1 { term, leader: me, index: ends.last.map_or(0, |last| last.index + 1) };
    let (group, roles) = (draw()?, RolesV1::alone(me));
    let mut puts: Vec<Put> = Vec::new();
    let first = match stored::<AppliedV1>(log, APPLIED)? {
        Some(_) => next,
        None => {
            // Entries without what they stand on say nothing.
            puts.extend(deleted(ends.purged.map_or(0, |purged| purged.index + 1)..=next.index));
            let (last, proposed) = (Some(next), Default::default());
            let applied = AppliedV1 { last, roles_id: last, roles: roles.clone(), proposed };
            puts.push((RAFT_TREE, PURGED.to_vec(), Some(encode(&next))));
            puts.push((RAFT_TREE, APPLIED.to_vec(), Some(encode(&applied))));
            LogIdV1 { index: next.index + 1, ..next }
        }
    };
    let marks = marks(log, me, lost)?.into_iter().map(|proposal| PayloadV1::Proposal(proposal.encode()));
    let payloads = std::iter::once(PayloadV1::Roles(roles)).chain(marks);
    let entries =
        (first.index..).zip(payloads).map(|(index, payload)| EntryV1 { id: LogIdV1 { index, ..first }, payload });
    puts.extend(entries.map(|entry| (RAFT_TREE, log_key(entry.id.index), Some(encode(&entry)))));
    puts.extend([
        (RAFT_TREE, VOTE.to_vec(), Some(encode(&VoteV1 { term, leader: me, is_won: true }))),
        (RAFT_TREE, GROUP.to_vec(), Some(encode(&group))),
    ]);
    commit_blocking(log, &puts).map_err(|error| error.to_string())?;
    Ok(group)
}

/// What says of each lost member that it is: of those as well that the log lets in and the state does not have yet.
fn marks(log: &EventLog, me: NodeId, lost: LostMembers<'_>) -> Result<Vec<Proposal>, String> {
    let LostMembers { who, mut nodes, terms } = lost;
    let applied: AppliedV1 = stored(log, APPLIED)?.unwrap_or_default();
    let mut newest = applied.proposed.get(&me).copied().unwrap_or(0);
    for entry in read(log, applied.index().saturating_add(1), u64::MAX, usize::MAX)? {
        let PayloadV1::Proposal(bytes) = &entry.payload else { continue };
        let Some(proposal) = Proposal::decode(bytes) else { continue };
        if proposal.from == me {
            newest = newest.max(proposal.number);
        }
        if let Change::AddMember(new) = &proposal.change {
            nodes.insert(new.node);
        } else if let Change::RemoveMember { node } = &proposal.change {
            nodes.remove(node);
        }
    }
    let mark = |node: NodeId| {
        newest = log.clock().next_hybrid().max(newest + 1);
        let update = MemberUpdate { state: Some(MemberState::Lost), ..MemberUpdate::default() };
        let change = Change::UpdateMember { node, update };
        Proposal { from: me, number: newest, who: who.to_owned(), terms, change }
    };
    Ok(nodes.into_iter().filter(|node| *node != me).map(mark).collect())
}

//! Who works on what: which node runs a plugin on a partition number, and who took over from a lost node. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use super::device::{NAME_BYTES_MAX, is_name};
use super::encoding::{decode, encode};
use super::member::{Member, MemberRefusal, MemberState, known};
use super::refusal::{Class, Refusal};
use super::state::State;
use super::write::Write;
use crate::event_log::PARTITIONS_MAX;
use crate::transport::NodeId;

/// Assignments that are remembered.
pub const ASSIGNMENTS_MAX: usize = 10_000;
/// Origins of which a take-over is remembered.
pub const TAKE_OVERS_MAX: usize = 1_000;
/// The level from which on no node goes whose log nobody who stays reads on.
const HEIRS_LEVEL: u16 = 4;
/// The version byte before what is stored here.
const VERSION: u8 = 1;

/// Who had some work before, each with the newest term under which it was given to them; at most one a node that the
/// site ever had at once.
pub type Before = BTreeMap<NodeId, u64>;

/// Which node runs a plugin on a partition number. Stored as it is: a change of this struct makes a new version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    /// The node.
    pub node: NodeId,
    /// The assignment's number: each next one of the same work has a higher one.
    pub term: u64,
    /// Who ran it before.
    pub before: Before,
}

/// Who reads on what a lost node has left unread. Stored as it is: a change of this struct makes a new version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TakeOver {
    /// The newest commit of the origin that the survivors have.
    pub from_commit: u64,
    /// The node that reads it.
    pub by: NodeId,
    /// Each next take-over from the same origin has one that is higher by two: the one between is the origin's own.
    pub term: u64,
    /// Whether the origin's node is back, and reads its own again.
    pub has_returned: bool,
    /// Who did before.
    pub before: Before,
}

/// Why an assignment or a take-over was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WorkRefusal {
    /// It cannot be a plugin's name.
    #[error("{0:?} cannot be a plugin's name: 1 to {NAME_BYTES_MAX} bytes of letters, digits and _ - . : / @")]
    Plugin(String),
    /// A partition number that no topic has.
    #[error("a topic has at most {PARTITIONS_MAX} partitions, there is no number {0}")]
    Partition(u32),
    /// The node takes no work.
    #[error("node {0} is leaving or lost and takes no work; choose an active one")]
    NotActive(NodeId),
    /// The term is not higher.
    #[error("term {term} is not above {newest}, the newest one; look again and propose a higher one")]
    Term {
        /// What was proposed.
        term: u64,
        /// The newest that is known.
        newest: u64,
    },
    /// Nobody has taken over from the origin.
    #[error("nobody has taken over from origin {0:016x}, so there is nothing to give back")]
    NotTaken(u64),
    /// The origin is that of a node of the site.
    #[error("origin {0:016x} is that of a node of the site, what was decided of it is needed")]
    Lives(u64),
    /// The plugin is there.
    #[error("plugin {0} is deployed, what was decided of it is needed; remove it first")]
    Deployed(String),
    /// Nothing is remembered of it.
    #[error("no assignment of plugin {0} is remembered")]
    Forgotten(String),
    /// Nobody who stays reads on what a node that goes has left unread.
    #[error(
        "nobody who stays reads on what node {0} has left unread: who was to goes as well, or it has begun a new life; \
         ask once more, so that another one is chosen"
    )]
    NoHeir(NodeId),
    /// There are as many as there may be.
    #[error("{0} assignments are remembered already, as many as may be; remove plugins of scope `site`")]
    TooManyAssignments(usize),
    /// There are as many as there may be.
    #[error(
        "{0} take-overs are remembered already, as many as may be; one is forgotten when no node keeps the log of its \
         origin any more"
    )]
    TooManyTakeOvers(usize),
}

impl WorkRefusal {
    pub(super) fn code(&self) -> &'static str {
        match self {
            Self::Plugin(_) | Self::Partition(_) => "bad_request",
            Self::NotActive(_) => "member-not-active",
            Self::Term { .. } => "stale-term",
            Self::NotTaken(_) => "not-taken-over",
            Self::Lives(_) => "origin-lives",
            Self::Deployed(_) => "plugin-deployed",
            Self::Forgotten(_) => "not_found",
            Self::NoHeir(_) => "no-heir",
            Self::TooManyAssignments(_) => "too-many-assignments",
            Self::TooManyTakeOvers(_) => "too-many-take-overs",
        }
    }

    pub(super) fn class(&self) -> Class {
        match self {
            Self::Plugin(_) | Self::Partition(_) => Class::Bad,
            Self::NotActive(_) | Self::Term { .. } | Self::NotTaken(_) => Class::Conflict,
            Self::Lives(_) | Self::Deployed(_) | Self::NoHeir(_) => Class::Conflict,
            Self::Forgotten(_) => Class::Unknown,
            Self::TooManyAssignments(_) | Self::TooManyTakeOvers(_) => Class::TooMuch,
        }
    }
}

impl Assignment {
    pub(super) fn encode(&self) -> Vec<u8> {
        encode(VERSION, self)
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        decode(VERSION, bytes)
    }

    /// As people and programs read it.
    pub fn json(&self) -> Json {
        json!({"node": self.node.to_string(), "term": self.term})
    }
}

impl TakeOver {
    pub(super) fn encode(&self) -> Vec<u8> {
        encode(VERSION, self)
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        decode(VERSION, bytes)
    }

    /// As people and programs read it.
    pub fn json(&self) -> Json {
        json!({
            "from_commit": self.from_commit,
            "by": self.by.to_string(),
            "term": self.term,
            "has_returned": self.has_returned,
        })
    }
}

pub(super) fn judge_assignment(
    state: &State,
    plugin: &str,
    partition: u32,
    (node, term): (NodeId, u64),
) -> Result<Vec<Write>, Refusal> {
    if !is_name(plugin) {
        return Err(WorkRefusal::Plugin(plugin.to_owned()).into());
    }
    if partition >= PARTITIONS_MAX {
        return Err(WorkRefusal::Partition(partition).into());
    }
    check_active(state, node)?;
    let old = state.assignment(plugin, partition);
    check_term(term, old.map_or_else(|| before_first(state, plugin), |old| old.term))?;
    let count = state.assignments().count();
    if old.is_none() && count >= ASSIGNMENTS_MAX {
        return Err(WorkRefusal::TooManyAssignments(count).into());
    }
    let before = old.map_or_else(Before::new, |old| joined(state, &old.before, old.node, old.term));
    Ok(vec![Write::Assignment(plugin.into(), partition, Some(Assignment { node, term, before }.into()))])
}

pub(super) fn judge_take_over(
    state: &State,
    origin: u64,
    (from_commit, by, term): (u64, NodeId, u64),
) -> Result<Vec<Write>, Refusal> {
    check_active(state, by)?;
    let old = state.take_over(origin);
    // The term between is the origin's own.
    check_term(term, old.map_or(0, |old| old.term + 1))?;
    let count = state.take_overs().count();
    if old.is_none() && count >= TAKE_OVERS_MAX {
        return Err(WorkRefusal::TooManyTakeOvers(count).into());
    }
    let before = old.map_or_else(Before::new, |old| joined(state, &old.before, old.by, old.term));
    let new = TakeOver { from_commit, by, term, has_returned: false, before };
    Ok(vec![Write::TakeOver(origin, Some(new.into()))])
}

pub(super) fn judge_return(state: &State, origin: u64, term: u64) -> Result<Vec<Write>, Refusal> {
    let old = state.take_over(origin).ok_or(WorkRefusal::NotTaken(origin))?;
    if old.term != term {
        return Err(WorkRefusal::Term { term, newest: old.term }.into());
    }
    let new = TakeOver { has_returned: true, ..TakeOver::clone(old) };
    Ok(vec![Write::TakeOver(origin, Some(new.into()))])
}

/// Whether a node may go: who was chosen to read on what it leaves unread may have said since that it goes as well, or was taken out. Each of two that
/// go at once would leave its work, and what was acknowledged, to the other. What had been given back is decided anew by the leader.
pub(super) fn check_heir(state: &State, goes: &Member) -> Result<(), WorkRefusal> {
    let Some(origin) = goes.origin.filter(|_| state.level() >= HEIRS_LEVEL) else { return Ok(()) };
    let stays = |by: NodeId| by != goes.node && check_active(state, by).is_ok();
    let has_heir = state.take_over(origin).is_some_and(|open| open.has_returned || stays(open.by));
    if has_heir { Ok(()) } else { Err(WorkRefusal::NoHeir(goes.node)) }
}

/// What was decided of a life is needed for as long as it is written, or anybody keeps what it wrote: whoever proposes
/// it has seen that nobody does.
pub(super) fn judge_forget_origin(state: &State, origin: u64, term: u64) -> Result<Vec<Write>, Refusal> {
    let old = state.take_over(origin).ok_or(WorkRefusal::NotTaken(origin))?;
    if old.term != term {
        return Err(WorkRefusal::Term { term, newest: old.term }.into());
    }
    if state.members().any(|member| member.origin == Some(origin)) {
        return Err(WorkRefusal::Lives(origin).into());
    }
    Ok(vec![Write::TakeOver(origin, None)])
}

/// The assignments of a plugin that is not there any more. Where it is deployed again, its terms begin with the number
/// of the change that deployed it, which is above all of them.
pub(super) fn judge_forget_assignments(state: &State, plugin: &str) -> Result<Vec<Write>, Refusal> {
    if state.plugin(plugin).is_some() {
        return Err(WorkRefusal::Deployed(plugin.to_owned()).into());
    }
    let of_it = state.assignments().filter(|((name, _), _)| **name == *plugin);
    let writes: Vec<Write> = of_it.map(|((name, at), _)| Write::Assignment(Arc::clone(name), *at, None)).collect();
    if writes.is_empty() { Err(WorkRefusal::Forgotten(plugin.to_owned()).into()) } else { Ok(writes) }
}

/// The first term of a plugin's assignments is the number of the change that deployed it: above all terms of one of the
/// same name that was removed.
fn before_first(state: &State, plugin: &str) -> u64 {
    let begun = state.plugin(plugin).map_or(0, |plugin| plugin.begun.saturating_sub(1));
    if state.level() < 2 { 0 } else { begun }
}

/// Who had some work up to now; nodes that were removed are waited for no more.
fn joined(state: &State, before: &Before, node: NodeId, term: u64) -> Before {
    let mut all = before.clone();
    all.insert(node, term);
    all.retain(|node, _| state.member(*node).is_some());
    all
}

fn check_active(state: &State, node: NodeId) -> Result<(), Refusal> {
    let member = known(state, node).map_err(|refusal: MemberRefusal| Refusal::from(refusal))?;
    if member.state == MemberState::Active { Ok(()) } else { Err(WorkRefusal::NotActive(node).into()) }
}

/// The first term is 1.
fn check_term(term: u64, newest: u64) -> Result<(), WorkRefusal> {
    if term > newest { Ok(()) } else { Err(WorkRefusal::Term { term, newest }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stored_work_has_these_bytes() {
        let before = Before::from([(NodeId(9), 7)]);
        let assignment = Assignment { node: NodeId(1), term: 130, before: before.clone() };
        assert_eq!(assignment.encode(), [1, 1, 0x82, 1, 1, 9, 7]);
        assert_eq!(Assignment::decode(&[1, 1, 0x82, 1, 1, 9, 7]), Some(assignment));
        let take_over = TakeOver { from_commit: 2, by: NodeId(1), term: 3, has_returned: true, before };
        assert_eq!(take_over.encode(), [1, 2, 1, 3, 1, 1, 9, 7]);
        assert_eq!(TakeOver::decode(&[1, 2, 1, 3, 1, 1, 9, 7]), Some(take_over));
    }
}

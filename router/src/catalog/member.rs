//! The nodes of the site: what is set of one, its bounds, how it is stored, and how a change of it is judged. Pure.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use super::change::Terms;
use super::device::{NAME_BYTES_MAX, is_name};
use super::encoding::{decode, encode};
use super::refusal::{Class, Refusal};
use super::state::State;
use super::work::check_heir;
use super::write::Write;
use crate::transport::NodeId;

/// Nodes that a site may have.
pub const MEMBERS_MAX: usize = 32;
/// Removed nodes whose ids are remembered, so that none of them comes back.
pub const REMOVED_MAX: usize = 10_000;
/// Longest address of a node, in bytes.
pub const ADDRESS_BYTES_MAX: usize = 256;
/// Longest version of a node's program, in bytes.
pub const PROGRAM_VERSION_BYTES_MAX: usize = 64;
/// The version byte before a stored member.
const VERSION: u8 = 1;

/// Where a node stands in its site.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MemberState {
    /// It takes part.
    Active,
    /// It hands over what it has and will be removed.
    Leaving,
    /// People said that it will not come back.
    Lost,
}

/// A node of the site. Stored as it is: a change of this struct makes a new version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// The node.
    pub node: NodeId,
    /// What people call it; no two have one name.
    pub name: String,
    /// Where it is reached by the others, host and port; empty where a node alone was not told it.
    pub address: String,
    /// The life of its store, as far as it has said.
    pub origin: Option<u64>,
    /// Whether it votes on changes; follows from the list of members, nobody sets it.
    pub voter: bool,
    /// Where it stands.
    pub state: MemberState,
    /// The version of its program.
    pub version: String,
    /// Who came earlier has the smaller number.
    pub joined: u64,
}

/// Why a change of a member was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MemberRefusal {
    /// It cannot be a node's name.
    #[error("{0:?} cannot be a node's name: 1 to {NAME_BYTES_MAX} bytes of letters, digits and _ - . : / @")]
    Name(String),
    /// It cannot be a node's address.
    #[error("that cannot be a node's address: a host and a port of at most {ADDRESS_BYTES_MAX} bytes, without spaces")]
    Address,
    /// The version of its program is too long.
    #[error("the version of a node's program has at most {PROGRAM_VERSION_BYTES_MAX} bytes")]
    Version,
    /// It is a member already.
    #[error("node {0} is in the site already; `edgeway node list` names what there is")]
    Exists(NodeId),
    /// Another node has that name.
    #[error("another node is called {0} already; choose another name")]
    NameTaken(String),
    /// There is no such node.
    #[error("there is no node {0} in the site; `edgeway node list` names what there is")]
    Unknown(NodeId),
    /// It was removed, and its id is never used again.
    #[error("node {0} was removed from the site; wipe its store, so that it joins under a new id")]
    Removed(NodeId),
    /// There are as many nodes as there may be.
    #[error("the site has {MEMBERS_MAX} nodes already, as many as it may; remove one first")]
    TooMany,
    /// As many nodes were removed as can be remembered.
    #[error("{REMOVED_MAX} nodes were removed from this site, as many as can be remembered; found a new site")]
    TooManyRemoved,
    /// No active node would be left.
    #[error("node {0} is the last active one of the site; add another one first")]
    Last(NodeId),
}

impl MemberRefusal {
    pub(super) fn code(&self) -> &'static str {
        match self {
            Self::Name(_) | Self::Address | Self::Version => "bad_request",
            Self::Exists(_) => "member-exists",
            Self::NameTaken(_) => "member-name-taken",
            Self::Unknown(_) => "member-unknown",
            Self::Removed(_) => "member-removed",
            Self::TooMany => "too-many-members",
            Self::TooManyRemoved => "too-many-removed",
            Self::Last(_) => "last-member",
        }
    }

    pub(super) fn class(&self) -> Class {
        match self {
            Self::Name(_) | Self::Address | Self::Version => Class::Bad,
            Self::Exists(_) | Self::NameTaken(_) | Self::Removed(_) | Self::Last(_) => Class::Conflict,
            Self::Unknown(_) => Class::Unknown,
            Self::TooMany | Self::TooManyRemoved => Class::TooMuch,
        }
    }
}

/// A node that shall come in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewMember {
    /// The node.
    pub node: NodeId,
    /// What people call it.
    pub name: String,
    /// Where it is reached by the others, host and port.
    pub address: String,
    /// The life of its store.
    pub origin: Option<u64>,
    /// The version of its program.
    pub version: String,
}

/// What shall be otherwise of a node; `None` leaves it as it is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct MemberUpdate {
    /// What people call it.
    pub name: Option<String>,
    /// Where it is reached.
    pub address: Option<String>,
    /// The life of its store.
    pub origin: Option<u64>,
    /// Where it stands.
    pub state: Option<MemberState>,
    /// The version of its program.
    pub version: Option<String>,
}

impl Member {
    /// One for tests of other rooms.
    #[cfg(test)]
    pub fn sample(node: u64, state: MemberState) -> Self {
        let (name, address, version) = (node.to_string(), String::new(), String::new());
        Self { node: NodeId(node), name, address, origin: None, voter: true, state, version, joined: 0 }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        encode(VERSION, self)
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        decode(VERSION, bytes)
    }

    /// As people and programs read it.
    pub fn json(&self) -> Json {
        json!({
            "node": self.node.to_string(),
            "name": self.name,
            "address": self.address,
            "origin": self.origin.map(|origin| format!("{origin:016x}")),
            "voter": self.voter,
            "state": self.state,
            "version": self.version,
        })
    }

    fn check(&self) -> Result<(), MemberRefusal> {
        if !is_name(&self.name) {
            return Err(MemberRefusal::Name(self.name.clone()));
        }
        let address = &self.address;
        let legal = |c: char| !c.is_whitespace() && !c.is_control();
        if address.len() > ADDRESS_BYTES_MAX || !address.chars().all(legal) {
            return Err(MemberRefusal::Address);
        }
        if self.version.len() > PROGRAM_VERSION_BYTES_MAX {
            return Err(MemberRefusal::Version);
        }
        Ok(())
    }
}

impl NewMember {
    /// The member that it becomes.
    pub(super) fn member(&self, joined: u64) -> Member {
        let Self { node, name, address, origin, version } = self.clone();
        Member { node, name, address, origin, voter: false, state: MemberState::Active, version, joined }
    }
}

pub(super) fn judge_add(state: &State, new: &NewMember, terms: &Terms) -> Result<Vec<Write>, MemberRefusal> {
    let member = new.member(terms.index);
    check_address(Some(&new.address))?;
    member.check()?;
    if state.is_removed(new.node) {
        return Err(MemberRefusal::Removed(new.node));
    }
    if state.member(new.node).is_some() {
        return Err(MemberRefusal::Exists(new.node));
    }
    check_name_is_free(state, &member)?;
    if state.members().count() >= MEMBERS_MAX {
        return Err(MemberRefusal::TooMany);
    }
    Ok(vec![Write::Member(new.node, Some(Arc::new(member)))])
}

pub(super) fn judge_update(state: &State, node: NodeId, update: &MemberUpdate) -> Result<Vec<Write>, MemberRefusal> {
    let before = known(state, node)?;
    check_address(update.address.as_deref())?;
    let update = update.clone();
    let member = Member {
        name: update.name.unwrap_or_else(|| before.name.clone()),
        address: update.address.unwrap_or_else(|| before.address.clone()),
        origin: update.origin.or(before.origin),
        state: update.state.unwrap_or(before.state),
        version: update.version.unwrap_or_else(|| before.version.clone()),
        ..Member::clone(&before)
    };
    member.check()?;
    check_name_is_free(state, &member)?;
    if member.state != MemberState::Active {
        check_not_last(state, node)?;
    }
    Ok(vec![Write::Member(node, Some(Arc::new(member)))])
}

pub(super) fn judge_remove(state: &State, node: NodeId) -> Result<Vec<Write>, Refusal> {
    let goes = known(state, node)?;
    check_not_last(state, node)?;
    if state.removed_count() >= REMOVED_MAX {
        return Err(MemberRefusal::TooManyRemoved.into());
    }
    check_heir(state, &goes)?;
    Ok(vec![Write::Member(node, None), Write::Removed(node)])
}

/// The member, or why there is none.
pub(super) fn known(state: &State, node: NodeId) -> Result<Arc<Member>, MemberRefusal> {
    if state.is_removed(node) {
        return Err(MemberRefusal::Removed(node));
    }
    state.member(node).cloned().ok_or(MemberRefusal::Unknown(node))
}

/// Only a node that was never told its address has none.
fn check_address(address: Option<&str>) -> Result<(), MemberRefusal> {
    if address == Some("") { Err(MemberRefusal::Address) } else { Ok(()) }
}

fn check_name_is_free(state: &State, member: &Member) -> Result<(), MemberRefusal> {
    let taken = state.members().any(|other| other.name == member.name && other.node != member.node);
    if taken { Err(MemberRefusal::NameTaken(member.name.clone())) } else { Ok(()) }
}

fn check_not_last(state: &State, node: NodeId) -> Result<(), MemberRefusal> {
    let others = state.members().any(|other| other.state == MemberState::Active && other.node != node);
    if others { Ok(()) } else { Err(MemberRefusal::Last(node)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stored_member_has_these_bytes() {
        let member = Member {
            node: NodeId(300),
            name: "a".into(),
            address: "b:1".into(),
            origin: Some(5),
            voter: true,
            state: MemberState::Leaving,
            version: "1".into(),
            joined: 7,
        };
        let golden = [1, 0xac, 2, 1, b'a', 3, b'b', b':', b'1', 1, 5, 1, 1, 1, b'1', 7];
        assert_eq!(member.encode(), golden);
        assert_eq!(Member::decode(&golden), Some(member));
        assert_eq!(Member::decode(&[2]), None);
        assert_eq!(Member::decode(&golden[..9]), None);
        assert_eq!(Member::decode(&[&golden[..], &[0]].concat()), None);
    }
}

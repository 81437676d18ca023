//! Which sites feed this one: links, and the tokens of invitations. Pure.
//!
//! A link has a name, which is what the other site is called here, and an id, which its certificates bear. Removing one notes that: its
//! certificates are good for long, and are refused from then on at every node.

use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use super::change::Terms;
use super::encoding::{decode, encode};
use super::refusal::Class;
use super::state::State;
use super::token::TokenHash;
use super::write::Write;
use crate::transport::NodeId;

/// Links that a site may know, removed ones included.
pub const LINKS_MAX: usize = 1_024;
/// Tokens of links that may be known at once, used ones among them until they expire.
pub const LINK_TOKENS_MAX: usize = 256;
/// How long a token of a link is good for at most, in milliseconds: fifteen minutes.
pub const LINK_TOKEN_LIFE_MS: i64 = 15 * 60 * 1_000;
/// Gateways of one site.
pub const LINK_NODES_MAX: usize = 32;
/// Ids of one link: more than one where two nodes had invited a site each for itself, before that was agreed on.
const IDS_MAX: usize = 32;
/// Longest name of a link, bytes.
const NAME_BYTES_MAX: usize = 64;
/// Longest name of a gateway, bytes.
const NODE_NAME_BYTES_MAX: usize = 64;
/// The version byte before what is stored.
const VERSION: u8 = 1;

/// A site that feeds this one. Stored as it is: a change of this struct makes a new version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgreedLink {
    /// Its ids, the one that new certificates bear first. At least one.
    pub ids: Vec<u64>,
    /// When it was made, in milliseconds since 1970.
    pub added_at_ms: i64,
    /// Whether it was removed: what it brought stays, and nothing more comes.
    pub is_revoked: bool,
    /// Its gateways: id and name.
    pub nodes: Vec<(NodeId, String)>,
}

/// A token by which a gateway of a site comes in. Stored as it is: a change of this struct makes a new version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkToken {
    /// What its site is called here.
    pub name: String,
    /// Until when it is good, in milliseconds since 1970.
    pub expires_at_ms: i64,
    /// The gateway that came in by it.
    pub used_by: Option<NodeId>,
}

/// Why a change of a link was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LinkRefusal {
    /// The name cannot be a site's.
    #[error("{0:?} cannot be a site's name: 1 to 64 of a-z, A-Z, 0-9, '.', '-' and '_'")]
    Name(String),
    /// No link has this name.
    #[error("no site {0} feeds this one; `edgeway link list` names them")]
    Unknown(String),
    /// There are as many as there may be.
    #[error("there are as many {0} as there may be")]
    TooMany(&'static str),
    /// The site has as many gateways as it may. One that comes with a new key is a new one, so those that it was before count as well.
    #[error(
        "{0} has as many gateways as one site may ({max}), those that were set up anew since then counted each time: \
         `edgeway link remove {0}` forgets them all; then invite those that there are once more",
        max = LINK_NODES_MAX
    )]
    TooManyGateways(String),
    /// The token is not known.
    #[error("the token is not known here; have a new one made with `edgeway link invite`")]
    TokenUnknown,
    /// Another gateway came in by it.
    #[error("the token was used already; have a new one made with `edgeway link invite`")]
    TokenUsed,
    /// It has expired, or would be good for too long.
    #[error(
        "the token has expired, or would be good for more than fifteen minutes; have a new one made with `edgeway link invite`"
    )]
    TokenExpired,
}

impl LinkRefusal {
    pub(super) fn code(&self) -> &'static str {
        match self {
            Self::Name(_) => "bad_request",
            Self::Unknown(_) => "not_found",
            Self::TooMany(_) | Self::TooManyGateways(_) => "too-many-links",
            Self::TokenUnknown => "token-unknown",
            Self::TokenUsed => "token-used",
            Self::TokenExpired => "token-expired",
        }
    }

    pub(super) fn class(&self) -> Class {
        match self {
            Self::Name(_) => Class::Bad,
            Self::Unknown(_) | Self::TokenUnknown => Class::Unknown,
            Self::TooMany(_) | Self::TooManyGateways(_) => Class::TooMuch,
            Self::TokenUsed | Self::TokenExpired => Class::Conflict,
        }
    }
}

/// Whether a text can be the name of a link, or of a site that feeds this one.
pub fn is_link_name(name: &str) -> bool {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    !name.is_empty() && name.len() <= NAME_BYTES_MAX && !name.starts_with(['.', '_']) && name.chars().all(legal)
}

impl AgreedLink {
    pub(super) fn encode(&self) -> Vec<u8> {
        encode(VERSION, self)
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        decode(VERSION, bytes).filter(|link: &Self| !link.ids.is_empty())
    }

    /// As it is shown.
    pub(super) fn json(&self) -> Json {
        let nodes: Vec<Json> =
            self.nodes.iter().map(|(node, name)| json!({"node": node.to_string(), "name": name})).collect();
        let ids: Vec<String> = self.ids.iter().map(|id| format!("{id:016x}")).collect();
        json!({"ids": ids, "added_at_ms": self.added_at_ms, "removed": self.is_revoked, "nodes": nodes})
    }

    /// Whether a gateway may come in by a certificate of this link.
    pub fn lets_in(&self, node: NodeId) -> bool {
        !self.is_revoked && self.nodes.iter().any(|(known, _)| *known == node)
    }

    fn has_node(&self, node: NodeId) -> bool {
        self.nodes.iter().any(|(known, _)| *known == node)
    }
}

impl LinkToken {
    pub(super) fn encode(&self) -> Vec<u8> {
        encode(VERSION, self)
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        decode(VERSION, bytes)
    }
}

/// A new token also sweeps away those that have expired.
pub(super) fn judge_invite(
    state: &State,
    name: &str,
    hash: TokenHash,
    expires_at_ms: i64,
    terms: &Terms,
) -> Result<Vec<Write>, LinkRefusal> {
    if !is_link_name(name) {
        return Err(LinkRefusal::Name(name.to_owned()));
    }
    if expires_at_ms <= terms.at_ms || expires_at_ms.saturating_sub(terms.at_ms) > LINK_TOKEN_LIFE_MS {
        return Err(LinkRefusal::TokenExpired);
    }
    let expired = state.link_tokens().filter(|(_, token)| token.expires_at_ms <= terms.at_ms);
    let mut writes: Vec<Write> = expired.map(|(hash, _)| Write::LinkToken(*hash, None)).collect();
    if state.link_tokens().count() - writes.len() >= LINK_TOKENS_MAX {
        return Err(LinkRefusal::TooMany("tokens of links"));
    }
    writes.push(Write::LinkToken(hash, Some(LinkToken { name: name.to_owned(), expires_at_ms, used_by: None })));
    Ok(writes)
}

/// A gateway comes in: the link comes last. One that asks again by the same token is let in again. `drawn` is the id of a link that is new.
pub(super) fn judge_accept(
    state: &State,
    hash: TokenHash,
    (node, node_name): (NodeId, &str),
    drawn: u64,
    terms: &Terms,
) -> Result<Vec<Write>, LinkRefusal> {
    let token = state.link_token(&hash).ok_or(LinkRefusal::TokenUnknown)?;
    match token.used_by {
        Some(used_by) if used_by != node => return Err(LinkRefusal::TokenUsed),
        _ if token.expires_at_ms <= terms.at_ms => return Err(LinkRefusal::TokenExpired),
        _ => {}
    }
    let known = state.link(&token.name);
    if known.is_none() && state.links().count() >= LINKS_MAX {
        return Err(LinkRefusal::TooMany("links"));
    }
    let fresh = || AgreedLink { ids: vec![drawn], added_at_ms: terms.at_ms, is_revoked: false, nodes: Vec::new() };
    let mut link = known.map_or_else(fresh, |link| AgreedLink::clone(link));
    // People have invited it again: a token that was used before the link was removed went with it.
    link.is_revoked = false;
    if !link.has_node(node) {
        if link.nodes.len() >= LINK_NODES_MAX {
            return Err(LinkRefusal::TooManyGateways(token.name.clone()));
        }
        let end = node_name.floor_char_boundary(NODE_NAME_BYTES_MAX);
        link.nodes.push((node, node_name[..end].to_owned()));
    }
    let used = LinkToken { used_by: Some(node), ..token.clone() };
    Ok(vec![Write::LinkToken(hash, Some(used)), Write::Link(token.name.as_str().into(), link.into())])
}

pub(super) fn judge_remove(state: &State, name: &str) -> Result<Vec<Write>, LinkRefusal> {
    let link = state.link(name).ok_or_else(|| LinkRefusal::Unknown(name.to_owned()))?;
    let of_it = state.link_tokens().filter(|(_, token)| token.name == name);
    let mut writes: Vec<Write> = of_it.map(|(hash, _)| Write::LinkToken(*hash, None)).collect();
    // Gateways are let in anew when the site is invited again: their old certificates stay out.
    let link = AgreedLink { is_revoked: true, nodes: Vec::new(), ..AgreedLink::clone(link) };
    writes.push(Write::Link(name.into(), link.into()));
    Ok(writes)
}

/// What one node had kept for itself, before links were agreed on. Where another had invited the same site, the link is one, with both ids. One
/// that was removed here stays so, with all its ids: the node may have been away when people removed it. What was removed there alone
/// brings no gateways.
pub(super) fn judge_import(state: &State, name: &str, new: &AgreedLink) -> Result<Vec<Write>, LinkRefusal> {
    if !is_link_name(name) || new.ids.is_empty() {
        return Err(LinkRefusal::Name(name.to_owned()));
    }
    let mut link = match state.link(name) {
        None if state.links().count() >= LINKS_MAX => return Err(LinkRefusal::TooMany("links")),
        None => AgreedLink { ids: Vec::new(), nodes: Vec::new(), ..new.clone() },
        // It came in already, and what was decided since holds.
        Some(known) if new.ids.iter().all(|id| known.ids.contains(id)) => return Ok(Vec::new()),
        Some(known) => AgreedLink::clone(known),
    };
    link.ids.extend(new.ids.iter().filter(|id| !link.ids.contains(id)).copied().collect::<Vec<_>>());
    link.added_at_ms = link.added_at_ms.min(new.added_at_ms);
    if !link.is_revoked && !new.is_revoked {
        let nodes: Vec<_> = new.nodes.iter().filter(|(node, _)| !link.has_node(*node)).cloned().collect();
        link.nodes.extend(nodes);
    }
    if link.nodes.len() > LINK_NODES_MAX {
        return Err(LinkRefusal::TooManyGateways(name.to_owned()));
    }
    if link.ids.len() > IDS_MAX {
        return Err(LinkRefusal::TooMany("ids of one link"));
    }
    Ok(vec![Write::Link(name.into(), link.into())])
}

#[cfg(test)]
mod tests;

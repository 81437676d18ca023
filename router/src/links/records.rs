//! Which sites feed this one: decided by the catalog, so that every node of the site knows, and asked here.
//!
//! Earlier programs kept it in a small named tree of the node that invited. What is found there is brought into the catalog once, and counts
//! until then; tokens are not, as they serve for a quarter of an hour.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::invite::{Refusal, Request};
use super::wire::Hello;
use crate::catalog::{self, AgreedLink, Catalog, Change, LINK_TOKEN_LIFE_MS, LinkRefusal, TokenHash, Write};
use crate::event_log::{CommitFailed, EventLog};
use crate::security::JoinTokenHash;
use crate::transport::{LinkPeer, NodeId};

/// The small named tree of earlier programs, its keys: `l` and the name, `t` and the hash of a token.
const TREE: &str = "links";
const LINK_KEY: u8 = b'l';
/// The version byte before a stored value.
const VERSION: u8 = 1;
/// How often it is tried again to bring what an earlier program kept into the catalog.
const IMPORT_EVERY: Duration = Duration::from_secs(2);

/// A site that feeds this one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkRecord {
    /// What the site is called here.
    pub name: String,
    /// The link's ids, the one that new certificates bear first.
    pub ids: Vec<u64>,
    /// Whether it was removed: what it brought stays, and nothing more comes.
    pub is_revoked: bool,
    /// Its gateways: id and name.
    pub nodes: Vec<(NodeId, String)>,
}

/// A link as earlier programs stored it. Frozen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct LinkV1 {
    link: u64,
    added_ms: i64,
    revoked: bool,
    nodes: Vec<(NodeId, String)>,
}

/// What earlier programs kept here cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("what the store says of links cannot be read: {0}")]
pub struct RecordError(String);

/// What this node knows of the sites that feed it.
pub struct Records {
    log: Arc<EventLog>,
    catalog: Arc<Catalog>,
    /// What an earlier program kept here, and is not in the catalog yet.
    own: Mutex<BTreeMap<String, AgreedLink>>,
}

impl Records {
    /// Reads what an earlier program kept.
    ///
    /// # Errors
    /// When the store cannot be read, or says what is not known.
    pub fn open(log: Arc<EventLog>, catalog: Arc<Catalog>) -> Result<Self, RecordError> {
        let mut own = BTreeMap::new();
        let mut wrong = None;
        let read = log.state_walk_of(log.origin(), TREE, |key, value| {
            let Some(name) = key.strip_prefix(&[LINK_KEY]) else { return };
            match std::str::from_utf8(name).ok().zip(decode::<LinkV1>(value)) {
                Some((name, link)) => drop(own.insert(name.to_owned(), link.agreed())),
                None => wrong = Some(String::from_utf8_lossy(name).into_owned()),
            }
        });
        read.map_err(|error| RecordError(error.to_string()))?;
        match wrong {
            Some(name) => {
                Err(RecordError(format!("link {name} is of a version that is not known; was a newer edgeway here?")))
            }
            None => Ok(Self { log, catalog, own: Mutex::new(own) }),
        }
    }

    /// Brings what an earlier program kept here into the catalog; ends when all is there that can be.
    pub async fn import(&self) {
        // Those stay with this node until it is started again.
        let mut refused: BTreeSet<String> = BTreeSet::new();
        loop {
            let next =
                self.own.lock().iter().find(|(name, _)| !refused.contains(*name)).map(|(n, l)| (n.clone(), l.clone()));
            let Some((name, link)) = next else { return };
            match self.bring(&name, &link).await {
                Ok(()) => {}
                Err(catalog::Refusal::Link(why)) => {
                    tracing::error!(link = name, %why, "a link is known to this node alone");
                    refused.insert(name);
                }
                Err(refusal) => {
                    tracing::debug!(link = name, %refusal, "a link is not in the catalog yet");
                    tokio::time::sleep(IMPORT_EVERY).await;
                }
            }
        }
    }

    /// Brings one link into the catalog. One that people removed here meanwhile is removed there as well.
    async fn bring(&self, name: &str, link: &AgreedLink) -> Result<(), catalog::Refusal> {
        self.catalog.propose(Change::ImportLink { name: name.to_owned(), link: link.clone() }, "node").await?;
        if !self.forget_own(name, link) || link.is_revoked && self.stands_alone(link) {
            self.remove_brought(name).await;
            self.own.lock().remove(name);
        }
        if let Err(error) = self.store(name, None).await {
            tracing::warn!(link = name, %error, "the link is brought into the catalog again at the next start");
        }
        tracing::info!(link = name, "the link is known to all nodes of the site from now on");
        Ok(())
    }

    /// Forgets what an earlier program kept of a link; false where it is not `link` any more, and stays.
    fn forget_own(&self, name: &str, link: &AgreedLink) -> bool {
        let mut own = self.own.lock();
        let is_same = own.get(name) == Some(link);
        if is_same {
            own.remove(name);
        }
        is_same
    }

    /// Whether the catalog has a link by this node's ids alone, and lets it in: it was brought before people removed it here.
    fn stands_alone(&self, link: &AgreedLink) -> bool {
        let found = link.ids.first().and_then(|id| self.catalog.link_of(*id));
        found.is_some_and(|(_, found)| !found.is_revoked && found.ids == link.ids)
    }

    /// Removes a link from the catalog, however long that takes.
    async fn remove_brought(&self, name: &str) {
        loop {
            match self.catalog.propose(Change::RemoveLink { name: name.to_owned() }, "node").await {
                Ok(_) | Err(catalog::Refusal::Link(_)) => return,
                Err(refusal) => {
                    tracing::debug!(link = name, %refusal, "a link is not removed in the catalog yet");
                    tokio::time::sleep(IMPORT_EVERY).await;
                }
            }
        }
    }

    /// Writes what this node keeps of a link, durably; `None`: nothing.
    async fn store(&self, name: &str, link: Option<&LinkV1>) -> Result<(), CommitFailed> {
        let bytes = link.map(encode);
        let ticket = {
            let mut open = self.log.lock();
            open.put_state(TREE, &[&[LINK_KEY], name.as_bytes()].concat(), bytes.as_deref());
            open.ticket()
        };
        self.log.durable(ticket).await
    }

    /// Rises when something of links may have changed.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.catalog.watch()
    }

    /// Makes an invitation of a site known, by the hash of its secret; until when it serves, by the leader's clock.
    ///
    /// # Errors
    /// When the name cannot be one, there are too many, or the site has no majority.
    pub async fn invite(&self, name: &str, hash: JoinTokenHash, who: &str) -> Result<i64, catalog::Refusal> {
        // The leader writes down its own. One of an earlier program judges this by its clock, which may be a little behind.
        let expires_at_ms = self.log.clock().wall_ms().saturating_add(LINK_TOKEN_LIFE_MS - CLOCKS_APART_MS);
        let change = Change::InviteLink { name: name.to_owned(), hash: TokenHash(hash.0), expires_at_ms };
        let applied = self.catalog.propose(change, who).await?;
        match applied.writes.last() {
            Some(Write::LinkToken(_, Some(token))) => Ok(token.expires_at_ms),
            _ => Ok(expires_at_ms),
        }
    }

    /// Lets a gateway of an invited site in: its link. One that asks again with the same key is let in again.
    ///
    /// # Errors
    /// The refusal.
    pub async fn admit(&self, request: &Request, node: NodeId) -> Result<(String, LinkPeer), Refusal> {
        let change = Change::AcceptLink {
            hash: TokenHash(request.token().0),
            node,
            node_name: request.name.clone(),
            link: draw()?,
        };
        let applied = self.catalog.propose(change, "token").await.map_err(|refusal| refused(&refusal))?;
        match applied.writes.last() {
            Some(Write::Link(name, link)) => {
                let link = link.ids.first().copied().unwrap_or_default();
                Ok((name.to_string(), LinkPeer { node, link }))
            }
            _ => Err(Refusal::new("unavailable", "the site did not say which link it is; try again")),
        }
    }

    /// Whether the edge's end of a link may come in: what its site is called here.
    ///
    /// # Errors
    /// The refusal.
    pub fn judge(&self, peer: LinkPeer, hello: &Hello) -> Result<String, Refusal> {
        let name = self.may_stay(peer)?;
        if hello.protocol < super::PROTOCOL_MIN {
            let text =
                format!("edgeway {} speaks an older version of links than is known here: upgrade it", hello.program);
            return Err(Refusal::new("version", text));
        }
        Ok(name)
    }

    /// Whether a gateway's certificate is good still: what its site is called here.
    ///
    /// # Errors
    /// The refusal.
    pub fn may_stay(&self, peer: LinkPeer) -> Result<String, Refusal> {
        let Some(record) = self.of(peer.link) else {
            return Err(Refusal::new(
                "unknown",
                "this node knows no such link; was its store restored, or is it another node?",
            ));
        };
        let is_known = record.nodes.iter().any(|(node, _)| *node == peer.node);
        if record.is_revoked || !is_known {
            let name = record.name;
            let text = format!(
                "the link of {name} was removed here; it can be invited again with `edgeway link invite {name}`"
            );
            return Err(Refusal::new("revoked", text));
        }
        Ok(record.name)
    }

    /// The link that certificates of this id are of.
    pub fn of(&self, id: u64) -> Option<LinkRecord> {
        if let Some((name, link)) = self.catalog.link_of(id) {
            return Some(record(&name, &link));
        }
        let own = self.own.lock();
        own.iter().find(|(_, link)| link.ids.contains(&id)).map(|(name, link)| record(name, link))
    }

    /// Removes a link: nothing more comes by it, at any node of the site. One that is known to this node alone is removed here, also while
    /// the site cannot know it yet.
    ///
    /// # Errors
    /// When there is none of that name, or the site has no majority.
    pub async fn revoke(&self, name: &str, who: &str) -> Result<(), catalog::Refusal> {
        let was_own = self.revoke_own(name).await?;
        match self.catalog.propose(Change::RemoveLink { name: name.to_owned() }, who).await {
            Err(catalog::Refusal::Link(LinkRefusal::Unknown(_)) | catalog::Refusal::Level(_)) if was_own => {
                tracing::info!(link = name, who, "a link that is known to this node alone is removed");
                Ok(())
            }
            removed => removed.map(drop),
        }
    }

    /// Notes that a link is removed that an earlier program kept here; whether there is one.
    async fn revoke_own(&self, name: &str) -> Result<bool, catalog::Refusal> {
        let link = {
            let mut own = self.own.lock();
            let Some(link) = own.get_mut(name) else { return Ok(false) };
            (link.is_revoked, link.nodes) = (true, Vec::new());
            let id = link.ids.first().copied().unwrap_or_default();
            LinkV1 { link: id, added_ms: link.added_at_ms, revoked: true, nodes: Vec::new() }
        };
        self.store(name, Some(&link)).await?;
        Ok(true)
    }

    /// All links, by name.
    pub fn all(&self) -> Vec<LinkRecord> {
        let agreed = self.catalog.links();
        let mut all: Vec<LinkRecord> = agreed.iter().map(|(name, link)| record(name, link)).collect();
        let own = self.own.lock();
        let alone = own.iter().filter(|(name, _)| !agreed.iter().any(|(known, _)| **known == ***name));
        all.extend(alone.map(|(name, link)| record(name, link)));
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }
}

/// How far the clock of a node that invites may be ahead of a leader's of an earlier program.
const CLOCKS_APART_MS: i64 = 60_000;

fn record(name: &str, link: &AgreedLink) -> LinkRecord {
    LinkRecord { name: name.to_owned(), ids: link.ids.clone(), is_revoked: link.is_revoked, nodes: link.nodes.clone() }
}

/// What the edge is told: another node of the site may do better where it is `unavailable`.
fn refused(refusal: &catalog::Refusal) -> Refusal {
    let code = match refusal {
        catalog::Refusal::Link(LinkRefusal::TooMany(_) | LinkRefusal::TooManyGateways(_)) => "busy",
        catalog::Refusal::Link(_) => refusal.code(),
        _ => "unavailable",
    };
    Refusal::new(code, refusal.to_string())
}

impl LinkV1 {
    fn agreed(self) -> AgreedLink {
        let Self { link, added_ms, revoked, nodes } = self;
        AgreedLink { ids: vec![link], added_at_ms: added_ms, is_revoked: revoked, nodes }
    }
}

fn encode(link: &LinkV1) -> Vec<u8> {
    // Writing to memory does not fail.
    postcard::to_extend(link, vec![VERSION]).unwrap_or_default()
}

fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Option<T> {
    let (&VERSION, body) = bytes.split_first()? else { return None };
    let (value, []) = postcard::take_from_bytes(body).ok()? else { return None };
    Some(value)
}

/// A random number that is not 0.
fn draw() -> Result<u64, Refusal> {
    let drawn = getrandom::u64().map_err(|error| Refusal::new("busy", format!("no randomness upstream: {error}")));
    Ok(drawn?.max(1))
}

#[cfg(test)]
mod tests;

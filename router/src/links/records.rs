//! Which sites feed this one: links and the tokens of invitations, kept in a small named tree of the node that invited.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::invite::{Refusal, Request};
use super::wire::Hello;
use crate::event_log::{Act, EventLog};
use crate::security::JoinTokenHash;
use crate::transport::{LinkPeer, NodeId};

/// How long a token serves: fifteen minutes.
pub const INVITE_LIFE_MS: i64 = 15 * 60 * 1_000;
/// Links that one node keeps, removed ones included.
const LINKS_MAX: usize = 1_024;
/// Tokens that one node keeps; expired ones go first.
const TOKENS_MAX: usize = 256;
/// Gateways of one site.
const NODES_MAX: usize = 32;
/// Longest name of a link, bytes.
const NAME_BYTES_MAX: usize = 64;
/// The small named tree, its keys: `l` and the name, `t` and the hash of the secret.
const TREE: &str = "links";
const LINK_KEY: u8 = b'l';
const TOKEN_KEY: u8 = b't';
/// The version byte before a stored value.
const VERSION: u8 = 1;

/// A site that feeds this one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkRecord {
    /// What the site is called here.
    pub name: String,
    /// The link's id.
    pub link: u64,
    /// Whether it was removed: what it brought stays, and nothing more comes.
    pub is_revoked: bool,
    /// Its gateways: id and name.
    pub nodes: Vec<(NodeId, String)>,
}

/// A link as it is stored. Frozen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct LinkV1 {
    link: u64,
    added_ms: i64,
    revoked: bool,
    nodes: Vec<(NodeId, String)>,
}

/// A token as it is stored. Frozen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct TokenV1 {
    name: String,
    expires_at_ms: i64,
    /// The node that came in by it.
    used_by: Option<NodeId>,
}

/// Why a change of the records failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// No link has this name.
    #[error("no site {0} feeds this one; `edgeway link list` names them")]
    Unknown(String),
    /// The name cannot be a site's.
    #[error("{0:?} cannot be a site's name: 1 to 64 of a-z, A-Z, 0-9, '.', '-' and '_'")]
    Name(String),
    /// There are as many as may be.
    #[error("there are as many {0} as there may be")]
    TooMany(&'static str),
    /// It could not be stored.
    #[error("it could not be stored: {0}")]
    Store(String),
}

/// The records of one node.
pub struct Records {
    log: Arc<EventLog>,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    links: BTreeMap<String, LinkV1>,
    tokens: BTreeMap<[u8; 32], TokenV1>,
}

/// Whether a text can be the name of a link or of a site that feeds this one.
pub fn is_link_name(name: &str) -> bool {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    !name.is_empty() && name.len() <= NAME_BYTES_MAX && !name.starts_with(['.', '_']) && name.chars().all(legal)
}

impl Records {
    /// Reads what is kept.
    ///
    /// # Errors
    /// When the store cannot be read, or says what is not known.
    pub fn open(log: Arc<EventLog>) -> Result<Self, RecordError> {
        let mut kept = Kept::default();
        let mut wrong = None;
        log.state_walk_of(log.origin(), TREE, |key, value| {
            if kept.read(key, value).is_none() {
                wrong = Some(String::from_utf8_lossy(key).into_owned());
            }
        })
        .map_err(|error| RecordError::Store(error.to_string()))?;
        match wrong {
            Some(key) => Err(RecordError::Store(format!("{key} is not known; was a newer edgeway here?"))),
            None => Ok(Self { log, kept: Mutex::new(kept) }),
        }
    }

    /// Notes an invitation of a site, by the hash of its secret; until when it serves. Blocks on the disk.
    ///
    /// # Errors
    /// When the name cannot be one, there are too many, or it cannot be stored.
    pub fn invite(&self, name: &str, hash: JoinTokenHash, who: &'static str) -> Result<i64, RecordError> {
        if !is_link_name(name) {
            return Err(RecordError::Name(name.to_owned()));
        }
        let now_ms = self.log.clock().wall_ms();
        let mut kept = self.kept.lock();
        let old: Vec<[u8; 32]> =
            kept.tokens.iter().filter(|(_, token)| token.expires_at_ms < now_ms).map(|(hash, _)| *hash).collect();
        if kept.tokens.len() - old.len() >= TOKENS_MAX {
            return Err(RecordError::TooMany("tokens of links"));
        }
        let token = TokenV1 { name: name.to_owned(), expires_at_ms: now_ms + INVITE_LIFE_MS, used_by: None };
        let until = token.expires_at_ms;
        let mut changes: Vec<_> = old.iter().map(|hash| (token_key(hash), None)).collect();
        changes.push((token_key(&hash.0), Some(encode(&token))));
        self.write(&changes, Act { who, act: "link.invite", what: name, outcome: "done", detail: Default::default() })?;
        old.iter().for_each(|hash| drop(kept.tokens.remove(hash)));
        kept.tokens.insert(hash.0, token);
        Ok(until)
    }

    /// Lets a gateway of an invited site in: its link. One that asks again with the same key is let in again. Blocks on the disk.
    ///
    /// # Errors
    /// The refusal.
    pub fn admit(&self, request: &Request, node: NodeId) -> Result<(String, LinkPeer), Refusal> {
        let mut kept = self.kept.lock();
        let now_ms = self.log.clock().wall_ms();
        let hash = request.token().0;
        let again = "have a new one made with `edgeway link invite`";
        let refuse = |code: &str, what: &str| Err(Refusal::new(code, format!("{what}; {again}")));
        let Some(token) = kept.tokens.get(&hash).cloned() else {
            return refuse("token-unknown", "the token is not known here");
        };
        match token.used_by {
            Some(used_by) if used_by != node => return refuse("token-used", "the token was used already"),
            _ if token.expires_at_ms < now_ms => return refuse("token-expired", "the token has expired"),
            _ => {}
        }
        let name = token.name.clone();
        let link = kept.links.get(&name).cloned();
        let full = |what: &str| Err(Refusal::new("busy", format!("there are as many {what} as there may be")));
        if link.is_none() && kept.links.len() >= LINKS_MAX {
            return full("links");
        }
        let mut link = match link {
            Some(link) => link,
            None => LinkV1 { link: draw()?, added_ms: now_ms, revoked: false, nodes: Vec::new() },
        };
        // People have invited it again: a token that was used before the link was removed went with it.
        link.revoked = false;
        if !link.nodes.iter().any(|(known, _)| *known == node) {
            if link.nodes.len() >= NODES_MAX {
                return full("gateways of one site");
            }
            link.nodes.push((node, request.name.clone()));
        }
        let token = TokenV1 { used_by: Some(node), ..token };
        let changes = [(link_key(&name), Some(encode(&link))), (token_key(&hash), Some(encode(&token)))];
        let detail = format!("node {node} ({})", request.name).into();
        let act = Act { who: "token", act: "link.accept", what: &name, outcome: "done", detail };
        self.write(&changes, act).map_err(|error| Refusal::new("busy", error.to_string()))?;
        let peer = LinkPeer { node, link: link.link };
        kept.links.insert(name.clone(), link);
        kept.tokens.insert(hash, token);
        Ok((name, peer))
    }

    /// Whether the edge's end of a link may come in: what its site is called here.
    ///
    /// # Errors
    /// The refusal.
    pub fn judge(&self, peer: LinkPeer, hello: &Hello) -> Result<String, Refusal> {
        let kept = self.kept.lock();
        let Some((name, link)) = kept.links.iter().find(|(_, link)| link.link == peer.link) else {
            return Err(Refusal::new(
                "unknown",
                "this node knows no such link; was its store restored, or is it another node?",
            ));
        };
        if link.revoked || !link.nodes.iter().any(|(node, _)| *node == peer.node) {
            let text = format!(
                "the link of {name} was removed here; it can be invited again with `edgeway link invite {name}`"
            );
            return Err(Refusal::new("revoked", text));
        }
        if hello.protocol < super::PROTOCOL {
            let text =
                format!("edgeway {} speaks an older version of links than is known here: upgrade it", hello.program);
            return Err(Refusal::new("version", text));
        }
        Ok(name.clone())
    }

    /// Removes a link: nothing more comes by it. Its id. Blocks on the disk.
    ///
    /// # Errors
    /// When there is none of that name, or it cannot be stored.
    pub fn revoke(&self, name: &str, who: &'static str) -> Result<u64, RecordError> {
        let mut kept = self.kept.lock();
        let link = kept.links.get(name).cloned().ok_or_else(|| RecordError::Unknown(name.to_owned()))?;
        // Gateways are let in anew when the site is invited again: their old certificates stay out.
        let link = LinkV1 { revoked: true, nodes: Vec::new(), ..link };
        let act = Act { who, act: "link.remove", what: name, outcome: "done", detail: Default::default() };
        let tokens: Vec<_> =
            kept.tokens.iter().filter(|(_, token)| token.name == name).map(|(hash, _)| *hash).collect();
        let mut changes = vec![(link_key(name), Some(encode(&link)))];
        changes.extend(tokens.iter().map(|hash| (token_key(hash), None)));
        self.write(&changes, act)?;
        let id = link.link;
        kept.links.insert(name.to_owned(), link);
        tokens.iter().for_each(|hash| drop(kept.tokens.remove(hash)));
        Ok(id)
    }

    /// All links, by name.
    pub fn all(&self) -> Vec<LinkRecord> {
        let kept = self.kept.lock();
        let told = |(name, link): (&String, &LinkV1)| LinkRecord {
            name: name.clone(),
            link: link.link,
            is_revoked: link.revoked,
            nodes: link.nodes.clone(),
        };
        kept.links.iter().map(told).collect()
    }

    fn write(&self, changes: &[(Vec<u8>, Option<Vec<u8>>)], act: Act<'_>) -> Result<(), RecordError> {
        let failed = |error: &dyn std::fmt::Display| RecordError::Store(error.to_string());
        let mut open = self.log.lock();
        open.audit(act).map_err(|error| failed(&error))?;
        for (key, value) in changes {
            if !open.put_state(TREE, key, value.as_deref()) {
                return Err(RecordError::Store("it is too large".to_owned()));
            }
        }
        let ticket = open.ticket();
        drop(open);
        self.log.durable_blocking(ticket).map_err(|error| failed(&error))
    }
}

impl Kept {
    fn read(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        let (kind, rest) = key.split_first()?;
        match *kind {
            LINK_KEY => {
                let name = std::str::from_utf8(rest).ok()?;
                self.links.insert(name.to_owned(), decode(value)?);
            }
            TOKEN_KEY => drop(self.tokens.insert(rest.try_into().ok()?, decode(value)?)),
            _ => return None,
        }
        Some(())
    }
}

fn link_key(name: &str) -> Vec<u8> {
    [&[LINK_KEY], name.as_bytes()].concat()
}

fn token_key(hash: &[u8; 32]) -> Vec<u8> {
    [&[TOKEN_KEY], &hash[..]].concat()
}

fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    // Only a type that postcard cannot write fails; none of these is.
    postcard::to_extend(value, vec![VERSION]).unwrap_or_default()
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

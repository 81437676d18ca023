//! Lets nodes into the site: the token is used up by consensus first, then the node becomes a member.

use std::sync::Arc;

use sha2::{Digest, Sha256};
use sled_data::{Compression, Durability};

use crate::catalog::{Catalog, Change, MemberRefusal, NewMember, Refusal, TokenHash, TokenRefusal};
use crate::event_log::EventLog;
use crate::replication::join::{Admission, JoinRefusal, RefusalCode, Request, SiteFacts, TopicFacts, Welcome};
use crate::replication::{Member, Pending};
use crate::security::JoinTokenHash;
use crate::transport::{NodeId, SiteIdentity};

/// Who the audit says let it in.
const WHO: &str = "token";

/// The site, to those that want in.
pub struct Door {
    pub log: Arc<EventLog>,
    pub catalog: Arc<Catalog>,
    pub identity: Arc<SiteIdentity>,
}

/// The id of a node that joins: one that asks again with the same key is the same node.
fn id_of(public_key: &[u8]) -> NodeId {
    let digest = Sha256::digest(public_key);
    let id = digest.iter().take(8).fold(0_u64, |id, byte| id << 8 | u64::from(*byte));
    NodeId(id.max(1))
}

impl Admission for Door {
    fn admit<'a>(&'a self, request: &'a Request) -> Pending<'a, Result<Welcome, JoinRefusal>> {
        Box::pin(self.let_in(request))
    }
}

impl Door {
    async fn let_in(&self, request: &Request) -> Result<Welcome, JoinRefusal> {
        let node = id_of(&request.public_key);
        let hash = TokenHash(JoinTokenHash::of(&request.secret).0);
        let token = Change::UseToken { hash, by: node };
        let new = Change::AddMember(NewMember {
            node,
            name: request.name.clone(),
            address: request.address.clone(),
            origin: None,
            version: request.program.clone(),
        });
        // One that cannot become a member does not use the token up: it may ask again with another name.
        if self.catalog.would_refuse(&token).is_none()
            && let Some(refusal) = self.catalog.would_refuse(&new).filter(|refusal| !is_member(refusal))
        {
            return Err(refused(&refusal));
        }
        // Once means one node: what is given includes the CA's key.
        self.catalog.propose(token, WHO).await.map_err(|refusal| refused(&refusal))?;
        match self.catalog.propose(new, WHO).await {
            Err(refusal) if !is_member(&refusal) => return Err(refused(&refusal)),
            _ => {}
        }
        let admitted = self.identity.admit(node, &request.name, &request.public_key);
        let admitted = admitted.map_err(|error| JoinRefusal::new(RefusalCode::Invalid, error.to_string()))?;
        Ok(Welcome {
            site: self.identity.site(),
            node,
            certificate: admitted.certificate,
            ca: admitted.ca,
            ca_key: admitted.ca_key,
            facts: self.facts(),
        })
    }

    fn facts(&self) -> SiteFacts {
        let members = self.catalog.members();
        let member = |member: &crate::catalog::Member| Member {
            node: member.node,
            name: member.name.clone(),
            address: member.address.clone(),
        };
        SiteFacts {
            name: self.catalog.site().map(|site| site.name.clone()).unwrap_or_default(),
            members: members.iter().map(member).collect(),
            topics: self.log.topics().iter().map(|topic| topic_facts(topic.info())).collect(),
        }
    }
}

/// Whether a node is a member already: it came in before, and has not heard it.
fn is_member(refusal: &Refusal) -> bool {
    matches!(refusal, Refusal::Member(MemberRefusal::Exists(_)))
}

fn refused(refusal: &Refusal) -> JoinRefusal {
    let code = match refusal {
        Refusal::Token(TokenRefusal::Expired) => RefusalCode::TokenExpired,
        Refusal::Token(TokenRefusal::Used(_)) => RefusalCode::TokenUsed,
        Refusal::Token(_) => RefusalCode::TokenUnknown,
        Refusal::Member(MemberRefusal::NameTaken(_)) => RefusalCode::NameTaken,
        Refusal::Member(MemberRefusal::TooMany | MemberRefusal::TooManyRemoved) => RefusalCode::Full,
        Refusal::Member(_) => RefusalCode::Invalid,
        _ => RefusalCode::NoMajority,
    };
    JoinRefusal::new(code, refusal.to_string())
}

fn topic_facts(info: &sled_data::TopicInfo) -> TopicFacts {
    let compression = match info.config.compression {
        Compression::None => "none",
        Compression::Lz4 => "lz4",
        Compression::Zstd => "zstd",
    };
    let durability = match info.config.durability {
        Durability::Sync => "sync",
        Durability::Memory => "memory",
        Durability::Quorum => "quorum",
    };
    TopicFacts {
        id: info.id.0,
        name: info.name.clone(),
        partitions: info.config.partitions,
        compression: compression.to_owned(),
        durability: durability.to_owned(),
        retention_ms: info.config.retention_ms,
        retention_bytes: info.config.retention_bytes,
    }
}

/// A topic that a node was told of when it joined; `None` where it says what is not known here.
pub fn topic_of(facts: &TopicFacts) -> Option<sled_data::TopicInfo> {
    let config = sled_data::TopicConfig {
        partitions: facts.partitions,
        compression: match facts.compression.as_str() {
            "none" => Compression::None,
            "lz4" => Compression::Lz4,
            "zstd" => Compression::Zstd,
            _ => return None,
        },
        durability: match facts.durability.as_str() {
            "sync" => Durability::Sync,
            "memory" => Durability::Memory,
            "quorum" => Durability::Quorum,
            _ => return None,
        },
        retention_ms: facts.retention_ms,
        retention_bytes: facts.retention_bytes,
    };
    Some(sled_data::TopicInfo { id: sled_data::TopicId(facts.id), name: facts.name.clone(), config })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_comes_over_as_it_is() {
        for durability in [Durability::Sync, Durability::Memory, Durability::Quorum] {
            let config = sled_data::TopicConfig { durability, retention_ms: Some(5), ..Default::default() };
            let info = sled_data::TopicInfo { id: sled_data::TopicId(7), name: "line".into(), config };
            assert_eq!(topic_of(&topic_facts(&info)), Some(info));
        }
        let unknown = TopicFacts {
            durability: "later".into(),
            ..topic_facts(&sled_data::TopicInfo {
                id: sled_data::TopicId(7),
                name: "line".into(),
                config: Default::default(),
            })
        };
        assert_eq!(topic_of(&unknown), None);
    }

    #[test]
    fn the_same_key_is_the_same_node() {
        assert_eq!(id_of(b"key"), id_of(b"key"));
        assert_ne!(id_of(b"key"), id_of(b"kez"));
    }
}

//! What people set, as a stand-in: one register that is reached only from where most voters are.

use std::collections::{BTreeMap, BTreeSet};

use edgeway::event_log::topic_id;
use edgeway::replication::Voters;
use edgeway::transport::NodeId;
use sled_data::{Compression, Durability, TopicConfig, TopicId, TopicInfo};

/// The site's id.
const SITE: u64 = 77;
/// Topics that clients write to.
pub const NAMES: [&str; 4] = ["local-a", "quorum-a", "local-b", "quorum-b"];
/// Bytes that each of their partitions keeps.
pub const KEPT_BYTES: u64 = 600;
/// Partitions of each.
pub const PARTITIONS: u32 = 2;

/// What people set, or as much of it as a node knows.
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    pub version: u64,
    /// The nodes of the site, in the order in which they came.
    pub members: Vec<u64>,
    /// How often a topic of a name was deleted.
    pub times_deleted: BTreeMap<String, u32>,
    /// Topics that were deleted.
    pub deleted: BTreeSet<TopicId>,
}

impl Catalog {
    /// Those of the members that have a vote: 1, 3 or 5.
    pub fn voters(&self) -> &[u64] {
        let count = match self.members.len() {
            0..=2 => 1,
            3 | 4 => 3,
            _ => 5,
        };
        &self.members[..count.min(self.members.len())]
    }

    /// The other voters, and how many of them must have a commit of this node.
    pub fn replicas(&self, node: u64) -> (Vec<u64>, usize) {
        let ids = |nodes: &[u64]| -> Vec<NodeId> { nodes.iter().copied().map(NodeId).collect() };
        let Voters { others, needed } = Voters::of(NodeId(node), &ids(self.voters()), &ids(&self.members));
        (others.into_iter().map(|other| other.0).collect(), needed)
    }

    /// The topic of this name as a node that knows this makes it.
    pub fn topic(&self, name: &str) -> TopicInfo {
        let times = self.times_deleted.get(name).copied().unwrap_or(0);
        TopicInfo { id: topic_id(SITE, name, times), name: name.to_owned(), config: config(name) }
    }

    pub fn delete(&mut self, name: &str) -> TopicId {
        let id = self.topic(name).id;
        *self.times_deleted.entry(name.to_owned()).or_default() += 1;
        self.deleted.insert(id);
        self.version += 1;
        id
    }

    pub fn add(&mut self, node: u64) {
        self.members.push(node);
        self.version += 1;
    }

    pub fn remove(&mut self, node: u64) {
        self.members.retain(|member| *member != node);
        self.version += 1;
    }
}

/// What a topic of this name is set to.
pub fn config(name: &str) -> TopicConfig {
    let durability = if name.starts_with("quorum") { Durability::Quorum } else { Durability::Sync };
    let compression = if name.ends_with('a') { Compression::None } else { Compression::Lz4 };
    let retention_bytes = Some(KEPT_BYTES);
    TopicConfig { partitions: PARTITIONS, durability, compression, retention_bytes, ..TopicConfig::default() }
}

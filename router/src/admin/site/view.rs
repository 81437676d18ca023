//! What `/v1/site` says: the site's nodes, how far each origin's log is on each of them, and what people should know.

use serde::{Deserialize, Serialize};

/// The site as this node sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SiteView {
    /// The site's id, in hexadecimal.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// What its nodes do with plugins while they are cut off: `run` or `pause`.
    #[serde(default)]
    pub lease: String,
    /// This node's id.
    pub node: String,
    /// Whether the node has a certificate of the site's, and so can meet others.
    pub certified: bool,
    /// What its voters agree on.
    pub catalog: CatalogView,
    /// How many nodes must have an event of a `quorum` topic.
    pub quorum: QuorumView,
    /// Its nodes.
    pub nodes: Vec<NodeView>,
    /// Each origin that is kept here.
    pub origins: Vec<OriginView>,
    /// What is kept of that which can only grow up to a bound.
    #[serde(default)]
    pub bounds: Vec<BoundView>,
    /// What people should know, the oldest first.
    pub troubles: Vec<TroubleView>,
}

/// The consensus.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CatalogView {
    /// The node that leads it; null while there is none.
    pub leader: Option<String>,
    /// Its term.
    pub term: u64,
    /// Changes that were applied here.
    pub applied: u64,
    /// The level at which the site works: what all of its nodes know.
    #[serde(default)]
    pub level: u16,
}

/// How far something is from its bound.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BoundView {
    /// What.
    pub what: String,
    /// How many there are.
    pub used: u64,
    /// How many there may be.
    pub max: u64,
}

/// The quorum of this node's own log.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuorumView {
    /// Nodes that vote.
    pub voters: u64,
    /// Of them, how many must have an event before it is acknowledged.
    pub needed: u64,
    /// Of them, how many are heard and follow this node now; itself counts.
    pub heard: u64,
    /// Whether events of `quorum` topics are taken.
    pub in_reach: bool,
}

/// A node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeView {
    /// Its id.
    pub node: String,
    /// What people call it.
    pub name: String,
    /// Where the others reach it.
    pub address: String,
    /// Whether it votes.
    pub voter: bool,
    /// `active`, `leaving` or `lost`.
    pub state: String,
    /// Whether it is the node that answers.
    pub is_self: bool,
    /// Whether it is heard.
    pub connected: bool,
    /// The life of its store.
    pub origin: Option<String>,
    /// The version of its program.
    pub version: Option<String>,
    /// The highest level that it knows, as far as it was heard.
    #[serde(default)]
    pub level_max: Option<u16>,
    /// Milliseconds since it was heard last.
    pub heard_ms: Option<u64>,
    /// The round trip to it, in milliseconds.
    pub rtt_ms: Option<f64>,
    /// How far its wall clock is ahead of this node's, in milliseconds.
    pub clock_ahead_ms: Option<i64>,
    /// Why it is not connected, or what else is wrong with it.
    pub problem: Option<String>,
}

/// The log of one origin, as it is kept here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OriginView {
    /// The origin.
    pub origin: String,
    /// The node that writes it, by name, where that is known.
    pub node: Option<String>,
    /// Whether it is this node's own.
    pub own: bool,
    /// The newest commit that is synced here.
    pub commit: u64,
    /// How many more its writer has synced, as it said within the last second; null for the own one, and while the writer is not heard.
    #[serde(default)]
    pub behind_commits: Option<u64>,
    /// How it comes here: `own`, `commits from NAME`, `copy from NAME`, `kept`, or `stopped: why`.
    pub following: String,
    /// Whether all of it up to that commit is here.
    pub whole: bool,
    /// The node that works on with what its writer has left, by name, while that one is lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_by: Option<String>,
    /// Its partitions.
    pub partitions: Vec<PartitionView>,
    /// Those who follow it from here. Of the own log every other node. Of another's, while its writer is not heard, all who have said that
    /// they hold something of it.
    pub followers: Vec<FollowerView>,
}

/// A partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionView {
    /// Its topic.
    pub topic: String,
    /// Its number.
    pub partition: u32,
    /// The oldest offset that is kept.
    pub start: u64,
    /// The offset of the next event.
    pub end: u64,
    /// Up to where it is synced here.
    #[serde(default)]
    pub synced_end: u64,
    /// Up to where readers may see.
    pub visible_end: u64,
    /// Events of another origin that never came here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gaps: Vec<GapView>,
}

/// Events that are missing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GapView {
    /// The first offset.
    pub from: u64,
    /// The offset after the last.
    pub to: u64,
    /// Why: `source-retention`, retention had taken them at their source; `before-copy`, before anything was kept here.
    pub why: String,
    /// When their source wrote what told it, in milliseconds since 1970.
    pub at_ms: i64,
}

/// A node that follows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FollowerView {
    /// Its name.
    pub node: String,
    /// Whether it has said since this node was started what it has; otherwise nothing of it is known, and what follows is 0.
    #[serde(default)]
    pub told: bool,
    /// The newest commit that it has synced.
    pub commit: u64,
    /// Whether its stream is open.
    pub connected: bool,
    /// Commits that it has not synced.
    pub lag_commits: u64,
    /// Events in them, of those that are kept.
    pub lag_events: u64,
    /// Their bytes as they are stored, about.
    pub lag_bytes: u64,
    /// Milliseconds since the first of these commits was written.
    pub lag_ms: u64,
    /// Whether it may lack more events than these: it is so far behind that it will be sent a copy.
    #[serde(default)]
    pub at_least: bool,
    /// The partitions that it has not synced all events of.
    #[serde(default)]
    pub partitions: Vec<LagView>,
}

/// How far a node is behind with a partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LagView {
    /// Its topic.
    pub topic: String,
    /// Its number.
    pub partition: u32,
    /// The first event that it has not synced.
    pub next: u64,
    /// Events that it has not synced, of those that are kept.
    pub lag_events: u64,
    /// Their bytes as they are stored, about: by the average of the partition.
    pub lag_bytes: u64,
    /// Milliseconds since the first of them was written.
    pub lag_ms: u64,
}

/// Something that people should know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TroubleView {
    /// When, in milliseconds since 1970.
    pub at_ms: i64,
    /// What a program goes by.
    pub code: String,
    /// What happened, to what, and what to do.
    pub text: String,
}

/// A node that has left its site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftView {
    /// It is no member any more, and stops.
    pub done: bool,
    /// Nodes that follow it and did not have all of its log in time; another one had.
    #[serde(default)]
    pub behind: Vec<String>,
}

/// A node that was taken out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemovedView {
    /// Its id.
    pub node: String,
    /// Why it has not handed its log over: what it alone had is not seen again.
    #[serde(default)]
    pub not_handed_over: Option<String>,
}

/// A token that lets one node in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenView {
    /// What `edgeway node join` takes.
    pub token: String,
    /// Until when it serves, in milliseconds since 1970.
    pub expires_at_ms: i64,
}

//! What is known of another node.

use std::net::SocketAddr;
use std::time::Duration;

use super::Heartbeat;
use crate::transport::{NodeId, Traffic};

/// What is known of another node now. Times are on this node's monotonic clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerState {
    /// The node.
    pub node: NodeId,
    /// What people call it.
    pub name: String,
    /// Where the site's list says that it is.
    pub address: String,
    /// Whether it is connected and alive.
    pub is_connected: bool,
    /// Since when it is, or is not.
    pub since: Duration,
    /// Why it is not connected: what went wrong last.
    pub error: Option<String>,
    /// Whether it keeps this node out as a copy of one that is connected there.
    pub calls_copy: bool,
    /// What it said of itself when it was connected last; `None` before the first time.
    pub known: Option<Known>,
    /// The connection, while there is one.
    pub connection: Option<ConnectionState>,
}

/// What a node said of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// The origin id of its store.
    pub origin: u64,
    /// Which process it is.
    pub incarnation: u64,
    /// The version of its program.
    pub program: String,
    /// The highest protocol that it speaks.
    pub protocol_max: u16,
    /// When it was heard last.
    pub heard: Duration,
    /// What it said then; `None` before the first heartbeat.
    pub heartbeat: Option<Heartbeat>,
    /// By how much its wall clock is ahead of this node's, in milliseconds.
    pub clock_ahead_ms: i64,
    /// By how much its wall clock was ahead of this node's [`crate::clock::Clock::steady_ms`] when it was heard last, in milliseconds: where this
    /// node's wall clock is set since, that stays as it is.
    pub wall_ahead_ms: i64,
    /// By how much the clock by which it times what it stores is ahead of this node's [`crate::clock::Clock::steady_ms`], in milliseconds: a step
    /// of a wall clock changes nothing of it. Of an older program, its wall clock when it connected.
    pub steady_ahead_ms: i64,
}

/// A connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionState {
    /// Where the other side is.
    pub address: SocketAddr,
    /// The time there and back.
    pub rtt: Duration,
    /// The protocol that is spoken.
    pub protocol: u16,
    /// What was sent and received over it.
    pub traffic: Traffic,
    /// Another process of the same node was here while this one is alive.
    pub is_copied: bool,
}

//! `[site]`: where other nodes reach this one, and when one of them counts as lost.

use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::peers::PROTOCOL_MAX;
use crate::transport::Bounds;

/// Asks of one peer that are answered at once; more wait at the one that asks.
pub const ASKS_MAX: u32 = 32;
/// Long streams of one peer at once; more are refused.
pub const LONG_STREAMS_MAX: u32 = 32;
/// Patterns of topics that edges wait for a quorum of.
pub const LINKED_QUORUM_MAX: usize = 64;
/// The least share of the disk that a link may be given, bytes.
pub const LINK_BYTES_MIN: u64 = 16 << 20;
/// The shortest life of a link's certificate, seconds: with a shorter one a gateway that is off for a day is locked out.
pub const LINK_CERTIFICATE_S_MIN: u64 = 86_400;
/// Streams beside those: the one of the greeting, and those that are about to be refused.
const SPARE_STREAMS: u32 = 8;
/// Bytes of one stream that wait to be read.
const STREAM_BYTES_MAX: u32 = 4 << 20;
/// Bytes of a peer's streams that wait to be read; beyond, it is told to wait.
const UNREAD_BYTES_MAX: u32 = 16 << 20;
/// Bytes to a peer that it has not confirmed.
const UNSENT_BYTES_MAX: u64 = 16 << 20;
/// Bytes of datagrams that wait; heartbeats have some fifty each.
const DATAGRAM_BYTES_MAX: usize = 4 << 10;
/// How long QUIC bears that nothing is heard of a peer, at least.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// The settings of a node of a site. Whether it is of one is said by its data folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where it listens for the site's other nodes, by UDP; `None` (`"off"`): they cannot reach it.
    #[serde(with = "crate::config::address_or_off")]
    pub listen: Option<SocketAddr>,
    /// `HOST:PORT` by which the other nodes reach it; `None`: what `listen` says, where that names one address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// The highest protocol that it speaks with the others; `None`: all that it knows. A node that is held back keeps the
    /// whole site at what it knows, so that an upgrade can be taken back until it is not held back any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol_max: Option<u16>,
    /// Milliseconds between two heartbeats to each other node.
    pub heartbeat_ms: u32,
    /// Milliseconds that a stored event of a `quorum` topic waits for enough other nodes; then its connection ends
    /// without an acknowledgement.
    pub quorum_wait_ms: u32,
    /// Milliseconds without a heartbeat after which another node counts as lost; at least twice `heartbeat_ms`.
    pub lost_after_ms: u32,
    /// How long a commit of live traffic may take while another node, or this one, catches up: in percent of what it takes
    /// by itself. What is caught up with goes slower beyond that, but never below 16 MB a second.
    pub catch_up_live_percent: u32,
    /// Milliseconds for which events are kept longer than their topic says, where another node has not synced them.
    pub retention_wait_ms: u64,
    /// Bytes by which each partition may have more than its topic says, where another node has not synced them.
    pub retention_wait_bytes: u64,
    /// Topics of other sites of which an edge is told that they are stored when a quorum of this site has them, by name; `*` stands for any
    /// characters. Of all others it is told when the node has them that its link leads to.
    pub linked_quorum: Vec<String>,
    /// Bytes of batches that a node keeps of what one link has brought; beyond, the oldest of it goes. 0: no bound.
    pub link_bytes_max: u64,
    /// Seconds for which the certificates of links into this site are good; their gateways renew them by themselves when a third is
    /// left. 0: for ever.
    pub link_certificate_s: u64,
    /// Whether that may be less than [`LINK_CERTIFICATE_S_MIN`]: for tests alone.
    #[serde(skip_serializing)]
    pub link_certificate_short: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: None,
            address: None,
            protocol_max: None,
            heartbeat_ms: 1_000,
            quorum_wait_ms: 5_000,
            lost_after_ms: 3_000,
            catch_up_live_percent: 150,
            retention_wait_ms: 24 * 3_600 * 1_000,
            retention_wait_bytes: 1 << 30,
            linked_quorum: Vec::new(),
            link_bytes_max: 0,
            link_certificate_s: 90 * 24 * 3_600,
            link_certificate_short: false,
        }
    }
}

impl Config {
    /// The highest protocol that the node speaks.
    pub fn highest_protocol(&self) -> u16 {
        self.protocol_max.unwrap_or(PROTOCOL_MAX)
    }

    /// The time between two heartbeats.
    pub fn heartbeat(&self) -> Duration {
        Duration::from_millis(u64::from(self.heartbeat_ms))
    }

    /// How long an event waits for its quorum.
    pub fn quorum_wait(&self) -> Duration {
        Duration::from_millis(u64::from(self.quorum_wait_ms))
    }

    /// The silence after which a node is lost.
    pub fn lost_after(&self) -> Duration {
        Duration::from_millis(u64::from(self.lost_after_ms))
    }

    /// What a peer may take. QUIC asks for no sign of life: heartbeats are one, and by them a silent node is given up. Links
    /// come to the same port, over thin and dear lines that are silent for longer.
    pub fn bounds(&self) -> Bounds {
        Bounds {
            two_way_streams_max: ASKS_MAX + LONG_STREAMS_MAX + SPARE_STREAMS,
            one_way_streams_max: 0,
            stream_bytes_max: STREAM_BYTES_MAX,
            unread_bytes_max: UNREAD_BYTES_MAX,
            unsent_bytes_max: UNSENT_BYTES_MAX,
            datagram_bytes_max: DATAGRAM_BYTES_MAX,
            idle_max: (self.lost_after() * 2).max(SILENCE_MAX),
            ping_after: None,
        }
    }
}

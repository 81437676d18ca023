//! What the rooms above give to the connections: answers, streams, and an ear.

use std::net::SocketAddr;

use super::Heartbeat;
use super::arrival::SETTLE_COPY;
use crate::replication::Pending;
use crate::transport::{FrameReceiver, FrameSender, NodeId, SiteConnection};

/// How far the own log is, for the next heartbeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pulse {
    /// The newest own commit that is synced; 0 where there is none.
    pub synced: u64,
    /// The newest own commit whose events count as durable in topics that ask for more nodes.
    pub quorum: u64,
    /// The hybrid clock.
    pub hybrid: u64,
}

/// Who takes the connections on the site's port that are not of the site: those of links.
pub trait Guests: Send + Sync {
    /// Serves one connection to its end. Its protocol is that of a link, or of one who accepts an invitation.
    fn receive(&self, connection: SiteConnection) -> Pending<'_, ()>;
}

/// Something that a person should know of.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Notice {
    /// Two processes are alive that both are this node.
    #[error(
        "node {node} ({name}) runs twice, at {here} and at {there}: a data folder was copied. The one at {there} is kept \
         out, and takes nothing. {SETTLE_COPY}"
    )]
    Copied {
        /// The node.
        node: NodeId,
        /// What people call it.
        name: String,
        /// Where the one is that was first.
        here: SocketAddr,
        /// Where the other one is.
        there: SocketAddr,
    },
    /// Another node says that this node runs twice.
    #[error("this node runs twice, says {name} ({by}): {text}")]
    CopiedHere {
        /// Who says so.
        by: NodeId,
        /// What people call it.
        name: String,
        /// What it said.
        text: String,
    },
    /// Another node says that this node is not of the site any more.
    #[error(
        "this node was removed from the site, says {name} ({by}), and takes nothing any more. What it took since may be in its data folder \
         alone: `edgeway tail TOPIC` reads it, while the node runs. Then wipe the folder, and let it join anew"
    )]
    Removed {
        /// Who says so.
        by: NodeId,
        /// What people call it.
        name: String,
    },
    /// Another node speaks no protocol that this one speaks.
    #[error("{text}")]
    Version {
        /// The other node.
        node: NodeId,
        /// Which of the two is to be upgraded.
        text: String,
    },
    /// A node of the site has come, and this node knows of no other one: it was never let in here.
    #[error(
        "node {node} has a certificate of this site, and this node has let nobody in, as far as its store knows: the store is older than it \
         was when that node joined (was it restored from a backup?), and what is set here is set here alone. Stop this node, \
         wipe its data folder, and let it join anew"
    )]
    Stranger {
        /// The node.
        node: NodeId,
    },
    /// The site's list has more nodes than this node keeps connections to.
    #[error("the site has {left_out} nodes more than a node keeps connections to")]
    TooMany {
        /// How many are left out.
        left_out: usize,
    },
}

/// What serves the site's other nodes. Each call that is not asynchronous is made on a connection's own task: it must
/// not block.
pub trait Serve: Send + Sync {
    /// How far the own log is.
    fn pulse(&self) -> Pulse;

    /// Answers an ask, with at most [`super::ASK_BYTES_MAX`] bytes; `None` where the kind is not known. It is broken
    /// off when the connection ends.
    fn answer<'a>(&'a self, from: NodeId, kind: u8, body: Vec<u8>) -> Pending<'a, Option<Vec<u8>>>;

    /// Serves a long stream to its end. It is broken off when the connection ends. Where the kind is not known, the
    /// stream is dropped, which resets it.
    fn stream<'a>(&'a self, from: NodeId, kind: u8, send: FrameSender, receive: FrameReceiver) -> Pending<'a, ()>;

    /// Whether a node was taken out of the site, for good: it is told so, as it may not know it.
    fn was_removed(&self, node: NodeId) -> bool;

    /// A heartbeat came.
    fn heard(&self, from: NodeId, heartbeat: &Heartbeat);

    /// Something that a person should know of.
    fn notice(&self, notice: Notice);
}

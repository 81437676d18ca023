//! What the other nodes hold of origins, as they said when they were asked last.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use sled_data::{CommitNumber, OriginId};
use tokio::task::JoinSet;

use super::ASK_HOLDINGS;
use super::holdings::Holdings;
use super::peers::PeerState;
use super::task::Replication;
use crate::transport::NodeId;

/// How long an answer may take.
const ASK_WAIT: Duration = Duration::from_secs(3);

/// What one has said.
#[derive(Debug, Clone)]
struct Said {
    holds: BTreeMap<OriginId, CommitNumber>,
    /// When it was asked, on the monotonic clock.
    asked: Duration,
    /// Whether it is connected since.
    is_here: bool,
}

/// What the others hold; of nodes of the site alone.
#[derive(Debug, Default)]
pub struct Held {
    said: Mutex<BTreeMap<NodeId, Said>>,
}

impl Held {
    /// How far one of them has synced an origin; 0 where it does not hold it.
    pub fn synced_at(&self, node: NodeId, origin: OriginId) -> CommitNumber {
        self.said.lock().get(&node).and_then(|said| said.holds.get(&origin).copied()).unwrap_or_default()
    }

    /// What all of them hold.
    pub fn all(&self) -> BTreeMap<NodeId, BTreeMap<OriginId, CommitNumber>> {
        self.said.lock().iter().map(|(node, said)| (*node, said.holds.clone())).collect()
    }

    /// Whether one was asked at this time of the monotonic clock or later, and has said it.
    pub fn has_said_since(&self, node: NodeId, since: Duration) -> bool {
        self.said.lock().get(&node).is_some_and(|said| said.asked >= since)
    }

    /// Whether every node is heard, and has said what it holds since it came. What those have said who are of the site no more is forgotten.
    pub(super) fn all_have_said(&self, peers: &[PeerState]) -> bool {
        let mut said = self.said.lock();
        said.retain(|node, said| {
            let peer = peers.iter().find(|peer| peer.node == *node);
            said.is_here &= peer.is_some_and(|peer| peer.is_connected);
            peer.is_some()
        });
        peers.iter().all(|peer| said.get(&peer.node).is_some_and(|said| said.is_here))
    }

    fn told(&self, node: NodeId, holds: Holdings, asked: Duration) {
        self.said.lock().insert(node, Said { holds: holds.0, asked, is_here: true });
    }
}

impl Replication {
    /// Asks all that are connected, at once: one that is slow to answer delays what is known of no other.
    pub(super) async fn ask_holdings(self: Arc<Self>, peers: Arc<Vec<PeerState>>) {
        let asked = self.log.clock().monotonic();
        let mut asks = JoinSet::new();
        for node in peers.iter().filter(|peer| peer.is_connected).map(|peer| peer.node) {
            let ways = Arc::clone(&self.peers);
            asks.spawn(async move { (node, ways.ask(node, ASK_HOLDINGS, &[], ASK_WAIT).await) });
        }
        while let Some(answer) = asks.join_next().await {
            let Ok((node, answer)) = answer else { continue };
            match answer.map(|bytes: Vec<u8>| Holdings::decode(&bytes)) {
                Ok(Some(holdings)) => self.held.told(node, holdings, asked),
                Ok(None) => tracing::warn!(%node, "what a node holds is told in an unknown way"),
                Err(error) => tracing::debug!(%error, %node, "a node does not say what it holds"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(node: u64, is_connected: bool) -> PeerState {
        PeerState {
            node: NodeId(node),
            name: String::new(),
            address: String::new(),
            is_connected,
            since: Duration::ZERO,
            error: None,
            calls_copy: false,
            known: None,
            connection: None,
        }
    }

    #[test]
    fn what_was_said_counts_while_its_node_is_of_the_site_and_is_asked_for_anew_when_it_comes_back() {
        let held = Held::default();
        let one = Holdings([(OriginId(7), CommitNumber(5))].into());
        let seconds = Duration::from_secs;
        held.told(NodeId(1), one.clone(), seconds(10));
        assert!(!held.all_have_said(&[peer(1, true), peer(2, true)]));
        held.told(NodeId(2), one.clone(), seconds(11));
        assert!(held.all_have_said(&[peer(1, true), peer(2, true)]));
        assert!(held.has_said_since(NodeId(1), seconds(10)) && !held.has_said_since(NodeId(1), seconds(11)));
        // It goes, and is back: what it said stays known, and it is to say it again.
        assert!(!held.all_have_said(&[peer(1, false), peer(2, true)]));
        assert!(!held.all_have_said(&[peer(1, true), peer(2, true)]));
        assert_eq!(held.all().get(&NodeId(1)), Some(&one.0));
        // One that was removed is forgotten.
        assert!(held.all_have_said(&[peer(2, true)]));
        assert_eq!(held.all().into_keys().collect::<Vec<_>>(), [NodeId(2)]);
    }
}

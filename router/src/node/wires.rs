//! The wires between the site's connections and the rooms that speak over them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use sled_data::OriginId;

use super::outside::News;
use super::plugins::components::{self, Components};
use super::plugins::spread::{Others, Spread};
use super::site::SiteNode;
use crate::catalog::{Ask, Asked, Catalog, Member, MemberState, NoAnswer};
use crate::commands::{Answering, Commands, Forward, ForwardError};
use crate::event_log::EventLog;
use crate::links::{self, Within};
use crate::plugin_host::PluginHost;
use crate::replication::peers::{AskError, Heartbeat, Notice, PeerState, Peers, Pulse, Serve};
use crate::replication::{
    ASK_CATALOG, ASK_COMMAND, ASK_HAND_OVER, ASK_HOLDINGS, ASK_LINKED, ASK_NEWS, ASK_PLUGIN, ASK_SAME, ASK_WANTS,
    Pending, Replication, STREAM_FOLLOW, STREAM_LINKED,
};
use crate::sessions::Heard;
use crate::transport::{FrameReceiver, FrameSender, NodeId};

/// The code under which a node tells that it was removed from its site.
pub(super) const REMOVED: &str = "removed";
/// How long the catalog waits for another node's answer.
const CATALOG_WAIT: Duration = Duration::from_secs(10);
/// How long a part of a component may take, over a slow link as well.
const PLUGIN_WAIT: Duration = Duration::from_secs(30);

/// How long another node may take to say what sites below are to have of plugins.
const WANTS_WAIT: Duration = Duration::from_secs(10);
/// How long another node may take to say how far it is with what links bring.
const LINKED_WAIT: Duration = Duration::from_secs(2);
/// How long another node may take to store a command that is handed over to it.
const COMMAND_WAIT: Duration = Duration::from_secs(5);
/// The same where it asks a gateway of a linked site for this one: longer than it waits for that one's answer.
const GATEWAY_WAIT: Duration = Duration::from_secs(65);

/// What the rooms reach the other nodes by, once there are connections; a node alone has none. It does not hold them: they serve
/// with the rooms that hold it, and nothing would end when the node stops.
#[derive(Default)]
pub struct Way {
    peers: OnceLock<Weak<Peers>>,
    /// The site's list, and which node this is.
    site: OnceLock<(Weak<Catalog>, NodeId)>,
    /// Which lives are followed, and who writes them.
    log: OnceLock<Weak<EventLog>>,
    clocks: Mutex<Clocks>,
}

impl Way {
    /// The connections are there, of the nodes that the catalog lists, besides this one, whose log it is.
    pub fn open(&self, peers: &Arc<Peers>, catalog: &Arc<Catalog>, own: NodeId, log: &Arc<EventLog>) {
        self.site.get_or_init(|| (Arc::downgrade(catalog), own));
        self.log.get_or_init(|| Arc::downgrade(log));
        self.peers.get_or_init(|| Arc::downgrade(peers));
    }

    /// The connections, while there are any.
    pub fn peers(&self) -> Option<Arc<Peers>> {
        self.peers.get().and_then(Weak::upgrade)
    }
}

fn no_way() -> String {
    "this node has no way to other nodes".to_owned()
}

impl Ask for Way {
    fn ask(&self, node: NodeId, body: Vec<u8>) -> Asked<'_> {
        Box::pin(async move {
            let peers = self.peers().ok_or_else(|| NoAnswer { text: no_way(), may_be_asked: false })?;
            peers.ask(node, ASK_CATALOG, &body, CATALOG_WAIT).await.map_err(|error| NoAnswer {
                may_be_asked: !matches!(error, AskError::NotConnected { .. } | AskError::Busy | AskError::TooLong),
                text: error.to_string(),
            })
        })
    }
}

impl links::Nodes for Way {
    fn connected(&self) -> Vec<NodeId> {
        let states = self.peers().map(|peers| peers.states()).unwrap_or_default();
        states.into_iter().filter(|peer| peer.is_connected).map(|peer| peer.node).collect()
    }

    fn staying(&self) -> Vec<NodeId> {
        let Some((catalog, own)) = self.site.get() else { return Vec::new() };
        let members = catalog.upgrade().map(|catalog| catalog.members()).unwrap_or_default();
        let stays = |member: &&Member| member.node != *own && member.state == MemberState::Active;
        members.iter().filter(stays).map(|member| member.node).collect()
    }

    fn ask(&self, node: NodeId, body: Vec<u8>) -> links::Pending<'_, Result<Vec<u8>, links::NoAnswer>> {
        Box::pin(async move {
            let peers = self.peers().ok_or_else(|| links::NoAnswer::Failed(no_way()))?;
            peers.ask(node, ASK_LINKED, &body, LINKED_WAIT).await.map_err(|error| match error {
                AskError::UnknownKind => links::NoAnswer::Older,
                error => links::NoAnswer::Failed(error.to_string()),
            })
        })
    }

    fn open(&self, node: NodeId) -> links::Pending<'_, Result<(FrameSender, FrameReceiver), String>> {
        Box::pin(async move {
            let peers = self.peers().ok_or_else(no_way)?;
            peers.open(node, STREAM_LINKED).await.map_err(|error| error.to_string())
        })
    }
}

impl Components for Way {
    fn nodes(&self) -> Vec<NodeId> {
        links::Nodes::connected(self)
    }

    fn ask(&self, node: NodeId, body: Vec<u8>) -> Pending<'_, Result<Vec<u8>, String>> {
        Box::pin(async move {
            let peers = self.peers().ok_or_else(no_way)?;
            peers.ask(node, ASK_PLUGIN, &body, PLUGIN_WAIT).await.map_err(|error| error.to_string())
        })
    }
}

impl Others for Way {
    fn ask_wants(&self, node: NodeId, body: Vec<u8>) -> Pending<'_, Result<Vec<u8>, String>> {
        Box::pin(async move {
            let peers = self.peers().ok_or_else(no_way)?;
            peers.ask(node, ASK_WANTS, &body, WANTS_WAIT).await.map_err(|error| error.to_string())
        })
    }
}

impl Way {
    fn members(&self) -> Arc<Vec<Member>> {
        let catalog = self.site.get().and_then(|(catalog, _)| catalog.upgrade());
        catalog.map(|catalog| catalog.members()).unwrap_or_default()
    }

    /// The node that writes a life, where it is connected.
    fn writer(&self, origin: OriginId) -> Option<(Arc<Peers>, NodeId)> {
        let peers = self.peers()?;
        let states = peers.states();
        let node = writer_of(origin, &states, &self.members()).filter(|peer| peer.is_connected)?.node;
        Some((peers, node))
    }
}

/// The node that writes a life, connected or not: it says or has said so, and the site's list does not say that another one does (pure).
pub(super) fn writer_of<'a>(origin: OriginId, peers: &'a [PeerState], members: &[Member]) -> Option<&'a PeerState> {
    let listed = members.iter().find(|member| member.origin == Some(origin.0)).map(|member| member.node);
    let writes = |peer: &&PeerState| {
        let says_so = peer.known.as_ref().is_some_and(|known| known.origin == origin.0);
        says_so && listed.is_none_or(|node| node == peer.node)
    };
    peers.iter().filter(writes).max_by_key(|peer| peer.is_connected)
}

/// By how much the clocks are ahead by which other nodes time what they store, as they were heard last: of nodes that have left as well, whose
/// sessions others go on with. As many as the site has nodes, and writers of the lives that are followed, at most
/// [`sled_data::FOLLOWED_ORIGINS_MAX`].
#[derive(Default)]
struct Clocks {
    ahead_ms: BTreeMap<NodeId, i64>,
}

impl Clocks {
    /// Each with a life that its node writes, as it says now, or has written, as is stored (pure).
    fn look(
        &mut self,
        peers: &[PeerState],
        members: &[Member],
        followed: &[(OriginId, NodeId)],
    ) -> Vec<(OriginId, i64)> {
        self.ahead_ms.retain(|node, _| followed.iter().any(|(_, writer)| writer == node));
        let mut clocks = Vec::new();
        for peer in peers {
            let Some(known) = &peer.known else { continue };
            self.ahead_ms.insert(peer.node, known.steady_ahead_ms);
            let origin = OriginId(known.origin);
            if writer_of(origin, peers, members).is_some_and(|writer| writer.node == peer.node) {
                clocks.push((origin, known.steady_ahead_ms));
            }
        }
        let told: BTreeSet<OriginId> = clocks.iter().map(|(origin, _)| *origin).collect();
        let written = followed.iter().filter(|(origin, _)| !told.contains(origin));
        clocks.extend(written.filter_map(|(origin, writer)| Some((*origin, *self.ahead_ms.get(writer)?))));
        clocks
    }
}

impl Heard for Way {
    fn is_heard(&self, origin: OriginId) -> bool {
        self.writer(origin).is_some()
    }

    fn clocks(&self) -> Vec<(OriginId, i64)> {
        let states = self.peers().map(|peers| peers.states()).unwrap_or_default();
        let followed = self.log.get().and_then(Weak::upgrade).map(|log| log.store().followed()).unwrap_or_default();
        let followed: Vec<(OriginId, NodeId)> =
            followed.into_iter().map(|(origin, followed)| (origin, NodeId(followed.node))).collect();
        self.clocks.lock().look(&states, &self.members(), &followed)
    }
}

impl Forward for Way {
    fn submit(&self, origin: OriginId, request: Vec<u8>) -> Answering<'_> {
        Box::pin(self.submit_within(origin, request, COMMAND_WAIT))
    }

    fn submit_and_wait(&self, origin: OriginId, request: Vec<u8>) -> Answering<'_> {
        Box::pin(self.submit_within(origin, request, GATEWAY_WAIT))
    }
}

impl Way {
    async fn submit_within(&self, origin: OriginId, request: Vec<u8>, wait: Duration) -> Result<Vec<u8>, ForwardError> {
        let Some((peers, node)) = self.writer(origin) else {
            return Err(ForwardError::Unreachable(format!("no node that writes origin {origin} is heard")));
        };
        peers.ask(node, ASK_COMMAND, &request, wait).await.map_err(|error| match error {
            AskError::NotConnected { .. } | AskError::Busy | AskError::TooLong | AskError::UnknownKind => {
                ForwardError::Unreachable(error.to_string())
            }
            AskError::Timeout | AskError::Lost(_) => ForwardError::Unanswered(error.to_string()),
        })
    }
}

/// Serves what other nodes ask.
pub struct Served {
    pub log: Arc<EventLog>,
    pub catalog: Arc<Catalog>,
    pub plugins: Arc<PluginHost>,
    /// What sites that feed this one are to have of plugins.
    pub spread: Option<Arc<Spread>>,
    pub commands: Arc<Commands>,
    pub site: Weak<SiteNode>,
    /// What it does with others for links.
    pub within: Option<Arc<Within>>,
    /// Not held: it holds the connections, which hold this.
    pub replication: OnceLock<Weak<Replication>>,
}

impl Served {
    fn replication(&self) -> Option<Arc<Replication>> {
        self.replication.get().and_then(Weak::upgrade)
    }
}

impl Serve for Served {
    fn pulse(&self) -> Pulse {
        let synced = self.log.store().synced_commit().0;
        Pulse { synced, quorum: self.log.quorum_commit().0, hybrid: self.log.clock().next_hybrid() }
    }

    fn answer<'a>(&'a self, from: NodeId, kind: u8, body: Vec<u8>) -> Pending<'a, Option<Vec<u8>>> {
        Box::pin(async move {
            match kind {
                ASK_CATALOG => Some(self.catalog.answer(from, &body).await),
                ASK_HOLDINGS => self.replication().map(|replication| replication.holdings()),
                ASK_COMMAND => Some(self.commands.take_forwarded(&body).await),
                ASK_HAND_OVER => match self.site.upgrade() {
                    Some(site) => Some(site.hand_over_for(from).await),
                    None => None,
                },
                ASK_NEWS => {
                    let heard = self.site.upgrade().and_then(|site| site.hear_news(from, &body));
                    if let (Some((code, text)), Some(replication)) = (heard, self.replication()) {
                        replication.trouble(code, text);
                    }
                    Some(Vec::new())
                }
                ASK_LINKED => match &self.within {
                    Some(within) => within.answer(from, &body).await,
                    None => None,
                },
                // An older program does not know the kind: who asks is not to take this one for that.
                ASK_SAME => match self.replication() {
                    Some(replication) => Some(replication.same_here(&body).await),
                    None => Some(Vec::new()),
                },
                ASK_PLUGIN => {
                    let wants = self.spread.as_ref().map(|spread| Arc::clone(spread.wants()));
                    Some(components::answer(Arc::clone(&self.plugins), wants, body).await)
                }
                ASK_WANTS => match &self.spread {
                    Some(spread) => spread.answer(from, body).await,
                    None => None,
                },
                _ => None,
            }
        })
    }

    fn stream<'a>(&'a self, from: NodeId, kind: u8, send: FrameSender, receive: FrameReceiver) -> Pending<'a, ()> {
        Box::pin(async move {
            match (kind, self.replication(), &self.within) {
                (STREAM_FOLLOW, Some(replication), _) => replication.serve_follower(from, send, receive).await,
                (STREAM_LINKED, _, Some(within)) => within.serve(from, send, receive).await,
                _ => {}
            }
        })
    }

    fn was_removed(&self, node: NodeId) -> bool {
        self.catalog.is_removed(node)
    }

    fn heard(&self, _: NodeId, heartbeat: &Heartbeat) {
        self.log.clock().observe(heartbeat.hybrid);
    }

    fn notice(&self, notice: Notice) {
        let code = match notice {
            // It has come before the connections had heard that it was let in.
            Notice::Stranger { node } if self.catalog.members().iter().any(|member| member.node == node) => return,
            Notice::Copied { node, there, .. } => {
                // It is the one that stays, and sees nothing of the other one.
                if let Some(site) = self.site.upgrade() {
                    tokio::spawn(async move { site.tell_news(node, News::Copied(there)).await });
                }
                "copied"
            }
            Notice::CopiedHere { .. } => "copied-here",
            Notice::Removed { .. } => REMOVED,
            Notice::Version { .. } => "version",
            Notice::Stranger { .. } => "store-too-old",
            Notice::TooMany { .. } => "too-many-nodes",
        };
        match self.replication() {
            Some(replication) => replication.trouble(code, notice.to_string()),
            None => tracing::error!(code, %notice, "told before the node was ready"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replication::peers::Known;

    fn member(node: u64, origin: Option<u64>) -> Member {
        Member {
            node: NodeId(node),
            name: String::new(),
            address: String::new(),
            origin,
            voter: true,
            state: MemberState::Active,
            version: String::new(),
            joined: 0,
        }
    }

    /// A node that is connected or not, and says that it writes a life.
    fn peer((node, is_connected, origin): (u64, bool, u64)) -> PeerState {
        PeerState {
            node: NodeId(node),
            name: String::new(),
            address: String::new(),
            is_connected,
            since: Duration::ZERO,
            error: None,
            calls_copy: false,
            known: Some(Known {
                origin,
                incarnation: 1,
                program: String::new(),
                protocol_max: 1,
                heard: Duration::ZERO,
                heartbeat: None,
                clock_ahead_ms: 0,
                wall_ahead_ms: 0,
                steady_ahead_ms: i64::try_from(node).unwrap(),
            }),
            connection: None,
        }
    }

    #[test]
    fn a_life_is_heard_where_the_one_is_that_writes_it_and_not_where_another_says_so() {
        let members = [member(1, Some(10)), member(2, Some(20)), member(3, None)];
        // the life; who is connected or not, and says that it writes which; who is found, and whether it is connected
        for (origin, peers, expected) in [
            (20, &[(2, true, 20)][..], Some((2, true))),
            (20, &[(2, false, 20)], Some((2, false))),
            (20, &[(3, true, 20)], None),
            (20, &[(3, true, 20), (2, true, 20)], Some((2, true))),
            // The list does not know it yet.
            (21, &[(2, true, 21)], Some((2, true))),
            (21, &[(2, false, 21), (3, true, 21)], Some((3, true))),
            (21, &[(2, true, 20)], None),
        ] {
            let states: Vec<PeerState> = peers.iter().copied().map(peer).collect();
            let found = writer_of(OriginId(origin), &states, &members).map(|peer| (peer.node.0, peer.is_connected));
            assert_eq!(found, expected, "{origin} {peers:?}");
            let clock = expected.map(|(node, _)| (OriginId(origin), i64::try_from(node).unwrap()));
            let clocks = Clocks::default().look(&states, &members, &[]);
            assert_eq!(clocks.into_iter().find(|(of, _)| *of == OriginId(origin)), clock, "{origin} {peers:?}");
        }
    }

    #[test]
    fn a_life_that_has_ended_goes_by_its_nodes_clock_and_so_does_that_of_a_node_that_has_left() {
        let members = [member(1, Some(10)), member(2, Some(20)), member(3, Some(30))];
        let followed = [(19, 2), (20, 2), (29, 3), (30, 3), (40, 4), (50, 0)];
        let followed = followed.map(|(origin, node)| (OriginId(origin), NodeId(node)));
        let states: Vec<PeerState> = [(2, true, 20), (3, false, 30)].into_iter().map(peer).collect();
        let expected = [(19, 2), (20, 2), (29, 3), (30, 3)].map(|(origin, ahead_ms)| (OriginId(origin), ahead_ms));
        let mut clocks = Clocks::default();
        let mut look = |peers: &[PeerState], followed: &[(OriginId, NodeId)]| {
            let mut found = clocks.look(peers, &members, followed);
            found.sort_unstable();
            (found, clocks.ahead_ms.len())
        };
        assert_eq!(look(&states, &followed), (expected.to_vec(), 2));
        // The third has left.
        assert_eq!(look(&states[..1], &followed), (expected.to_vec(), 2));
        // Nothing is held of it any more.
        assert_eq!(look(&states[..1], &followed[..2]), (expected[..2].to_vec(), 1));
    }
}

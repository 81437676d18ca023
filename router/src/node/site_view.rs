//! What the node tells people of its site.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use sled_data::{FOLLOWED_ORIGINS_MAX, OriginId};

use super::outside::lost_told;
use super::site::SiteNode;
use super::site_lags::origins;
use crate::admin::site::{BoundView, CatalogView, NodeView, QuorumView, SiteView, TroubleView};
use crate::catalog::{
    AGREED_PLUGINS_MAX, ASSIGNMENTS_MAX, Lease, Member, MemberState, REMOVED_MAX, ROUTES_MAX, TAKE_OVERS_MAX,
    TOPIC_NAMES_MAX,
};
use crate::replication::peers::PeerState;
use crate::transport::NodeId;

/// Names of nodes by id; ids where there is no name.
pub(super) struct Names(BTreeMap<NodeId, String>);

impl Names {
    pub(super) fn of_pairs(named: impl IntoIterator<Item = (NodeId, String)>) -> Self {
        Self(named.into_iter().collect())
    }

    pub(super) fn of(&self, node: NodeId) -> String {
        self.0.get(&node).cloned().unwrap_or_else(|| node.to_string())
    }
}

impl SiteNode {
    /// As people call its site's nodes.
    pub(super) fn node_names(&self) -> Names {
        Names::of_pairs(self.catalog.members().iter().map(|member| (member.node, member.name.clone())))
    }
}

pub(super) fn view(site: &SiteNode) -> SiteView {
    let members = site.catalog.members();
    let names = site.node_names();
    let peers = site.peers().map(|peers| peers.states()).unwrap_or_default();
    let status = site.catalog.consensus_status();
    let named = site.catalog.site();
    let bounds = bounds(site);
    let now_ms = site.log.clock().wall_ms();
    let heard: BTreeSet<NodeId> = peers.iter().filter(|peer| peer.is_connected).map(|peer| peer.node).collect();
    let lost = lost_told(&members, &heard, now_ms);
    let noted = site.book.troubles().into_iter().map(trouble);
    let tight = bounds.iter().filter(|bound| is_tight(bound)).map(|bound| told(bound, now_ms)).collect::<Vec<_>>();
    SiteView {
        id: format!("{:016x}", site.place.site),
        name: named.as_ref().map_or_else(String::new, |named| named.name.clone()),
        lease: lease(named.map_or_else(Lease::default, |named| named.lease)).to_owned(),
        node: site.place.node.to_string(),
        certified: site.identity.is_some(),
        catalog: CatalogView {
            leader: status.leader.map(|leader| names.of(leader)),
            term: status.term,
            applied: status.last_applied,
            level: site.catalog.level(),
        },
        quorum: quorum(site, &members, &peers),
        nodes: members.iter().map(|member| node(site, member, &peers)).collect(),
        origins: origins(site, &members, &peers, &names),
        troubles: noted.chain(lost).chain(tight).chain(site.troubles_now(&names)).collect(),
        bounds,
    }
}

fn lease(lease: Lease) -> &'static str {
    match lease {
        Lease::Run => "run",
        Lease::Pause => "pause",
    }
}

/// What may grow up to a bound, and does not become less by itself.
fn bounds(site: &SiteNode) -> Vec<BoundView> {
    let catalog = &site.catalog;
    let counts = [
        ("followed origins", site.log.store().followed().len(), FOLLOWED_ORIGINS_MAX),
        ("take-overs", catalog.take_overs().len(), TAKE_OVERS_MAX),
        ("assignments", catalog.assignments().len(), ASSIGNMENTS_MAX),
        ("plugins", catalog.plugins().len(), AGREED_PLUGINS_MAX),
        ("routing rules", catalog.routes().len(), ROUTES_MAX),
        ("topic names", catalog.topic_names(), TOPIC_NAMES_MAX),
        ("removed nodes", catalog.removed(), REMOVED_MAX),
    ];
    let view = |(what, used, max): (&str, usize, usize)| BoundView {
        what: what.to_owned(),
        used: used as u64,
        max: max as u64,
    };
    counts.into_iter().map(view).collect()
}

/// Nine tenths of a bound are told, so that there is time to do something.
fn is_tight(bound: &BoundView) -> bool {
    bound.used * 10 >= bound.max * 9
}

fn told(bound: &BoundView, at_ms: i64) -> TroubleView {
    let BoundView { what, used, max } = bound;
    let then = match what.as_str() {
        "followed origins" => {
            "beyond that, the log of a new node is kept by nobody else; nodes that join with new data folders, and lives \
             that end, use them up, and each node that joins anew begins with those that are kept elsewhere"
        }
        "take-overs" => "beyond that, the work of a lost node is taken over by nobody",
        "topic names" => "beyond that, only names that were used before can be used: take one of them again",
        "removed nodes" => "beyond that, no node can be removed: found a new site",
        "assignments" => "beyond that, further plugins of scope `site` do not run; remove some",
        _ => "beyond that, new ones are refused; remove some",
    };
    let text = format!("{used} of {max} {what} are there: {then}");
    TroubleView { at_ms, code: "bound-near".to_owned(), text }
}

fn trouble(known: crate::replication::Trouble) -> TroubleView {
    TroubleView { at_ms: known.at_ms, code: known.code.to_owned(), text: known.text }
}

fn quorum(site: &SiteNode, members: &[Member], peers: &[PeerState]) -> QuorumView {
    let voters: Vec<NodeId> = members.iter().filter(|member| member.voter).map(|member| member.node).collect();
    let followers = site.book.followers(site.log.store().origin());
    let follows = |node: NodeId| followers.iter().any(|(follower, state)| *follower == node && state.is_here);
    let is_heard = |node: NodeId| {
        node == site.place.node || follows(node) && peers.iter().any(|peer| peer.node == node && peer.is_connected)
    };
    let heard = voters.iter().filter(|voter| is_heard(**voter)).count();
    QuorumView {
        voters: voters.len() as u64,
        needed: (voters.len() / 2 + 1) as u64,
        heard: heard as u64,
        in_reach: site.log.quorum_in_reach(),
    }
}

fn node(site: &SiteNode, member: &Member, peers: &[PeerState]) -> NodeView {
    let peer = peers.iter().find(|peer| peer.node == member.node);
    let known = peer.and_then(|peer| peer.known.as_ref());
    let connection = peer.and_then(|peer| peer.connection.as_ref());
    let is_self = member.node == site.place.node;
    let own = is_self.then(|| site.log.store().origin().0);
    let state = match member.state {
        MemberState::Active => "active",
        MemberState::Leaving => "leaving",
        MemberState::Lost => "lost",
    };
    let version = if is_self { Some(env!("CARGO_PKG_VERSION").to_owned()) } else { known.map(|k| k.program.clone()) };
    let ms = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    let now = site.log.clock().monotonic();
    NodeView {
        node: member.node.to_string(),
        name: member.name.clone(),
        address: member.address.clone(),
        voter: member.voter,
        state: state.to_owned(),
        is_self,
        connected: peer.is_some_and(|peer| peer.is_connected),
        origin: own.or(known.map(|known| known.origin)).map(|origin| OriginId(origin).to_string()),
        version,
        level_max: if is_self { Some(site.spoken.highest()) } else { known.map(|known| known.protocol_max) },
        heard_ms: known.map(|known| ms(now.saturating_sub(known.heard))),
        rtt_ms: connection.map(|connection| connection.rtt.as_secs_f64() * 1e3),
        clock_ahead_ms: known.map(|known| known.clock_ahead_ms),
        problem: match is_self {
            true => site.own_problem(peers),
            false => peer.and_then(|peer| peer.error.clone()).or_else(|| does_not_follow(site, member.node, peer)),
        },
    }
}

/// That a node is heard and takes nothing of this node's log now, where it did.
fn does_not_follow(site: &SiteNode, node: NodeId, peer: Option<&PeerState>) -> Option<String> {
    let followers = site.book.followers(site.log.store().origin());
    let has_gone = followers.iter().any(|(follower, state)| *follower == node && !state.is_here);
    (has_gone && peer?.is_connected).then(|| {
        "it takes nothing of this node's log now: see `edgeway status` there (is its store full?), or it takes a copy".to_owned()
    })
}

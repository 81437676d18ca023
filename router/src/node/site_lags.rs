//! What the node tells people of logs: where each origin's partitions end here, and how far behind those are who follow it.

use std::collections::BTreeMap;

use sled_data::{CommitNumber, CopyState, KeptGap, OriginId, PartitionId, hlc_ms};

use super::site::SiteNode;
use super::site_view::Names;
use crate::admin::site::{FollowerView, GapView, LagView, OriginView, PartitionView};
use crate::catalog::Member;
use crate::replication::peers::{Known, PeerState};
use crate::replication::{Extents, FollowerState, Following, PartitionLag, extents};
use crate::transport::NodeId;

/// What is looked at.
struct Look<'a> {
    site: &'a SiteNode,
    members: &'a [Member],
    peers: &'a [PeerState],
    names: &'a Names,
    /// Those who work on with the logs of lost nodes, by their lives.
    read_by: BTreeMap<OriginId, NodeId>,
    /// The store's partitions.
    partitions: BTreeMap<OriginId, Vec<PartitionId>>,
}

pub(super) fn origins(site: &SiteNode, members: &[Member], peers: &[PeerState], names: &Names) -> Vec<OriginView> {
    let taken = site.catalog.take_overs().into_iter().filter(|(_, taken)| !taken.has_returned);
    let read_by = taken.map(|(origin, taken)| (OriginId(origin), taken.by)).collect();
    let mut partitions: BTreeMap<OriginId, Vec<PartitionId>> = BTreeMap::new();
    for id in site.log.store().partitions() {
        partitions.entry(id.origin).or_default().push(id);
    }
    let look = Look { site, members, peers, names, read_by, partitions };
    let (store, following) = (site.log.store(), site.book.following());
    let mut all = vec![look.own()];
    for (origin, followed) in store.followed() {
        let how = match following.get(&origin) {
            Some(Following::Commits(node)) => format!("commits from {}", names.of(*node)),
            Some(Following::Copy(node)) => format!("copy from {}", names.of(*node)),
            Some(Following::Stopped(why)) => format!("stopped: {why}"),
            None => "kept".to_owned(),
        };
        let kept = look.extents(origin);
        let writer = look.writer(origin);
        all.push(OriginView {
            origin: origin.to_string(),
            node: look.name_of_writer(origin, followed.node),
            own: false,
            commit: followed.synced.0,
            behind_commits: writer.map(|writer| writer.saturating_sub(followed.synced.0)),
            following: how,
            whole: followed.copy == CopyState::Whole,
            read_by: look.read_by(origin),
            partitions: look.partitions(origin, &kept),
            followers: look.followers_elsewhere(origin, &kept, writer.is_some()),
        });
    }
    all
}

impl Look<'_> {
    fn own(&self) -> OriginView {
        let store = self.site.log.store();
        let origin = store.origin();
        let kept = self.extents(origin);
        OriginView {
            origin: origin.to_string(),
            node: Some(self.names.of(self.site.place.node)),
            own: true,
            commit: store.synced_commit().0,
            behind_commits: None,
            following: "own".to_owned(),
            whole: true,
            read_by: self.read_by(origin),
            partitions: self.partitions(origin, &kept),
            followers: self.own_followers(origin, &kept),
        }
    }

    fn name_of_writer(&self, origin: OriginId, node: u64) -> Option<String> {
        let is_listed = |member: &&Member| member.origin == Some(origin.0);
        let listed = self.members.iter().find(is_listed).map(|member| member.name.clone());
        listed.or_else(|| (node != 0).then(|| self.names.of(NodeId(node))))
    }

    fn read_by(&self, origin: OriginId) -> Option<String> {
        self.read_by.get(&origin).map(|node| self.names.of(*node))
    }

    fn extents(&self, origin: OriginId) -> Extents {
        let partitions = self.partitions.get(&origin).map(Vec::as_slice).unwrap_or_default();
        extents(&self.site.log, origin, partitions)
    }

    /// The newest commit of another node that is connected, as it said last.
    fn writer(&self, origin: OriginId) -> Option<u64> {
        let of = |known: &Known| known.heartbeat.filter(|_| known.origin == origin.0).map(|said| said.synced);
        self.peers.iter().filter(|peer| peer.is_connected).find_map(|peer| peer.known.as_ref().and_then(of))
    }

    /// Every other node of the site, also where it has not come since this one was started.
    fn own_followers(&self, origin: OriginId, kept: &Extents) -> Vec<FollowerView> {
        let mut followers = self.site.book.followers(origin);
        followers.retain(|(node, _)| self.may_follow(*node));
        let is_silent =
            |node: &NodeId| *node != self.site.place.node && !followers.iter().any(|(follower, _)| follower == node);
        let silent = self.members.iter().map(|member| member.node).filter(is_silent);
        let silent = silent.map(|node| FollowerView { node: self.names.of(node), ..FollowerView::default() });
        let told = followers.iter().map(|(node, state)| self.follower(origin, kept, *node, *state));
        told.chain(silent).collect()
    }

    /// Those who follow another's origin from here; while its writer is not heard, also what others have said that they hold.
    fn followers_elsewhere(&self, origin: OriginId, kept: &Extents, writer_is_heard: bool) -> Vec<FollowerView> {
        let mut followers: BTreeMap<NodeId, FollowerState> = self.site.book.followers(origin).into_iter().collect();
        // They follow it from its writer again.
        followers.retain(|_, state| state.is_here || !writer_is_heard);
        let held = self.site.replication.get().and_then(std::sync::Weak::upgrade);
        let held = held.filter(|_| !writer_is_heard).map(|held| held.held_by_others().all()).unwrap_or_default();
        for (node, holds) in held {
            let Some(commit) = holds.get(&origin) else { continue };
            let state = FollowerState { synced: CommitNumber(0), is_here: false };
            let state = followers.entry(node).or_insert(state);
            state.synced = state.synced.max(*commit);
        }
        followers.retain(|node, _| self.may_follow(*node));
        followers.into_iter().map(|(node, state)| self.follower(origin, kept, node, state)).collect()
    }

    /// Whether what a node lacks is told: one that was taken out follows nothing any more, and would lack more and more.
    fn may_follow(&self, node: NodeId) -> bool {
        !self.site.catalog.is_removed(node)
    }

    fn follower(&self, origin: OriginId, kept: &Extents, node: NodeId, state: FollowerState) -> FollowerView {
        let lag = self.site.lags.of(&self.site.log, origin, kept, node, state.synced);
        let of = |of: &PartitionLag| LagView {
            topic: self.topic(of.partition),
            partition: of.partition.index,
            next: of.next,
            lag_events: of.events,
            lag_bytes: of.bytes,
            lag_ms: of.ms,
        };
        FollowerView {
            node: self.names.of(node),
            told: true,
            commit: state.synced.0,
            connected: state.is_here,
            lag_commits: lag.commits,
            lag_events: lag.events,
            lag_bytes: lag.bytes,
            lag_ms: lag.ms,
            at_least: lag.is_at_least,
            partitions: lag.partitions.iter().map(of).collect(),
        }
    }

    fn topic(&self, id: PartitionId) -> String {
        let known = self.site.log.topic_by_id(id.topic);
        known.map_or_else(|| id.topic.to_string(), |topic| topic.name().to_owned())
    }

    fn partitions(&self, origin: OriginId, kept: &Extents) -> Vec<PartitionView> {
        let log = &self.site.log;
        let mut found = Vec::new();
        for topic in log.topics() {
            for partition in log.partitions_of(&topic).iter().filter(|partition| partition.id().origin == origin) {
                let id = partition.id();
                let end = log.store().end_offset(id);
                found.push(PartitionView {
                    topic: topic.name().to_owned(),
                    partition: id.index,
                    start: log.start_offset(id),
                    end,
                    synced_end: kept.get(&id).map_or(0, |kept| kept.end),
                    visible_end: partition.visible_end(),
                    gaps: self.gaps(id),
                });
            }
        }
        found
    }

    fn gaps(&self, id: PartitionId) -> Vec<GapView> {
        let gaps = self.site.log.store().gaps(id).unwrap_or_else(|error| {
            tracing::warn!(%error, partition = %id, "what is missing of a partition cannot be read");
            Vec::new()
        });
        let view = |gap: &KeptGap| GapView {
            from: gap.from,
            to: gap.to,
            why: gap.cause.name().to_owned(),
            at_ms: hlc_ms(gap.hlc),
        };
        gaps.iter().map(view).collect()
    }
}

//! Retention as it runs: it waits for the site's other nodes and for links, up to bounds, and says what went in spite of them.

use std::collections::BTreeSet;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use sled_data::{CopyState, Followed, Offset, OriginId, PartitionId, Wait};

use super::clock_apart::{Apart, judged_by_ms};
use super::links::LinkNode;
use super::site::SiteNode;
use super::site_troubles::{CLOCK_APART, clock_text};
use crate::config::Config;
use crate::event_log::{Act, FollowedLives};
use crate::ingest::Ingest;
use crate::replication::{Behind, Floor, Lacks, LeftCopy, Trouble, lacked_copies, lacked_lives};
use crate::transport::NodeId;

/// How often it looks whether room is left.
const EVERY: Duration = Duration::from_secs(1);
/// Of so many looks one looks at the topics where there is room; all do where there is little.
const LOOKS: u32 = 10;
/// Nobody is waited for while the disk, with what is free inside the store's files, has less room than so many times its reserve,
const RESERVES_MIN: u64 = 4;
/// or while so much of what the store may hold is stored, in percent.
const FULL_PERCENT: u64 = 90;

/// What decides what may go.
pub(super) struct Keeper {
    site: Arc<SiteNode>,
    links: Arc<LinkNode>,
    wait_ms: u64,
    wait_bytes: u64,
    /// Bytes that a link may keep here; 0: no bound.
    link_bytes_max: u64,
    reserve_bytes: u64,
    /// 0: no bound.
    store_bytes_max: u64,
    floor: Option<Floor>,
    looks: u32,
    /// Whose clocks were far from others when it was looked last; `None` is this node.
    apart: Vec<Option<NodeId>>,
}

impl Keeper {
    pub(super) fn new(site: &Arc<SiteNode>, links: &Arc<LinkNode>, config: &Config) -> Self {
        Self {
            site: Arc::clone(site),
            links: Arc::clone(links),
            wait_ms: config.site.retention_wait_ms,
            wait_bytes: config.site.retention_wait_bytes,
            link_bytes_max: config.site.link_bytes_max,
            reserve_bytes: config.store.reserve_bytes,
            store_bytes_max: config.store.bytes_max,
            floor: None,
            looks: 0,
            apart: Vec::new(),
        }
    }

    /// Looks how far the others are, where it is time for passes. What readers have brought into memory is let go of with each look.
    fn look(&mut self) -> bool {
        if let Err(error) = self.site.log.store().let_go_if_due() {
            tracing::debug!(%error, "the store cannot let go of memory");
        }
        self.tell_clocks();
        let is_due = is_due(self.looks, self.is_nearly_full());
        self.looks = self.looks.wrapping_add(1);
        if is_due {
            self.floor = Some(self.floor());
        }
        is_due
    }

    /// One pass; whether there is more to do at once.
    fn pass(&self) -> bool {
        let Some(floor) = &self.floor else { return false };
        let (ms_max, bytes_max) = if self.is_nearly_full() { (0, 0) } else { (self.wait_ms, self.wait_bytes) };
        // Links have a bound of their own.
        let links = self.links.edge().floors();
        let floor_of = |id: PartitionId| floor.of(id).min(links.get(&id).copied().unwrap_or(Offset::MAX));
        let wait = Wait { ms_max, bytes_max, ..Wait::for_ever(&floor_of) };
        let pass = match self.judged_by_ms() {
            Some(now_ms) => self.site.log.apply_retention_by(now_ms, &wait),
            None => self.site.log.apply_retention(&wait),
        };
        for (id, from, to) in pass.needed {
            self.tell(id, from, to);
        }
        let has_more = self.links.keep_share(self.link_bytes_max);
        pass.more || has_more
    }

    /// By which moment age is judged, where that is not this node's own clock.
    fn judged_by_ms(&self) -> Option<i64> {
        let (clock, others) = (self.site.log.clock(), self.site.other_clocks());
        // One that has joined just now does not know of the others yet.
        let is_alone = self.site.identity.is_none() || self.site.catalog.members().len() == 1;
        // Where room is little nobody is waited for.
        let waits_for_none = is_alone || others.is_empty() && self.is_nearly_full();
        judged_by_ms(clock.wall_ms(), &others, clock.monotonic(), waits_for_none)
    }

    /// Says in the log whose clock is far from others, once.
    fn tell_clocks(&mut self) {
        let whose = |apart: &Apart| match apart {
            Apart::Own(_) => None,
            Apart::Other(node, _) => Some(*node),
        };
        let found = self.site.clocks_apart();
        let apart: Vec<Option<NodeId>> = found.iter().map(whose).collect();
        if apart == self.apart {
            return;
        }
        for new in found.into_iter().filter(|new| !self.apart.contains(&whose(new))) {
            tracing::warn!(code = CLOCK_APART, "{}", clock_text(new, &self.site.node_names()));
        }
        self.apart = apart;
    }

    fn floor(&self) -> Floor {
        let me = self.site.place.node;
        let members = self.site.catalog.members();
        let others: Vec<NodeId> = members.iter().map(|member| member.node).filter(|node| *node != me).collect();
        let replication = self.site.replication.get().and_then(Weak::upgrade);
        let has = |life: OriginId, node: NodeId| {
            let said = replication.as_ref().map(|replication| replication.held_by_others().synced_at(node, life));
            said.unwrap_or_default().max(self.site.book.synced_at(life, node))
        };
        let mut ended = lacked_lives(&self.site.log.lives_left(), &others, has);
        ended.extend(lacked_copies(&self.copies_left(), &others, has));
        self.floor_of_present(&others).and_ended(ended)
    }

    /// The copies here of lives that have ended, or whose writers are not heard.
    fn copies_left(&self) -> Vec<LeftCopy> {
        let (log, peers) = (&self.site.log, self.site.peers().map(|peers| peers.states()).unwrap_or_default());
        let heard: BTreeSet<u64> = peers.iter().filter(|peer| peer.is_connected).map(|peer| peer.node.0).collect();
        left(&log.store().followed(), &log.followed_lives(), |life| log.is_ended(life), &heard)
    }

    /// That of the life that is written now.
    fn floor_of_present(&self, others: &[NodeId]) -> Floor {
        let store = self.site.log.store();
        let own = store.origin();
        let behind = Behind::of(others, &self.site.book.followers(own));
        let upto = match behind {
            Behind::Nobody => return Floor::none(own),
            Behind::Unknown => return Floor::beyond_records(own, behind, None),
            Behind::UpTo(commit) => commit,
        };
        let own_partitions = store.partitions().into_iter().filter(|id| id.origin == own);
        let ends = own_partitions.map(|id| (id, store.end_offset(id))).collect();
        match store.first_offsets_after(upto) {
            Ok(Some(first)) => return Floor::known(own, Lacks { upto, first, ends }),
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(%error, "what other nodes lack cannot be read; retention keeps what it knew they lack");
            }
        }
        Floor::beyond_records(own, behind, self.floor.as_ref())
    }

    fn is_nearly_full(&self) -> bool {
        let store = self.site.log.store();
        let is_bounded = self.store_bytes_max > 0;
        let is_tight = store.room_bytes().is_some_and(|room| room < self.reserve_bytes.saturating_mul(RESERVES_MIN));
        is_tight || is_bounded && store.batch_bytes() > self.store_bytes_max / 100 * FULL_PERCENT
    }

    fn tell(&self, id: PartitionId, from: Offset, to: Offset) {
        let log = &self.site.log;
        let name = log.topic_by_id(id.topic).map_or_else(|| id.topic.to_string(), |topic| topic.name().to_owned());
        let text = format!(
            "retention removed events {from} to {} of {name}/{} that another node has not synced, or a link not sent: it was waited for as \
             long as [site] retention_wait_ms and retention_wait_bytes say",
            to.saturating_sub(1),
            id.index
        );
        let code = "retention-waits-no-more";
        if !self.site.book.trouble(Trouble { at_ms: log.clock().wall_ms(), code, text: text.clone() }) {
            return;
        }
        tracing::warn!(code, "{text}");
        let act = Act { who: "node", act: "site.trouble", what: code, outcome: code, detail: text.into() };
        if let Err(error) = log.audit(act) {
            tracing::warn!(%error, code, "it is not in the audit");
        }
    }
}

/// The whole copies, of what is followed, that nobody is heard to write (pure): of lives that have ended, or of nodes that are not `heard`. Who was
/// restored to before a life's end lacks the end as others do: he has it from such a copy.
fn left(
    followed: &[(OriginId, Followed)],
    lives: &FollowedLives,
    is_own: impl Fn(OriginId) -> bool,
    heard: &BTreeSet<u64>,
) -> Vec<LeftCopy> {
    let is_left = |(life, followed): &&(OriginId, Followed)| {
        let is_written = !lives.ended.contains(life) && heard.contains(&followed.node);
        followed.copy == CopyState::Whole && !is_own(*life) && !is_written
    };
    let is_outlived = |life: &OriginId| lives.ended.contains(life) && !lives.carried_on.contains(life);
    let copy = |(origin, followed): &(OriginId, Followed)| LeftCopy {
        origin: *origin,
        synced: followed.synced,
        writer: Some(NodeId(followed.node)).filter(|node| node.0 > 0 && !is_outlived(origin)),
    };
    followed.iter().filter(is_left).map(copy).collect()
}

/// Whether a look is one at the topics.
fn is_due(looks: u32, is_nearly_full: bool) -> bool {
    is_nearly_full || looks.is_multiple_of(LOOKS)
}

/// Runs a step off the runtime's threads: what it says, false where it panicked. `None` where the node ends.
async fn step<T: Send + 'static>(
    of: &Arc<Mutex<T>>,
    step: impl FnOnce(&mut T) -> bool + Send + 'static,
) -> Option<bool> {
    let of = Arc::clone(of);
    match tokio::task::spawn_blocking(move || step(&mut of.lock())).await {
        Ok(said) => Some(said),
        Err(error) if error.is_panic() => {
            tracing::error!(%error, "a pass of retention failed; it goes on with the next one");
            Some(false)
        }
        Err(_) => None,
    }
}

/// Runs as long as the node does.
pub(super) async fn keep(ingest: Arc<Ingest>, keeper: Keeper) {
    let keeper = Arc::new(Mutex::new(keeper));
    let mut every = tokio::time::interval(EVERY);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        let Some(is_due) = step(&keeper, Keeper::look).await else { return };
        if !is_due {
            continue;
        }
        let mut more = true;
        while more {
            let Some(has_more) = step(&keeper, |keeper| keeper.pass()).await else { return };
            more = has_more;
        }
        // One a look: what it does is bounded.
        if step(&keeper, |keeper| keeper.links.forget_one()).await.is_none() {
            return;
        }
        let ingest = Arc::clone(&ingest);
        // One pass a tick: what it does is bounded.
        let forgotten = tokio::task::spawn_blocking(move || ingest.lanes().forget()).await.unwrap_or(0);
        if forgotten > 0 {
            tracing::info!(devices = forgotten, "devices that have sent nothing for long are forgotten");
        }
    }
}

#[cfg(test)]
mod tests {
    use sled_data::CommitNumber;

    use super::*;

    #[tokio::test]
    async fn a_step_that_panics_is_not_the_last_one() {
        let count = Arc::new(Mutex::new(0));
        assert_eq!(step(&count, |_| panic!("damaged")).await, Some(false));
        let next = step(&count, |count| {
            *count += 1;
            *count == 1
        });
        assert_eq!(next.await, Some(true));
    }

    #[test]
    fn copies_that_nobody_is_heard_to_write_are_left() {
        let life = |origin, node, copy| {
            let (commit, synced) = (CommitNumber(9), CommitNumber(origin));
            (OriginId(origin), Followed { commit, synced, hlc: 1, node, copy })
        };
        use CopyState::{Taking, Whole};
        let followed = [
            life(1, 1, Whole),
            life(2, 2, Whole),
            life(3, 2, Whole),
            life(4, 3, Whole),
            life(5, 3, Taking),
            life(6, 0, Whole),
            life(7, 3, Whole),
            life(8, 2, Whole),
        ];
        let lives = |lives: &[u64]| lives.iter().copied().map(OriginId).collect();
        // Node 2 was restored to before the end of life 8, and needs that.
        let lives = FollowedLives { ended: lives(&[2, 6, 8]), carried_on: lives(&[2]) };
        let found = left(&followed, &lives, |life| life == OriginId(7), &BTreeSet::from([1, 2]));
        let found: Vec<_> = found.iter().map(|copy| (copy.origin.0, copy.synced.0, copy.writer)).collect();
        assert_eq!(found, [(2, 2, Some(NodeId(2))), (4, 4, Some(NodeId(3))), (6, 6, None), (8, 8, None)]);
    }

    #[test]
    fn where_room_is_little_each_look_is_at_the_topics() {
        let due = |is_nearly_full| (0..LOOKS * 2).filter(|looks| is_due(*looks, is_nearly_full)).count();
        assert_eq!((due(false), due(true)), (2, 20));
        assert!(is_due(0, false), "the first one is at once");
    }
}

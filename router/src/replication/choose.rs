//! Begins and ends streams by the plan, as far as there are places, and as far as what others say is gone by.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use sled_data::{CommitNumber, OriginId};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::claims::Holds;
use super::follower::Ended;
use super::peers::PeerState;
use super::plan::{Known, writer_instead};
use super::progress::Progress;
use super::task::{PAUSE_MIN, Replication};
use super::turns::{Begun, Due, Taken, begun};
use crate::transport::NodeId;

/// For how long a life counts that nobody else knew of when it was begun.
const UNKNOWN_FOR: Duration = Duration::from_secs(3_600);

/// An origin that is followed, or will be again.
pub(super) struct Running {
    pub(super) node: NodeId,
    pub(super) task: Option<JoinHandle<Ended>>,
    pub(super) pause: Duration,
    pub(super) not_before: Instant,
    pub(super) began: Instant,
    /// Whether it was begun, and is from another than its writer.
    is_for_claim: bool,
    /// How far it has come.
    came: Arc<Progress>,
}

impl Running {
    fn new(node: NodeId, now: Instant) -> Self {
        let (pause, not_before, began) = (PAUSE_MIN, now, now);
        Self { node, task: None, pause, not_before, began, is_for_claim: false, came: Arc::default() }
    }
}

/// Lives that nobody else knew of when they were begun, and when that was.
pub(super) type Unknown = BTreeMap<(NodeId, OriginId), Instant>;

impl Replication {
    /// Ends what is followed from others than those that are wanted.
    pub(super) fn end_unwanted(&self, wanted: &BTreeMap<OriginId, NodeId>) {
        self.running.lock().retain(|origin, running| {
            let stays = wanted.get(origin) == Some(&running.node);
            if !stays {
                running.task.take().inspect(JoinHandle::abort);
                self.book.set_following(*origin, None);
            }
            stays
        });
    }

    /// Begins what is wanted and is not followed, as far as there are places.
    pub(super) fn begin_wanted(self: &Arc<Self>, known: &Known, wanted: BTreeMap<OriginId, NodeId>) {
        let now = Instant::now();
        let here: BTreeSet<OriginId> = self.log.store().followed().into_iter().map(|(origin, _)| origin).collect();
        let listed: BTreeSet<OriginId> = self.listed.borrow().writers.keys().copied().collect();
        let mut taken = Taken { lives: here.len(), unknown: self.unknown_lately(now), ..Taken::default() };
        let mut due = Vec::new();
        let mut running = self.running.lock();
        for (origin, node) in wanted {
            let is_from_another = known.holders.get(&node).is_none_or(|holder| holder.own != Some(origin));
            let is_new = !here.contains(&origin);
            let one = running.entry(origin).or_insert_with(|| Running::new(node, now));
            if one.task.is_some() {
                *taken.others.entry(node).or_default() += usize::from(is_from_another);
                taken.lives += usize::from(is_new);
            } else if one.not_before <= now {
                let others = known.holders.iter().filter(|(other, _)| **other != node);
                let is_known_elsewhere = others.into_iter().any(|(_, holder)| holder.holds.contains_key(&origin));
                let turn = one.not_before.saturating_duration_since(self.started).as_micros();
                due.push(Due {
                    is_from_another,
                    turn: u64::try_from(turn).unwrap_or(u64::MAX),
                    origin,
                    node,
                    is_new,
                    is_listed: listed.contains(&origin),
                    is_known_elsewhere,
                });
            }
        }
        let begun = begun(due, taken);
        for (origin, node) in &begun.now {
            let is_writer = known.holders.get(node).is_some_and(|holder| holder.own == Some(*origin));
            let Some(one) = running.get_mut(origin) else { continue };
            (one.began, one.is_for_claim) = (now, !is_writer);
            one.task = Some(self.begin(*origin, *node, is_writer, Arc::clone(&one.came)));
        }
        drop(running);
        self.note_begun(&begun, now);
    }

    /// How many lives that nobody else knew of were begun lately, by node.
    fn unknown_lately(&self, now: Instant) -> BTreeMap<NodeId, usize> {
        let mut unknown = self.unknown.lock();
        unknown.retain(|_, begun| now.saturating_duration_since(*begun) < UNKNOWN_FOR);
        let mut counts = BTreeMap::new();
        unknown.keys().for_each(|(node, _)| *counts.entry(*node).or_default() += 1);
        counts
    }

    fn note_begun(&self, begun: &Begun, now: Instant) {
        self.unknown.lock().extend(begun.unknown.iter().map(|(origin, node)| ((*node, *origin), now)));
        for node in &begun.too_many_from {
            self.trouble("lives-claimed", format!(
                "node {node} says that it has the logs of many lives that the site knows nothing of, and no other node has: more of them are \
                 taken from it in an hour. Where it is not known why it has them, it is not what it seems: remove it"
            ));
        }
        if begun.is_full {
            self.trouble(
                "too-many-lives",
                "as many logs of other lives are kept here as may be, but for places that are left to the site's \
                 nodes: others are not taken; `edgeway node status` lists them all"
                    .to_owned(),
            );
        }
    }

    /// Gives up claims of which nothing has come for long.
    pub(super) fn look_at_claims(&self) {
        let running = self.running.lock();
        let for_claims = running.iter().filter(|(_, one)| one.is_for_claim);
        let followed: Vec<_> =
            for_claims.filter_map(|(origin, one)| Some((*origin, one.node, one.came.came()?))).collect();
        drop(running);
        let unserved = self.claims.lock().look(&followed, self.log.clock().monotonic());
        for (origin, node) in unserved {
            self.trouble("claim-unserved", format!(
                "node {node} says that it has more of the log of origin {origin} than is here, and nothing of it comes: what it says of it is \
                 not gone by for a while"
            ));
        }
    }

    /// What each of the others holds, as far as it is gone by.
    pub fn believed(&self, peers: &[PeerState]) -> BTreeMap<NodeId, Holds> {
        let writers = self.writers();
        let here: Holds = self.here();
        let said = peers.iter().filter_map(|peer| {
            let known = peer.known.as_ref()?;
            let (origin, said) = (OriginId(known.origin), CommitNumber(known.heartbeat.as_ref()?.synced));
            let is_its_own = writer_instead(peer.node, origin, &writers).is_none();
            // A restored one says less than it wrote.
            is_its_own.then(|| (origin, said.max(here.get(&origin).copied().unwrap_or_default())))
        });
        let said: Holds = said.collect();
        let (claims, now) = (self.claims.lock(), self.log.clock().monotonic());
        let all = self.held.all().into_iter();
        all.map(|(node, holds)| (node, claims.believed(node, holds, &said, now))).collect()
    }
}

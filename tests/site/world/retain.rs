//! Retention as a node's keeper does it: it waits for those of the site who are behind, up to a bound, and for nobody where room is little.

use std::collections::BTreeMap;

use edgeway::replication::{Behind, Floor, FollowerState, Lacks};
use edgeway::transport::NodeId;
use sled_data::{CommitNumber, OriginId, PartitionId, Wait};

use super::World;
use crate::site::bug::Bug;
use crate::site::catalog::KEPT_BYTES;
use crate::site::history::Fact;
use crate::site::node::{Disk, Running};

/// Bytes by which a partition may have more than its topic keeps, before nobody is waited for.
const WAIT_BYTES: u64 = 2_000;
/// Batches that one pass may remove.
const BATCHES_MAX: u64 = 8;

impl World {
    pub(super) fn retain(&mut self, at: usize) {
        let Some(mut run) = self.nodes[at].running.take() else { return };
        let floor = self.floor(at, &run);
        run.floor = Some(floor.clone());
        let is_tight = self.random.chance(150);
        let bytes_max = if is_tight { 0 } else { WAIT_BYTES };
        let before: BTreeMap<PartitionId, Vec<(u64, u64)>> =
            run.store.partitions().into_iter().map(|id| (id, batches(&run, id))).collect();
        let lacked = self.lacked(at, &run);
        let is_ignored = self.has(Bug::FloorIgnored);
        let floor_of = |id: PartitionId| if is_ignored { u64::MAX } else { floor.of(id) };
        let wait = Wait { bytes_max, ..Wait::for_ever(&floor_of) };
        // Nothing goes by its age here: clocks are days apart.
        let dropped = match run.store.apply_retention(0, BATCHES_MAX, &wait) {
            Ok(trimmed) => trimmed.dropped,
            Err(_) => {
                run.failed = Some("its store failed");
                Vec::new()
            }
        };
        self.history.dropped.extend(&dropped);
        let node = self.nodes[at].id;
        for (id, batches) in before {
            let start = if dropped.contains(&id) { u64::MAX } else { run.store.start_offset(id) };
            let mut kept: u64 = batches.iter().map(|(_, bytes)| bytes).sum();
            for (next, bytes) in batches.into_iter().filter(|(next, _)| *next <= start) {
                let needed = lacked.get(&id).copied().unwrap_or(u64::MAX);
                let bound = KEPT_BYTES + bytes_max;
                self.history.note(Fact::LetGo { node, partition: id, next, needed, kept, bound });
                kept -= bytes;
                let trimmed = self.history.trimmed.entry(id).or_default();
                *trimmed = next.max(*trimmed);
            }
        }
        self.note_waits(at, &run, is_tight, bytes_max);
        self.nodes[at].note_disk(&run);
        self.nodes[at].running = Some(run);
    }

    /// Takes note of what retention waits for.
    fn note_waits(&mut self, at: usize, run: &Running, is_tight: bool, bytes_max: u64) {
        let own = run.store.partitions().into_iter().filter(|id| id.origin == run.store.origin());
        let most = own.map(|id| batches(run, id).iter().map(|(_, bytes)| bytes).sum::<u64>()).max().unwrap_or(0);
        let what = match most > KEPT_BYTES {
            true if most > KEPT_BYTES + bytes_max => "retention is behind",
            true => "retention waits",
            false if is_tight => "retention waits for nobody",
            false => "retention has nothing to do",
        };
        self.history.note(Fact::Weather { node: self.nodes[at].id, what });
    }

    fn floor(&self, at: usize, run: &Running) -> Floor {
        let node = &self.nodes[at];
        let own = run.store.origin();
        let heard = self.heard(at, run);
        let counts = |other: &NodeId| !self.has(Bug::FloorForgetsTheSilent) || heard.contains_key(other);
        let members = node.catalog.members.iter().copied().map(NodeId);
        let others: Vec<NodeId> = members.filter(|other| other.0 != node.id && counts(other)).collect();
        let said =
            run.said.iter().map(|(node, synced)| (NodeId(*node), FollowerState { synced: *synced, is_here: true }));
        let behind = Behind::of(&others, &said.collect::<Vec<_>>());
        let upto = match behind {
            Behind::Nobody => return Floor::none(own),
            Behind::Unknown => return Floor::beyond_records(own, behind, None),
            Behind::UpTo(commit) => commit,
        };
        let ends = run.store.partitions().into_iter().filter(|id| id.origin == own);
        let ends = ends.map(|id| (id, run.store.end_offset(id))).collect();
        match run.store.first_offsets_after(upto) {
            Ok(Some(first)) => Floor::known(own, Lacks { upto, first, ends }),
            _ if self.has(Bug::FloorForgetsRecords) => Floor::none(own),
            _ => Floor::beyond_records(own, behind, run.floor.as_ref()),
        }
    }

    /// From where on somebody of the site, as this node knows it, really lacks each of its partitions. What a disk had said that it has, and has
    /// lost since, nobody can know of.
    fn lacked(&self, at: usize, run: &Running) -> BTreeMap<PartitionId, u64> {
        let own = run.store.origin();
        let mut lacked: BTreeMap<PartitionId, u64> = BTreeMap::new();
        let life = &self.history.lives[self.nodes[at].life];
        if self.history.doubtful.contains(&own) {
            return lacked;
        }
        for member in self.nodes[at].catalog.members.iter().filter(|member| **member != self.nodes[at].id) {
            let disk = self.at(*member).map(|other| &self.nodes[other].disk).or_else(|| self.graves.get(member));
            let has = usize::try_from(disk.map_or(CommitNumber(0), |disk| has_of(disk, own)).0).unwrap();
            for piece in life.commits.iter().skip(has).flat_map(|commit| &commit.pieces) {
                let first = lacked.entry(piece.partition).or_insert(piece.base);
                *first = piece.base.min(*first);
            }
        }
        lacked
    }
}

/// What a disk has of an origin, or said that it has.
fn has_of(disk: &Disk, origin: OriginId) -> CommitNumber {
    let of = |map: &BTreeMap<OriginId, CommitNumber>| map.get(&origin).copied().unwrap_or_default();
    of(&disk.durable).max(of(&disk.claimed)).max(of(&disk.broken))
}

/// The batches of a partition: where each ends, and its bytes.
fn batches(run: &Running, id: PartitionId) -> Vec<(u64, u64)> {
    let read = run.store.read(id, run.store.start_offset(id), usize::MAX).unwrap_or_default();
    read.iter().map(|batch| (batch.next_offset(), batch.bytes().len() as u64)).collect()
}

//! What can be wrong with what is sent: bytes that were damaged on the way, batches that were damaged at their source,
//! and commits of an origin that the sender has no say in.

use std::collections::BTreeMap;

use sled_data::{CommitRecord, FollowedCommit, PartitionId, StateWrite, StoredBatch};

use super::World;
use crate::site::bug::Bug;
use crate::site::history::{DAMAGED, Fact};
use crate::site::node::Running;
use crate::site::world::reader::{LOOSE, event_of};

impl World {
    /// A frame with a body of the store's, damaged now and then.
    pub(super) fn spoil_frame(&mut self, mut frame: Vec<u8>) -> Vec<u8> {
        const STORED: std::ops::RangeInclusive<u8> = 17..=19;
        let is_stored = frame.first().is_some_and(|kind| STORED.contains(kind));
        if self.is_calm || !is_stored || frame.len() < 2 || !self.random.chance(8) {
            return frame;
        }
        let place = 1 + self.random.place(frame.len() - 1);
        if self.random.chance(500) {
            frame.truncate(place);
        } else {
            frame[place] ^= 1 << self.random.below(8);
        }
        frame
    }

    /// What a source sends of a commit: now and then a batch that its memory damaged before it was sealed, or a commit
    /// that is said to be another's.
    pub(super) fn spoil_source(&mut self, at: usize, run: &Running, commit: &FollowedCommit) -> FollowedCommit {
        if self.is_calm || !self.random.chance(6) {
            return commit.clone();
        }
        let node = self.nodes[at].id;
        if self.random.chance(500) && !commit.batches.is_empty() {
            self.history.note(Fact::Weather { node, what: DAMAGED });
            return self.with_other_batch(commit);
        }
        let others: Vec<_> = run.store.followed().into_iter().filter(|(origin, _)| *origin != commit.origin).collect();
        if others.is_empty() {
            return commit.clone();
        }
        let (origin, followed) = others[self.random.place(others.len())];
        self.history.note(Fact::Weather { node, what: "it sends a commit of another origin" });
        let state = vec![StateWrite { tree: LOOSE.to_owned(), key: vec![9], value: Some(b"forged".to_vec()) }];
        let number = followed.commit.next();
        let record = CommitRecord { number, hlc: followed.hlc + 1, appended: Vec::new(), cursors: Vec::new(), state };
        FollowedCommit { origin, record, batches: Vec::new() }
    }

    fn with_other_batch(&mut self, commit: &FollowedCommit) -> FollowedCommit {
        let mut commit = commit.clone();
        let place = self.random.place(commit.batches.len());
        let envelope = *commit.batches[place].envelope();
        let records = commit.batches[place].decompress().unwrap();
        let events: Vec<u64> = records.iter().map(|record| event_of(record.value.unwrap()) ^ (1 << 40)).collect();
        let batch = self.seal_events(envelope.partition, envelope.base_offset, envelope.hlc, &events);
        commit.batches[place] = StoredBatch::from(batch);
        commit
    }

    /// What a planted bug makes of commits before they are stored.
    pub(super) fn spoil_commits(&mut self, run: &Running, commits: &[FollowedCommit]) -> Vec<FollowedCommit> {
        let mut commits = commits.to_vec();
        if self.has(Bug::CursorsLeftOut) {
            commits.iter_mut().for_each(|commit| commit.record.cursors.clear());
        }
        if self.has(Bug::DigestIgnored) {
            let mut digests = BTreeMap::new();
            for commit in &mut commits {
                believe(run, commit, &mut digests);
            }
        }
        commits
    }
}

/// Makes a commit's record say what its batches are.
fn believe(run: &Running, commit: &mut FollowedCommit, digests: &mut BTreeMap<PartitionId, u64>) {
    for appended in &mut commit.record.appended {
        let id = appended.partition;
        let digest = digests.entry(id).or_insert_with(|| run.store.digest(id));
        let of = commit.batches.iter().map(|batch| batch.envelope()).filter(|envelope| envelope.partition == id);
        *digest = of.fold(*digest, |sum, envelope| sum.wrapping_add(envelope.digest));
        appended.digest = *digest;
    }
}

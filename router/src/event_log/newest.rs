//! The node's newest commits in memory, as they are shipped: what was just written is not read again for each follower.

use std::collections::VecDeque;

use bytes::Bytes;
use parking_lot::Mutex;
use sled_data::{Commit, CommitNumber, TopicId};

use super::EventLog;

/// Bytes of commits that are kept.
const KEPT_BYTES_MAX: usize = 2 << 20;
/// Commits that are kept.
const KEPT_MAX: usize = 256;
/// Bytes of a commit that is kept at all.
const COMMIT_BYTES_MAX: usize = KEPT_BYTES_MAX / 4;

/// A commit as it is shipped.
#[derive(Debug, Clone)]
pub struct NewestCommit {
    /// Its number.
    pub number: CommitNumber,
    /// Its hybrid clock.
    pub hlc: u64,
    /// The topics that it appended to; one may stand in it several times.
    pub topics: Vec<TopicId>,
    /// What `FollowedCommit::encode` makes of it.
    pub bytes: Bytes,
}

#[derive(Default)]
struct Kept {
    commits: VecDeque<NewestCommit>,
    bytes: usize,
}

/// The newest commits, synced or not.
#[derive(Default)]
pub(super) struct NewestCommits {
    kept: Mutex<Kept>,
}

impl NewestCommits {
    /// Room for a commit's bytes; `None` where it is too large to be kept.
    pub(super) fn room(commit: &Commit) -> Option<Vec<u8>> {
        let batches: usize = commit.appends.iter().map(|batch| batch.bytes().len() + 64).sum();
        (batches <= COMMIT_BYTES_MAX).then(|| Vec::with_capacity(batches + 256))
    }

    /// Keeps a commit that was written. Those before it go where there are too many.
    pub(super) fn add(&self, number: CommitNumber, commit: &Commit, bytes: Vec<u8>) {
        let topics = commit.appends.iter().map(|batch| batch.envelope().partition.topic).collect();
        let mut kept = self.kept.lock();
        kept.bytes += bytes.len();
        kept.commits.push_back(NewestCommit { number, hlc: commit.hlc, topics, bytes: bytes.into() });
        while kept.bytes > KEPT_BYTES_MAX || kept.commits.len() > KEPT_MAX {
            let Some(gone) = kept.commits.pop_front() else { break };
            kept.bytes -= gone.bytes.len();
        }
    }

    /// Commits from `from` to `to`, one after the other: about `bytes_max` together, but at least one; none where `from` is not kept.
    fn from(&self, from: CommitNumber, to: CommitNumber, bytes_max: usize) -> Vec<NewestCommit> {
        let kept = self.kept.lock();
        let at = kept.commits.partition_point(|commit| commit.number < from);
        let (mut next, mut bytes, mut found) = (from, 0, Vec::new());
        for commit in kept.commits.range(at..) {
            bytes += commit.bytes.len();
            let fits = found.is_empty() || bytes <= bytes_max;
            if commit.number != next || next > to || !fits {
                break;
            }
            next = next.next();
            found.push(commit.clone());
        }
        found
    }
}

impl EventLog {
    /// Own commits from `from` to `to` that are still in memory: about `bytes_max` bytes, but at least one; none where `from` is in the
    /// store alone. Nothing that is not synced.
    pub fn newest_commits(&self, from: CommitNumber, to: CommitNumber, bytes_max: usize) -> Vec<NewestCommit> {
        self.newest.from(from, to.min(self.store.synced_commit()), bytes_max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_are_kept_and_given_in_one_run() {
        let newest = NewestCommits::default();
        let add = |number, bytes| newest.add(CommitNumber(number), &Commit::default(), vec![0; bytes]);
        let given = |from, to, bytes_max| -> Vec<u64> {
            newest.from(CommitNumber(from), CommitNumber(to), bytes_max).iter().map(|commit| commit.number.0).collect()
        };
        assert!(given(1, 9, 100).is_empty());
        (3..=6).for_each(|number| add(number, 10));
        // One was not kept.
        add(8, 10);
        for (from, to, bytes_max, expected) in [
            (3, 9, 100, &[3, 4, 5, 6][..]),
            (4, 5, 100, &[4, 5]),
            (4, 9, 25, &[4, 5]),
            (4, 9, 1, &[4]),
            (2, 9, 100, &[]),
            (7, 9, 100, &[]),
            (8, 9, 100, &[8]),
            (8, 7, 100, &[]),
            (9, 9, 100, &[]),
        ] {
            assert_eq!(given(from, to, bytes_max), expected, "{from} to {to}, {bytes_max} bytes");
        }
        add(9, KEPT_BYTES_MAX - 15);
        assert_eq!(given(8, 9, usize::MAX), [8, 9]);
        add(10, 10);
        assert_eq!(given(8, 10, usize::MAX), [0_u64; 0]);
        assert_eq!(given(9, 10, usize::MAX), [9, 10]);
        (11..=10 + KEPT_MAX as u64).for_each(|number| add(number, 1));
        assert_eq!(given(11, 10_000, usize::MAX).len(), KEPT_MAX);
        assert!(given(10, 10_000, usize::MAX).is_empty());
    }
}

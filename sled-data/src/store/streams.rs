//! The commit streams that this store holds: its own, those it follows, and those of its lives before the present one.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::Ordering;

use super::Store;
use super::ended::with_records;
use super::kept::KeptRecords;
use super::keys;
use super::open::OpenError;
use super::recover::{each_of_kind, refuse};
use super::values::{CopyV1, FollowedV1, HeaderV1, read};
use crate::backend::Tree;
use crate::ids::{CommitNumber, OriginId};

/// Most origins that one store follows, those that have ended included.
pub const FOLLOWED_ORIGINS_MAX: usize = 1_024;
/// Most groups of commits of one origin whose sync is waited for one by one; the newest are then taken together.
const GROUPS_MAX: usize = 64;

/// How far an origin was followed.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Followed {
    /// The newest commit that was applied, durable or not; 0 is none.
    pub commit: CommitNumber,
    /// The newest commit that is synced here; 0 while a copy is being taken.
    pub synced: CommitNumber,
    /// The hybrid clock of the newest commit.
    pub hlc: u64,
    /// The node that writes it, as [`Store::set_follow_node`] was told; 0 where that is not known.
    pub node: u64,
    /// Whether what is held of it is whole.
    pub copy: CopyState,
}

/// Whether what is held of a followed origin is whole up to its newest commit.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum CopyState {
    /// Everything up to the newest commit is there.
    Whole,
    /// A copy is being taken; no commit can be applied.
    Taking,
    /// A copy was taken while its source went on writing: whole once this commit is applied.
    Until(CommitNumber),
}

impl CopyState {
    fn of(copy: CopyV1) -> CopyState {
        match copy {
            CopyV1::Whole => CopyState::Whole,
            CopyV1::Taking => CopyState::Taking,
            CopyV1::Until(commit) => CopyState::Until(CommitNumber(commit)),
        }
    }
}

/// One followed origin.
#[derive(Debug, Default)]
pub(super) struct Stream {
    pub(super) record: FollowedV1,
    pub(super) kept: KeptRecords,
    synced: CommitNumber,
    /// Groups that were written since: the number of the group, and the newest commit in it.
    groups: VecDeque<(u64, CommitNumber)>,
}

impl Stream {
    /// The newest commit that the first `groups` groups of the store have made durable; none while a copy is being taken, as events may be
    /// missing.
    fn synced(&self, groups: u64) -> CommitNumber {
        if self.record.copy == CopyV1::Taking { CommitNumber(0) } else { self.durable(groups) }
    }

    fn durable(&self, groups: u64) -> CommitNumber {
        let newest = self.groups.iter().take_while(|(group, _)| *group <= groups).last();
        newest.map_or(self.synced, |(_, commit)| *commit)
    }

    /// Forgets what was durable: nothing is until the next group is.
    pub(super) fn begin_anew(&mut self) {
        self.synced = CommitNumber(0);
        self.groups.clear();
    }

    /// Takes note of a group that was written; `synced` are the groups known to be durable.
    pub(super) fn written(&mut self, group: u64, synced: u64) {
        self.synced = self.durable(synced);
        self.groups.retain(|(group, _)| *group > synced);
        if self.groups.len() >= GROUPS_MAX {
            self.groups.pop_back();
        }
        self.groups.push_back((group, CommitNumber(self.record.commit)));
    }
}

/// What is known of others' streams; changed under the store's writer alone.
#[derive(Debug, Default)]
pub(super) struct Streams {
    pub(super) followed: BTreeMap<OriginId, Stream>,
    /// Own lives that have ended and were not followed since, whose commits can still be read.
    pub(super) ended: BTreeMap<OriginId, KeptRecords>,
    /// The life before the present one, where there is one.
    previous: Option<OriginId>,
}

impl Streams {
    pub(super) fn load(meta: &dyn Tree) -> Result<Streams, OpenError> {
        let mut found = Vec::new();
        each_of_kind(meta, keys::FOLLOWED, |key, value| {
            let origin = keys::followed_of(key).ok_or_else(|| OpenError::Damaged("a followed origin's key".into()))?;
            let what = || keys::describe(key);
            found.push((origin, read::<FollowedV1>(key, value).map_err(|e| refuse(&what(), e))?));
            Ok(())
        })?;
        let mut followed = BTreeMap::new();
        for (origin, record) in found {
            let commit = CommitNumber(record.commit);
            let kept = KeptRecords::load(meta, origin, commit)?;
            if kept.last() != commit {
                let found = kept.last();
                return Err(OpenError::Damaged(format!("commits of {origin} end at {found}, not at {commit}")));
            }
            followed.insert(origin, Stream { record, kept, synced: commit, groups: VecDeque::new() });
        }
        Ok(Streams { followed, ..Streams::default() })
    }

    /// Finds what is left of the lives before the present one: records that are nobody else's.
    pub(super) fn load_ended(
        &mut self,
        meta: &dyn Tree,
        header: &HeaderV1,
        is_linked: &dyn Fn(OriginId) -> bool,
    ) -> Result<(), OpenError> {
        self.previous = Some(OriginId(header.previous)).filter(|previous| previous.0 != 0);
        let is_others = |origin: OriginId| self.followed.contains_key(&origin) || is_linked(origin);
        let ended = with_records(meta)?.into_iter().filter(|of| of.0 != header.origin && !is_others(*of));
        let load = |origin| Ok((origin, KeptRecords::load(meta, origin, CommitNumber(0))?));
        self.ended = ended.map(load).collect::<Result<_, OpenError>>()?;
        Ok(())
    }
}

impl Store {
    /// The origins that this store follows or has followed, in order.
    pub fn followed(&self) -> Vec<(OriginId, Followed)> {
        let synced = self.follow_synced.load(Ordering::Acquire);
        let told = |stream: &Stream| Followed {
            commit: CommitNumber(stream.record.commit),
            synced: stream.synced(synced),
            hlc: stream.record.hlc,
            node: stream.record.node,
            copy: CopyState::of(stream.record.copy),
        };
        self.streams.read().followed.iter().map(|(origin, stream)| (*origin, told(stream))).collect()
    }

    /// The life before the present one, where it was not followed since, and its last commit.
    pub fn ended_life(&self) -> Option<(OriginId, CommitNumber)> {
        let streams = self.streams.read();
        let previous = streams.previous.filter(|previous| !streams.followed.contains_key(previous))?;
        Some((previous, streams.ended.get(&previous)?.last()))
    }

    /// The newest commit of an origin that was followed, durable or not; 0 where nothing was.
    pub fn followed_commit(&self, origin: OriginId) -> CommitNumber {
        let streams = self.streams.read();
        CommitNumber(streams.followed.get(&origin).map_or(0, |stream| stream.record.commit))
    }

    /// The newest commit of an origin, own or followed, durable or not; 0 where there is none.
    pub fn last_commit_of(&self, origin: OriginId) -> CommitNumber {
        if origin == self.origin {
            return self.last_commit();
        }
        let streams = self.streams.read();
        match (streams.followed.get(&origin), streams.ended.get(&origin)) {
            (Some(stream), _) => CommitNumber(stream.record.commit),
            (None, ended) => ended.map_or(CommitNumber(0), KeptRecords::last),
        }
    }

    /// The newest commit of an origin, own or followed, that is synced here; 0 where there is none.
    pub fn synced_commit_of(&self, origin: OriginId) -> CommitNumber {
        if origin == self.origin {
            return self.synced_commit();
        }
        let synced = self.follow_synced.load(Ordering::Acquire);
        let streams = self.streams.read();
        match (streams.followed.get(&origin), streams.ended.get(&origin)) {
            (Some(stream), _) => stream.synced(synced),
            // It was synced when the store was opened.
            (None, ended) => ended.map_or(CommitNumber(0), KeptRecords::last),
        }
    }

    /// The oldest commit of an origin whose record is kept; the next commit where none is.
    pub fn first_kept_commit_of(&self, origin: OriginId) -> CommitNumber {
        if origin == self.origin {
            return self.first_kept_commit();
        }
        let streams = self.streams.read();
        let kept = streams.followed.get(&origin).map(|stream| &stream.kept).or_else(|| streams.ended.get(&origin));
        kept.map_or(CommitNumber(1), KeptRecords::first)
    }

    /// Whether an origin is another's, whose commits were followed here.
    pub(super) fn follows(&self, origin: OriginId) -> bool {
        self.streams.read().followed.contains_key(&origin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_sync_has_covered_is_known_group_by_group() {
        let mut stream = Stream::default();
        for group in [2, 3, 5] {
            stream.record.commit = group * 10;
            stream.written(group, 0);
        }
        let synced: Vec<u64> = (0..7).map(|groups| stream.synced(groups).0).collect();
        assert_eq!(synced, [0, 0, 20, 30, 30, 50, 50]);
        stream.record.commit = 60;
        stream.written(6, 3);
        assert_eq!((stream.synced(0).0, stream.synced(5).0, stream.synced(6).0), (30, 50, 60));
        for group in 7..500 {
            stream.record.commit = group * 10;
            stream.written(group, 3);
        }
        assert!(stream.groups.len() <= GROUPS_MAX);
        assert_eq!((stream.synced(4).0, stream.synced(400).0, stream.synced(499).0), (30, 670, 4_990));
    }
}

//! Own lives that have ended: what others can still have of them from here.
//!
//! Others follow a life that has ended from here, and this store follows it back from one that has all of it. Until then nobody is known to have
//! it. When one more life ends, the commit records of such lives stay, the newest lives' first, together as many as one life may have. Of older
//! ones the newest record stays: with that a life can be taken as a copy. A life without events needs none, as its cursors and state went on
//! into the next one.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use super::commit_stream::last_hlc;
use super::kept::KeptRecords;
use super::keys;
use super::open::{OpenError, Options};
use super::recover::Partitions;
use super::{FOLLOWED_ORIGINS_MAX, Store};
use crate::backend::{BackendError, Direction, Span, Tree};
use crate::ids::{CommitNumber, OriginId};

/// Most own lives that have ended and that nobody was known to have when the next one ended, whose records stay: no other store follows more.
pub const ENDED_LIVES_MAX: usize = FOLLOWED_ORIGINS_MAX;

/// The records of one such life.
struct Records {
    origin: OriginId,
    /// Hybrid clock of the newest; 0 where that cannot be read.
    hlc: u64,
    first: CommitNumber,
    last: CommitNumber,
    count: usize,
    bytes: u64,
}

/// From which commit on the records of each of these lives stay, the newest first (pure).
fn stay(lives: &[Records], records_max: usize, bytes_max: u64) -> BTreeMap<OriginId, CommitNumber> {
    let (mut records, mut bytes) = (0, 0);
    let from = lives.iter().take(ENDED_LIVES_MAX).map(|life| {
        let fits = records + life.count <= records_max && bytes + life.bytes <= bytes_max;
        if fits {
            (records, bytes) = (records + life.count, bytes + life.bytes);
        }
        (life.origin, if fits { life.first } else { life.last })
    });
    from.collect()
}

/// From which commit on the records stay of lives before the one that ends now: of those that are `older` and hold events.
pub(super) fn records_that_stay(
    meta: &dyn Tree,
    partitions: &Partitions,
    older: &dyn Fn(OriginId) -> bool,
    options: &Options,
) -> Result<BTreeMap<OriginId, CommitNumber>, OpenError> {
    let filled = partitions.values().filter(|partition| partition.extent().start < partition.extent().end);
    let filled: BTreeSet<OriginId> = filled.map(|partition| partition.id.origin).collect();
    let mut lives = Vec::new();
    for origin in with_records(meta)?.into_iter().filter(|origin| older(*origin) && filled.contains(origin)) {
        let kept = KeptRecords::load(meta, origin, CommitNumber(0))?;
        let hlc = match last_hlc(meta, origin, kept.last()) {
            Err(OpenError::Damaged(_)) => 0,
            hlc => hlc?,
        };
        let (first, last) = (kept.first(), kept.last());
        lives.push(Records { origin, hlc, first, last, count: kept.count(), bytes: kept.bytes() });
    }
    lives.sort_unstable_by_key(|life| Reverse((life.hlc, life.origin)));
    Ok(stay(&lives, options.commit_records_max, options.commit_record_bytes_max))
}

/// The origins of which there are commit records, in order.
pub(super) fn with_records(meta: &dyn Tree) -> Result<Vec<OriginId>, BackendError> {
    let mut found = Vec::new();
    let mut from = Some(OriginId(0));
    while let Some(origin) = from.take() {
        let first = keys::commit(origin, CommitNumber(0), 0);
        meta.scan(Span::between(&first, &[keys::COMMIT + 1]), Direction::Forward, &mut |key, _| {
            let next = keys::commit_of(key).map(|(origin, ..)| origin);
            found.extend(next);
            from = next.and_then(|origin| origin.0.checked_add(1)).map(OriginId);
            ControlFlow::Break(())
        })?;
    }
    Ok(found)
}

impl Store {
    /// The own lives that have ended and were not followed since, whose events others can have from here; each with its last commit, which is synced.
    pub fn ended_lives(&self) -> Vec<(OriginId, CommitNumber)> {
        self.ended_and(true)
    }

    /// The same of those that have no partition here: they stored no event, or retention has taken them all. Nobody can take a copy of one, and nobody needs
    /// to, as cursors and state went on into the next life.
    pub fn ended_lives_without_events(&self) -> Vec<(OriginId, CommitNumber)> {
        self.ended_and(false)
    }

    fn ended_and(&self, has_partitions: bool) -> Vec<(OriginId, CommitNumber)> {
        let streams = self.streams.read();
        if streams.ended.is_empty() {
            return Vec::new();
        }
        let filled: BTreeSet<OriginId> = self.partitions.read().keys().map(|id| id.origin).collect();
        let is_meant =
            |origin: &OriginId| !streams.followed.contains_key(origin) && filled.contains(origin) == has_partitions;
        let ended = streams.ended.iter().filter(|(origin, _)| is_meant(origin));
        ended.map(|(origin, kept)| (*origin, kept.last())).collect()
    }

    /// The own lives that have ended, were not followed since and hold events; how many each has. Those that are not among
    /// [`Store::ended_lives`] nobody can have from here any more.
    pub fn lives_not_followed(&self) -> BTreeMap<OriginId, u64> {
        let (streams, linked) = (self.streams.read(), self.linked.read());
        let is_own = |origin: &OriginId| !streams.followed.contains_key(origin) && !linked.contains_key(origin);
        let mut events = BTreeMap::new();
        for (id, partition) in self.partitions.read().iter() {
            let extent = partition.extent();
            if id.origin != self.origin && is_own(&id.origin) && extent.start < extent.end {
                *events.entry(id.origin).or_default() += extent.end - extent.start;
            }
        }
        events
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_stay_while_there_is_room_and_of_older_lives_the_newest_one() {
        let life = |(origin, count, bytes): (u64, u64, u64)| Records {
            origin: OriginId(origin),
            hlc: 0,
            first: CommitNumber(5),
            last: CommitNumber(4 + count),
            count: count as usize,
            bytes,
        };
        // lives, the newest first: records and bytes of each; from where on they stay, with room for ten records and a hundred bytes
        for (lives, from) in [
            (&[][..], &[][..]),
            (&[(1, 10, 100)], &[(1, 5)]),
            (&[(1, 11, 100)], &[(1, 15)]),
            (&[(1, 10, 101)], &[(1, 14)]),
            (&[(1, 4, 60), (2, 7, 10), (3, 6, 40)], &[(1, 5), (2, 11), (3, 5)]),
            (&[(1, 4, 60), (2, 2, 41), (3, 6, 40)], &[(1, 5), (2, 6), (3, 5)]),
        ] {
            let lives: Vec<Records> = lives.iter().copied().map(life).collect();
            let expected = from.iter().map(|(origin, from)| (OriginId(*origin), CommitNumber(*from))).collect();
            assert_eq!(stay(&lives, 10, 100), expected, "{from:?}");
        }
        let many: Vec<Records> = (0..2_000).map(|origin| life((origin, 20, 1))).collect();
        let stays = stay(&many, 10, 100);
        assert_eq!(stays.len(), ENDED_LIVES_MAX);
        assert!(stays.contains_key(&OriginId(0)) && !stays.contains_key(&OriginId(1_999)), "the oldest go");
    }
}

//! Judges partitions by where they end at the receiver, and remembers origins that are others there.
//!
//! A store that was set back goes on apart from what the receiver has. The batch that shows it goes with retention, at either side; what is
//! written later would be taken for what comes next. So the origin is noted when the first of its partitions shows it, and from then on only what
//! is known to be the same goes on.

use std::collections::{BTreeMap, BTreeSet};

use sled_data::{Offset, OriginId, PartitionId, Store, SyncError};

use super::begin::{Begin, Mine, Stand, begin};
use super::later::{AheadRead, LiesAhead};
use super::waiting::mine;

/// Origins of which what lies ahead of these partitions' ends at another place shows that they are others there. Reads the store.
pub fn shown_ahead(
    store: &Store,
    stands: &[(PartitionId, Stand)],
    aheads: &BTreeMap<PartitionId, Vec<LiesAhead>>,
) -> BTreeSet<OriginId> {
    shown_by(store, &read_aheads(store, stands, aheads))
}

/// What is here of what lies ahead of these partitions' ends at another place. Reads the store.
pub(super) fn read_aheads(
    store: &Store,
    stands: &[(PartitionId, Stand)],
    aheads: &BTreeMap<PartitionId, Vec<LiesAhead>>,
) -> BTreeMap<PartitionId, Vec<AheadRead>> {
    let all = stands.iter().filter_map(|(id, _)| Some((*id, aheads.get(id)?)));
    all.map(|(id, parts)| (id, parts.iter().map(|part| AheadRead::of(store, id, *part)).collect())).collect()
}

/// Origins of which that shows that they are others there.
pub(super) fn shown_by(store: &Store, aheads: &BTreeMap<PartitionId, Vec<AheadRead>>) -> BTreeSet<OriginId> {
    // What was noted makes none of them another one.
    let shows = |id: &PartitionId, read: &AheadRead| shows_other(store, id.origin, read.judged(false).begin);
    let others = aheads.iter().filter(|(id, reads)| reads.iter().any(|read| shows(id, read)));
    others.map(|(id, _)| id.origin).collect()
}

/// How each of these partitions goes on at a place, with where it ends there. That some origins are others there was `shown` elsewise. Reads the
/// store; what is noted is durable on return.
///
/// # Errors
/// When a note cannot be stored.
pub fn judge(
    store: &Store,
    place: &str,
    stands: Vec<(PartitionId, Stand)>,
    shown: BTreeSet<OriginId>,
    now_ms: i64,
) -> Result<Vec<(PartitionId, Offset, Begin)>, SyncError> {
    let all: Vec<_> = stands.into_iter().map(|(id, stand)| (id, stand, mine(store, id, &stand))).collect();
    let is_other = |(id, stand, mine): &&(PartitionId, Stand, Mine)| shows_other(store, id.origin, begin(stand, mine));
    let mut others = shown;
    others.extend(all.iter().filter(is_other).map(|(id, ..)| id.origin));
    note(store, place, &others, now_ms)?;
    let of_all: BTreeSet<OriginId> = all.iter().map(|(id, ..)| id.origin).collect();
    let apart: BTreeSet<OriginId> = of_all.into_iter().filter(|origin| store.is_apart(*origin, place)).collect();
    let judged = all.into_iter().map(|(id, stand, mine)| {
        let is_apart = apart.contains(&id.origin);
        (id, stand.end, begin(&stand, &Mine { is_apart, ..mine }))
    });
    Ok(judged.collect())
}

/// Whether how a partition would go on shows that its origin is another one there.
fn shows_other(store: &Store, origin: OriginId, begin: Begin) -> bool {
    match begin {
        Begin::Forked => true,
        // Others that send of an origin may have sent more of it than is here; its writer has all.
        Begin::Ahead => is_written_here(store, origin),
        Begin::From(_) | Begin::Doubtful => false,
    }
}

fn note(store: &Store, place: &str, others: &BTreeSet<OriginId>, now_ms: i64) -> Result<(), SyncError> {
    let mut is_new = false;
    for origin in others.iter().filter(|origin| !store.is_apart(**origin, place)) {
        store.note_apart(*origin, place, now_ms)?;
        is_new = true;
    }
    if is_new { store.sync().map(drop) } else { Ok(()) }
}

/// Notes by another name of the place too what is noted of it, where that lacks one of these origins: programs before this one look there. Reads the store;
/// what is noted is durable on return.
///
/// # Errors
/// When a note cannot be stored.
pub(super) fn note_by_name(
    store: &Store,
    (place, name): (&str, &str),
    origins: &BTreeSet<OriginId>,
) -> Result<(), SyncError> {
    let lacks = |origin: &OriginId| store.is_apart(*origin, place) && !store.is_apart(*origin, name);
    if place == name || !origins.iter().any(lacks) {
        return Ok(());
    }
    store.copy_apart(place, name)?;
    store.sync().map(drop)
}

/// Whether the origin is this store's present life, or an earlier one.
fn is_written_here(store: &Store, origin: OriginId) -> bool {
    let is_followed = || store.followed().iter().any(|(followed, _)| *followed == origin);
    origin == store.origin() || store.linked_origin(origin).is_none() && !is_followed()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use sled_data::{Commit, Hole, HoleWhy, Linked, LinkedPart, MemoryBackend, Options, StoredBatch, TopicConfig};

    use super::*;
    use crate::event_log::rubbish::sound;
    use crate::links::later::judge_ahead;

    #[test]
    fn a_life_that_is_another_one_there_is_remembered_when_nothing_shows_it_any_more() {
        let backend = MemoryBackend::new();
        let open = || Store::on(Arc::new(backend.clone()), Options { seed: Some(1), ..Options::default() }).unwrap().0;
        let store = open();
        let topic = store.create_topic("t", TopicConfig { partitions: 3, ..TopicConfig::default() }).unwrap();
        let origin = store.origin();
        let id = |index| PartitionId { origin, topic: topic.id, index };
        for hlc in 1..=3 {
            let appends = (0..3).map(|index| sound(id(index), hlc - 1, hlc, &["event"])).collect();
            store.commit(&Commit { hlc, appends, ..Commit::default() }).unwrap();
        }
        // What stands before the second event of this one is gone.
        store.trim(id(1), 2, 9).unwrap();
        store.sync().unwrap();
        let stand = |hlc| Stand { end: 1, hlc, digest: 0, is_gapless: false };
        let empty = Stand { end: 0, hlc: 0, digest: 0, is_gapless: true };
        let all = |store: &Store, place: &str, first: u64| {
            let stands = vec![(id(0), stand(first)), (id(1), stand(0)), (id(2), stand(1)), (id(1), empty)];
            let judged = judge(store, place, stands, BTreeSet::new(), 5).unwrap();
            judged.into_iter().map(|(.., begin)| begin).collect::<Vec<_>>()
        };
        let (same, new) = (Begin::From(1), Begin::From(0));
        assert_eq!(all(&store, "hq", 1), [same, same, same, new], "nothing shows a difference");
        assert_eq!(all(&store, "hq", 9), [Begin::Forked, Begin::Doubtful, same, new], "one partition shows it");
        assert_eq!(all(&store, "cloud", 1), [same, same, same, new], "elsewhere it is the same");
        drop(store);
        backend.power_cut(0);
        let store = open();
        assert_eq!(
            all(&store, "hq", 0),
            [Begin::Doubtful, Begin::Doubtful, same, new],
            "retention took what showed it"
        );
    }

    #[test]
    fn more_of_a_life_than_its_writer_has_is_another_life() {
        let backend = Arc::new(MemoryBackend::new());
        let (store, _) = Store::on(backend, Options { seed: Some(1), ..Options::default() }).unwrap();
        store.set_follow_node(OriginId(60), 1).unwrap();
        let more = Stand { end: 5, hlc: 9, digest: 0, is_gapless: true };
        for (origin, expected) in [(store.origin(), true), (OriginId(60), false)] {
            let id = PartitionId { origin, topic: sled_data::TopicId(1), index: 0 };
            let judged = judge(&store, "hq", vec![(id, more)], BTreeSet::new(), 5).unwrap();
            assert_eq!(judged, [(id, 5, Begin::Ahead)]);
            assert_eq!(store.is_apart(origin, "hq"), expected, "{origin}");
        }
    }

    #[test]
    fn what_lies_ahead_alone_may_show_it() {
        let backend = Arc::new(MemoryBackend::new());
        let (store, _) = Store::on(backend, Options { seed: Some(1), ..Options::default() }).unwrap();
        let topic = store.create_topic("t", TopicConfig { partitions: 2, ..TopicConfig::default() }).unwrap();
        let id = |index| PartitionId { origin: store.origin(), topic: topic.id, index };
        for hlc in 1..=5 {
            let appends = (0..2).map(|index| sound(id(index), hlc - 1, hlc, &["event"])).collect();
            store.commit(&Commit { hlc, appends, ..Commit::default() }).unwrap();
        }
        store
            .commit(&Commit { hlc: 6, appends: vec![sound(id(0), 5, 6, &["two", "events"])], ..Commit::default() })
            .unwrap();
        // The first two events are gone: nothing shows what the second partition had.
        store.trim(id(1), 2, 9).unwrap();
        let stand = |end, hlc| Stand { end, hlc, digest: 0, is_gapless: false };
        let ahead = |from, end, first, hlc| LiesAhead { from, end, first, hlc };
        // what lies ahead of the first partition's one event, whether that shows that the life is another one there
        let cases = [
            ("the same", ahead(3, 5, 4, 5), false),
            ("nothing yet", ahead(3, 3, 0, 0), false),
            ("what is not kept there", ahead(3, 5, 0, 0), false),
            ("another end", ahead(3, 5, 4, 9), true),
            ("another begin", ahead(3, 5, 9, 0), true),
            ("begins within a batch", ahead(6, 7, 6, 6), true),
            ("ends within a batch", ahead(3, 6, 4, 6), true),
            ("more", ahead(3, 8, 4, 8), true),
        ];
        for (number, (case, ahead, is_other)) in cases.into_iter().enumerate() {
            let place = format!("place {number}");
            let stands = vec![(id(0), stand(1, 1)), (id(1), stand(1, 1))];
            // What lies behind it shows nothing; nor does what lies before it.
            let nothing = LiesAhead { from: 2, end: 2, first: 0, hlc: 0 };
            let aheads = BTreeMap::from([(id(0), vec![nothing, ahead])]);
            let shown = shown_ahead(&store, &stands, &aheads);
            let judged = judge(&store, &place, stands, shown, 5).unwrap();
            let begins: Vec<_> = judged.into_iter().map(|(.., begin)| begin).collect();
            let second = if is_other { Begin::Doubtful } else { Begin::From(1) };
            assert_eq!(begins, [Begin::From(1), second], "{case}");
            assert_eq!(store.is_apart(store.origin(), &place), is_other, "{case}");
        }
        // One that was not asked for says nothing.
        let unasked = BTreeMap::from([(id(1), vec![ahead(3, 5, 9, 9)])]);
        assert!(shown_ahead(&store, &[(id(0), stand(1, 1))], &unasked).is_empty());
        // What lies ahead is judged by it too: what is known to be the same goes on.
        for (case, ahead, expected) in [
            ("the same", ahead(3, 5, 4, 5), Begin::From(5)),
            ("nothing yet", ahead(3, 3, 0, 0), Begin::From(3)),
            ("what is not kept there", ahead(3, 5, 4, 0), Begin::Doubtful),
        ] {
            assert_eq!(judge_ahead(&store, "place 3", id(0), ahead).begin, expected, "{case}");
            assert_eq!(judge_ahead(&store, "hq", id(0), ahead).begin, Begin::From(ahead.end), "{case}");
        }
    }

    #[test]
    fn what_is_newer_or_older_than_what_lies_around_a_gap_is_of_another_log() {
        let id = PartitionId { origin: OriginId(50), topic: sled_data::TopicId(1), index: 0 };
        let batch = |base, hlc| {
            let sealed = sound(id, base, hlc, &["one", "two"]);
            LinkedPart::Batch(StoredBatch::decode(sealed.bytes().to_vec()).unwrap())
        };
        let gap = |from, to| LinkedPart::Hole(id, Hole { from, to, why: HoleWhy::Retention, at_ms: 1 });
        let around = |lo, hi| vec![batch(0, 10), batch(2, lo), gap(4, 8), batch(8, hi)];
        let (same, forked) = (Begin::From(6), Begin::Forked);
        // what is here, up to where it is gone, the clock of what ends at the sixth event there, how it goes on
        let cases = [
            ("newer", around(20, 40), 0, 41, forked),
            ("older", around(20, 40), 0, 19, forked),
            ("as old as before the gap", around(20, 40), 0, 20, same),
            ("between", around(20, 40), 0, 30, same),
            ("as new as behind the gap", around(20, 40), 0, 40, same),
            ("not kept there either", around(20, 40), 0, 0, same),
            ("all of one commit", around(20, 20), 0, 20, same),
            ("newer, and nothing is left before it", around(20, 40), 8, 41, forked),
            ("older, and nothing is left before it", around(20, 40), 8, 9, same),
            ("newer than what begins with a gap", vec![gap(0, 8), batch(8, 40)], 0, 41, forked),
            (
                "newer than what is left behind two gaps",
                vec![batch(0, 10), gap(2, 7), gap(7, 8), batch(8, 40)],
                8,
                41,
                forked,
            ),
            ("nothing is left behind it", vec![batch(0, 10), batch(2, 20), gap(4, 8)], 0, 19, forked),
            ("nothing is left behind it", vec![batch(0, 10), batch(2, 20), gap(4, 8)], 0, 99, same),
            ("nothing is left", vec![batch(0, 10), batch(2, 20), gap(4, 8)], 8, 1, same),
        ];
        for (case, parts, gone, hlc, expected) in cases {
            let backend = Arc::new(MemoryBackend::new());
            let (store, _) = Store::on(backend, Options { seed: Some(1), ..Options::default() }).unwrap();
            let linked = Linked { link: 5, hlc: 0, path: vec![1] };
            store.take_linked(id.origin, &linked, &parts).unwrap();
            store.trim(id, gone, 9).unwrap();
            store.sync().unwrap();
            let stands = vec![(id, Stand { end: 6, hlc, digest: 3, is_gapless: false })];
            let judged = judge(&store, "node 2", stands, BTreeSet::new(), 5).unwrap();
            assert_eq!(judged, [(id, 6, expected)], "{case}, {hlc}");
            assert_eq!(store.is_apart(id.origin, "node 2"), expected == forked, "{case}, {hlc}");
        }
    }
}

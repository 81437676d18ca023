//! What a link brings before its turn: who reads up to the end sees each event once and in order, whatever a crash leaves.
#![allow(clippy::unwrap_used)]

mod ahead_parts;
mod harness;

use std::sync::Arc;

use harness::linked::{self, assert_bytes_are_those_of, cut_power, edge, parts, reopened};
use harness::{Times, on_both, seal, seal_at, values};
use sled_data::{
    Ahead, Compression, HOLES_MAX, Hole, HoleWhy, Late, Linked, LinkedError, LinkedPart, MemoryBackend, Options,
    PARTS_AHEAD_MAX, PartitionId, ReadError, Store, StoredBatch, TopicConfig, TopicInfo, Wait,
};

fn topic_of(edge: &Store, id: PartitionId, retention_bytes: Option<u64>) -> TopicInfo {
    let topic = linked::topic_of(edge, id);
    TopicInfo { config: TopicConfig { retention_bytes, ..topic.config }, ..topic }
}

fn hole(id: PartitionId, from: u64, to: u64, why: HoleWhy) -> LinkedPart {
    LinkedPart::Hole(id, Hole { from, to, why, at_ms: 9 })
}

fn take(store: &Store, id: PartitionId, parts: &[LinkedPart]) -> Result<(), LinkedError> {
    store.take_linked(id.origin, &Linked { link: 5, hlc: 0, path: vec![1] }, parts)
}

/// Two batches, an open hole up to the seventh, and two that lie ahead.
fn opened(id: PartitionId, all: &[StoredBatch]) -> Vec<LinkedPart> {
    let mut coming = parts(&all[..2]);
    coming.push(hole(id, 4, 12, HoleWhy::Later));
    coming.extend(parts(&all[6..8]));
    coming
}

fn holes_of(store: &Store, id: PartitionId) -> Vec<(u64, u64)> {
    store.holes(id).iter().map(|hole| (hole.from, hole.to)).collect()
}

/// What is there first, and what comes behind it, taken or refused: `check` holds then, and over a restart.
fn comes_behind(
    edge: &Store,
    id: PartitionId,
    first: &[LinkedPart],
    (coming, refused): (&[LinkedPart], Option<LinkedError>),
    case: &str,
    check: impl Fn(&Store),
) {
    on_both(|open| {
        let store = open(Options::default());
        store.create_topic_as(topic_of(edge, id, None)).unwrap();
        take(&store, id, first).unwrap();
        assert_eq!(take(&store, id, coming).err(), refused, "{case}");
        let check = |store: &Store| {
            check(store);
            assert!(store.verify(&mut |_| {}).unwrap().is_clean(), "{case}");
        };
        check(&store);
        store.close().unwrap();
        drop(store);
        check(&open(Options::default()));
    });
}

#[test]
fn what_lies_ahead_is_there_for_those_who_ask_and_the_partition_ends_before_it() {
    let (edge, id, all) = edge(10);
    on_both(|open| {
        let store = open(Options::default());
        store.create_topic_as(topic_of(&edge, id, None)).unwrap();
        take(&store, id, &opened(id, &all)).unwrap();
        take(&store, id, &opened(id, &all)).unwrap();
        store.sync().unwrap();
        let check = |store: &Store| {
            let ahead = store.ahead(id).unwrap();
            assert_eq!((ahead.from, ahead.end, store.end_offset(id)), (12, 16, 4));
            assert_eq!(store.aheads(), [(id, 4, ahead)]);
            assert_eq!((values(store, id, 0), store.holes(id)), (values(&edge, id, 0)[..4].to_vec(), vec![]));
            for (offset, hlc) in [(4, Some(7)), (8, None), (12, None), (14, Some(7)), (16, Some(7))] {
                assert_eq!(store.hlc_before(id, offset), hlc, "{offset}");
            }
            // Who keeps a cursor stands at the end; who asks for the newest is told, and goes on behind it.
            assert!(store.read(id, 4, 1).unwrap().is_empty());
            for from in 4..12 {
                let read = store.read_newest(id, from, 1);
                assert!(matches!(read, Err(ReadError::Trimmed { start: 12, .. })), "{from}: {read:?}");
            }
            let read = store.read_newest(id, 13, usize::MAX).unwrap();
            assert_eq!(read.iter().map(StoredBatch::base_offset).collect::<Vec<_>>(), [12, 14]);
            assert!(store.read_newest(id, 16, 1).unwrap().is_empty());
            assert_eq!(store.read_newest(id, 0, usize::MAX).unwrap().len(), 2);
            for (ms, ordered, newest) in [(1_020, 2, 2), (1_040, 4, 12), (1_130, 4, 13), (9_000, 4, 16)] {
                assert_eq!(store.offset_at_time(id, ms).unwrap(), ordered, "{ms}");
                assert_eq!(store.newest_at_time(id, ms).unwrap(), newest, "{ms}");
            }
            assert_eq!(store.latest_by_key(id, b"key-2", u64::MAX).unwrap().unwrap().0, 14);
            let report = store.verify(&mut |_| {}).unwrap();
            assert_eq!((report.is_clean(), report.events), (true, 8));
            let kept: u64 = all[..2].iter().chain(&all[6..8]).map(|batch| batch.bytes().len() as u64).sum();
            assert_eq!(store.batch_bytes(), kept);
        };
        check(&store);
        store.close().unwrap();
        drop(store);
        let store = open(Options::default());
        check(&store);
        // The backlog comes, and with its last batch all is one.
        take(&store, id, &parts(&all[2..5])).unwrap();
        assert_eq!((store.end_offset(id), store.ahead(id).map(|ahead| ahead.end)), (10, Some(16)));
        take(&store, id, &parts(&all[5..10])).unwrap();
        assert_eq!((store.end_offset(id), store.ahead(id), store.digest(id)), (20, None, edge.digest(id)));
        assert_eq!(values(&store, id, 0), values(&edge, id, 0));
        store.close().unwrap();
        drop(store);
        let store = open(Options::default());
        assert_eq!((store.end_offset(id), store.aheads()), (20, vec![]));
        assert!(store.verify(&mut |_| {}).unwrap().is_clean());
        // It goes with its topic.
        take(&store, id, &[hole(id, 20, 24, HoleWhy::Later)]).unwrap();
        store.delete_topic(id.topic).unwrap();
        assert_eq!((store.ahead(id), store.end_offset(id)), (None, 0));
        drop(store);
        assert_eq!(open(Options::default()).aheads(), []);
    });
}

#[test]
fn each_part_goes_to_one_of_two_ends_or_nowhere() {
    let (edge, id, all) = edge(10);
    let (later, gone) = (HoleWhy::Later, HoleWhy::Retention);
    let not_next = |end, found| Some(LinkedError::NotNext { partition: id, end, found });
    let batch = |n: usize| LinkedPart::Batch(all[n].clone());
    let differs = |end| Some(LinkedError::Differs { partition: id, end });
    let other = |n: u64| {
        let sealed = seal_at(id, n * 2, &[b"three", b"four"], Times { hlc: 9, first_ms: 0 }, Compression::Lz4);
        LinkedPart::Batch(StoredBatch::decode(sealed.bytes().to_vec()).unwrap())
    };
    let filled = |more: LinkedPart| (2..6).map(batch).chain([more]).collect::<Vec<_>>();
    let crossing = LinkedPart::Batch(StoredBatch::decode(seal(id, 4, &[b"x".as_slice(); 9]).bytes().to_vec()).unwrap());
    // what comes, why it is refused, then: end, where what lies ahead begins and ends, holes
    type Case = (&'static str, Vec<LinkedPart>, Option<LinkedError>, u64, Option<(u64, u64)>, Vec<(u64, u64)>);
    let cases: Vec<Case> = vec![
        ("what is there", vec![batch(0), batch(6), batch(7)], None, 4, Some((12, 16)), vec![]),
        ("more of both", vec![batch(8), batch(2)], None, 6, Some((12, 18)), vec![]),
        ("the same open hole", vec![hole(id, 2, 12, later)], None, 4, Some((12, 16)), vec![]),
        ("another open hole", vec![hole(id, 4, 18, later)], not_next(12, 18), 4, Some((12, 16)), vec![]),
        ("one within what lies ahead", vec![hole(id, 12, 14, later)], None, 4, Some((12, 16)), vec![]),
        ("an open hole of the past", vec![hole(id, 0, 4, later)], None, 4, Some((12, 16)), vec![]),
        ("an open hole too far on", vec![hole(id, 6, 12, later)], not_next(4, 6), 4, Some((12, 16)), vec![]),
        ("between", vec![batch(3)], not_next(4, 6), 4, Some((12, 16)), vec![]),
        ("behind", vec![batch(9)], not_next(16, 18), 4, Some((12, 16)), vec![]),
        ("into what lies ahead", vec![crossing], not_next(4, 4), 4, Some((12, 16)), vec![]),
        ("another one before the end", vec![other(1)], differs(4), 4, Some((12, 16)), vec![]),
        ("another one in what lies ahead", vec![other(6)], differs(14), 4, Some((12, 16)), vec![]),
        ("another one behind more", vec![batch(8), other(7)], differs(16), 4, Some((12, 16)), vec![]),
        ("all of both, some again", filled(batch(7)), None, 16, None, vec![]),
        ("another one behind what fills it", filled(other(6)), differs(14), 4, Some((12, 16)), vec![]),
        ("another one at the end of both", filled(other(7)), differs(16), 4, Some((12, 16)), vec![]),
        ("another one behind a gap", vec![hole(id, 4, 12, gone), other(7)], differs(16), 4, Some((12, 16)), vec![]),
        ("a gap", vec![hole(id, 4, 6, gone), batch(3)], None, 8, Some((12, 16)), vec![(4, 6)]),
        ("a gap of all", vec![hole(id, 4, 12, gone)], None, 16, None, vec![(4, 12)]),
        ("a gap over it", vec![hole(id, 4, 14, gone)], None, 16, None, vec![(4, 12)]),
        ("a gap beyond it", vec![hole(id, 4, 18, gone), batch(9)], None, 20, None, vec![(4, 12), (16, 18)]),
        ("a gap too far on", vec![hole(id, 6, 12, gone)], not_next(4, 6), 4, Some((12, 16)), vec![]),
        ("a gap ahead", vec![hole(id, 14, 18, gone), batch(9)], None, 4, Some((12, 20)), vec![(16, 18)]),
        ("one too far ahead", vec![hole(id, 18, 20, gone)], not_next(16, 18), 4, Some((12, 16)), vec![]),
        (
            "gaps of both, the later one first",
            vec![hole(id, 16, 18, gone), hole(id, 4, 6, gone), batch(3), batch(4), batch(5)],
            None,
            18,
            None,
            vec![(4, 6), (16, 18)],
        ),
    ];
    for (case, coming, refused, end, ahead, holes) in cases {
        comes_behind(&edge, id, &opened(id, &all), (&coming, refused), case, |store| {
            let found = store.ahead(id).map(|Ahead { from, end, .. }| (from, end));
            assert_eq!((store.end_offset(id), found, holes_of(store, id)), (end, ahead, holes.clone()), "{case}");
        });
    }
}

#[test]
fn what_came_late_is_known_on_both_sides_of_an_open_hole() {
    let (edge, id, all) = edge(10);
    on_both(|open| {
        let store = open(Options::default());
        store.create_topic_as(topic_of(&edge, id, None)).unwrap();
        let linked = Linked { link: 5, hlc: 0, path: vec![1] };
        // All have a clock of 7.
        let take = |coming: &[LinkedPart], late_before| {
            store.take_linked_late(id.origin, &linked, coming, late_before).unwrap();
        };
        take(&opened(id, &all), 7);
        take(&parts(&all[8..9]), 8);
        take(&parts(&all[2..4]), 8);
        take(&parts(&all[4..6]), 8);
        assert_eq!(store.late(id), [Late { from: 4, to: 12 }, Late { from: 16, to: 18 }]);
        assert_eq!(
            (0..20).filter(|at| store.is_late(id, *at)).collect::<Vec<u64>>(),
            [4, 5, 6, 7, 8, 9, 10, 11, 16, 17]
        );
    });
}

#[test]
fn what_will_not_come_any_more_is_a_hole_and_the_partition_goes_on() {
    let (edge, id, all) = edge(10);
    on_both(|open| {
        let store = open(Options::default());
        store.create_topic_as(topic_of(&edge, id, None)).unwrap();
        take(&store, id, &opened(id, &all)).unwrap();
        assert!(store.close_ahead(id, HoleWhy::Removed, 9).unwrap());
        assert!(!store.close_ahead(id, HoleWhy::Removed, 9).unwrap());
        let check = |store: &Store| {
            assert_eq!(store.holes(id), [Hole { from: 4, to: 12, why: HoleWhy::Removed, at_ms: 9 }]);
            assert_eq!((store.start_offset(id), store.end_offset(id), store.ahead(id)), (0, 16, None));
            assert!(matches!(store.read(id, 4, 1), Err(ReadError::Trimmed { start: 12, .. })));
            assert!(store.verify(&mut |_| {}).unwrap().is_clean());
        };
        check(&store);
        // What comes of it all the same is here already, as far as the store knows.
        take(&store, id, &parts(&all[2..8])).unwrap();
        check(&store);
        store.close().unwrap();
        drop(store);
        check(&open(Options::default()));
    });
}

#[test]
fn retention_gives_up_what_would_go_at_once() {
    let (edge, id, all) = edge(30);
    let bytes = all[0].bytes().len() as u64;
    // bytes that are kept, up to where somebody needs it, whether the hole is given up
    for (kept, floor, is_closed) in [(bytes * 30, u64::MAX, false), (bytes * 4, u64::MAX, true), (bytes * 4, 4, false)]
    {
        on_both(|open| {
            let store = open(Options::default());
            store.create_topic_as(topic_of(&edge, id, Some(kept))).unwrap();
            let mut coming = parts(&all[..2]);
            coming.push(hole(id, 4, 12, HoleWhy::Later));
            coming.extend(parts(&all[6..]));
            take(&store, id, &coming).unwrap();
            let first = store.apply_retention(0, 100, &Wait::for_ever(&|_| floor)).unwrap();
            assert_eq!(first.closed, if is_closed { vec![id] } else { vec![] });
            assert_eq!(store.ahead(id).is_none(), is_closed);
            if is_closed {
                assert_eq!((store.end_offset(id), store.holes(id)[0].why), (60, HoleWhy::Retention));
                store.apply_retention(0, 100, &Wait::for_ever(&|_| floor)).unwrap();
                assert!(store.batch_bytes() <= kept, "{} of {kept}", store.batch_bytes());
            }
            assert!(store.verify(&mut |_| {}).unwrap().is_clean());
        });
    }
}

/// What lies ahead may begin with events that never came, as retention had taken them at the edge.
#[test]
fn retention_by_age_gives_up_what_is_to_come_before_what_begins_with_a_gap() {
    let (edge, id, all) = edge(10);
    let hour_ms = 3_600_000;
    // whether what lies ahead begins with a gap, how late it is then, whether the hole is given up; all batches were stored at the beginning of 1970
    for (has_gap, now_ms, is_closed) in
        [(false, hour_ms + 9, true), (true, hour_ms + 9, true), (false, hour_ms - 9, false), (true, hour_ms - 9, false)]
    {
        on_both(|open| {
            let store = open(Options::default());
            let info = topic_of(&edge, id, None);
            let config = TopicConfig { retention_ms: Some(hour_ms as u64), ..info.config.clone() };
            store.create_topic_as(TopicInfo { config, ..info }).unwrap();
            let mut coming = parts(&all[..2]);
            coming.push(hole(id, 4, 12, HoleWhy::Later));
            if has_gap {
                coming.extend([hole(id, 12, 13, HoleWhy::Retention), hole(id, 13, 14, HoleWhy::Damage)]);
            }
            coming.extend(parts(&all[if has_gap { 7 } else { 6 }..]));
            take(&store, id, &coming).unwrap();
            let trimmed = store.apply_retention(now_ms, 100, &Wait::for_ever(&|_| u64::MAX)).unwrap();
            assert_eq!(!trimmed.closed.is_empty(), is_closed, "{has_gap} {now_ms}");
            assert_eq!(store.ahead(id).is_none(), is_closed);
            assert!(store.verify(&mut |_| {}).unwrap().is_clean());
        });
    }
}

#[test]
fn what_lies_before_an_open_hole_leaves_to_the_last_and_what_lies_ahead_counts() {
    let (edge, id, all) = edge(10);
    let bytes = |batches: &[StoredBatch]| batches.iter().map(|batch| batch.bytes().len() as u64).sum::<u64>();
    let ahead = bytes(&all[6..8]);
    // bytes that are kept, up to where nobody needs it, where the partition begins then
    let cases = [
        (None, 3, 2),
        (None, 4, 4),
        (Some(ahead + bytes(&all[..2])), u64::MAX, 0),
        (Some(ahead + bytes(&all[..1])), u64::MAX, 2),
        (Some(ahead), u64::MAX, 4),
        (Some(ahead), 2, 2),
    ];
    for (kept, floor, start) in cases {
        on_both(|open| {
            let store = open(Options::default());
            store.create_topic_as(topic_of(&edge, id, kept)).unwrap();
            take(&store, id, &opened(id, &all)).unwrap();
            match kept {
                None => assert_eq!(store.trim(id, floor, 9).unwrap().batches, start / 2),
                Some(_) => {
                    let trimmed = store.apply_retention(0, 9, &Wait::for_ever(&|_| floor)).unwrap();
                    assert_eq!((trimmed.batches, trimmed.more, trimmed.closed), (start / 2, false, vec![]));
                }
            }
            let check = |store: &Store| {
                assert_eq!((store.start_offset(id), store.end_offset(id)), (start, 4), "{kept:?} {floor}");
                assert_eq!(store.ahead(id).map(|ahead| (ahead.from, ahead.end)), Some((12, 16)));
                assert_eq!(store.batch_bytes(), ahead + bytes(&all[start as usize / 2..2]));
                assert!(store.verify(&mut |_| {}).unwrap().is_clean());
            };
            check(&store);
            store.close().unwrap();
            drop(store);
            let store = open(Options::default());
            check(&store);
            take(&store, id, &parts(&all[2..6])).unwrap();
            assert_eq!((store.start_offset(id), store.end_offset(id), store.ahead(id)), (start, 16, None));
            assert_eq!(values(&store, id, start), values(&edge, id, 0)[start as usize..16]);
        });
    }
}

#[test]
fn too_many_holes_ahead_give_up_what_was_to_come() {
    let (edge, id, all) = edge(2 * HOLES_MAX as u64 + 20);
    on_both(|open| {
        let store = open(Options::default());
        store.create_topic_as(topic_of(&edge, id, None)).unwrap();
        let mut coming = parts(&all[..2]);
        coming.push(hole(id, 4, 12, HoleWhy::Later));
        for n in 3..HOLES_MAX + 8 {
            coming.extend(parts(&all[2 * n..2 * n + 1]));
            let from = all[2 * n].next_offset();
            coming.push(hole(id, from, from + 2, HoleWhy::Damage));
        }
        take(&store, id, &coming).unwrap();
        let holes = store.holes(id);
        assert!(store.ahead(id).is_none() && holes.len() <= HOLES_MAX + 1, "{}", holes.len());
        assert!(store.start_offset(id) >= 12 && store.start_offset(id) == holes[0].to);
        assert_bytes_are_those_of(&store, id);
        let store = reopened(store, open);
        assert_eq!(store.holes(id), holes);
        assert!(store.verify(&mut |_| {}).unwrap().is_clean());
    });
}

/// What is live and the backlog come in turns, some of it twice, and the power is cut in between.
#[test]
fn whatever_a_power_cut_leaves_both_go_on_from_there() {
    let (edge, id, all) = edge(120);
    let mut opened = [0, 0];
    for seed in 0..60_u64 {
        let (memory, mut dice) = (MemoryBackend::new(), seed);
        let open = || Store::on(Arc::new(memory.clone()), Options::default()).unwrap().0;
        let mut store = open();
        store.create_topic_as(topic_of(&edge, id, None)).unwrap();
        let mut synced = (0, Vec::<Ahead>::new());
        while store.end_offset(id) < 240 {
            let (last, end) = (store.parts_ahead(id).last().copied(), store.end_offset(id));
            let more = 1 + harness::next(&mut dice) as usize % 7;
            let from = |at: u64, dice: &mut u64| (at as usize / 2).saturating_sub(harness::next(dice) as usize % 3);
            let live = harness::next(&mut dice).is_multiple_of(2);
            let skips = harness::next(&mut dice).is_multiple_of(4);
            let newest = last.map_or(end, |last| last.end);
            let coming = match last {
                _ if skips && newest < 200 && store.parts_ahead(id).len() < PARTS_AHEAD_MAX => {
                    let to = newest as usize / 2 + 1 + more;
                    let mut coming = vec![hole(id, newest, to as u64 * 2, HoleWhy::Later)];
                    coming.extend(parts(&all[to..(to + more).min(120)]));
                    opened[usize::from(last.is_some())] += 1;
                    coming
                }
                Some(last) if live => {
                    let at = from(last.end, &mut dice).max(last.from as usize / 2);
                    parts(&all[at..(last.end as usize / 2 + more).min(120)])
                }
                _ => {
                    // It goes on over what is here already.
                    let first = store.ahead(id).map_or(120, |first| first.from as usize / 2);
                    let to = if last.is_some_and(|_| more > 3) { first } else { end as usize / 2 + more };
                    parts(&all[from(end, &mut dice)..to.min(120)])
                }
            };
            take(&store, id, &coming).unwrap();
            match harness::next(&mut dice) % 4 {
                0 => {
                    store.sync().unwrap();
                    synced = (store.end_offset(id), store.parts_ahead(id).to_vec());
                }
                1 => {
                    let written = store.end_offset(id);
                    drop(store);
                    cut_power(&memory, &mut dice);
                    store = open();
                    let (end, ahead) = (store.end_offset(id), store.parts_ahead(id).to_vec());
                    assert!((synced.0..=written).contains(&end), "seed {seed}: {end} of {written}, {synced:?}");
                    // What lay ahead and was synced lies ahead still, or before the end.
                    let is_there =
                        |was: &Ahead| end >= was.end || ahead.iter().any(|is| is.from == was.from && is.end >= was.end);
                    assert!(synced.1.iter().all(is_there), "seed {seed}: {ahead:?} of {synced:?}");
                    assert!(store.verify(&mut |_| {}).unwrap().is_clean(), "seed {seed}");
                    assert_eq!(values(&store, id, 0), values(&edge, id, 0)[..end as usize], "seed {seed}");
                    synced = (end, ahead);
                }
                _ => {}
            }
        }
        assert_eq!(values(&store, id, 0), values(&edge, id, 0), "seed {seed}");
        assert_eq!((store.digest(id), store.aheads()), (edge.digest(id), vec![]), "seed {seed}");
    }
    assert!(opened.iter().all(|opened| *opened > 60), "{opened:?}");
}

//! What a link brings: batches at their places, holes that readers pass, and what is refused.
#![allow(clippy::unwrap_used)]

mod harness;

use std::sync::Arc;

use harness::linked::{assert_bytes_are_those_of, cut_power, edge, parts, reopened, topic_of};
use harness::{Times, append, on_both, partition, seal, seal_at, values};
use sled_data::{
    APART_MAX, Commit, Compression, FollowError, Forgotten, HOLES_MAX, Hole, HoleWhy, LATE_MAX,
    LINKED_NEW_PARTITIONS_MAX, LINKED_ORIGINS_OF_LINK_MAX, Late, Linked, LinkedError, LinkedPart, MemoryBackend,
    Options, OriginId, PartitionId, ReadError, Store, StoredBatch, TopicConfig, TopicId,
};

const LINK: u64 = 5;

fn linked(link: u64) -> Linked {
    Linked { link, hlc: 0, path: vec![1, 2] }
}

fn hole(from: u64, to: u64) -> Hole {
    Hole { from, to, why: HoleWhy::Retention, at_ms: 9 }
}

#[test]
fn batches_come_to_their_places_once() {
    let (edge, id, all) = edge(6);
    on_both(|open| {
        let store = open(Options::default());
        store.create_topic_as(topic_of(&edge, id)).unwrap();
        store.take_linked(id.origin, &linked(LINK), &parts(&all[..3])).unwrap();
        // Some of it again, and more: what is here is left out.
        store.take_linked(id.origin, &linked(LINK), &parts(&all[1..5])).unwrap();
        let too_far = store.take_linked(id.origin, &linked(LINK), &parts(&[all[5].clone(), all[5].clone()]));
        assert_eq!(too_far, Ok(()), "the second of two is here already");
        store.sync().unwrap();
        let check = |store: &Store| {
            assert_eq!(values(store, id, 0), values(&edge, id, 0));
            assert_eq!((store.end_offset(id), store.digest(id)), (12, edge.digest(id)));
            assert_eq!(store.linked(), [(id.origin, Linked { hlc: 7, ..linked(LINK) })]);
            assert_eq!(
                (store.last_batch_hlc(id), store.hlc_before(id, 4), store.hlc_before(id, 3)),
                (Some(7), Some(7), None)
            );
            assert!(store.verify(&mut |_| {}).unwrap().is_clean());
            assert!(store.followed().is_empty(), "it is no followed origin");
        };
        check(&store);
        let store = reopened(store, open);
        check(&store);
        // Emptied by retention, its end stays: nothing is taken twice.
        store.trim(id, u64::MAX, 100).unwrap();
        store.apply_retention(0, 10, &sled_data::Wait::for_ever(&|_| u64::MAX)).unwrap();
        assert_eq!((store.start_offset(id), store.end_offset(id)), (12, 12));
        store.take_linked(id.origin, &linked(LINK), &parts(&all)).unwrap();
        assert_eq!(values(&store, id, 12), []);
    });
}

#[test]
fn what_is_here_already_must_be_the_same() {
    let id = PartitionId { origin: OriginId(50), topic: TopicId(1), index: 0 };
    let part = |base, hlc, events: &[&[u8]]| {
        let times = Times { hlc, first_ms: 0 };
        vec![LinkedPart::Batch(seal_at(id, base, events, times, Compression::None).into())]
    };
    on_both(|open| {
        let store = open(Options::default());
        store.take_linked(id.origin, &linked(LINK), &part(0, 70, &[b"a", b"b"])).unwrap();
        store.take_linked(id.origin, &linked(LINK), &part(2, 71, &[b"c"])).unwrap();
        let differs = |end| Err(LinkedError::Differs { partition: id, end });
        // what comes, what comes of it, where the partition ends then
        let cases = [
            (part(0, 70, &[b"a", b"b"]), Ok(()), 3),
            (part(2, 71, &[b"c"]), Ok(()), 3),
            ([part(2, 72, &[b"x"]), part(3, 90, &[b"y"])].concat(), differs(3), 3),
            (part(0, 69, &[b"x", b"y"]), differs(2), 3),
            // It ends within a batch that is here; its place says nothing.
            (part(0, 60, &[b"x"]), Ok(()), 3),
            ([part(2, 71, &[b"c"]), part(3, 90, &[b"d"])].concat(), Ok(()), 4),
        ];
        for (parts, expected, end) in cases {
            assert_eq!(store.take_linked(id.origin, &linked(LINK), &parts), expected, "{parts:?}");
            assert_eq!(store.end_offset(id), end, "{parts:?}");
        }
    });
}

#[test]
fn an_origin_that_is_another_one_elsewhere_is_remembered_while_something_of_it_is_here() {
    let backend = MemoryBackend::new();
    let open = || Store::on(Arc::new(backend.clone()), Options { seed: Some(1), ..Options::default() }).unwrap().0;
    let store = open();
    let topic = store.create_topic("t", TopicConfig::default()).unwrap();
    let own = partition(&store, &topic, 0);
    store.commit(&append(seal(own, 0, &[b"one"]))).unwrap();
    let gone = OriginId(own.origin.0 ^ 1);
    let noted =
        |store: &Store| [(own.origin, "hq"), (own.origin, "cloud"), (gone, "hq")].map(|(o, at)| store.is_apart(o, at));
    assert_eq!(noted(&store), [false; 3]);
    store.note_apart(own.origin, "hq", 5).unwrap();
    store.note_apart(gone, "hq", 6).unwrap();
    store.sync().unwrap();
    drop(store);
    backend.power_cut(0);
    let store = open();
    assert_eq!(noted(&store), [true, false, true]);
    // With the next one, what is gone is forgotten.
    store.note_apart(own.origin, "cloud", 7).unwrap();
    assert_eq!(noted(&store), [true, true, false]);
    for number in 0..APART_MAX {
        store.note_apart(own.origin, &format!("{number}"), 8).unwrap();
    }
    let kept = (0..APART_MAX).filter(|number| store.is_apart(own.origin, &format!("{number}"))).count();
    assert_eq!((noted(&store), kept), ([false; 3], APART_MAX), "the oldest go");
    let long = "ä".repeat(1_000);
    store.note_apart(own.origin, &long, 9).unwrap();
    assert!(store.is_apart(own.origin, &long));
}

#[test]
fn what_does_not_belong_is_refused_and_nothing_of_it_is_stored() {
    let (edge, id, all) = edge(4);
    on_both(|open| {
        let store = open(Options::default());
        let topic = store.create_topic("own", TopicConfig::default()).unwrap();
        let own = partition(&store, &topic, 0);
        store.commit(&append(seal(own, 0, &[b"own"]))).unwrap();
        let refused = |origin, from: &Linked, parts: &[LinkedPart]| store.take_linked(origin, from, parts).unwrap_err();
        assert_eq!(refused(store.origin(), &linked(LINK), &[]), LinkedError::Ours(store.origin()));
        assert_eq!(refused(OriginId(3), &linked(LINK), &parts(&all[..1])), LinkedError::Foreign(id));
        let late = refused(id.origin, &linked(LINK), &parts(&[all[0].clone(), all[2].clone()]));
        assert_eq!(late, LinkedError::NotNext { partition: id, end: 2, found: 4 });
        assert_eq!((store.end_offset(id), store.linked()), (0, vec![]));
        let long = Linked { path: vec![1; 17], ..linked(LINK) };
        assert_eq!(refused(id.origin, &long, &[]), LinkedError::Bound("sites in its path"));
        let empty = LinkedPart::Hole(id, hole(4, 4));
        assert_eq!(refused(id.origin, &linked(LINK), &[empty]), LinkedError::Foreign(id));
        let far = LinkedPart::Hole(id, hole(1, 4));
        assert_eq!(refused(id.origin, &linked(LINK), &[far]), LinkedError::NotNext { partition: id, end: 0, found: 1 });
        store.take_linked(id.origin, &linked(LINK), &parts(&all[..2])).unwrap();
        let other = refused(id.origin, &linked(6), &parts(&all[2..]));
        assert_eq!(other, LinkedError::OtherLink { origin: id.origin, link: LINK });
        // What a link brings is followed by nobody, and the other way round.
        edge.sync().unwrap();
        let shipped = edge.commits_to_ship(id.origin, sled_data::CommitNumber(1), 1).unwrap();
        assert_eq!(store.follow(&shipped), Err(FollowError::Linked(id.origin)));
        store.set_follow_node(OriginId(9), 1).unwrap();
        assert_eq!(store.may_link(OriginId(9), LINK), Err(LinkedError::Ours(OriginId(9))));
    });
}

#[test]
fn readers_pass_a_hole_and_what_was_before_it_stays() {
    let (edge, id, all) = edge(10);
    on_both(|open| {
        let store = open(Options::default());
        store.create_topic_as(topic_of(&edge, id)).unwrap();
        let mut coming = parts(&all[..2]);
        coming.push(LinkedPart::Hole(id, hole(4, 12)));
        coming.extend(parts(&all[6..9]));
        store.take_linked(id.origin, &linked(LINK), &coming).unwrap();
        // The same again, and a hole that goes on where one ends.
        store.take_linked(id.origin, &linked(LINK), &coming).unwrap();
        store.sync().unwrap();
        let check = |store: &Store| {
            assert_eq!(store.holes(id), [hole(4, 12)]);
            assert_eq!((store.start_offset(id), store.end_offset(id)), (0, 18));
            assert_eq!(values(store, id, 0), values(&edge, id, 0)[..4]);
            assert_eq!(values(store, id, 12), values(&edge, id, 12)[..6]);
            for from in 4..12 {
                let read = store.read(id, from, 1);
                assert!(matches!(read, Err(ReadError::Trimmed { start: 12, .. })), "{from}: {read:?}");
            }
            let back = store.read_back(id, 18, usize::MAX).unwrap();
            let bases: Vec<u64> = back.iter().map(StoredBatch::base_offset).collect();
            assert_eq!(bases, [16, 14, 12, 2, 0]);
            // Keys go round in threes: offset 2 is the last of key-2 before the hole.
            let before = store.latest_by_key(id, b"key-2", 13).unwrap().unwrap();
            assert_eq!(before.0, 2);
            for (ms, offset) in [(0, 0), (1_020, 2), (1_030, 3), (1_040, 12), (1_100, 12), (1_130, 13), (9_000, 18)] {
                assert_eq!(store.offset_at_time(id, ms).unwrap(), offset, "{ms}");
            }
            let report = store.verify(&mut |_| {}).unwrap();
            assert!(report.is_clean());
            assert_eq!(report.never_came.into_iter().collect::<Vec<_>>(), [(HoleWhy::Retention, 8)]);
        };
        check(&store);
        let store = reopened(store, open);
        check(&store);
        // Trimming goes over it.
        store.trim(id, 13, 100).unwrap();
        assert_eq!(store.start_offset(id), 12);
        // A topic that is deleted takes its holes with it.
        store.delete_topic(id.topic).unwrap();
        assert_eq!((store.holes(id), store.end_offset(id)), (vec![], 0));
        store.take_linked(id.origin, &linked(LINK), &parts(&all)).unwrap();
        assert_eq!(values(&store, id, 0), values(&edge, id, 0));
    });
}

#[test]
fn the_first_batch_of_a_clock_is_found_beside_holes() {
    let (edge, id, _) = edge(0);
    // Batches of two events, each commit a thousand later than the one before.
    for n in 0..9 {
        let times = Times { hlc: (n + 1) * 1_000, first_ms: 1_000 };
        let batch = seal_at(id, n * 2, &[b"one", b"two"], times, Compression::Lz4);
        edge.commit(&Commit { hlc: (n + 1) * 1_000, appends: vec![batch], ..Commit::default() }).unwrap();
    }
    let all = edge.read(id, 0, usize::MAX).unwrap();
    on_both(|open| {
        let store = open(Options::default());
        store.create_topic_as(topic_of(&edge, id)).unwrap();
        let mut coming = parts(&all[..2]);
        coming.push(LinkedPart::Hole(id, Hole { why: HoleWhy::Deadline, ..hole(4, 10) }));
        coming.extend(parts(&all[5..]));
        store.take_linked(id.origin, &linked(LINK), &coming).unwrap();
        // from, clock, where it begins
        for (from, hlc, expected) in [
            (0, 0, 0),
            (0, 1_000, 0),
            (0, 1_001, 2),
            (0, 2_001, 10),
            (0, 6_000, 10),
            (0, 6_001, 12),
            (4, 1, 10),
            (14, 1, 14),
            (0, 9_000, 16),
            (0, 9_001, 18),
            (18, 1, 18),
        ] {
            assert_eq!(store.offset_at_clock(id, from, hlc).unwrap(), expected, "{from} {hlc}");
        }
    });
}

#[test]
fn what_came_late_is_known_as_long_as_it_is_kept() {
    let (edge, id, all) = edge(2 * LATE_MAX as u64 + 10);
    on_both(|open| {
        let store = open(Options::default());
        store.create_topic_as(topic_of(&edge, id)).unwrap();
        // All have a clock of 7.
        let take = |store: &Store, range: std::ops::Range<usize>, late_before| {
            store.take_linked_late(id.origin, &linked(LINK), &parts(&all[range]), late_before).unwrap();
        };
        take(&store, 0..2, 7);
        take(&store, 2..4, 8);
        // Some of it again, in time now, and more that is late.
        take(&store, 3..5, 7);
        take(&store, 5..6, 8);
        take(&store, 6..7, 8);
        store.sync().unwrap();
        let expected = [Late { from: 4, to: 8 }, Late { from: 10, to: 14 }];
        let check = |store: &Store| {
            assert_eq!(store.late(id), expected);
            let late: Vec<u64> = (0..16).filter(|offset| store.is_late(id, *offset)).collect();
            assert_eq!(late, [4, 5, 6, 7, 10, 11, 12, 13]);
            assert!(store.verify(&mut |_| {}).unwrap().is_clean());
        };
        check(&store);
        let store = reopened(store, open);
        check(&store);
        // They go with what is trimmed, and the oldest where they are too many.
        store.trim(id, 8, 100).unwrap();
        for n in 7..2 * LATE_MAX + 9 {
            take(&store, n..n + 1, if n % 2 == 0 { 8 } else { 7 });
        }
        let kept = store.late(id);
        assert_eq!(
            (kept.len(), kept[LATE_MAX - 1]),
            (LATE_MAX, Late { from: 4 * LATE_MAX as u64 + 16, to: 4 * LATE_MAX as u64 + 18 })
        );
        let store = reopened(store, open);
        assert_eq!(store.late(id), kept);
        store.delete_topic(id.topic).unwrap();
        store.create_topic_as(topic_of(&edge, id)).unwrap();
        take(&store, 0..4, 7);
        assert_eq!(store.late(id), []);
    });
}

#[test]
fn a_partition_begins_after_a_first_hole_and_holes_are_bounded() {
    let (_edge, id, all) = edge(2 * HOLES_MAX as u64 + 40);
    on_both(|open| {
        let store = open(Options::default());
        let mut coming = vec![LinkedPart::Hole(id, hole(0, 2))];
        for n in 0..HOLES_MAX + 10 {
            coming.push(LinkedPart::Batch(all[2 * n + 1].clone()));
            let from = all[2 * n + 1].next_offset();
            coming.push(LinkedPart::Hole(id, hole(from, from + 2)));
        }
        store.take_linked(id.origin, &linked(LINK), &coming[..1]).unwrap();
        assert_eq!((store.start_offset(id), store.end_offset(id), store.holes(id).len()), (2, 2, 1));
        store.take_linked(id.origin, &linked(LINK), &coming).unwrap();
        let holes = store.holes(id);
        assert!(holes.len() <= HOLES_MAX + 1, "{}", holes.len());
        assert_eq!(store.start_offset(id), holes[0].to);
        assert_bytes_are_those_of(&store, id);
        let store = reopened(store, open);
        assert_eq!(store.holes(id), holes);
        assert!(store.verify(&mut |_| {}).unwrap().is_clean());
    });
}

#[test]
fn what_never_came_before_a_partition_begins_keeps_its_reasons() {
    let (_edge, id, all) = edge(HOLES_MAX as u64 + 60);
    let why = |from, to, why| LinkedPart::Hole(id, Hole { from, to, why, at_ms: 9 });
    let (late, bad) = (HoleWhy::Deadline, HoleWhy::Damage);
    let batch = |n: usize| LinkedPart::Batch(all[n].clone());
    // Each has a reason of its own, and there are too many: those that came last stay.
    let many = |n: u64| why(n, n + 1, if n % 2 == 0 { late } else { bad });
    let most = HOLES_MAX as u64;
    // what comes, call by call; where the partition begins, and the holes then
    let cases = [
        (vec![vec![why(0, 4, bad)], vec![why(4, 8, late), batch(4)]], 8, vec![(0, 4, bad), (4, 8, late)]),
        (
            vec![
                vec![why(0, 4, HoleWhy::Later), why(4, 6, late)],
                vec![why(0, 4, late)],
                vec![why(6, 8, late), batch(4)],
            ],
            8,
            vec![(0, 4, late), (4, 8, late)],
        ),
        // What was there is gone by retention, and what never came before it is told so as well.
        (vec![vec![why(0, 2, bad), batch(1)], vec![why(4, 6, late)]], 2, vec![(0, 2, bad), (4, 6, late)]),
        (
            vec![(0..most + 20).map(many).collect()],
            most + 20,
            (19..most + 20).map(|n| (n, n + 1, if n % 2 == 0 { late } else { bad })).collect(),
        ),
    ];
    for (calls, start, expected) in cases {
        on_both(|open| {
            let store = open(Options::default());
            calls.iter().for_each(|call| store.take_linked(id.origin, &linked(LINK), call).unwrap());
            let check = |store: &Store| {
                let found: Vec<_> = store.holes(id).iter().map(|hole| (hole.from, hole.to, hole.why)).collect();
                assert_eq!((store.start_offset(id), found), (start, expected.clone()));
                assert!(store.verify(&mut |_| {}).unwrap().is_clean());
            };
            check(&store);
            check(&reopened(store, open));
        });
    }
}

#[test]
fn whatever_a_power_cut_leaves_the_link_goes_on_from_there() {
    let (edge, id, all) = edge(120);
    for seed in 0..40_u64 {
        let (memory, mut dice) = (MemoryBackend::new(), seed);
        let open = || Store::on(Arc::new(memory.clone()), Options::default()).unwrap().0;
        let mut store = open();
        store.create_topic_as(topic_of(&edge, id)).unwrap();
        let mut synced = 0;
        while store.end_offset(id) < 240 {
            let at = store.end_offset(id) as usize / 2;
            let more = 1 + harness::next(&mut dice) as usize % 7;
            // A link that has heard nothing sends some of it again.
            let from = at.saturating_sub(harness::next(&mut dice) as usize % 3);
            let mut coming = parts(&all[from..(at + more).min(120)]);
            if harness::next(&mut dice).is_multiple_of(8) && at + more < 119 {
                coming.push(LinkedPart::Hole(id, hole(2 * (at + more) as u64, 2 * (at + more) as u64 + 2)));
            }
            store.take_linked(id.origin, &linked(LINK), &coming).unwrap();
            match harness::next(&mut dice) % 4 {
                0 => {
                    store.sync().unwrap();
                    synced = store.end_offset(id);
                }
                1 => {
                    let written = store.end_offset(id);
                    drop(store);
                    cut_power(&memory, &mut dice);
                    store = open();
                    let end = store.end_offset(id);
                    assert!((synced..=written).contains(&end), "seed {seed}: {end} of {written}, {synced} synced");
                    assert!(store.verify(&mut |_| {}).unwrap().is_clean(), "seed {seed}");
                    let is_known = store.linked_origin(id.origin).is_some();
                    assert!(is_known || end == 0, "seed {seed}: events without their origin");
                    synced = end;
                }
                _ => {}
            }
        }
        let holes = store.holes(id);
        let missing = |offset: u64| holes.iter().any(|hole| hole.from <= offset && offset < hole.to);
        let expected: Vec<_> = values(&edge, id, 0).into_iter().filter(|(offset, _)| !missing(*offset)).collect();
        let mut found = Vec::new();
        let mut next = 0;
        while next < store.end_offset(id) {
            match store.read(id, next, usize::MAX) {
                Ok(batches) => {
                    found.extend(values(&store, id, next));
                    next = batches.last().unwrap().next_offset();
                }
                Err(ReadError::Trimmed { start, .. }) => next = start,
                Err(error) => panic!("seed {seed}: {error}"),
            }
        }
        assert_eq!(found, expected, "seed {seed}");
    }
}

#[test]
fn no_link_uses_up_what_all_have() {
    let (_edge, id, all) = edge(2);
    on_both(|open| {
        let store = open(Options::default());
        for origin in 1..=LINKED_ORIGINS_OF_LINK_MAX as u64 {
            store.take_linked(OriginId(origin), &linked(LINK), &[]).unwrap();
        }
        let bound = LinkedError::Bound("origins of one link");
        assert_eq!(store.take_linked(id.origin, &linked(LINK), &parts(&all)), Err(bound));
        assert_eq!(store.take_linked(OriginId(1), &linked(LINK), &[]), Ok(()), "those that are there go on");
        assert_eq!(store.take_linked(id.origin, &linked(6), &parts(&all)), Ok(()), "another link has its own share");
        let many = |count: u32| {
            let of = |index| PartitionId { origin: OriginId(1), topic: id.topic, index };
            (0..count).map(|index| LinkedPart::Hole(of(index), hole(0, 2))).collect::<Vec<_>>()
        };
        let most = sled_data::PARTITIONS_MAX;
        assert!(most as usize >= LINKED_NEW_PARTITIONS_MAX);
        let mut too_many = many(most);
        too_many.push(LinkedPart::Hole(PartitionId { origin: OriginId(1), topic: TopicId(9), index: 0 }, hole(0, 2)));
        let bound = LinkedError::Bound("new partitions at once");
        assert_eq!(store.take_linked(OriginId(1), &linked(LINK), &too_many), Err(bound));
        assert_eq!(store.partitions_of_link(LINK), 0);
        store.take_linked(OriginId(1), &linked(LINK), &many(7)).unwrap();
        store.take_linked(OriginId(1), &linked(LINK), &many(7)).unwrap();
        assert_eq!((store.partitions_of_link(LINK), store.partitions_of_link(6)), (7, 1));
    });
}

#[test]
fn an_origin_of_which_nothing_is_kept_can_be_forgotten() {
    let (edge, id, all) = edge(4);
    on_both(|open| {
        let store = open(Options::default());
        store.create_topic_as(topic_of(&edge, id)).unwrap();
        assert_eq!(store.forget_linked(id.origin), Ok(false), "it is not linked");
        let mut coming = parts(&all[..2]);
        coming.push(LinkedPart::Hole(id, hole(4, 6)));
        for index in 1..200 {
            coming.push(LinkedPart::Hole(PartitionId { index, ..id }, hole(0, 2)));
        }
        store.take_linked(id.origin, &linked(LINK), &coming).unwrap();
        assert_eq!(store.forget_linked(id.origin), Ok(false), "it has events");
        store.trim(id, u64::MAX, 100).unwrap();
        assert_eq!(store.forget_linked(id.origin), Ok(true));
        assert_eq!((store.linked(), store.partitions(), store.holes(id)), (vec![], vec![], vec![]));
        store.sync().unwrap();
        drop(store);
        let store = open(Options::default());
        assert_eq!((store.linked(), store.partitions(), store.holes(id)), (vec![], vec![], vec![]));
        assert!(store.verify(&mut |_| {}).unwrap().is_clean());
        assert_eq!(
            store.forgotten_linked(id.origin),
            Some(Forgotten { link: LINK, hlc: 7 }),
            "that it was here is known"
        );
        // It may come again as if it never had.
        store.take_linked(id.origin, &linked(6), &parts(&all)).unwrap();
        assert_eq!(values(&store, id, 0), values(&edge, id, 0));
        assert_eq!(store.forgotten_linked(id.origin), None);
        store.sync().unwrap();
        drop(store);
        let store = open(Options::default());
        assert_eq!(store.forgotten_linked(id.origin), None);
        // Of one that had no events it is not known.
        let id = PartitionId { origin: OriginId(99), ..id };
        store.take_linked(id.origin, &linked(LINK), &[LinkedPart::Hole(id, hole(0, 6))]).unwrap();
        assert_eq!((store.forget_linked(id.origin), store.forgotten_linked(id.origin)), (Ok(true), None));
    });
}

//! Several parts ahead, and what another node of a site brings in order.

use super::*;

/// Two batches, and three parts behind open holes: 12 to 16, 30 to 34, 50 to 52.
fn thrice(id: PartitionId, all: &[StoredBatch]) -> Vec<LinkedPart> {
    let mut coming = opened(id, all);
    coming.push(hole(id, 16, 30, HoleWhy::Later));
    coming.extend(parts(&all[15..17]));
    coming.push(hole(id, 34, 50, HoleWhy::Later));
    coming.extend(parts(&all[25..26]));
    coming
}

fn lie(store: &Store, id: PartitionId) -> Vec<(u64, u64)> {
    store.parts_ahead(id).iter().map(|part| (part.from, part.end)).collect()
}

fn bytes(batches: &[StoredBatch]) -> u64 {
    batches.iter().map(|batch| batch.bytes().len() as u64).sum()
}

#[test]
fn the_end_jumps_from_part_to_part_as_the_holes_are_filled() {
    let (edge, id, all) = edge(30);
    on_both(|open| {
        let store = open(Options::default());
        store.create_topic_as(topic_of(&edge, id, None)).unwrap();
        take(&store, id, &thrice(id, &all)).unwrap();
        take(&store, id, &parts(&all[15..17])).unwrap();
        let check = |store: &Store| {
            assert_eq!((store.end_offset(id), lie(store, id)), (4, vec![(12, 16), (30, 34), (50, 52)]));
            let holes: Vec<_> = store.aheads().iter().map(|(of, from, part)| (*of, *from, part.from)).collect();
            assert_eq!(holes, [(id, 4, 12), (id, 16, 30), (id, 34, 50)]);
            assert_eq!(values(store, id, 0), values(&edge, id, 0)[..4]);
            // from where who asks for the newest reads on, or what is read there
            for (from, expected) in [(3, Ok(2)), (4, Err(12)), (13, Ok(12)), (16, Err(30)), (29, Err(30)), (33, Ok(32))]
            {
                let read = match store.read_newest(id, from, 1) {
                    Ok(batches) => Ok(batches[0].base_offset()),
                    Err(ReadError::Trimmed { start, .. }) => Err(start),
                    Err(error) => panic!("{error}"),
                };
                assert_eq!(read, expected, "{from}");
            }
            assert!(store.read_newest(id, 52, 1).unwrap().is_empty());
            for (ms, newest) in [(1_020, 2), (1_040, 12), (1_150, 15), (1_170, 30), (1_340, 50), (9_000, 52)] {
                assert_eq!(store.newest_at_time(id, ms).unwrap(), newest, "{ms}");
            }
            for (key, before, found) in [(&b"key-2"[..], u64::MAX, 50), (b"key-2", 50, 32), (b"key-2", 30, 14)] {
                assert_eq!(store.latest_by_key(id, key, before).unwrap().map(|found| found.0), Some(found), "{before}");
            }
            for (offset, hlc) in [(16, Some(7)), (20, None), (30, None), (34, Some(7)), (52, Some(7))] {
                assert_eq!(store.hlc_before(id, offset), hlc, "{offset}");
            }
            let report = store.verify(&mut |_| {}).unwrap();
            assert_eq!((report.is_clean(), report.events), (true, 14));
            let kept = bytes(&all[..2]) + bytes(&all[6..8]) + bytes(&all[15..17]) + bytes(&all[25..26]);
            assert_eq!(store.batch_bytes(), kept);
        };
        check(&store);
        store.close().unwrap();
        drop(store);
        let mut store = open(Options::default());
        check(&store);
        // what comes, where the partition ends then, what lies ahead
        let steps = [
            (2..6, 16, vec![(30, 34), (50, 52)]),
            (8..12, 24, vec![(30, 34), (50, 52)]),
            (12..25, 52, vec![]),
            (26..30, 60, vec![]),
        ];
        for (coming, end, ahead) in steps {
            take(&store, id, &parts(&all[coming])).unwrap();
            for _ in 0..2 {
                assert_eq!((store.end_offset(id), lie(&store, id)), (end, ahead.clone()));
                assert_eq!(values(&store, id, 0), values(&edge, id, 0)[..end as usize]);
                assert!(store.verify(&mut |_| {}).unwrap().is_clean());
                store.close().unwrap();
                drop(store);
                store = open(Options::default());
            }
        }
        assert_eq!(store.digest(id), edge.digest(id));
        // They go with their topic.
        take(&store, id, &[hole(id, 60, 70, HoleWhy::Later)]).unwrap();
        store.delete_topic(id.topic).unwrap();
        drop(store);
        assert_eq!(open(Options::default()).aheads(), []);
    });
}

#[test]
fn each_part_goes_to_one_of_many_ends_or_nowhere() {
    let (edge, id, all) = edge(30);
    let (later, gone) = (HoleWhy::Later, HoleWhy::Retention);
    let not_next = |end, found| Some(LinkedError::NotNext { partition: id, end, found });
    let run = |from: usize, to: usize| parts(&all[from..to]);
    let three = vec![(12, 16), (30, 34), (50, 52)];
    // what comes, why it is refused, then: end, what lies ahead, holes
    type Case = (&'static str, Vec<LinkedPart>, Option<LinkedError>, u64, Vec<(u64, u64)>, Vec<(u64, u64)>);
    let cases: Vec<Case> = vec![
        ("the last grows", run(26, 28), None, 4, vec![(12, 16), (30, 34), (50, 56)], vec![]),
        ("one in the midst grows", run(17, 18), None, 4, vec![(12, 16), (30, 36), (50, 52)], vec![]),
        ("and comes to the next", run(8, 15), None, 4, vec![(12, 34), (50, 52)], vec![]),
        ("all of it, some of it again", run(0, 28), None, 56, vec![], vec![]),
        ("between", run(10, 11), not_next(16, 20), 4, three.clone(), vec![]),
        ("behind", run(28, 29), not_next(52, 56), 4, three.clone(), vec![]),
        (
            "the open holes again",
            vec![hole(id, 4, 12, later), hole(id, 16, 30, later), hole(id, 14, 30, later)],
            None,
            4,
            three.clone(),
            vec![],
        ),
        ("one over two", vec![hole(id, 4, 30, later)], not_next(12, 30), 4, three.clone(), vec![]),
        ("one that ends elsewhere", vec![hole(id, 16, 40, later)], not_next(30, 40), 4, three.clone(), vec![]),
        ("one that begins too far on", vec![hole(id, 18, 30, later)], not_next(16, 18), 4, three.clone(), vec![]),
        ("one more", vec![hole(id, 52, 58, later)], None, 4, vec![(12, 16), (30, 34), (50, 52), (58, 58)], vec![]),
        (
            "one more, which grows",
            vec![hole(id, 52, 56, later), hole(id, 56, 58, later)],
            None,
            4,
            vec![(12, 16), (30, 34), (50, 52), (58, 58)],
            vec![],
        ),
        ("a gap of a hole", vec![hole(id, 16, 30, gone)], None, 4, vec![(12, 34), (50, 52)], vec![(16, 30)]),
        ("a gap of the first", vec![hole(id, 4, 13, gone)], None, 16, vec![(30, 34), (50, 52)], vec![(4, 12)]),
        ("a gap over all", vec![hole(id, 4, 55, gone)], None, 55, vec![], vec![(4, 12), (16, 30), (34, 50), (52, 55)]),
    ];
    for (case, coming, refused, end, ahead, holes) in cases {
        comes_behind(&edge, id, &thrice(id, &all), (&coming, refused), case, |store| {
            let found = (store.end_offset(id), lie(store, id), holes_of(store, id));
            assert_eq!(found, (end, ahead.clone(), holes.clone()), "{case}");
        });
    }
}

#[test]
fn so_many_parts_and_no_more() {
    let (edge, id, all) = edge(60);
    on_both(|open| {
        let store = open(Options::default());
        store.create_topic_as(topic_of(&edge, id, None)).unwrap();
        let at = |n: usize| 4 * n as u64;
        let mut end = 0;
        for n in 1..=PARTS_AHEAD_MAX {
            let mut coming = vec![hole(id, end, at(n), HoleWhy::Later)];
            coming.extend(parts(&all[2 * n..2 * n + 1]));
            take(&store, id, &coming).unwrap();
            end = at(n) + 2;
        }
        let more = [hole(id, end, end + 8, HoleWhy::Later)];
        assert!(matches!(take(&store, id, &more), Err(LinkedError::Bound(_))));
        assert_eq!((lie(&store, id).len(), lie(&store, id)[0]), (PARTS_AHEAD_MAX, (4, 6)));
        store.close().unwrap();
        drop(store);
        let store = open(Options::default());
        assert_eq!(lie(&store, id).len(), PARTS_AHEAD_MAX);
        // What follows comes in order, and when one hole is full there is room for one more.
        take(&store, id, &parts(&all[end as usize / 2..end as usize / 2 + 1])).unwrap();
        take(&store, id, &parts(&all[..2])).unwrap();
        end += 2;
        take(&store, id, &[hole(id, end, end + 8, HoleWhy::Later)]).unwrap();
        take(&store, id, &parts(&all)).unwrap();
        assert_eq!((store.end_offset(id), store.digest(id), lie(&store, id)), (120, edge.digest(id), vec![]));
    });
}

#[test]
fn retention_gives_up_one_hole_after_the_other() {
    let (edge, id, all) = edge(30);
    let kept = bytes(&all[16..17]) + bytes(&all[25..26]);
    on_both(|open| {
        let store = open(Options::default());
        store.create_topic_as(topic_of(&edge, id, Some(kept))).unwrap();
        take(&store, id, &thrice(id, &all)).unwrap();
        let mut closed = 0;
        for _ in 0..9 {
            closed += store.apply_retention(0, 100, &Wait::for_ever(&|_| u64::MAX)).unwrap().closed.len();
            assert!(store.verify(&mut |_| {}).unwrap().is_clean());
        }
        // The last hole stays open: what lies behind it is kept.
        assert_eq!((closed, store.start_offset(id), store.end_offset(id)), (2, 32, 34));
        assert_eq!((lie(&store, id), store.batch_bytes()), (vec![(50, 52)], kept));
    });
}

#[test]
fn too_many_holes_give_up_as_many_as_they_are_in() {
    let (edge, id, all) = edge(2 * HOLES_MAX as u64 + 40);
    on_both(|open| {
        let store = open(Options::default());
        store.create_topic_as(topic_of(&edge, id, None)).unwrap();
        let mut coming = parts(&all[..2]);
        coming.extend([hole(id, 4, 12, HoleWhy::Later), hole(id, 12, 14, HoleWhy::Damage)]);
        coming.extend(parts(&all[7..8]));
        coming.push(hole(id, 16, 20, HoleWhy::Later));
        for n in 5..HOLES_MAX + 16 {
            coming.extend(parts(&all[2 * n..2 * n + 1]));
            let from = all[2 * n].next_offset();
            coming.push(hole(id, from, from + 2, HoleWhy::Damage));
        }
        take(&store, id, &coming).unwrap();
        let holes = store.holes(id);
        assert!(store.ahead(id).is_none() && holes.len() <= HOLES_MAX + 1, "{}", holes.len());
        assert!(store.start_offset(id) > 20 && store.start_offset(id) == holes[0].to);
        store.close().unwrap();
        drop(store);
        let store = open(Options::default());
        assert_eq!(store.holes(id), holes);
        assert!(store.verify(&mut |_| {}).unwrap().is_clean());
    });
}

#[test]
fn what_another_node_brings_in_order_goes_before_what_lies_ahead() {
    let (edge, id, all) = edge(30);
    let other = |n: u64| {
        let sealed = seal_at(id, n * 2, &[b"three", b"four"], Times { hlc: 9, first_ms: 0 }, Compression::Lz4);
        LinkedPart::Batch(StoredBatch::decode(sealed.bytes().to_vec()).unwrap())
    };
    let wide = || LinkedPart::Batch(StoredBatch::decode(seal(id, 10, &[b"x".as_slice(); 9]).bytes().to_vec()).unwrap());
    let not_next = |end, found| Some(LinkedError::NotNext { partition: id, end, found });
    let differs = |end| Some(LinkedError::Differs { partition: id, end });
    let run = |from: usize, to: usize| parts(&all[from..to]);
    let with = |mut coming: Vec<LinkedPart>, more: Vec<LinkedPart>| {
        coming.extend(more);
        coming
    };
    // what comes, why it is refused, which parts are dropped; then: end, what lies ahead
    type Case = (&'static str, Vec<LinkedPart>, Option<LinkedError>, Vec<(u64, u64)>, u64, Vec<(u64, u64)>);
    let three = vec![(12, 16), (30, 34), (50, 52)];
    let cases: Vec<Case> = vec![
        ("some of the hole", run(1, 5), None, vec![], 10, three.clone()),
        ("up to what lies ahead", run(2, 6), None, vec![(12, 16)], 12, three[1..].to_vec()),
        ("the same as what lies ahead", run(2, 9), None, vec![(12, 16)], 18, three[1..].to_vec()),
        ("another one there", with(run(2, 6), vec![other(6), other(7)]), None, vec![(12, 16)], 16, three[1..].to_vec()),
        ("one that reaches into it", with(run(2, 5), vec![wide()]), None, vec![(12, 16)], 19, three[1..].to_vec()),
        (
            "a gap over two",
            vec![hole(id, 4, 32, HoleWhy::Retention), other(16)],
            None,
            vec![(12, 16), (30, 34)],
            34,
            three[2..].to_vec(),
        ),
        ("all", run(0, 30), None, three.clone(), 60, vec![]),
        ("behind what lies ahead", run(8, 9), not_next(4, 16), vec![], 4, three.clone()),
        ("what is wrong at its end", with(run(2, 9), run(20, 21)), not_next(18, 40), vec![], 4, three.clone()),
        ("another one before the end", vec![other(1)], differs(4), vec![], 4, three.clone()),
    ];
    for (case, coming, refused, dropped, end, ahead) in cases {
        on_both(|open| {
            let store = open(Options::default());
            store.create_topic_as(topic_of(&edge, id, None)).unwrap();
            let linked = Linked { link: 5, hlc: 0, path: vec![1] };
            // A hole in the first part, and all of it late.
            let mut first = thrice(id, &all);
            first[4] = hole(id, 14, 16, HoleWhy::Deadline);
            store.take_linked_late(id.origin, &linked, &first, 8).unwrap();
            let taken = store.take_linked_in_order(id.origin, &linked, &coming, 0);
            assert_eq!(store.dropped_ahead(id), u64::from(!dropped.is_empty()), "{case}");
            let told = taken.as_ref().ok().map(|all| all.iter().map(|(_, part)| (part.from, part.end)).collect());
            assert_eq!((&taken.err(), told.unwrap_or_default()), (&refused, dropped.clone()), "{case}");
            let check = |store: &Store| {
                assert_eq!((store.end_offset(id), lie(store, id)), (end, ahead.clone()), "{case}");
                assert_eq!(store.holes(id).iter().any(|hole| hole.from == 14), ahead.len() == 3, "{case}");
                let late: Vec<_> = (4..52).filter(|offset| store.is_late(id, *offset)).collect();
                let parts: Vec<u64> = ahead.iter().flat_map(|(from, end)| *from..*end).collect();
                assert_eq!(late, parts.into_iter().filter(|at| !(14..16).contains(at)).collect::<Vec<_>>(), "{case}");
                let read = store.read_back(id, u64::MAX, usize::MAX).unwrap();
                assert!(store.verify(&mut |_| {}).unwrap().is_clean(), "{case}");
                let ahead: u64 = store.parts_ahead(id).iter().map(|part| part.bytes).sum();
                assert_eq!(store.batch_bytes(), bytes(&read) + ahead, "{case}");
            };
            check(&store);
            store.close().unwrap();
            drop(store);
            check(&open(Options::default()));
        });
    }
}

#[test]
fn no_gap_passes_over_events_that_came_meanwhile() {
    let (edge, id, all) = edge(10);
    let gap = |from, to| hole(id, from, to, HoleWhy::Retention);
    let over = |end, found| Some(LinkedError::NotNext { partition: id, end, found });
    let run = |from: usize, to: usize| parts(&all[from..to]);
    let with = |gap: LinkedPart, more: Vec<LinkedPart>| [gap].into_iter().chain(more).collect::<Vec<_>>();
    let (eight, behind) = (run(0, 4), run(0, 4).into_iter().chain([gap(8, 12)]).collect::<Vec<_>>());
    // what is there, what comes, why it is refused, where the partition ends then, its gaps
    let cases = [
        ("on behind the end", &eight, with(gap(4, 12), run(6, 7)), over(8, 4), 8, vec![]),
        ("up to the end", &eight, with(gap(4, 8), run(4, 5)), over(8, 4), 8, vec![]),
        ("some of it", &eight, with(gap(4, 6), run(3, 5)), over(8, 4), 8, vec![]),
        ("behind the end", &eight, with(gap(8, 12), run(6, 7)), None, 14, vec![(8, 12)]),
        ("the same once more", &behind, with(gap(8, 12), run(6, 7)), None, 14, vec![(8, 12)]),
        ("the same, and longer", &behind, with(gap(8, 14), run(7, 8)), None, 16, vec![(8, 14)]),
        ("an event, and the same", &behind, with(gap(7, 12), run(6, 7)), over(12, 7), 12, vec![(8, 12)]),
    ];
    for (case, first, coming, refused, end, holes) in cases {
        on_both(|open| {
            let store = open(Options::default());
            store.create_topic_as(topic_of(&edge, id, None)).unwrap();
            take(&store, id, first).unwrap();
            let linked = Linked { link: 5, hlc: 0, path: vec![1] };
            let taken = store.take_linked_in_order(id.origin, &linked, &coming, 0);
            let found = (&taken.err(), store.end_offset(id), holes_of(&store, id));
            assert_eq!(found, (&refused, end, holes.clone()), "{case}");
            assert!(store.verify(&mut |_| {}).unwrap().is_clean(), "{case}");
        });
        // So it is with what a link brings, where nothing lies ahead; and an open hole is opened behind them.
        on_both(|open| {
            let store = open(Options::default());
            store.create_topic_as(topic_of(&edge, id, None)).unwrap();
            take(&store, id, first).unwrap();
            let taken = take(&store, id, &coming);
            let found = (&taken.err(), store.end_offset(id), holes_of(&store, id));
            assert_eq!(found, (&refused, end, holes.clone()), "{case}");
            take(&store, id, &[hole(id, 4, 18, HoleWhy::Later)]).unwrap();
            assert_eq!((store.end_offset(id), lie(&store, id)), (end, vec![(18, 18)]), "{case}");
        });
    }
}

#[test]
fn what_comes_in_order_once_more_is_the_same_all_of_it() {
    let (edge, id, all) = edge(10);
    let of = |from: u64, to: u64, hlc| {
        let values: Vec<&[u8]> = (from..to).map(|_| b"x".as_slice()).collect();
        let sealed = seal_at(id, from, &values, Times { hlc, first_ms: 0 }, Compression::Lz4);
        LinkedPart::Batch(StoredBatch::decode(sealed.bytes().to_vec()).unwrap())
    };
    let mut first = parts(&all[..2]);
    first.push(hole(id, 4, 8, HoleWhy::Retention));
    first.extend(parts(&all[4..5]));
    let differs = |end| Some(LinkedError::Differs { partition: id, end });
    // what comes, and why it is refused: there are batches with a clock of 7 from 0, 2 and 8 on
    let cases = [
        ("the same", of(2, 4, 7), None),
        ("another clock", of(2, 4, 8), differs(4)),
        ("less of it", of(2, 3, 7), differs(3)),
        ("the end of it", of(3, 4, 7), differs(4)),
        ("two in one", of(0, 4, 7), differs(4)),
        ("on into the gap", of(2, 6, 7), differs(6)),
        ("in the gap", of(5, 7, 9), None),
        ("all of the gap", of(4, 8, 9), None),
        ("out of the gap", of(6, 10, 7), differs(10)),
        ("over all", of(2, 10, 7), differs(10)),
    ];
    for (case, coming, refused) in cases {
        on_both(|open| {
            let store = open(Options::default());
            store.create_topic_as(topic_of(&edge, id, None)).unwrap();
            take(&store, id, &first).unwrap();
            let linked = Linked { link: 5, hlc: 0, path: vec![1] };
            let taken = store.take_linked_in_order(id.origin, &linked, &[coming.clone(), of(10, 12, 9)], 0);
            let end = if refused.is_none() { 12 } else { 10 };
            assert_eq!((&taken.err(), store.end_offset(id)), (&refused, end), "{case}");
        });
    }
}

#[test]
fn what_is_newer_than_the_part_that_it_would_come_to_is_of_another_log() {
    let (edge, id, all) = edge(30);
    let of = |n: u64, hlc| {
        let sealed = seal_at(id, n * 2, &[b"three", b"four"], Times { hlc, first_ms: 0 }, Compression::Lz4);
        LinkedPart::Batch(StoredBatch::decode(sealed.bytes().to_vec()).unwrap())
    };
    let filled = |n: usize, more: LinkedPart| parts(&all[2..n]).into_iter().chain([more]).collect::<Vec<_>>();
    let differs = |end| Some(LinkedError::Differs { partition: id, end });
    let three = vec![(12, 16), (30, 34), (50, 52)];
    // what comes, why it is refused; then: end, what lies ahead. All that is there has a clock of 7
    let cases = [
        ("newer, before it", filled(4, of(4, 9)), None, 10, three.clone()),
        ("newer", filled(5, of(5, 9)), differs(12), 4, three.clone()),
        ("of the same commit", filled(5, of(5, 7)), None, 16, three[1..].to_vec()),
        ("older", filled(5, of(5, 6)), None, 16, three[1..].to_vec()),
        (
            "newer, behind the first part",
            parts(&all[8..14]).into_iter().chain([of(14, 8)]).collect(),
            differs(30),
            4,
            three.clone(),
        ),
        (
            "newer, and a gap is told between",
            vec![of(2, 9), hole(id, 6, 12, HoleWhy::Damage)],
            None,
            16,
            three[1..].to_vec(),
        ),
    ];
    for (case, coming, refused, end, ahead) in cases {
        comes_behind(&edge, id, &thrice(id, &all), (&coming, refused), case, |store| {
            assert_eq!((store.end_offset(id), lie(store, id)), (end, ahead.clone()), "{case}");
        });
    }
}

#[test]
fn a_gap_between_what_is_newer_and_a_part_ahead_lies_between_two_logs() {
    let (edge, id, all) = edge(30);
    let of = |n: u64, hlc| {
        let sealed = seal_at(id, n * 2, &[b"three", b"four"], Times { hlc, first_ms: 0 }, Compression::Lz4);
        LinkedPart::Batch(StoredBatch::decode(sealed.bytes().to_vec()).unwrap())
    };
    let gap = |from, to| hole(id, from, to, HoleWhy::Retention);
    let with = |some: Vec<LinkedPart>, more: Vec<LinkedPart>| some.into_iter().chain(more).collect::<Vec<_>>();
    let first = || parts(&all[2..4]);
    let differs = |end| Some(LinkedError::Differs { partition: id, end });
    let three = vec![(12, 16), (30, 34), (50, 52)];
    // what has come before, what comes, why it is refused; then: end, what lies ahead. All that is there has a clock of 7
    let cases = [
        ("in one call", vec![], with(first(), vec![of(4, 9), gap(10, 12)]), differs(12), 4, three.clone()),
        ("in the next", with(first(), vec![of(4, 9)]), vec![gap(10, 12)], differs(12), 10, three.clone()),
        ("too old to be sent", vec![of(2, 9)], vec![hole(id, 6, 12, HoleWhy::Deadline)], differs(12), 6, three.clone()),
        ("behind another gap", vec![of(2, 9), gap(6, 8)], vec![gap(8, 12)], differs(12), 8, three.clone()),
        ("over the part, and more", vec![of(2, 9)], vec![gap(6, 60)], differs(12), 6, three.clone()),
        ("behind the first part", vec![], vec![of(8, 9), gap(18, 30)], differs(30), 4, three.clone()),
        ("and in the next", vec![of(8, 9)], vec![gap(18, 30)], differs(30), 4, vec![(12, 18), (30, 34), (50, 52)]),
        ("told as damage", vec![of(2, 9)], vec![hole(id, 6, 12, HoleWhy::Damage)], None, 16, three[1..].to_vec()),
        ("of the same commit", vec![of(2, 7)], vec![gap(6, 12)], None, 16, three[1..].to_vec()),
        ("older", vec![of(2, 6)], vec![gap(6, 12)], None, 16, three[1..].to_vec()),
        ("up to the midst", vec![of(2, 9)], vec![gap(6, 10)], None, 10, three.clone()),
    ];
    for (case, before, coming, refused, end, ahead) in cases {
        comes_behind(&edge, id, &with(thrice(id, &all), before), (&coming, refused), case, |store| {
            assert_eq!((store.end_offset(id), lie(store, id)), (end, ahead.clone()), "{case}");
        });
    }
}

//! Partitions merged back into commits: whatever their number and sizes, in order, each batch once, in bounded memory.

use std::collections::BTreeMap;
use std::sync::Arc;

use sled_data::{
    HoleWhy, LINKED_NEW_PARTITIONS_MAX, LinkedPart, MemoryBackend, Options, PartitionId, Store, TopicConfig,
};

use super::{Fill, Lanes, Moment, WINDOWS_BYTES_MAX};
use crate::clock::Clock;
use crate::event_log::{Config, EventLog, NO_HEADERS, NewEvent};

fn log() -> Arc<EventLog> {
    let backend = Arc::new(MemoryBackend::new());
    let (store, _) = Store::on(backend, Options { seed: Some(7), ..Options::default() }).unwrap();
    let log = EventLog::open(Arc::new(store), Arc::new(Clock::starting_after(0)), Config::default()).unwrap();
    let config = TopicConfig { partitions: 60, ..TopicConfig::default() };
    log.create_topic("t", config).unwrap();
    log
}

/// One commit with events of so many random bytes in these partitions.
fn commit(log: &EventLog, partitions: &[u32], bytes: usize, random: &mut u64) {
    let topic = log.topic("t").unwrap();
    let ticket = {
        let mut open = log.lock();
        for index in partitions {
            let mut value = vec![0_u8; bytes];
            value.iter_mut().for_each(|byte| *byte = below(random, 256) as u8);
            let event = NewEvent {
                timestamp_ms: 1,
                key: None,
                value: Some(&value),
                headers: &NO_HEADERS,
                extra: &NO_HEADERS,
                fanned_out: false,
            };
            open.append(&topic, *index, &event).unwrap();
        }
        open.ticket()
    };
    log.durable_blocking(ticket).unwrap();
}

/// SplitMix64.
fn below(random: &mut u64, bound: u64) -> u64 {
    *random = random.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *random;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (mixed ^ (mixed >> 31)) % bound
}

fn lanes(log: &EventLog) -> Lanes {
    let mut lanes = Lanes::default();
    let topic = log.topic("t").unwrap();
    topic.all_partitions().iter().for_each(|partition| lanes.add(Arc::clone(partition), 0, 0));
    lanes
}

/// Takes all there is, and sees that clocks never fall, that offsets follow one another, and that no commit is torn.
fn drain(log: &EventLog, lanes: &mut Lanes, next: &mut BTreeMap<PartitionId, u64>, bytes_max: usize) -> u64 {
    let (mut last, mut events) = (0, 0);
    while let Some(round) = lanes.next_round(log.store(), bytes_max, &|| 0).unwrap() {
        assert!(lanes.bytes <= WINDOWS_BYTES_MAX, "{} bytes are held", lanes.bytes);
        assert_eq!(
            lanes.bytes,
            lanes.streams.values().flat_map(|s| s.lanes.values()).map(|l| l.bytes()).sum::<usize>()
        );
        events += round.events;
        let first = round.parts.iter().find_map(|part| match part {
            LinkedPart::Batch(batch) => Some(batch.envelope().hlc),
            LinkedPart::Hole(..) => None,
        });
        assert!(first.is_none_or(|first| first > last), "a commit is torn");
        for part in &round.parts {
            let (id, from, to) = match part {
                LinkedPart::Batch(batch) => {
                    let hlc = batch.envelope().hlc;
                    assert!(hlc >= last, "{hlc} after {last}");
                    last = hlc;
                    (batch.envelope().partition, batch.base_offset(), batch.next_offset())
                }
                LinkedPart::Hole(id, hole) => (*id, hole.from, hole.to),
            };
            let expected = next.entry(id).or_default();
            assert_eq!(from, *expected, "{id}");
            *expected = to;
        }
        for (id, end) in &round.ends {
            assert_eq!(next[id], *end);
        }
    }
    events
}

#[test]
fn commits_come_in_their_order_from_all_partitions() {
    for seed in 0..8 {
        let (log, mut random) = (log(), seed);
        let mut lanes = lanes(&log);
        let (mut next, mut appended, mut taken) = (BTreeMap::new(), 0, 0);
        for _ in 0..12 {
            for _ in 0..below(&mut random, 30) {
                let count = 1 + below(&mut random, 5);
                let partitions: Vec<u32> = (0..count).map(|_| below(&mut random, 60) as u32).collect();
                appended += partitions.len() as u64;
                commit(&log, &partitions, 200, &mut random);
            }
            let bytes_max = 300 + below(&mut random, 20_000) as usize;
            taken += drain(&log, &mut lanes, &mut next, bytes_max);
            assert_eq!(taken, appended, "seed {seed}");
        }
        log.close();
    }
}

#[test]
fn many_large_batches_are_held_a_few_at_a_time() {
    let (log, mut random) = (log(), 5);
    let all: Vec<u32> = (0..60).collect();
    // Some 20 MB of what does not compress, in turns and together.
    for turn in 0..6 {
        for index in &all {
            commit(&log, &[*index], if turn % 2 == 0 { 60_000 } else { 20_000 }, &mut random);
        }
        commit(&log, &all[..20], 30_000, &mut random);
    }
    let events = drain(&log, &mut lanes(&log), &mut BTreeMap::new(), 256 << 10);
    assert_eq!(events, 6 * 80);
    log.close();
}

#[test]
fn what_was_trimmed_is_a_hole_in_its_place() {
    let (log, mut random) = (log(), 5);
    (0..10).for_each(|_| commit(&log, &[0, 1], 100, &mut random));
    let topic = log.topic("t").unwrap();
    let id = topic.partition(0).unwrap().id();
    log.store().trim(id, 4, 100).unwrap();
    let (mut lanes, mut next) = (lanes(&log), BTreeMap::new());
    assert_eq!(drain(&log, &mut lanes, &mut next, 1 << 20), 16);
    // All of it, while it is being read.
    (0..3).for_each(|_| commit(&log, &[0, 1], 100, &mut random));
    log.store().trim(id, 13, 100).unwrap();
    assert_eq!((drain(&log, &mut lanes, &mut next, 1 << 20), next[&id]), (3, 13));
    lanes.remove(id);
    assert_eq!(lanes.bytes, 0);
    log.close();
}

#[test]
fn what_is_too_old_is_a_hole_and_what_is_missing_besides_keeps_its_reason() {
    let (log, mut random) = (log(), 5);
    (0..40).for_each(|_| commit(&log, &[0, 1], 30_000, &mut random));
    let id = |index| log.topic("t").unwrap().partition(index).unwrap().id();
    log.store().trim(id(1), 5, 100).unwrap();
    let at = |offset| log.store().read(id(0), offset, 1).unwrap()[0].envelope().hlc;
    let ms = |offset| at(offset) >> sled_data::HLC_LOGICAL_BITS;
    // By a clock of another life, which may be of any time.
    let origins = |of: u64| Moment { wall_ms: ms(of) + 80_000, up_ms: u64::MAX, began_after: 0 };
    let mut lanes = Lanes::default();
    [0, 1].into_iter().for_each(|index| lanes.add(log.partition(id(index)).unwrap(), 0, 80_000));
    // All commits are of a second or two: with the first that is too old, all go that are within an eighth of that.
    lanes.at(Moment { wall_ms: origins(5).wall_ms + 1, ..origins(5) });
    let (mut next, mut holes, mut dropped) = (BTreeMap::new(), Vec::new(), (0, 0));
    while let Some(round) = lanes.next_round(log.store(), 1 << 20, &|| 0).unwrap() {
        dropped = (dropped.0 + round.dropped.0, dropped.1 + round.dropped.1);
        assert_eq!(round.events, 0);
        for part in round.parts {
            let LinkedPart::Hole(id, hole) = part else { panic!("{part:?} is too old") };
            assert_eq!(*next.get(&id).unwrap_or(&0), hole.from, "{id}");
            next.insert(id, hole.to);
            holes.push((id.index, hole.from, hole.to, hole.why));
        }
    }
    holes.sort_unstable();
    let (late, gone) = (HoleWhy::Deadline, HoleWhy::Retention);
    assert_eq!(holes, [(0, 0, 40, late), (1, 0, 5, gone), (1, 5, 40, late)]);
    assert_eq!(dropped.0, 75);
    let stored: u64 = [0, 1].map(|index| log.store().reach(id(index)).bytes).into_iter().sum();
    assert!(dropped.1.abs_diff(stored) < stored / 100, "{} of {stored} bytes", dropped.1);
    assert_eq!(lanes.bytes, 0);
    // Not yet: nothing is dropped. Nor where there is no deadline.
    for (drop_after_ms, early) in [(80_000, 0), (0, 1)] {
        let mut lanes = Lanes::default();
        lanes.add(log.partition(id(0)).unwrap(), 0, drop_after_ms);
        lanes.at(Moment { wall_ms: origins(0).wall_ms + early * 1_000_000, ..origins(0) });
        assert_eq!(drain(&log, &mut lanes, &mut BTreeMap::new(), 1 << 20), 40);
    }
    log.close();
}

#[test]
fn a_commit_of_more_partitions_than_a_frame_may_begin_comes_in_two() {
    let (log, mut random) = (log(), 5);
    let more = 17;
    for n in 0..more {
        log.create_topic(&format!("wide-{n}"), TopicConfig { partitions: 60, ..TopicConfig::default() }).unwrap();
    }
    let all: Vec<_> = log.topics().iter().flat_map(|topic| topic.all_partitions().to_vec()).collect();
    let all: Vec<_> = all.into_iter().filter(|partition| !partition.topic().starts_with('_')).collect();
    assert_eq!(all.len(), 60 * (more + 1));
    let mut lanes = Lanes::default();
    all.iter().for_each(|partition| lanes.add(Arc::clone(partition), 0, 0));
    // Twice: what is not new to the other side is bounded too.
    for turn in 0..2 {
        let ticket = {
            let mut open = log.lock();
            for partition in &all {
                let topic = log.topic_by_id(partition.id().topic).unwrap();
                let value = below(&mut random, 256).to_le_bytes();
                let event = NewEvent {
                    timestamp_ms: 1,
                    key: None,
                    value: Some(&value),
                    headers: &NO_HEADERS,
                    extra: &NO_HEADERS,
                    fanned_out: false,
                };
                open.append(&topic, partition.id().index, &event).unwrap();
            }
            open.ticket()
        };
        log.durable_blocking(ticket).unwrap();
        let mut counts = Vec::new();
        while let Some(round) = lanes.next_round(log.store(), 512 << 10, &|| 0).unwrap() {
            assert_eq!(round.ends.len(), round.parts.len());
            counts.push(round.parts.len());
        }
        assert_eq!(counts, [LINKED_NEW_PARTITIONS_MAX, all.len() - LINKED_NEW_PARTITIONS_MAX], "turn {turn}");
    }
    log.close();
}

type Given = (u64, u64, Option<HoleWhy>);

/// All that lanes give, in rounds of three batches or so.
fn given(log: &EventLog, lanes: &mut Lanes) -> Vec<Given> {
    let mut found = Vec::new();
    while let Some(round) = lanes.next_round(log.store(), 300, &|| 0).unwrap() {
        found.extend(round.parts.iter().map(|part| match part {
            LinkedPart::Batch(batch) => (batch.base_offset(), batch.next_offset(), None),
            LinkedPart::Hole(_, hole) => (hole.from, hole.to, Some(hole.why)),
        }));
    }
    found
}

#[test]
fn a_fill_passes_over_what_upstream_has() {
    let log = log();
    let mut random = 5;
    (0..20).for_each(|_| commit(&log, &[3], 50, &mut random));
    let partition = Arc::clone(&log.topic("t").unwrap().all_partitions()[3]);
    let parts = [(7, 9), (12, 13), (18, 25)];
    let runs = |runs: &[std::ops::Range<u64>], gaps: &[(u64, u64)]| {
        let mut all: Vec<Given> = runs.iter().cloned().flatten().map(|at| (at, at + 1, None)).collect();
        all.extend(gaps.iter().map(|(from, to)| (*from, *to, Some(HoleWhy::Damage))));
        all.sort_unstable_by_key(|(from, ..)| *from);
        all
    };
    let alone =
        |from, parts: &[(u64, u64)], place, is_same, has_ended| Fill::alone(from, parts, place, (is_same, has_ended));
    // from, and how it fills; what it gives
    let cases = [
        ((4, Fill::up_to(18, &parts)), runs(&[4..7, 9..12, 13..18], &[])),
        ((4, Fill::up_to(15, &parts)), runs(&[4..7, 9..12, 13..15], &[])),
        ((8, Fill::up_to(18, &parts)), runs(&[9..12, 13..18], &[])),
        ((12, Fill::up_to(30, &[(12, 12), (15, 22)])), runs(std::slice::from_ref(&(12..15)), &[])),
        (alone(4, &parts, 1, true, false), runs(&[4..7, 9..12], &[])),
        (alone(4, &parts, 2, true, true), runs(&[4..7, 9..12, 13..18], &[])),
        (alone(4, &parts, 2, false, true), runs(&[4..7, 9..12, 13..17], &[(17, 18)])),
        // Of one that gets no more what lies behind what is not the same goes first, as gaps.
        (alone(4, &parts, 1, true, true), runs(&[], &[(13, 18)])),
        (alone(4, &parts, 0, false, true), runs(&[], &[(9, 12), (13, 18)])),
        (alone(4, &[(7, 9), (23, 25)], 1, true, true), runs(&[4..7, 9..20], &[(20, 23)])),
        (alone(4, &[(7, 9), (23, 25), (30, 31)], 1, true, true), runs(&[], &[(25, 30)])),
    ];
    for ((from, fill), expected) in cases {
        let mut lanes = Lanes::default();
        lanes.add_fill(Arc::clone(&partition), from, fill.clone(), 0);
        assert_eq!(given(&log, &mut lanes), expected, "{from} {fill:?}");
    }
    // What is gone here is told up to what upstream has, and no further.
    log.store().trim(partition.id(), 11, 99).unwrap();
    let mut lanes = Lanes::default();
    lanes.add_fill(partition, 4, Fill::up_to(18, &parts), 0);
    let gone = |from, to| (from, to, Some(HoleWhy::Retention));
    let expected = [vec![gone(4, 7), gone(9, 11)], runs(&[11..12, 13..18], &[])].concat();
    assert_eq!(given(&log, &mut lanes), expected);
    log.close();
}

#[test]
fn a_lane_that_skips_tells_it_and_one_that_fills_ends_there() {
    let log = log();
    let mut random = 5;
    // Offsets 0 to 19 of one partition, an event each.
    (0..20).for_each(|_| commit(&log, &[3], 50, &mut random));
    let partition = Arc::clone(&log.topic("t").unwrap().all_partitions()[3]);
    let given = |lanes: &mut Lanes| given(&log, lanes);
    let mut ahead = Lanes::default();
    ahead.add_ahead(Arc::clone(&partition), (4, 15), 0);
    let mut expected = vec![(4, 15, Some(HoleWhy::Later))];
    expected.extend((15..20).map(|at| (at, at + 1, None)));
    assert_eq!(given(&mut ahead), expected);
    commit(&log, &[3], 50, &mut random);
    assert_eq!(given(&mut ahead), [(20, 21, None)]);
    // from, up to where, whether no more is written, what of it is told as a gap
    for (from, to, has_ended, gap) in [
        (4, 15, false, None),
        (4, 15, true, None),
        (15, 15, false, None),
        (18, 25, true, Some(21)),
        (21, 25, true, Some(21)),
        (18, 25, false, None),
    ] {
        let mut fill = Lanes::default();
        fill.add_fill(Arc::clone(&partition), from, Fill::alone(from, &[(to, to + 9)], 0, (true, has_ended)).1, 0);
        let mut expected: Vec<_> = (from..to.min(21)).map(|at| (at, at + 1, None)).collect();
        expected.extend(gap.map(|gap| (gap, to, Some(HoleWhy::Damage))));
        assert_eq!(given(&mut fill), expected, "{from} {to} {has_ended}");
    }
    // A batch that reaches over the end of a fill is of another log than what upstream has there.
    let ticket = {
        let mut open = log.lock();
        for _ in 0..4 {
            let event = NewEvent {
                timestamp_ms: 1,
                key: None,
                value: Some(b"x"),
                headers: &NO_HEADERS,
                extra: &NO_HEADERS,
                fanned_out: false,
            };
            open.append(&log.topic("t").unwrap(), 3, &event).unwrap();
        }
        open.ticket()
    };
    log.durable_blocking(ticket).unwrap();
    let mut fill = Lanes::default();
    fill.add_fill(Arc::clone(&partition), 20, Fill::alone(20, &[(23, 29)], 0, (true, true)).1, 0);
    assert_eq!(given(&mut fill), [(20, 21, None), (21, 23, Some(HoleWhy::Damage))]);
    // So is all from some batch on that is not known: a gap is told before what upstream has there.
    fill.add_fill(partition, 17, Fill::alone(17, &[(20, 29)], 0, (false, true)).1, 0);
    assert_eq!(given(&mut fill), [(17, 18, None), (18, 19, None), (19, 20, Some(HoleWhy::Damage))]);
    log.close();
}

#[test]
fn what_is_not_known_to_be_the_same_is_told_as_that_whatever_is_missing_before_it() {
    let log = log();
    let mut random = 5;
    (0..20).for_each(|_| commit(&log, &[3], 50, &mut random));
    let partition = Arc::clone(&log.topic("t").unwrap().all_partitions()[3]);
    log.store().trim(partition.id(), 11, 99).unwrap();
    let old = Moment { wall_ms: u64::MAX >> sled_data::HLC_LOGICAL_BITS, up_ms: u64::MAX, began_after: 0 };
    let (gone, late, parted) = (HoleWhy::Retention, HoleWhy::Deadline, HoleWhy::Damage);
    // from, where what is of another log begins, the deadline; the gaps that are told
    let cases = [
        (4, 9, 0, vec![(4, 8, Some(gone)), (8, 9, Some(parted))]),
        (12, 18, 80_000, vec![(12, 17, Some(late)), (17, 18, Some(parted))]),
        (4, 18, 80_000, vec![(4, 11, Some(gone)), (11, 17, Some(late)), (17, 18, Some(parted))]),
    ];
    for (from, begins, drop_after_ms, expected) in cases {
        let mut lanes = Lanes::default();
        let (from, fill) = Fill::alone(from, &[(begins, begins + 7)], 0, (false, true));
        lanes.add_fill(Arc::clone(&partition), from, fill, drop_after_ms);
        lanes.at(old);
        assert_eq!(given(&log, &mut lanes), expected, "{from} {begins}");
    }
    log.close();
}

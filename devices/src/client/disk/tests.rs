//! The buffer on disk, through the outbox: crashes, damage, rotation, bounds.

use std::fs;
use std::path::{Path, PathBuf};

use super::*;
use crate::client::config::{Buffer, Overflow};
use crate::client::outbox::bench::{AGAIN, Bench};
use crate::client::outbox::{Done, Fate, New, NotTaken, Outbox, Priority, Qos};
use crate::sequence::{Lane, Number};

const SEGMENT_BYTES: u64 = 4 << 10;

fn disk(folder: &Path) -> Disk {
    Disk { segment_bytes: SEGMENT_BYTES, bytes_max: 1 << 20, sync: Sync::Never, ..Disk::new(folder) }
}

fn open_as(disk: &Disk, overflow: Overflow) -> Bench {
    let store = Store::open(disk, None, 1_000).unwrap();
    let limits = Buffer { publishes_max: 10, bytes_max: 1_000, overflow };
    let mut bench = Bench::of(Outbox::new(limits, store.boot(), Some(store)));
    (bench.window.most, bench.window.packet_ids) = (usize::MAX, false);
    bench
}

fn open(folder: &Path) -> Bench {
    open_as(&disk(folder), Overflow::Refuse)
}

fn segments(folder: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    let mut segments: Vec<PathBuf> = files.filter(|path| path.extension().is_some_and(|e| e == "segment")).collect();
    segments.sort();
    segments
}

fn damaged(bench: &mut Bench) -> (u64, u64) {
    bench.outbox.store().unwrap().damaged()
}

/// A folder that a crash left, with publishes of these names in one segment.
fn crashed(names: std::ops::Range<u32>) -> (tempfile::TempDir, PathBuf) {
    let home = tempfile::tempdir().unwrap();
    let mut bench = open(home.path());
    names.for_each(|n| bench.push(n).unwrap());
    drop(bench);
    let [segment] = &segments(home.path())[..] else { panic!("one segment") };
    let segment = segment.clone();
    (home, segment)
}

#[test]
fn what_was_taken_is_there_after_a_crash_and_numbers_rise() {
    let home = tempfile::tempdir().unwrap();
    let mut bench = open(home.path());
    (0..2_000).for_each(|n| bench.push(n).unwrap());
    bench.push_as(7_000, Qos::AtMostOnce, Priority::Urgent, false).unwrap();
    bench.push_as(9_000, Qos::AtLeastOnce, Priority::Urgent, true).unwrap();
    assert_eq!(bench.outbox.len(), 2_002);
    assert_eq!(bench.outbox.boot(), 1_000, "the first boot is the clock's");
    drop(bench);
    let mut bench = open(home.path());
    assert_eq!((bench.outbox.len(), bench.outbox.boot()), (2_001, 1_001));
    (2_000..2_100).for_each(|n| bench.push(n).unwrap());
    let expected: Vec<u32> = std::iter::once(9_000).chain(0..2_100).collect();
    assert_eq!(bench.handed(), expected, "without what may be lost");
    assert!(bench.window.taken[1..].is_sorted_by_key(|(_, number)| *number));
    assert_eq!(bench.window.taken[2_100].1, Number { boot: 1_001, seq: 99 });
}

#[test]
fn what_is_acknowledged_is_not_sent_again_after_a_stop_and_is_after_a_crash() {
    for stops in [true, false] {
        let home = tempfile::tempdir().unwrap();
        let mut bench = open(home.path());
        (0..10).for_each(|n| bench.push(n).unwrap());
        bench.handed();
        bench.outbox.acked_up_to(Lane::NORMAL, Number { boot: 1_000, seq: 6 });
        if stops {
            bench.outbox.drain();
            assert_eq!(bench.fates().last(), Some(&(9, Fate::Stopped)));
        }
        drop(bench);
        let mut bench = open(home.path());
        let first = if stops { 7 } else { 0 };
        assert_eq!(bench.handed(), (first..10).collect::<Vec<_>>());
        bench.outbox.disconnected();
        bench.outbox.known(&[(Lane::NORMAL, Number { boot: 1_000, seq: 8 })]);
        assert_eq!(bench.handed(), [9], "the node says what it has");
    }
}

#[test]
fn a_last_record_that_is_torn_at_any_byte_is_cut_off() {
    let (home, segment) = crashed(0..3);
    let whole = fs::read(&segment).unwrap();
    let record = (whole.len() as u64 - segment::HEAD_BYTES) / 3;
    for cut in whole.len() - record as usize..whole.len() {
        let copy = tempfile::tempdir().unwrap();
        let torn = copy.path().join(segment.file_name().unwrap());
        fs::write(&torn, &whole[..cut]).unwrap();
        let mut bench = open(copy.path());
        assert_eq!(bench.outbox.len(), 2, "cut at {cut}");
        assert_eq!(damaged(&mut bench), (0, 0), "a torn end is no damage");
        bench.push(9).unwrap();
        drop(bench);
        assert_eq!(segments(copy.path()).len(), 1, "written on");
        assert_eq!(open(copy.path()).handed(), [0, 1, 9], "cut at {cut}");
    }
    drop(home);
}

#[test]
fn a_head_that_is_torn_is_thrown_away_and_one_that_is_damaged_is_told() {
    let (home, segment) = crashed(0..1);
    let whole = fs::read(&segment).unwrap();
    fs::write(&segment, &whole[..19]).unwrap();
    let mut bench = open(home.path());
    assert_eq!((bench.outbox.len(), damaged(&mut bench), segments(home.path()).len()), (0, (0, 0), 0));
    drop(bench);
    fs::write(&segment, [&b"X"[..], &whole[1..]].concat()).unwrap();
    let mut bench = open(home.path());
    assert_eq!((bench.outbox.len(), damaged(&mut bench)), (1, (1, 0)));
    bench.push(1).unwrap();
    assert_eq!((bench.handed(), segments(home.path()).len()), (vec![0, 1], 2));
}

#[test]
fn damage_loses_what_it_hits_is_counted_and_never_stops_the_client() {
    let (home, segment) = crashed(0..5);
    let whole = fs::read(&segment).unwrap();
    let record = (whole.len() - segment::HEAD_BYTES as usize) / 5;
    let second = segment::HEAD_BYTES as usize + record;
    for at in second..second + record {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x21;
        fs::write(&segment, bytes).unwrap();
        let mut bench = open(home.path());
        assert_eq!(damaged(&mut bench), (1, record as u64), "byte {at}");
        assert_eq!(bench.handed(), [0, 2, 3, 4], "byte {at}");
    }
    // Noise to the end of a segment that is not the last.
    let mut bytes = whole.clone();
    bytes[second..].fill(0xa5);
    fs::write(&segment, bytes).unwrap();
    fs::write(home.path().join("1-00000000000000000009.segment"), &whole).unwrap();
    let mut bench = open(home.path());
    assert_eq!(damaged(&mut bench), (1, 4 * record as u64));
    assert_eq!(bench.handed(), [0, 0, 1, 2, 3, 4]);
}

#[test]
fn damage_after_the_start_is_told_to_those_who_wait() {
    let home = tempfile::tempdir().unwrap();
    let mut bench = open(home.path());
    (0..600).for_each(|n| bench.push(n).unwrap());
    let last = segments(home.path()).pop().unwrap();
    let mut bytes = fs::read(&last).unwrap();
    let records = bytes.len() - segment::HEAD_BYTES as usize;
    bytes[segment::HEAD_BYTES as usize..].fill(0);
    fs::write(&last, bytes).unwrap();
    let handed = bench.handed();
    let lost: Vec<(u32, Fate)> = (handed.len() as u32..600).map(|n| (n, Fate::Damaged)).collect();
    assert!(!lost.is_empty());
    assert_eq!(bench.fates(), lost);
    assert_eq!(damaged(&mut bench), (lost.len() as u64, records as u64));
    bench.push(600).unwrap();
    assert_eq!(bench.handed(), [600]);
}

#[test]
fn segments_follow_each_other_and_are_deleted_when_acknowledged() {
    let home = tempfile::tempdir().unwrap();
    let mut bench = open(home.path());
    (0..3_000).for_each(|n| bench.push(n).unwrap());
    assert!(segments(home.path()).len() > 10);
    assert!(segments(home.path()).iter().all(|path| fs::metadata(path).unwrap().len() <= SEGMENT_BYTES));
    bench.window.most = 100;
    let mut at_a_time = Vec::new();
    for _ in 0..30 {
        let handed = bench.handed();
        assert_eq!(handed.len(), 100);
        let last = bench.window.taken.last().unwrap().1;
        bench.outbox.acked_up_to(Lane::NORMAL, last);
        at_a_time.push(segments(home.path()).len());
    }
    assert!(at_a_time.is_sorted_by(|a, b| a >= b), "{at_a_time:?}");
    assert_eq!((bench.outbox.len(), segments(home.path()).len()), (0, 1));
    assert_eq!(bench.outbox.store().unwrap().bytes(), 0);
}

#[test]
fn an_outage_of_days_is_on_disk_and_not_in_memory() {
    let home = tempfile::tempdir().unwrap();
    let mut bench = open(home.path());
    (0..5_000).for_each(|n| bench.push(n).unwrap());
    assert_eq!(bench.outbox.len(), 5_000);
    assert_eq!(bench.outbox.store().unwrap().unread(Lane::NORMAL), 5_000 - 512);
    bench.window.most = 10;
    bench.handed();
    assert!(bench.outbox.store().unwrap().unread(Lane::NORMAL) >= 5_000 - 2 * 512);
}

#[test]
fn a_full_buffer_on_disk_follows_its_rule() {
    for overflow in [Overflow::Refuse, Overflow::DropOldest, Overflow::KeepByPriority] {
        let home = tempfile::tempdir().unwrap();
        let disk = Disk { bytes_max: SEGMENT_BYTES * 8, ..disk(home.path()) };
        let mut bench = open_as(&disk, overflow);
        let taken = (0..2_000).find(|n| bench.push_as(*n, Qos::AtLeastOnce, Priority::Bulk, false).is_err());
        let alarm = bench.push_as(9_999, Qos::AtLeastOnce, Priority::Urgent, false);
        let dropped = bench.fates().iter().filter(|(_, fate)| *fate == Fate::Dropped).count();
        match overflow {
            Overflow::Refuse => assert_eq!((alarm, dropped), (Err(NotTaken::Full), 0)),
            Overflow::DropOldest => assert!(taken.is_none() && alarm.is_ok() && dropped > 300),
            Overflow::KeepByPriority => assert!(taken.is_some() && alarm.is_ok() && (1..10).contains(&dropped)),
        }
        let bytes: u64 = segments(home.path()).iter().map(|path| fs::metadata(path).unwrap().len()).sum();
        assert!(bytes <= disk.bytes_max + 4 * SEGMENT_BYTES, "{bytes}");
        let left = bench.handed();
        assert_eq!(left.contains(&9_999), overflow != Overflow::Refuse);
        assert_eq!(left.len(), bench.outbox.len());
    }
}

#[test]
fn a_later_boot_is_given_to_everything_held_and_outlives_a_crash() {
    let home = tempfile::tempdir().unwrap();
    let mut bench = open(home.path());
    (0..600).for_each(|n| bench.push(n).unwrap());
    drop(bench);
    let mut bench = open(home.path());
    (600..1_300).for_each(|n| bench.push(n).unwrap());
    bench.outbox.known(&[(Lane::NORMAL, Number { boot: 5_000, seq: 3 })]);
    assert_eq!(bench.outbox.boot(), 5_002);
    bench.push(1_300).unwrap();
    drop(bench);
    let mut bench = open(home.path());
    assert_eq!(bench.outbox.boot(), 5_003);
    bench.push(1_301).unwrap();
    assert_eq!(bench.handed(), (0..1_302).collect::<Vec<_>>());
    let numbers: Vec<Number> = bench.window.taken.iter().map(|(_, number)| *number).collect();
    assert!(numbers.is_sorted() && numbers[0].boot == 5_001, "{:?}", numbers[0]);
    assert_eq!(numbers[1_301].boot, 5_003);
}

#[test]
fn a_crash_while_a_later_boot_is_given_takes_nothing_for_stored() {
    let (home, _segment) = crashed(0..6);
    let path = home.path();
    let known = [(Lane::NORMAL, Number { boot: 5_000, seq: 3 })];
    // The process ends when any number of segments is written and the counter is not.
    let counter = std::fs::read(path.join("boot")).unwrap();
    for _ in 0..2 {
        let mut bench = open(path);
        bench.outbox.known(&known);
        drop(bench);
        std::fs::write(path.join("boot"), &counter).unwrap();
    }
    let mut bench = open(path);
    bench.outbox.known(&known);
    assert_eq!((bench.outbox.len(), bench.fates()), (6, Vec::new()));
    bench.handed();
    let boots: Vec<u64> = bench.window.taken.iter().map(|(_, number)| number.boot).collect();
    assert!(boots.iter().all(|boot| *boot > 5_000) && !boots.is_empty(), "{boots:?}");
}

#[test]
fn a_later_boot_that_is_not_written_everywhere_is_given_again_at_the_next_start() {
    let (home, segment) = crashed(0..6);
    let mut bench = open(home.path());
    bench.push(6).unwrap();
    let counter = std::fs::read(home.path().join("boot")).unwrap();
    // What is not there cannot be written.
    std::fs::remove_file(segment).unwrap();
    bench.outbox.known(&[(Lane::NORMAL, Number { boot: 5_000, seq: 3 })]);
    assert!(bench.outbox.boot() > 5_000, "it holds for this start");
    assert_eq!(std::fs::read(home.path().join("boot")).unwrap(), counter);
}

#[test]
fn receipts_do_not_pile_up() {
    let home = tempfile::tempdir().unwrap();
    let mut bench = open(home.path());
    let push = |bench: &mut Bench, done: Done| {
        let new = New {
            lane: Lane::NORMAL,
            qos: Qos::AtLeastOnce,
            topic: "t".into(),
            payload: "0".into(),
            timestamp_ms: 0,
            properties: Vec::new(),
            answer: false,
            done,
        };
        bench.outbox.push(new).unwrap();
    };
    // Receipts that are thrown away leave room for those that are held.
    for _ in 0..20_000 {
        push(&mut bench, Done::Receipt(tokio::sync::oneshot::channel().0));
    }
    let mut held: Vec<_> = (0..17_000)
        .map(|_| {
            let (sender, receiver) = tokio::sync::oneshot::channel();
            push(&mut bench, Done::Receipt(sender));
            receiver
        })
        .collect();
    bench.tell();
    let told = held.iter_mut().filter_map(|receipt| receipt.try_recv().ok()).collect::<Vec<_>>();
    assert!((600..=620).contains(&told.len()) && told.iter().all(|fate| *fate == Fate::OnDisk), "{}", told.len());
}

#[test]
fn a_disk_that_takes_nothing_is_a_clear_error_and_keeps_the_order() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("buffer");
    let mut bench = open(&folder);
    bench.push(0).unwrap();
    fs::remove_dir_all(&folder).unwrap();
    let refused = (1..2_000).find_map(|n| bench.push(n).err().map(|error| (n, error)));
    let Some((n, NotTaken::Disk(std::io::ErrorKind::NotFound))) = refused else { panic!("{refused:?}") };
    fs::create_dir(&folder).unwrap();
    bench.push(n).unwrap();
    assert_eq!(bench.handed(), (0..=n).collect::<Vec<_>>());
    assert_eq!(bench.outbox.disconnected(), n as usize + 1);
    bench.handed();
    bench.outbox.acked_up_to(Lane::NORMAL, Number { boot: 1_000, seq: 0 });
    assert_eq!(bench.fates(), [(0, AGAIN)]);
}

#[test]
fn what_cannot_be_opened_says_why() {
    let home = tempfile::tempdir().unwrap();
    let error = |disk: &Disk, boot| Store::open(disk, boot, 1_000).map(|_| ()).unwrap_err().to_string();
    let bench = open(home.path());
    assert!(error(&disk(home.path()), None).contains("in use by another client"));
    drop(bench);
    assert!(error(&disk(home.path()), Some(1_000)).contains("boot 1000 is not after boot 1000"));
    assert!(error(&disk(&home.path().join("a/b")), None).contains("cannot make the folder"));
    assert_eq!(disk(home.path()).wrong(), None);
    assert!(Disk { segment_bytes: 100, ..disk(home.path()) }.wrong().is_some());
    assert!(Disk { bytes_max: 5, ..disk(home.path()) }.wrong().is_some());
}

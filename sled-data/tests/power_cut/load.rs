//! The work that is recorded: the same commits for every reader of this file, synced and acknowledged one by one, with trimming.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use sled_data::{
    Commit, Compression, CursorMove, HeaderBlock, OpenBatch, Options, PartitionId, SealInfo, Sealer, StateWrite, Store,
    TopicConfig,
};

pub const PARTITIONS: u32 = 4;
pub const COMMITS: u64 = 350;
/// Each so many commits the partitions are trimmed to this many commits.
const TRIM_EVERY: u64 = 10;
const KEEP_COMMITS: u64 = 60;
/// Each so many commits the store is left without a clean end and opened again.
const REOPEN_EVERY: u64 = 40;
/// Where acknowledgements are written: beside the store, in the recorder's sight.
pub const ACKS: &str = "acks";

/// A well-mixed number of two.
pub fn mix(a: u64, b: u64) -> u64 {
    let mut x = a.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ b.wrapping_mul(0xd1b5_4a32_d192_ed03);
    x = (x ^ (x >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    x ^ (x >> 32)
}

/// Each so many commits the first partition gets many events, a batch for each: so many that their keys are written before them.
const MANY_EVERY: u64 = 16;
const MANY: u64 = 24;

/// How many events commit `number`, from 1, appends to partition `index`.
pub fn events_of(number: u64, index: u32) -> u64 {
    if has_many(number, index) { MANY } else { mix(number, u64::from(index)) % 4 }
}

fn has_many(number: u64, index: u32) -> bool {
    index == 0 && number.is_multiple_of(MANY_EVERY)
}

/// The event at an offset: mostly small, some of tens of KiB, few in parts.
pub fn event(index: u32, offset: u64) -> Vec<u8> {
    let draw = mix(u64::from(index) + 100, offset);
    let len = match draw % 40 {
        0 => 150_000,
        1..10 => 30_000 + draw % 10_000,
        _ => 20 + draw % 300,
    };
    (0..len.div_ceil(8)).flat_map(|i| mix(draw, i).to_le_bytes()).collect()
}

/// Where each partition ends after commit `number`.
pub fn ends_after(number: u64) -> Vec<u64> {
    (0..PARTITIONS).map(|index| (1..=number).map(|n| events_of(n, index)).sum()).collect()
}

fn commit(number: u64, ids: &[PartitionId], sealer: &mut Sealer) -> Commit {
    let mut commit = Commit { hlc: number, ..Commit::default() };
    let before = ends_after(number - 1);
    for (index, &partition) in ids.iter().enumerate() {
        let base_offset = before[index];
        let next = base_offset + events_of(number, index as u32);
        let events_a_batch = if has_many(number, index as u32) { 1 } else { MANY };
        let mut base_offset = base_offset;
        while base_offset < next {
            let upto = next.min(base_offset + events_a_batch);
            let mut open = OpenBatch::new();
            for offset in base_offset..upto {
                let value = event(index as u32, offset);
                open.push(offset as i64, None, Some(&value), &HeaderBlock::new()).unwrap();
            }
            let compression = Compression::Lz4;
            let info = SealInfo { partition, base_offset, hlc: number, compression, hops: 0, term: 0, flags: 0 };
            commit.appends.push(open.seal(info, sealer));
            base_offset = upto;
        }
        commit.cursors.push(CursorMove { reader: "reader".into(), partition, next });
    }
    for key in [b"last".to_vec(), vec![b'k', number as u8 % 50]] {
        commit.state.push(StateWrite { tree: "tree".into(), key, value: Some(number.to_be_bytes().to_vec()) });
    }
    commit
}

/// Does the work in `folder` and writes each acknowledged commit's number.
pub fn run(folder: &Path) {
    let mut acks = File::create(folder.join(ACKS)).unwrap();
    let open = || Store::open(&folder.join("store"), Options::default()).unwrap().0;
    let mut store = open();
    let topic = store.create_topic("t", TopicConfig { partitions: PARTITIONS, ..TopicConfig::default() }).unwrap();
    let ids: Vec<_> =
        (0..PARTITIONS).map(|index| PartitionId { origin: store.origin(), topic: topic.id, index }).collect();
    let mut sealer = Sealer::new();
    for number in 1..=COMMITS {
        if number.is_multiple_of(REOPEN_EVERY) {
            drop(store);
            store = open();
        }
        store.commit(&commit(number, &ids, &mut sealer)).unwrap();
        // Some commits share a sync.
        if !mix(number, 9).is_multiple_of(3) {
            acks.write_all(&store.sync().unwrap().0.to_be_bytes()).unwrap();
        }
        if number.is_multiple_of(TRIM_EVERY) && number > KEEP_COMMITS {
            for (id, upto) in ids.iter().zip(ends_after(number - KEEP_COMMITS)) {
                store.trim(*id, upto, 1_000).unwrap();
            }
        }
    }
    assert_eq!(store.alarm(), None);
}

/// The furthest that trimming can have come by commit `number`.
pub fn trimmed_by(number: u64) -> Vec<u64> {
    ends_after(number.saturating_sub(KEEP_COMMITS))
}

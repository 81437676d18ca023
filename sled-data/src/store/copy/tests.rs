//! Heads and parts of copies against bytes that are fixed, and against every way of being wrong.

use super::*;
use crate::batch::{HeaderBlock, OpenBatch, SealInfo, Sealer};
use crate::ids::TopicId;
use crate::topic::Compression;

fn id(index: u32) -> PartitionId {
    PartitionId { origin: OriginId(1), topic: TopicId(2), index }
}

fn batch() -> StoredBatch {
    let mut open = OpenBatch::new();
    open.push(9, None, Some(b"value"), &HeaderBlock::new()).unwrap();
    let compression = Compression::None;
    let info = SealInfo { partition: id(4), base_offset: 3, hlc: 7, compression, hops: 0, term: 0, flags: 0 };
    open.seal(info, &mut Sealer::new()).into()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Every flipped bit, every cut and every byte too many is found.
fn assert_strict<T: PartialEq + std::fmt::Debug>(bytes: &[u8], decode: impl Fn(&[u8]) -> Result<T, CopyError>) {
    assert!(decode(bytes).is_ok());
    for at in 0..bytes.len() * 8 {
        let mut flipped = bytes.to_vec();
        flipped[at / 8] ^= 1 << (at % 8);
        assert!(decode(&flipped).is_err(), "bit {at}");
    }
    for cut in 0..bytes.len() {
        assert!(decode(&bytes[..cut]).is_err(), "cut at {cut}");
    }
    assert!(decode(&[bytes, &[0]].concat()).is_err());
}

#[test]
fn parts_keep_their_bytes_and_come_back() {
    let (partition, digest) = (id(4), 0x80);
    let cursor = CursorMove { reader: "r".into(), partition: id(0), next: 11 };
    let parts = [
        CopyPart::Batch(batch()),
        CopyPart::Jump { partition, to: 3, digest },
        CopyPart::Gone { partition, end: 3, digest },
        CopyPart::End { partition, end: 3, digest },
        CopyPart::Cursor(cursor),
        CopyPart::State { tree: "s".into(), key: b"k".to_vec(), value: b"v".to_vec() },
    ];
    let encoded = parts.each_ref().map(|part| {
        let mut bytes = b"before".to_vec();
        part.encode(&mut bytes);
        bytes.split_off(6)
    });
    let golden = [
        format!("01e2c3efa500{}", hex(batch().bytes())),
        "01aaa1df5e01010204038001".to_owned(),
        "0112a4aa0602010204038001".to_owned(),
        "017aa786ce03010204038001".to_owned(),
        "01579e53990401720102000b".to_owned(),
        "0161af4722050173016b0176".to_owned(),
    ];
    assert_eq!(encoded.each_ref().map(|bytes| hex(bytes)), golden);
    for (part, bytes) in parts.iter().zip(&encoded) {
        assert_eq!(CopyPart::decode(bytes).as_ref(), Ok(part));
        assert_strict(bytes, CopyPart::decode);
    }
}

#[test]
fn a_head_keeps_its_bytes_and_comes_back() {
    let extent = |index| CopyExtent { partition: id(index), start: 1, end: 300, digest: 0x80 };
    let head = CopyHead {
        origin: OriginId(1),
        commit: CommitNumber(5),
        hlc: 6,
        ended: false,
        partitions: vec![extent(0), extent(4)],
    };
    let encoded = |head: &CopyHead| {
        let mut bytes = Vec::new();
        head.encode(&mut bytes);
        bytes
    };
    assert_eq!(hex(&encoded(&head)), "01ebea8179010506000201020001ac02800101020401ac028001");
    assert_eq!(CopyHead::decode(&encoded(&head)).as_ref(), Ok(&head));
    assert_strict(&encoded(&head), CopyHead::decode);
    let wrong = |change: &dyn Fn(&mut CopyHead)| {
        let mut head = head.clone();
        change(&mut head);
        matches!(CopyHead::decode(&encoded(&head)), Err(CopyError::OtherPartition(_)))
    };
    assert!(wrong(&|head| head.partitions.swap(0, 1)));
    assert!(wrong(&|head| head.partitions[1] = head.partitions[0]));
    assert!(wrong(&|head| head.origin = OriginId(2)));
    assert!(wrong(&|head| head.partitions[0].start = 301));
    assert!(wrong(&|head| head.partitions[1].partition.index = PARTITIONS_MAX));
}

#[test]
fn a_part_over_a_bound_is_refused() {
    let refused = |part: CopyPart| {
        let mut bytes = Vec::new();
        part.encode(&mut bytes);
        matches!(CopyPart::decode(&bytes), Err(CopyError::Bound(_)))
    };
    let state =
        |tree: &str, key, value| CopyPart::State { tree: tree.into(), key: vec![0; key], value: vec![0; value] };
    assert!(!refused(state("s", STATE_KEY_BYTES_MAX, STATE_VALUE_BYTES_MAX)));
    assert!(refused(state("s", STATE_KEY_BYTES_MAX + 1, 0)));
    assert!(refused(state("s", 0, STATE_VALUE_BYTES_MAX + 1)));
    assert!(refused(state("", 0, 0)));
    assert!(refused(CopyPart::Cursor(CursorMove { reader: "a\0".into(), partition: id(0), next: 0 })));
    assert_eq!(CopyPart::decode(&vec![0; COPY_PART_BYTES_MAX + 1]), Err(CopyError::TooLarge(COPY_PART_BYTES_MAX + 1)));
}

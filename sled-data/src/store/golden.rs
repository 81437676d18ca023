//! Each stored value against bytes that are fixed: what changes them is a new version.

use super::keys;
use super::values::*;
use crate::topic::{Compression, Durability, TopicConfig};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Writes, compares, reads back, and finds each flipped bit.
fn check<T: serde::Serialize + serde::de::DeserializeOwned + PartialEq + std::fmt::Debug>(
    key: &[u8],
    value: &T,
    golden: &str,
) {
    let mut bytes = Vec::new();
    write(key, value, &mut bytes);
    assert_eq!(hex(&bytes), golden);
    assert_eq!(read::<T>(key, &bytes).as_ref(), Ok(value));
    assert_eq!(read::<T>(b"another key", &bytes), Err(ValueError::Checksum));
    for at in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[at / 8] ^= 1 << (at % 8);
        assert!(read::<T>(key, &flipped).is_err());
    }
}

#[test]
fn headers_keep_their_bytes() {
    let header =
        HeaderV1 { origin: 0x1122_3344_5566_7788, previous: 5, hlc_floor: 300, clean: true, memory_topics: false };
    check(keys::HEADER, &header, "01bdecf04b88ef99abc5e88c911105ac020100");
}

#[test]
fn topics_keep_their_bytes() {
    let config = TopicConfig {
        partitions: 4,
        compression: Compression::Zstd,
        durability: Durability::Memory,
        retention_ms: Some(1_000),
        retention_bytes: None,
    };
    let topic = TopicV1::new("telemetry", &config);
    assert_eq!(topic.config(), Ok(config));
    check(b"t", &topic, "010b4f57e30974656c656d6574727904020101e80700");
    assert_eq!(TopicV1 { compression: 3, ..topic }.config(), Err(ValueError::Form));
}

#[test]
fn partitions_and_cursors_keep_their_bytes() {
    let partition = PartitionV1 { start: 1, end: 1_000, bytes: 70_000, digest: u64::MAX };
    check(b"p", &partition, "012142e47a01e807f0a204ffffffffffffffffff01");
    check(b"c", &CursorV1 { next: 500 }, "01baa7c7eaf403");
}

#[test]
fn gaps_keep_their_bytes() {
    check(b"g", &GapV1 { to: 500, cause: 1, hlc: 300 }, "01d330b552f40301ac02");
}

#[test]
fn followed_origins_keep_their_bytes() {
    let whole = FollowedV1 { commit: 300, hlc: 5, node: 9, copy: CopyV1::Whole };
    check(b"f", &whole, "01f282623cac02050900");
    check(b"f", &FollowedV1 { copy: CopyV1::Taking, ..whole }, "01f10109ceac02050901");
    check(b"f", &FollowedV1 { copy: CopyV1::Until(301), ..whole }, "01bd1f531bac02050902ad02");
}

#[test]
fn commits_keep_their_bytes() {
    let partition = PartitionIdV1 { origin: 1, topic: 2, index: 3 };
    let record = CommitV1 {
        hlc: 9,
        appended: vec![AppendedV1 { partition, base_offset: 10, count: 2, digest: 0x80 }],
        cursors: vec![CursorMoveV1 { reader: "r", partition, next: 11 }],
        state: vec![
            StateWriteV1 { tree: "s", key: Bytes(b"k"), value: Some(Bytes(b"v")) },
            StateWriteV1 { tree: "s", key: Bytes(b""), value: None },
        ],
    };
    let mut bytes = Vec::new();
    write(b"k", &record, &mut bytes);
    assert_eq!(hex(&bytes), "0107a7516c09010102030a0280010101720102030b020173016b01017601730000");
    assert_eq!(read::<CommitV1<'_>>(b"k", &bytes), Ok(record));
}

#[test]
fn raw_values_keep_their_bytes_and_newer_ones_are_refused() {
    let mut bytes = Vec::new();
    write_raw(b"k", &mut bytes, |out| out.extend_from_slice(b"state"));
    assert_eq!(hex(&bytes), "01521363c67374617465");
    assert_eq!(read_raw(b"k", &bytes), Ok(&b"state"[..]));
    for cut in 0..bytes.len() {
        assert!(read_raw(b"k", &bytes[..cut]).is_err());
    }
    bytes[0] = VALUE_VERSION + 1;
    let crc = crc32c::crc32c_append(crc32c::crc32c_append(crc32c::crc32c(b"k"), &bytes[..1]), &bytes[5..]);
    bytes[1..5].copy_from_slice(&crc.to_le_bytes());
    assert_eq!(read_raw(b"k", &bytes), Err(ValueError::Newer(2)));
}

#[test]
fn linked_origins_and_holes_keep_their_bytes() {
    check(b"l", &LinkedV1 { link: 300, hlc: 5, path: vec![7, 8] }, "01f9bf9cb2ac0205020708");
    check(b"h", &HoleV1 { to: 300, why: 1, at_ms: -2 }, "0170f0b3c3ac020103");
    check(b"r", &LateV1 { to: 300 }, "0101cb4b71ac02");
    check(b"a", &ApartV1 { at_ms: -2 }, "014a21f6e303");
    check(b"n", &ForgottenV1 { link: 300, hlc: 5 }, "01775b963fac0205");
    check(b"a", &AheadV1 { from: 300, end: 301, bytes: 7, digest: 128 }, "01634c406fac02ad02078001");
}

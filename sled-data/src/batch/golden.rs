//! The stored form against bytes that are fixed: our own, and those of two other implementations of Kafka's record batch.

use kafka_protocol::records::{Compression as KafkaCompression, Record, RecordBatchDecoder, RecordBatchEncoder};
use kafka_protocol::records::{RecordEncodeOptions, TimestampType};

use super::envelope::{ENVELOPE_BYTES, Envelope};
use super::record::digest_records;
use super::*;
use crate::ids::{OriginId, PartitionId, TopicId};
use crate::topic::Compression;

const ALL: [(Compression, KafkaCompression); 3] = [
    (Compression::None, KafkaCompression::None),
    (Compression::Lz4, KafkaCompression::Lz4),
    (Compression::Zstd, KafkaCompression::Zstd),
];
const VALUE: &[u8] = br#"{"t":21.5,"t":21.5,"t":21.5,"t":21.5,"t":21.5,"t":21.5,"t":21.5}"#;
const PARTITION: PartitionId = PartitionId { origin: OriginId(0xa1a2), topic: TopicId(0xb1b2), index: 3 };

/// The three events of [`KAFKA_PYTHON`].
fn three_events() -> OpenBatch {
    let mut headers = HeaderBlock::new();
    headers.push("mqtt.topic", b"a/b");
    headers.push("n", b"");
    let none = HeaderBlock::new();
    let mut open = OpenBatch::new();
    open.push(1_700_000_000_000, Some(b"pump-0"), Some(VALUE), &headers).unwrap();
    open.push(1_700_000_000_007, None, Some(VALUE), &none).unwrap();
    open.push(1_700_000_000_004, Some(b"pump-2"), None, &none).unwrap();
    open
}

fn seal(open: &OpenBatch, base_offset: u64, compression: Compression) -> SealedBatch {
    let info = SealInfo { partition: PARTITION, base_offset, hlc: 77, compression, hops: 1, term: 5, flags: 0 };
    open.seal(info, &mut Sealer::new())
}

/// What kafka-python 3.0.12 writes for the events of [`three_events`]: uncompressed, lz4, zstd.
const KAFKA_PYTHON: [&str; 3] = [
    "0000000000000000000000e800000000027a7bda040000000000020000018bcfe568000000018bcfe56807ffffffffffffffffffffffffffff00000003be01000000\
     0c70756d702d3080017b2274223a32312e352c2274223a32312e352c2274223a32312e352c2274223a32312e352c2274223a32312e352c2274223a32312e352c2274\
     223a32312e357d04146d7174742e746f70696306612f62026e008e01000e020180017b2274223a32312e352c2274223a32312e352c2274223a32312e352c2274223a\
     32312e352c2274223a32312e352c2274223a32312e352c2274223a32312e357d00180008040c70756d702d320100",
    "000000000000000000000093000000000289a80b9a0003000000020000018bcfe568000000018bcfe56807ffffffffffffffffffffffffffff0000000304224d1868\
     40b700000000000000874b000000ff09be010000000c70756d702d3080017b2274223a32312e352c090022ff0b7d04146d7174742e746f70696306612f62026e008e\
     01000e02015b002fe000180008040c70756d702d32010000000000",
    "00000000000000000000008200000000020817adf80004000000020000018bcfe568000000018bcfe56807ffffffffffffffffffffffffffff0000000328b52ffd20\
     b7450200a403be010000000c70756d702d3080017b2274223a32312e352c7d04146d7174742e746f70696306612f62026e008e01000e020100180008043201000300\
     2c1bb4f7823410cf8207",
];

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter_map(|b| (b as char).to_digit(16)).map(|d| d as u8).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// A Kafka record batch of another writer behind an envelope of ours.
fn adopt(kafka: &[u8], open: &OpenBatch) -> StoredBatch {
    let mut envelope = *seal(open, 0, Compression::None).envelope();
    envelope.kafka_bytes = kafka.len() as u32;
    let mut bytes = vec![0; ENVELOPE_BYTES];
    bytes.extend_from_slice(kafka);
    envelope.write(&mut bytes);
    StoredBatch::decode(bytes).unwrap()
}

#[test]
fn uncompressed_batches_are_kafka_pythons_byte_for_byte() {
    let sealed = seal(&three_events(), 0, Compression::None);
    assert_eq!(hex(&sealed.bytes()[ENVELOPE_BYTES..]), hex(&unhex(KAFKA_PYTHON[0])));
}

#[test]
fn batches_of_kafka_python_are_read() {
    let open = three_events();
    for (golden, (compression, _)) in KAFKA_PYTHON.iter().zip(ALL) {
        let stored = adopt(&unhex(golden), &open);
        assert_eq!(stored.compression(), Some(compression));
        let records = stored.decompress().unwrap();
        assert!(records.digest_fits());
        assert_eq!(records.iter().collect::<Vec<_>>(), open.records().collect::<Vec<_>>());
    }
}

#[test]
fn another_implementation_reads_our_batches() {
    let mut large = OpenBatch::new();
    for n in 0..700_u32 {
        let value = format!("{{\"n\":{n},\"t\":{}}}", n.wrapping_mul(2_654_435_761));
        large.push(i64::from(n) * 3 - 50, Some(&n.to_be_bytes()), Some(value.as_bytes()), &HeaderBlock::new()).unwrap();
    }
    let mut beyond_one_block = OpenBatch::new();
    let value: Vec<u8> = (0..200_000_u32).map(|n| (n / 9) as u8).collect();
    beyond_one_block.push(1, None, Some(&value), &HeaderBlock::new()).unwrap();
    for open in [three_events(), large, beyond_one_block] {
        for (compression, theirs) in ALL {
            let sealed = seal(&open, 1_000, compression);
            let mut bytes = bytes::Bytes::copy_from_slice(&sealed.bytes()[ENVELOPE_BYTES..]);
            let set = RecordBatchDecoder::decode(&mut bytes).unwrap();
            assert_eq!((set.compression, set.version), (theirs, 2));
            assert_eq!(set.records.len(), open.count() as usize);
            for (read, ours) in set.records.iter().zip(open.records()) {
                assert_eq!(read.offset, 1_000 + i64::from(ours.offset_delta));
                assert_eq!(read.timestamp, ours.timestamp_ms);
                assert_eq!((read.key.as_deref(), read.value.as_deref()), (ours.key, ours.value));
                let headers: Vec<_> =
                    read.headers.iter().map(|(k, v)| (k.as_str(), v.as_deref().unwrap_or_default())).collect();
                assert_eq!(headers, ours.headers.iter().collect::<Vec<_>>());
            }
        }
    }
}

#[test]
fn we_read_batches_of_another_implementation() {
    let open = three_events();
    for (compression, theirs) in ALL {
        let records: Vec<Record> = open.records().map(|r| their_record(&r)).collect();
        let mut bytes = bytes::BytesMut::new();
        let options = RecordEncodeOptions { version: 2, compression: theirs };
        RecordBatchEncoder::encode(&mut bytes, &records, &options).unwrap();
        let stored = adopt(&bytes, &open);
        assert_eq!(stored.compression(), Some(compression));
        assert_eq!(stored.decompress().unwrap().iter().collect::<Vec<_>>(), open.records().collect::<Vec<_>>());
    }
}

fn their_record(ours: &RecordRef<'_>) -> Record {
    Record {
        transactional: false,
        control: false,
        delete_horizon: false,
        partition_leader_epoch: 0,
        producer_id: -1,
        producer_epoch: -1,
        timestamp_type: TimestampType::Creation,
        offset: i64::from(ours.offset_delta),
        sequence: ours.offset_delta as i32 - 1,
        timestamp: ours.timestamp_ms,
        key: ours.key.map(bytes::Bytes::copy_from_slice),
        value: ours.value.map(bytes::Bytes::copy_from_slice),
        headers: ours
            .headers
            .iter()
            .map(|(name, value)| (name.to_owned().into(), Some(bytes::Bytes::copy_from_slice(value))))
            .collect(),
    }
}

#[test]
fn the_envelope_keeps_its_bytes() {
    let sealed = seal(&three_events(), 9, Compression::None);
    let expected = "01010000dbfe986d000000000000a1a2000000000000b1b200000003000000030000000000000009\
        000000000000004d0000000000000005f569917dc6e753f4000000f4000000b7";
    assert_eq!(hex(&sealed.bytes()[..ENVELOPE_BYTES]), expected);
    let stored = StoredBatch::decode(sealed.bytes().to_vec()).unwrap();
    assert_eq!(stored.envelope(), sealed.envelope());
    let Envelope { version, hops, flags, partition, count, base_offset, hlc, term, .. } = *stored.envelope();
    assert_eq!((version, hops, flags, partition, count), (1, 1, 0, PARTITION, 3));
    assert_eq!((base_offset, hlc, term, stored.next_offset()), (9, 77, 5, 12));
}

#[test]
fn the_digest_does_not_depend_on_how_records_are_grouped() {
    let events: Vec<(i64, Vec<u8>)> = (0..50).map(|n| (1_000 - n * n, vec![n as u8; n as usize])).collect();
    let digest_in_groups = |size: usize| {
        events.chunks(size).enumerate().fold(0_u64, |sum, (group, chunk)| {
            let mut open = OpenBatch::new();
            for (ms, value) in chunk {
                open.push(*ms, None, Some(value), &HeaderBlock::new()).unwrap();
            }
            sum.wrapping_add(seal(&open, 200 + (group * size) as u64, Compression::Lz4).envelope().digest)
        })
    };
    let whole = digest_in_groups(50);
    for size in [1, 2, 7, 49] {
        assert_eq!(digest_in_groups(size), whole, "groups of {size}");
    }
    let open = three_events();
    let wire = open.wire_bytes();
    let base = digest_records(wire, 5, open.base_timestamp_ms());
    assert_ne!(base, digest_records(wire, 6, open.base_timestamp_ms()));
    assert_ne!(base, digest_records(wire, 5, open.base_timestamp_ms() + 1));
}

#[test]
fn every_flipped_bit_of_a_stored_batch_is_found() {
    for (compression, _) in ALL {
        let sealed = seal(&three_events(), 9, compression);
        for at in 0..sealed.bytes().len() {
            for bit in 0..8 {
                let mut bytes = sealed.bytes().to_vec();
                bytes[at] ^= 1 << bit;
                assert!(StoredBatch::decode(bytes).is_err(), "{compression:?} byte {at} bit {bit}");
            }
            assert!(StoredBatch::decode(sealed.bytes()[..at].to_vec()).is_err());
        }
    }
}

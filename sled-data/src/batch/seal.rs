//! Sealing: an open batch becomes the bytes that go to disk, to replicas and upstream.

use super::compress::{Compressor, kafka_code};
use super::envelope::{ENVELOPE_BYTES, ENVELOPE_VERSION, Envelope, KAFKA_HEADER_BYTES};
use super::open::OpenBatch;
use super::record::digest_records;
use crate::ids::{Offset, PartitionId};
use crate::topic::Compression;

/// What a batch is sealed with.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct SealInfo {
    /// The partition it is for.
    pub partition: PartitionId,
    /// The offset of its first record: the partition's end.
    pub base_offset: Offset,
    /// Hybrid logical clock of its commit.
    pub hlc: u64,
    /// How to compress it; records that would not shrink stay as they are.
    pub compression: Compression,
    /// How many links it has crossed.
    pub hops: u8,
    /// The assignment under which it is written; 0 where there is none.
    pub term: u64,
    /// Marks for later use; 0.
    pub flags: u16,
}

/// A batch ready to be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedBatch {
    pub(super) envelope: Envelope,
    pub(super) bytes: Vec<u8>,
}

impl SealedBatch {
    /// What its envelope says.
    pub fn envelope(&self) -> &Envelope {
        &self.envelope
    }

    /// Envelope and Kafka record batch, as they are stored.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// Sealing's reused state: compression contexts and buffers.
#[derive(Default)]
pub struct Sealer {
    compressor: Compressor,
    spare: Vec<Vec<u8>>,
}

/// Most buffers a sealer keeps for later batches.
const SPARE_BUFFERS_MAX: usize = 64;

impl Sealer {
    /// A sealer without buffers yet.
    pub fn new() -> Sealer {
        Sealer::default()
    }

    /// Comes to be as one that has compressed an input of so many bytes.
    pub(super) fn see_large(&mut self, bytes: usize) {
        self.compressor.append(crate::topic::Compression::Lz4, &vec![0; bytes], &mut Vec::new());
    }

    /// Takes a batch's buffer back for the next one.
    pub fn recycle(&mut self, batch: SealedBatch) {
        let mut bytes = batch.bytes;
        if self.spare.len() < SPARE_BUFFERS_MAX && bytes.capacity() <= 2 * super::BATCH_BYTES_MAX {
            bytes.clear();
            self.spare.push(bytes);
        }
    }
}

impl OpenBatch {
    /// Encodes, compresses and checksums the records. The open batch stays as it is.
    pub fn seal(&self, info: SealInfo, sealer: &mut Sealer) -> SealedBatch {
        let records = self.wire_bytes();
        let mut bytes = sealer.spare.pop().unwrap_or_default();
        bytes.reserve(ENVELOPE_BYTES + KAFKA_HEADER_BYTES + records.len());
        bytes.resize(ENVELOPE_BYTES + KAFKA_HEADER_BYTES, 0);
        let compression = sealer.compressor.append(info.compression, records, &mut bytes);
        self.write_kafka_header(info.base_offset, compression, &mut bytes[ENVELOPE_BYTES..]);
        let envelope = Envelope {
            version: ENVELOPE_VERSION,
            hops: info.hops,
            flags: info.flags,
            partition: info.partition,
            count: self.count(),
            base_offset: info.base_offset,
            hlc: info.hlc,
            term: info.term,
            digest: digest_records(records, info.base_offset, self.base_timestamp_ms()).unwrap_or(0),
            kafka_bytes: (bytes.len() - ENVELOPE_BYTES) as u32,
            record_bytes: records.len() as u32,
        };
        envelope.write(&mut bytes);
        SealedBatch { envelope, bytes }
    }

    /// Writes the 61 bytes before the records; `kafka` ends with the records.
    fn write_kafka_header(&self, base_offset: Offset, compression: Compression, kafka: &mut [u8]) {
        let mut at = 0;
        let batch_length = (kafka.len() - 12) as u32;
        let mut put = |bytes: &[u8]| {
            kafka[at..at + bytes.len()].copy_from_slice(bytes);
            at += bytes.len();
        };
        put(&base_offset.to_be_bytes());
        put(&batch_length.to_be_bytes());
        put(&0_u32.to_be_bytes()); // partition leader epoch
        put(&[2]); // magic
        put(&[0; 4]); // CRC, below
        put(&kafka_code(compression).to_be_bytes());
        put(&self.count().saturating_sub(1).to_be_bytes());
        put(&self.base_timestamp_ms().to_be_bytes());
        put(&self.max_timestamp_ms().to_be_bytes());
        put(&(-1_i64).to_be_bytes()); // producer id
        put(&(-1_i16).to_be_bytes()); // producer epoch
        put(&(-1_i32).to_be_bytes()); // base sequence
        put(&self.count().to_be_bytes());
        let crc = crc32c::crc32c(&kafka[21..]);
        kafka[17..21].copy_from_slice(&crc.to_be_bytes());
    }
}

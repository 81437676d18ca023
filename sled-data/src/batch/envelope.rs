//! The envelope before each Kafka record batch: what the store itself must know, under a checksum of its own.
//!
//! All numbers are big-endian, as Kafka's are. The checksum covers the envelope and those 21 bytes of the Kafka header that Kafka's own
//! CRC32C leaves out (that CRC among them), so every stored byte is covered, and large ones once.

use super::RECORD_BYTES_MAX;
use super::stored::BatchError;
use crate::ids::{Offset, OriginId, PartitionId, TopicId};
use crate::topic::PARTITIONS_MAX;

/// Bytes of an envelope.
pub const ENVELOPE_BYTES: usize = 72;
/// The version this code writes.
pub const ENVELOPE_VERSION: u8 = 1;
/// Bytes of a Kafka record batch before its records.
pub(super) const KAFKA_HEADER_BYTES: usize = 61;
/// Bytes at the start of a Kafka record batch that its own CRC does not cover.
const KAFKA_UNCOVERED_BYTES: usize = 21;

/// What an envelope says of its batch.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// Version of the envelope's form.
    pub version: u8,
    /// How many links the batch has crossed.
    pub hops: u8,
    /// Marks for later use; 0.
    pub flags: u16,
    /// The partition it belongs to, origin included.
    pub partition: PartitionId,
    /// Number of records, at least 1.
    pub count: u32,
    /// Offset of the first record.
    pub base_offset: Offset,
    /// Hybrid logical clock of its commit.
    pub hlc: u64,
    /// The assignment under which it was written; 0 where there is none.
    pub term: u64,
    /// Wrapping sum of its records' digests.
    pub digest: u64,
    /// Bytes of the Kafka record batch that follows.
    pub kafka_bytes: u32,
    /// Bytes of the records once decompressed.
    pub record_bytes: u32,
}

impl Envelope {
    /// The offset after the last record.
    pub fn next_offset(&self) -> Offset {
        self.base_offset.saturating_add(u64::from(self.count))
    }

    /// Writes the envelope over the first [`ENVELOPE_BYTES`] of `batch`, whose Kafka bytes are already in place.
    pub(super) fn write(&self, batch: &mut [u8]) {
        let mut at = 0;
        let mut put = |bytes: &[u8]| {
            batch[at..at + bytes.len()].copy_from_slice(bytes);
            at += bytes.len();
        };
        put(&[self.version, self.hops]);
        put(&self.flags.to_be_bytes());
        put(&[0; 4]);
        put(&self.partition.to_bytes());
        put(&self.count.to_be_bytes());
        put(&self.base_offset.to_be_bytes());
        put(&self.hlc.to_be_bytes());
        put(&self.term.to_be_bytes());
        put(&self.digest.to_be_bytes());
        put(&self.kafka_bytes.to_be_bytes());
        put(&self.record_bytes.to_be_bytes());
        let crc = checksum(batch);
        batch[4..8].copy_from_slice(&crc.to_be_bytes());
    }

    /// The envelope that `bytes` begin with, whatever follows its Kafka header; `None` where they do not, or a checksum or a bound does not fit.
    /// Cheap where it is `None`: it is asked at many places.
    pub(crate) fn at_front(bytes: &[u8]) -> Option<Envelope> {
        let head = bytes.get(..ENVELOPE_BYTES + KAFKA_HEADER_BYTES)?;
        let kafka = &head[ENVELOPE_BYTES..];
        if kafka[16] != 2 || kafka[..8] != head[32..40] {
            return None;
        }
        let envelope = Envelope::read(head).ok()?;
        let len = envelope.kafka_bytes as usize;
        let fits = u32_at(kafka, 8) as usize == len.checked_sub(12)?
            && (KAFKA_HEADER_BYTES..=KAFKA_HEADER_BYTES + RECORD_BYTES_MAX).contains(&len)
            && envelope.count > 0
            && envelope.base_offset.checked_add(u64::from(envelope.count)).is_some()
            && envelope.partition.index < PARTITIONS_MAX;
        fits.then_some(envelope)
    }

    /// Reads an envelope and checks its version and checksum.
    pub(super) fn read(batch: &[u8]) -> Result<Envelope, BatchError> {
        if batch.len() < ENVELOPE_BYTES + KAFKA_HEADER_BYTES {
            return Err(BatchError::Short);
        }
        let version = batch[0];
        if version != ENVELOPE_VERSION {
            return Err(BatchError::Version(version));
        }
        let crc = u32_at(batch, 4);
        if crc != checksum(batch) {
            return Err(BatchError::EnvelopeChecksum);
        }
        Ok(Envelope {
            version,
            hops: batch[1],
            flags: u16::from_be_bytes([batch[2], batch[3]]),
            partition: PartitionId {
                origin: OriginId(u64_at(batch, 8)),
                topic: TopicId(u64_at(batch, 16)),
                index: u32_at(batch, 24),
            },
            count: u32_at(batch, 28),
            base_offset: u64_at(batch, 32),
            hlc: u64_at(batch, 40),
            term: u64_at(batch, 48),
            digest: u64_at(batch, 56),
            kafka_bytes: u32_at(batch, 64),
            record_bytes: u32_at(batch, 68),
        })
    }
}

fn checksum(batch: &[u8]) -> u32 {
    let crc = crc32c::crc32c(&batch[..4]);
    crc32c::crc32c_append(crc, &batch[8..ENVELOPE_BYTES + KAFKA_UNCOVERED_BYTES])
}

/// The number at `at`; the caller has checked the length.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// The number at `at`; the caller has checked the length.
pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) << 32 | u64::from(u32_at(bytes, at + 4))
}

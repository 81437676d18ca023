//! A batch as it was read: checked whole before anything of it is used.

use super::compress::{decompress, from_kafka_code};
use super::envelope::{ENVELOPE_BYTES, Envelope, KAFKA_HEADER_BYTES, u32_at, u64_at};
use super::record::{RecordsIter, digest_records};
use super::seal::SealedBatch;
use super::{RECORD_BYTES_MAX, RecordRef};
use crate::ids::{Offset, PartitionId};
use crate::topic::Compression;

/// Why bytes are no batch.
#[derive(Debug, thiserror::Error, PartialEq, Eq, Copy, Clone)]
pub enum BatchError {
    /// They end early.
    #[error("the batch ends early")]
    Short,
    /// A version that this code does not know.
    #[error("batch envelope version {0} is not known")]
    Version(u8),
    /// The envelope's checksum does not fit.
    #[error("the envelope's checksum does not fit")]
    EnvelopeChecksum,
    /// The records' checksum does not fit.
    #[error("the records' checksum does not fit")]
    RecordsChecksum,
    /// Envelope and Kafka header disagree, or say what cannot be.
    #[error("the batch's header is inconsistent")]
    Header,
    /// The records do not decompress to what the envelope says.
    #[error("the records do not decompress")]
    Compression,
    /// The decompressed bytes are not the records that the envelope announces.
    #[error("the records are malformed")]
    Records,
}

/// A stored batch whose checksums fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredBatch {
    envelope: Envelope,
    bytes: Vec<u8>,
}

impl StoredBatch {
    /// Takes stored bytes and checks lengths, versions and checksums; every byte is covered.
    ///
    /// # Errors
    /// [`BatchError`], each meaning that the bytes are damaged or were never a batch.
    pub fn decode(bytes: Vec<u8>) -> Result<StoredBatch, BatchError> {
        let envelope = Envelope::read(&bytes)?;
        let kafka = &bytes[ENVELOPE_BYTES..];
        if kafka.len() != envelope.kafka_bytes as usize {
            return Err(BatchError::Short);
        }
        if u32_at(kafka, 17) != crc32c::crc32c(&kafka[21..]) {
            return Err(BatchError::RecordsChecksum);
        }
        let consistent = u64_at(kafka, 0) == envelope.base_offset
            && u32_at(kafka, 8) as usize == kafka.len() - 12
            && kafka[16] == 2
            && u32_at(kafka, 57) == envelope.count
            && envelope.count > 0
            && u32_at(kafka, 23) == envelope.count - 1
            && envelope.base_offset.checked_add(u64::from(envelope.count)).is_some()
            && envelope.record_bytes as usize <= RECORD_BYTES_MAX;
        if consistent { Ok(StoredBatch { envelope, bytes }) } else { Err(BatchError::Header) }
    }

    /// What its envelope says.
    pub fn envelope(&self) -> &Envelope {
        &self.envelope
    }

    /// Offset of its first record.
    pub fn base_offset(&self) -> Offset {
        self.envelope.base_offset
    }

    /// Offset after its last record.
    pub fn next_offset(&self) -> Offset {
        self.envelope.next_offset()
    }

    /// Envelope and Kafka record batch, as they are stored.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The Kafka record batch alone.
    pub fn kafka_bytes(&self) -> &[u8] {
        &self.bytes[ENVELOPE_BYTES..]
    }

    /// How the records are compressed; `None` for a code that the store never writes.
    pub fn compression(&self) -> Option<Compression> {
        let kafka = self.kafka_bytes();
        from_kafka_code(u16::from_be_bytes([kafka[21], kafka[22]]) & 7)
    }

    /// The largest timestamp of its records, as the header says, Unix milliseconds.
    pub fn max_timestamp_ms(&self) -> i64 {
        u64_at(self.kafka_bytes(), 35) as i64
    }

    /// The same records in another partition, from another offset on; the hybrid clock stays, where it is not below `hlc_min`.
    ///
    /// # Errors
    /// As [`StoredBatch::decompress`], and [`BatchError::Records`] where they are not those that the digest says.
    pub(crate) fn moved_to(
        self,
        partition: PartitionId,
        base_offset: Offset,
        hlc_min: u64,
    ) -> Result<SealedBatch, BatchError> {
        let records = self.decompress()?;
        if !records.digest_fits() {
            return Err(BatchError::Records);
        }
        let digest = digest_records(&records.bytes, base_offset, records.base_timestamp_ms);
        let StoredBatch { envelope, mut bytes } = self;
        let (digest, hlc) = (digest.ok_or(BatchError::Records)?, envelope.hlc.max(hlc_min));
        let envelope = Envelope { partition, base_offset, digest, hlc, ..envelope };
        // Kafka's own checksum leaves the base offset out.
        bytes[ENVELOPE_BYTES..ENVELOPE_BYTES + 8].copy_from_slice(&base_offset.to_be_bytes());
        envelope.write(&mut bytes);
        Ok(SealedBatch { envelope, bytes })
    }

    /// The records, decompressed.
    ///
    /// # Errors
    /// [`BatchError::Compression`] and [`BatchError::Records`] where the writer was wrong, as checksums were checked before.
    pub fn decompress(&self) -> Result<Records, BatchError> {
        let kafka = self.kafka_bytes();
        let compression = self.compression().ok_or(BatchError::Compression)?;
        let len = self.envelope.record_bytes as usize;
        let bytes = decompress(compression, &kafka[KAFKA_HEADER_BYTES..], len).ok_or(BatchError::Compression)?;
        let base_timestamp_ms = u64_at(kafka, 27) as i64;
        let records = Records { envelope: self.envelope, base_timestamp_ms, bytes };
        if records.iter().is_sound() { Ok(records) } else { Err(BatchError::Records) }
    }
}

impl From<SealedBatch> for StoredBatch {
    fn from(sealed: SealedBatch) -> StoredBatch {
        StoredBatch { envelope: sealed.envelope, bytes: sealed.bytes }
    }
}

impl From<StoredBatch> for SealedBatch {
    fn from(stored: StoredBatch) -> SealedBatch {
        SealedBatch { envelope: stored.envelope, bytes: stored.bytes }
    }
}

/// A batch's records in a buffer of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Records {
    envelope: Envelope,
    base_timestamp_ms: i64,
    bytes: Vec<u8>,
}

impl Records {
    /// The records, in order.
    pub fn iter(&self) -> RecordsIter<'_> {
        RecordsIter::new(&self.bytes, self.base_timestamp_ms, self.envelope.count)
    }

    /// The timestamp that theirs are counted from, Unix milliseconds.
    pub(super) fn base_timestamp_ms(&self) -> i64 {
        self.base_timestamp_ms
    }

    /// Their bytes in Kafka's form.
    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// The envelope of the batch they came from.
    pub fn envelope(&self) -> &Envelope {
        &self.envelope
    }

    /// The offset of one of its records.
    pub fn offset_of(&self, record: &RecordRef<'_>) -> Offset {
        self.envelope.base_offset + u64::from(record.offset_delta)
    }

    /// Whether the records' digest is the one in the envelope.
    pub fn digest_fits(&self) -> bool {
        digest_records(&self.bytes, self.envelope.base_offset, self.base_timestamp_ms) == Some(self.envelope.digest)
    }
}

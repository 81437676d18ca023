//! A later part of a batch that one value does not hold: it names its batch, under a checksum of its own, so that it is known wherever it is
//! found.
//!
//! ```text
//!  0 version 1   1 zero 1   2 part 2   4 CRC32C of bytes 0-3 and 8 to the end
//!  8 origin 8   16 topic 8   24 index 4   28 bytes that follow 4   32 base offset 8   40 the envelope's checksum 4
//! 44 bytes of the batch
//! ```

use super::BATCH_BYTES_MAX;
use super::envelope::{u32_at, u64_at};
use crate::ids::{Offset, OriginId, PartitionId, TopicId};

/// The version this code writes; envelopes have small ones, so a first byte tells which of the two follows.
pub(crate) const PART_VERSION: u8 = 129;
/// Bytes of a part before those of the batch.
pub(crate) const PART_HEADER_BYTES: usize = 44;
/// Most bytes of the batch in one later part.
const PART_PAYLOAD_BYTES_MAX: usize = BATCH_BYTES_MAX - PART_HEADER_BYTES;

/// What a later part says of itself.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    /// The partition that its batch belongs to.
    pub partition: PartitionId,
    /// Offset of the batch's first record.
    pub base_offset: Offset,
    /// Which part, from 1.
    pub part: u16,
    /// The envelope's checksum, which tells two batches with the same base offset apart.
    pub tag: u32,
    /// Bytes of the whole part.
    pub len: usize,
}

impl Part {
    /// Reads the part that `bytes` begin with; `None` where they do not, or its checksum does not fit.
    pub(crate) fn read(bytes: &[u8]) -> Option<Part> {
        if bytes.len() < PART_HEADER_BYTES || bytes[0] != PART_VERSION || bytes[1] != 0 {
            return None;
        }
        let len = PART_HEADER_BYTES + u32_at(bytes, 28) as usize;
        if len > BATCH_BYTES_MAX || len > bytes.len() || u32_at(bytes, 4) != checksum(&bytes[..len]) {
            return None;
        }
        Some(Part {
            partition: PartitionId {
                origin: OriginId(u64_at(bytes, 8)),
                topic: TopicId(u64_at(bytes, 16)),
                index: u32_at(bytes, 24),
            },
            base_offset: u64_at(bytes, 32),
            part: u16::from_be_bytes([bytes[2], bytes[3]]),
            tag: u32_at(bytes, 40),
            len,
        })
    }
}

fn checksum(part: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&part[..4]), &part[8..])
}

/// The checksum of the envelope that a batch, or its first part, begins with; 0 where it is too short to have one.
pub(crate) fn tag_of(batch: &[u8]) -> u32 {
    batch.get(4..8).map_or(0, |_| u32_at(batch, 4))
}

/// The bytes of the batch in a stored part. What has no header, or a damaged one, is all taken: the batch's own checksums judge it.
pub(crate) fn payload(part: &[u8]) -> &[u8] {
    match Part::read(part) {
        Some(read) if read.len == part.len() => &part[PART_HEADER_BYTES..],
        _ => part,
    }
}

/// The values that a batch is stored as, in order: its first [`BATCH_BYTES_MAX`] bytes as they are, then parts. `buffer` is reused.
pub(crate) fn each_value<E>(
    batch: &[u8],
    buffer: &mut Vec<u8>,
    mut store: impl FnMut(u16, &[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let (first, rest) = batch.split_at(batch.len().min(BATCH_BYTES_MAX));
    store(0, first)?;
    for (part, bytes) in (1_u16..).zip(rest.chunks(PART_PAYLOAD_BYTES_MAX)) {
        buffer.clear();
        buffer.extend_from_slice(&[PART_VERSION, 0]);
        buffer.extend_from_slice(&part.to_be_bytes());
        buffer.extend_from_slice(&[0; 4]);
        buffer.extend_from_slice(&first[8..28]); // the partition, as the envelope has it
        buffer.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
        buffer.extend_from_slice(&first[32..40]); // the base offset
        buffer.extend_from_slice(&first[4..8]);
        buffer.extend_from_slice(bytes);
        let crc = checksum(buffer);
        buffer[4..8].copy_from_slice(&crc.to_be_bytes());
        store(part, buffer)?;
    }
    Ok(())
}

/// How many values [`each_value`] makes of a batch of so many bytes.
pub(crate) fn values_of(batch_bytes: usize) -> u16 {
    let rest = batch_bytes.saturating_sub(BATCH_BYTES_MAX).div_ceil(PART_PAYLOAD_BYTES_MAX);
    u16::try_from(rest + 1).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(batch: &[u8]) -> Vec<Vec<u8>> {
        let mut values = Vec::new();
        let stored = each_value(batch, &mut Vec::new(), |part, bytes| {
            assert_eq!(usize::from(part), values.len());
            values.push(bytes.to_vec());
            Ok::<_, ()>(())
        });
        stored.unwrap();
        values
    }

    #[test]
    fn parts_name_their_batch_and_come_back() {
        let batch: Vec<u8> = (0..200_000_u32).map(|n| (n.wrapping_mul(0x9e37_79b1) >> 11) as u8).collect();
        let values = values(&batch);
        assert_eq!((values.len(), values_of(batch.len())), (4, 4));
        assert!(values.iter().all(|value| value.len() <= BATCH_BYTES_MAX));
        let mut joined = values[0].clone();
        for (number, value) in (1..).zip(&values[1..]) {
            let part = Part::read(value).unwrap();
            assert_eq!((part.part, part.len, part.tag), (number, value.len(), tag_of(&batch)));
            assert_eq!(part.partition.to_bytes(), batch[8..28]);
            assert_eq!(part.base_offset, u64_at(&batch, 32));
            joined.extend_from_slice(payload(value));
        }
        assert_eq!(joined, batch);
        for without_header in [&b""[..], b"any bytes", &values[1][1..]] {
            assert_eq!(payload(without_header), without_header);
        }
    }

    #[test]
    fn a_part_keeps_its_bytes_and_finds_each_flipped_bit() {
        let mut batch = vec![7; BATCH_BYTES_MAX];
        batch.extend_from_slice(b"end");
        let part = values(&batch).remove(1);
        let hex: String = part.iter().map(|b| format!("{b:02x}")).collect();
        let partition = "07".repeat(20);
        assert_eq!(hex, format!("81000001{}{partition}000000030707070707070707{}656e64", &hex[8..16], "07".repeat(4)));
        for at in 0..part.len() * 8 {
            let mut flipped = part.clone();
            flipped[at / 8] ^= 1 << (at % 8);
            assert_eq!(Part::read(&flipped), None, "bit {at}");
        }
    }
}

//! A batch without what follows from its records: how it goes over a thin line, to be the same bytes again at the other end.
//!
//! Compression is done again there. That gives the same bytes where both ends have the same compressor; whoever takes a batch apart
//! tries it, and whoever puts it together is told a checksum of what it must be.

use super::open::OpenBatch;
use super::seal::{SealInfo, Sealer};
use super::stored::{BatchError, StoredBatch};
use crate::topic::Compression;

/// Records of so many bytes are compressed with LZ4's table for large inputs, which a sealer keeps from then on.
const LARGE_BYTES: usize = u16::MAX as usize;

/// A batch taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unpacked {
    /// What it is sealed with.
    pub info: SealInfo,
    /// Whether LZ4's table for large inputs was used.
    pub large_table: bool,
    /// The timestamp that its records' are counted from, Unix milliseconds.
    pub base_timestamp_ms: i64,
    /// The records in Kafka's form, uncompressed.
    pub records: Vec<u8>,
}

/// Takes batches apart and puts them together, with contexts that are kept.
#[derive(Default)]
pub struct Repacker {
    small: Sealer,
    /// One that has seen a large input.
    large: Option<Sealer>,
    /// What fitted last is tried first.
    was_large: bool,
}

impl Repacker {
    /// Takes a batch apart; `None` where it could not be put together again.
    pub fn unpack(&mut self, batch: &StoredBatch) -> Option<Unpacked> {
        let envelope = batch.envelope();
        let compression = batch.compression()?;
        let records = batch.decompress().ok()?;
        let info = SealInfo {
            partition: envelope.partition,
            base_offset: envelope.base_offset,
            hlc: envelope.hlc,
            compression,
            hops: envelope.hops,
            term: envelope.term,
            flags: envelope.flags,
        };
        let base_timestamp_ms = records.base_timestamp_ms();
        let mut unpacked = Unpacked { info, large_table: false, base_timestamp_ms, records: records.into_bytes() };
        let tables = match compression {
            Compression::Lz4 if unpacked.records.len() < LARGE_BYTES => [self.was_large, !self.was_large].to_vec(),
            _ => vec![false],
        };
        for large_table in tables {
            unpacked.large_table = large_table;
            let (again, back) = self.seal(unpacked);
            unpacked = back;
            if again.is_ok_and(|again| again.bytes() == batch.bytes()) {
                self.was_large = large_table;
                return Some(unpacked);
            }
        }
        None
    }

    /// Puts a batch together.
    ///
    /// # Errors
    /// [`BatchError::Records`] where its records are none.
    pub fn pack(&mut self, unpacked: Unpacked) -> Result<StoredBatch, BatchError> {
        self.seal(unpacked).0
    }

    fn seal(&mut self, unpacked: Unpacked) -> (Result<StoredBatch, BatchError>, Unpacked) {
        let Unpacked { info, large_table, base_timestamp_ms, records } = unpacked;
        let is_large = large_table || records.len() >= LARGE_BYTES;
        let sealer = if is_large { self.large.get_or_insert_with(large_sealer) } else { &mut self.small };
        match OpenBatch::of_records(records, base_timestamp_ms) {
            Ok(open) => {
                let sealed = open.seal(info, sealer);
                let records = open.into_wire_bytes();
                (Ok(sealed.into()), Unpacked { info, large_table, base_timestamp_ms, records })
            }
            Err(records) => (Err(BatchError::Records), Unpacked { info, large_table, base_timestamp_ms, records }),
        }
    }
}

/// A sealer that has compressed a large input.
fn large_sealer() -> Sealer {
    let mut sealer = Sealer::new();
    sealer.see_large(LARGE_BYTES);
    sealer
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::HeaderBlock;
    use crate::ids::{OriginId, PartitionId, TopicId};

    fn batch(count: usize, bytes: usize, compression: Compression, sealer: &mut Sealer) -> StoredBatch {
        let mut open = OpenBatch::new();
        let mut headers = HeaderBlock::new();
        headers.push("topic", b"plant/line-3");
        for n in 0..count {
            let value: Vec<u8> = (0..bytes).map(|at| b"temperature: 21.5 "[(at + n) % 18]).collect();
            open.push(1_000 + n as i64 * 7, Some(b"pump"), Some(&value), &headers).unwrap();
        }
        let partition = PartitionId { origin: OriginId(1), topic: TopicId(2), index: 3 };
        let info = SealInfo { partition, base_offset: 70, hlc: 900 << 16, compression, hops: 0, term: 4, flags: 0 };
        open.seal(info, sealer).into()
    }

    #[test]
    fn a_batch_is_the_same_bytes_again_whatever_its_sealer_has_seen() {
        let (mut here, mut there) = (Repacker::default(), Repacker::default());
        let (mut fresh, mut used) = (Sealer::new(), Sealer::new());
        used.see_large(LARGE_BYTES);
        for compression in [Compression::None, Compression::Lz4, Compression::Zstd] {
            for (count, bytes) in [(1, 10), (1, 200), (300, 150), (1, 65_600), (3, 200_000)] {
                for sealer in [&mut fresh, &mut used] {
                    let batch = batch(count, bytes, compression, sealer);
                    let unpacked = here.unpack(&batch).expect("it can be put together again");
                    assert!(unpacked.records.len() >= count * bytes);
                    assert_eq!(there.pack(unpacked).unwrap().bytes(), batch.bytes(), "{compression:?} {count} {bytes}");
                }
            }
            // What was compressed large does not change what is small.
            fresh = Sealer::new();
        }
    }

    #[test]
    fn what_is_no_records_is_no_batch() {
        let mut repacker = Repacker::default();
        let unpacked = repacker.unpack(&batch(3, 50, Compression::Lz4, &mut Sealer::new())).unwrap();
        for records in [vec![], vec![0; 20], vec![0xff; 30], unpacked.records[..60].to_vec()] {
            assert!(repacker.pack(Unpacked { records, ..unpacked.clone() }).is_err());
        }
    }
}

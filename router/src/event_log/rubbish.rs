//! Batches for tests: a sound one, and one whose checksums fit and whose records nobody can read, as a hostile or a broken writer
//! makes it.

use sled_data::{Compression, HeaderBlock, OpenBatch, PartitionId, SealInfo, SealedBatch, Sealer, StoredBatch};

/// Where the Kafka batch begins, and its records.
const KAFKA: usize = 72;
const RECORDS: usize = KAFKA + 61;

/// A sound batch of these values.
pub fn sound(partition: PartitionId, base_offset: u64, hlc: u64, values: &[&str]) -> SealedBatch {
    let mut open = OpenBatch::new();
    for value in values {
        open.push(1_000, Some(b"key"), Some(value.as_bytes()), &HeaderBlock::new()).unwrap();
    }
    let compression = Compression::None;
    open.seal(SealInfo { partition, base_offset, hlc, compression, hops: 0, term: 0, flags: 0 }, &mut Sealer::new())
}

/// The same with rubbish in place of its records.
pub fn rubbish(batch: SealedBatch) -> StoredBatch {
    let mut bytes = StoredBatch::from(batch).bytes().to_vec();
    bytes[RECORDS..].fill(0xff);
    let crc = crc32c::crc32c(&bytes[KAFKA + 21..]);
    bytes[KAFKA + 17..KAFKA + 21].copy_from_slice(&crc.to_be_bytes());
    let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes[..4]), &bytes[8..KAFKA + 21]);
    bytes[4..8].copy_from_slice(&crc.to_be_bytes());
    StoredBatch::decode(bytes).unwrap()
}

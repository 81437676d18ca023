//! Batches: Kafka record batches v2 behind an envelope of the store's own.

mod compress;
mod envelope;
#[cfg(test)]
mod golden;
mod headers;
mod open;
mod part;
mod record;
mod seal;
mod stored;
mod unpacked;
mod varint;

pub use envelope::{ENVELOPE_BYTES, ENVELOPE_VERSION, Envelope};
pub use headers::{HeaderBlock, HeadersIter, HeadersRef};
pub use open::{EventTooLarge, OpenBatch};
pub(crate) use part::{PART_HEADER_BYTES, PART_VERSION, Part, each_value, payload, tag_of, values_of};
pub use record::{RecordRef, RecordsIter};
pub use seal::{SealInfo, SealedBatch, Sealer};
pub use stored::{BatchError, Records, StoredBatch};
pub use unpacked::{Repacker, Unpacked};

/// Most bytes of one stored value; a longer batch (of one large event) is stored in parts.
pub const BATCH_BYTES_MAX: usize = 64 << 10;
/// Uncompressed record bytes at which an open batch ought to be closed, so that it fits one stored value even when nothing compresses.
pub const RECORD_BYTES_OPEN_MAX: usize = BATCH_BYTES_MAX - 256;
/// Most bytes of one event in wire form: key, value and headers.
pub const EVENT_BYTES_MAX: usize = 16 << 20;
/// Most uncompressed record bytes of one batch: a large event besides what was open already.
pub const RECORD_BYTES_MAX: usize = EVENT_BYTES_MAX + BATCH_BYTES_MAX;

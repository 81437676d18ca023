//! One record in Kafka's v2 wire form: read in place.

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::headers::HeadersRef;
use super::varint::{take_bytes, take_varint};

/// One event of a batch, borrowed from it.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct RecordRef<'a> {
    /// Its offset counted from the batch's base offset.
    pub offset_delta: u32,
    /// When it happened, as its source says: Unix milliseconds.
    pub timestamp_ms: i64,
    /// Its key, which chose its partition.
    pub key: Option<&'a [u8]>,
    /// Its value; none is a tombstone of the key.
    pub value: Option<&'a [u8]>,
    /// Its headers.
    pub headers: HeadersRef<'a>,
}

/// A record split where its bytes no longer depend on the batch that holds it.
struct Split<'a> {
    timestamp_delta: i64,
    offset_delta: i64,
    /// Key, value and headers: the same bytes in whichever batch the event is.
    tail: &'a [u8],
}

#[inline]
fn take_split<'a>(bytes: &mut &'a [u8]) -> Option<Split<'a>> {
    let len = usize::try_from(take_varint(bytes)?).ok()?;
    let mut record = take_bytes(bytes, len)?;
    take_bytes(&mut record, 1)?; // attributes: unused by Kafka so far
    let timestamp_delta = take_varint(&mut record)?;
    let offset_delta = take_varint(&mut record)?;
    Some(Split { timestamp_delta, offset_delta, tail: record })
}

#[inline]
fn take_nullable<'a>(bytes: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
    match take_varint(bytes)? {
        -1 => Some(None),
        len => Some(Some(take_bytes(bytes, usize::try_from(len).ok()?)?)),
    }
}

/// Takes one record off the front of `bytes`; `None` where they are not one.
#[inline]
pub(super) fn take_record<'a>(bytes: &mut &'a [u8], base_timestamp_ms: i64) -> Option<RecordRef<'a>> {
    let split = take_split(bytes)?;
    let mut rest = split.tail;
    let key = take_nullable(&mut rest)?;
    let value = take_nullable(&mut rest)?;
    let count = u32::try_from(take_varint(&mut rest)?).ok()?;
    Some(RecordRef {
        offset_delta: u32::try_from(split.offset_delta).ok()?,
        timestamp_ms: base_timestamp_ms.wrapping_add(split.timestamp_delta),
        key,
        value,
        headers: HeadersRef { count, bytes: rest },
    })
}

/// The wrapping sum of the digests of all records in `bytes`, the first of which has offset `base_offset`; `None` where they are not records.
/// A record's digest covers its offset, timestamp, key, value and headers, not how records are grouped in batches.
pub(super) fn digest_records(mut bytes: &[u8], base_offset: u64, base_timestamp_ms: i64) -> Option<u64> {
    let mut sum = 0_u64;
    while !bytes.is_empty() {
        let split = take_split(&mut bytes)?;
        let offset = base_offset.wrapping_add(split.offset_delta as u64);
        let timestamp_ms = base_timestamp_ms.wrapping_add(split.timestamp_delta);
        sum = sum.wrapping_add(digest_one(offset, timestamp_ms, split.tail));
    }
    Some(sum)
}

#[inline]
fn digest_one(offset: u64, timestamp_ms: i64, tail: &[u8]) -> u64 {
    let seed = offset.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (timestamp_ms as u64).rotate_left(32);
    xxh3_64_with_seed(tail, seed)
}

/// Walks over the records of a batch.
#[derive(Clone, Debug)]
pub struct RecordsIter<'a> {
    bytes: &'a [u8],
    base_timestamp_ms: i64,
    left: u32,
}

impl<'a> RecordsIter<'a> {
    pub(super) fn new(bytes: &'a [u8], base_timestamp_ms: i64, count: u32) -> RecordsIter<'a> {
        RecordsIter { bytes, base_timestamp_ms, left: count }
    }

    /// Whether what is left are exactly as many records as announced, dense and well-formed, headers included.
    pub(super) fn is_sound(&self) -> bool {
        let mut iter = self.clone();
        let dense = (0_u32..)
            .zip(iter.by_ref())
            .all(|(expected, record)| record.offset_delta == expected && record.headers.is_sound());
        dense && iter.left == 0 && iter.bytes.is_empty()
    }
}

impl<'a> Iterator for RecordsIter<'a> {
    type Item = RecordRef<'a>;

    #[inline]
    fn next(&mut self) -> Option<RecordRef<'a>> {
        if self.left == 0 {
            return None;
        }
        let record = take_record(&mut self.bytes, self.base_timestamp_ms)?;
        self.left -= 1;
        Some(record)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some(self.left as usize))
    }
}

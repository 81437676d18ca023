//! A batch being written: records go straight into their wire form.

use super::headers::HeaderBlock;
use super::record::RecordsIter;
use super::varint::{varint_len, write_varint};
use super::{EVENT_BYTES_MAX, RECORD_BYTES_MAX, RECORD_BYTES_OPEN_MAX};

/// An event of more than [`EVENT_BYTES_MAX`] bytes; it was not added.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("an event of {bytes} bytes is over the bound of {EVENT_BYTES_MAX}")]
pub struct EventTooLarge {
    /// Its size in wire form.
    pub bytes: usize,
}

/// Room for the fixed part of a record: length, attributes, timestamp delta, offset delta, key length.
const HEAD_BYTES_MAX: usize = 10 + 1 + 10 + 10 + 10;

/// One partition's records being written, uncompressed, in Kafka's record v2 wire form.
#[derive(Clone, Debug, Default)]
pub struct OpenBatch {
    records: Vec<u8>,
    count: u32,
    base_timestamp_ms: i64,
    max_timestamp_ms: i64,
}

impl OpenBatch {
    /// An empty batch; it allocates with its first record.
    pub const fn new() -> OpenBatch {
        OpenBatch { records: Vec::new(), count: 0, base_timestamp_ms: 0, max_timestamp_ms: 0 }
    }

    /// A batch of records that are in wire form already; gives them back where they are none, or not dense.
    pub(super) fn of_records(records: Vec<u8>, base_timestamp_ms: i64) -> Result<OpenBatch, Vec<u8>> {
        let mut open = OpenBatch { records, count: 0, base_timestamp_ms, max_timestamp_ms: base_timestamp_ms };
        let mut left = RecordsIter::new(&open.records, base_timestamp_ms, u32::MAX);
        let (mut count, mut max_timestamp_ms) = (0, base_timestamp_ms);
        for record in left.by_ref() {
            count += 1;
            max_timestamp_ms = max_timestamp_ms.max(record.timestamp_ms);
        }
        open.count = count;
        if count == 0 || open.records.len() > RECORD_BYTES_MAX || !open.records().is_sound() {
            return Err(open.records);
        }
        open.max_timestamp_ms = max_timestamp_ms;
        Ok(open)
    }

    pub(super) fn into_wire_bytes(self) -> Vec<u8> {
        self.records
    }

    /// Adds an event.
    ///
    /// # Errors
    /// [`EventTooLarge`] when it takes more than [`EVENT_BYTES_MAX`] bytes; nothing is added then.
    #[inline]
    pub fn push(
        &mut self,
        timestamp_ms: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &HeaderBlock,
    ) -> Result<(), EventTooLarge> {
        self.push_pieces(timestamp_ms, key, value, headers.count(), [headers.bytes(), &[]])
    }

    /// Adds an event whose headers come in two pieces: a cached block and what is the event's own.
    ///
    /// # Errors
    /// As [`OpenBatch::push`].
    #[inline]
    pub fn push_with(
        &mut self,
        timestamp_ms: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &HeaderBlock,
        extra: &HeaderBlock,
    ) -> Result<(), EventTooLarge> {
        let count = headers.count() + extra.count();
        self.push_pieces(timestamp_ms, key, value, count, [headers.bytes(), extra.bytes()])
    }

    #[inline]
    fn push_pieces(
        &mut self,
        timestamp_ms: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        header_count: u32,
        headers: [&[u8]; 2],
    ) -> Result<(), EventTooLarge> {
        let base_timestamp_ms = if self.count == 0 { timestamp_ms } else { self.base_timestamp_ms };
        let timestamp_delta = timestamp_ms.wrapping_sub(base_timestamp_ms);
        let offset_delta = i64::from(self.count);
        let key_len = key.map_or(-1, |k| k.len() as i64);
        let value_len = value.map_or(-1, |v| v.len() as i64);
        let len = 1
            + varint_len(timestamp_delta)
            + varint_len(offset_delta)
            + varint_len(key_len)
            + key.map_or(0, <[u8]>::len)
            + varint_len(value_len)
            + value.map_or(0, <[u8]>::len)
            + varint_len(i64::from(header_count))
            + headers[0].len()
            + headers[1].len();
        if len > EVENT_BYTES_MAX {
            return Err(EventTooLarge { bytes: len });
        }

        let mut head = [0; HEAD_BYTES_MAX];
        let mut at = write_varint(&mut head, len as i64) + 1; // the attributes byte is 0
        at += write_varint(&mut head[at..], timestamp_delta);
        at += write_varint(&mut head[at..], offset_delta);
        at += write_varint(&mut head[at..], key_len);
        let mut middle = [0; 10];
        let middle_len = write_varint(&mut middle, value_len);
        let mut last = [0; 10];
        let last_len = write_varint(&mut last, i64::from(header_count));

        self.records.reserve(len + 10);
        self.records.extend_from_slice(&head[..at]);
        self.records.extend_from_slice(key.unwrap_or_default());
        self.records.extend_from_slice(&middle[..middle_len]);
        self.records.extend_from_slice(value.unwrap_or_default());
        self.records.extend_from_slice(&last[..last_len]);
        self.records.extend_from_slice(headers[0]);
        self.records.extend_from_slice(headers[1]);

        if self.count == 0 {
            self.base_timestamp_ms = timestamp_ms;
            self.max_timestamp_ms = timestamp_ms;
        }
        self.max_timestamp_ms = self.max_timestamp_ms.max(timestamp_ms);
        self.count += 1;
        Ok(())
    }

    /// Whether an event of about `event_bytes` bytes may still join before the batch ought to be closed.
    pub fn has_room(&self, event_bytes: usize) -> bool {
        self.count == 0 || self.records.len() + event_bytes + HEAD_BYTES_MAX <= RECORD_BYTES_OPEN_MAX
    }

    /// Number of records.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Bytes of the records, uncompressed.
    pub fn record_bytes(&self) -> usize {
        self.records.len()
    }

    /// Whether there are no records.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Removes all records and keeps the buffer.
    pub fn clear(&mut self) {
        self.records.clear();
        self.count = 0;
    }

    /// The largest timestamp in it, Unix milliseconds; 0 while it is empty.
    pub fn max_timestamp_ms(&self) -> i64 {
        self.max_timestamp_ms
    }

    pub(super) fn base_timestamp_ms(&self) -> i64 {
        self.base_timestamp_ms
    }

    pub(super) fn wire_bytes(&self) -> &[u8] {
        &self.records
    }

    /// The records so far; nothing needs sealing for this.
    pub fn records(&self) -> RecordsIter<'_> {
        RecordsIter::new(&self.records, self.base_timestamp_ms, self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_back() {
        let mut headers = HeaderBlock::new();
        headers.push("a", b"1");
        let mut extra = HeaderBlock::new();
        extra.push("b", b"2");
        let mut batch = OpenBatch::new();
        batch.push(1_000, Some(b"k"), Some(b"v"), &headers).unwrap();
        batch.push(900, None, Some(&[3; 5000]), &HeaderBlock::new()).unwrap();
        batch.push_with(i64::MAX, Some(b""), None, &headers, &extra).unwrap();
        let all: Vec<_> = batch.records().collect();
        assert_eq!(all.len(), 3);
        assert_eq!((all[0].offset_delta, all[0].timestamp_ms, all[0].key), (0, 1_000, Some(&b"k"[..])));
        assert_eq!((all[1].timestamp_ms, all[1].key, all[1].value), (900, None, Some(&[3; 5000][..])));
        assert_eq!((all[2].timestamp_ms, all[2].key, all[2].value), (i64::MAX, Some(&b""[..]), None));
        assert_eq!(all[2].headers.iter().collect::<Vec<_>>(), [("a", &b"1"[..]), ("b", b"2")]);
        assert_eq!(batch.max_timestamp_ms(), i64::MAX);
        assert!(batch.records().is_sound());
        batch.clear();
        assert!(batch.is_empty() && batch.records().next().is_none());
    }

    #[test]
    fn an_event_over_the_bound_is_refused_whole() {
        let mut batch = OpenBatch::new();
        let value = vec![0; EVENT_BYTES_MAX];
        assert!(batch.push(0, None, Some(&value), &HeaderBlock::new()).is_err());
        assert!(batch.is_empty() && batch.record_bytes() == 0);
        batch.push(0, None, Some(&value[..EVENT_BYTES_MAX - 64]), &HeaderBlock::new()).unwrap();
        assert!(!batch.has_room(1));
    }
}

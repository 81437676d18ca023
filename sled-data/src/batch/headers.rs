//! Headers in Kafka's wire form: written once by who may cache them, copied whole into each record.

use super::varint::{push_varint, take_bytes, take_varint};

/// Headers ready to be copied into records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderBlock {
    count: u32,
    bytes: Vec<u8>,
}

impl HeaderBlock {
    /// A block without headers.
    pub const fn new() -> HeaderBlock {
        HeaderBlock { count: 0, bytes: Vec::new() }
    }

    /// Adds a header; names may repeat and keep their order.
    pub fn push(&mut self, name: &str, value: &[u8]) {
        self.count += 1;
        push_varint(&mut self.bytes, name.len() as i64);
        self.bytes.extend_from_slice(name.as_bytes());
        push_varint(&mut self.bytes, value.len() as i64);
        self.bytes.extend_from_slice(value);
    }

    /// Adds all headers of a record that was read.
    pub fn extend(&mut self, headers: HeadersRef<'_>) {
        self.count += headers.count;
        self.bytes.extend_from_slice(headers.bytes);
    }

    /// Removes all headers and keeps the buffer.
    pub fn clear(&mut self) {
        self.count = 0;
        self.bytes.clear();
    }

    /// Number of headers.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The wire bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The same headers, borrowed.
    pub fn as_ref(&self) -> HeadersRef<'_> {
        HeadersRef { count: self.count, bytes: &self.bytes }
    }

    /// Names and values, in order.
    pub fn iter(&self) -> HeadersIter<'_> {
        self.as_ref().iter()
    }
}

/// The headers of one record, in wire form.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct HeadersRef<'a> {
    pub(super) count: u32,
    pub(super) bytes: &'a [u8],
}

impl<'a> HeadersRef<'a> {
    /// No headers.
    pub const EMPTY: HeadersRef<'static> = HeadersRef { count: 0, bytes: &[] };

    /// Number of headers.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// The wire bytes.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The first value under `name`.
    pub fn get(&self, name: &str) -> Option<&'a [u8]> {
        self.iter().find(|(n, _)| *n == name).map(|(_, value)| value)
    }

    /// Names and values, in order; a value that is null in Kafka's terms reads as empty. Ends early at bytes that are no headers.
    pub fn iter(&self) -> HeadersIter<'a> {
        HeadersIter { left: self.count, bytes: self.bytes }
    }

    /// Whether the bytes hold exactly as many well-formed headers as they say.
    pub fn is_sound(&self) -> bool {
        let mut iter = self.iter();
        iter.by_ref().count() == self.count as usize && iter.bytes.is_empty()
    }
}

/// Walks over headers.
#[derive(Clone, Debug)]
pub struct HeadersIter<'a> {
    left: u32,
    bytes: &'a [u8],
}

impl<'a> Iterator for HeadersIter<'a> {
    type Item = (&'a str, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let name_len = usize::try_from(take_varint(&mut self.bytes)?).ok()?;
        let name = std::str::from_utf8(take_bytes(&mut self.bytes, name_len)?).ok()?;
        let value = match take_varint(&mut self.bytes)? {
            -1 => &[],
            len => take_bytes(&mut self.bytes, usize::try_from(len).ok()?)?,
        };
        Some((name, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_come_back_in_order() {
        let mut block = HeaderBlock::new();
        block.push("mqtt.topic", b"a/b");
        block.push("", b"");
        block.push("mqtt.topic", &[7; 300]);
        assert!(block.as_ref().is_sound());
        let all: Vec<_> = block.iter().collect();
        assert_eq!(all, [("mqtt.topic", &b"a/b"[..]), ("", b""), ("mqtt.topic", &[7; 300])]);
        assert_eq!(block.as_ref().get("mqtt.topic"), Some(&b"a/b"[..]));
        assert_eq!(block.as_ref().get("mqtt"), None);
    }

    #[test]
    fn broken_bytes_end_the_walk() {
        let mut block = HeaderBlock::new();
        block.push("name", b"value");
        for cut in 0..block.bytes.len() {
            let cut = HeadersRef { count: 1, bytes: &block.bytes[..cut] };
            assert!(!cut.is_sound() && cut.iter().next().is_none());
        }
        assert!(!HeadersRef { count: 2, bytes: &block.bytes }.is_sound());
    }
}

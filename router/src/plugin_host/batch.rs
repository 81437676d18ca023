//! A batch as the guest is to see it: plain values, borrowed.

use sled_data::{HeadersRef, Offset};

use super::doubt::Doubt;
use super::state::Place;

/// One stored event.
#[derive(Clone, Copy)]
pub struct EventRef<'a> {
    /// Its number in the partition.
    pub offset: Offset,
    /// Milliseconds since 1970-01-01 UTC.
    pub timestamp_ms: i64,
    /// What decides its partition.
    pub key: Option<&'a [u8]>,
    /// `None` is a deletion.
    pub value: Option<&'a [u8]>,
    /// As stored.
    pub headers: HeadersRef<'a>,
    /// Whether it came late by a link; a plugin that is granted headers sees one more.
    pub is_late: bool,
}

impl<'a> EventRef<'a> {
    /// The headers that the guest is to see.
    pub fn shown_headers(&self) -> impl Iterator<Item = (&'a str, &'a [u8])> {
        let late: Option<(&'a str, &'a [u8])> = self.is_late.then_some((devices::headers::LATE, &[1]));
        self.headers.iter().chain(late)
    }
}

impl EventRef<'_> {
    /// Key, value and headers, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.key.map_or(0, <[u8]>::len) + self.value.map_or(0, <[u8]>::len) + self.headers.bytes().len()
    }
}

/// Events of one partition, in order.
#[derive(Clone, Copy)]
pub struct Batch<'a> {
    /// The topic's name.
    pub topic: &'a str,
    /// The partition's number.
    pub partition: u32,
    /// The store the events were first written to.
    pub origin: u64,
    /// The term under which the node reads them.
    pub term: u64,
    /// The origin whose state the plugin sees; `None` for the node's own, and where state goes over all origins.
    pub state_of: Option<u64>,
    /// What another node may have read before.
    pub doubt: Option<Doubt>,
    /// The events.
    pub events: &'a [EventRef<'a>],
}

impl<'a> Batch<'a> {
    /// Whose state the plugin sees while it processes the batch.
    #[must_use]
    pub fn place(&self) -> Place {
        Place { of: self.state_of, partition: self.partition }
    }

    /// A part of the batch.
    #[must_use]
    pub fn part(&self, range: std::ops::Range<usize>) -> Batch<'a> {
        Batch { events: self.events.get(range).unwrap_or_default(), ..*self }
    }
}

#[cfg(test)]
mod tests {
    use sled_data::HeaderBlock;

    use super::*;

    #[test]
    fn what_came_late_has_a_header_more() {
        let mut block = HeaderBlock::new();
        block.push("unit", b"bar");
        for (is_late, expected) in [(false, vec!["unit"]), (true, vec!["unit", "link.late"])] {
            let headers = block.as_ref();
            let event = EventRef { offset: 0, timestamp_ms: 0, key: None, value: None, headers, is_late };
            let names: Vec<&str> = event.shown_headers().map(|(name, _)| name).collect();
            assert_eq!(names, expected);
        }
    }
}

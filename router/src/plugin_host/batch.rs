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

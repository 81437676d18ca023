//! Events that travel together: of one lane, topic and boot, with rising numbers. Pure.

use bytes::Bytes;

use crate::native::{EVENTS_PER_FRAME_MAX, Event, FRAME_BYTES_MAX, FrameError, Limits, Publish, encode};
use crate::sequence::Number;

/// Bytes of a batch beyond which nothing is added to it.
const BATCH_BYTES_MAX: usize = 64 << 10;
/// Bytes that an event may take beside what it carries, at most: two numbers of ten bytes, and four lengths.
const EVENT_EXTRA_BYTES_MAX: usize = 32;
/// The same of a property.
const PROPERTY_EXTRA_BYTES_MAX: usize = 6;
/// The same of a frame: three numbers of ten bytes, and lengths.
const FRAME_EXTRA_BYTES_MAX: usize = 40;

/// A publish with a number.
pub(super) struct Item<'a> {
    pub(super) topic: &'a str,
    pub(super) number: Number,
    pub(super) timestamp_ms: i64,
    pub(super) payload: &'a Bytes,
    pub(super) properties: &'a [(String, String)],
}

/// One frame to be.
#[derive(Debug)]
pub(super) struct Batch {
    topic: String,
    first: Number,
    last: Number,
    timestamp_ms: i64,
    events: Vec<Held>,
    bytes: usize,
}

#[derive(Debug)]
struct Held {
    skipped: u64,
    later_ms: i64,
    payload: Bytes,
    properties: Vec<(String, String)>,
}

impl Item<'_> {
    /// Bytes that it takes in a frame, at most.
    fn bytes(&self) -> usize {
        let property = |(name, value): &(String, String)| name.len() + value.len() + PROPERTY_EXTRA_BYTES_MAX;
        let properties: usize = self.properties.iter().map(property).sum();
        self.payload.len() + properties + EVENT_EXTRA_BYTES_MAX
    }

    /// Whether a frame of its own can carry it.
    pub(super) fn fits(&self, limits: &Limits) -> bool {
        let frame_bytes_max = (limits.frame_bytes_max as usize).min(FRAME_BYTES_MAX);
        FRAME_EXTRA_BYTES_MAX + self.topic.len() + self.bytes() <= frame_bytes_max
    }

    fn hold(&self, skipped: u64, later_ms: i64) -> Held {
        Held { skipped, later_ms, payload: self.payload.clone(), properties: self.properties.to_vec() }
    }
}

impl Held {
    fn event(&self) -> Event<'_> {
        let properties = self.properties.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        Event { skipped: self.skipped, later_ms: self.later_ms, payload: &self.payload, properties }
    }
}

impl Batch {
    /// A batch of one, which must fit.
    pub(super) fn new(item: &Item<'_>) -> Self {
        Self {
            topic: item.topic.to_owned(),
            first: item.number,
            last: item.number,
            timestamp_ms: item.timestamp_ms,
            events: vec![item.hold(0, 0)],
            bytes: FRAME_EXTRA_BYTES_MAX + item.topic.len() + item.bytes(),
        }
    }

    /// Adds it, where it goes with the others.
    pub(super) fn add(&mut self, item: &Item<'_>, limits: &Limits) -> bool {
        let events_max = (limits.events_per_frame_max as usize).min(EVENTS_PER_FRAME_MAX);
        let bytes_max = (limits.frame_bytes_max as usize).min(BATCH_BYTES_MAX);
        let later_ms = item.timestamp_ms.checked_sub(self.timestamp_ms);
        // A 0 is no time: nothing can be counted from it.
        let comparable = (item.timestamp_ms == 0) == (self.timestamp_ms == 0);
        let (Some(later_ms), true) = (later_ms, comparable) else { return false };
        let goes = item.topic == self.topic
            && item.number.boot == self.last.boot
            && item.number.seq > self.last.seq
            && self.events.len() < events_max
            && self.bytes + item.bytes() <= bytes_max;
        if goes {
            self.events.push(item.hold(item.number.seq - self.last.seq - 1, later_ms));
            self.bytes += item.bytes();
            self.last = item.number;
        }
        goes
    }

    /// The last event's number.
    pub(super) fn last(&self) -> Number {
        self.last
    }

    /// Bytes that it takes, at most.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// As it is sent.
    pub(super) fn encode(&self, to: &mut Vec<u8>) -> Result<(), FrameError> {
        let events = self.events.iter().map(Held::event).collect();
        let Number { boot, seq: first } = self.first;
        encode(&Publish { topic: &self.topic, boot, first, timestamp_ms: self.timestamp_ms, events }, to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::native::{Framed, decode, next_frame};

    const LIMITS: Limits = Limits { frame_bytes_max: 4_096, events_per_frame_max: 3, frames_in_flight_max: 8 };

    fn number(boot: u64, seq: u64) -> Number {
        Number { boot, seq }
    }

    fn item<'a>(topic: &'a str, number: Number, timestamp_ms: i64, payload: &'a Bytes) -> Item<'a> {
        Item { topic, number, timestamp_ms, payload, properties: &[] }
    }

    #[test]
    fn is_read_as_it_was_put_together() {
        let (one, two) = (Bytes::from_static(b"1"), Bytes::from_static(b"22"));
        let properties = [("unit".to_owned(), "C".to_owned())];
        let mut batch = Batch::new(&item("s/t", number(7, 10), 1_000, &one));
        assert!(batch.add(&Item { properties: &properties, ..item("s/t", number(7, 15), 900, &two) }, &LIMITS));
        let mut bytes = Vec::new();
        batch.encode(&mut bytes).unwrap();
        let Ok(Framed::Whole { frame, .. }) = next_frame(&bytes) else { panic!("a frame") };
        let publish: Publish<'_> = decode(frame).unwrap();
        let events: Vec<_> = publish.numbered().map(|(n, event)| (n, event.later_ms, event.payload)).collect();
        assert_eq!(events, [(number(7, 10), 0, &b"1"[..]), (number(7, 15), -100, b"22")]);
        assert_eq!(publish.events[1].properties, [("unit", "C")]);
        assert_eq!((batch.last(), publish.timestamp_ms), (number(7, 15), 1_000));
        assert!(bytes.len() <= batch.bytes(), "the estimate is an upper bound");
    }

    #[test]
    fn what_does_not_go_together_travels_apart() {
        let payload = Bytes::from_static(b"x");
        let large = Bytes::from(vec![0; 4_000]);
        let cases = [
            ("another topic", item("u", number(1, 6), 5, &payload)),
            ("another boot", item("t", number(2, 6), 5, &payload)),
            ("the same number", item("t", number(1, 5), 5, &payload)),
            ("no time", item("t", number(1, 6), 0, &payload)),
            ("no room", item("t", number(1, 6), 5, &large)),
        ];
        for (why, other) in cases {
            let mut batch = Batch::new(&item("t", number(1, 5), 5, &payload));
            assert!(!batch.add(&other, &LIMITS), "{why}");
            assert!(batch.add(&item("t", number(1, 6), 6, &payload), &LIMITS));
            assert!(batch.add(&item("t", number(1, 7), 6, &payload), &LIMITS));
            assert!(!batch.add(&item("t", number(1, 8), 6, &payload), &LIMITS), "three are the most");
        }
    }

    #[test]
    fn the_largest_that_fits_can_be_sent() {
        let limits = Limits { frame_bytes_max: FRAME_BYTES_MAX as u32, ..LIMITS };
        let number = number(u64::MAX, u64::MAX);
        let fits = |length: usize| item("t", number, i64::MIN, &Bytes::from(vec![0; length])).fits(&limits);
        let largest = (0..FRAME_BYTES_MAX).rev().find(|length| fits(*length)).unwrap();
        assert!(largest > FRAME_BYTES_MAX - 100);
        let payload = Bytes::from(vec![0; largest]);
        Batch::new(&item("t", number, i64::MIN, &payload)).encode(&mut Vec::new()).unwrap();
    }
}

//! What an event or a command was caused by.

use devices::command::Cause;
use sled_data::{Offset, OriginId};

use super::batch::Batch;

/// Writes the value of the header [`devices::headers::CAUSE`]: plugin, term, and origin, topic, partition and
/// offset of the event that caused another, with a space between.
pub fn push_cause(out: &mut Vec<u8>, plugin: &str, batch: &Batch<'_>, offset: u64) {
    use std::io::Write;
    let Batch { topic, partition, origin, term, .. } = batch;
    // Writing to a vector does not fail.
    let _ = write!(out, "{plugin} {term} {origin:016x} {topic} {partition} {offset}");
}

/// What an event was derived from, as its header tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DerivedFrom<'a> {
    /// The plugin that derived it.
    pub plugin: &'a str,
    /// The term under which that was done.
    pub term: u64,
    /// The life that wrote the source event.
    pub origin: OriginId,
    /// The source event's topic.
    pub topic: &'a str,
    /// The source event's partition.
    pub partition: u32,
    /// The source event's offset.
    pub offset: Offset,
}

impl<'a> DerivedFrom<'a> {
    /// Reads the value of the header [`devices::headers::CAUSE`]; `None` where it is none.
    #[must_use]
    pub fn parse(header: &'a [u8]) -> Option<DerivedFrom<'a>> {
        let mut parts = std::str::from_utf8(header).ok()?.split(' ');
        let (plugin, term, origin) = (parts.next()?, parts.next()?, parts.next()?);
        let (topic, partition, offset) = (parts.next()?, parts.next()?, parts.next()?);
        let whole = parts.next().is_none();
        whole.then_some(DerivedFrom {
            plugin,
            term: term.parse().ok()?,
            origin: OriginId(u64::from_str_radix(origin, 16).ok()?),
            topic,
            partition: partition.parse().ok()?,
            offset: offset.parse().ok()?,
        })
    }
}

/// What a command was caused by, in the words of `devices`.
pub fn command_cause(plugin: &str, batch: &Batch<'_>, offset: u64, index: u32) -> Cause {
    Cause {
        plugin: plugin.to_owned(),
        topic: batch.topic.to_owned(),
        origin: batch.origin,
        partition: batch.partition,
        offset,
        index,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BATCH: Batch<'static> =
        Batch { topic: "telemetry", partition: 3, origin: 0xab, term: 7, state_of: None, doubt: None, events: &[] };

    #[test]
    fn causes_are_readable() {
        let mut out = Vec::new();
        push_cause(&mut out, "threshold-alarm", &BATCH, 1042);
        assert_eq!(out, b"threshold-alarm 7 00000000000000ab telemetry 3 1042");
        let parsed = DerivedFrom {
            plugin: "threshold-alarm",
            term: 7,
            origin: OriginId(0xab),
            topic: "telemetry",
            partition: 3,
            offset: 1042,
        };
        assert_eq!(DerivedFrom::parse(&out), Some(parsed));
        for wrong in ["", "p", "p x 1 t 0 0", "p 0 1 t 0", "p 0 1 t 0 0 0", "p 0 zz t 0 0"] {
            assert_eq!(DerivedFrom::parse(wrong.as_bytes()), None, "{wrong}");
        }
    }
}

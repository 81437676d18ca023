//! What an event or a command was caused by.

use devices::command::Cause;

use super::batch::Batch;

/// The term under which a plugin runs; takes part from the first day, so that
/// ids need not change when plugins can move between nodes.
const TERM: u64 = 0;

/// Writes the value of the header [`devices::headers::CAUSE`]: plugin, term, and origin, topic, partition and
/// offset of the event that caused another, with a space between.
pub fn push_cause(out: &mut Vec<u8>, plugin: &str, batch: &Batch<'_>, offset: u64) {
    use std::io::Write;
    // Writing to a vector does not fail.
    let _ = write!(out, "{plugin} {TERM} {:016x} {} {} {offset}", batch.origin, batch.topic, batch.partition);
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

    const BATCH: Batch<'static> = Batch { topic: "telemetry", partition: 3, origin: 0xab, events: &[] };

    #[test]
    fn causes_are_readable() {
        let mut out = Vec::new();
        push_cause(&mut out, "threshold-alarm", &BATCH, 1042);
        assert_eq!(out, b"threshold-alarm 0 00000000000000ab telemetry 3 1042");
    }
}

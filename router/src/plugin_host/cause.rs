//! What an event or a command was caused by, and ids made from it.

use sha2::{Digest, Sha256};

use super::batch::Batch;

/// The header of derived events: plugin, term, and origin, topic, partition and
/// offset of the event that caused them, with a space between.
pub const CAUSE_HEADER: &str = "cause";

/// The term under which a plugin runs; takes part from the first day, so that
/// ids need not change when plugins can move between nodes.
const TERM: u64 = 0;

/// Writes the value of [`CAUSE_HEADER`].
pub fn push_cause(out: &mut Vec<u8>, plugin: &str, batch: &Batch<'_>, offset: u64) {
    use std::io::Write;
    // Writing to a vector does not fail.
    let _ = write!(
        out,
        "{plugin} {TERM} {:016x} {} {} {offset}",
        batch.origin, batch.topic, batch.partition
    );
}

/// The id of the `ordinal`-th command that an event caused: a UUID (version 8)
/// that is the same whenever the same event is processed again.
#[must_use]
pub fn command_id(plugin: &str, batch: &Batch<'_>, offset: u64, ordinal: u32) -> [u8; 16] {
    let mut digest = Sha256::new();
    digest.update(b"edgeway command 1\0");
    digest.update(plugin.as_bytes());
    digest.update([0]);
    digest.update(batch.origin.to_be_bytes());
    digest.update(batch.topic_id.to_be_bytes());
    digest.update(batch.partition.to_be_bytes());
    digest.update(offset.to_be_bytes());
    digest.update(ordinal.to_be_bytes());
    let mut id = [0; 16];
    id.copy_from_slice(&digest.finalize()[..16]);
    id[6] = id[6] & 0x0f | 0x80;
    id[8] = id[8] & 0x3f | 0x80;
    id
}

#[cfg(test)]
mod tests {
    use super::*;

    const BATCH: Batch<'static> = Batch {
        topic: "telemetry",
        topic_id: 7,
        partition: 3,
        origin: 0xab,
        events: &[],
    };

    #[test]
    fn causes_are_readable() {
        let mut out = Vec::new();
        push_cause(&mut out, "threshold-alarm", &BATCH, 1042);
        assert_eq!(out, b"threshold-alarm 0 00000000000000ab telemetry 3 1042");
    }

    #[test]
    fn an_id_is_a_function_of_its_cause_alone() {
        let id = command_id("p", &BATCH, 5, 0);
        assert_eq!(super::super::hex(&id), "07c554787c5d80c8a73037f6124b559c", "golden");
        assert_eq!(
            id,
            command_id(
                "p",
                &Batch {
                    topic: "renamed",
                    ..BATCH
                },
                5,
                0
            )
        );
        let others = [
            command_id("q", &BATCH, 5, 0),
            command_id("p", &BATCH, 6, 0),
            command_id("p", &BATCH, 5, 1),
            command_id(
                "p",
                &Batch {
                    partition: 4,
                    ..BATCH
                },
                5,
                0,
            ),
            command_id(
                "p",
                &Batch {
                    topic_id: 8,
                    ..BATCH
                },
                5,
                0,
            ),
            command_id("p", &Batch { origin: 1, ..BATCH }, 5, 0),
        ];
        assert!(others.iter().all(|other| *other != id));
    }
}

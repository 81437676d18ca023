//! Figures of device twins.

use std::fmt;

use super::sheet::{Sheet, read};
use crate::twins::Twins;

/// How many twins there are, and what became of changes and deltas.
pub(super) fn write(twins: &Twins, sheet: &mut Sheet<'_>) -> fmt::Result {
    let stats = twins.stats();
    let (count, bytes, differing) = twins.figures();
    sheet.gauge("twins", "Devices that have a twin", count as u64)?;
    sheet.gauge("twins_bytes", "Bytes of all twins", bytes as u64)?;
    sheet.gauge("twins_differing", "Devices that are not yet as they shall be", differing as u64)?;
    let changes = [
        ("desired", read(&stats.desired)),
        ("reported", read(&stats.reported)),
        ("deleted", read(&stats.deleted)),
        ("unchanged", read(&stats.unchanged)),
        ("refused", read(&stats.refused)),
    ];
    sheet.counters("twin_changes", "What became of requests to change a twin", "outcome", &changes)?;
    let told = [("delta", read(&stats.deltas)), ("state", read(&stats.states))];
    sheet.counters("twin_messages", "Messages about twins handed to sessions", "kind", &told)?;
    sheet.counter("twin_events_unreadable", "Events that are no report or wish", read(&stats.unreadable))
}

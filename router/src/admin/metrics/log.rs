//! Figures of the way in and of the log: taken, refused, synced, stored; and who is connected.

use std::fmt;

use super::sheet::{Sheet, read};
use crate::directory::Directory;
use crate::event_log::{EventLog, SYNC_BUCKETS_US};
use crate::ingest::Ingest;
use crate::sessions::Sessions;

/// Durable events, syncs, batches and the store.
pub(super) fn write(log: &EventLog, sheet: &mut Sheet<'_>) -> fmt::Result {
    let stats = log.stats();
    let (events, batches) = (read(&stats.events), read(&stats.batches));
    let record_bytes = read(&stats.record_bytes);
    sheet.counter("log_events", "Events that became durable, the node's own among them", events)?;
    sheet.counter("log_commits", "Commits that became durable", read(&stats.commits))?;
    sheet.counter("log_batches", "Batches in these commits", batches)?;
    sheet.counter("log_record_bytes", "Bytes of their records before compression", record_bytes)?;
    let mean = record_bytes.checked_div(batches).unwrap_or(0);
    sheet.bytes("log_batch_mean", "Mean size of a batch before compression, since the start", mean)?;
    let refused = [("full", read(&stats.refused_full)), ("failed", read(&stats.refused_failed))];
    sheet.counters("log_refused", "Commits that the store refused", "reason", &refused)?;
    write_sync(log, sheet)?;
    let store = log.store();
    sheet.bytes("store", "Bytes that the store takes on disk", store.size_bytes())?;
    sheet.bytes("store_batch", "Bytes of the batches in the store", store.batch_bytes())?;
    if let Some(free) = store.free_bytes() {
        sheet.bytes("store_free", "Free bytes of the store's disk", free)?;
    }
    sheet.gauge("store_alarm", "1 where people should look at the store", u64::from(store.alarm().is_some()))
}

fn write_sync(log: &EventLog, sheet: &mut Sheet<'_>) -> fmt::Result {
    let stats = log.stats();
    let bounds = SYNC_BUCKETS_US.iter().map(|bound| *bound as f64 / 1e6).chain([f64::INFINITY]);
    let buckets: Vec<(f64, u64)> = bounds.zip(&stats.sync_buckets).map(|(le, count)| (le, read(count))).collect();
    let sum_s = read(&stats.sync_us) as f64 / 1e6;
    sheet.histogram("sync", "Time of writing and syncing commits, the node's own or others'", sum_s, &buckets)
}

/// What came in, and what was refused for which reason.
pub(super) fn write_ingest(ingest: &Ingest, sheet: &mut Sheet<'_>) -> fmt::Result {
    let (stats, lanes) = (ingest.stats(), ingest.lanes().stats());
    sheet.counter("events_taken", "Events acknowledged, or taken at QoS 0", read(&stats.taken))?;
    sheet.counter("events_taken_bytes", "Bytes of their payloads", read(&stats.payload_bytes))?;
    let refused = [
        ("no_rule", read(&stats.refused_no_rule)),
        ("not_allowed", read(&stats.refused_not_allowed)),
        ("store", read(&stats.refused_store)),
        ("protocol", read(&stats.refused_protocol)),
        ("too_large", read(&stats.refused_too_large)),
        ("malformed_sequence", read(&lanes.malformed)),
        ("stale_boot", read(&lanes.stale_boot)),
        ("too_many_devices", read(&lanes.refused_too_many)),
        ("behind", read(&lanes.behind)),
    ];
    sheet.counters("events_refused", "Publishes that were refused", "reason", &refused)?;
    let duplicates = read(&lanes.duplicates);
    sheet.counter("events_known", "Numbered events that came again and were answered without an append", duplicates)?;
    sheet.gauge("numbering_devices", "Devices that number their events", ingest.lanes().known() as u64)
}

/// Who is connected.
pub(super) fn write_sessions(sessions: &Sessions, sheet: &mut Sheet<'_>) -> fmt::Result {
    let stats = sessions.stats();
    sheet.gauge("sessions", "Clients that are connected", sessions.live() as u64)?;
    sheet.counter("sessions_connected", "Connections admitted", read(&stats.connected))?;
    sheet.counter("sessions_taken_over", "Connections that took a client id over", read(&stats.taken_over))?;
    sheet.counter("sessions_refused", "Connections refused: too many", read(&stats.refused_too_many))?;
    let help = "Connections refused: the device is not enrolled";
    sheet.counter("sessions_refused_not_enrolled", help, read(&stats.refused_not_enrolled))?;
    sheet.gauge("devices_seen", "Devices that were seen and are remembered", sessions.seen_count() as u64)
}

pub(super) fn write_devices(directory: &Directory, sheet: &mut Sheet<'_>) -> fmt::Result {
    let catalog = directory.catalog();
    sheet.gauge("catalog_devices", "Devices in the catalog", catalog.len() as u64)?;
    sheet.gauge("catalog_devices_enrolled", "Devices that people have added", catalog.enrolled() as u64)
}

//! How far every reader with a cursor is behind the visible end: in events, and in seconds.

use std::collections::BTreeMap;
use std::fmt;

use sled_data::{Offset, PartitionId};

use super::Sheet;
use crate::event_log::EventLog;

/// Readers that are shown.
const READERS_MAX: usize = 256;
/// Batches that one scrape reads to learn how old the oldest unread event is.
const READS_MAX: usize = 512;

/// How far one reader is behind.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Lag {
    pub(super) events: u64,
    pub(super) seconds: f64,
}

/// The lag of every reader.
pub(super) fn lags(log: &EventLog) -> BTreeMap<String, Lag> {
    let now_ms = log.clock().wall_ms();
    let mut reads = 0;
    let mut lags = BTreeMap::new();
    for reader in log.store().readers().unwrap_or_default().into_iter().take(READERS_MAX) {
        let mut lag = Lag::default();
        for (partition, next) in log.store().cursors(&reader).unwrap_or_default() {
            let behind = log.visible_end(partition).saturating_sub(next);
            lag.events += behind;
            if behind > 0 && reads < READS_MAX {
                reads += 1;
                let age_ms = oldest_ms(log, partition, next).map_or(0, |at_ms| (now_ms - at_ms).max(0));
                lag.seconds = lag.seconds.max(age_ms as f64 / 1e3);
            }
        }
        lags.insert(reader, lag);
    }
    lags
}

fn oldest_ms(log: &EventLog, partition: PartitionId, next: Offset) -> Option<i64> {
    let batches = log.read(partition, next, 1).ok()?;
    let (_, record) = batches.first()?.events_from(next).next()?;
    Some(record.timestamp_ms)
}

/// Writes the lags.
pub(super) fn write(log: &EventLog, sheet: &mut Sheet<'_>) -> fmt::Result {
    let lags = lags(log);
    let of = |value: fn(&Lag) -> f64| -> Vec<(String, f64)> {
        lags.iter().map(|(reader, lag)| (reader.clone(), value(lag))).collect()
    };
    let events = of(|lag| lag.events as f64);
    sheet.gauges("reader_lag_events", "Events that a reader has not done yet", "reader", &events)?;
    let seconds = of(|lag| lag.seconds);
    sheet.gauges("reader_lag_seconds", "Age of the oldest event that a reader has not done yet", "reader", &seconds)
}

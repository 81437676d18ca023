//! What events on the two topics mean to the table.

use std::sync::atomic::Ordering::Relaxed;

use devices::command::check_device_name;
use devices::headers;
use devices::stamp::Stamp;
use devices::twin::{
    Act, Document, FromDevice, Half, Refusal, VERSION_PROPERTY, Wish, parse_from_device, parse_version,
};
use sled_data::{PartitionId, ReadError as StoreError, RecordRef};

use super::courier::Courier;
use super::record::Outcome;
use super::table::{Accepted, Moment, Request, Table};
use super::{Inner, Stats, Twins};
use crate::event_log::{Batch, ReadError};

/// Bytes read from one partition at once.
const READ_BYTES_MAX: usize = 256 * 1024;
/// Bytes of twins that one round stores, about: they are one commit.
const ROUND_BYTES_MAX: usize = 1 << 20;
/// Changes and acts that one round appends.
const ROUND_EVENTS_MAX: usize = 4_096;

/// What a partition's events are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// What devices say.
    Reports,
    /// What plugins wish.
    Wishes,
}

/// Where one partition is read next.
pub(super) struct Reading {
    pub(super) source: Source,
    pub(super) id: PartitionId,
    pub(super) next: u64,
}

/// What a round has read.
#[derive(Default)]
pub(super) struct Read {
    /// Cursors have moved.
    pub(super) moved: bool,
    /// There is more than one round takes.
    pub(super) more: bool,
    /// What became of wishes, for the audit.
    pub(super) outcomes: Vec<Outcome>,
}

impl Twins {
    /// Reads what is new on both topics into the table, as much as one commit takes.
    pub(super) fn take_new(&self, inner: &mut Inner, now: Moment) -> Result<Read, ReadError> {
        let Inner { table, courier, reading, .. } = inner;
        let mut read = Read::default();
        // Of a life that has ended nothing comes any more, and retention drops what was read.
        let own = self.log.origin();
        reading.retain(|place| place.id.origin == own || place.next < self.log.visible_end(place.id));
        let (behind, mut passed) = (self.behind(reading), false);
        for place in reading.iter_mut() {
            let is_before = |id: &PartitionId| (id.topic, id.index) == (place.id.topic, place.id.index);
            if behind.iter().find(|id| is_before(id)).is_some_and(|first| *first != place.id) {
                continue;
            }
            let batches = match self.log.read(place.id, place.next, READ_BYTES_MAX) {
                Err(ReadError::Store(StoreError::Damaged { from, to, reason, .. })) if to > place.next => {
                    // What comes behind it is read with the next round.
                    self.stats.unreadable.fetch_add(1, Relaxed);
                    tracing::error!(source = ?place.source, from, to, reason, "events are damaged and passed over; run `edgeway store verify`");
                    (place.next, read.moved, passed) = (to, true, true);
                    continue;
                }
                // Retention has dropped it meanwhile.
                Err(ReadError::NoPartition { .. }) if place.id.origin != own => continue,
                batches => batches?,
            };
            let end = self.log.visible_end(place.id);
            if batches.is_empty() && place.id.origin != own && place.next < end {
                // Nothing comes to it any more, and retention has taken what is left.
                tracing::warn!(source = ?place.source, from = place.next, to = end, "events were removed by retention before they were read");
                (place.next, read.moved) = (end, true);
            }
            if let Some(first) = batches.first().filter(|first| first.base_offset() > place.next) {
                let (from, to) = (place.next, first.base_offset());
                tracing::warn!(source = ?place.source, from, to, "events were removed by retention before they were read");
            }
            for batch in &batches {
                let said = self.said_at(batch, now);
                let now = said.unwrap_or(now);
                for (offset, record) in batch.events_from(place.next) {
                    match place.source {
                        Source::Reports if is_outdated(table, &record, said) => {
                            self.stats.unchanged.fetch_add(1, Relaxed);
                        }
                        Source::Reports => take_report(table, courier, &self.stats, record, now),
                        Source::Wishes => {
                            read.outcomes.extend(take_wish(table, courier, &self.stats, record, now));
                        }
                    }
                    (place.next, read.moved) = (offset + 1, true);
                    let pending = table.pending();
                    let events = pending.changes.len() + read.outcomes.len();
                    if pending.saved_bytes > ROUND_BYTES_MAX || events > ROUND_EVENTS_MAX {
                        read.more = true;
                        break;
                    }
                }
                if read.more {
                    break;
                }
                place.next = place.next.max(batch.next_offset());
            }
            if read.more {
                break;
            }
        }
        if read.more {
            // So that a busy partition does not keep the others waiting.
            reading.rotate_left(1);
        }
        read.more |= passed || !behind.is_empty();
        Ok(read)
    }

    /// When what a batch says was said, where that is not now: what was written before this start, and read late, is as old as it is. Its device
    /// may have gone to another node meanwhile, and said something else there.
    fn said_at(&self, batch: &Batch, now: Moment) -> Option<Moment> {
        let clock = batch
            .stored_clock()
            .filter(|clock| batch.partition().origin != self.log.origin() || *clock <= self.log.clock().began_after());
        clock.map(|clock| Moment { stamp: Stamp { clock, ..now.stamp }, ..now })
    }

    /// What is unread of ended lives, in the order in which it is to be read: reports change what those before them have said.
    fn behind(&self, reading: &[Reading]) -> Vec<PartitionId> {
        let is_unread = |place: &&Reading| place.next < self.log.visible_end(place.id);
        let of = |life| reading.iter().filter(move |place| place.id.origin == life).filter(is_unread);
        self.log.ended_lives().iter().copied().flat_map(of).map(|place| place.id).collect()
    }
}

fn text<'a>(record: &RecordRef<'a>, name: &str) -> Option<&'a str> {
    record.headers.get(name).and_then(|bytes| std::str::from_utf8(bytes).ok())
}

fn from_device<'a>(record: &RecordRef<'a>) -> Option<FromDevice<'a>> {
    text(record, headers::MQTT_TOPIC).and_then(|topic| parse_from_device(topic).ok())
}

/// Whether a report that was `said` before this start is older than what another node has taken since. One of now never is, whatever that node's
/// clock says.
fn is_outdated(table: &Table, record: &RecordRef<'_>, said: Option<Moment>) -> bool {
    match (said, from_device(record)) {
        (Some(said), Some(FromDevice::Reported { device, .. })) => table.is_outdated(device, said.stamp),
        _ => false,
    }
}

fn take_report(table: &mut Table, courier: &mut Courier, stats: &Stats, record: RecordRef<'_>, now: Moment) {
    let (device, in_topic) = match from_device(&record) {
        Some(FromDevice::Reported { device, if_version }) => (device, if_version),
        Some(FromDevice::Get { device }) => return courier.asked(device),
        None => {
            stats.unreadable.fetch_add(1, Relaxed);
            return;
        }
    };
    let who = format!("device:{}", text(&record, headers::MQTT_CLIENT).unwrap_or(device));
    let changed = in_topic.map_or_else(|| version_property(&record), |version| Ok(Some(version)));
    let changed = changed.and_then(|if_version| {
        let patch = Document::parse(record.value.unwrap_or_default())?;
        let act = Act::Patched { half: Half::Reported, version: 0, patch };
        table.change(Request { device, act: &act, if_version, who: &who }, now)
    });
    match changed {
        Ok(accepted) => {
            stats.count(accepted, Half::Reported);
            if !table.differing().contains(device) {
                courier.settled(device);
            }
        }
        Err(refusal) => {
            stats.refused.fetch_add(1, Relaxed);
            tracing::debug!(device, %refusal, "a report is not taken");
            courier.refused(device, refusal);
        }
    }
}

/// The version in the user property of that name; `None` where there is none.
fn version_property(record: &RecordRef<'_>) -> Result<Option<u64>, Refusal> {
    let properties = record.headers.iter().filter(|(name, _)| *name == headers::MQTT_USER);
    let mut properties = properties.filter_map(|(_, value)| headers::decode_user_property(value));
    let Some((_, value)) = properties.find(|(name, _)| *name == VERSION_PROPERTY) else { return Ok(None) };
    parse_version(value).map(Some).ok_or_else(|| {
        let end = value.floor_char_boundary(32);
        Refusal::Number(value[..end].to_owned())
    })
}

fn take_wish(
    table: &mut Table,
    courier: &mut Courier,
    stats: &Stats,
    record: RecordRef<'_>,
    now: Moment,
) -> Option<Outcome> {
    let device =
        record.key.and_then(|key| std::str::from_utf8(key).ok()).filter(|name| check_device_name(name).is_ok());
    let wish = record.value.and_then(|value| Wish::decode(value).ok());
    let (Some(device), Some(wish)) = (device, wish) else {
        stats.unreadable.fetch_add(1, Relaxed);
        return None;
    };
    let act = wish.act();
    let request = Request { device, act: &act, if_version: wish.if_version, who: &wish.who };
    let changed = table.change(request, now);
    match &changed {
        Ok(accepted) => {
            stats.count(*accepted, Half::Desired);
            follow(table, courier, device, *accepted);
            if !accepted.is_change {
                return None;
            }
        }
        Err(refusal) => {
            stats.refused.fetch_add(1, Relaxed);
            tracing::warn!(device, who = wish.who, %refusal, "what a plugin wishes is not taken");
        }
    }
    Some(Outcome::of(&wish.who, "twin.set", device, &changed))
}

/// What follows for the device from a change of what is desired of it.
pub(super) fn follow(table: &Table, courier: &mut Courier, device: &str, accepted: Accepted) {
    match table.differing().contains(device) {
        true if accepted.is_change => courier.due(device),
        true => {}
        false => courier.settled(device),
    }
}

impl Stats {
    pub(super) fn count(&self, accepted: Accepted, half: Half) {
        let counter = match (accepted.is_change, half) {
            (false, _) => &self.unchanged,
            (true, Half::Desired) => &self.desired,
            (true, Half::Reported) => &self.reported,
        };
        counter.fetch_add(1, Relaxed);
    }
}

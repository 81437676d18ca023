//! What a plugin reads in a round: what is new in the partitions of its charges, without what was overridden.

use std::ops::Range;
use std::sync::Arc;

use sled_data::{Offset, PartitionId};

use super::PluginReader;
use crate::event_log::{self, PartitionLog, ReadError, Topic};
use crate::plugin_host::batch::EventRef;
use crate::plugin_host::carry::read_spans;
use crate::plugin_host::charge::{Charge, SpanV1, SpansV1};
use crate::plugin_host::charge_index::View;
use crate::plugin_host::doubt::{Doubt, doubt_of};
use crate::plugin_host::fault::Fault;
use crate::plugin_host::overridden::Verdict;
use crate::plugin_host::rests::{Behind, earlier_first, first_unread, goes_on};
use crate::plugin_host::taking_up::Reading;

/// Bytes read from one partition in a round, about.
const READ_BYTES_MAX: usize = 512 << 10;
/// Ranges of damaged events that are passed in one partition in a round.
const DAMAGES_MAX: usize = 1_024;
/// Bytes read in a round, about.
const ROUND_READ_BYTES_MAX: usize = 2 << 20;

/// Events of one partition.
pub(super) struct Read {
    pub(super) topic: Arc<Topic>,
    pub(super) id: PartitionId,
    pub(super) reading: Reading,
    /// Whose state goes with them.
    pub(super) state_of: Option<u64>,
    /// What another node may have read before.
    pub(super) doubt: Option<Doubt>,
    from: Offset,
    /// Where reading stops for now.
    until: Offset,
    /// Overridden events, in order.
    skipped: Vec<Offset>,
    batches: Vec<event_log::Batch>,
}

fn store_fault(error: impl std::fmt::Display) -> Fault {
    Fault::Store(error.to_string())
}

impl PluginReader {
    /// Reads what is new, a bounded amount.
    pub(super) fn gather(&mut self) -> Result<Vec<Read>, Fault> {
        let own = self.log.store().origin();
        let mut partitions = self.partitions();
        let (mut behind, rests) = (Behind::default(), partitions.partition_point(|(.., reading)| reading.is_rest(own)));
        if let (_, others @ [_, ..]) = partitions.split_at_mut(rests) {
            self.turn = (self.turn + 1) % others.len();
            others.rotate_left(self.turn);
            earlier_first(&self.duties, others);
        }
        let index = Arc::clone(&self.index);
        let view = index.view().map_err(store_fault)?;
        let mut reads = Vec::new();
        let mut bytes = 0;
        for (topic, id, reading) in partitions {
            let from = self.position(id, reading)?;
            let end = self.log.visible_end(id);
            if bytes >= ROUND_READ_BYTES_MAX || end <= from || behind.waits(id, reading, own) {
                continue;
            }
            let (from, batches) = self.read(&topic, id, from)?;
            let told = self.tell_gap(&topic, id, from, &batches);
            bytes += batches.iter().map(event_log::Batch::record_bytes).sum::<usize>();
            let until = batches.last().map_or(told, event_log::Batch::next_offset);
            let goes_on = goes_on(&self.log, &self.duties, &self.manifest.name, (id, reading))?;
            let state_of = if goes_on { None } else { self.state_of(reading) };
            let doubt = self.doubt(id, reading, goes_on)?;
            let mut read = Read { topic, id, reading, state_of, doubt, from, until, skipped: Vec::new(), batches };
            if let Some(view) = &view {
                read.judge(view);
            }
            if reading.is_rest(own) || reading.later_than(id).is_some() {
                behind.note((id, reading), (from, read.until, end));
            }
            if read.until > from {
                reads.push(read);
            }
        }
        Ok(reads)
    }

    /// The partitions that are read for now; what is left of ended lives first, the oldest before the others.
    fn partitions(&self) -> Vec<(Arc<Topic>, PartitionId, Reading)> {
        let topics = self.manifest.topics.iter().filter_map(|name| self.log.topic(name));
        let readings = self.taken.as_ref().map_or(&[][..], |taken| taken.readings.as_slice());
        let own = self.log.store().origin();
        let mut found = Vec::new();
        for topic in topics {
            for id in self.ids(&topic, readings) {
                let covers = |reading: &&Reading| match reading.charge {
                    Some(charge) if reading.is_recorded => self.duties.is_under(charge, id),
                    charge => charge.is_none_or(|charge| charge.covers(id)),
                };
                found.extend(readings.iter().find(covers).map(|reading| (Arc::clone(&topic), id, *reading)));
            }
        }
        found.sort_by_key(|(.., reading)| !reading.is_rest(own));
        found
    }

    fn ids(&self, topic: &Topic, readings: &[Reading]) -> Vec<PartitionId> {
        let own = self.log.store().origin();
        let is_rest = |reading: &Reading| reading.is_rest(own);
        let mut ids = Vec::new();
        if readings.iter().any(is_rest) {
            ids = ids_of(&self.log.ended_partitions(topic));
        }
        if readings.iter().all(|reading| reading.charge == Some(Charge::Origin(own)) || is_rest(reading)) {
            ids.extend(ids_of(topic.all_partitions()));
        } else {
            let all = ids_of(&self.log.partitions_of(topic));
            ids.extend(all.into_iter().filter(|id| !ids.contains(id)).collect::<Vec<_>>());
        }
        ids
    }

    /// The origin whose state a reading goes with; `None` for the node's own, and over all origins.
    fn state_of(&self, reading: Reading) -> Option<u64> {
        match reading.charge {
            Some(Charge::Origin(origin)) if origin != self.log.store().origin() => Some(origin.0),
            _ => None,
        }
    }

    /// What another node may have read of a partition before.
    fn doubt(&self, id: PartitionId, reading: Reading, goes_on: bool) -> Result<Option<Doubt>, Fault> {
        let name = &self.manifest.name;
        let share = self.duties.shares.iter().find(|share| {
            reading.charge == Some(Charge::Share(share.index)) && share.plugin == *name && share.term == reading.term
        });
        let before = share.map_or(&[][..], |share| share.predecessors.as_slice());
        doubt_of(&self.log, name, (id, reading), (before, goes_on))
    }

    fn position(&mut self, id: PartitionId, reading: Reading) -> Result<Offset, Fault> {
        if let Some(position) = self.positions.get(&id) {
            return Ok(*position);
        }
        let cursor = self.log.cursor(&self.reader, id).map_err(store_fault)?;
        let position = match reading.charge {
            Some(charge) if reading.is_recorded => self.recorded_position((id, reading), charge, cursor)?,
            // A partition without a cursor came after the plugin: all of it is new, what retention has taken since included.
            _ => cursor.unwrap_or(0),
        };
        self.positions.insert(id, position);
        Ok(position)
    }

    /// The position in a partition of a charge that was taken over, which may not be recorded yet.
    fn recorded_position(
        &mut self,
        (id, reading): (PartitionId, Reading),
        charge: Charge,
        cursor: Option<Offset>,
    ) -> Result<Offset, Fault> {
        let term = reading.term;
        let (me, name) = (self.log.store().origin(), &self.manifest.name);
        let own = read_spans(&self.log, me, name, charge, id)?;
        if let Some(span) = own.newest_of(me).filter(|span| span.term == term) {
            return Ok(cursor.unwrap_or(0).max(span.from));
        }
        // It came after the charge was begun: all of it is new, as the state that was taken over knows nothing of it.
        let view = self.index.view().map_err(store_fault)?;
        let known = view.and_then(|view| view.spans(name, id).cloned());
        let (known, from) = match reading.later_than(id) {
            // The node that was taken over may have read it before.
            Some(later) => {
                let before = self.log.store().cursor_of(later, &self.reader, id).map_err(store_fault)?;
                let from = before.map_or_else(|| first_unread(&self.log, &self.manifest, id), Ok)?;
                (known.unwrap_or(SpansV1 { is_cut: true, spans: Vec::new() }), from)
            }
            None => (known.unwrap_or_default(), self.log.start_offset(id)),
        };
        self.unrecorded.insert(id, (charge, known.with(SpanV1 { term, since: term, life: me.0, from })));
        Ok(from)
    }

    /// Reads on in a partition, past what is damaged: that is told, and the plugin goes on behind it. From where it was read. Where all of
    /// the partition is told to be damaged, perhaps some of it can be read at another time: that is a fault.
    fn read(
        &mut self,
        topic: &Topic,
        id: PartitionId,
        mut from: Offset,
    ) -> Result<(Offset, Vec<event_log::Batch>), Fault> {
        for _ in 0..DAMAGES_MAX {
            let (visible, end) = (self.log.visible_end(id), self.log.store().end_offset(id));
            // The end before and the start after: what was all of it when it was read is all of it here.
            let error = match self.log.read(id, from, READ_BYTES_MAX) {
                Ok(batches) => return Ok((from, batches)),
                Err(error) => error,
            };
            let kept = self.log.start_offset(id)..end;
            let to = match damaged(&error).and_then(|damage| past(&damage, &kept, visible)) {
                Some(to) if to > from => to,
                _ => return Err(store_fault(error)),
            };
            let plugin = self.manifest.name.as_str();
            tracing::error!(
                plugin,
                topic = topic.name(),
                partition = id.index,
                from,
                to,
                "stored events are damaged: the plugin does not get them; `edgeway store verify` tells more"
            );
            self.positions.insert(id, to);
            from = to;
        }
        Ok((from, Vec::new()))
    }

    /// Says what retention took before the plugin could read it; up to where that was told. Where nothing is left of a partition that is moved to as well,
    /// so that it is told once.
    fn tell_gap(&mut self, topic: &Topic, id: PartitionId, from: Offset, batches: &[event_log::Batch]) -> Offset {
        let first = batches.first().map_or_else(|| self.log.start_offset(id), event_log::Batch::base_offset);
        if first > from {
            let plugin = self.manifest.name.as_str();
            tracing::warn!(
                plugin,
                topic = topic.name(),
                partition = id.index,
                from,
                to = first,
                "events were removed by retention before the plugin read them, or never came by a link"
            );
            self.positions.insert(id, first);
        }
        first.max(from)
    }
}

/// The damaged events that reading met.
fn damaged(error: &ReadError) -> Option<Range<Offset>> {
    match error {
        ReadError::Store(sled_data::ReadError::Damaged { from, to, .. }) => Some(*from..*to),
        _ => None,
    }
}

/// Where reading goes on after damage in a partition that keeps `kept`; `None` where that would be past all of it. What is not visible
/// yet is looked at when it is.
fn past(damage: &Range<Offset>, kept: &Range<Offset>, visible: Offset) -> Option<Offset> {
    let is_all = damage.start <= kept.start && damage.end >= kept.end;
    (!is_all).then_some(damage.end.min(visible))
}

fn ids_of(partitions: &[Arc<PartitionLog>]) -> Vec<PartitionId> {
    partitions.iter().map(|partition| partition.id()).collect()
}

impl Read {
    /// Finds what is to be skipped, and where reading stops.
    fn judge(&mut self, view: &View<'_>) {
        for (offset, record) in self.batches.iter().flat_map(|batch| batch.events_from(self.from)) {
            match view.verdict(self.id.origin, record.headers) {
                Verdict::Counts => {}
                Verdict::Overridden => self.skipped.push(offset),
                Verdict::NotYet => {
                    self.until = offset;
                    return;
                }
            }
        }
    }

    /// Its events as the guest is to see them.
    pub(super) fn events(&self) -> Vec<EventRef<'_>> {
        let events = self.batches.iter().flat_map(|batch| {
            let is_late = batch.is_late();
            batch.events_from(self.from).map(move |(offset, record)| (offset, record, is_late))
        });
        events
            .take_while(|(offset, ..)| *offset < self.until)
            .filter(|(offset, ..)| self.skipped.is_empty() || self.skipped.binary_search(offset).is_err())
            .map(|(offset, record, is_late)| EventRef {
                offset,
                timestamp_ms: record.timestamp_ms,
                key: record.key,
                value: record.value,
                headers: record.headers,
                is_late,
            })
            .collect()
    }

    /// Where the next round goes on.
    pub(super) fn next_offset(&self) -> Offset {
        self.until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_is_passed_up_to_what_is_visible_and_never_all_at_once() {
        for (damage, visible, expected) in [
            (5..9, 20, Some(9)),
            (5..9, 7, Some(7)),
            (2..9, 20, Some(9)),
            (5..20, 20, Some(20)),
            (5..20, 12, Some(12)),
            (2..20, 20, None),
            (2..20, 12, None),
            (0..25, 12, None),
        ] {
            assert_eq!(past(&damage, &(2..20), visible), expected, "{damage:?} {visible}");
        }
    }
}

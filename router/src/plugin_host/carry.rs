//! A charge's cursors, spans and state are carried over, in commits of bounded size.
//!
//! What belongs to one partition number ends with one commit that writes its cursors and spans. The charge's head comes
//! last: cut short before that, all is done again from its beginning, with what is known of the holder by then.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sled_data::{Offset, OriginId, PartitionId};

use super::adoption::{Before, Standing, State, begin};
use super::charge::{CHARGES_TREE, Charge, SpanV1, SpansV1, decode, encode};
use super::charge_index::ChargeIndex;
use super::doubt::Doubt;
use super::duties::{Duties, Wanted};
use super::fault::Fault;
use super::manifest::Manifest;
use super::registry::placed_key;
use super::rests::{first_unread, has_as_its_own};
use super::round::reader_name;
use super::state::Place;
use super::taking_up::StoreChunk;
use crate::event_log::EventLog;

/// Entries of state that are read at once; each has at most 33 KiB.
const SCAN_MAX: usize = 32;
/// Bytes after which a chunk is stored.
const CHUNK_BYTES_MAX: usize = 512 << 10;

/// Tree, key, value; `None` removes.
pub type TreeWrite = (&'static str, Vec<u8>, Option<Vec<u8>>);

/// What one commit writes.
#[derive(Debug, Default)]
pub struct Chunk {
    /// What goes into small named trees.
    pub writes: Vec<TreeWrite>,
    /// Partition, next offset.
    pub cursors: Vec<(PartitionId, Offset)>,
    bytes: usize,
}

impl Chunk {
    /// Adds a write.
    pub fn put(&mut self, tree: &'static str, key: Vec<u8>, value: Option<Vec<u8>>) {
        self.bytes += key.len() + value.as_ref().map_or(0, Vec::len) + 64;
        self.writes.push((tree, key, value));
    }

    /// Moves the plugin's cursor.
    pub(super) fn move_cursor(&mut self, id: PartitionId, next: Offset) {
        self.bytes += 128;
        self.cursors.push((id, next));
    }

    /// Whether there is nothing to store.
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty() && self.cursors.is_empty()
    }
}

/// A charge that is begun.
pub struct Carry<'a> {
    pub log: &'a Arc<EventLog>,
    pub index: &'a ChargeIndex,
    pub manifest: &'a Manifest,
    pub duties: &'a Duties,
    pub wanted: &'a Wanted,
    pub before: Before,
    /// Whose cursors and state it goes on from.
    pub holder: Option<OriginId>,
    /// One who had it and is gone, where there is one: it may have read all that is here.
    pub lost: Option<OriginId>,
    /// Whether an earlier life of this node has begun it under the same term.
    pub goes_on: bool,
}

fn store_fault(error: impl std::fmt::Display) -> Fault {
    Fault::Store(error.to_string())
}

impl Carry<'_> {
    /// Carries everything but the charge's head.
    ///
    /// # Errors
    /// The store's.
    pub fn run(&self, store: &mut StoreChunk<'_>) -> Result<(), Fault> {
        let mut numbers: BTreeMap<u32, BTreeSet<PartitionId>> = BTreeMap::new();
        for id in self.partitions()?.into_iter().filter(|id| self.duties.is_under(self.wanted.charge, *id)) {
            numbers.entry(id.index).or_default().insert(id);
        }
        let mut chunk = Chunk::default();
        for (number, ids) in numbers {
            self.number(number, &ids, &mut chunk, store)?;
        }
        if !chunk.is_empty() {
            store(chunk)?;
        }
        self.index.refresh();
        Ok(())
    }

    /// The partitions that are here, and those that the holder has read and whose events are yet to come: its state
    /// knows of them.
    fn partitions(&self) -> Result<Vec<PartitionId>, Fault> {
        let topics = self.manifest.topics.iter().filter_map(|name| self.log.topic(name));
        let here = topics.flat_map(|topic| self.log.partitions_of(&topic)).map(|partition| partition.id());
        let holder = self.holder.unwrap_or(self.me());
        let read = self.log.store().cursors_of(holder, &reader_name(&self.manifest.name)).map_err(store_fault)?;
        Ok(here.chain(read.into_iter().map(|(id, _)| id)).collect())
    }

    fn me(&self) -> OriginId {
        self.log.store().origin()
    }

    fn number(
        &self,
        number: u32,
        ids: &BTreeSet<PartitionId>,
        chunk: &mut Chunk,
        store: &mut StoreChunk<'_>,
    ) -> Result<(), Fault> {
        let mut standings = Vec::with_capacity(ids.len());
        for id in ids {
            standings.push(self.standing(*id)?);
        }
        let (state, begun) = begin(self.before, &standings, self.wanted.term, self.me().0);
        if state == State::Taken {
            self.carry_state(number, ids, chunk, store)?;
        }
        for ((id, standing), span) in ids.iter().zip(standings).zip(begun) {
            let key = self.wanted.charge.spans_key(&self.manifest.name, *id);
            chunk.put(CHARGES_TREE, key.clone(), Some(encode(&standing.known.with(span))));
            if let Some(life) = self.lost.filter(|life| self.wanted.charge != Charge::Origin(*life)) {
                Doubt { life, until: self.log.store().end_offset(*id) }.put(chunk, key, self.wanted.term);
            }
            if state == State::Taken {
                // What is not here yet cannot be passed; the span says where it begins.
                chunk.move_cursor(*id, span.from.min(self.log.store().end_offset(*id)));
            }
        }
        flush(chunk, store, CHUNK_BYTES_MAX)
    }

    fn standing(&self, id: PartitionId) -> Result<Standing, Fault> {
        let own = self.spans_of(self.me(), id)?;
        let (is_earlier, term) = (!self.wanted.charge.covers(id), self.wanted.term);
        let start = if is_earlier { first_unread(self.log, self.manifest, id)? } else { self.log.start_offset(id) };
        let before = match self.holder {
            Some(holder) => self.position_of(holder, id)?,
            None => None,
        };
        let view = self.index.view().map_err(store_fault)?;
        let known = view.and_then(|view| view.spans(&self.manifest.name, id).cloned());
        let known = known.unwrap_or(SpansV1 { is_cut: is_earlier, spans: Vec::new() });
        Ok(Standing {
            own: self.position_of(self.me(), id)?.unwrap_or(start),
            before,
            own_span: self.earlier(&own).filter(|span| span.life == self.me().0).copied(),
            was_taken: own.newest().is_some_and(|span| span.term == term && span.since == term),
            known,
            start,
            is_earlier,
        })
    }

    fn spans_of(&self, life: OriginId, id: PartitionId) -> Result<SpansV1, Fault> {
        read_spans(self.log, life, &self.manifest.name, self.wanted.charge, id)
    }

    /// Where a life is in a partition: its cursor, or where it began, if that could not be passed yet.
    fn position_of(&self, life: OriginId, id: PartitionId) -> Result<Option<Offset>, Fault> {
        let cursor = self.log.store().cursor_of(life, &reader_name(&self.manifest.name), id).map_err(store_fault)?;
        let spans = self.spans_of(life, id)?;
        Ok(cursor.max(self.earlier(&spans).map(|span| span.from)))
    }

    /// The newest span that was there before the charge was begun: that of an earlier life of this node under the same term as well, where it goes on.
    fn earlier<'a>(&self, spans: &'a SpansV1) -> Option<&'a SpanV1> {
        let is_before = |span: &&SpanV1| match self.goes_on && span.life != self.me().0 {
            true => span.term <= self.wanted.term,
            false => span.term < self.wanted.term,
        };
        spans.spans.iter().rev().find(is_before)
    }

    /// Replaces the node's state of a partition number by the holder's.
    fn carry_state(
        &self,
        number: u32,
        ids: &BTreeSet<PartitionId>,
        chunk: &mut Chunk,
        store: &mut StoreChunk<'_>,
    ) -> Result<(), Fault> {
        let name = &self.manifest.name;
        let place = |life: OriginId| match self.wanted.charge {
            Charge::Origin(origin) if origin != life => Place { of: Some(origin.0), partition: number },
            _ => Place { of: None, partition: number },
        };
        let (own_tree, own_prefix) = placed_key(name, place(self.me()), b"");
        let me = self.me();
        self.each_entry(me, own_tree, &own_prefix, &mut |key, _| {
            chunk.put(own_tree, key, None);
            flush(chunk, store, CHUNK_BYTES_MAX)
        })?;
        let Some(holder) = self.holder else { return Ok(()) };
        let of_holder = if has_as_its_own(self.log, name, (self.wanted.charge, holder), ids)? {
            Place { of: None, partition: number }
        } else {
            place(holder)
        };
        let (tree, prefix) = placed_key(name, of_holder, b"");
        self.each_entry(holder, tree, &prefix, &mut |key, value| {
            let key = [own_prefix.as_slice(), key.get(prefix.len()..).unwrap_or_default()].concat();
            chunk.put(own_tree, key, Some(value));
            flush(chunk, store, CHUNK_BYTES_MAX)
        })
    }

    fn each_entry(
        &self,
        life: OriginId,
        tree: &str,
        prefix: &[u8],
        visit: &mut dyn FnMut(Vec<u8>, Vec<u8>) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let mut after: Option<Vec<u8>> = None;
        loop {
            let found = self.log.store().state_scan_of(life, tree, prefix, after.as_deref(), SCAN_MAX);
            let entries = found.map_err(store_fault)?;
            let more = entries.len() == SCAN_MAX;
            after = entries.last().map(|(key, _)| key.clone());
            entries.into_iter().try_for_each(|(key, value)| visit(key, value))?;
            if !more {
                return Ok(());
            }
        }
    }
}

/// The spans that a life has recorded of a partition.
///
/// # Errors
/// The store's, or the record is damaged.
pub fn read_spans(
    log: &EventLog,
    life: OriginId,
    plugin: &str,
    charge: Charge,
    id: PartitionId,
) -> Result<SpansV1, Fault> {
    let stored = log.store().state_get_of(life, CHARGES_TREE, &charge.spans_key(plugin, id)).map_err(store_fault)?;
    stored.map_or(Ok(SpansV1::default()), |value| decode(&value).map_err(Fault::Store))
}

/// Stores a chunk that has so many bytes.
fn flush(chunk: &mut Chunk, store: &mut StoreChunk<'_>, bytes_max: usize) -> Result<(), Fault> {
    if chunk.bytes > bytes_max { store(std::mem::take(chunk)) } else { Ok(()) }
}

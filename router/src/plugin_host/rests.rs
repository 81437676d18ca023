//! What a plugin has not read of ended lives of this node's own store is read on under the node's own name.
//!
//! Cursors and state are there, as the present life has them from the one before. So nothing is carried over and nothing recorded: a reading ends
//! where the life does. Where another has read some of it meanwhile, it goes like any charge.

use sled_data::{Offset, OriginId, PartitionId, hlc_ms};

use super::carry::Chunk;
use super::charge::Charge;
use super::duties::{TakenOver, Wanted};
use super::fault::Fault;
use super::registry::{PLUGINS_TREE, RecordV2};
use super::round::reader_name;
use super::taking_up::{Reading, StoreChunk, TakenUp, TakingUp};

/// How the rest of a life is read.
enum Rest {
    /// As this node's own.
    Own,
    /// Another has read some of it: by a charge.
    Charge,
    /// Somebody has not ended yet.
    Waits,
}

fn store_fault(error: impl std::fmt::Display) -> Fault {
    Fault::Store(error.to_string())
}

impl TakingUp<'_> {
    /// Begins to read what is left of ended lives, where the node reads its own.
    pub(super) fn take_rests(
        &self,
        taken: &mut TakenUp,
        wanted: &mut Vec<Wanted>,
        store: &mut StoreChunk<'_>,
    ) -> Result<(), Fault> {
        let reads_own = !taken.readings.is_empty();
        for ended in &self.duties.ended {
            let charge = Charge::Origin(ended.origin);
            match self.rest(ended)? {
                Rest::Own if reads_own => {
                    if self.has_unread(ended.origin, store)? {
                        taken.readings.push(Reading { charge: Some(charge), term: ended.term, is_recorded: false });
                    }
                }
                Rest::Charge => {
                    let (term, predecessors) = (ended.term, ended.predecessors.clone());
                    wanted.push(Wanted { charge, term, predecessors });
                }
                Rest::Own | Rest::Waits => taken.waiting.push(charge),
            }
        }
        Ok(())
    }

    fn rest(&self, ended: &TakenOver) -> Result<Rest, Fault> {
        if ended.term == 0 {
            return Ok(Rest::Own);
        }
        let charge = Charge::Origin(ended.origin);
        let own = self.head(self.me(), charge)?.term;
        let mut others = None;
        for (life, _) in self.log.store().followed() {
            others = self.head(life, charge)?.term.max(others);
        }
        if others > own || own == Some(ended.term) {
            return Ok(Rest::Charge);
        }
        for before in &ended.predecessors {
            if !self.is_over(before.life, charge, before.term)? {
                return Ok(Rest::Waits);
            }
        }
        Ok(Rest::Own)
    }

    /// Whether the plugin has events of an ended life to read. Where it came after that life there are none for it: one that an earlier program has
    /// deployed has no cursor there, and gets one.
    fn has_unread(&self, life: OriginId, store: &mut StoreChunk<'_>) -> Result<bool, Fault> {
        let reader = reader_name(&self.manifest.name);
        let (mut has_unread, mut chunk) = (false, Chunk::default());
        for topic in self.manifest.topics.iter().filter_map(|name| self.log.topic(name)) {
            for partition in self.log.ended_partitions(&topic).iter().filter(|found| found.id().origin == life) {
                let (id, end) = (partition.id(), partition.visible_end());
                match self.log.cursor(&reader, id).map_err(store_fault)? {
                    None if self.came_after(id)? => chunk.move_cursor(id, end),
                    cursor => has_unread |= cursor.unwrap_or(0).max(self.log.start_offset(id)) < end,
                }
            }
        }
        if !chunk.is_empty() {
            store(chunk)?;
        }
        Ok(has_unread)
    }

    /// Whether the plugin was deployed after the last event of a partition was stored.
    fn came_after(&self, id: PartitionId) -> Result<bool, Fault> {
        let record = self.log.state_get(PLUGINS_TREE, self.manifest.name.as_bytes()).map_err(store_fault)?;
        let deployed_ms = record.and_then(|record| RecordV2::decode(&record).ok()).map(|record| record.deployed_ms);
        let stored_ms = self.log.store().last_batch_hlc(id).map_or(0, hlc_ms);
        Ok(deployed_ms.is_some_and(|deployed_ms| deployed_ms > stored_ms))
    }
}

/// Which partitions wait for the rest of an ended life to be read first: those of the same topic and number.
#[derive(Default)]
pub(super) struct Behind(Vec<PartitionId>);

impl Behind {
    /// Takes note of a rest that was read from one offset to another and ends at a third.
    pub(super) fn note(&mut self, id: PartitionId, (from, until, end): (Offset, Offset, Offset)) {
        // What cannot be read on for now holds back nobody.
        if until > from && until < end {
            self.0.push(id);
        }
    }

    /// Whether a partition waits.
    pub(super) fn waits(&self, id: PartitionId) -> bool {
        self.0.iter().any(|rest| (rest.topic, rest.index) == (id.topic, id.index))
    }
}

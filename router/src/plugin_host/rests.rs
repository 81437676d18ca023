//! What a plugin has not read of ended lives of this node's own store is read on under the node's own name.
//!
//! Cursors and state are there, as the present life has them from the one before. Where the site has decided nothing of a life, nothing is carried
//! over or recorded, and the reading ends where the life does. Else it has a charge like any other, by which readers judge; where no other had that
//! before, it goes on with the state that is here.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use sled_data::{CopyState, Offset, OriginId, PartitionId, TopicId, hlc_ms};

use super::carry::{Chunk, read_spans};
use super::charge::Charge;
use super::duties::{Duties, Wanted};
use super::fault::Fault;
use super::manifest::{Manifest, Scope};
use super::registry::{PLUGINS_TREE, RecordV2};
use super::round::reader_name;
use super::taking_up::{Found, Reading, StoreChunk, TakenUp, TakingUp, head_of};
use crate::event_log::{EventLog, Topic};

fn store_fault(error: impl std::fmt::Display) -> Fault {
    Fault::Store(error.to_string())
}

impl TakingUp<'_> {
    /// Begins to read what is left of ended lives, where the node reads its own; those of which something was decided are `wanted`.
    pub(super) fn take_rests(
        &self,
        taken: &mut TakenUp,
        wanted: &mut Vec<Wanted>,
        store: &mut StoreChunk<'_>,
    ) -> Result<(), Fault> {
        let own_term = taken.readings.first().map(|own| own.term);
        for ended in &self.duties.ended {
            let (charge, term) = (Charge::Origin(ended.origin), ended.term);
            if term > 0 {
                wanted.push(Wanted { charge, term, predecessors: ended.predecessors.clone() });
                continue;
            }
            // Who was given this node's own origin was given this as well.
            let Some(term) = own_term else {
                taken.waiting.push(charge);
                continue;
            };
            if self.has_unread(ended.origin, store)? {
                taken.readings.push(Reading { charge: Some(charge), term, is_recorded: false });
            }
        }
        Ok(())
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
                    None if came_after(self.log, self.manifest, id)? => chunk.move_cursor(id, end),
                    // What retention has taken of it is told there.
                    cursor => has_unread |= cursor.unwrap_or(0) < end,
                }
            }
        }
        if !chunk.is_empty() {
            store(chunk)?;
        }
        Ok(has_unread)
    }
}

impl TakingUp<'_> {
    /// Whose cursors and state say how far a life was read that had the charge over its own partitions alone: its own. Where it came as events alone, as a life
    /// does that has ended, they went on into the next life of its node: that is waited for while its node is here.
    pub(super) fn teller(&self, life: OriginId) -> Result<Found, Fault> {
        let (store, reader) = (self.log.store(), reader_name(&self.manifest.name));
        if !store.cursors_of(life, &reader).map_err(store_fault)?.is_empty() {
            return Ok(Found::Begins(Some(life)));
        }
        let followed = store.followed();
        let at = |of: OriginId| followed.iter().find(|(other, _)| *other == of).map(|(_, at)| at);
        let (node, since) = at(life).map_or((0, 0), |at| (at.node, at.hlc));
        let is_here = |life: OriginId| at(life).is_some_and(|at| at.copy == CopyState::Whole && at.commit.0 > 0);
        // Whose it was is said by its node in a life that may be yet to come.
        let mut next = self.duties.present.iter().filter(|(writer, _)| node == 0 || writer.0 == node);
        if !next.all(|(_, present)| is_here(*present)) {
            return Ok(Found::Waits);
        }
        // Of an earlier life as well, which may be read with it.
        let is_its = |id: &PartitionId| id.origin != self.me() && at(id.origin).is_none_or(|at| at.node == node);
        let mut newest: Option<(u64, OriginId)> = None;
        for (of, at) in followed.iter().filter(|(_, at)| node != 0 && at.node == node && at.hlc > since) {
            let cursors = store.cursors_of(*of, &reader).map_err(store_fault)?;
            if cursors.iter().any(|(id, _)| id.origin != *of && is_its(id)) {
                newest = newest.max(Some((at.hlc, *of)));
            }
        }
        Ok(Found::Begins(Some(newest.map_or(life, |(_, of)| of))))
    }
}

/// Whether a plugin was deployed after the last event of a partition was stored.
fn came_after(log: &EventLog, manifest: &Manifest, id: PartitionId) -> Result<bool, Fault> {
    let record = log.state_get(PLUGINS_TREE, manifest.name.as_bytes()).map_err(store_fault)?;
    let deployed_ms = record.and_then(|record| RecordV2::decode(&record).ok()).map(|record| record.deployed_ms);
    let stored_ms = log.store().last_batch_hlc(id).map_or(0, hlc_ms);
    Ok(deployed_ms.is_some_and(|deployed_ms| deployed_ms > stored_ms))
}

/// Has a plugin that reads what this node writes begin in partitions of ended lives in which it has no cursor: at their first event ever, as it is to be told
/// what of them has gone, or at their end where it was deployed later.
///
/// # Errors
/// The store's.
pub(super) fn begin_in_ended(log: &EventLog, manifest: &Manifest, is_alone: bool) -> Result<(), Fault> {
    if manifest.scope == Scope::Site && !is_alone {
        return Ok(()); // its cursors come with its shares
    }
    let mut begins = Vec::new();
    for topic in manifest.topics.iter().filter_map(|name| log.topic(name)) {
        for id in log.ended_partitions(&topic).iter().map(|partition| partition.id()) {
            begins.push((id, if came_after(log, manifest, id)? { log.visible_end(id) } else { 0 }));
        }
    }
    log.begin_in_ended(&reader_name(&manifest.name), begins);
    Ok(())
}

/// Where a plugin begins in a partition of a life that has ended, where who had it before does not say: where a later life of its node is known to have
/// been, as what that has derived counts.
pub(super) fn first_unread(log: &EventLog, manifest: &Manifest, id: PartitionId) -> Result<Offset, Fault> {
    if came_after(log, manifest, id)? {
        return Ok(log.visible_end(id));
    }
    let (reader, mut first) = (reader_name(&manifest.name), log.start_offset(id));
    let followed = log.store().followed();
    let writer = followed.iter().find(|(life, written)| *life == id.origin && written.node != 0);
    let node = writer.map(|(_, written)| written.node);
    for (life, _) in followed.iter().filter(|(_, written)| Some(written.node) == node) {
        first = first.max(log.store().cursor_of(*life, &reader, id).map_err(store_fault)?.unwrap_or(0));
    }
    Ok(first)
}

/// Whether a partition is read as what this node has left unread in an ended life: with its state, and in doubt of nobody.
pub(super) fn goes_on(
    log: &Arc<EventLog>,
    duties: &Duties,
    plugin: &str,
    (id, reading): (PartitionId, Reading),
) -> Result<bool, Fault> {
    let own = log.store().origin();
    let charge = match reading.charge {
        Some(charge @ Charge::Origin(life)) if duties.is_ended(life) => charge,
        _ => return Ok(false),
    };
    if !reading.is_recorded {
        return Ok(reading.is_rest(own));
    }
    let spans = read_spans(log, own, plugin, charge, id)?.spans;
    let before = spans.iter().rev().find(|span| span.term < reading.term);
    Ok(before.is_none_or(|span| span.life == own.0 || duties.is_ended(OriginId(span.life))))
}

/// Whether a followed life has the state of an earlier life of its node as its own: it has begun with it, and no other node had the charge since.
pub(super) fn has_as_its_own(
    log: &EventLog,
    plugin: &str,
    (charge, holder): (Charge, OriginId),
    ids: &BTreeSet<PartitionId>,
) -> Result<bool, Fault> {
    let followed: HashMap<OriginId, u64> =
        log.store().followed().into_iter().map(|(life, followed)| (life, followed.node)).collect();
    let node = followed.get(&holder).copied().filter(|node| *node != 0);
    let is_of_node = |life: OriginId| node.is_some() && followed.get(&life).copied() == node;
    if !charge.natural().is_some_and(is_of_node) {
        return Ok(false);
    }
    let head = head_of(log, holder, charge, plugin)?;
    if charge.natural() == Some(OriginId(head.life)) {
        return Ok(true);
    }
    for id in ids {
        let spans = read_spans(log, holder, plugin, charge, *id)?.spans;
        let before = spans.iter().rev().find(|span| Some(span.term) < head.term);
        if before.is_some_and(|span| !is_of_node(OriginId(span.life))) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Which partitions wait for the rest of an ended life to be read first: those of the same topic and number, and of the same node where the life is another
/// node's.
#[derive(Default)]
pub(super) struct Behind(Vec<(PartitionId, Reading)>);

impl Behind {
    /// Takes note of a rest that was read from one offset to another and ends at a third.
    pub(super) fn note(&mut self, rest: (PartitionId, Reading), (from, until, end): (Offset, Offset, Offset)) {
        // What cannot be read on for now holds back nobody.
        if until > from && until < end {
            self.0.push(rest);
        }
    }

    /// Whether a partition waits.
    pub(super) fn waits(&self, id: PartitionId, reading: Reading, own: OriginId) -> bool {
        let is_before = |rest: &Reading| rest.is_rest(own) || rest.charge == reading.charge;
        self.0.iter().any(|(rest, of)| (rest.topic, rest.index) == (id.topic, id.index) && is_before(of))
    }
}

/// Puts what is left of earlier lives before the later lives' partitions of the same topic and number that are read under the same charge: where the first of
/// them stood.
pub(super) fn earlier_first(duties: &Duties, partitions: &mut [(Arc<Topic>, PartitionId, Reading)]) {
    if !partitions.iter().any(|(_, id, reading)| reading.later_than(*id).is_some()) {
        return;
    }
    let mut places: HashMap<(TopicId, u32, Option<Charge>), usize> = HashMap::new();
    for (place, (_, id, reading)) in partitions.iter().enumerate() {
        places.entry((id.topic, id.index, reading.charge)).or_insert(place);
    }
    partitions.sort_by_key(|(_, id, reading)| {
        let age = duties.earlier_of(*id).map_or(usize::MAX, |earlier| earlier.place);
        (places.get(&(id.topic, id.index, reading.charge)).copied(), age)
    });
}

//! What other nodes say of commands that are known here: their steps, and the answers that came in at them.
//!
//! A device answers where it is. So its answer is in the log of one node and its command with another, and a command may
//! go from node to node. What nobody here waits for is passed over unread.

use std::collections::HashSet;

use devices::command::StepEvent;
use devices::headers;
use sled_data::{OriginId, PartitionId, RecordRef};

use super::read::{is_sound, take_answer};
use super::table::{Now, Table};
use super::{Commands, READER, Reading};
use crate::event_log::{ReadError, Topic};

/// Bytes read from one partition at once.
const READ_BYTES_MAX: usize = 256 * 1024;
/// What a submission has that was taken from another node, or that a plugin made.
const MATTERS: [&[u8]; 2] = [b"\"taken\":", b"\"cause\":"];

/// Where other nodes' partitions are read next.
#[derive(Default)]
pub(super) struct Others {
    commands: Vec<(PartitionId, u64)>,
    answers: Vec<(PartitionId, u64)>,
    /// Whether more may be read of them than was read the last time.
    pub(super) has_more: bool,
}

impl Others {
    /// All positions, for the reader's cursor.
    pub(super) fn positions(&self) -> impl Iterator<Item = &(PartitionId, u64)> {
        self.commands.iter().chain(&self.answers)
    }
}

impl Commands {
    /// Reads what is new of other nodes into the table, a piece of each partition. What was held back goes on when all is read that was here.
    pub(super) fn take_others(&self, table: &mut Table, now: Now) -> Result<(), ReadError> {
        if self.forward.get().is_none() {
            return Ok(());
        }
        let mut reading = self.reading.lock();
        let Reading { others, .. } = &mut *reading;
        self.find_partitions(&self.commands, &mut others.commands);
        self.find_partitions(&self.answers, &mut others.answers);
        let (own, is_waiting) = (self.log.origin(), table.pending() > 0);
        let is_shown = self.standing.lock().is_shown(|id| self.log.visible_end(id));
        let mut has_more = false;
        for (id, next) in &mut others.commands {
            has_more |=
                self.read_other(*id, next, is_waiting, |record| take_step(table, (own, id.origin), record, now))?;
        }
        for (id, next) in &mut others.answers {
            has_more |= self.read_other(*id, next, is_waiting, |record| {
                take_answer(table, &self.stats, record, true, now);
            })?;
        }
        others.has_more = has_more;
        if is_shown && !has_more {
            self.standing.lock().has_read();
        }
        Ok(())
    }

    /// Adds partitions that have come since. Those of this store's ended lives are this node's own.
    fn find_partitions(&self, topic: &Topic, known: &mut Vec<(PartitionId, u64)>) {
        let found = self.log.partitions_of(topic);
        if found.len() <= known.len() {
            return;
        }
        let (own, ended) = (self.log.origin(), self.log.ended_lives());
        let have: HashSet<PartitionId> = known.iter().map(|(id, _)| *id).collect();
        let is_new = |id: &PartitionId| id.origin != own && !ended.contains(&id.origin) && !have.contains(id);
        let new = found.iter().map(|partition| partition.id()).filter(is_new);
        known.extend(new.map(|id| {
            let cursor = self.log.cursor(READER, id).ok().flatten();
            (id, cursor.unwrap_or_else(|| self.log.start_offset(id)))
        }));
    }

    /// Reads a piece of a partition; whether there is more.
    fn read_other(
        &self,
        id: PartitionId,
        next: &mut u64,
        is_waiting: bool,
        mut take: impl FnMut(RecordRef<'_>),
    ) -> Result<bool, ReadError> {
        if !is_waiting {
            *next = self.log.visible_end(id).max(*next);
            return Ok(false);
        }
        let batches = match self.log.read(id, *next, READ_BYTES_MAX) {
            Err(ReadError::Store(sled_data::ReadError::Damaged { to, .. })) if to > *next => {
                // This node's own commands must not stand still for it.
                tracing::error!(partition = %id, from = *next, to, "steps of commands of another node are damaged here and passed over");
                *next = to;
                return Ok(to < self.log.visible_end(id));
            }
            read => read?,
        };
        // Where nothing comes nothing is left: what is asked for is gone.
        let has_read = !batches.is_empty();
        for batch in batches {
            batch.events_from(*next).for_each(|(_, record)| take(record));
            *next = batch.next_offset();
        }
        Ok(has_read && *next < self.log.visible_end(id))
    }
}

/// Takes a step of another node. Those that say nothing of commands here are not even decoded.
fn take_step(table: &mut Table, (own, from): (OriginId, OriginId), record: RecordRef<'_>, now: Now) {
    let is_own_step = record.headers.get(headers::OWN_STEP).is_some();
    let value = record.value.unwrap_or_default();
    let has = |word: &&[u8]| value.windows(word.len()).any(|bytes| bytes == *word);
    let may_matter = if is_own_step { table.has_shared() } else { MATTERS.iter().any(has) };
    if !may_matter {
        return;
    }
    let device = record.key.and_then(|key| std::str::from_utf8(key).ok());
    let event = StepEvent::decode(value).ok();
    if let (Some(device), Some(event)) = (device, event)
        && is_sound(device, &event)
    {
        table.heard(own, from, device, &event, now);
    }
}

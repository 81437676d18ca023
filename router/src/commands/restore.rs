//! The table after a restart, or after a commit that failed: what is stored, then the steps that follow in the log. Where a life of this store has
//! ended, its log comes before that of the present one: the stored commands were carried over, and what they lack is there.

use std::sync::atomic::Ordering::Relaxed;

use devices::command::{Step, StepEvent};
use devices::headers;
use sled_data::{PartitionId, ReadError as StoreError};

use super::others::Others;
use super::record::{self, COMMANDS_TREE};
use super::table::Table;
use super::unstored::Unstored;
use super::{Commands, OpenError, READER, Reading};
use crate::event_log::Topic;

/// Stored entries read at once.
const ENTRIES_MAX: usize = 1_000;
/// Bytes of the log read at once.
const READ_BYTES_MAX: usize = 1 << 20;

impl Commands {
    /// Makes table, cursors and what is unstored as the store and the log have them.
    pub(super) fn rebuild(&self) -> Result<(), OpenError> {
        let mut table = Table::restore(self.config.clone(), self.stored()?);
        let mut commands = self.positions(&self.commands)?;
        for (partition, next) in &mut commands {
            self.replay(&mut table, *partition, next)?;
        }
        let answers = self.positions(&self.answers)?;
        self.rebuild_jobs()?;
        self.read_notes()?;
        self.read_sites(&table)?;
        let mut before = self.table.lock();
        table.keep_times(&before);
        *before = table;
        drop(before);
        *self.unstored.lock() = Unstored::default();
        let (answers_moved, others) = (Vec::new(), Others::default());
        *self.reading.lock() = Reading { commands, answers, answers_moved, others, own_has_more: false };
        Ok(())
    }

    /// Takes back what was under way; to be called when it is known of devices whether they refuse repeats.
    pub(super) fn resume(&self) {
        let now = self.now();
        let mut table = self.table.lock();
        table.resume(|device| self.refuses_repeats(device), now);
        self.jobs.lock().resume(&table, now);
    }

    fn stored(&self) -> Result<Vec<super::Entry>, OpenError> {
        let mut stored = Vec::new();
        let mut after: Option<Vec<u8>> = None;
        loop {
            let page = self.log.state_scan(COMMANDS_TREE, &[], after.as_deref(), ENTRIES_MAX)?;
            let Some((last, _)) = page.last() else { return Ok(stored) };
            after = Some(last.clone());
            for (key, value) in &page {
                match record::decode(key, value) {
                    Some(entry) => stored.push(entry),
                    None => {
                        self.stats.unreadable.fetch_add(1, Relaxed);
                        tracing::warn!("a stored command of an unknown version is left out");
                    }
                }
            }
        }
    }

    /// Reads one partition to its end.
    pub(super) fn replay(&self, table: &mut Table, partition: PartitionId, next: &mut u64) -> Result<(), OpenError> {
        loop {
            let batches = self.log.read(partition, *next, READ_BYTES_MAX)?;
            if batches.is_empty() {
                return Ok(());
            }
            for batch in batches {
                for (_, record) in batch.events_from(*next) {
                    let device = record.key.and_then(|key| std::str::from_utf8(key).ok());
                    let event = record.value.and_then(|value| StepEvent::decode(value).ok());
                    // What is not a step was counted when it was read first.
                    let is_own = record.headers.get(headers::OWN_STEP).is_some();
                    if let (Some(device), Some(event)) = (device, event)
                        && super::read::is_sound(device, &event)
                        && (is_own || matches!(event.step, Step::Queued(_)))
                    {
                        table.replay(device, event, self.now());
                    }
                }
                *next = batch.next_offset();
            }
        }
    }

    /// Where what this node has written of a topic is read next: what is unread of its ended lives, the oldest first, then the present one.
    fn positions(&self, topic: &Topic) -> Result<Vec<(PartitionId, u64)>, StoreError> {
        let mut positions = Vec::new();
        for partition in self.log.ended_partitions(topic) {
            let next = self.log.cursor(READER, partition.id())?.unwrap_or(0);
            if next < partition.visible_end() {
                positions.push((partition.id(), next));
            }
        }
        for partition in topic.all_partitions() {
            positions.push((partition.id(), self.log.cursor(READER, partition.id())?.unwrap_or(0)));
        }
        Ok(positions)
    }
}

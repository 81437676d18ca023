//! The open commands of a node that is lost are taken up, as far as they have arrived here.
//!
//! The site decides who does it, under which term. What a lost node has sent last may not have arrived here, so that
//! every command of it may have reached its device: what must not be repeated ends as `unknown`, and what may be is sent
//! wherever the device is. All is read as the lost node itself would have read it at a restart.

use std::collections::BTreeMap;
use std::sync::Arc;

use devices::command::{CommandId, DELIVER_WITHIN_MAX_MS, OriginHex, Repeat, State, StepEvent, Taken};
use sled_data::{CommitNumber, OriginId};

use super::move_on::append_step;
use super::offered::{clients, taken_step};
use super::record::{self, COMMANDS_TREE};
use super::table::{Now, Table};
use super::{Commands, Entry, OpenError, READER};
use crate::event_log::{AppendError, CommitFailed};

/// The small named tree of what was taken up: the life, and the term under which it was last.
pub const TAKEN_UP_TREE: &str = "commands-taken-up";
/// The version byte before the term.
const VERSION: u8 = 1;
/// Commands that one commit takes up.
const BATCH_MAX: usize = 500;

/// Whose commands this node has to take up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lost {
    /// The life that the lost node wrote.
    pub origin: OriginId,
    /// The term of the decision.
    pub term: u64,
    /// The newest commit of it that the site has.
    pub from_commit: CommitNumber,
}

/// Why nothing more was taken up: it is tried again.
#[derive(Debug, thiserror::Error)]
pub(super) enum TakeUpError {
    #[error(transparent)]
    Read(#[from] OpenError),
    #[error(transparent)]
    Append(#[from] AppendError),
    #[error(transparent)]
    Commit(#[from] CommitFailed),
}

impl Commands {
    /// Takes up what these nodes have left, each once a term. To be called whenever what the site has decided, or who is
    /// heard, has changed; it works on by itself.
    pub fn take_up_from(self: &Arc<Self>, lost: Vec<Lost>) {
        for one in lost {
            if self.log.store().synced_commit_of(one.origin) < one.from_commit {
                continue;
            }
            if self.taking_up.lock().insert(one.origin, one.term).is_some_and(|term| term >= one.term) {
                continue;
            }
            let room = Arc::clone(self);
            tokio::task::spawn_blocking(move || match room.take_up(one) {
                Ok(0) => {}
                Ok(count) => tracing::info!(origin = %one.origin, count, "commands of a lost node are taken up"),
                Err(error) => {
                    tracing::error!(origin = %one.origin, %error, "commands of a lost node were not taken up; trying again");
                    room.taking_up.lock().remove(&one.origin);
                }
            });
        }
    }

    /// Takes up what one has left; how many commands.
    pub(super) fn take_up(&self, lost: Lost) -> Result<usize, TakeUpError> {
        let mark = self.log.state_get(TAKEN_UP_TREE, &lost.origin.0.to_be_bytes()).map_err(OpenError::Store)?;
        if mark.and_then(|mark| read_term(&mark)).is_some_and(|term| term >= lost.term) {
            return Ok(0);
        }
        let now = self.now();
        let mut steps = Vec::new();
        for entry in self.left_by(lost.origin)? {
            steps.extend(self.taken_from(entry, lost, now));
        }
        let mut rest = steps.as_slice();
        loop {
            let (batch, later) = rest.split_at(rest.len().min(BATCH_MAX));
            let ticket = {
                let mut open = self.log.lock();
                open.check(0)?;
                for (device, step) in batch {
                    append_step(&mut open, &self.commands, device, step)?;
                }
                if later.is_empty() {
                    let key = lost.origin.0.to_be_bytes();
                    open.put_state(TAKEN_UP_TREE, &key, Some(&write_term(lost.term)));
                }
                open.ticket()
            };
            self.log.durable_blocking(ticket)?;
            rest = later;
            if rest.is_empty() {
                return Ok(steps.len());
            }
        }
    }

    /// The open commands of another node as they have arrived here, in their order.
    fn left_by(&self, origin: OriginId) -> Result<Vec<Entry>, OpenError> {
        let mut stored = Vec::new();
        self.log.state_walk_of(origin, COMMANDS_TREE, |key, value| stored.extend(record::decode(key, value)))?;
        let mut table = Table::restore(self.config.clone(), stored);
        let partitions = self.log.partitions_of(&self.commands);
        for partition in partitions.iter().map(|partition| partition.id()).filter(|id| id.origin == origin) {
            let cursor = self.log.store().cursor_of(origin, READER, partition)?;
            let mut next = cursor.unwrap_or_else(|| self.log.start_offset(partition));
            self.replay(&mut table, partition, &mut next)?;
        }
        let open = table.entries().filter(|entry| !entry.progress.state().is_outcome());
        let open: BTreeMap<u64, Entry> = open.map(|entry| (entry.order, entry.clone())).collect();
        Ok(open.into_values().collect())
    }

    /// The step that takes a command up; `None` where another node has it, or this one.
    fn taken_from(&self, entry: Entry, lost: Lost, now: Now) -> Option<(String, StepEvent)> {
        let around = Around {
            is_elsewhere: self.is_elsewhere(entry.id, lost.origin, entry.term),
            refuses_repeats: self.refuses_repeats(&entry.device),
            deliveries_max: self.config.deliveries_max,
        };
        let table = self.table.lock();
        let known = table.get(entry.id);
        take_up_step(entry, known, lost, around, now)
    }

    /// Whether a third node has a command under a higher term.
    fn is_elsewhere(&self, id: CommandId, lost: OriginId, term: u64) -> bool {
        let others = self.log.others().into_iter().filter(|origin| *origin != lost);
        let mut found = others.filter_map(|origin| {
            let stored = self.log.store().state_get_of(origin, COMMANDS_TREE, id.as_bytes()).ok().flatten()?;
            record::decode(id.as_bytes(), &stored)
        });
        found.any(|entry| entry.term > term)
    }
}

/// What is known where a command is to be taken up.
#[derive(Debug, Clone, Copy)]
pub struct Around {
    /// A third node has it under a higher term.
    pub is_elsewhere: bool,
    /// Its device refuses what it has done.
    pub refuses_repeats: bool,
    /// How often a command is sent at most.
    pub deliveries_max: u32,
}

/// The step that takes up a command of a lost node, as that has left it; `None` where another node has it, or this one. `known` is what this
/// node knows of it (pure).
pub fn take_up_step(
    entry: Entry,
    known: Option<&Entry>,
    lost: Lost,
    around: Around,
    now: Now,
) -> Option<(String, StepEvent)> {
    let had = entry.away.map_or(entry.term, |away| away.term);
    let term = lost.term.max(had + 1);
    if entry.away.is_some_and(|away| away.is_sure) || around.is_elsewhere {
        return None;
    }
    let mut steps = entry.steps;
    if let Some(known) = known {
        let comes_back = known.away.is_some_and(|away| away.term < term) && known.progress.state() == State::Queued;
        if !comes_back {
            return None;
        }
        steps = steps.max(known.steps);
    }
    let taken = taken(&entry, lost, term, around);
    let left = entry.queued.deliver_by_ms.saturating_sub(now.wall);
    let given = entry.queued.deliver_by_ms.saturating_sub(entry.at_ms).min(DELIVER_WITHIN_MAX_MS);
    let age = now.wall.saturating_sub(entry.at_ms);
    let device = entry.device.to_string();
    Some((device, taken_step(entry, steps, taken, (age, left.min(given)), now)))
}

fn taken(entry: &Entry, lost: Lost, term: u64, around: Around) -> Taken {
    let state = entry.progress.state();
    let with_device = state.is_with_device().then_some(state);
    let deliveries_max = entry.queued.deliveries_max.unwrap_or(u32::MAX).min(around.deliveries_max);
    let is_never = entry.queued.repeat == Repeat::Never && !around.refuses_repeats;
    let is_over = with_device.is_none() && (is_never || entry.progress.attempts() >= deliveries_max);
    Taken {
        from: OriginHex(lost.origin.0),
        term,
        attempts: entry.progress.attempts(),
        may_have_arrived: true,
        clients: clients(entry),
        with_device,
        is_over,
    }
}

fn write_term(term: u64) -> Vec<u8> {
    [&[VERSION][..], &term.to_be_bytes()].concat()
}

fn read_term(bytes: &[u8]) -> Option<u64> {
    match bytes.split_first()? {
        (&VERSION, term) => Some(u64::from_be_bytes(term.try_into().ok()?)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_of_a_take_over_has_these_bytes() {
        assert_eq!(write_term(258), [1, 0, 0, 0, 0, 0, 0, 1, 2]);
        assert_eq!(read_term(&write_term(258)), Some(258));
        assert_eq!((read_term(&[2, 0]), read_term(&[])), (None, None));
    }
}

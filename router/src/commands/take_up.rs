//! The open commands of a node that is lost are taken up, as far as they have arrived here.
//!
//! The site decides who does it, under which term. What a lost node has sent last may not have arrived here, so that
//! every command of it may have reached its device: what must not be repeated ends as `unknown`, and what may be is sent
//! wherever the device is. A gateway of a linked site remembers what it has: it is asked on, whatever may be repeated.
//! All is read as the lost node itself would have read it at a restart.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use devices::command::{
    CommandId, DELIVER_WITHIN_MAX_MS, OriginHex, Repeat, State, Step, StepEvent, Taken, UNSEEN_TERMS,
};
use sled_data::{CommitNumber, OriginId};

use super::down::site_of;
use super::move_on::append_step;
use super::offered::{clients, taken_step};
use super::record::{self, COMMANDS_TREE};
use super::table::{Now, Table};
use super::taken_up::{Ends, READ_TREE, ReadUpTo, TakingUp, read_term, read_up_to, write_term, write_up_to};
use super::{Commands, Entry, OpenError, READER};
use crate::event_log::{AppendError, CommitFailed};

/// The small named tree of what was taken up: the life, and the term under which it was last.
pub const TAKEN_UP_TREE: &str = "commands-taken-up";
/// Bytes of the log read at once.
const READ_BYTES_MAX: usize = 1 << 20;
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
    /// By how much the lost node's wall clock was ahead of this node's [`crate::clock::Clock::steady_ms`] when it was heard last, in milliseconds;
    /// where it was not heard, by how much this node's own wall clock is.
    pub ahead_ms: i64,
}

impl Lost {
    /// What the lost node's wall clock shows now: by that one its commands say when they were queued, and until when they are good.
    fn wall(&self, now: Now) -> u64 {
        now.steady.saturating_add_signed(self.ahead_ms)
    }
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
    /// Takes up what these nodes have left, each once a term, and what of it arrives later. To be called whenever what the site has decided,
    /// who is heard, or what has come has changed, and now and then; it works on by itself.
    pub fn take_up_from(self: &Arc<Self>, lost: Vec<Lost>) {
        for one in lost {
            if self.log.store().synced_commit_of(one.origin) < one.from_commit {
                continue;
            }
            let ends = self.ends_of(one.origin);
            {
                let mut all = self.taking_up.lock();
                let known = all.entry(one.origin).or_default();
                if !known.is_due(one.term, &ends) {
                    continue;
                }
                known.is_running = true;
            }
            let room = Arc::clone(self);
            tokio::task::spawn_blocking(move || {
                let taken = room.take_up(one);
                let mut all = room.taking_up.lock();
                match taken {
                    Ok(count) => {
                        all.insert(one.origin, TakingUp { term: one.term, ends, is_running: false });
                        if count > 0 {
                            tracing::info!(origin = %one.origin, count, "commands of a lost node are taken up");
                        }
                    }
                    Err(error) => {
                        tracing::error!(origin = %one.origin, %error, "commands of a lost node were not taken up; trying again");
                        all.remove(&one.origin);
                    }
                }
            });
        }
    }

    /// Takes up what one has left, that was not taken up under this term before; how many commands.
    pub(super) fn take_up(&self, lost: Lost) -> Result<usize, TakeUpError> {
        let key = lost.origin.0.to_be_bytes();
        let mark = self.log.state_get(TAKEN_UP_TREE, &key).map_err(OpenError::Store)?;
        // Before it is read: what comes meanwhile is read again.
        let (ends, now) = (self.ends_of(lost.origin), self.now());
        let before = match mark.and_then(|mark| read_term(&mark)) {
            Some(term) if term > lost.term => return Ok(0),
            Some(term) if term == lost.term => {
                let read = self.log.state_get(READ_TREE, &key).map_err(OpenError::Store)?;
                match read.and_then(|read| read_up_to(&read)) {
                    Some(read) if read.ends != ends => Some(read),
                    // An earlier program has not noted how far it read: all of it.
                    _ => return Ok(0),
                }
            }
            _ => None,
        };
        let late = before.as_ref().map(|before| self.queued_since(lost.origin, &before.ends)).transpose()?;
        let first_ms = before.map_or(lost.wall(now), |before| before.first_ms);
        let is_left = |entry: &Entry| match &late {
            None => true,
            Some(late) => late.contains(&entry.id) && entry.at_ms <= first_ms,
        };
        let mut steps = Vec::new();
        for entry in self.left_by(lost.origin)?.into_iter().filter(is_left) {
            steps.extend(self.taken_from(entry, lost, now));
        }
        let read = write_up_to(&ReadUpTo { first_ms, ends });
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
                    open.put_state(TAKEN_UP_TREE, &key, Some(&write_term(lost.term)));
                    open.put_state(READ_TREE, &key, Some(&read));
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

    /// Up to where the steps of a life may be read.
    fn ends_of(&self, origin: OriginId) -> Ends {
        let partitions = self.log.partitions_of(&self.commands);
        let of_it = partitions.iter().filter(|partition| partition.id().origin == origin);
        of_it.map(|partition| (partition.id().index, partition.visible_end())).collect()
    }

    /// The commands that were queued at a life from there on.
    fn queued_since(&self, origin: OriginId, ends: &Ends) -> Result<HashSet<CommandId>, OpenError> {
        let mut found = HashSet::new();
        let partitions = self.log.partitions_of(&self.commands);
        for id in partitions.iter().map(|partition| partition.id()).filter(|id| id.origin == origin) {
            let mut next = ends.get(&id.index).copied().unwrap_or_else(|| self.log.start_offset(id));
            loop {
                let batches = self.log.read(id, next, READ_BYTES_MAX)?;
                if batches.is_empty() {
                    break;
                }
                for batch in batches {
                    let events =
                        batch.events_from(next).filter_map(|(_, record)| StepEvent::decode(record.value?).ok());
                    found.extend(events.filter(|event| matches!(event.step, Step::Queued(_))).map(|event| event.id));
                    next = batch.next_offset();
                }
            }
        }
        Ok(found)
    }

    /// The open commands of another node as they have arrived here, in their order.
    fn left_by(&self, origin: OriginId) -> Result<Vec<Entry>, OpenError> {
        let mut stored = Vec::new();
        self.log.state_walk_of(origin, COMMANDS_TREE, |key, value| stored.extend(record::decode(key, value)))?;
        let mut table = Table::restore(self.config.clone(), stored);
        let partitions = self.log.partitions_of(&self.commands);
        let ids = partitions.iter().map(|partition| partition.id());
        for life in self.lives_up_to(origin) {
            for partition in ids.clone().filter(|id| id.origin == life) {
                let cursor = self.log.store().cursor_of(origin, READER, partition)?;
                let mut next = cursor.unwrap_or_else(|| self.log.start_offset(partition));
                self.replay(&mut table, partition, &mut next)?;
            }
        }
        let open = table.entries().filter(|entry| !entry.progress.state().is_outcome());
        let open: BTreeMap<u64, Entry> = open.map(|entry| (entry.order, entry.clone())).collect();
        Ok(open.into_values().collect())
    }

    /// A life of another node, behind those before it that its node may not have read to their end; the oldest first.
    fn lives_up_to(&self, origin: OriginId) -> Vec<OriginId> {
        let followed = self.log.store().followed();
        let last = followed.iter().find(|(life, _)| *life == origin).map(|(_, followed)| (followed.node, followed.hlc));
        let mut lives: Vec<(u64, OriginId)> = match last.filter(|(node, _)| *node != 0) {
            Some((node, hlc)) => {
                let before = followed.iter().filter(|(_, other)| other.node == node && other.hlc < hlc);
                before.map(|(life, other)| (other.hlc, *life)).collect()
            }
            None => Vec::new(),
        };
        lives.sort_unstable();
        lives.into_iter().map(|(_, life)| life).chain([origin]).collect()
    }

    /// The step that takes a command up; `None` where another node has it, or this one.
    fn taken_from(&self, entry: Entry, lost: Lost, now: Now) -> Option<(String, StepEvent)> {
        let left_with = self.left_with(&entry, lost.origin);
        let around = Around {
            is_elsewhere: self.is_elsewhere(entry.id, lost.origin, entry.term),
            gateway: if let LeftWith::Gateway(gateway) = left_with { Some(gateway) } else { None },
            is_gateway_gone: left_with == LeftWith::GoneSite,
            refuses_repeats: self.refuses_repeats(&entry.device),
            deliveries_max: self.config.deliveries_max,
        };
        let table = self.table.lock();
        let known = table.get(entry.id);
        take_up_step(entry, known, lost, around, now)
    }

    /// With whom outside this site a lost node may have left a command: the gateway that was asked, as far as is known here, or the only one that
    /// the site has. The command is for the site as it was: where it has other gateways alone by now, none of these ever gets it.
    fn left_with(&self, entry: &Entry, lost: OriginId) -> LeftWith {
        let (Some(site), Some(way)) = (site_of(&entry.device), self.down.way()) else { return LeftWith::Nobody };
        if let Some(away) = entry.away {
            // One whose link is removed stays the one that may have it: whoever speaks for the site says how it ended, or nobody.
            let is_at_node = away.to == self.log.origin() || self.log.others().contains(&away.to);
            return if is_at_node { LeftWith::Nobody } else { LeftWith::Gateway(away.to) };
        }
        let is_removed = way.is_removed(site);
        let all = if is_removed { Vec::new() } else { way.gateways_of(site) };
        let had = self.gateways_had(lost, site);
        // What the lost node knew of links is known here, as the decision to take up came behind it.
        let is_other = had.is_some_and(|had| !had.is_empty() && all.iter().all(|gateway| !had.contains(gateway)));
        match all.as_slice() {
            all if is_other && (is_removed || !all.is_empty()) => LeftWith::GoneSite,
            [only] => LeftWith::Gateway(*only),
            _ => LeftWith::Nobody,
        }
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

/// With whom outside this site a command may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LeftWith {
    /// With nobody, or nobody can say with whom.
    Nobody,
    /// With this gateway.
    Gateway(OriginId),
    /// With a gateway that is gone: the link was removed, and nobody can say whether it had been handed over.
    GoneSite,
}

/// What is known where a command is to be taken up.
#[derive(Debug, Clone, Copy)]
pub struct Around {
    /// A third node has it under a higher term.
    pub is_elsewhere: bool,
    /// The gateway of a linked site that alone may have it.
    pub gateway: Option<OriginId>,
    /// The linked site that it was for is gone.
    pub is_gateway_gone: bool,
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
    let term = lost.term.max(had.saturating_add(UNSEEN_TERMS + 1));
    let is_given_away = entry.away.is_some_and(|away| away.is_sure) && around.gateway.is_none();
    if is_given_away || around.is_elsewhere {
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
    let wall = lost.wall(now);
    let left = entry.queued.deliver_by_ms.saturating_sub(wall);
    let given = entry.queued.deliver_by_ms.saturating_sub(entry.at_ms).min(DELIVER_WITHIN_MAX_MS);
    let age = wall.saturating_sub(entry.at_ms);
    let device = entry.device.to_string();
    Some((device, taken_step(entry, steps, taken, (age, left.min(given)), now)))
}

fn taken(entry: &Entry, lost: Lost, term: u64, around: Around) -> Taken {
    let state = entry.progress.state();
    let with_device = state.is_with_device().then_some(state);
    let deliveries_max = entry.queued.deliveries_max.unwrap_or(u32::MAX).min(around.deliveries_max);
    let is_never = entry.queued.repeat == Repeat::Never && !around.refuses_repeats;
    let is_spent = is_never || entry.progress.attempts() >= deliveries_max;
    let is_over = with_device.is_none() && around.gateway.is_none() && (is_spent || around.is_gateway_gone);
    Taken {
        from: OriginHex(lost.origin.0),
        term,
        attempts: entry.progress.attempts(),
        may_have_arrived: true,
        clients: clients(entry),
        with_device,
        is_over,
        gateway: around.gateway.map(|gateway| OriginHex(gateway.0)),
        called_off: entry.called_off.as_deref().map(str::to_owned),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use devices::command::Queued;

    use super::*;

    #[test]
    fn what_is_taken_up_has_a_higher_term_than_any_hand_over_that_nobody_has_seen() {
        const TO: OriginId = OriginId(7);
        let now = Now { steady: 5, wall: 1_000_000 };
        let id = CommandId::v7(1, [0; 10]);
        let queued = || Queued::new("c", vec![1], now.wall + 60_000, "cli");
        let lost = Lost { origin: OriginId(8), term: 3, from_commit: CommitNumber(0), ahead_ms: 999_995 };
        let around = Around {
            is_elsewhere: false,
            gateway: None,
            is_gateway_gone: false,
            refuses_repeats: false,
            deliveries_max: 4,
        };
        let mut table = Table::new(crate::commands::Config::default());
        table.queued("d", id, now.wall, queued(), now);
        let entry = |table: &Table| table.get(id).cloned().unwrap();
        let term = |entry: Entry, known: Option<&Entry>, around| {
            let (_, step) = take_up_step(entry, known, lost, around, now)?;
            let Step::Queued(queued) = step.step else { return None };
            queued.taken.map(|taken| (taken.term, taken.is_over))
        };
        // What is known of it is that it waits there; it may have been handed over, and declined, many times since.
        let here = term(entry(&table), None, around);
        for times in 1..=9 {
            table.hand_over("d", TO, &mut crate::commands::Room { count: 1, bytes: 1 << 20 }, now);
            let away = entry(&table).away.map(|away| away.term);
            assert_eq!(away, Some(times));
            assert!(here.is_some_and(|(term, _)| term > times));
            assert!(term(entry(&table), None, around).map(|(term, _)| term) > here.map(|(term, _)| term));
            table.stays(id, TO, now);
        }
        // What is left of its time is so by the clock of who queued it, whatever this node's is set to.
        for ahead_ms in [499_995, 999_995, 1_499_995] {
            let lost = Lost { ahead_ms, ..lost };
            let there = lost.wall(now);
            let entry = Entry::new("d", id, there - 10, Queued { deliver_by_ms: there + 50, ..queued() }, 9);
            let step = take_up_step(entry, None, lost, around, now).map(|(_, step)| (step.at_ms, step.step));
            let Some((at_ms, Step::Queued(taken))) = step else { panic!("{step:?}") };
            assert_eq!((at_ms, taken.deliver_by_ms), (now.wall - 10, now.wall + 50), "{ahead_ms}");
        }
        // The decision's term counts where it is higher still; what must not be repeated is over.
        let late = Lost { term: 1 << 40, ..lost };
        let step = take_up_step(entry(&table), None, late, around, now).map(|(_, step)| step.step);
        let taken = |step| if let Some(Step::Queued(queued)) = step { queued.taken } else { None };
        assert_eq!(taken(step).map(|taken| (taken.term, taken.is_over)), Some((1 << 40, false)));
        let never = Entry::new("d", id, now.wall, Queued { repeat: Repeat::Never, ..queued() }, 9);
        assert_eq!(term(never.clone(), None, around).map(|(_, is_over)| is_over), Some(true));
        let remembers = Around { refuses_repeats: true, ..around };
        assert_eq!(term(never.clone(), None, remembers).map(|(_, is_over)| is_over), Some(false));
        // Nobody gets what was for a site that is gone.
        let gone = Around { is_gateway_gone: true, ..around };
        let safe = Entry::new("plant/d", id, now.wall, queued(), 9);
        assert_eq!(
            [around, gone].map(|around| term(safe.clone(), None, around).map(|(_, is_over)| is_over)),
            [Some(false), Some(true)]
        );
        // One that this node has, or another, is left to it; one that this node gave away comes back.
        assert_eq!(term(never.clone(), Some(&entry(&table)), around), None);
        assert_eq!(term(never.clone(), None, Around { is_elsewhere: true, ..around }), None);
        table.hand_over("d", lost.origin, &mut crate::commands::Room { count: 1, bytes: 1 << 20 }, now);
        table.moved(id, lost.origin, now);
        assert!(term(never.clone(), Some(&entry(&table)), around).is_some());
        assert_eq!(term(entry(&table), None, around), None, "the lost node had given it away");
    }
}

//! One command as the room keeps it in memory.

use std::sync::Arc;

use devices::command::{
    Answer, CommandId, EARLIER_NODES, EXECUTION_TIMEOUT_DEFAULT_MS, EXECUTION_TIMEOUT_MAX_MS, Progress, Queued,
    RECIPIENTS_MAX, State, Status, Why,
};
use sled_data::OriginId;

use super::down::is_at_site;

/// What a command costs in memory besides its texts and payloads, about.
const ENTRY_BYTES: usize = 600;

/// How long after the last moment at which another node must have ended a command its word is waited for, in
/// milliseconds.
const AWAY_GRACE_MS: u64 = 60_000;
/// The same, of a linked site, which may be cut off for days: its word alone is true.
const SITE_GRACE_MS: u64 = 7 * 24 * 3_600_000;

/// The node that a command was handed over to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Away {
    /// The life that it writes.
    pub to: OriginId,
    /// The term under which it has the command.
    pub term: u64,
    /// Whether it has it for certain; else it may.
    pub is_sure: bool,
}

/// One command and how far it is.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Its id.
    pub id: CommandId,
    /// The device that it is for.
    pub device: Arc<str>,
    /// When it was submitted, wall clock, in milliseconds since 1970.
    pub at_ms: u64,
    /// What was submitted; its payload is a guard's, once one has rewritten it.
    pub queued: Queued,
    /// Its place among all commands of this node: the order of a device's commands.
    pub order: u64,
    /// How many steps it has made: the number of the last one.
    pub steps: u32,
    /// When it made the last one, wall clock, in milliseconds since 1970.
    pub changed_ms: u64,
    /// How far it is.
    pub progress: Progress,
    /// Who got it: session number and client id, the newest last.
    pub recipients: Vec<(u64, Arc<str>)>,
    /// Until when it must be delivered, on the node's steady clock, in milliseconds.
    pub deliver_by: u64,
    /// Until when the device must have done it, once it was sent.
    pub execute_by: u64,
    /// What the device answered last.
    pub result: Option<Box<Answer>>,
    /// The status of that answer.
    pub answered: Option<Status>,
    /// Why it ended, where the device did not say so.
    pub why: Option<Box<Why>>,
    /// The guard that would have kept it back, had it not been urgent; the one that said so last.
    pub overridden: Option<Box<Why>>,
    /// The payload as it was submitted, where a guard has rewritten it.
    pub submitted: Option<Box<[u8]>>,
    /// Answers that did not count.
    pub answers_refused: u32,
    /// Answers that told of progress.
    pub progress_steps: u32,
    /// The command that it was sent again as.
    pub redriven_as: Option<CommandId>,
    /// The term under which this node has it; 0 where it was submitted here. Of two nodes' outcomes the one of the higher
    /// term counts.
    pub term: u64,
    /// The node that it was handed over to: that one alone says how it ends.
    pub away: Option<Away>,
    /// Who calls it off, where a gateway of a linked site is to be asked, or was and has not said how it ended.
    pub called_off: Option<Box<str>>,
    /// Whether the store has it in some state; not stored itself.
    pub is_stored: bool,
}

impl Entry {
    /// A command that was just read; `left_ms`: until when it must be delivered, from `steady_ms` on.
    pub fn new(device: &str, id: CommandId, at_ms: u64, queued: Queued, deliver_by: u64) -> Self {
        let (mut progress, mut recipients, mut term) = (Progress::default(), Vec::new(), 0);
        let (mut away, mut called_off) = (None, None);
        if let Some(taken) = &queued.taken {
            let state = taken.with_device.filter(|state| state.is_with_device()).unwrap_or(State::Queued);
            progress = Progress::taken(state, taken.attempts, taken.may_have_arrived);
            let clients = taken.clients.iter().map(String::as_str);
            // Whom an unknown send went to is most often called as the device.
            let clients = clients.chain(taken.may_have_arrived.then_some(device));
            recipients = clients.take(RECIPIENTS_MAX).map(|client| (EARLIER_NODES, client.into())).collect();
            term = taken.term;
            called_off = taken.called_off.as_deref().filter(|_| taken.gateway.is_some()).map(Into::into);
            away = taken.gateway.map(|to| Away { to: OriginId(to.0), term, is_sure: false });
        }
        Self {
            id,
            device: device.into(),
            at_ms,
            queued,
            order: 0,
            steps: 0,
            changed_ms: at_ms,
            progress,
            recipients,
            deliver_by,
            execute_by: 0,
            result: None,
            answered: None,
            why: None,
            overridden: None,
            submitted: None,
            answers_refused: 0,
            progress_steps: 0,
            redriven_as: None,
            term,
            away,
            called_off,
            is_stored: false,
        }
    }

    /// When the clock ends it, as far as it is now; `None` when it has ended.
    pub fn deadline(&self) -> Option<u64> {
        match self.progress.state() {
            State::Queued if self.away.is_some() => {
                let grace_ms = if is_at_site(&self.device) { SITE_GRACE_MS } else { AWAY_GRACE_MS };
                Some(self.deliver_by.saturating_add(self.execution_timeout_ms() + grace_ms))
            }
            State::Queued => Some(self.deliver_by),
            state if state.is_outcome() => None,
            _ => Some(self.execute_by),
        }
    }

    /// How long the device may take, in milliseconds.
    pub fn execution_timeout_ms(&self) -> u64 {
        self.queued.execution_timeout_ms.unwrap_or(EXECUTION_TIMEOUT_DEFAULT_MS).min(EXECUTION_TIMEOUT_MAX_MS)
    }

    /// What it counts against the bound of bytes.
    pub fn bytes(&self) -> usize {
        let key = |key: &Option<String>| key.as_ref().map_or(0, String::len);
        self.device.len()
            + self.queued.name.len()
            + self.queued.payload.0.len()
            + self.submitted.as_ref().map_or(0, |payload| payload.len())
            + key(&self.queued.supersede)
            + key(&self.queued.idempotency_key)
            + self.result.as_ref().map_or(0, |answer| answer.payload.0.len() + answer.text.len())
            + self.called_off.as_ref().map_or(0, |by| by.len())
            + self.overridden.as_ref().map_or(0, |why| why.by.len() + why.text.len())
            + ENTRY_BYTES
    }

    /// The payload as it was submitted.
    pub fn submitted_payload(&self) -> &[u8] {
        self.submitted.as_deref().unwrap_or(&self.queued.payload.0)
    }

    /// A guard gives it another payload.
    pub fn rewrite(&mut self, payload: &[u8]) {
        let before = std::mem::replace(&mut self.queued.payload.0, payload.to_vec());
        self.submitted.get_or_insert(before.into());
    }

    /// Whether it ended without the device's word, so that it may be worth sending again.
    pub fn is_dead_letter(&self) -> bool {
        let state = self.progress.state();
        matches!(state, State::Expired | State::Unknown | State::TimedOut | State::Refused)
    }

    /// Whether it waits here for a session of its device.
    pub fn waits_here(&self) -> bool {
        self.progress.state() == State::Queued && self.away.is_none()
    }

    /// Notes that a session gets it.
    pub fn add_recipient(&mut self, session: u64, client: &Arc<str>) {
        self.recipients.retain(|(number, _)| *number != session || session == EARLIER_NODES);
        if self.recipients.len() >= RECIPIENTS_MAX {
            self.recipients.remove(0);
        }
        self.recipients.push((session, Arc::clone(client)));
    }

    /// The recipient that an answer speaks for: the session itself, or an earlier one of the same client, as a
    /// device that lost its connection answers over the next.
    pub fn speaks_for(&self, session: u64, client: &str) -> u64 {
        let is_known = self.recipients.iter().any(|(number, _)| *number == session);
        let earlier = self.recipients.iter().rev().find(|(number, id)| *number < session && **id == *client);
        match earlier {
            Some((number, _)) if !is_known => *number,
            _ => session,
        }
    }

    /// The recipient that an answer speaks for which came in at another node: the newest of the same client.
    pub fn speaks_for_elsewhere(&self, client: &str) -> Option<u64> {
        self.recipients.iter().rev().find(|(_, id)| **id == *client).map(|(number, _)| *number)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use devices::command::Input;

    use super::*;

    fn entry() -> Entry {
        let mut entry = Entry::new("d", CommandId::from_bytes([9; 16]), 1, Queued::new("c", vec![0xff], 2, "i"), 6);
        entry.progress.apply(Input::Sent(5));
        entry.add_recipient(5, &"m".into());
        entry.execute_by = 7;
        entry
    }

    #[test]
    fn a_later_session_of_the_same_client_speaks_for_the_one_that_got_it() {
        let entry = entry();
        for (session, client, speaks_for) in [(5, "m", 5), (9, "m", 5), (9, "other", 9), (4, "m", 4), (5, "other", 5)] {
            assert_eq!(entry.speaks_for(session, client), speaks_for, "{session} {client}");
        }
    }

    #[test]
    fn the_clock_that_counts_follows_the_state() {
        let mut entry = entry();
        assert_eq!(entry.deadline(), Some(7));
        entry.progress.apply(Input::Dropped(5));
        assert_eq!(entry.deadline(), Some(6));
        entry.progress.apply(Input::Answered(5, Status::Failed));
        assert_eq!(entry.deadline(), None);
    }

    #[test]
    fn recipients_are_bounded_and_the_newest_is_last() {
        let mut entry = entry();
        for session in 1..=9 {
            entry.add_recipient(session, &"m".into());
        }
        entry.add_recipient(8, &"m".into());
        let numbers: Vec<u64> = entry.recipients.iter().map(|(number, _)| *number).collect();
        assert_eq!(numbers, [6, 7, 9, 8]);
    }
}

//! The one state machine of a command: pure, written down as a table, tested cell by cell.

use serde::{Deserialize, Serialize};

/// How many of the sessions that got a command are remembered; older ones can no longer answer.
pub const RECIPIENTS_MAX: usize = 4;

/// Where a command is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Waits for a session of its device, for the first time or again.
    Queued,
    /// Handed to a session of its device.
    Sent,
    /// The device has confirmed its receipt (PUBACK).
    Delivered,
    /// The device said that it will do it.
    Accepted,
    /// The device said how far it is.
    InProgress,
    /// Outcome: done.
    Succeeded,
    /// Outcome: tried and not done.
    Failed,
    /// Outcome: the device refused it.
    Rejected,
    /// Outcome: never sent, and now it is too late.
    Expired,
    /// Outcome: sent, and nobody knows whether it arrived.
    Unknown,
    /// Outcome: it arrived, and the device did not say in time how it ended.
    TimedOut,
    /// Outcome: the node would not send it: no room, or a guard forbade it.
    Refused,
    /// Outcome: called off before it was sent.
    Cancelled,
    /// Outcome: a newer one took its place before it was sent.
    Superseded,
}

/// What a device may answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// It will be done.
    Accepted,
    /// It is being done; may be repeated.
    InProgress,
    /// It is done.
    Succeeded,
    /// It could not be done.
    Failed,
    /// It will not be done.
    Rejected,
}

impl State {
    /// Every state, in the order of a command's life.
    pub const ALL: [Self; 14] = [
        Self::Queued,
        Self::Sent,
        Self::Delivered,
        Self::Accepted,
        Self::InProgress,
        Self::Succeeded,
        Self::Failed,
        Self::Rejected,
        Self::Expired,
        Self::Unknown,
        Self::TimedOut,
        Self::Refused,
        Self::Cancelled,
        Self::Superseded,
    ];

    /// Whether this is how a command ended. An outcome never changes.
    pub fn is_outcome(self) -> bool {
        self >= Self::Succeeded
    }

    /// Whether the device has the command and has not said how it ended.
    pub fn is_with_device(self) -> bool {
        matches!(self, Self::Delivered | Self::Accepted | Self::InProgress)
    }

    /// The name used in events, CLI and API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Sent => "sent",
            Self::Delivered => "delivered",
            Self::Accepted => "accepted",
            Self::InProgress => "in-progress",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Rejected => "rejected",
            Self::Expired => "expired",
            Self::Unknown => "unknown",
            Self::TimedOut => "timed-out",
            Self::Refused => "refused",
            Self::Cancelled => "cancelled",
            Self::Superseded => "superseded",
        }
    }

    /// The state of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }
}

impl Status {
    /// Every status.
    pub const ALL: [Self; 5] = [Self::Accepted, Self::InProgress, Self::Succeeded, Self::Failed, Self::Rejected];

    /// The state that an answer of this status leads to.
    pub fn state(self) -> State {
        match self {
            Self::Accepted => State::Accepted,
            Self::InProgress => State::InProgress,
            Self::Succeeded => State::Succeeded,
            Self::Failed => State::Failed,
            Self::Rejected => State::Rejected,
        }
    }

    /// Whether no other answer may follow.
    pub fn is_final(self) -> bool {
        self.state().is_outcome()
    }

    /// The last level of the answer's MQTT topic.
    pub fn as_str(self) -> &'static str {
        self.state().as_str()
    }

    /// The status of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == name)
    }
}

/// What can happen to a command. Sessions are the node's session numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// A session took it.
    Sent(u64),
    /// The session that took it never wrote it to its connection.
    Unsent(u64),
    /// The session that took it ended before the device confirmed; it may be sent again.
    Dropped(u64),
    /// The same, and it must not be sent again: it is not repeatable, or was sent often enough.
    Lost(u64),
    /// The device confirmed its receipt to that session.
    Delivered(u64),
    /// The device answered through a session.
    Answered(u64, Status),
    /// The time until which it must be delivered has passed.
    DeliverByPassed,
    /// The time that the device had to do it has passed.
    ExecutionTimedOut,
    /// The node will not send it: there is no room for it, or a guard forbids it.
    Refused,
    /// Somebody calls it off.
    Cancelled,
    /// A newer command with the same key takes its place.
    Superseded,
    /// Another node, which it was handed over to, has said how it ended.
    Elsewhere(State),
}

/// Why an answer or a call-off does not count: a code for metrics, logs and whoever asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "kebab-case")]
pub enum Refusal {
    /// The command was never sent to anyone.
    #[error("not-sent")]
    NotSent,
    /// The session that answers is not one that got the command.
    #[error("other-session")]
    OtherSession,
    /// The device has already said how it ended.
    #[error("second-answer")]
    SecondAnswer,
    /// The status lies behind one that the device has sent before.
    #[error("out-of-order")]
    OutOfOrder,
    /// It cannot be called off: a device has it, or may have it.
    #[error("already-sent")]
    AlreadySent,
    /// It cannot be called off: it has ended.
    #[error("already-ended")]
    AlreadyEnded,
}

impl Refusal {
    /// The code: what is written in events and told to whoever asked.
    pub fn code(self) -> &'static str {
        match self {
            Self::NotSent => "not-sent",
            Self::OtherSession => "other-session",
            Self::SecondAnswer => "second-answer",
            Self::OutOfOrder => "out-of-order",
            Self::AlreadySent => "already-sent",
            Self::AlreadyEnded => "already-ended",
        }
    }
}

/// What an input does to a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes to this state (`in-progress` may follow itself).
    Move(State),
    /// The answer came after the outcome: it is kept, marked late, and changes nothing.
    Late(Status),
    /// Nothing happens.
    Nothing,
    /// The answer or the call-off does not count.
    Refuse(Refusal),
}

impl Verdict {
    /// Whether the state has changed.
    pub fn moved(self) -> bool {
        matches!(self, Self::Move(_))
    }
}

/// How far a command is: its state and what the machine must remember beside it.
///
/// Rows are the states, columns the inputs; `.` is nothing, `!` a [`Refusal`], `late` a
/// [`Verdict::Late`], anything else the next state. The table speaks of a session that got the
/// command. Any other session's answer is refused (`other-session`, or `not-sent` when none got it),
/// and its other inputs do nothing. A command that was written to a session's connection and came back is
/// `queued, returned`: it may have arrived, so that whatever ends it then (time, a call-off, a newer one, a guard)
/// ends it as `unknown`, not as an outcome that says that it was never done.
///
#[doc = include_str!("state.md")]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    state: State,
    /// Sessions that got it, the newest last, at most [`RECIPIENTS_MAX`]; twice where one got it twice.
    recipients: Vec<u64>,
    attempts: u32,
    answered_late: bool,
}

impl Default for Progress {
    fn default() -> Self {
        Self { state: State::Queued, recipients: Vec::new(), attempts: 0, answered_late: false }
    }
}

/// The session number that stands for all sessions of the nodes that had a command before: nodes number theirs from 1.
pub const EARLIER_NODES: u64 = 0;

impl Progress {
    /// A command that comes from another node, where it came to `state` and was sent so often. `may_have_arrived`:
    /// whether a device may have it from there.
    pub fn taken(state: State, attempts: u32, may_have_arrived: bool) -> Self {
        let recipients = if may_have_arrived { vec![EARLIER_NODES] } else { Vec::new() };
        Self { state, recipients, attempts, answered_late: false }
    }

    /// The state.
    pub fn state(&self) -> State {
        self.state
    }

    /// How often a session took it.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// The session that got it last.
    pub fn session(&self) -> Option<u64> {
        self.recipients.last().copied()
    }

    /// Whether a device may have it: a session wrote it and nothing was heard since.
    pub fn may_have_arrived(&self) -> bool {
        !self.recipients.is_empty()
    }

    /// What an input does; changes nothing.
    pub fn judge(&self, input: Input) -> Verdict {
        let is_sent_to = |session| self.state == State::Sent && self.session() == Some(session);
        match input {
            Input::Sent(_) if self.state <= State::Sent => Verdict::Move(State::Sent),
            Input::Unsent(session) | Input::Dropped(session) if is_sent_to(session) => Verdict::Move(State::Queued),
            Input::Lost(session) if is_sent_to(session) => Verdict::Move(State::Unknown),
            Input::Delivered(session) if self.state <= State::Sent && self.recipients.contains(&session) => {
                Verdict::Move(State::Delivered)
            }
            Input::Answered(session, status) => self.judge_answer(session, status),
            Input::DeliverByPassed => self.give_up(State::Expired),
            Input::Refused => self.give_up(State::Refused),
            Input::Superseded => self.give_up(State::Superseded),
            Input::Cancelled if self.state.is_outcome() => Verdict::Refuse(Refusal::AlreadyEnded),
            Input::Cancelled if self.state != State::Queued => Verdict::Refuse(Refusal::AlreadySent),
            Input::Cancelled => self.give_up(State::Cancelled),
            Input::ExecutionTimedOut if self.state == State::Sent => Verdict::Move(State::Unknown),
            Input::ExecutionTimedOut if self.state.is_with_device() => Verdict::Move(State::TimedOut),
            Input::Elsewhere(outcome) if outcome.is_outcome() && !self.state.is_outcome() => Verdict::Move(outcome),
            _ => Verdict::Nothing,
        }
    }

    /// A queued command is not sent any more: `unsent` is its outcome where it never was.
    fn give_up(&self, unsent: State) -> Verdict {
        match self.state {
            State::Queued if self.may_have_arrived() => Verdict::Move(State::Unknown),
            State::Queued => Verdict::Move(unsent),
            _ => Verdict::Nothing,
        }
    }

    fn judge_answer(&self, session: u64, status: Status) -> Verdict {
        if self.recipients.is_empty() {
            return Verdict::Refuse(Refusal::NotSent);
        }
        if !self.recipients.contains(&session) {
            return Verdict::Refuse(Refusal::OtherSession);
        }
        match self.state {
            State::Accepted | State::InProgress if status == Status::Accepted => Verdict::Refuse(Refusal::OutOfOrder),
            State::Unknown | State::TimedOut if !self.answered_late => Verdict::Late(status),
            state if state.is_outcome() => Verdict::Refuse(Refusal::SecondAnswer),
            _ => Verdict::Move(status.state()),
        }
    }

    /// Judges an input and goes where it leads.
    pub fn apply(&mut self, input: Input) -> Verdict {
        let verdict = self.judge(input);
        match verdict {
            Verdict::Move(state) => self.state = state,
            Verdict::Late(status) => self.answered_late = status.is_final(),
            Verdict::Nothing | Verdict::Refuse(_) => {}
        }
        if matches!(verdict, Verdict::Move(_)) {
            self.note_recipient(input);
        }
        verdict
    }

    fn note_recipient(&mut self, input: Input) {
        match input {
            Input::Sent(session) => {
                self.attempts = self.attempts.saturating_add(1);
                if self.recipients.len() >= RECIPIENTS_MAX {
                    self.recipients.remove(0);
                }
                self.recipients.push(session);
            }
            Input::Unsent(_) => {
                self.attempts = self.attempts.saturating_sub(1);
                self.recipients.pop();
            }
            _ => {}
        }
    }
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;

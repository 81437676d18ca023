//! One job: which of its targets are due, what became of them, what people say, when it gives up. Pure.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use devices::command::State;

use super::ask::JobError;
use super::pace::{BATCH_EVERY_MS, Pace};
use super::record::OUTCOMES_CHUNK;
use super::terms::{AbortAbove, Given, JobState, Moving, OUTCOMES};
use crate::commands::Now;

/// Commands that must have ended before a share of them says anything.
const SAMPLE_MIN: u64 = 10;
/// Commands of one job that one commit takes.
const BATCH_MAX: u32 = 1_000;
/// Bytes of commands of one job that one commit takes, about.
const BATCH_BYTES_MAX: usize = 1 << 20;
/// What a command takes in the log besides its payload, about.
const STEP_BYTES: usize = 512;
/// Commands of a stopped job that one commit calls off.
const CALLED_OFF_MAX: usize = 1_000;
/// How often it is told how far a job is, in milliseconds.
const PROGRESS_EVERY_MS: u64 = 1_000;
/// What is told of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Notice {
    Started,
    Progress,
    Resumed,
    /// It came to a state.
    Came(JobState),
}

impl Notice {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Progress => "progress",
            Self::Resumed => "resumed",
            Self::Came(state) => state.as_str(),
        }
    }
}

/// What is to be written down of a job with the next commit.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Unwritten {
    /// What it was started with: it is new.
    pub(super) is_new: bool,
    pub(super) moving: bool,
    /// Parts of its outcomes, by number.
    pub(super) chunks: BTreeSet<u32>,
    pub(super) notices: Vec<Notice>,
    /// Nothing will change any more.
    pub(super) has_ended: bool,
}

/// One job.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) given: Arc<Given>,
    pub(super) moving: Moving,
    /// One byte a target: 0, or the outcome's place in [`OUTCOMES`], from 1.
    pub(super) outcomes: Vec<u8>,
    /// How many have each outcome, in the order of [`OUTCOMES`].
    pub(super) counts: [u32; OUTCOMES.len()],
    pace: Pace,
    /// Submitted commands that are to be called off.
    call_off: Vec<u32>,
    call_off_at_ms: u64,
    unwritten: Unwritten,
    /// When it was told last how far it is; `None`: nothing has changed since.
    tell_at_ms: Option<u64>,
    told_ms: u64,
    ended_told: bool,
}

impl Job {
    /// A job that starts now.
    pub(super) fn new(given: Given, now: Now) -> Self {
        let by = given.command.issued_by.clone();
        let moving = Moving { state: JobState::Running, next: 0, changed_ms: now.wall, by };
        let outcomes = vec![0; given.total as usize];
        let mut job = Self::restore(given, moving, outcomes);
        job.unwritten = Unwritten { is_new: true, moving: true, notices: vec![Notice::Started], ..job.unwritten };
        job
    }

    /// A job as it was stored. What a stopped one has submitted and not heard of is called off, where it waits.
    pub(super) fn restore(given: Given, moving: Moving, mut outcomes: Vec<u8>) -> Self {
        outcomes.resize(given.total as usize, 0);
        let mut counts = [0; OUTCOMES.len()];
        for outcome in outcomes.iter().filter(|outcome| **outcome != 0) {
            if let Some(count) = counts.get_mut(usize::from(*outcome) - 1) {
                *count += 1;
            }
        }
        let mut job = Self {
            pace: Pace::new(given.rate),
            given: Arc::new(given),
            moving,
            outcomes,
            counts,
            call_off: Vec::new(),
            call_off_at_ms: 0,
            unwritten: Unwritten::default(),
            tell_at_ms: None,
            told_ms: 0,
            ended_told: false,
        };
        job.ended_told = job.has_ended();
        if !job.moving.state.is_open() {
            job.call_off = job.under_way().collect();
        }
        job
    }

    pub(super) fn state(&self) -> JobState {
        self.moving.state
    }

    /// How many commands have ended.
    pub(super) fn ended(&self) -> u32 {
        self.counts.iter().sum()
    }

    /// Whether nothing will change any more.
    pub(super) fn has_ended(&self) -> bool {
        !self.state().is_open() && self.ended() == self.moving.next
    }

    /// The outcome of a target's command.
    pub(super) fn outcome(&self, index: u32) -> Option<State> {
        let place = self.outcomes.get(index as usize).copied().map(usize::from)?;
        OUTCOMES.get(place.checked_sub(1)?).copied()
    }

    /// The places of commands that were submitted and have not ended, as far as it is known.
    pub(super) fn under_way(&self) -> impl Iterator<Item = u32> + '_ {
        (0..self.moving.next).filter(|index| self.outcomes.get(*index as usize) == Some(&0))
    }

    /// The targets whose commands are to be submitted now.
    pub(super) fn due(&mut self, now: Now) -> Range<u32> {
        let next = self.moving.next;
        if self.state() != JobState::Running || next >= self.given.total {
            return next..next;
        }
        let fit = BATCH_BYTES_MAX / (STEP_BYTES + 2 * self.given.command.payload.len());
        let count = self.pace.due(now.steady).min(BATCH_MAX).min(u32::try_from(fit).unwrap_or(1).max(1));
        next..next.saturating_add(count).min(self.given.total)
    }

    /// So many of those that were due are in the next commit.
    pub(super) fn submitted(&mut self, count: u32, now: Now) {
        self.pace.sent(count, now.steady);
        if count > 0 {
            self.moving.next += count;
            self.unwritten.moving = true;
            self.note_progress(now);
        }
    }

    /// A command of the job ended. The first word about each counts.
    pub(super) fn ended_as(&mut self, index: u32, outcome: State, now: Now) {
        let place = OUTCOMES.iter().position(|known| *known == outcome);
        let (Some(place), true) = (place, index < self.moving.next) else { return };
        let Some(noted) = self.outcomes.get_mut(index as usize).filter(|noted| **noted == 0) else { return };
        *noted = u8::try_from(place + 1).unwrap_or(u8::MAX);
        self.counts[place] += 1;
        self.unwritten.chunks.insert(index / OUTCOMES_CHUNK);
        self.note_progress(now);
        if self.state().is_open() && self.ended() == self.given.total {
            self.come_to(JobState::Done, "job", now);
        } else if self.state().is_open() && self.is_above() {
            self.stop(JobState::Aborted, "job", now);
        }
        self.note_end();
    }

    /// Whether too many did not succeed.
    fn is_above(&self) -> bool {
        let ended = u64::from(self.ended());
        let failed = ended - u64::from(self.counts[0]);
        match self.given.abort_above {
            None => false,
            Some(AbortAbove::Count(count)) => failed > u64::from(count),
            Some(AbortAbove::Percent(percent)) => ended >= SAMPLE_MIN && failed * 100 > ended * u64::from(percent),
        }
    }

    /// Submits no more until it is let go on.
    pub(super) fn pause(&mut self, by: &str, now: Now) -> Result<(), JobError> {
        self.check_open()?;
        if self.state() == JobState::Running {
            self.come_to(JobState::Paused, by, now);
        }
        Ok(())
    }

    /// Goes on after a pause.
    pub(super) fn resume(&mut self, by: &str, now: Now) -> Result<(), JobError> {
        self.check_open()?;
        if self.state() == JobState::Paused {
            self.pace = Pace::new(self.given.rate);
            self.come_to(JobState::Running, by, now);
        }
        Ok(())
    }

    /// Stops for good.
    pub(super) fn cancel(&mut self, by: &str, now: Now) -> Result<(), JobError> {
        self.check_open()?;
        self.stop(JobState::Cancelled, by, now);
        self.note_end();
        Ok(())
    }

    fn check_open(&self) -> Result<(), JobError> {
        let (id, state) = (self.given.id, self.state());
        if state.is_open() { Ok(()) } else { Err(JobError::Ended { id, state }) }
    }

    fn stop(&mut self, state: JobState, by: &str, now: Now) {
        self.come_to(state, by, now);
        self.call_off = self.under_way().collect();
        self.call_off_at_ms = 0;
    }

    fn come_to(&mut self, state: JobState, by: &str, now: Now) {
        self.moving.state = state;
        self.moving.changed_ms = now.wall;
        self.moving.by = by.to_owned();
        self.unwritten.moving = true;
        self.unwritten.notices.push(if state == JobState::Running { Notice::Resumed } else { Notice::Came(state) });
    }

    fn note_progress(&mut self, now: Now) {
        self.tell_at_ms.get_or_insert((self.told_ms + PROGRESS_EVERY_MS).max(now.steady));
    }

    fn note_end(&mut self) {
        if self.has_ended() && !self.ended_told {
            self.ended_told = true;
            self.unwritten.has_ended = true;
            self.tell_at_ms = Some(0);
        }
    }

    /// A command came back from a session and waits again: of a stopped job, it is called off.
    pub(super) fn came_back(&mut self, index: u32) {
        if !self.state().is_open() && self.outcome(index).is_none() && index < self.moving.next {
            self.call_off.push(index);
            self.call_off_at_ms = 0;
        }
    }

    /// The next commands to be called off. Those that cannot be looked up yet are to be given back.
    pub(super) fn take_call_off(&mut self, now: Now) -> Vec<u32> {
        if self.call_off_at_ms > now.steady {
            return Vec::new();
        }
        self.call_off.split_off(self.call_off.len().saturating_sub(CALLED_OFF_MAX))
    }

    /// These are to be called off a little later.
    pub(super) fn call_off_later(&mut self, indexes: Vec<u32>, now: Now) {
        if !indexes.is_empty() {
            self.call_off.extend(indexes);
            self.call_off_at_ms = now.steady + BATCH_EVERY_MS;
        }
    }

    /// When there is work next, on the steady clock.
    pub(super) fn next_due(&self) -> Option<u64> {
        let submits = self.state() == JobState::Running && self.moving.next < self.given.total;
        let submits = submits.then(|| self.pace.next_ms());
        let call_off = (!self.call_off.is_empty()).then_some(self.call_off_at_ms);
        [submits, call_off, self.tell_at_ms].into_iter().flatten().min()
    }

    /// What is to be written down now; nothing else will say it again.
    pub(super) fn take_unwritten(&mut self, now: Now) -> Unwritten {
        let mut unwritten = std::mem::take(&mut self.unwritten);
        let is_time = self.tell_at_ms.is_some_and(|at| at <= now.steady);
        if unwritten.notices.is_empty() && is_time {
            unwritten.notices.push(Notice::Progress);
        }
        if !unwritten.notices.is_empty() {
            self.tell_at_ms = None;
            self.told_ms = now.steady;
        }
        unwritten
    }
}

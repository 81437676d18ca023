//! Counters of the room.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use devices::command::{State, Step};

/// How many outcomes there are.
const OUTCOMES: usize = 9;

fn outcomes() -> impl Iterator<Item = State> {
    State::ALL.into_iter().filter(|state| state.is_outcome())
}

/// Counters of the room.
#[derive(Debug, Default)]
pub struct Stats {
    /// Commands read from the log.
    pub queued: AtomicU64,
    /// Commands handed to a session.
    pub sent: AtomicU64,
    /// Commands that came back unconfirmed.
    pub returned: AtomicU64,
    /// Commands whose receipt was confirmed.
    pub delivered: AtomicU64,
    /// Commands that ended, by how: in the order of [`State::ALL`], from the first outcome on.
    ended: [AtomicU64; OUTCOMES],
    /// Commands whose payload a guard has changed.
    pub rewritten: AtomicU64,
    /// Commands that other nodes have taken.
    pub moved: AtomicU64,
    /// Times that an urgent command went although a guard would have kept it back.
    pub overridden: AtomicU64,
    /// Commands that jobs submitted.
    pub job_commands: AtomicU64,
    /// Answers that did not count.
    pub answers_refused: AtomicU64,
    /// Events on the two topics that could not be read.
    pub unreadable: AtomicU64,
    /// Times that the table was rebuilt because a commit failed.
    pub rebuilt: AtomicU64,
}

impl Stats {
    pub(super) fn count(&self, step: &Step) {
        let counter = match step {
            Step::Returned { .. } => &self.returned,
            Step::Delivered { .. } => &self.delivered,
            Step::Moved { .. } => &self.moved,
            Step::Rewritten(_) => &self.rewritten,
            Step::GuardOverridden(_) => &self.overridden,
            step => match step.outcome().and_then(|outcome| self.counter(outcome)) {
                Some(counter) => counter,
                None => return,
            },
        };
        counter.fetch_add(1, Relaxed);
    }

    fn counter(&self, outcome: State) -> Option<&AtomicU64> {
        outcomes().zip(&self.ended).find(|(of, _)| *of == outcome).map(|(_, counter)| counter)
    }

    /// How many commands ended how.
    pub fn ended(&self) -> Vec<(State, u64)> {
        outcomes().zip(&self.ended).map(|(outcome, counter)| (outcome, counter.load(Relaxed))).collect()
    }
}

#[cfg(test)]
mod tests {
    use devices::command::{Answer, Why, WhyCode};

    use super::*;

    #[test]
    fn every_outcome_is_counted_apart() {
        let stats = Stats::default();
        let why = || Why::code(WhyCode::Cancelled);
        let late = Answer { late: true, ..Answer::default() };
        let steps = [
            Step::Succeeded(Answer::default()),
            Step::Succeeded(late),
            Step::Failed(Answer::default()),
            Step::Rejected(Answer::default()),
            Step::Expired,
            Step::Unknown(why()),
            Step::TimedOut,
            Step::Refused(why()),
            Step::Cancelled(why()),
            Step::Superseded(why()),
            Step::GuardOverridden(why()),
        ];
        steps.iter().for_each(|step| stats.count(step));
        assert_eq!(stats.ended().len(), OUTCOMES);
        assert!(stats.ended().iter().all(|(_, count)| *count == 1), "{:?}", stats.ended());
        assert_eq!(stats.overridden.load(Relaxed), 1);
    }
}

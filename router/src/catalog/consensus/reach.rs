//! How far another node's word raises the term (pure).
//!
//! The term is stored, and one more is every election's: the word of one node alone could bring it to its end. So it rises by others' words step by step,
//! and no faster than once a beat by each kind of word, up to a bound that is never reached so. What is farther away is come to in several steps: nobody
//! is left behind for good. Each kind has a beat of its own: voters that stand at the same time, again and again, would otherwise use up with what they ask
//! each other the beat in which they would learn from the answers, and come nearer by nothing.

use std::time::{Duration, Instant};

/// Terms end here.
pub(super) const TERM_MAX: u64 = 1 << 62;
/// By how much the term rises at once at most: some months of elections without a pause.
const STEP: u64 = 1 << 24;
/// By how much it rises as often as it is said: elections that were not heard of.
const NEAR: u64 = 1 << 10;

/// How another node has said which term it has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Word {
    /// It leads.
    Leads,
    /// It stands for election, or leads and sends its state: the term rises only where all of that is taken, and so it does not come nearer before.
    Stands,
    /// It was asked.
    Answers,
}

/// What becomes of another node's word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reached {
    /// It is taken as it is.
    Whole,
    /// It is too far away: the term rises to this one meanwhile.
    Step(u64),
    /// It is left.
    No,
}

/// When the term was raised.
#[derive(Debug, Default)]
pub(super) struct Reach {
    /// When a word of each kind has raised it by more than [`NEAR`] last.
    last: [Option<Instant>; 3],
}

impl Reach {
    /// Another node says that it has come to `term`, and this one has come to `own`; 0: to none, so that it takes that of whoever lets it in.
    /// `may_raise`: it is one by whose word the term rises by more than [`NEAR`].
    pub(super) fn hear(
        &mut self,
        word: Word,
        (term, own): (u64, u64),
        may_raise: impl FnOnce() -> bool,
        beat: Duration,
        now: Instant,
    ) -> Reached {
        if term > TERM_MAX {
            return Reached::No;
        }
        if own == 0 || term <= own.saturating_add(NEAR) {
            return Reached::Whole;
        }
        let next = own.saturating_add(STEP);
        let last = &mut self.last[word as usize];
        let is_soon = last.is_some_and(|last| now.saturating_duration_since(last) < beat);
        if is_soon || (term > next && word == Word::Stands) || !may_raise() {
            return Reached::No;
        }
        *last = Some(now);
        if term <= next { Reached::Whole } else { Reached::Step(next) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_term_rises_step_by_step_and_once_a_beat() {
        let (began, beat) = (Instant::now(), Duration::from_secs(1));
        let mut reach = Reach::default();
        let hear = |reach: &mut Reach, word, term, own, ms| {
            reach.hear(word, (term, own), || true, beat, began + Duration::from_millis(ms))
        };
        for (case, term, own, ms, expected) in [
            ("a lower one", 1, 9, 0, Reached::Whole),
            ("some elections", 9 + NEAR, 9, 0, Reached::Whole),
            ("many", 9 + STEP, 9, 0, Reached::Whole),
            ("too soon", 9 + STEP, 9, 999, Reached::No),
            ("some are always heard", 9 + NEAR, 9, 999, Reached::Whole),
            ("far away", 10 + STEP, 9, 1_000, Reached::Step(9 + STEP)),
            ("too soon", TERM_MAX, 9 + STEP, 1_500, Reached::No),
            ("very far away", TERM_MAX, 9 + STEP, 2_000, Reached::Step(9 + 2 * STEP)),
            ("none", TERM_MAX + 1, 9, 9_000, Reached::No),
            ("one that is let in", TERM_MAX, 0, 2_000, Reached::Whole),
            ("one that is let in", TERM_MAX + 1, 0, 9_000, Reached::No),
            ("the end", TERM_MAX, TERM_MAX, 2_000, Reached::Whole),
        ] {
            assert_eq!(hear(&mut reach, Word::Leads, term, own, ms), expected, "{case}");
        }
        let mut by_learner = |term| reach.hear(Word::Answers, (term, 9), || false, beat, began + beat * 60);
        assert_eq!((by_learner(9 + NEAR), by_learner(10 + NEAR)), (Reached::Whole, Reached::No));
    }

    #[test]
    fn what_others_ask_does_not_use_up_what_they_answer() {
        let (now, beat) = (Instant::now(), Duration::from_secs(1));
        let mut reach = Reach::default();
        let mut hear = |word, term| reach.hear(word, (term, 9), || true, beat, now);
        // Who stands is far ahead of this node, whichever log it has.
        for _ in 0..3 {
            assert_eq!(hear(Word::Stands, 10 + STEP), Reached::No);
        }
        assert_eq!(hear(Word::Stands, 9 + STEP), Reached::Whole, "one that is nearer");
        assert_eq!(hear(Word::Stands, 9 + STEP), Reached::No);
        for word in [Word::Answers, Word::Leads] {
            assert_eq!(hear(word, 10 + STEP), Reached::Step(9 + STEP), "{word:?}");
            assert_eq!(hear(word, 10 + STEP), Reached::No, "{word:?}");
        }
    }
}

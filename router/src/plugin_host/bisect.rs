//! Finds the events at fault in a batch that fails: pure.
//!
//! A range of the batch is tried; when it fails, its halves are tried, in
//! order, until one event is left. That one is tried again, and then set aside.

use std::ops::Range;

/// Tries of a single event before it is set aside.
pub const TRIES_OF_ONE_MAX: u32 = 2;

/// What to do about a range that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Go on with [`Bisection::next_range`].
    GoOn,
    /// This event is at fault.
    SetAside(usize),
}

/// The search through one batch.
#[derive(Debug)]
pub struct Bisection {
    /// Ranges to try, the next one last.
    ranges: Vec<Range<usize>>,
    /// Tries of the single event that is next.
    tries: u32,
}

impl Bisection {
    /// Begins with the whole batch.
    #[must_use]
    pub fn new(events: usize) -> Bisection {
        Bisection { ranges: Some(0..events).filter(|range| !range.is_empty()).into_iter().collect(), tries: 0 }
    }

    /// The range to try next; `None` at the batch's end.
    #[must_use]
    pub fn next_range(&self) -> Option<Range<usize>> {
        self.ranges.last().cloned()
    }

    /// The range was processed.
    pub fn succeeded(&mut self) {
        self.ranges.pop();
        self.tries = 0;
    }

    /// The range failed.
    pub fn failed(&mut self) -> Verdict {
        let Some(range) = self.ranges.pop() else {
            return Verdict::GoOn;
        };
        if range.len() > 1 {
            let middle = range.start + range.len() / 2;
            self.ranges.push(middle..range.end);
            self.ranges.push(range.start..middle);
            return Verdict::GoOn;
        }
        self.tries += 1;
        if self.tries < TRIES_OF_ONE_MAX {
            self.ranges.push(range);
            return Verdict::GoOn;
        }
        self.tries = 0;
        Verdict::SetAside(range.start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a batch in which the events of `poison` fail always and those of
    /// `flaky` once. Gives back what passed and what was set aside, and the calls.
    fn run(events: usize, poison: &[usize], flaky: &[usize]) -> (Vec<usize>, Vec<usize>, usize) {
        let (mut passed, mut aside, mut calls) = (vec![], vec![], 0);
        let mut flaky = flaky.to_vec();
        let mut search = Bisection::new(events);
        while let Some(range) = search.next_range() {
            calls += 1;
            let stumbled = flaky.iter().position(|event| range.contains(event));
            if let Some(at) = stumbled {
                flaky.remove(at);
            }
            if stumbled.is_some() || poison.iter().any(|event| range.contains(event)) {
                if let Verdict::SetAside(event) = search.failed() {
                    aside.push(event);
                }
            } else {
                passed.extend(range);
                search.succeeded();
            }
        }
        (passed, aside, calls)
    }

    #[test]
    fn only_the_events_at_fault_are_set_aside_and_order_stays() {
        // Events, poison, flaky, calls at most.
        let cases: &[(usize, &[usize], &[usize], usize)] = &[
            (0, &[], &[], 0),
            (1, &[], &[], 1),
            (1, &[0], &[], 2),
            (1, &[], &[0], 2),
            (2, &[1], &[], 4),
            (8, &[0], &[], 8),
            (8, &[7], &[], 8),
            (8, &[], &[3], 3),
            (5, &[0, 1, 2, 3, 4], &[], 14),
            (256, &[100], &[], 18),
            (256, &[0, 255], &[], 36),
            (256, &[100], &[101], 20),
        ];
        for (events, poison, flaky, calls_max) in cases {
            let (passed, aside, calls) = run(*events, poison, flaky);
            assert_eq!(aside, *poison, "{events} {poison:?} {flaky:?}");
            let rest: Vec<usize> = (0..*events).filter(|e| !poison.contains(e)).collect();
            assert_eq!(passed, rest, "{events} {poison:?} {flaky:?}");
            assert!(calls <= *calls_max, "{events} {poison:?} {flaky:?}: {calls}");
        }
    }
}

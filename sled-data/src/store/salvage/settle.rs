//! Of batches that claim the same offsets, the one that was stored last: a commit that was never whole left its batches behind, and the
//! offsets were given out again.

use super::window::Candidate;

/// Holds one batch back until it is known that no other claims its offsets.
#[derive(Default)]
pub(super) struct Settle {
    pending: Option<Candidate>,
}

impl Settle {
    /// Takes the next batch in order of offsets; gives the one before it, once that is settled.
    pub(super) fn push(&mut self, next: Candidate) -> Option<Candidate> {
        match &self.pending {
            Some(pending) if next.base < pending.next => {
                if next.hlc > pending.hlc {
                    self.pending = Some(next);
                }
                None
            }
            _ => self.pending.replace(next),
        }
    }

    /// The last batch of a partition.
    pub(super) fn take(&mut self) -> Option<Candidate> {
        self.pending.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_stored_last_has_the_offsets() {
        // Batches by base, next and hybrid clock, and those that are taken.
        type Numbers = (u64, u64, u64);
        let cases: [(&[Numbers], &[Numbers]); 5] = [
            (&[(0, 2, 1), (2, 5, 2), (7, 8, 3)], &[(0, 2, 1), (2, 5, 2), (7, 8, 3)]),
            (&[(0, 2, 1), (2, 9, 2), (2, 3, 4), (3, 9, 5)], &[(0, 2, 1), (2, 3, 4), (3, 9, 5)]),
            (&[(0, 2, 1), (2, 3, 4), (2, 9, 2), (3, 9, 5)], &[(0, 2, 1), (2, 3, 4), (3, 9, 5)]),
            (&[(0, 9, 2), (3, 4, 3)], &[(3, 4, 3)]),
            (&[(0, 9, 2), (0, 9, 2)], &[(0, 9, 2)]),
        ];
        for (given, expected) in cases {
            let mut settle = Settle::default();
            let mut taken = Vec::new();
            for (base, next, hlc) in given {
                taken.extend(settle.push(Candidate::of(*base, *next, *hlc)));
            }
            taken.extend(settle.take());
            let taken: Vec<Numbers> = taken.iter().map(|c| (c.base, c.next, c.hlc)).collect();
            assert_eq!(taken, expected, "{given:?}");
        }
    }
}

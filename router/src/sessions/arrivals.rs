//! Which subscriptions have come lately, so that a reader need not look at all sessions for whom it waits.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;

/// Filters that are remembered; a reader that is further behind looks at everything.
const ARRIVALS_MAX: usize = 16_384;

/// The filters that sessions have come with, numbered.
#[derive(Default)]
pub(super) struct Arrivals(Mutex<Ring>);

#[derive(Default)]
struct Ring {
    filters: VecDeque<Arc<str>>,
    /// The number of the next one.
    next: u64,
}

/// What has come since a reader last asked.
#[derive(Debug, PartialEq, Eq)]
pub enum Arrived {
    /// These filters, in the order of their coming; any of them may have gone again.
    Filters(Vec<Arc<str>>),
    /// More than is remembered.
    Many,
}

impl Arrivals {
    /// A session has come with a filter.
    pub(super) fn push(&self, filter: &str) {
        let mut ring = self.0.lock();
        if ring.filters.len() >= ARRIVALS_MAX {
            ring.filters.pop_front();
        }
        ring.filters.push_back(filter.into());
        ring.next += 1;
    }

    /// What has come since `position`, which moves on.
    pub(super) fn since(&self, position: &mut u64) -> Arrived {
        let ring = self.0.lock();
        let behind = ring.next - std::mem::replace(position, ring.next).min(ring.next);
        match usize::try_from(behind) {
            Ok(behind) if behind <= ring.filters.len() => {
                Arrived::Filters(ring.filters.iter().skip(ring.filters.len() - behind).cloned().collect())
            }
            _ => Arrived::Many,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_gets_what_came_since_it_asked() {
        let arrivals = Arrivals::default();
        let mut position = 0;
        assert_eq!(arrivals.since(&mut position), Arrived::Filters(Vec::new()));
        arrivals.push("a");
        arrivals.push("b/#");
        assert_eq!(arrivals.since(&mut position), Arrived::Filters(vec!["a".into(), "b/#".into()]));
        assert_eq!(arrivals.since(&mut position), Arrived::Filters(Vec::new()));
        (0..ARRIVALS_MAX + 1).for_each(|_| arrivals.push("c"));
        assert_eq!(arrivals.since(&mut position), Arrived::Many);
        assert_eq!(arrivals.since(&mut position), Arrived::Filters(Vec::new()));
    }
}

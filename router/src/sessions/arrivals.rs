//! Which subscriptions to commands have come lately, so that a reader need not look at all sessions for whom it waits.

use std::collections::VecDeque;
use std::sync::Arc;

use devices::command::COMMAND_PREFIX;
use parking_lot::Mutex;

/// Filters that are remembered; a reader that is further behind looks at everything.
const ARRIVALS_MAX: usize = 16_384;
/// The longest filter that is remembered, in bytes. A command's MQTT topic has at most 246, and a filter that matches it
/// at most two more: a longer one asks for no command.
const FILTER_BYTES_MAX: usize = 256;

/// The filters of commands that sessions have come with, numbered.
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
    /// A session has come with a filter; one that asks for no command is not remembered.
    pub(super) fn push(&self, filter: &str) {
        if !filter.starts_with(COMMAND_PREFIX) || filter.len() > FILTER_BYTES_MAX {
            return;
        }
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
    use devices::command::{CommandId, DEVICE_BYTES_MAX, NAME_BYTES_MAX, command_topic};

    use super::*;

    #[test]
    fn a_reader_gets_what_came_since_it_asked() {
        let arrivals = Arrivals::default();
        let mut position = 0;
        assert_eq!(arrivals.since(&mut position), Arrived::Filters(Vec::new()));
        let [a, b] = ["edgeway/command/a/#", "edgeway/command/+/+/cool"];
        arrivals.push(a);
        arrivals.push(b);
        assert_eq!(arrivals.since(&mut position), Arrived::Filters(vec![a.into(), b.into()]));
        assert_eq!(arrivals.since(&mut position), Arrived::Filters(Vec::new()));
        (0..ARRIVALS_MAX + 1).for_each(|_| arrivals.push(a));
        assert_eq!(arrivals.since(&mut position), Arrived::Many);
        assert_eq!(arrivals.since(&mut position), Arrived::Filters(Vec::new()));
    }

    #[test]
    fn what_asks_for_no_command_is_not_remembered() {
        let (arrivals, mut position) = (Arrivals::default(), 0);
        let id = CommandId::from_bytes([7; 16]);
        let longest = command_topic(&"d".repeat(DEVICE_BYTES_MAX), id, &"n".repeat(NAME_BYTES_MAX)) + "/#";
        assert!(longest.len() <= FILTER_BYTES_MAX, "{}", longest.len());
        let endless = format!("{COMMAND_PREFIX}{}", "x".repeat(60_000));
        for filter in ["#", "a", "edgeway/twin/d/#", &endless, &longest] {
            arrivals.push(filter);
        }
        assert_eq!(arrivals.since(&mut position), Arrived::Filters(vec![longest.into()]));
    }
}

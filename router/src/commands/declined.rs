//! Commands of other nodes that were not taken here, each with the term that it was offered under.
//!
//! A question can come late: whoever asked has been told meanwhile that the command stays, and has given it to a third node. What was
//! declined under a term is declined under it from then on; whoever offers it again raises the term.

use std::collections::{HashMap, VecDeque};

use devices::command::CommandId;

/// Pairs that are remembered at once.
const DECLINED_MAX: usize = 65_536;
/// How long one is remembered, in milliseconds: no question is on its way for longer.
const REMEMBERED_MS: u64 = 60_000;

/// What was declined lately.
#[derive(Default)]
pub(super) struct Declined {
    /// Until when, on the steady clock.
    until: HashMap<(CommandId, u64), u64>,
    /// The oldest first.
    order: VecDeque<(CommandId, u64)>,
}

impl Declined {
    /// Whether a command was declined under this term.
    pub(super) fn has(&self, id: CommandId, term: u64, steady_ms: u64) -> bool {
        self.until.get(&(id, term)).is_some_and(|until| *until > steady_ms)
    }

    /// Remembers one; false where there is no place for it: it must not be said then that it was declined.
    pub(super) fn add(&mut self, id: CommandId, term: u64, steady_ms: u64) -> bool {
        while let Some(oldest) = self.order.front().copied()
            && !self.has(oldest.0, oldest.1, steady_ms)
        {
            self.order.pop_front();
            self.until.remove(&oldest);
        }
        if self.until.contains_key(&(id, term)) {
            return true;
        }
        let has_place = self.until.len() < DECLINED_MAX;
        if has_place {
            self.until.insert((id, term), steady_ms.saturating_add(REMEMBERED_MS));
            self.order.push_back((id, term));
        }
        has_place
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_declined_is_remembered_for_a_while_and_not_too_much_of_it() {
        let id = |n: usize| CommandId::from_bytes((n as u128).to_be_bytes());
        let mut declined = Declined::default();
        assert!(declined.add(id(0), 1, 5));
        assert!(declined.has(id(0), 1, 5) && !declined.has(id(0), 2, 5) && !declined.has(id(1), 1, 5));
        assert!(declined.has(id(0), 1, 4 + REMEMBERED_MS) && !declined.has(id(0), 1, 5 + REMEMBERED_MS));
        assert!((1..DECLINED_MAX).all(|n| declined.add(id(n), 1, 6)));
        assert!(declined.add(id(0), 1, 6), "it is there");
        assert!(!declined.add(id(DECLINED_MAX), 1, 6));
        assert!(declined.add(id(DECLINED_MAX), 1, 5 + REMEMBERED_MS), "the first one is forgotten");
        assert!(!declined.add(id(DECLINED_MAX + 1), 1, 5 + REMEMBERED_MS));
        assert_eq!(declined.order.len(), declined.until.len());
    }
}

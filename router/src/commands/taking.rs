//! Commands of other nodes that are being taken: their first step is on its way into the log, and the table does not know them.
//!
//! Who is asked for one of them again says nothing of it: not that it has it, as the commit may fail, and not that it has not, as
//! two nodes would have it then.

use std::collections::HashSet;

use devices::command::CommandId;

/// Commands that are being taken at once.
pub(super) const TAKING_MAX: usize = 4_096;

/// What is being taken.
#[derive(Default)]
pub(super) struct Taking {
    ids: HashSet<CommandId>,
}

impl Taking {
    /// Whether a command may be taken now; it is being taken from then on.
    pub(super) fn begin(&mut self, id: CommandId) -> bool {
        self.ids.len() < TAKING_MAX && self.ids.insert(id)
    }

    /// The table knows it, or it will not be taken.
    pub(super) fn end(&mut self, id: CommandId) {
        self.ids.remove(&id);
    }

    /// Ends those that the table knows.
    pub(super) fn end_known(&mut self, is_known: impl Fn(CommandId) -> bool) {
        self.ids.retain(|id| !is_known(*id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_taken_once_at_a_time_and_not_too_many() {
        let id = |n: usize| CommandId::from_bytes((n as u128).to_be_bytes());
        let mut taking = Taking::default();
        assert!(taking.begin(id(0)));
        assert!(!taking.begin(id(0)));
        taking.end(id(0));
        assert!((0..TAKING_MAX).all(|n| taking.begin(id(n))));
        assert!(!taking.begin(id(TAKING_MAX)));
        taking.end_known(|known| known == id(7));
        assert!(taking.begin(id(TAKING_MAX)));
        assert!(!taking.begin(id(7)));
    }
}

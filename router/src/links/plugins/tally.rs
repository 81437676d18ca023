//! What has come of the plugins of a link, counted since the start.

use super::wire::Outcome;

/// Answers by what they say, and the bytes of components.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Answers that a plugin is deployed.
    pub deployed: u64,
    /// That one is removed.
    pub removed: u64,
    /// That one is not wanted there.
    pub refused: u64,
    /// That it cannot be done now.
    pub later: u64,
    /// Bytes of components that went over.
    pub bytes: u64,
}

impl Tally {
    /// Counts an answer.
    pub fn count(&mut self, outcome: &Outcome) {
        let of = match outcome {
            Outcome::Deployed => &mut self.deployed,
            Outcome::Removed => &mut self.removed,
            Outcome::Refused { .. } => &mut self.refused,
            Outcome::Later { .. } => &mut self.later,
        };
        *of += 1;
    }
}

//! What another node says that it holds of a life that is not its own, and whether it is gone by (pure; monotonic time alone).
//!
//! A claim is believed until it is seen to be wrong: of a lost node's log the longest copy counts, and it may be with one node alone. It is wrong
//! where it cannot be by what the writer itself said last, and where nothing comes of it for long: what is followed from there for a claim that
//! is made up is not followed from who has it.

use std::collections::BTreeMap;
use std::time::Duration;

use sled_data::{CommitNumber, OriginId};

use crate::transport::NodeId;

/// Commits by which a claim may be above what the life's writer said when it was heard last: it wrote on, and was heard elsewhere, or was
/// restored since.
const ABOVE_WRITER_COMMITS_MAX: u64 = 1 << 20;
/// How long nothing may come of a claim: no commit, and of a large one on its way not 64 KiB.
const SERVED_WITHIN: Duration = Duration::from_secs(60);
/// For how long a claim of which nothing came is not gone by.
const DOUBTED_FOR: Duration = Duration::from_secs(600);
/// Claims that are doubted at once at most; the one that ends first goes first.
const DOUBTED_MAX: usize = 1_024;

/// What a node holds, as it says.
pub type Holds = BTreeMap<OriginId, CommitNumber>;

/// Whether a claim may be true, by what the writer said last.
pub fn is_possible(claim: CommitNumber, writer_said: Option<CommitNumber>) -> bool {
    writer_said.is_none_or(|said| claim.0 <= said.0.saturating_add(ABOVE_WRITER_COMMITS_MAX))
}

/// A claim that is gone by.
#[derive(Debug, Clone, Copy)]
struct Tried {
    /// How much had come by it at most.
    came: u64,
    /// When that was.
    at: Duration,
}

/// The claims that are gone by, and those that are not any more.
#[derive(Debug, Default)]
pub struct Claims {
    tried: BTreeMap<(OriginId, NodeId), Tried>,
    doubted_until: BTreeMap<(OriginId, NodeId), Duration>,
}

impl Claims {
    /// Takes note of which lives are followed for a claim, from whom, and how much has come by each; those of which nothing came for too long.
    /// One that waits for the store here is not among them, and begins anew.
    pub fn look(&mut self, followed: &[(OriginId, NodeId, u64)], now: Duration) -> Vec<(OriginId, NodeId)> {
        self.tried.retain(|key, _| followed.iter().any(|(origin, node, _)| *key == (*origin, *node)));
        for (origin, node, came) in followed {
            let tried = self.tried.entry((*origin, *node)).or_insert(Tried { came: *came, at: now });
            if tried.came < *came {
                *tried = Tried { came: *came, at: now };
            }
        }
        let is_spent = |tried: &Tried| now.saturating_sub(tried.at) >= SERVED_WITHIN;
        let spent: Vec<_> = self.tried.iter().filter(|(_, tried)| is_spent(tried)).map(|(key, _)| *key).collect();
        self.doubted_until.retain(|_, until| *until > now);
        for key in &spent {
            self.tried.remove(key);
            if self.doubted_until.len() >= DOUBTED_MAX {
                let first = self.doubted_until.iter().min_by_key(|(_, until)| **until).map(|(key, _)| *key);
                first.map(|key| self.doubted_until.remove(&key));
            }
            self.doubted_until.insert(*key, now + DOUBTED_FOR);
        }
        spent
    }

    /// It was this node that could take nothing: that says nothing of a claim.
    pub fn is_not_to_blame(&mut self, origin: OriginId, node: NodeId) {
        self.tried.remove(&(origin, node));
    }

    /// What a node says, without what is not gone by. `writer_said`: what those who write lives said last.
    pub fn believed(&self, node: NodeId, mut holds: Holds, writer_said: &Holds, now: Duration) -> Holds {
        holds.retain(|origin, claim| {
            let is_doubted = self.doubted_until.get(&(*origin, node)).is_some_and(|until| *until > now);
            !is_doubted && is_possible(*claim, writer_said.get(origin).copied())
        });
        holds
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOST: OriginId = OriginId(9);
    const LIAR: NodeId = NodeId(3);

    fn holds(commit: u64) -> Holds {
        Holds::from([(LOST, CommitNumber(commit))])
    }

    #[test]
    fn a_claim_far_above_what_the_writer_said_is_not_gone_by() {
        for (claim, said, expected) in [
            (u64::MAX, None, true),
            (u64::MAX, Some(7), false),
            (7, Some(7), true),
            (9, Some(7), true),
            (7 + ABOVE_WRITER_COMMITS_MAX, Some(7), true),
            (8 + ABOVE_WRITER_COMMITS_MAX, Some(7), false),
            (u64::MAX, Some(u64::MAX), true),
        ] {
            let writer_said = said.map_or_else(Holds::new, holds);
            let believed = Claims::default().believed(LIAR, holds(claim), &writer_said, Duration::ZERO);
            assert_eq!(!believed.is_empty(), expected, "{claim} {said:?}");
        }
    }

    #[test]
    fn a_claim_of_which_nothing_comes_is_not_gone_by_for_a_while() {
        let mut claims = Claims::default();
        let is_believed = |claims: &Claims, now| !claims.believed(LIAR, holds(9), &Holds::new(), now).is_empty();
        let second = Duration::from_secs(1);
        // What comes is counted in bytes; it stops after ten seconds.
        let mut doubted_at = None;
        for at in 0..200 {
            let now = second * at;
            let found = claims.look(&[(LOST, LIAR, u64::from(at.min(10)))], now);
            if !found.is_empty() {
                assert_eq!(found, [(LOST, LIAR)]);
                doubted_at.get_or_insert(now);
                break;
            }
            assert!(is_believed(&claims, now));
        }
        let doubted_at = doubted_at.unwrap();
        assert_eq!(doubted_at, second * 10 + SERVED_WITHIN);
        assert!(!is_believed(&claims, doubted_at) && is_believed(&claims, doubted_at + DOUBTED_FOR));
        assert_eq!(claims.believed(NodeId(2), holds(9), &Holds::new(), doubted_at), holds(9), "another one's counts");
        assert!(claims.look(&[], doubted_at + DOUBTED_FOR).is_empty() && claims.doubted_until.is_empty());
    }

    #[test]
    fn what_comes_as_far_again_and_again_is_nothing_new() {
        let mut claims = Claims::default();
        let second = Duration::from_secs(1);
        // Each ten seconds it begins anew.
        let doubted = (0..200).find(|at| !claims.look(&[(LOST, LIAR, u64::from(at % 10))], second * *at).is_empty());
        assert_eq!(doubted.map(|at| second * at), Some(second * 9 + SERVED_WITHIN));
    }

    #[test]
    fn who_is_followed_no_more_and_a_full_store_here_begin_anew() {
        let mut claims = Claims::default();
        let late = SERVED_WITHIN * 2;
        assert!(claims.look(&[(LOST, LIAR, 0)], Duration::ZERO).is_empty());
        assert!(claims.look(&[], SERVED_WITHIN / 2).is_empty());
        assert!(claims.look(&[(LOST, LIAR, 0)], late).is_empty());
        claims.is_not_to_blame(LOST, LIAR);
        assert!(claims.look(&[(LOST, LIAR, 0)], late + SERVED_WITHIN).is_empty());
        assert!(!claims.look(&[(LOST, LIAR, 0)], late + SERVED_WITHIN * 2).is_empty());
    }

    #[test]
    fn doubts_are_bounded() {
        let mut claims = Claims::default();
        let all: Vec<_> = (0..2 * DOUBTED_MAX as u64).map(|origin| (OriginId(origin), LIAR, 0)).collect();
        claims.look(&all, Duration::ZERO);
        assert_eq!(claims.look(&all, SERVED_WITHIN).len(), all.len());
        assert_eq!(claims.doubted_until.len(), DOUBTED_MAX);
    }
}

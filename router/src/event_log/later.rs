//! Which lives of other nodes have ended, by what is followed: their nodes go on in later ones, which began with all that was here of small named
//! trees.

use std::collections::{BTreeMap, BTreeSet};

use sled_data::{CopyState, Followed, OriginId};

use super::EventLog;

/// Lives that are followed, and nobody goes on in.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct FollowedLives {
    /// All of them: nobody is known to write them, or the same node writes a later one.
    pub ended: BTreeSet<OriginId>,
    /// Those of them of which a later one that is here had all, and went on with: what they hold themselves says nothing any more.
    pub carried_on: BTreeSet<OriginId>,
}

impl FollowedLives {
    /// By what is followed (pure). `has_outlived(present, life)`: the node that writes `present` has noted that others had more of `life`, which
    /// came before it, whatever clocks say.
    fn of(followed: &[(OriginId, Followed)], has_outlived: impl Fn(OriginId, OriginId) -> bool) -> Self {
        let mut lives = Self::default();
        let mut by_node: BTreeMap<u64, Vec<(u64, OriginId)>> = BTreeMap::new();
        for (origin, life) in followed {
            match life.node {
                0 => drop(lives.ended.insert(*origin)),
                // Nothing of it can be gone by yet.
                _ if life.copy == CopyState::Taking => {}
                node => by_node.entry(node).or_default().push((life.hlc, *origin)),
            }
        }
        for mut of_node in by_node.into_values() {
            of_node.sort_unstable();
            let origins = || of_node.iter().map(|(_, origin)| *origin);
            let later = |present, next| if has_outlived(present, next) { present } else { next };
            let Some(present) = origins().reduce(later) else { continue };
            for before in origins().filter(|origin| *origin != present) {
                lives.ended.insert(before);
                if !has_outlived(present, before) {
                    lives.carried_on.insert(before);
                }
            }
        }
        lives
    }
}

impl EventLog {
    /// Which of the lives that are followed have ended. Reads some entries of the store for each.
    pub fn followed_lives(&self) -> FollowedLives {
        // Of what cannot be read it is not known that it was outlived; that it cannot be is told elsewhere.
        let has_outlived = |present, life| self.was_outlived_before(present, life).unwrap_or(false);
        FollowedLives::of(&self.store.followed(), has_outlived)
    }
}

#[cfg(test)]
mod tests {
    use sled_data::CommitNumber;

    use super::*;

    #[test]
    fn the_latest_life_of_a_node_goes_on() {
        let life = |(origin, node, hlc, copy)| {
            let (commit, synced) = (CommitNumber(1), CommitNumber(1));
            (OriginId(origin), Followed { commit, synced, hlc, node, copy })
        };
        let set = |origins: &[u64]| -> BTreeSet<OriginId> { origins.iter().copied().map(OriginId).collect() };
        use CopyState::{Taking, Until, Whole};
        for (case, followed, noted, ended, carried_on) in [
            ("none", &[][..], None, &[][..], &[][..]),
            ("one each", &[(9, 1, 5, Whole), (4, 2, 6, Whole)], None, &[], &[]),
            ("two of one node", &[(9, 1, 5, Whole), (4, 1, 6, Whole), (7, 2, 3, Whole)], None, &[9], &[9]),
            ("three", &[(9, 1, 5, Whole), (4, 1, 6, Whole), (7, 1, 7, Until(CommitNumber(3)))], None, &[4, 9], &[4, 9]),
            ("the later one is on its way", &[(9, 1, 5, Whole), (4, 1, 6, Taking)], None, &[], &[]),
            ("nobody is known to write it", &[(9, 0, 5, Whole), (4, 2, 6, Whole)], None, &[9], &[]),
            ("others had more of it", &[(9, 1, 5, Whole), (4, 1, 6, Whole)], Some((4, 9)), &[9], &[]),
            ("and the clock was set back", &[(9, 1, 5, Whole), (4, 1, 4, Whole)], Some((4, 9)), &[9], &[]),
        ] {
            let followed: Vec<_> = followed.iter().copied().map(life).collect();
            let has_outlived = |present: OriginId, life: OriginId| noted == Some((present.0, life.0));
            let expected = FollowedLives { ended: set(ended), carried_on: set(carried_on) };
            assert_eq!(FollowedLives::of(&followed, has_outlived), expected, "{case}");
        }
    }
}

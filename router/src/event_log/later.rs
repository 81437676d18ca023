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

/// The lives of each node that has several here, the oldest first, by what is followed (pure). One that others had more of is left out.
fn chains(
    followed: &[(OriginId, Followed)],
    has_outlived: impl Fn(OriginId, OriginId) -> bool,
    is_own: impl Fn(u64, OriginId) -> bool,
) -> Vec<Vec<OriginId>> {
    let mut by_node: BTreeMap<u64, Vec<(u64, OriginId)>> = BTreeMap::new();
    for (origin, life) in followed {
        if life.node != 0 && life.copy != CopyState::Taking && !is_own(life.node, *origin) {
            by_node.entry(life.node).or_default().push((life.hlc, *origin));
        }
    }
    let mut chains = Vec::new();
    for mut of_node in by_node.into_values().filter(|lives| lives.len() > 1) {
        of_node.sort_unstable();
        let mut lives: Vec<OriginId> = of_node.into_iter().map(|(_, origin)| origin).collect();
        let later = |present, next| if has_outlived(present, next) { present } else { next };
        let Some(present) = lives.iter().copied().reduce(later) else { continue };
        lives.retain(|life| *life != present && !has_outlived(present, *life));
        lives.push(present);
        chains.push(lives);
    }
    chains
}

impl EventLog {
    /// The lives of each node that has several here, the oldest first: of other nodes by what is followed, of this one what its store has. One that others had
    /// more of is left out. `before` are those of this store before the present one ([`EventLog::lives_before`]). Reads some entries of the store for each.
    pub fn chains(&self, own_node: u64, before: &[OriginId]) -> Vec<Vec<OriginId>> {
        // Of what cannot be read it is not known that it was outlived; that it cannot be is told elsewhere.
        let has_outlived = |present, life| self.was_outlived_before(present, life).unwrap_or(false);
        let is_own = |node, life| node == own_node || self.is_ended(life);
        let mut chains = chains(&self.store.followed(), has_outlived, is_own);
        if !before.is_empty() {
            chains.push(before.iter().copied().chain([self.origin()]).collect());
        }
        chains
    }

    /// The lives of this store before the present one, the oldest first: those with events ([`EventLog::ended_lives`]), and of those without which `counts`
    /// says: work that others were given with such a life is work that was left in those before it.
    pub fn lives_before(&self, counts: impl Fn(OriginId) -> bool) -> Vec<OriginId> {
        let mut spent = self.spent_with_clocks();
        spent.retain(|life, _| counts(*life));
        if spent.is_empty() {
            return self.ended.clone();
        }
        // Their clocks stand apart. One of which nothing can be read comes first.
        let mut lives: BTreeMap<OriginId, u64> = self.ended.iter().map(|life| (*life, 0)).collect();
        for id in self.store.partitions() {
            if let Some(newest) = lives.get_mut(&id.origin) {
                *newest = self.store.last_batch_hlc(id).unwrap_or(0).max(*newest);
            }
        }
        lives.extend(spent);
        let mut lives: Vec<(u64, OriginId)> = lives.into_iter().map(|(life, hlc)| (hlc, life)).collect();
        lives.sort_unstable();
        lives.into_iter().map(|(_, life)| life).collect()
    }

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
    fn the_lives_of_a_node_are_known_in_their_order() {
        let life = |(origin, node, hlc, copy)| {
            let (commit, synced) = (CommitNumber(1), CommitNumber(1));
            (OriginId(origin), Followed { commit, synced, hlc, node, copy })
        };
        use CopyState::{Taking, Whole};
        for (case, followed, noted, expected) in [
            ("one each", &[(9, 1, 5, Whole), (4, 2, 6, Whole)][..], None, &[][..]),
            ("by clock", &[(9, 1, 6, Whole), (4, 1, 5, Whole), (7, 2, 5, Whole)], None, &[&[4, 9][..]]),
            ("one is on its way", &[(9, 1, 6, Taking), (4, 1, 5, Whole)], None, &[]),
            ("nobody is known to write them", &[(9, 0, 6, Whole), (4, 0, 5, Whole)], None, &[]),
            (
                "others had more of one",
                &[(9, 1, 6, Whole), (4, 1, 5, Whole), (3, 1, 4, Whole)],
                Some((9, 4)),
                &[&[3, 9]],
            ),
            ("its own", &[(9, 8, 6, Whole), (4, 8, 5, Whole)], None, &[]),
        ] {
            let followed: Vec<_> = followed.iter().copied().map(life).collect();
            let has_outlived = |present: OriginId, life: OriginId| noted == Some((present.0, life.0));
            let expected: Vec<Vec<OriginId>> =
                expected.iter().map(|lives| lives.iter().copied().map(OriginId).collect()).collect();
            assert_eq!(chains(&followed, has_outlived, |node, _| node == 8), expected, "{case}");
        }
    }

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

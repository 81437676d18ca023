//! Which of the lives that are to be followed are begun now (pure).
//!
//! A node's own life comes first: its quorum waits for it. Lives that another than their writer says that it has wait for a place: at the source
//! there are so many for all streams. And who says that there are lives which nobody else knows of may have made them up: it fills the bound of
//! followed lives with them no faster than people hear of it, and never to its end.

use std::collections::BTreeMap;

use sled_data::{FOLLOWED_ORIGINS_MAX, OriginId};

use super::config::LONG_STREAMS_MAX;
use crate::transport::NodeId;

/// Streams from one node of lives that it does not write, at once; of the places there the rest is for its own, and for what links bring.
pub const OTHERS_MAX: usize = LONG_STREAMS_MAX as usize - 8;
/// Followed lives beyond which only those are begun that the site's list knows the writers of.
pub const UNLISTED_MAX: usize = FOLLOWED_ORIGINS_MAX - 256;
/// Lives that nobody else knows of, begun from one node within the time that these are counted for.
pub const UNKNOWN_MAX: usize = 64;

/// A life that is to be followed, and is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Due {
    /// Whether it is another's than its writer's word that it is there; in this order they are begun.
    pub is_from_another: bool,
    /// How long it has waited, as a number that is smaller for what came earlier.
    pub turn: u64,
    /// The life.
    pub origin: OriginId,
    /// From whom.
    pub node: NodeId,
    /// Whether it is new here.
    pub is_new: bool,
    /// Whether the site's list says who writes it.
    pub is_listed: bool,
    /// Whether another node has it too.
    pub is_known_elsewhere: bool,
}

/// What there is already.
#[derive(Debug, Default)]
pub struct Taken {
    /// Streams from each node of lives that it does not write.
    pub others: BTreeMap<NodeId, usize>,
    /// Lives that are followed here, those included that are begun.
    pub lives: usize,
    /// Lives that nobody else knows of, begun from each node lately.
    pub unknown: BTreeMap<NodeId, usize>,
}

/// What is done.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Begun {
    /// These are begun.
    pub now: Vec<(OriginId, NodeId)>,
    /// These of them are ones that nobody else knows of.
    pub unknown: Vec<(OriginId, NodeId)>,
    /// These nodes say that there are more of those than may be.
    pub too_many_from: Vec<NodeId>,
    /// More lives are to be followed than there may be.
    pub is_full: bool,
}

/// What is begun now.
pub fn begun(mut due: Vec<Due>, mut taken: Taken) -> Begun {
    let mut begun = Begun::default();
    due.sort_unstable();
    for Due { is_from_another, origin, node, is_new, is_listed, is_known_elsewhere, .. } in due {
        let others = taken.others.entry(node).or_default();
        if is_from_another && *others >= OTHERS_MAX {
            continue;
        }
        if is_new && !is_listed && taken.lives >= UNLISTED_MAX {
            begun.is_full = true;
            continue;
        }
        if is_new && is_from_another && !is_listed && !is_known_elsewhere {
            let unknown = taken.unknown.entry(node).or_default();
            if *unknown >= UNKNOWN_MAX {
                if !begun.too_many_from.contains(&node) {
                    begun.too_many_from.push(node);
                }
                continue;
            }
            *unknown += 1;
            begun.unknown.push((origin, node));
        }
        *others += usize::from(is_from_another);
        taken.lives += usize::from(is_new);
        begun.now.push((origin, node));
    }
    begun
}

#[cfg(test)]
mod tests {
    use super::*;

    const B: NodeId = NodeId(2);
    const C: NodeId = NodeId(3);

    fn due(origin: u64, node: NodeId) -> Due {
        Due {
            is_from_another: true,
            turn: 0,
            origin: OriginId(origin),
            node,
            is_new: false,
            is_listed: false,
            is_known_elsewhere: false,
        }
    }

    fn own(origin: u64, node: NodeId) -> Due {
        Due { is_from_another: false, is_new: true, is_listed: true, ..due(origin, node) }
    }

    #[test]
    fn writers_come_first_and_the_others_wait_for_places() {
        let mut all: Vec<Due> = (0..100).map(|origin| due(origin, B)).collect();
        all.push(own(900, B));
        all.extend([due(901, C), own(902, C)]);
        let begun = begun(all.clone(), Taken::default());
        let origins: Vec<u64> = begun.now.iter().map(|(origin, _)| origin.0).collect();
        assert_eq!(origins[..2], [900, 902]);
        assert_eq!(begun.now.iter().filter(|(_, node)| *node == B).count(), OTHERS_MAX + 1);
        assert!(origins.contains(&901));
        // While these go, nothing but writers is begun there; then it is the turn of who waits for longest.
        let others = BTreeMap::from([(B, OTHERS_MAX)]);
        assert_eq!(
            self::begun(vec![due(50, B), own(900, B)], Taken { others, ..Taken::default() }).now,
            [(OriginId(900), B)]
        );
        let others = BTreeMap::from([(B, OTHERS_MAX - 1)]);
        let waits = [Due { turn: 9, ..due(1, B) }, Due { turn: 8, ..due(2, B) }];
        assert_eq!(self::begun(waits.to_vec(), Taken { others, ..Taken::default() }).now, [(OriginId(2), B)]);
    }

    #[test]
    fn lives_that_one_node_alone_knows_of_are_bounded() {
        let new = |origin, node| Due { is_new: true, ..due(origin, node) };
        let one = |due: Due, unknown: usize, lives: usize| {
            let unknown = BTreeMap::from([(B, unknown)]);
            begun(vec![due], Taken { unknown, lives, ..Taken::default() })
        };
        let full = UNLISTED_MAX;
        // what is due; how many nobody else knows of, and how many lives there are; whether it is begun
        for (case, due, unknown, lives, expected) in [
            ("the last one", new(7, B), UNKNOWN_MAX - 1, 0, true),
            ("one too many", new(7, B), UNKNOWN_MAX, 0, false),
            ("from another node", new(7, C), UNKNOWN_MAX, 0, true),
            ("it is here already", due(7, B), UNKNOWN_MAX, full, true),
            ("another has it too", Due { is_known_elsewhere: true, ..new(7, B) }, UNKNOWN_MAX, 0, true),
            ("its writer is listed", Due { is_listed: true, ..new(7, B) }, UNKNOWN_MAX, full, true),
            ("its own, not listed yet", Due { is_listed: false, ..own(7, B) }, UNKNOWN_MAX, full - 1, true),
            ("the same when it is full", Due { is_listed: false, ..own(7, B) }, 0, full, false),
            ("its own", own(7, B), UNKNOWN_MAX, full, true),
            ("another has it too, when it is full", Due { is_known_elsewhere: true, ..new(7, B) }, 0, full, false),
        ] {
            let found = one(due, unknown, lives);
            assert_eq!(!found.now.is_empty(), expected, "{case}");
            assert_eq!(found.is_full, lives == full && !expected, "{case}");
            assert_eq!(!found.too_many_from.is_empty(), lives == 0 && !expected, "{case}");
        }
        let all: Vec<Due> = (0..10).map(|origin| new(origin, B)).collect();
        let found = begun(all, Taken { unknown: [(B, UNKNOWN_MAX - 4)].into(), ..Taken::default() });
        assert_eq!((found.now.len(), found.unknown.len(), found.too_many_from), (4, 4, vec![B]));
    }
}

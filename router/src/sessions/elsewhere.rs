//! Where clients were seen last at other nodes: an index in memory, pure, fed in any order with what other nodes recorded.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use sled_data::OriginId;

use super::presence::Seen;

/// A session that a node began, by which the newest of several nodes' is found: the later clock, then what its node says in its present life,
/// then the greater origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Claim {
    /// The hybrid clock at which its client came.
    pub begun: u64,
    /// Whether its node goes on in that life, as far as is known: a later one says more of the same session.
    pub goes_on: bool,
    /// The node's life.
    pub origin: OriginId,
}

/// Where a client was seen last, of all other nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Its session there.
    pub claim: Claim,
    /// Whether it was connected, as far as has arrived here.
    pub connected: bool,
    /// Whether its session began anew there.
    pub anew: bool,
}

impl Place {
    /// What a node has recorded of a client in a life, in which it `goes_on` or not.
    pub fn of(origin: OriginId, goes_on: bool, seen: &Seen) -> Self {
        let claim = Claim { begun: seen.begun, goes_on, origin };
        Self { claim, connected: seen.device.connected, anew: seen.anew }
    }
}

/// What came of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It is the newest of all other nodes'.
    Newest(Place),
    /// Another node's is newer, or there is no room for it.
    Nothing,
    /// The newest was forgotten by its node: other nodes' records are to be looked at again.
    Lost,
}

/// The newest of other nodes' records of each client; at most so many as this node may list itself.
#[derive(Debug)]
pub struct Elsewhere {
    by_client: BTreeMap<Arc<str>, Place>,
    clients_max: usize,
}

impl Elsewhere {
    /// An empty index.
    pub fn new(clients_max: usize) -> Self {
        Self { by_client: BTreeMap::new(), clients_max }
    }

    /// Takes what a node has recorded of a client now; `None`: it has forgotten it.
    pub fn take(&mut self, origin: OriginId, client_id: &str, now: Option<Place>) -> Change {
        let is_full = self.is_full();
        let known = self.by_client.get_mut(client_id);
        match (known, now) {
            (Some(known), None) if known.claim.origin == origin => {
                self.by_client.remove(client_id);
                Change::Lost
            }
            (_, None) => Change::Nothing,
            (Some(known), Some(now)) if known.claim.origin != origin && now.claim < known.claim => Change::Nothing,
            (Some(known), Some(now)) => {
                *known = now;
                Change::Newest(now)
            }
            (None, Some(_)) if is_full => Change::Nothing,
            (None, Some(now)) => {
                self.by_client.insert(client_id.into(), now);
                Change::Newest(now)
            }
        }
    }

    /// These lives have ended, and no others: to be told before what later ones say is taken.
    pub fn end_lives(&mut self, ended: &BTreeSet<OriginId>) {
        self.by_client.values_mut().for_each(|place| place.claim.goes_on = !ended.contains(&place.claim.origin));
    }

    /// Whether there may be clients that have no room here.
    pub fn is_full(&self) -> bool {
        self.by_client.len() >= self.clients_max
    }

    /// Where a client was seen last.
    pub fn get(&self, client_id: &str) -> Option<Place> {
        self.by_client.get(client_id).copied()
    }

    /// At most `max` clients by id, those after `after`.
    pub fn page(&self, after: Option<&str>, max: usize) -> Vec<(Arc<str>, Place)> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let found = self.by_client.range::<str, _>((from, Bound::Unbounded));
        found.take(max).map(|(client_id, place)| (Arc::clone(client_id), *place)).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn place(origin: u64, begun: u64, connected: bool) -> Place {
        let claim = Claim { begun, goes_on: true, origin: OriginId(origin) };
        Place { claim, connected, anew: false }
    }

    #[test]
    fn the_newest_counts_and_is_bounded() {
        let mut index = Elsewhere::new(2);
        assert_eq!(index.take(OriginId(1), "a", Some(place(1, 5, true))), Change::Newest(place(1, 5, true)));
        assert_eq!(index.take(OriginId(2), "a", Some(place(2, 4, true))), Change::Nothing);
        assert_eq!(index.take(OriginId(2), "a", Some(place(2, 5, true))), Change::Newest(place(2, 5, true)));
        assert_eq!(index.take(OriginId(1), "a", None), Change::Nothing);
        index.take(OriginId(1), "b", Some(place(1, 1, true)));
        assert_eq!(index.take(OriginId(1), "c", Some(place(1, 1, true))), Change::Nothing, "no room");
        assert_eq!(index.page(Some("a"), 9).len(), 1);
        assert_eq!(index.take(OriginId(2), "a", None), Change::Lost);
        assert_eq!((index.get("a"), index.by_client.len()), (None, 1));
    }

    #[test]
    fn what_a_later_life_says_of_a_session_counts() {
        let (old, new) = (place(9, 5, true), place(1, 5, false));
        let ended = Place { claim: Claim { goes_on: false, ..old.claim }, ..old };
        for late in [false, true] {
            let mut index = Elsewhere::new(2);
            index.take(OriginId(9), "a", Some(old));
            index.end_lives(&[OriginId(9)].into());
            assert_eq!(index.get("a"), Some(ended));
            assert_eq!(index.take(OriginId(1), "a", Some(new)), Change::Newest(new));
            if late {
                assert_eq!(index.take(OriginId(9), "a", Some(ended)), Change::Nothing);
            }
            assert_eq!(index.get("a"), Some(new));
        }
    }

    proptest! {
        /// Each node's records come in order, those of different nodes in any order.
        #[test]
        fn any_order_of_arrival_gives_the_same_place(
            begun in proptest::collection::vec(proptest::collection::vec(0u64..20, 1..5), 1..4),
            turns in proptest::collection::vec(0usize..4, 0..40),
        ) {
            let nodes: Vec<Vec<Place>> = begun.iter().enumerate().map(|(origin, begun)| {
                let mut begun = begun.clone();
                begun.sort_unstable();
                begun.iter().map(|begun| place(origin as u64, *begun, begun % 2 == 0)).collect()
            }).collect();
            let expected = nodes.iter().filter_map(|places| places.last()).max_by_key(|place| place.claim).copied();
            let mut index = Elsewhere::new(9);
            let mut next = vec![0; nodes.len()];
            let rest = (0..nodes.len()).flat_map(|node| std::iter::repeat_n(node, 9));
            for node in turns.into_iter().chain(rest) {
                let Some(place) = nodes.get(node).and_then(|places| places.get(next[node])) else { continue };
                next[node] += 1;
                index.take(place.claim.origin, "c", Some(*place));
            }
            prop_assert_eq!(index.get("c"), expected);
        }
    }
}

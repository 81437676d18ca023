//! Which of several nodes' kept sessions of a client counts, if any: pure.

use super::elsewhere::Claim;

/// Which kept session goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// The one that is kept here.
    Own,
    /// The one that another node keeps, by its place in the list.
    Other(usize),
    /// None: there is none, or a newer session of the client has ended.
    None,
}

/// Chooses. `own` is what is kept here; `others` what other nodes keep, as far as has arrived; `seen` the newest session
/// that any node has seen begin, whether it is kept or not. A node that has ended a session has seen it begin: so what
/// others keep of an older one is not found again. What is without a clock (0) is older than all and ends nothing.
pub fn choose(own: Option<Claim>, others: &[Claim], seen: Option<Claim>) -> Choice {
    let newest = others.iter().enumerate().max_by_key(|(_, claim)| **claim);
    let (claim, choice) = match (own, newest) {
        (Some(own), Some((at, other))) if other.begun > 0 && *other > own => (*other, Choice::Other(at)),
        (Some(own), _) => (own, Choice::Own),
        (None, Some((at, other))) => (*other, Choice::Other(at)),
        (None, None) => return Choice::None,
    };
    match seen {
        Some(seen) if seen.begun > 0 && seen > claim => Choice::None,
        _ => choice,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sled_data::OriginId;

    use super::*;

    fn claim(origin: u64, begun: u64) -> Claim {
        Claim { begun, goes_on: true, origin: OriginId(origin) }
    }

    #[test]
    fn the_newest_that_has_not_ended_goes_on() {
        let (own, older, newer) = (claim(5, 10), claim(7, 9), claim(3, 11));
        assert_eq!(choose(None, &[], Some(newer)), Choice::None);
        assert_eq!(choose(Some(own), &[], None), Choice::Own);
        assert_eq!(choose(Some(own), &[older, newer], None), Choice::Other(1));
        assert_eq!(choose(Some(own), &[older], Some(own)), Choice::Own);
        assert_eq!(choose(None, &[older, newer], Some(newer)), Choice::Other(1));
        // It was ended, or begun anew, where it was newest.
        assert_eq!(choose(Some(own), &[older], Some(newer)), Choice::None);
        assert_eq!(choose(None, &[older], Some(own)), Choice::None);
        // Of the same moment the greater origin's counts.
        assert_eq!(choose(Some(own), &[claim(6, 10), claim(4, 10)], None), Choice::Other(0));
        // But what its node goes on with comes before what that has left in an earlier life.
        let left = Claim { goes_on: false, ..claim(6, 10) };
        assert_eq!(choose(Some(own), &[left], Some(own)), Choice::Own);
        assert_eq!(choose(None, &[left, own], Some(own)), Choice::Other(1));
        assert_eq!(choose(None, &[left], Some(own)), Choice::None, "it was ended in the later one");
    }

    #[test]
    fn what_has_no_clock_is_older_than_all_and_ends_nothing() {
        assert_eq!(choose(Some(claim(1, 0)), &[claim(2, 0)], Some(claim(3, 0))), Choice::Own);
        assert_eq!(choose(None, &[claim(2, 0)], Some(claim(3, 0))), Choice::Other(0));
        assert_eq!(choose(Some(claim(1, 0)), &[claim(2, 1)], None), Choice::Other(0));
        assert_eq!(choose(Some(claim(1, 0)), &[], Some(claim(2, 1))), Choice::None);
    }

    proptest! {
        /// Whoever decides: with the same records the same session goes on, or none.
        #[test]
        fn every_node_chooses_the_same(
            begun in proptest::collection::vec(proptest::option::of(1u64..6), 2..5),
            seen in proptest::option::of((0u64..4, 1u64..6)),
        ) {
            let seen = seen.map(|(origin, begun)| claim(origin, begun));
            let kept: Vec<Claim> = begun.iter().enumerate()
                .filter_map(|(origin, begun)| begun.map(|begun| claim(origin as u64, begun))).collect();
            let chosen = (0..begun.len() as u64).map(|here| {
                let own = kept.iter().find(|claim| claim.origin.0 == here).copied();
                let others: Vec<Claim> = kept.iter().filter(|claim| claim.origin.0 != here).rev().copied().collect();
                match choose(own, &others, seen) {
                    Choice::Own => own,
                    Choice::Other(at) => Some(others[at]),
                    Choice::None => None,
                }
            });
            let chosen: Vec<_> = chosen.collect();
            prop_assert!(chosen.iter().all(|found| *found == chosen[0]), "{:?}", chosen);
        }
    }
}

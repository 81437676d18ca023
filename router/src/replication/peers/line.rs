//! Who shakes hands, who waits to, and who of those is next (pure).
//!
//! Anybody may come with an address that is theirs and say nothing until they are given up. So one network has few handshakes at once, and of
//! those who wait the one is next whose network has the fewest: who comes from elsewhere waits for nobody of it. Within a network it is the same
//! with addresses: the nodes of a LAN have one network with whatever else is plugged in there. Who has hundreds of addresses in it is still in the
//! way of others of it, but of no known node of the site: its address counts as a network of its own.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;

/// Handshakes and greetings at once.
const HANDSHAKES_MAX: usize = 32;
/// Of those, from one network.
const SHARE_MAX: usize = 8;
/// While there are fewer, waiting or not, one who comes need not show first that its address is its own. No more than one network has at once: who is
/// not asked for it waits for nobody.
const UNPROVEN_MAX: usize = SHARE_MAX;
/// How many wait; some 2 KiB each. Beyond, one of those goes whose network has most of them.
const WAITING_MAX: usize = 512;

/// Where one comes from; `None` where the address may be somebody else's.
pub(super) type Source = Option<Place>;

/// An address, and the network that it is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    network: IpAddr,
    address: IpAddr,
}

impl Place {
    /// Of an address; one of a known node is of no network but its own.
    pub(super) fn of(address: IpAddr, is_known: bool) -> Self {
        let address = address.to_canonical();
        Self { network: if is_known { address } else { network(address) }, address }
    }
}

/// Those who shake hands, and those who wait.
#[derive(Debug)]
pub(super) struct Line<T> {
    under_way: BTreeMap<Source, usize>,
    waiting: VecDeque<(Source, T)>,
}

/// How many there are, of each network and of each address.
#[derive(Default)]
struct Counts {
    networks: BTreeMap<Option<IpAddr>, usize>,
    addresses: BTreeMap<Source, usize>,
}

impl Counts {
    fn of(all: impl Iterator<Item = (Source, usize)>) -> Self {
        let mut counts = Self::default();
        for (from, count) in all {
            *counts.networks.entry(network_of(from)).or_default() += count;
            *counts.addresses.entry(from).or_default() += count;
        }
        counts
    }

    /// Of the network, and of the address.
    fn get(&self, from: Source) -> (usize, usize) {
        let of_network = self.networks.get(&network_of(from)).copied().unwrap_or(0);
        (of_network, self.addresses.get(&from).copied().unwrap_or(0))
    }
}

fn network_of(from: Source) -> Option<IpAddr> {
    from.map(|place| place.network)
}

impl<T> Default for Line<T> {
    fn default() -> Self {
        Self { under_way: BTreeMap::new(), waiting: VecDeque::new() }
    }
}

impl<T> Line<T> {
    /// Whether one who comes now has to show first that its address is its own.
    pub(super) fn wants_proof(&self) -> bool {
        self.under_way() + self.waiting.len() >= UNPROVEN_MAX
    }

    /// One comes, and waits; who is sent away for it, where there is no place: of the network that has most, of the address of it that has most.
    pub(super) fn join(&mut self, from: Source, who: T) -> Option<T> {
        self.waiting.push_back((from, who));
        if self.waiting.len() <= WAITING_MAX {
            return None;
        }
        let counts = Counts::of(self.waiting.iter().map(|(from, _)| (*from, 1)));
        let most = self.waiting.iter().map(|(from, _)| counts.get(*from)).max()?;
        // Who came last has waited for nothing yet.
        let goes = self.waiting.iter().rposition(|(from, _)| counts.get(*from) == most)?;
        self.waiting.remove(goes).map(|(_, who)| who)
    }

    /// Who is next, and where it comes from, for [`Self::done`]; `None` while nobody may be.
    pub(super) fn next(&mut self) -> Option<(Source, T)> {
        if self.under_way() >= HANDSHAKES_MAX {
            return None;
        }
        let counts = Counts::of(self.under_way.iter().map(|(from, count)| (*from, *count)));
        let waiting = self.waiting.iter().enumerate().map(|(at, (from, _))| (counts.get(*from), at));
        let (_, at) = waiting.filter(|((of_network, _), _)| *of_network < SHARE_MAX).min()?;
        let (from, who) = self.waiting.remove(at)?;
        *self.under_way.entry(from).or_default() += 1;
        Some((from, who))
    }

    /// A handshake of one who came from there has ended.
    pub(super) fn done(&mut self, from: Source) {
        if let Some(count) = self.under_way.get_mut(&from) {
            *count -= 1;
            if *count == 0 {
                self.under_way.remove(&from);
            }
        }
    }

    fn under_way(&self) -> usize {
        self.under_way.values().sum()
    }
}

/// What one may have of addresses: one of IPv4, 2^80 of IPv6.
pub(in crate::replication) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(six) => IpAddr::V6((six.to_bits() >> 80 << 80).into()),
        four => four,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn four(n: u8) -> Source {
        Some(Place::of(IpAddr::from([10, 0, 0, n]), false))
    }

    fn six(address: &str, is_known: bool) -> Source {
        Some(Place::of(address.parse().unwrap(), is_known))
    }

    #[test]
    fn one_network_has_its_share_and_others_the_rest() {
        let mut line = Line::default();
        for n in 0..100 {
            assert_eq!(line.join(four(1), n), None);
        }
        assert!(line.wants_proof());
        assert!(!Line::<()>::default().wants_proof());
        let first: Vec<_> = std::iter::from_fn(|| line.next()).collect();
        assert_eq!(first, (0..SHARE_MAX).map(|n| (four(1), n)).collect::<Vec<_>>(), "the first ones, in their order");
        // Another one waits for none of them.
        assert_eq!(line.join(four(2), 200), None);
        assert_eq!((line.next(), line.next()), (Some((four(2), 200)), None));
        line.done(four(1));
        assert_eq!((line.next(), line.next()), (Some((four(1), SHARE_MAX)), None));
        // Where all places are taken, the next one is of those that have fewest.
        for (n, from) in [(300, None), (400, four(3)), (500, four(4))] {
            (n..n + 20).for_each(|n| assert_eq!(line.join(from, n), None));
        }
        while line.next().is_some() {}
        assert_eq!(line.under_way(), HANDSHAKES_MAX);
        line.join(four(5), 600);
        assert_eq!(line.next(), None);
        line.done(None);
        assert_eq!(line.next(), Some((four(5), 600)));
        line.done(four(5));
        let (from, _) = line.next().unwrap();
        assert_ne!(from, four(1), "it has its share");
    }

    #[test]
    fn where_too_many_wait_one_of_the_most_goes() {
        let mut line = Line::default();
        for n in 0..WAITING_MAX - 1 {
            assert_eq!(line.join(four(1), n), None);
        }
        assert_eq!(line.join(four(2), 1_000), None);
        assert_eq!(line.join(four(3), 1_001), Some(WAITING_MAX - 2), "the last one of those");
        assert_eq!(line.join(four(1), 1_002), Some(1_002), "itself");
        assert_eq!(line.waiting.len(), WAITING_MAX);
        // All of them come in the end.
        let mut come = 0;
        while let Some((from, _)) = line.next() {
            come += 1;
            line.done(from);
        }
        assert!(come == WAITING_MAX && line.under_way.is_empty() && !line.wants_proof());
    }

    #[test]
    fn one_address_keeps_out_no_other_of_its_network() {
        let mut line = Line::default();
        for n in 0..WAITING_MAX + 100 {
            line.join(six("2001:db8:1::1", false), n);
            // Those that are under way say nothing until they are given up.
            while line.next().is_some() {}
        }
        assert_eq!(
            line.join(six("2001:db8:1::2", false), 1_000),
            Some(SHARE_MAX + WAITING_MAX - 1),
            "one of those goes"
        );
        assert_eq!(line.next(), None, "the network has its share");
        line.done(six("2001:db8:1::1", false));
        assert_eq!(line.next(), Some((six("2001:db8:1::2", false), 1_000)));
    }

    #[test]
    fn who_has_all_addresses_of_a_network_keeps_out_no_known_node_of_it() {
        let mut line = Line::default();
        for n in 0..WAITING_MAX + 100 {
            line.join(six(&format!("2001:db8:1::1:{n:x}"), false), n);
            while line.next().is_some() {}
        }
        assert_eq!(line.join(six("2001:db8:1::2", true), 1_000), Some(SHARE_MAX + WAITING_MAX - 1));
        assert_eq!(line.next(), Some((six("2001:db8:1::2", true), 1_000)));
    }

    #[test]
    fn who_has_many_addresses_is_one() {
        let of = |address: &str| network(address.parse().unwrap());
        assert_eq!(of("2001:db8:1:2::3"), of("2001:db8:1:9::1"));
        assert_ne!(of("2001:db8:1:2::3"), of("2001:db8:2:2::3"));
        assert_eq!(of("::ffff:10.0.0.1"), of("10.0.0.1"));
        assert_ne!(of("10.0.0.2"), of("10.0.0.1"));
    }
}

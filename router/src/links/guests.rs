//! Who has come to accept an invitation, and who of them yields where all places are taken (pure but for its lock).
//!
//! Anybody may come, with any address that is theirs, and say nothing. So where there is no place left, somebody of the network that has most
//! of them yields to one who comes from elsewhere.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;

/// Edges that have come with an invitation, those that wait included: as many as there are tokens, so that sites that are set up all
/// at once are not sent away. More are told to come again. Each may have 64 KiB unread.
const GUESTS_MAX: usize = 256;

/// The places.
#[derive(Debug, Default)]
pub(super) struct Guests {
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    /// The oldest first.
    all: BTreeMap<u64, Guest>,
    next: u64,
}

#[derive(Debug)]
struct Guest {
    from: IpAddr,
    has_asked: bool,
    /// Told when it yields.
    out: oneshot::Sender<()>,
}

/// One place, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    guests: Arc<Guests>,
    number: u64,
}

impl Guests {
    /// A place for one who comes from there, and what is told when it is to yield; `None` where there is none.
    pub(super) fn take(self: &Arc<Self>, from: IpAddr) -> Option<(Place, oneshot::Receiver<()>)> {
        let from = network(from);
        let mut taken = self.taken.lock();
        if taken.all.len() >= GUESTS_MAX {
            let yields = taken.yields_to(from)?;
            let out = taken.all.remove(&yields)?.out;
            // It fails where that one is gone already.
            let _ = out.send(());
        }
        let (out, is_out) = oneshot::channel();
        let number = taken.next;
        taken.next += 1;
        taken.all.insert(number, Guest { from, has_asked: false, out });
        drop(taken);
        Some((Place { guests: Arc::clone(self), number }, is_out))
    }
}

impl Taken {
    /// Who yields to one from a network: of those that have most the one who has been there for longest, one who has said nothing first.
    fn yields_to(&self, from: IpAddr) -> Option<u64> {
        let mut counts: BTreeMap<IpAddr, usize> = BTreeMap::new();
        self.all.values().for_each(|guest| *counts.entry(guest.from).or_default() += 1);
        let most = counts.values().max()?;
        if counts.get(&from).is_some_and(|own| own >= most) {
            return None;
        }
        let of_most = self.all.iter().filter(|(_, guest)| counts.get(&guest.from) == Some(most));
        of_most.min_by_key(|(number, guest)| (guest.has_asked, **number)).map(|(number, _)| *number)
    }
}

impl Place {
    /// Who has it has said what it wants.
    pub(super) fn has_asked(&self) {
        if let Some(guest) = self.guests.taken.lock().all.get_mut(&self.number) {
            guest.has_asked = true;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.guests.taken.lock().all.remove(&self.number);
    }
}

/// What one may have of addresses: one of IPv4, 2^80 of IPv6.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(six) => IpAddr::V6((six.to_bits() >> 80 << 80).into()),
        four => four,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_comes_from_where_most_are_yields_to_others() {
        let guests = Arc::new(Guests::default());
        let at = |n: u8| IpAddr::from([10, 0, 0, n]);
        let mut many: Vec<_> = (1..GUESTS_MAX).map(|_| guests.take(at(1)).unwrap()).collect();
        let honest = guests.take(at(2)).unwrap();
        assert!(guests.take(at(1)).is_none(), "there is no place, and it has most of them");
        // The oldest that has said nothing.
        many[0].0.has_asked();
        let mut others: Vec<_> = (3..9).map(|n| guests.take(at(n)).unwrap()).collect();
        let is_out = |(_, told): &mut (Place, oneshot::Receiver<()>)| told.try_recv().is_ok();
        let out: Vec<usize> = many.iter_mut().enumerate().filter_map(|(n, held)| is_out(held).then_some(n)).collect();
        assert_eq!(out, [1, 2, 3, 4, 5, 6]);
        let mut honest = honest;
        assert!(!is_out(&mut honest) && !others.iter_mut().any(is_out));
        // Where all have asked, the oldest of them.
        many.iter().for_each(|(place, _)| place.has_asked());
        let last = guests.take(at(9)).unwrap();
        assert!(is_out(&mut many[0]));
        // Who yielded and goes frees nobody's place but its own.
        many.drain(..7);
        assert_eq!(guests.taken.lock().all.len(), GUESTS_MAX);
        assert!(guests.take(at(1)).is_none());
        drop((many, others, honest, last));
        assert!(guests.taken.lock().all.is_empty());
    }

    #[test]
    fn who_has_as_many_addresses_as_it_likes_is_one() {
        let guests = Arc::new(Guests::default());
        let at = |n: u16| IpAddr::from([0x2001, 0xdb8, 1, n, 0, 0, 0, 1]);
        let held: Vec<_> = (0..GUESTS_MAX as u16).map(|n| guests.take(at(n)).unwrap()).collect();
        assert!(guests.take(at(999)).is_none());
        assert!(guests.take("2001:db8:2::1".parse().unwrap()).is_some());
        drop(held);
    }
}

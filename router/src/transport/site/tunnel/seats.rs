//! Who may hold a TCP connection, and how many may before they have shown who they are (pure but for its lock).

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;

/// Connections at once; each takes some 150 KB.
const ALL_MAX: usize = 256;
/// Of those, that have not shown a certificate yet, or never will.
const STRANGERS_MAX: usize = 32;
/// Of those, from one address.
const STRANGERS_OF_ADDRESS_MAX: usize = 8;

/// The seats.
#[derive(Debug, Default)]
pub(super) struct Seats {
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    /// By address; none that has none.
    strangers: HashMap<IpAddr, usize>,
}

/// One seat, until it is dropped.
#[derive(Debug)]
pub(super) struct Seat {
    seats: Arc<Seats>,
    /// While it is a stranger's.
    stranger: Option<IpAddr>,
}

impl Seats {
    /// A seat for one who comes from there; `None` where there is none.
    pub(super) fn take(self: &Arc<Self>, from: IpAddr) -> Option<Seat> {
        let from = whose(from);
        let mut taken = self.taken.lock();
        let strangers: usize = taken.strangers.values().sum();
        let here = taken.strangers.get(&from).copied().unwrap_or(0);
        if taken.all == ALL_MAX || strangers == STRANGERS_MAX || here == STRANGERS_OF_ADDRESS_MAX {
            return None;
        }
        taken.all += 1;
        taken.strangers.insert(from, here + 1);
        drop(taken);
        Some(Seat { seats: Arc::clone(self), stranger: Some(from) })
    }
}

/// Who has one address of IPv6 has the network's 2^64.
fn whose(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(six) => IpAddr::V6((six.to_bits() >> 64 << 64).into()),
        four => four,
    }
}

impl Taken {
    fn known(&mut self, stranger: IpAddr) {
        if let Some(here) = self.strangers.get_mut(&stranger) {
            *here -= 1;
            if *here == 0 {
                self.strangers.remove(&stranger);
            }
        }
    }
}

impl Seat {
    /// Who has it is known now.
    pub(super) fn known(&mut self) {
        if let Some(stranger) = self.stranger.take() {
            self.seats.taken.lock().known(stranger);
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.known();
        self.seats.taken.lock().all -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn four(n: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, n])
    }

    #[test]
    fn strangers_have_few_seats_and_those_who_are_known_the_rest() {
        let seats = Arc::new(Seats::default());
        let mut held: Vec<Seat> = (0..STRANGERS_OF_ADDRESS_MAX).map(|_| seats.take(four(1)).unwrap()).collect();
        assert!(seats.take(four(1)).is_none(), "an address has its share");
        assert!(seats.take("::ffff:10.0.0.1".parse().unwrap()).is_none(), "however it is written");
        held.pop();
        held.push(seats.take(four(1)).unwrap());
        for n in 2.. {
            match (0..STRANGERS_OF_ADDRESS_MAX).map(|_| seats.take(four(n))).collect::<Option<Vec<_>>>() {
                Some(more) => held.extend(more),
                None => break,
            }
        }
        assert_eq!(held.len(), STRANGERS_MAX);
        held.iter_mut().for_each(Seat::known);
        while let Some(mut seat) = seats.take(four(9)) {
            seat.known();
            seat.known();
            held.push(seat);
        }
        assert_eq!(held.len(), ALL_MAX);
        assert!(seats.taken.lock().strangers.is_empty());
        drop(held);
        assert_eq!(seats.taken.lock().all, 0);
        assert!(seats.take(four(1)).is_some());
    }

    #[test]
    fn a_network_of_ipv6_is_one_address() {
        let seats = Arc::new(Seats::default());
        let at = |n: u16| IpAddr::from([0x2001, 0xdb8, 0, 1, 0, 0, 0, n]);
        let held: Vec<_> = (0..STRANGERS_OF_ADDRESS_MAX as u16).map(|n| seats.take(at(n)).unwrap()).collect();
        assert!(seats.take(at(99)).is_none());
        assert!(seats.take("2001:db8:0:2::1".parse().unwrap()).is_some());
        drop(held);
    }
}

//! Who may hold a TCP connection, and how many may before they have shown who they are (pure but for its lock).

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;

/// Connections at once; each takes some 150 KB.
const ALL_MAX: usize = 256;
/// Of those, that have not shown a certificate yet, or never will.
const STRANGERS_MAX: usize = 32;
/// Of those, from one address.
const STRANGERS_OF_ADDRESS_MAX: usize = 8;
/// Of those, from one /48 of IPv6: a site has one, and so 65,536 addresses of the kind that is counted.
const STRANGERS_OF_NETWORK_MAX: usize = 16;

/// The seats.
#[derive(Debug, Default)]
pub(super) struct Seats {
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    /// The oldest first; none that is known.
    strangers: BTreeMap<u64, Stranger>,
    /// The number of the next one.
    next: u64,
}

#[derive(Debug)]
struct Stranger {
    from: IpAddr,
    /// Told when another one takes the seat.
    out: oneshot::Sender<()>,
}

/// One seat, until it is dropped.
#[derive(Debug)]
pub(super) struct Seat {
    seats: Arc<Seats>,
    number: u64,
    is_out: oneshot::Receiver<()>,
}

impl Seats {
    /// A seat for one who comes from there; `None` where there is none. Where strangers have all of theirs, the one who has been a stranger
    /// for longest loses it: those who are honest soon are none.
    pub(super) fn take(self: &Arc<Self>, from: IpAddr) -> Option<Seat> {
        let mut taken = self.taken.lock();
        let of = |whose: fn(IpAddr) -> IpAddr| {
            taken.strangers.values().filter(|stranger| whose(stranger.from) == whose(from)).count()
        };
        if taken.all == ALL_MAX || of(address) >= STRANGERS_OF_ADDRESS_MAX || of(network) >= STRANGERS_OF_NETWORK_MAX {
            return None;
        }
        if taken.strangers.len() >= STRANGERS_MAX
            && let Some((_, oldest)) = taken.strangers.pop_first()
        {
            // It fails where that one is gone already.
            let _ = oldest.out.send(());
        }
        let (out, is_out) = oneshot::channel();
        let number = taken.next;
        (taken.all, taken.next) = (taken.all + 1, number + 1);
        taken.strangers.insert(number, Stranger { from, out });
        drop(taken);
        Some(Seat { seats: Arc::clone(self), number, is_out })
    }
}

/// Who has one address of IPv6 has the network's 2^64.
fn address(from: IpAddr) -> IpAddr {
    first_bits(from, 64)
}

/// What one site has of IPv6.
fn network(from: IpAddr) -> IpAddr {
    first_bits(from, 48)
}

fn first_bits(address: IpAddr, bits: u32) -> IpAddr {
    let rest = u128::BITS - bits;
    match address.to_canonical() {
        IpAddr::V6(six) => IpAddr::V6((six.to_bits() >> rest << rest).into()),
        four => four,
    }
}

impl Seat {
    /// Who has it is known now.
    pub(super) fn known(&mut self) {
        self.seats.taken.lock().strangers.remove(&self.number);
    }

    /// Ends when another one has taken it, or who has it is known.
    pub(super) async fn lost(&mut self) {
        let _ = (&mut self.is_out).await;
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
        for n in 2..=4 {
            held.extend((0..STRANGERS_OF_ADDRESS_MAX).map(|_| seats.take(four(n)).unwrap()));
        }
        assert_eq!(held.len(), STRANGERS_MAX);
        // One more takes the seat of the oldest.
        held.push(seats.take(four(5)).unwrap());
        assert_eq!(held[0].is_out.try_recv(), Ok(()));
        assert!(held[1..].iter_mut().all(|seat| seat.is_out.try_recv().is_err()));
        assert_eq!(seats.taken.lock().strangers.len(), STRANGERS_MAX);
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
        let of = |n: u16| IpAddr::from([0x2001, 0xdb8, 0, n, 0, 0, 0, 1]);
        let more: Vec<_> = (2..10).map(|n| seats.take(of(n)).unwrap()).collect();
        assert_eq!(held.len() + more.len(), STRANGERS_OF_NETWORK_MAX);
        assert!(seats.take(of(99)).is_none(), "a /48 has its share");
        assert!(seats.take("2001:db8:1:2::1".parse().unwrap()).is_some());
    }
}

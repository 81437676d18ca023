//! Commands under way to a client: numbered, bounded, confirmed up to a number (pure).

use std::collections::VecDeque;

use devices::native::Close;

use super::Wrong;
use crate::sessions::Offer;

/// Commands that a client may have unconfirmed.
const UNCONFIRMED_MAX: usize = 256;
const NEVER_SENT: Wrong = Wrong::new(Close::OutOfPlace, "a command is confirmed that was never sent");

/// What was given to the stream and is not confirmed.
#[derive(Default)]
pub(super) struct Deliveries {
    /// The last number that was given.
    last: u64,
    unconfirmed: VecDeque<Offer>,
}

impl Deliveries {
    /// Whether one more may be sent.
    pub(super) fn has_room(&self) -> bool {
        self.unconfirmed.len() < UNCONFIRMED_MAX
    }

    /// The number of the next delivery.
    pub(super) fn next(&self) -> u64 {
        self.last + 1
    }

    /// Notes that an offer was given to the stream, under the number [`Self::next`] has said. From here on it counts as
    /// sent: any of its bytes may leave, up to the last words of the connection.
    pub(super) fn push(&mut self, mut offer: Offer) {
        self.last += 1;
        offer.sent();
        self.unconfirmed.push_back(offer);
    }

    /// The client has everything up to a number.
    ///
    /// # Errors
    /// When that number was never given.
    pub(super) fn received(&mut self, up_to: u64) -> Result<(), Wrong> {
        if up_to > self.last {
            return Err(NEVER_SENT);
        }
        let first = self.last + 1 - self.unconfirmed.len() as u64;
        for _ in first..=up_to {
            let Some(offer) = self.unconfirmed.pop_front() else { break };
            offer.acked();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::*;
    use crate::sessions::Delivery;

    type Told = Arc<Mutex<Vec<(u64, Delivery)>>>;

    fn push(deliveries: &mut Deliveries, told: &Told) {
        let (number, told) = (deliveries.next(), Arc::clone(told));
        deliveries.push(Offer::new("t".into(), b"".as_slice().into(), move |delivery| {
            told.lock().push((number, delivery));
        }));
    }

    #[test]
    fn each_is_told_how_it_fared() {
        let (mut deliveries, told) = (Deliveries::default(), Told::default());
        for _ in 0..3 {
            push(&mut deliveries, &told);
        }
        let sent = std::mem::take(&mut *told.lock());
        assert_eq!(sent, [(1, Delivery::Sent), (2, Delivery::Sent), (3, Delivery::Sent)], "each once");
        deliveries.received(2).unwrap();
        deliveries.received(1).unwrap();
        deliveries.received(0).unwrap();
        assert_eq!(std::mem::take(&mut *told.lock()), [(1, Delivery::Acked), (2, Delivery::Acked)]);
        assert_eq!(deliveries.received(4), Err(NEVER_SENT));
        drop(deliveries);
        assert_eq!(*told.lock(), [(3, Delivery::Dropped)]);
    }

    #[test]
    fn a_client_that_confirms_nothing_is_sent_so_many() {
        let (mut deliveries, told) = (Deliveries::default(), Told::default());
        while deliveries.has_room() {
            push(&mut deliveries, &told);
        }
        assert_eq!(deliveries.next(), UNCONFIRMED_MAX as u64 + 1);
        deliveries.received(1).unwrap();
        assert!(deliveries.has_room());
    }
}

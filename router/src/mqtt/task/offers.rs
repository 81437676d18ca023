//! Offered messages that a client was sent and has not acknowledged.

use std::collections::{HashMap, VecDeque};

use crate::sessions::Offer;

/// Commands sent at QoS 0 that are remembered; beyond, the oldest is given up: nobody knows whether it has arrived.
const UNCONFIRMED_MAX: usize = 256;

/// What is on its way to one client.
#[derive(Default)]
pub(super) struct Offers {
    /// By packet id: as many as its window has room for.
    numbered: HashMap<u16, Box<Offer>>,
    /// Commands that went at QoS 0, the oldest first: no acknowledgement will ever come.
    unconfirmed: VecDeque<Box<Offer>>,
}

impl Offers {
    /// A message was sent under a packet id.
    pub(super) fn sent(&mut self, packet_id: u16, offer: Box<Offer>) {
        self.numbered.insert(packet_id, offer);
    }

    /// A message was sent at QoS 0. How a command ends is open until the device answers or the connection ends; anything
    /// else counts as arrived, as all that goes at QoS 0.
    pub(super) fn sent_unconfirmed(&mut self, mut offer: Box<Offer>) {
        if !offer.is_command() {
            return offer.acked();
        }
        if self.unconfirmed.len() >= UNCONFIRMED_MAX {
            self.unconfirmed.pop_front();
        }
        // It is not sent again: what it says is not needed any more.
        offer.payload = [].into();
        self.unconfirmed.push_back(offer);
    }

    /// The client has acknowledged a packet id.
    pub(super) fn acknowledged(&mut self, packet_id: u16) {
        if let Some(offer) = self.numbered.remove(&packet_id) {
            offer.acked();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use devices::command::{CommandId, command_topic};
    use parking_lot::Mutex;

    use super::*;
    use crate::sessions::Delivery;

    #[test]
    fn commands_without_acknowledgement_are_remembered_within_a_bound() {
        let (mut offers, told) = (Offers::default(), Arc::<Mutex<Vec<_>>>::default());
        let command = command_topic("d", CommandId::v7(1, [1; 10]), "a");
        let offer = |number: usize, topic: &str| {
            let told = Arc::clone(&told);
            Box::new(Offer::new(topic.into(), b"x".as_slice().into(), move |fate| told.lock().push((number, fate))))
        };
        for number in 0..=UNCONFIRMED_MAX {
            offers.sent_unconfirmed(offer(number, &command));
        }
        assert_eq!(std::mem::take(&mut *told.lock()), [(0, Delivery::Dropped)], "the oldest");
        offers.sent_unconfirmed(offer(900, "edgeway/twin/d/state"));
        assert_eq!(std::mem::take(&mut *told.lock()), [(900, Delivery::Acked)]);
        drop(offers);
        assert_eq!(told.lock().len(), UNCONFIRMED_MAX);
        assert!(told.lock().iter().all(|(_, fate)| *fate == Delivery::Dropped));
    }
}

//! The control stream: commands to the device, and what it says of itself.

use std::time::Instant;

use devices::command::{COMMAND_PREFIX, parse_command_topic};
use devices::native::{FromDevice, ToDevice, encode};

use super::Wrong;
use super::deliveries::Deliveries;
use super::way::{Way, frame};
use crate::sessions::{Mailbox, Offer};

/// Bytes that may wait to be written before commands wait in the mailbox.
const OUT_BYTES_MAX: usize = 64 << 10;

/// The control stream.
pub(super) struct Control {
    pub(super) way: Way,
    deliveries: Deliveries,
}

impl Control {
    pub(super) fn new(way: Way) -> Self {
        Self { way, deliveries: Deliveries::default() }
    }

    /// Takes what the client has said; whether it goes.
    ///
    /// # Errors
    /// When it said what it may not.
    pub(super) fn take_frames(&mut self) -> Result<bool, Wrong> {
        let mut goes = self.way.ended;
        while let Some((said, taken)) = frame::<FromDevice>(self.way.input.bytes())? {
            self.way.input.consume(taken);
            match said {
                FromDevice::Received { delivery } => self.deliveries.received(delivery)?,
                FromDevice::Goodbye => goes = true,
            }
        }
        Ok(goes)
    }

    /// Takes offers as far as there is room.
    pub(super) fn send_offers(&mut self, mailbox: &Mailbox) {
        while self.deliveries.has_room() && self.way.out.len() < OUT_BYTES_MAX {
            // The others go to who subscribed to them, on the events stream.
            let Some(offer) = mailbox.take_offer_of(|topic| topic.starts_with(COMMAND_PREFIX)) else { return };
            self.send(offer);
        }
    }

    /// Ends it with its connection: what is not confirmed goes back. The stream may have last words.
    pub(super) fn end(self) -> Way {
        self.way
    }

    fn send(&mut self, offer: Offer) {
        let Ok(topic) = parse_command_topic(&offer.topic) else {
            tracing::debug!(topic = %offer.topic, "a message that is no command is not sent");
            return;
        };
        let Ok(expires_in_ms) = offer.expiry_left_ms(Instant::now()) else {
            tracing::debug!(topic = %offer.topic, "a command is not sent: its time is over");
            return;
        };
        let properties = offer.properties();
        let command = ToDevice::Command {
            delivery: self.deliveries.next(),
            device: topic.device,
            id: *topic.id.as_bytes(),
            name: topic.name,
            expires_in_ms,
            properties: properties.iter().map(|(name, value)| (*name, value.as_str())).collect(),
            payload: &offer.payload,
        };
        match encode(&command, &mut self.way.out.bytes) {
            Ok(()) => self.deliveries.push(offer),
            Err(error) => tracing::warn!(topic = %offer.topic, %error, "a command cannot be sent"),
        }
    }
}

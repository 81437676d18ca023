//! Messages from a client: topic aliases, Receive Maximum, and the QoS 2 identifiers held until PUBREL.

use std::collections::BTreeMap;

use super::aliases::InboundAliases;
use super::{Close, rules};
use crate::mqtt::codec::{PropertyId, Publish, Qos, Reason, Reply, Version};

/// What to do with a PUBLISH.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Admission<'p> {
    /// The topic name, with a topic alias replaced.
    pub topic: &'p str,
    /// Whether the message is new: a QoS 2 message whose identifier is held was appended before and is only answered.
    pub append: bool,
    /// The answer to send when the append is durable, in the order of arrival ([MQTT-4.6.0-2]); none at QoS 0.
    pub reply: Option<Reply>,
}

/// The answer that a PUBLISH of this QoS gets.
#[inline]
pub(super) fn reply_to(publish: &Publish<'_>, reason: Reason) -> Option<Reply> {
    let packet_id = publish.packet_id;
    match publish.qos {
        Qos::AtMostOnce => None,
        Qos::AtLeastOnce => Some(Reply::PubAck { packet_id, reason }),
        Qos::ExactlyOnce => Some(Reply::PubRec { packet_id, reason }),
    }
}

/// One connection's inbound side.
#[derive(Debug)]
pub(super) struct Inbound {
    aliases: InboundAliases,
    receive_maximum: u16,
    /// Messages without their PUBACK, PUBCOMP or refusing PUBREC: what Receive Maximum counts.
    open: u32,
    /// QoS 1 messages without their PUBACK.
    unacknowledged: u32,
    /// Held QoS 2 identifiers; `true` where this connection counts it in `open`.
    held: BTreeMap<u16, bool>,
    version: Version,
}

impl Inbound {
    pub(super) fn new(version: Version, receive_maximum: u16, alias_maximum: u16, held: &[u16]) -> Self {
        let held = held.iter().map(|&id| (id, false)).collect();
        Self { aliases: InboundAliases::new(alias_maximum), receive_maximum, open: 0, unacknowledged: 0, held, version }
    }

    #[inline]
    pub(super) fn is_full(&self) -> bool {
        self.unacknowledged >= u32::from(self.receive_maximum)
    }

    pub(super) fn open(&self) -> u32 {
        self.open
    }

    pub(super) fn held(&self) -> Vec<u16> {
        self.held.keys().copied().collect()
    }

    #[inline]
    pub(super) fn admit<'p>(&'p mut self, publish: &Publish<'p>) -> Result<Admission<'p>, Close> {
        let append = match publish.qos {
            Qos::AtMostOnce => true,
            Qos::AtLeastOnce => {
                self.count()?;
                self.unacknowledged = self.unacknowledged.saturating_add(1);
                true
            }
            Qos::ExactlyOnce => self.hold(publish.packet_id)?,
        };
        let reply = reply_to(publish, Reason::Success);
        let topic = if publish.properties.is_empty() { publish.topic } else { self.resolve(publish)? };
        Ok(Admission { topic, append, reply })
    }

    /// Counts a message against Receive Maximum. A 3.1.1 client does not know the bound and is held back by its
    /// socket instead ([`super::Session::is_inbound_full`]).
    #[inline]
    fn count(&mut self) -> Result<(), Close> {
        if self.open >= u32::from(self.receive_maximum) && self.version == Version::V5 {
            return Err(Close::of(rules::RECEIVE_MAXIMUM));
        }
        self.open = self.open.saturating_add(1);
        Ok(())
    }

    /// Holds an identifier; says whether it is new.
    fn hold(&mut self, packet_id: u16) -> Result<bool, Close> {
        match self.held.get(&packet_id) {
            Some(true) => Ok(false),
            Some(false) => {
                self.count()?;
                self.held.insert(packet_id, true);
                Ok(false)
            }
            None => {
                self.count()?;
                self.held.insert(packet_id, true);
                Ok(true)
            }
        }
    }

    fn resolve<'p>(&'p mut self, publish: &Publish<'p>) -> Result<&'p str, Close> {
        let Some(alias) = publish.properties.short(PropertyId::TopicAlias) else {
            return Ok(publish.topic);
        };
        if publish.topic.is_empty() {
            return self.aliases.get(alias);
        }
        self.aliases.set(alias, publish.topic)?;
        Ok(publish.topic)
    }

    /// A PUBREL; says whether its identifier was held.
    pub(super) fn release(&mut self, packet_id: u16) -> bool {
        let released = self.held.remove(&packet_id);
        self.open = self.open.saturating_sub(u32::from(released == Some(true)));
        released.is_some()
    }

    /// Takes back what `admit` did for a message that is refused: its PUBREC ends the exchange ([MQTT-4.3.3-9]).
    pub(super) fn refuse(&mut self, publish: &Publish<'_>) {
        if publish.qos == Qos::ExactlyOnce {
            self.release(publish.packet_id);
        }
    }

    pub(super) fn pubacks_sent(&mut self, count: u32) {
        self.open = self.open.saturating_sub(count);
        self.unacknowledged = self.unacknowledged.saturating_sub(count);
    }
}

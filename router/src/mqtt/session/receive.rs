//! Packets from a client other than PUBLISH.

use super::subscriptions::Subscribed;
use super::window::Acknowledged;
use super::{Close, EventRef, Session, rules};
use crate::mqtt::codec::rules as packet_rules;
use crate::mqtt::codec::{
    Ack, EncodeError, Notice, Packet, Properties, PropertyId, Reason, Reply, SubAck, Subscribe, UnsubAck, Unsubscribe,
    Version, encode,
};

/// What a packet asks of the task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing.
    Nothing,
    /// Send this.
    Reply(Reply),
    /// A PUBREL: forget that the identifier is held, durably, then send this, in the order of the answers.
    Release {
        /// The identifier; not held before if `reply` says so.
        packet_id: u16,
        /// PUBCOMP.
        reply: Reply,
    },
    /// The client has a message, or will not take it.
    Acknowledged {
        /// Where it came from, if that was said when it was sent.
        event: Option<EventRef>,
        /// Its identifier.
        packet_id: u16,
        /// An error if the client refused it.
        reason: Reason,
    },
    /// Subscriptions were made: keep them if the session is kept, send the SUBACK, then what is retained.
    Subscribed {
        /// What was granted.
        subscribed: Subscribed,
        /// SUBACK.
        frame: Vec<u8>,
    },
    /// Subscriptions were removed: keep that if the session is kept, then send the UNSUBACK.
    Unsubscribed {
        /// The filters that were there.
        removed: Vec<String>,
        /// UNSUBACK.
        frame: Vec<u8>,
    },
    /// The client leaves: send what is due for what it sent before, close, and end with [`super::End::Disconnected`].
    Disconnect {
        /// Whether it asks for its will to be published.
        with_will: bool,
    },
}

impl Session {
    /// Takes a packet other than PUBLISH. `may` says whether the client may subscribe to a filter.
    pub fn receive(&mut self, packet: &Packet<'_>, may: &dyn Fn(&str) -> bool) -> Result<Action, Close> {
        match packet {
            Packet::PubAck(ack) => Ok(self.receive_puback(ack)),
            Packet::PubRec(ack) => self.receive_pubrec(ack),
            Packet::PubRel(ack) => Ok(self.receive_pubrel(ack)),
            Packet::PubComp(ack) => self.receive_pubcomp(ack),
            Packet::Subscribe(subscribe) => self.receive_subscribe(subscribe, may),
            Packet::Unsubscribe(unsubscribe) => self.receive_unsubscribe(unsubscribe),
            Packet::PingReq => Ok(Action::Reply(Reply::PingResp)),
            Packet::Disconnect(notice) => self.receive_disconnect(notice),
            Packet::Auth(_) => Err(Close::of(rules::AUTH_UNASKED)),
            Packet::Connect(_) => Err(Close::of(rules::SECOND_CONNECT)),
            Packet::Publish(_) | Packet::ConnAck(_) | Packet::SubAck(_) | Packet::UnsubAck(_) | Packet::PingResp => {
                Err(Close::of(packet_rules::WRONG_SIDE))
            }
        }
    }

    fn receive_puback(&mut self, ack: &Ack<'_>) -> Action {
        match self.window.acknowledge(ack.packet_id) {
            Acknowledged::Message(event) => {
                Action::Acknowledged { event, packet_id: ack.packet_id, reason: ack.reason }
            }
            Acknowledged::Unknown => Action::Nothing,
        }
    }

    /// Nothing is sent at QoS 2, so that a PUBREC is either wrong or a leftover that is brought to its end.
    fn receive_pubrec(&mut self, ack: &Ack<'_>) -> Result<Action, Close> {
        if self.window.holds(ack.packet_id) {
            return Err(Close::of(rules::PUBREC_OF_QOS_1));
        }
        if ack.reason.is_error() {
            return Ok(Action::Nothing);
        }
        let reason = Reason::PacketIdentifierNotFound;
        Ok(Action::Reply(Reply::PubRel { packet_id: ack.packet_id, reason }))
    }

    fn receive_pubcomp(&mut self, ack: &Ack<'_>) -> Result<Action, Close> {
        if self.window.holds(ack.packet_id) { Err(Close::of(rules::PUBREC_OF_QOS_1)) } else { Ok(Action::Nothing) }
    }

    fn receive_pubrel(&mut self, ack: &Ack<'_>) -> Action {
        let packet_id = ack.packet_id;
        let held = self.inbound.release(packet_id);
        let reason = if held { Reason::Success } else { Reason::PacketIdentifierNotFound };
        Action::Release { packet_id, reply: Reply::PubComp { packet_id, reason } }
    }

    fn receive_subscribe(&mut self, subscribe: &Subscribe<'_>, may: &dyn Fn(&str) -> bool) -> Result<Action, Close> {
        let subscribed = self.subscriptions.subscribe(subscribe, self.version, &self.limits, may);
        let suback = SubAck { packet_id: subscribe.packet_id, properties: Properties::NONE, codes: &subscribed.codes };
        let frame = self.frame(&Packet::SubAck(suback))?;
        Ok(Action::Subscribed { subscribed, frame })
    }

    fn receive_unsubscribe(&mut self, unsubscribe: &Unsubscribe<'_>) -> Result<Action, Close> {
        let mut codes = Vec::new();
        let mut removed = Vec::new();
        for filter in unsubscribe.filters.iter() {
            let found = self.subscriptions.unsubscribe(filter);
            let reason = if found { Reason::Success } else { Reason::NoSubscriptionExisted };
            codes.push(reason.code());
            if found {
                removed.push(filter.to_owned());
            }
        }
        let unsuback = UnsubAck { packet_id: unsubscribe.packet_id, properties: Properties::NONE, codes: &codes };
        let frame = self.frame(&Packet::UnsubAck(unsuback))?;
        Ok(Action::Unsubscribed { removed, frame })
    }

    /// An answer is shorter than the packet that it answers, and that was short enough.
    fn frame(&self, packet: &Packet<'_>) -> Result<Vec<u8>, Close> {
        let mut out = Vec::new();
        let too_long = |_: EncodeError| Close::of(packet_rules::TOO_LARGE);
        encode(packet, self.version, &mut out).map_err(too_long)?;
        Ok(out)
    }

    fn receive_disconnect(&mut self, notice: &Notice<'_>) -> Result<Action, Close> {
        if let Some(expiry_s) = notice.properties.number(PropertyId::SessionExpiry) {
            if expiry_s > 0 && self.expiry_s == 0 {
                return Err(Close::of(rules::EXPIRY_FROM_ZERO));
            }
            self.expiry_s = expiry_s.min(self.limits.session_expiry_s_max);
        }
        // A 5.0 client that leaves with any other reason than 0 has not left normally ([MQTT-3.14.4-3]).
        let with_will = self.version == Version::V5 && notice.reason != Reason::Success;
        Ok(Action::Disconnect { with_will })
    }
}

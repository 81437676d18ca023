//! The state of one client's session as a pure machine: packets and `now` in, what to do out.
//!
//! The task that owns the socket opens it ([`Opening`]), hands it every packet ([`Session::admit_publish`] for PUBLISH,
//! [`Session::receive`] for the rest), sends what it is told, and ends it ([`Session::end`]). All times are
//! milliseconds of one clock, the caller's.

mod aliases;
mod end;
mod inbound;
mod kept;
mod limits;
mod opening;
mod receive;
pub mod rules;
mod subscriptions;
#[cfg(test)]
mod tests;
mod will;
mod window;

use std::sync::Arc;

pub use aliases::{OutboundAliases, TopicForm};
pub use end::{End, Ended};
pub use inbound::Admission;
pub use kept::{EXPIRY_NEVER, EventRef, GRANTED_QOS_MAX, KeptError, KeptInflight, KeptSession, Subscription};
pub use limits::{ClientLimits, Limits};
pub use opening::{Accepted, Opening, refuse};
pub use receive::Action;
pub use subscriptions::{Delivery, RetainedWanted, Subscribed, Subscriptions};
pub use will::{DueWill, KeptWill};
pub use window::{Acknowledged, Window};

use super::codec::rules::Rule;
use super::codec::{DecodeError, Publish, Reason, Reply, Version, encode_disconnect, encode_disconnect_in_words};
use inbound::Inbound;

/// The connection is to be closed: send [`Close::frame`], close, and end the session with [`End::Lost`].
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Close {
    /// The reason that a 5.0 client is told.
    pub reason: Reason,
    /// The rule behind it.
    pub rule: &'static Rule,
}

impl Close {
    /// Closes for a breach of `rule`.
    pub fn of(rule: &'static Rule) -> Self {
        Self { reason: rule.reason, rule }
    }

    /// Appends the DISCONNECT that goes before closing; nothing in 3.1.1, which has none.
    pub fn frame(&self, version: Version, out: &mut Vec<u8>) {
        encode_disconnect(self.reason, version, out);
    }
}

impl From<DecodeError> for Close {
    fn from(error: DecodeError) -> Self {
        Self::of(error.rule)
    }
}

/// A session with a connection.
#[derive(Debug)]
pub struct Session {
    client_id: Arc<str>,
    names_itself: bool,
    version: Version,
    limits: Limits,
    client: ClientLimits,
    /// Seconds that it is kept after the connection.
    expiry_s: u32,
    /// 1.5 times the keep alive, 0 for none.
    silence_ms_max: u64,
    heard_at_ms: u64,
    will: Option<KeptWill>,
    inbound: Inbound,
    subscriptions: Subscriptions,
    window: Window,
    aliases: OutboundAliases,
}

impl Session {
    /// The client's identifier, assigned or its own.
    pub fn client_id(&self) -> &Arc<str> {
        &self.client_id
    }

    /// Whether the identifier is the client's own.
    pub fn names_itself(&self) -> bool {
        self.names_itself
    }

    /// The protocol that it speaks.
    pub fn version(&self) -> Version {
        self.version
    }

    /// What the client takes.
    pub fn client_limits(&self) -> &ClientLimits {
        &self.client
    }

    /// Whether the session outlives its connection.
    pub fn is_kept(&self) -> bool {
        self.expiry_s > 0
    }

    /// Its subscriptions.
    pub fn subscriptions(&self) -> &Subscriptions {
        &self.subscriptions
    }

    /// What is in flight to the client.
    pub fn window(&mut self) -> &mut Window {
        &mut self.window
    }

    /// The topic aliases set towards the client.
    pub fn aliases(&mut self) -> &mut OutboundAliases {
        &mut self.aliases
    }

    /// Whether a packet of this length may be sent to the client ([MQTT-3.1.2-24]); a longer one is dropped as if it
    /// had been sent ([MQTT-3.1.2-25]).
    #[inline]
    pub fn fits(&self, packet_bytes: usize) -> bool {
        packet_bytes <= self.client.packet_bytes_max as usize
    }

    /// Appends what goes before closing: [`Close::frame`], with the rule and its statement in words where the client
    /// takes as much.
    pub fn farewell(&self, close: &Close, out: &mut Vec<u8>) {
        if self.version == Version::V5 {
            let words = format!("{} [{}]", close.rule.text, close.rule.statement(self.version));
            encode_disconnect_in_words(close.reason, &words, self.client.packet_bytes_max, out);
        }
    }

    /// Something arrived. Once per read is enough.
    #[inline]
    pub fn heard(&mut self, now_ms: u64) {
        self.heard_at_ms = now_ms;
    }

    /// When the client was heard last.
    pub fn heard_at_ms(&self) -> u64 {
        self.heard_at_ms
    }

    /// When the client has been silent for too long ([MQTT-3.1.2-24], 5.0 [MQTT-3.1.2-22]); `None` without keep alive.
    pub fn silent_at_ms(&self) -> Option<u64> {
        (self.silence_ms_max > 0).then(|| self.heard_at_ms.saturating_add(self.silence_ms_max))
    }

    /// The reason to close a connection that has been silent for too long.
    pub fn check_silence(&self, now_ms: u64) -> Result<(), Close> {
        match self.silent_at_ms() {
            Some(at) if now_ms >= at => Err(Close::of(rules::KEEP_ALIVE)),
            _ => Ok(()),
        }
    }

    /// Admits a PUBLISH. Allocates nothing for QoS 0 and 1 without a new topic alias.
    #[inline]
    pub fn admit_publish<'p>(&'p mut self, publish: &Publish<'p>) -> Result<Admission<'p>, Close> {
        self.inbound.admit(publish)
    }

    /// Refuses a PUBLISH that was admitted but cannot be appended: the answer to send in its place in the order, if
    /// its QoS has one, or in 3.1.1, which has no negative answers, the end of the connection.
    pub fn refuse_publish(&mut self, publish: &Publish<'_>, reason: Reason) -> Result<Option<Reply>, Close> {
        self.inbound.refuse(publish);
        match (self.version, inbound::reply_to(publish, reason)) {
            (Version::V311, Some(_)) => Err(Close { reason, rule: rules::REFUSED_WITHOUT_ACK }),
            (_, reply) => Ok(reply),
        }
    }

    /// `count` PUBACKs were sent: the client may send as many messages more.
    #[inline]
    pub fn pubacks_sent(&mut self, count: u32) {
        self.inbound.pubacks_sent(count);
    }

    /// Whether as many QoS 1 messages wait for their PUBACK as a client may have open. A task that stops reading until
    /// it has sent some holds a 3.1.1 client back by its socket; a 5.0 client that sends more is refused by
    /// [`Session::admit_publish`]. QoS 2 messages do not count here: what ends them is a PUBREL yet to be read.
    #[inline]
    pub fn is_inbound_full(&self) -> bool {
        self.inbound.is_full()
    }

    /// Inbound QoS 1 and 2 messages that are not yet done with.
    pub fn inbound_open(&self) -> u32 {
        self.inbound.open()
    }
}

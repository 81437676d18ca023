//! CONNECT: what a client asks for, what it is granted, and the CONNACK that says so (sections 3.1 and 3.2).

use std::sync::Arc;

use super::inbound::Inbound;
use super::kept::{EXPIRY_NEVER, KeptSession};
use super::subscriptions::Subscriptions;
use super::will::KeptWill;
use super::window::Window;
use super::{ClientLimits, Close, Limits, OutboundAliases, Session, rules};
use crate::mqtt::codec::{
    ConnAck, Connect, EncodeError, Packet, Properties, PropertyBuffer, PropertyId, Reason, Value, Version, encode,
};

/// A CONNECT that obeys the rules and waits for who may connect and what was kept.
#[derive(Debug)]
pub struct Opening {
    version: Version,
    client_id: Arc<str>,
    assigned: bool,
    clean_start: bool,
    keep_alive_s: u16,
    keep_alive_overridden: bool,
    expiry_s: u32,
    expiry_overridden: bool,
    will: Option<KeptWill>,
    client: ClientLimits,
    limits: Limits,
}

/// What a CONNECT came to.
#[derive(Debug)]
pub struct Accepted {
    /// The session, from here on the connection's.
    pub session: Session,
    /// CONNACK, the first bytes to send.
    pub connack: Vec<u8>,
    /// Whether an earlier session goes on; what it has in flight waits in [`Session::window`].
    pub session_present: bool,
}

impl Opening {
    /// Judges a CONNECT. `assigned_id` is taken where the client left its identifier to the server; the caller makes
    /// it unlike any other.
    pub fn new(connect: &Connect<'_>, limits: &Limits, assigned_id: &str) -> Result<Self, Close> {
        let version = connect.version;
        let assigned = connect.client_id.is_empty();
        if assigned && version == Version::V311 && !connect.clean_start {
            return Err(Close::of(rules::CLIENT_ID_EMPTY));
        }
        if connect.client_id.len() > limits.client_id_bytes_max {
            return Err(Close::of(rules::CLIENT_ID_TOO_LONG));
        }
        if connect.properties.text(PropertyId::AuthMethod).is_some() {
            return Err(Close::of(rules::AUTH_METHOD));
        }
        let expiry_asked_s = expiry_asked_s(connect);
        let expiry_s = expiry_asked_s.min(limits.session_expiry_s_max);
        let keep_alive_s = keep_alive_granted_s(connect, limits);
        Ok(Self {
            version,
            client_id: if assigned { assigned_id.into() } else { connect.client_id.into() },
            assigned,
            clean_start: connect.clean_start,
            keep_alive_s,
            keep_alive_overridden: keep_alive_s != connect.keep_alive_s,
            expiry_s,
            expiry_overridden: expiry_s != expiry_asked_s,
            will: connect.will.as_ref().map(KeptWill::of),
            client: ClientLimits::of(connect),
            limits: *limits,
        })
    }

    /// The identifier under which a connection is taken over and a session kept.
    pub fn client_id(&self) -> &Arc<str> {
        &self.client_id
    }

    /// The connection's version.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Whether an earlier session is to end rather than to go on; what [`super::End::TakenOver`] wants to know.
    pub fn is_clean_start(&self) -> bool {
        self.clean_start
    }

    /// Opens the session, the client being allowed to connect and any other connection of it ended. `kept` is the
    /// session of this identifier, expired or not; its pending will is the caller's: called off where the session goes on ([MQTT-3.1.3-9]), else published
    /// now. Errors: a client identifier that does not fit into the CONNACK.
    pub fn accept(self, kept: Option<KeptSession>, now_ms: u64) -> Result<Accepted, EncodeError> {
        let resumed = kept.filter(|kept| !self.clean_start && !kept.is_expired(now_ms));
        let session_present = resumed.is_some();
        let connack = self.connack(session_present)?;
        let Self { version, client_id, expiry_s, keep_alive_s, client, limits, assigned, .. } = self;
        let kept = resumed.unwrap_or_default();
        let inflight_max = client.receive_maximum.min(limits.inflight_max);
        let session = Session {
            client_id,
            names_itself: !assigned,
            version,
            expiry_s,
            silence_ms_max: u64::from(keep_alive_s) * 1500,
            heard_at_ms: now_ms,
            will: self.will,
            inbound: Inbound::new(version, limits.receive_maximum, limits.topic_alias_maximum, &kept.qos2_held),
            subscriptions: Subscriptions::of(&kept.subscriptions),
            window: Window::resume(inflight_max, &kept.inflight, kept.next_packet_id),
            aliases: OutboundAliases::new(client.topic_alias_maximum.min(limits.outbound_aliases_max)),
            client,
            limits,
        };
        Ok(Accepted { session, connack, session_present })
    }

    fn connack(&self, session_present: bool) -> Result<Vec<u8>, EncodeError> {
        let mut properties = PropertyBuffer::new();
        if self.version == Version::V5 {
            self.put_properties(&mut properties)?;
        }
        let connack = ConnAck { session_present, code: 0, properties: properties.view() };
        let mut out = Vec::new();
        encode(&Packet::ConnAck(connack), self.version, &mut out)?;
        Ok(out)
    }

    /// What differs from the specification's defaults.
    fn put_properties(&self, properties: &mut PropertyBuffer) -> Result<(), EncodeError> {
        let Limits { receive_maximum, packet_bytes_max, topic_alias_maximum, .. } = self.limits;
        if self.expiry_overridden {
            properties.put(PropertyId::SessionExpiry, Value::U32(self.expiry_s))?;
        }
        if receive_maximum < u16::MAX {
            properties.put(PropertyId::ReceiveMaximum, Value::U16(receive_maximum))?;
        }
        properties.put(PropertyId::MaximumPacketSize, Value::U32(packet_bytes_max))?;
        if self.assigned {
            properties.put(PropertyId::AssignedClientId, Value::Text(&self.client_id))?;
        }
        if topic_alias_maximum > 0 {
            properties.put(PropertyId::TopicAliasMaximum, Value::U16(topic_alias_maximum))?;
        }
        properties.put(PropertyId::SharedAvailable, Value::Byte(0))?;
        if self.keep_alive_overridden {
            properties.put(PropertyId::ServerKeepAlive, Value::U16(self.keep_alive_s))?;
        }
        Ok(())
    }
}

/// A clean session of 3.1.1 ends with its connection, another is kept for as long as the server allows.
fn expiry_asked_s(connect: &Connect<'_>) -> u32 {
    match connect.version {
        Version::V5 => connect.properties.number(PropertyId::SessionExpiry).unwrap_or(0),
        Version::V311 if connect.clean_start => 0,
        Version::V311 => EXPIRY_NEVER,
    }
}

/// A 3.1.1 client cannot be told another keep alive than its own.
fn keep_alive_granted_s(connect: &Connect<'_>, limits: &Limits) -> u16 {
    let asked = connect.keep_alive_s;
    let max = limits.keep_alive_s_max;
    let too_long = max > 0 && (asked == 0 || asked > max);
    if too_long && connect.version == Version::V5 { max } else { asked }
}

/// Appends the CONNACK that refuses a connection, to be closed after it. `version` is that of the CONNECT or, for one
/// that could not be read, [`crate::mqtt::codec::DecodeError::connack`].
pub fn refuse(reason: Reason, version: Version, out: &mut Vec<u8>) {
    let code = match version {
        Version::V311 => reason.connack_v311(),
        Version::V5 => reason.code(),
    };
    let connack = ConnAck { session_present: false, code, properties: Properties::NONE };
    // Five bytes at most: it cannot be too long.
    let written = encode(&Packet::ConnAck(connack), version, out);
    debug_assert!(written.is_ok());
}

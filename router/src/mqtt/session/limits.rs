//! What a server allows a session, and what a client allows its server.

use crate::mqtt::codec::{Connect, PACKET_BYTES_MAX_DEFAULT, PropertyId};

/// A server's bounds; all of them also bound memory.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// QoS 1 and 2 messages a client may have unacknowledged; never 0.
    pub receive_maximum: u16,
    /// The largest packet taken, bytes.
    pub packet_bytes_max: u32,
    /// Topic aliases a client may set.
    pub topic_alias_maximum: u16,
    /// Topic aliases set towards a client, at most as many as it allows.
    pub outbound_aliases_max: u16,
    /// Messages in flight to a client, at most as many as it allows; never 0.
    pub inflight_max: u16,
    /// How long a session is kept without a connection, seconds.
    pub session_expiry_s_max: u32,
    /// A longer keep alive (or none) is overridden with this in 5.0, seconds; 0 overrides nothing.
    pub keep_alive_s_max: u16,
    /// Topic filters of one session.
    pub subscriptions_max: usize,
    /// Bytes of all topic filters of one session together.
    pub subscription_bytes_max: usize,
    /// The longest client identifier, bytes.
    pub client_id_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            receive_maximum: 1024,
            packet_bytes_max: PACKET_BYTES_MAX_DEFAULT,
            topic_alias_maximum: 32,
            outbound_aliases_max: 32,
            inflight_max: 1024,
            session_expiry_s_max: 7 * 24 * 3600,
            keep_alive_s_max: 0,
            subscriptions_max: 1024,
            subscription_bytes_max: 256 << 10,
            client_id_bytes_max: 1024,
        }
    }
}

/// What a client said in CONNECT about what it takes; MQTT 3.1.1 has the defaults.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct ClientLimits {
    /// QoS 1 messages it takes unacknowledged.
    pub receive_maximum: u16,
    /// The largest packet it takes, bytes; a larger one is dropped unsent ([MQTT-3.1.2-24]).
    pub packet_bytes_max: u32,
    /// Topic aliases it takes.
    pub topic_alias_maximum: u16,
    /// Whether it takes reason strings and user properties in answers ([MQTT-3.1.2-29]).
    pub problem_info: bool,
}

impl ClientLimits {
    pub(super) fn of(connect: &Connect<'_>) -> Self {
        let properties = &connect.properties;
        Self {
            receive_maximum: properties.short(PropertyId::ReceiveMaximum).unwrap_or(u16::MAX),
            packet_bytes_max: properties.number(PropertyId::MaximumPacketSize).unwrap_or(u32::MAX),
            topic_alias_maximum: properties.short(PropertyId::TopicAliasMaximum).unwrap_or(0),
            problem_info: properties.number(PropertyId::RequestProblemInfo) != Some(0),
        }
    }
}

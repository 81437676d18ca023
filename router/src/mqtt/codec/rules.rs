//! The rules whose breach makes a packet malformed, each with its statement in both specifications.
//!
//! A statement is the number that the OASIS text gives to a requirement (`MQTT-3.1.2-3`) or, where the text gives
//! none, the section that states it (`section 2.2.2.2`).

use super::Version;
use super::reason::Reason;

/// A requirement of the specifications, and what a server says to whom breaks it.
#[derive(Debug, PartialEq, Eq)]
pub struct Rule {
    /// The reason code of MQTT 5.0.
    pub reason: Reason,
    v311: &'static str,
    v5: &'static str,
    /// What was wrong, in words.
    pub text: &'static str,
}

impl Rule {
    pub(crate) const fn new(reason: Reason, v311: &'static str, v5: &'static str, text: &'static str) -> Self {
        Self { reason, v311, v5, text }
    }

    /// The statement in the specification of `version`.
    pub fn statement(&self, version: Version) -> &'static str {
        match version {
            Version::V311 => self.v311,
            Version::V5 => self.v5,
        }
    }
}

macro_rules! rules {
    ($($name:ident = $reason:ident, $v311:literal, $v5:literal, $text:literal;)*) => {
        $(
            #[doc = $text]
            pub const $name: &$crate::mqtt::codec::rules::Rule =
                &$crate::mqtt::codec::rules::Rule::new($crate::mqtt::codec::Reason::$reason, $v311, $v5, $text);
        )*
    };
}

pub(crate) use rules;

// The form of every packet.
rules! {
    PACKET_TYPE = MalformedPacket, "section 2.2.1", "section 2.1.2", "the packet type is reserved";
    WRONG_SIDE = ProtocolError, "section 2.2.1", "section 2.1.2", "this side does not send this packet";
    FIXED_FLAGS = MalformedPacket, "MQTT-2.2.2-2", "MQTT-2.1.3-1", "reserved flags of the fixed header are wrong";
    LENGTH_TOO_LONG = MalformedPacket, "section 2.2.3", "MQTT-1.5.5-1", "a length takes more bytes than allowed";
    LENGTH_WRONG = MalformedPacket, "section 2.2.3", "section 2.1.4", "the remaining length does not fit the packet";
    TOO_LARGE = PacketTooLarge, "section 4.8", "MQTT-3.2.2-15", "the packet is larger than the server takes";
    CUT_SHORT = MalformedPacket, "section 2.2.3", "section 4.13.1", "the packet ends inside a field";
    TRAILING = MalformedPacket, "section 2.2.3", "section 4.13.1", "bytes are left over after the last field";
    UTF8 = MalformedPacket, "MQTT-1.5.3-1", "MQTT-1.5.4-1", "a string is not well-formed UTF-8";
    NUL = MalformedPacket, "MQTT-1.5.3-2", "MQTT-1.5.4-2", "a string holds U+0000";
    PACKET_ID_ZERO = ProtocolError, "MQTT-2.3.1-1", "MQTT-2.2.1-3", "the packet identifier is zero";
    REASON_CODE = MalformedPacket, "section 3.2.2.3", "section 2.4", "this packet does not carry this reason code";
}

// Properties.
rules! {
    PROPERTY_UNKNOWN = MalformedPacket, "", "section 2.2.2.2", "the property identifier is not known";
    PROPERTY_MISPLACED = MalformedPacket, "", "section 2.2.2.2", "the property does not belong to this packet";
    PROPERTY_LENGTH = MalformedPacket, "", "MQTT-2.2.2-1", "the property length does not fit the packet";
    PROPERTY_TWICE = ProtocolError, "", "section 2.2.2.2", "a property is given twice";
    PROPERTY_FLAG = ProtocolError, "", "section 2.2.2.2", "a property takes only 0 or 1";
    PROPERTY_ZERO = ProtocolError, "", "section 2.2.2.2", "a property must not be 0";
    TOPIC_ALIAS_ZERO = TopicAliasInvalid, "", "MQTT-3.3.2-8", "the topic alias is 0";
    SUBSCRIPTION_ID_FROM_CLIENT = ProtocolError, "", "MQTT-3.3.4-6", "a client sends no subscription identifier";
    AUTH_DATA_ALONE = ProtocolError, "", "section 3.1.2.11.10", "authentication data without a method";
    AUTH_METHOD_ABSENT = ProtocolError, "", "section 3.15.2.2.2", "AUTH without an authentication method";
}

// CONNECT and CONNACK.
rules! {
    NOT_CONNECT_FIRST = ProtocolError, "MQTT-3.1.0-1", "MQTT-3.1.0-1", "the first packet is not CONNECT";
    PROTOCOL_NAME = UnsupportedProtocolVersion, "MQTT-3.1.2-1", "MQTT-3.1.2-1", "the protocol name is not MQTT";
    PROTOCOL_LEVEL = UnsupportedProtocolVersion, "MQTT-3.1.2-2", "MQTT-3.1.2-2", "the protocol level is not 4 or 5";
    CONNECT_RESERVED = MalformedPacket, "MQTT-3.1.2-3", "MQTT-3.1.2-3", "the reserved connect flag is set";
    WILL_QOS_ALONE = MalformedPacket, "MQTT-3.1.2-13", "MQTT-3.1.2-11", "a will QoS without a will";
    WILL_QOS_3 = MalformedPacket, "MQTT-3.1.2-14", "MQTT-3.1.2-12", "the will QoS is 3";
    WILL_RETAIN_ALONE = MalformedPacket, "MQTT-3.1.2-15", "MQTT-3.1.2-13", "a will retain flag without a will";
    PASSWORD_ALONE = MalformedPacket, "MQTT-3.1.2-22", "section 3.1.2.9", "a password without a user name";
    CONNACK_RESERVED = MalformedPacket, "section 3.2.2.1", "MQTT-3.2.2-1", "reserved acknowledge flags are set";
    SESSION_PRESENT_REFUSED = ProtocolError, "MQTT-3.2.2-4", "MQTT-3.2.2-6", "session present in a refusal";
}

// PUBLISH, topic names and topic filters.
rules! {
    QOS_3 = MalformedPacket, "MQTT-3.3.1-4", "MQTT-3.3.1-4", "the QoS is 3";
    DUP_QOS_0 = MalformedPacket, "MQTT-3.3.1-2", "MQTT-3.3.1-2", "DUP is set on a QoS 0 message";
    NAME_WILDCARD = TopicNameInvalid, "MQTT-3.3.2-2", "MQTT-3.3.2-2", "the topic name holds a wildcard";
    NAME_EMPTY = TopicNameInvalid, "MQTT-4.7.3-1", "MQTT-4.7.3-1", "the topic name is empty";
    NAME_ABSENT = ProtocolError, "MQTT-4.7.3-1", "section 3.3.2.1", "neither topic name nor topic alias";
    RESPONSE_TOPIC = TopicNameInvalid, "", "MQTT-3.3.2-14", "the response topic is not a topic name";
    FILTER_EMPTY = TopicFilterInvalid, "MQTT-4.7.3-1", "MQTT-4.7.3-1", "the topic filter is empty";
    FILTER_HASH = TopicFilterInvalid, "MQTT-4.7.1-2", "MQTT-4.7.1-1", "# is not alone in the last level";
    FILTER_PLUS = TopicFilterInvalid, "MQTT-4.7.1-3", "MQTT-4.7.1-2", "+ is not alone in its level";
    SHARE_EMPTY = TopicFilterInvalid, "section 4.7.2", "MQTT-4.8.2-1", "the share name is empty";
    SHARE_NAME = TopicFilterInvalid, "section 4.7.2", "MQTT-4.8.2-2", "the share name holds a wildcard";
    SHARE_FILTER = TopicFilterInvalid, "section 4.7.2", "MQTT-4.8.2-2", "the shared subscription has no topic filter";
}

// SUBSCRIBE, UNSUBSCRIBE and their answers.
rules! {
    SUBSCRIBE_EMPTY = ProtocolError, "MQTT-3.8.3-3", "MQTT-3.8.3-2", "SUBSCRIBE without a topic filter";
    SUBSCRIBE_RESERVED = MalformedPacket, "MQTT-3-8.3-4", "MQTT-3.8.3-5", "reserved subscription options are set";
    SUBSCRIBE_QOS_3 = ProtocolError, "MQTT-3-8.3-4", "section 3.8.3.1", "the requested QoS is 3";
    RETAIN_HANDLING_3 = ProtocolError, "", "section 3.8.3.1", "the retain handling is 3";
    NO_LOCAL_SHARED = ProtocolError, "", "MQTT-3.8.3-4", "no local on a shared subscription";
    UNSUBSCRIBE_EMPTY = ProtocolError, "MQTT-3.10.3-2", "MQTT-3.10.3-2", "UNSUBSCRIBE without a topic filter";
    SUBACK_CODE = MalformedPacket, "MQTT-3.9.3-2", "section 3.9.3", "SUBACK with a return code that is reserved";
    SUBACK_EMPTY = MalformedPacket, "MQTT-3.8.4-5", "MQTT-3.8.4-6", "SUBACK without a return code";
    UNSUBACK_EMPTY = MalformedPacket, "", "MQTT-3.11.3-1", "UNSUBACK without a reason code";
}

//! The table of MQTT 5.0's properties: which there are, of what kind, and in which packets.

/// Where a list of properties stands.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Connect,
    Will,
    ConnAck,
    PublishFromClient,
    PublishFromServer,
    Ack,
    Subscribe,
    SubAck,
    Unsubscribe,
    UnsubAck,
    DisconnectFromClient,
    DisconnectFromServer,
    Auth,
}

const CONNECT: u16 = 1 << Place::Connect as u16;
const WILL: u16 = 1 << Place::Will as u16;
const CONNACK: u16 = 1 << Place::ConnAck as u16;
const PUBLISH_OUT: u16 = 1 << Place::PublishFromServer as u16;
const PUBLISH: u16 = 1 << Place::PublishFromClient as u16 | PUBLISH_OUT;
const SUBSCRIBE: u16 = 1 << Place::Subscribe as u16;
const DISCONNECT_IN: u16 = 1 << Place::DisconnectFromClient as u16;
const DISCONNECT_OUT: u16 = 1 << Place::DisconnectFromServer as u16;
const AUTH: u16 = 1 << Place::Auth as u16;
const ANSWERS: u16 = CONNACK
    | 1 << Place::Ack as u16
    | 1 << Place::SubAck as u16
    | 1 << Place::UnsubAck as u16
    | DISCONNECT_IN
    | DISCONNECT_OUT
    | AUTH;
const EVERYWHERE: u16 = u16::MAX;

/// The form of a property's value on the wire.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A byte that is 0 or 1.
    Flag,
    U16,
    /// Two bytes that are not 0.
    U16NotZero,
    U32,
    U32NotZero,
    VariableNotZero,
    Text,
    TopicName,
    Binary,
    Pair,
}

macro_rules! properties {
    ($($name:ident = $id:literal, $kind:ident, $places:expr, $text:literal;)*) => {
        /// A property of MQTT 5.0 (section 2.2.2.2); the number is its identifier on the wire.
        #[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum PropertyId { $(#[doc = $text] $name = $id,)* }

        impl PropertyId {
            #[cfg(test)]
            pub(crate) const ALL: &'static [Self] = &[$(Self::$name,)*];
        }

        /// The row of an identifier: which property, of which kind, allowed where.
        pub(super) const fn row(id: u8) -> Option<(PropertyId, Kind, u16)> {
            match id { $($id => Some((PropertyId::$name, Kind::$kind, $places)),)* _ => None }
        }
    };
}

properties! {
    PayloadFormat = 0x01, Flag, PUBLISH | WILL, "Payload format indicator: 1 says that the payload is UTF-8.";
    MessageExpiry = 0x02, U32, PUBLISH | WILL, "Message expiry interval, seconds.";
    ContentType = 0x03, Text, PUBLISH | WILL, "Content type.";
    ResponseTopic = 0x08, TopicName, PUBLISH | WILL, "Response topic.";
    CorrelationData = 0x09, Binary, PUBLISH | WILL, "Correlation data.";
    SubscriptionId = 0x0B, VariableNotZero, PUBLISH_OUT | SUBSCRIBE, "Subscription identifier.";
    SessionExpiry = 0x11, U32, CONNECT | CONNACK | DISCONNECT_IN, "Session expiry interval, seconds.";
    AssignedClientId = 0x12, Text, CONNACK, "Assigned client identifier.";
    ServerKeepAlive = 0x13, U16, CONNACK, "Server keep alive, seconds.";
    AuthMethod = 0x15, Text, CONNECT | CONNACK | AUTH, "Authentication method.";
    AuthData = 0x16, Binary, CONNECT | CONNACK | AUTH, "Authentication data.";
    RequestProblemInfo = 0x17, Flag, CONNECT, "Request problem information.";
    WillDelay = 0x18, U32, WILL, "Will delay interval, seconds.";
    RequestResponseInfo = 0x19, Flag, CONNECT, "Request response information.";
    ResponseInfo = 0x1A, Text, CONNACK, "Response information.";
    ServerReference = 0x1C, Text, CONNACK | DISCONNECT_OUT, "Server reference.";
    ReasonString = 0x1F, Text, ANSWERS, "Reason string.";
    ReceiveMaximum = 0x21, U16NotZero, CONNECT | CONNACK, "Receive maximum, packets.";
    TopicAliasMaximum = 0x22, U16, CONNECT | CONNACK, "Topic alias maximum.";
    TopicAlias = 0x23, U16NotZero, PUBLISH, "Topic alias.";
    MaximumQos = 0x24, Flag, CONNACK, "Maximum QoS.";
    RetainAvailable = 0x25, Flag, CONNACK, "Retain available.";
    UserProperty = 0x26, Pair, EVERYWHERE, "User property.";
    MaximumPacketSize = 0x27, U32NotZero, CONNECT | CONNACK, "Maximum packet size, bytes.";
    WildcardAvailable = 0x28, Flag, CONNACK, "Wildcard subscription available.";
    SubscriptionIdAvailable = 0x29, Flag, CONNACK, "Subscription identifiers available.";
    SharedAvailable = 0x2A, Flag, CONNACK, "Shared subscription available.";
}

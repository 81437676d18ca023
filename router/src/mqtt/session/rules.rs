//! The rules that a session watches over: those that need to know what came before.

use crate::mqtt::codec::rules::rules;

rules! {
    SECOND_CONNECT = ProtocolError, "MQTT-3.1.0-2", "MQTT-3.1.0-2", "a second CONNECT";
    CLIENT_ID_EMPTY = ClientIdentifierNotValid, "MQTT-3.1.3-8", "section 3.1.3.1",
        "an empty client identifier with a session to keep";
    CLIENT_ID_TOO_LONG = ClientIdentifierNotValid, "MQTT-3.1.3-9", "section 3.1.3.1", "the client identifier is too long";
    AUTH_METHOD = BadAuthenticationMethod, "", "MQTT-4.12.0-1", "no authentication method is offered";
    AUTH_UNASKED = ProtocolError, "", "MQTT-4.12.0-7", "AUTH on a connection without an authentication method";
    KEEP_ALIVE = KeepAliveTimeout, "MQTT-3.1.2-24", "MQTT-3.1.2-22", "nothing heard for 1.5 keep alive intervals";
    TAKEN_OVER = SessionTakenOver, "MQTT-3.1.4-2", "MQTT-3.1.4-3", "the client connected again elsewhere";
    SHUTTING_DOWN = ServerShuttingDown, "section 4.8", "section 3.14.2.1", "the server is shutting down";
    RECEIVE_MAXIMUM = ReceiveMaximumExceeded, "section 4.8", "MQTT-3.3.4-7", "more unacknowledged messages than allowed";
    ALIAS_TOO_LARGE = TopicAliasInvalid, "", "MQTT-3.3.2-9", "the topic alias is above the maximum";
    ALIAS_UNKNOWN = ProtocolError, "", "section 3.3.2.3.4", "the topic alias was never set";
    PUBREC_OF_QOS_1 = ProtocolError, "MQTT-4.3.2-2", "MQTT-4.3.2-4", "PUBREC or PUBCOMP for a QoS 1 message";
    EXPIRY_FROM_ZERO = ProtocolError, "", "section 3.14.2.2.2", "a session expiry for a session that has none";
    RELEASE_NOT_STORED = QuotaExceeded, "section 4.8", "section 4.9", "the store cannot say that a QoS 2 exchange ended";
    NOT_REPLICATED = UnspecifiedError, "section 4.8", "section 4.9", "too few nodes of the site have the message in time";
    STORE_FAILED = UnspecifiedError, "section 4.8", "section 4.9", "the store failed: whether it has the message is not known";
    REFUSED_WITHOUT_ACK = QuotaExceeded, "section 4.8", "section 4.9", "a message is refused and 3.1.1 cannot say so";
}

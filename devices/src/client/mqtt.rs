//! One connection by MQTT 5 or 3.1.1, through rumqttc.
//!
//! Every connection gets an event loop of its own: rumqttc keeps events, packet ids and pending
//! packets of a broken connection, and drops those pending when the server has no session. Here
//! the outbox is the only memory.

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use rumqttc::v5::mqttbytes::QoS as QoS5;
use rumqttc::v5::mqttbytes::v5::{Packet as Packet5, PubAckReason, PublishProperties, SubscribeReasonCode as Sub5};
use rumqttc::{NetworkOptions, Outgoing, QoS, Transport, v5};

use super::config::{Config, Version};
use super::link::{Broke, Heard};
use super::outbox::{Entry, Qos};
use super::terms::Terms;
use crate::sequence::MQTT_PROPERTY;

/// Room in rumqttc's channel beside publishes: two subscriptions, one disconnect.
const OTHER_REQUESTS_MAX: usize = 4;
/// Largest packet that is taken from the node, in bytes.
const PACKET_BYTES_MAX: u32 = 256 * 1024;

/// The connection's engine: it moves only while [`Pump::next`] is awaited.
pub(super) enum Pump {
    V5(Box<v5::EventLoop>),
    V311(Box<rumqttc::EventLoop>),
}

/// The connection's inlet. Never waits; the window fits its channel.
pub(super) struct Inlet {
    /// Most publishes under way.
    pub(super) window: usize,
    client: Client,
}

enum Client {
    V5(v5::AsyncClient),
    V311(rumqttc::AsyncClient),
}

pub(super) fn open(config: &Config, host: &str, port: u16, version: Version, by: Transport) -> (Inlet, Pump) {
    let (client, pump) = engine(config, &bracketed(host), port, version, by);
    (Inlet { window: usize::from(config.in_flight_max), client }, pump)
}

/// TCP with TLS.
#[cfg(feature = "tls")]
pub(super) fn encrypted(tls: &super::Tls) -> Transport {
    Transport::tls_with_config(rumqttc::TlsConfiguration::Rustls(tls.config()))
}

/// An IPv6 address as it stands before a port.
fn bracketed(host: &str) -> Cow<'_, str> {
    if host.contains(':') { format!("[{host}]").into() } else { host.into() }
}

fn engine(config: &Config, host: &str, port: u16, version: Version, by: Transport) -> (Client, Pump) {
    let capacity = usize::from(config.in_flight_max) + OTHER_REQUESTS_MAX;
    let mut network = NetworkOptions::new();
    network.set_tcp_nodelay(true);
    network.set_connection_timeout(config.connect_within.as_secs());
    match version {
        Version::V5 => {
            let mut options = v5::MqttOptions::new(config.client_id(), host, port);
            options
                .set_transport(by)
                .set_keep_alive(config.keep_alive)
                .set_clean_start(true)
                .set_connection_timeout(config.connect_within.as_secs())
                .set_max_packet_size(Some(PACKET_BYTES_MAX))
                .set_outgoing_inflight_upper_limit(config.in_flight_max)
                .set_pending_throttle(Duration::ZERO)
                .set_network_options(network);
            if let Some(login) = &config.login {
                options.set_credentials(login.user.clone(), login.password.clone());
            }
            let (client, pump) = v5::AsyncClient::new(options, capacity);
            (Client::V5(client), Pump::V5(Box::new(pump)))
        }
        Version::V311 => {
            let mut options = rumqttc::MqttOptions::new(config.client_id(), host, port);
            let bytes_max = PACKET_BYTES_MAX as usize;
            options
                .set_transport(by)
                .set_keep_alive(config.keep_alive)
                .set_clean_session(true)
                .set_max_packet_size(bytes_max, bytes_max.max(config.payload_bytes_max + 70_000))
                .set_inflight(config.in_flight_max)
                .set_pending_throttle(Duration::ZERO);
            if let Some(login) = &config.login {
                options.set_credentials(login.user.clone(), login.password.clone());
            }
            let (client, mut pump) = rumqttc::AsyncClient::new(options, capacity);
            pump.set_network_options(network);
            (Client::V311(client), Pump::V311(Box::new(pump)))
        }
    }
}

impl Inlet {
    /// Sends a publish on; `false` when the channel is full or closed.
    pub(super) fn publish(&self, entry: &Entry) -> bool {
        let (topic, payload) = (entry.topic.as_str(), entry.payload.clone());
        match &self.client {
            Client::V5(client) => {
                let qos = match entry.qos {
                    Qos::AtMostOnce => QoS5::AtMostOnce,
                    Qos::AtLeastOnce => QoS5::AtLeastOnce,
                };
                client.try_publish_with_properties(topic, qos, false, payload, properties(entry)).is_ok()
            }
            Client::V311(client) => {
                let qos = match entry.qos {
                    Qos::AtMostOnce => QoS::AtMostOnce,
                    Qos::AtLeastOnce => QoS::AtLeastOnce,
                };
                client.try_publish(topic, qos, false, payload).is_ok()
            }
        }
    }

    pub(super) fn subscribe(&self, filter: &str) -> bool {
        match &self.client {
            Client::V5(client) => client.try_subscribe(filter, QoS5::AtLeastOnce).is_ok(),
            Client::V311(client) => client.try_subscribe(filter, QoS::AtLeastOnce).is_ok(),
        }
    }

    pub(super) fn disconnect(&self) -> bool {
        match &self.client {
            Client::V5(client) => client.try_disconnect().is_ok(),
            Client::V311(client) => client.try_disconnect().is_ok(),
        }
    }
}

impl Pump {
    /// The next thing heard. Must be awaited to its end: dropping it midway loses what it did.
    pub(super) async fn next(&mut self) -> Result<Heard, Broke> {
        match self {
            Self::V5(pump) => Ok(match pump.poll().await? {
                v5::Event::Outgoing(outgoing) => from_outgoing(outgoing),
                v5::Event::Incoming(packet) => from_v5(packet),
            }),
            Self::V311(pump) => Ok(match pump.poll().await? {
                rumqttc::Event::Outgoing(outgoing) => from_outgoing(outgoing),
                rumqttc::Event::Incoming(packet) => from_v311(packet),
            }),
        }
    }
}

/// The publish's own properties, and its number for the node.
fn properties(entry: &Entry) -> PublishProperties {
    let number = entry.sequence().map(|sequence| (MQTT_PROPERTY.to_owned(), sequence.to_string()));
    let user_properties = entry.properties.iter().cloned().chain(number).collect();
    PublishProperties { user_properties, ..PublishProperties::default() }
}

fn from_outgoing(outgoing: Outgoing) -> Heard {
    match outgoing {
        Outgoing::Publish(packet_id) => Heard::Written { packet_id },
        Outgoing::Disconnect => Heard::Disconnecting,
        _ => Heard::Other,
    }
}

fn from_v5(packet: Packet5) -> Heard {
    match packet {
        Packet5::ConnAck(_) => Heard::Connected { known: Vec::new() },
        Packet5::SubAck(ack) => {
            Heard::Subscribed { granted: ack.return_codes.iter().all(|code| matches!(code, Sub5::Success(_))) }
        }
        Packet5::PubAck(ack) => Heard::Acked { packet_id: ack.pkid, refused: refusal(ack.reason) },
        Packet5::Publish(publish) => Heard::Received {
            terms: terms(publish.properties.as_ref()),
            topic: publish.topic,
            payload: publish.payload,
        },
        _ => Heard::Other,
    }
}

fn from_v311(packet: rumqttc::Packet) -> Heard {
    use rumqttc::Packet;
    match packet {
        Packet::ConnAck(_) => Heard::Connected { known: Vec::new() },
        Packet::SubAck(ack) => Heard::Subscribed {
            granted: ack.return_codes.iter().all(|code| matches!(code, rumqttc::SubscribeReasonCode::Success(_))),
        },
        Packet::PubAck(ack) => Heard::Acked { packet_id: ack.pkid, refused: None },
        Packet::Publish(publish) => {
            Heard::Received { topic: Bytes::from(publish.topic), payload: publish.payload, terms: terms(None) }
        }
        _ => Heard::Other,
    }
}

/// What a publish says of the command that it may be.
fn terms(properties: Option<&PublishProperties>) -> Terms {
    let expires_in = properties.and_then(|properties| properties.message_expiry_interval);
    let user = properties.map_or(&[][..], |properties| &properties.user_properties);
    let expires_in = expires_in.map(|seconds| Duration::from_secs(u64::from(seconds)));
    Terms::new(expires_in, user.iter().map(|(name, value)| (name.as_str(), value.as_str())))
}

/// The reason code of a refusal [MQTT5 3.4.2.1]; `None` for both kinds of success.
fn refusal(reason: PubAckReason) -> Option<u8> {
    match reason {
        PubAckReason::Success | PubAckReason::NoMatchingSubscribers => None,
        PubAckReason::UnspecifiedError => Some(0x80),
        PubAckReason::ImplementationSpecificError => Some(0x83),
        PubAckReason::NotAuthorized => Some(0x87),
        PubAckReason::TopicNameInvalid => Some(0x90),
        PubAckReason::PacketIdentifierInUse => Some(0x91),
        PubAckReason::QuotaExceeded => Some(0x97),
        PubAckReason::PayloadFormatInvalid => Some(0x99),
    }
}

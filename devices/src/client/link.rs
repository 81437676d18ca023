//! One connection to the node, whatever carries it: what it says, what it takes.
//!
//! The client's task knows these three alone. A connection is made anew each time, and remembers nothing: the outbox
//! is the only memory.

use bytes::Bytes;

use super::config::{Config, Transport};
use super::mqtt;
use super::outbox::Entry;
#[cfg(feature = "quic")]
use super::quic;
use super::terms::Terms;
#[cfg(feature = "quic")]
use crate::command::CommandId;
#[cfg(feature = "quic")]
use crate::native::Refusal;
use crate::sequence::{Lane, Number};

/// What a connection says.
pub(super) enum Heard {
    /// It stands. `known` are the last numbers that the node has of each lane, where it says so (QUIC).
    Connected { known: Vec<(Lane, Number)> },
    /// The node's answer to one subscription: that of the device's commands, or of its twin (MQTT).
    Subscribed { granted: bool },
    /// The oldest publish handed over and not yet written was written: of those with a number under this packet id
    /// (MQTT), of those without under 0 (both).
    Written { packet_id: u16 },
    /// The node acknowledged, or refused with a reason code (MQTT).
    Acked { packet_id: u16, refused: Option<u8> },
    /// Everything of a lane up to this number is durable, or was refused before (QUIC).
    #[cfg(feature = "quic")]
    AckedUpTo { lane: Lane, number: Number },
    /// These are refused for good (QUIC).
    #[cfg(feature = "quic")]
    RefusedRange { lane: Lane, boot: u64, first: u64, last: u64, why: Refusal },
    /// Nothing of a lane is stored behind its last acknowledgement: after a pause, what is not acknowledged is
    /// handed over again (QUIC).
    #[cfg(feature = "quic")]
    LaneReset { lane: Lane },
    /// A command; to be confirmed under `confirm` once it is taken (QUIC).
    #[cfg(feature = "quic")]
    Command { id: CommandId, name: String, payload: Bytes, terms: Terms, confirm: u64 },
    /// A message to the device (MQTT; QUIC brings its twin so).
    Received { topic: Bytes, payload: Bytes, terms: Terms },
    /// The farewell was written.
    Disconnecting,
    /// Nothing that matters.
    Other,
}

/// Why a connection ended, in its engine's words.
pub(super) type Broke = Box<dyn std::error::Error + Send + Sync>;

/// The device's counter of boots is behind.
#[cfg(feature = "quic")]
#[derive(Debug, thiserror::Error)]
#[error("the node knows a later boot of this device; it says which when it is asked anew")]
pub(super) struct Stale;

/// Whether the connection was given up for the boot's sake. The next one learns a later boot; where that is stale
/// again, there is none, and the node is not to be asked soon.
pub(super) fn is_stale(error: &Broke) -> bool {
    #[cfg(feature = "quic")]
    return error.is::<Stale>();
    #[cfg(not(feature = "quic"))]
    {
        let _ = error;
        false
    }
}

/// Whether the node closed the connection for what would happen again: it is not to be asked soon.
#[cfg(feature = "quic")]
pub(super) fn is_closed_for_long(error: &Broke) -> bool {
    error.downcast_ref::<quic::Closed>().is_some_and(quic::Closed::is_for_long)
}

/// Only QUIC says why.
#[cfg(not(feature = "quic"))]
pub(super) fn is_closed_for_long(_error: &Broke) -> bool {
    false
}

/// The connection's engine: it moves only while [`Pump::next`] is awaited.
pub(super) enum Pump {
    Mqtt(mqtt::Pump),
    #[cfg(feature = "quic")]
    Quic(quic::Pump),
}

/// The connection's inlet. It never waits.
pub(super) enum Inlet {
    Mqtt(mqtt::Inlet),
    #[cfg(feature = "quic")]
    Quic(quic::Inlet),
}

/// A connection that is not yet made. `commands`: whether the device takes commands.
pub(super) fn open(config: &Config, commands: bool) -> (Inlet, Pump) {
    let by_mqtt = |(inlet, pump)| (Inlet::Mqtt(inlet), Pump::Mqtt(pump));
    // Only QUIC says at once whether commands are taken.
    let _ = commands;
    match &config.transport {
        Transport::Mqtt { host, port, version } => {
            by_mqtt(mqtt::open(config, host, *port, *version, rumqttc::Transport::Tcp))
        }
        #[cfg(feature = "tls")]
        Transport::Mqtts { host, port, version, tls } => {
            by_mqtt(mqtt::open(config, host, *port, *version, mqtt::encrypted(tls)))
        }
        #[cfg(feature = "quic")]
        Transport::Quic { host, port, tls, endpoint } => {
            let target = quic::Target { host, port: *port, tls, endpoint: endpoint.as_ref() };
            let (inlet, pump) = quic::open(config, target, commands);
            (Inlet::Quic(inlet), Pump::Quic(pump))
        }
    }
}

impl Inlet {
    /// Whether it takes another publish of a lane, `under_way` being those of all lanes without an acknowledgement.
    pub(super) fn has_room(&self, lane: Lane, under_way: usize) -> bool {
        // By MQTT all lanes share one window.
        let _ = lane;
        match self {
            Self::Mqtt(inlet) => under_way < inlet.window,
            #[cfg(feature = "quic")]
            Self::Quic(inlet) => inlet.has_room(lane),
        }
    }

    /// Whether acknowledgements come by packet id, and each numbered publish is told when it is written.
    pub(super) fn has_packet_ids(&self) -> bool {
        match self {
            Self::Mqtt(_) => true,
            #[cfg(feature = "quic")]
            Self::Quic(_) => false,
        }
    }

    /// Whether commands and the twin have to be subscribed to.
    pub(super) fn must_subscribe(&self) -> bool {
        self.has_packet_ids()
    }

    /// Sends a publish on; `false` when it takes no more now. It may hold some back to send them together.
    pub(super) fn publish(&mut self, entry: &Entry) -> bool {
        match self {
            Self::Mqtt(inlet) => inlet.publish(entry),
            #[cfg(feature = "quic")]
            Self::Quic(inlet) => inlet.publish(entry),
        }
    }

    /// Nothing more comes for now: what was held back is sent.
    pub(super) fn flush(&mut self) {
        match self {
            Self::Mqtt(_) => {}
            #[cfg(feature = "quic")]
            Self::Quic(inlet) => inlet.flush(),
        }
    }

    /// Subscribes to the device's commands, or to its twin.
    pub(super) fn subscribe(&mut self, filter: &str) -> bool {
        match self {
            Self::Mqtt(inlet) => inlet.subscribe(filter),
            // The greeting says it.
            #[cfg(feature = "quic")]
            Self::Quic(_) => true,
        }
    }

    /// Confirms that a command arrived.
    #[cfg(feature = "quic")]
    pub(super) fn confirm(&mut self, delivery: u64) {
        match self {
            // The engine has confirmed it.
            Self::Mqtt(_) => {}
            Self::Quic(inlet) => inlet.confirm(delivery),
        }
    }

    /// Asks for the farewell; [`Heard::Disconnecting`] follows.
    pub(super) fn disconnect(&mut self) -> bool {
        match self {
            Self::Mqtt(inlet) => inlet.disconnect(),
            #[cfg(feature = "quic")]
            Self::Quic(inlet) => inlet.disconnect(),
        }
    }
}

impl Pump {
    /// The next thing heard. Must be awaited to its end: dropping it midway loses what it did.
    pub(super) async fn next(&mut self) -> Result<Heard, Broke> {
        match self {
            Self::Mqtt(pump) => pump.next().await,
            #[cfg(feature = "quic")]
            Self::Quic(pump) => pump.next().await,
        }
    }
}

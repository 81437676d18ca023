//! The frames of the events stream: subscriptions, and what they bring.

use serde::{Deserialize, Serialize};

use super::code::Refusal;
use super::lane::bytes;

/// From the client, on the events stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Want<'a> {
    /// Events published from now on whose MQTT topic matches.
    Subscribe {
        /// An MQTT topic filter.
        filter: &'a str,
    },
    /// No more of these.
    Unsubscribe {
        /// The filter as it was subscribed to.
        filter: &'a str,
    },
}

/// From the node, on the events stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Told<'a> {
    /// The answer to each [`Want::Subscribe`], in order.
    Subscribed {
        /// Why not; `None`: it holds from now on.
        refused: Option<Refusal>,
    },
    /// The answer to each [`Want::Unsubscribe`], in order.
    Unsubscribed,
    /// An event. One that matches several filters comes once.
    Event {
        /// Its MQTT topic.
        topic: &'a str,
        /// When it happened, in milliseconds since 1970.
        timestamp_ms: i64,
        /// Its payload.
        #[serde(with = "bytes")]
        payload: &'a [u8],
    },
}

//! What a stream is for, and the frames of the control stream.

use serde::{Deserialize, Serialize};

use super::lane::bytes;
use crate::sequence::Number;

/// The first frame of every stream that a client opens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Open<'a> {
    /// The control stream: the first of a connection, and the only one of its kind.
    #[serde(borrow)]
    Hello(Hello<'a>),
    /// A lane, by its number; [`super::Publish`] frames follow. A lane that is opened again replaces its stream.
    Lane(u8),
    /// Subscriptions; [`super::Want`] frames follow.
    Events,
}

/// Who connects.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello<'a> {
    /// The device's name: 1 to 128 bytes that fit one level of an MQTT topic.
    pub device: &'a str,
    /// What runs on it, for people: name and version, at most 128 bytes.
    pub agent: &'a str,
    /// Whether it takes commands.
    pub commands: bool,
    /// Proof that it may connect; empty where the node asks for none.
    #[serde(with = "bytes")]
    pub token: &'a [u8],
}

/// What the node has of one lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaneState {
    /// The lane's number.
    pub lane: u8,
    /// The last number that is durable. What is up to it need not be sent again.
    pub last: Number,
}

/// What a client may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Most bytes of one frame without its length.
    pub frame_bytes_max: u32,
    /// Most events in one [`super::Publish`].
    pub events_per_frame_max: u32,
    /// Most [`super::Publish`] frames of a lane that are not acknowledged: the credit.
    pub frames_in_flight_max: u32,
}

/// From the node, on the control stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToDevice<'a> {
    /// The answer to [`Hello`], first.
    Welcome {
        /// The node's name.
        node: &'a str,
        /// Its store's life.
        origin: u64,
        /// Its wall clock, in milliseconds since 1970; for devices that have none.
        now_ms: i64,
        /// What the client may send.
        limits: Limits,
        /// What the node has of each lane that it knows; lanes without an entry are new.
        lanes: Vec<LaneState>,
    },
    /// A command. The client says [`FromDevice::Received`] at once, and answers by publishing to
    /// `edgeway/answer/{device}/{id}/{status}`.
    Command {
        /// This delivery's number: from 1, rising by one.
        delivery: u64,
        /// The device it is for: the client itself, or one that is reached through it.
        device: &'a str,
        /// The command's id: a UUID's 16 bytes, as they are written.
        id: [u8; 16],
        /// What to do.
        name: &'a str,
        /// Milliseconds from now after which it must not be begun.
        expires_in_ms: Option<u64>,
        /// What else is to be said of it, by the names of MQTT 5's user properties: `deliver-by`, `execution-timeout`,
        /// `attempt`, `urgent`, `repeat`.
        properties: Vec<(&'a str, &'a str)>,
        /// What it is to be done with.
        #[serde(with = "bytes")]
        payload: &'a [u8],
    },
}

/// From the device, on the control stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromDevice {
    /// All commands up to this delivery have arrived.
    Received {
        /// The delivery's number.
        delivery: u64,
    },
    /// The client goes, everything is said; it then ends its side of the stream.
    Goodbye,
}

//! The numbers that say why: of a closed connection, of a stream that was reset, of an event that was refused.

use serde::{Deserialize, Serialize};

/// Why a node closed a connection: QUIC's application error code (RFC 9000 section 20.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Close {
    /// All is done.
    Ended = 0,
    /// No stream was opened, no first frame came, or a frame was not ended, in time.
    NoStream = 1,
    /// The node stops; connect again later.
    Stopping = 2,
    /// The protocol that TLS agreed on is not spoken here.
    UnknownProtocol = 3,
    /// A frame that cannot be read.
    Malformed = 4,
    /// A frame or event over its bound.
    TooLarge = 5,
    /// A frame that has no place here: another first frame, a second control stream, numbers that do not rise.
    OutOfPlace = 6,
    /// More than was granted: streams, publishes without an acknowledgement, subscriptions.
    TooMuch = 7,
    /// Another connection speaks for this device now.
    TakenOver = 8,
    /// The device's name cannot be one, or it may not connect.
    NotAllowed = 9,
    /// What the node sent was not read for too long.
    NotReading = 10,
    /// The node has no room for another connection; try later.
    Busy = 11,
}

impl Close {
    /// All codes.
    pub const ALL: [Self; 12] = [
        Self::Ended,
        Self::NoStream,
        Self::Stopping,
        Self::UnknownProtocol,
        Self::Malformed,
        Self::TooLarge,
        Self::OutOfPlace,
        Self::TooMuch,
        Self::TakenOver,
        Self::NotAllowed,
        Self::NotReading,
        Self::Busy,
    ];

    /// The code of a number.
    pub fn from_number(number: u64) -> Option<Self> {
        usize::try_from(number).ok().and_then(|at| Self::ALL.get(at)).copied()
    }

    /// Whether connecting again, as the same device and with the same frames, cannot end otherwise.
    pub fn is_final(self) -> bool {
        matches!(self, Self::UnknownProtocol | Self::Malformed | Self::TooLarge | Self::OutOfPlace | Self::NotAllowed)
    }
}

/// Why a node reset a lane's stream: QUIC's application error code of the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Reset {
    /// The store took nothing for now (it is full, say). Nothing after the last acknowledgement is stored: open the
    /// lane again after a while and send all that is not acknowledged.
    TryAgain = 1,
}

impl Reset {
    /// The code of a number.
    pub fn from_number(number: u64) -> Option<Self> {
        (number == Self::TryAgain as u64).then_some(Self::TryAgain)
    }
}

/// Why an event was refused for good. Sending it again would end no otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refusal {
    /// The topic is no MQTT topic name.
    TopicInvalid,
    /// The device may not publish to this topic.
    NotAllowed,
    /// No routing rule names the topic, and the rules are strict.
    NoRule,
    /// The event is over the node's bound.
    TooLarge,
    /// A number of an earlier boot: the device's counter of boots went back, or two devices have one name.
    StaleBoot,
    /// The node keeps numbers for as many devices as it may.
    TooManyDevices,
}

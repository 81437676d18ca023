//! `edgeway/1`, the native protocol between a device and a node over QUIC: its frames, byte for byte.
//!
//! A client opens two-way streams, and says with each one's first frame ([`Open`]) what it is for:
//!
//! - one **control** stream, the first: who it is ([`Hello`]), then commands ([`ToDevice`], [`FromDevice`]);
//! - a stream for each **lane** in use: numbered events in batches, cumulative acknowledgements
//!   ([`Publish`], [`LaneReply`]); what is urgent has a stream of its own and waits for nothing;
//! - at most one **events** stream: subscriptions and what they bring ([`Want`], [`Told`]).
//!
//! Readings that may be lost travel as QUIC datagrams ([`Datagram`]). Each frame on a stream is its
//! length (LEB128) and its postcard bytes; `docs/edgeway-1.md` draws them for firmware authors. The
//! version is the ALPN's: what another version says differently has another name.

mod code;
mod control;
mod events;
mod framing;
#[cfg(test)]
mod golden;
mod lane;

pub use code::{Close, Refusal, Reset};
pub use control::{FromDevice, Hello, LaneState, Limits, Open, ToDevice};
pub use events::{Told, Want};
pub use framing::{FRAME_BYTES_MAX, FrameError, Framed, decode, encode, next_frame};
pub use lane::{Datagram, EVENTS_PER_FRAME_MAX, Event, LaneReply, Publish, Refused, bytes};

/// The application protocol's name in TLS.
pub const ALPN: &[u8] = b"edgeway/1";
/// Two-way streams that a client may have open: control, lanes, events, and room for one lane that is opened anew.
pub const STREAMS_MAX: u32 = 6;

//! The session against the rules of both specifications, packet by packet.

mod ending;
mod inbound;
mod noise;
mod opening;
mod subscribing;
mod windows;

use super::*;
use crate::mqtt::codec::*;

pub(super) const NOW: u64 = 1_000_000;

/// A CONNECT of `client` with a will-less clean start.
pub(super) fn connect(version: Version) -> Connect<'static> {
    Connect {
        version,
        clean_start: true,
        keep_alive_s: 60,
        client_id: "client",
        will: None,
        user_name: None,
        password: None,
        properties: Properties::NONE,
    }
}

pub(super) fn properties(list: &[(PropertyId, Value<'_>)]) -> PropertyBuffer {
    let mut buffer = PropertyBuffer::new();
    for (id, value) in list {
        buffer.put(*id, *value).unwrap();
    }
    buffer
}

pub(super) fn accept(connect: &Connect<'_>, limits: &Limits, kept: Option<KeptSession>) -> Accepted {
    Opening::new(connect, limits, "assigned-1").unwrap().accept(kept, NOW).unwrap()
}

/// A session with the default limits.
pub(super) fn session(version: Version) -> Session {
    accept(&connect(version), &Limits::default(), None).session
}

pub(super) fn publish(qos: Qos, packet_id: u16) -> Publish<'static> {
    Publish { topic: "a/b", payload: b"x", properties: Properties::NONE, packet_id, qos, dup: false, retain: false }
}

pub(super) fn ack(packet_id: u16) -> Ack<'static> {
    Ack { packet_id, reason: Reason::Success, properties: Properties::NONE }
}

/// What a client reads in `frame`.
pub(super) fn read(frame: &[u8], version: Version) -> Packet<'_> {
    match decode(frame, &Settings::client(version)).unwrap() {
        Decoded::Packet { packet, len } if len == frame.len() => packet,
        other => panic!("{other:?}"),
    }
}

pub(super) fn anything(_: &str) -> bool {
    true
}

pub(super) fn event(offset: u64) -> EventRef {
    EventRef { origin: 1, topic: 2, partition: 3, offset }
}

//! MQTT 3.1.1 packets, made by hand once and sent many times.

use crate::bench::payload::{Numbers, Payload};

/// Frames of one connection, all of one length, in a ring that is sent round
/// and round. Packet identifiers are fixed: the ring is much longer than the
/// window of unacknowledged frames, so that none is in use twice.
#[derive(Debug)]
pub struct FrameRing {
    /// The frames, and once more as many of the first as one write may hold.
    bytes: Vec<u8>,
    /// The length of one frame.
    pub frame_bytes: usize,
}

/// Frames in a ring; 4096 distinct readings a connection.
pub const RING_FRAMES: usize = 4096;
/// The most frames that one write holds.
pub const WRITE_FRAMES_MAX: usize = 512;

/// The devices that one connection speaks for.
const DEVICES_PER_CONNECTION: usize = 4;

impl FrameRing {
    /// The frames of connection number `connection`, at `qos` 0 or 1.
    pub fn new(connection: usize, qos: u8, payload: Payload) -> FrameRing {
        FrameRing::below("sensors", connection, qos, payload)
    }

    /// The same with MQTT topics below another first level.
    pub fn below(root: &str, connection: usize, qos: u8, payload: Payload) -> FrameRing {
        let mut numbers = Numbers::new(connection as u64);
        let mut bytes = Vec::new();
        let mut body = Vec::new();
        for frame in 0..RING_FRAMES {
            let device = format!("dev-{connection}{}", frame % DEVICES_PER_CONNECTION);
            body.clear();
            payload.write(&mut body, &device, frame as u64, &mut numbers);
            let topic = format!("{root}/{device}/temperature");
            publish(&mut bytes, &topic, qos, packet_id(frame as u64), &body);
        }
        let frame_bytes = bytes.len() / RING_FRAMES;
        bytes.extend_from_within(..frame_bytes * WRITE_FRAMES_MAX);
        FrameRing { bytes, frame_bytes }
    }

    /// The bytes from position `from` of the endless stream of frames, at most
    /// `limit` of them.
    pub fn slice(&self, from: u64, limit: u64) -> &[u8] {
        let start = (from % (RING_FRAMES * self.frame_bytes) as u64) as usize;
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let end = start.saturating_add(limit).min(self.bytes.len());
        self.bytes.get(start..end).unwrap_or_default()
    }
}

/// The packet identifier of a connection's `frame`-th PUBLISH.
pub fn packet_id(frame: u64) -> u16 {
    (frame % RING_FRAMES as u64) as u16 + 1
}

/// The PUBACK that answers a connection's `frame`-th PUBLISH.
pub fn expected_puback(frame: u64) -> [u8; 4] {
    let [high, low] = packet_id(frame).to_be_bytes();
    [0x40, 0x02, high, low]
}

/// Appends a PUBLISH; at QoS 0 the identifier is left out.
pub fn publish(out: &mut Vec<u8>, topic: &str, qos: u8, packet_id: u16, payload: &[u8]) {
    out.push(0x30 | (qos << 1));
    let id_bytes = if qos == 0 { 0 } else { 2 };
    push_length(out, 2 + topic.len() + id_bytes + payload.len());
    push_text(out, topic);
    if qos > 0 {
        out.extend_from_slice(&packet_id.to_be_bytes());
    }
    out.extend_from_slice(payload);
}

/// A CONNECT with a clean session and no keep-alive.
pub fn connect(client_id: &str) -> Vec<u8> {
    let mut out = vec![0x10];
    push_length(&mut out, 10 + 2 + client_id.len());
    push_text(&mut out, "MQTT");
    out.extend_from_slice(&[4, 0x02, 0, 0]);
    push_text(&mut out, client_id);
    out
}

/// A SUBSCRIBE with packet identifier 1.
pub fn subscribe(filter: &str, qos: u8) -> Vec<u8> {
    let mut out = vec![0x82];
    push_length(&mut out, 2 + 2 + filter.len() + 1);
    out.extend_from_slice(&[0, 1]);
    push_text(&mut out, filter);
    out.push(qos);
    out
}

fn push_text(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(&(text.len() as u16).to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn push_length(out: &mut Vec<u8>, mut length: usize) {
    while length >= 0x80 {
        out.push(length as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::inbound::{Frame, next_frame};

    #[test]
    fn a_ring_repeats_without_a_seam() {
        let ring = FrameRing::new(3, 1, Payload::Reading);
        let whole = (RING_FRAMES * ring.frame_bytes) as u64;
        let across = ring.slice(whole - 5, 5 + ring.frame_bytes as u64);
        let (end, start) = across.split_at(5);
        assert_eq!(end, ring.slice(whole - 5, 5));
        assert_eq!(start, ring.slice(0, ring.frame_bytes as u64));
        assert!(ring.slice(whole - 1, u64::MAX).len() > 1);
    }

    #[test]
    fn every_frame_is_a_publish_with_its_own_identifier() {
        let ring = FrameRing::new(7, 1, Payload::Random);
        for frame in [0, 1, 2, 4095, 4096] {
            let bytes = ring.slice(frame * ring.frame_bytes as u64, ring.frame_bytes as u64);
            let (parsed, used) = next_frame(bytes).expect("legal").expect("whole");
            assert_eq!(used, bytes.len());
            let Frame::Publish(publish) = parsed else {
                panic!("{parsed:?} is no PUBLISH");
            };
            assert_eq!(publish.qos, 1);
            assert_eq!(publish.packet_id, packet_id(frame));
            assert_eq!(publish.payload.len(), crate::bench::payload::PAYLOAD_BYTES);
        }
    }
}

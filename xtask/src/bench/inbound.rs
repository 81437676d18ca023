//! What a broker sends back, taken apart as cheaply as can be.

use crate::bench::error::BenchError;
use crate::bench::frames::expected_puback;

/// One packet from the broker.
#[derive(Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    Publish(Publish<'a>),
    /// Any other packet: its first byte and its body.
    Other(u8, &'a [u8]),
}

/// A delivered message.
#[derive(Debug, PartialEq, Eq)]
pub struct Publish<'a> {
    pub qos: u8,
    pub topic: &'a [u8],
    /// 0 at QoS 0.
    pub packet_id: u16,
    pub payload: &'a [u8],
}

/// The first packet in `bytes` and its length; `None` when it is not whole yet.
pub fn next_frame(bytes: &[u8]) -> Result<Option<(Frame<'_>, usize)>, BenchError> {
    let Some((&first, rest)) = bytes.split_first() else {
        return Ok(None);
    };
    let Some((length, length_bytes)) = remaining_length(rest)? else {
        return Ok(None);
    };
    let Some(body) = rest.get(length_bytes..length_bytes + length) else {
        return Ok(None);
    };
    let used = 1 + length_bytes + length;
    if first >> 4 != 3 {
        return Ok(Some((Frame::Other(first, body), used)));
    }
    let publish = publish(first, body).ok_or(BenchError::Protocol("a PUBLISH that is cut short"))?;
    Ok(Some((Frame::Publish(publish), used)))
}

fn publish(first: u8, body: &[u8]) -> Option<Publish<'_>> {
    let qos = (first >> 1) & 3;
    let (topic_length, rest) = body.split_first_chunk::<2>()?;
    let (topic, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*topic_length)))?;
    let (packet_id, payload) = match qos {
        0 => (0, rest),
        _ => {
            let (id, payload) = rest.split_first_chunk::<2>()?;
            (u16::from_be_bytes(*id), payload)
        }
    };
    Some(Publish { qos, topic, packet_id, payload })
}

fn remaining_length(bytes: &[u8]) -> Result<Option<(usize, usize)>, BenchError> {
    let mut length = 0;
    for (index, &byte) in bytes.iter().take(4).enumerate() {
        length |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Ok(Some((length, index + 1)));
        }
    }
    match bytes.len() {
        0..4 => Ok(None),
        _ => Err(BenchError::Protocol("a length of more than four bytes")),
    }
}

/// Counts the PUBACKs in `bytes`, which must come in the order of the PUBLISHes
/// [MQTT-4.6.0-2]; `acked` were counted before. Returns how many there were;
/// what is left over is less than one PUBACK.
pub fn count_pubacks(bytes: &[u8], acked: u64) -> Result<u64, BenchError> {
    let mut count = 0;
    for ack in bytes.as_chunks::<4>().0 {
        if *ack != expected_puback(acked + count) {
            return Err(BenchError::Protocol("a PUBACK out of order, or another packet"));
        }
        count += 1;
    }
    Ok(count)
}

/// What a subscriber got in one read.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Delivered {
    /// Messages.
    pub count: u64,
    /// Bytes taken; the rest is the start of a packet.
    pub used: usize,
}

/// Counts the PUBLISHes in `bytes` and appends a PUBACK for each at QoS 1.
pub fn count_deliveries(bytes: &[u8], acks: &mut Vec<u8>) -> Result<Delivered, BenchError> {
    let mut delivered = Delivered::default();
    while let Some((frame, used)) = next_frame(bytes.get(delivered.used..).unwrap_or_default())? {
        let Frame::Publish(publish) = frame else {
            return Err(BenchError::Protocol("a packet that is no PUBLISH"));
        };
        if publish.qos == 1 {
            let [high, low] = publish.packet_id.to_be_bytes();
            acks.extend_from_slice(&[0x40, 0x02, high, low]);
        }
        delivered.count += 1;
        delivered.used += used;
    }
    Ok(delivered)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::frames::publish;

    #[test]
    fn deliveries_are_counted_over_any_cut() {
        let mut bytes = Vec::new();
        for id in 1..=5 {
            publish(&mut bytes, "sensors/a/t", (id % 2) as u8, id, &[b'x'; 200]);
        }
        for cut in 0..bytes.len() {
            let mut acks = Vec::new();
            let first = count_deliveries(&bytes[..cut], &mut acks).expect("legal");
            let rest = count_deliveries(&bytes[first.used..], &mut acks).expect("legal");
            assert_eq!(first.count + rest.count, 5, "cut at {cut}");
            assert_eq!(first.used + rest.used, bytes.len());
            assert_eq!(acks, [0x40, 2, 0, 1, 0x40, 2, 0, 3, 0x40, 2, 0, 5]);
        }
    }

    #[test]
    fn pubacks_must_be_in_order() {
        let acks = [expected_puback(0), expected_puback(1), expected_puback(2)].concat();
        assert_eq!(count_pubacks(&acks, 0).expect("in order"), 3);
        assert_eq!(count_pubacks(&acks[..7], 0).expect("in order"), 1);
        assert!(count_pubacks(&acks, 1).is_err());
        assert!(count_pubacks(&[0xe0, 0, 0, 0], 0).is_err());
    }

    #[test]
    fn a_length_is_at_most_four_bytes() {
        assert!(next_frame(&[0x30, 0x80, 0x80, 0x80, 0x80, 1]).is_err());
        assert_eq!(next_frame(&[0x30, 0x80, 0x80]).expect("not whole"), None);
    }
}

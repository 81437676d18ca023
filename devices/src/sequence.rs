//! A device's own numbers for its events: lane, boot and sequence, which make a resend recognisable.
//!
//! A device numbers what it publishes, apart for each lane. Within a lane numbers only rise: by
//! boot first, by sequence within a boot. Gaps are fine, as a bounded buffer may drop. The node
//! keeps the last number of each lane in the same commit as the events, so that whatever comes
//! again is acknowledged and not appended again.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Lanes that a device has.
pub const LANES: u8 = 3;
/// The MQTT 5 user property that numbers a publish: its value is `{lane}.{boot}.{sequence}`, three decimal numbers.
pub const MQTT_PROPERTY: &str = "edgeway-seq";

/// A lane: events of one urgency, in order among themselves and independent of the other lanes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lane(u8);

impl Lane {
    /// Alarms and answers: never behind anything else.
    pub const URGENT: Self = Self(0);
    /// Live readings.
    pub const NORMAL: Self = Self(1);
    /// Bulk: history, files, logs.
    pub const BULK: Self = Self(2);
    /// All lanes, the most urgent first.
    pub const ALL: [Self; LANES as usize] = [Self::URGENT, Self::NORMAL, Self::BULK];

    /// The lane of a number, the most urgent being 0; `None` from [`LANES`] on.
    pub fn new(number: u8) -> Option<Self> {
        (number < LANES).then_some(Self(number))
    }

    /// Its number, as it is sent.
    pub fn number(self) -> u8 {
        self.0
    }

    /// Its place in a table of all lanes.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// An event's number within its lane. Ordered by boot, then by sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Number {
    /// The device's counter of its own starts.
    pub boot: u64,
    /// The event's sequence number within the boot.
    pub seq: u64,
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.boot, self.seq)
    }
}

/// An event's lane and number: the value of [`MQTT_PROPERTY`] as text, of the `sequence` header as bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sequence {
    /// The lane.
    pub lane: Lane,
    /// The number within the lane.
    pub number: Number,
}

/// A text or header that is no sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a sequence is lane, boot and sequence number, as in 1.17.42; lanes are 0 to 2")]
pub struct SequenceError;

impl fmt::Display for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.lane.0, self.number)
    }
}

impl FromStr for Sequence {
    type Err = SequenceError;

    /// Reads `{lane}.{boot}.{sequence}`; digits alone, no signs or spaces.
    fn from_str(text: &str) -> Result<Self, SequenceError> {
        let mut parts = text.split('.');
        let mut next = || -> Result<u64, SequenceError> {
            let part = parts.next().ok_or(SequenceError)?;
            let digits = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
            if digits { part.parse().map_err(|_| SequenceError) } else { Err(SequenceError) }
        };
        let (lane, boot, seq) = (next()?, next()?, next()?);
        if parts.next().is_some() {
            return Err(SequenceError);
        }
        let lane = u8::try_from(lane).ok().and_then(Lane::new).ok_or(SequenceError)?;
        Ok(Self { lane, number: Number { boot, seq } })
    }
}

/// Most bytes of a header's value: the lane, and two numbers of ten bytes.
pub const HEADER_BYTES_MAX: usize = 21;

impl Sequence {
    /// Appends the header's value: the lane, then boot and sequence number as LEB128.
    pub fn write_header(self, to: &mut Vec<u8>) {
        to.push(self.lane.0);
        write_leb128(self.number.boot, to);
        write_leb128(self.number.seq, to);
    }

    /// Reads a header's value; `None` where it is none.
    pub fn from_header(bytes: &[u8]) -> Option<Self> {
        let (lane, rest) = bytes.split_first()?;
        let (boot, rest) = read_leb128(rest)?;
        let (seq, rest) = read_leb128(rest)?;
        let lane = Lane::new(*lane)?;
        rest.is_empty().then_some(Self { lane, number: Number { boot, seq } })
    }
}

fn write_leb128(mut number: u64, to: &mut Vec<u8>) {
    while number >= 0x80 {
        to.push(number as u8 | 0x80);
        number >>= 7;
    }
    to.push(number as u8);
}

fn read_leb128(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut number = 0_u64;
    for (at, byte) in bytes.iter().enumerate().take(10) {
        let bits = u64::from(byte & 0x7f);
        // The tenth byte has one bit of a 64-bit number.
        if at == 9 && bits > 1 {
            return None;
        }
        number |= bits << (7 * at);
        if byte & 0x80 == 0 {
            return Some((number, &bytes[at + 1..]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sequence(lane: u8, boot: u64, seq: u64) -> Sequence {
        Sequence { lane: Lane::new(lane).unwrap(), number: Number { boot, seq } }
    }

    #[test]
    fn has_golden_text_and_bytes() {
        let cases: [(Sequence, &str, &[u8]); 3] = [
            (sequence(0, 0, 0), "0.0.0", &[0, 0, 0]),
            (sequence(1, 17, 300), "1.17.300", &[1, 17, 0xac, 2]),
            (
                sequence(2, u64::MAX, 127),
                "2.18446744073709551615.127",
                &[2, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1, 127],
            ),
        ];
        for (sequence, text, bytes) in cases {
            assert_eq!(sequence.to_string(), text);
            assert_eq!(text.parse(), Ok(sequence));
            let mut written = Vec::new();
            sequence.write_header(&mut written);
            assert_eq!(written, bytes);
            assert_eq!(Sequence::from_header(bytes), Some(sequence));
            assert!(written.len() <= HEADER_BYTES_MAX);
        }
    }

    #[test]
    fn what_is_none_is_refused() {
        for text in ["", "1", "1.2", "1.2.3.4", "3.1.1", "256.1.1", "-1.1.1", "1.+1.1", "1. 1.1", "1..1", "1.2.x"] {
            assert_eq!(text.parse::<Sequence>(), Err(SequenceError), "{text:?}");
        }
        assert_eq!("1.18446744073709551616.1".parse::<Sequence>(), Err(SequenceError), "one more than fits");
        let overlong: Vec<u8> = [vec![0], vec![255; 9], vec![2, 0]].concat();
        let broken: [&[u8]; 6] = [&[], &[0], &[0, 1], &[3, 1, 1], &[0, 1, 1, 1], &overlong];
        for bytes in broken {
            assert_eq!(Sequence::from_header(bytes), None, "{bytes:?}");
        }
    }

    #[test]
    fn a_later_boot_comes_after_every_number_of_an_earlier_one() {
        let numbers = [(1, 5), (1, 6), (2, 0), (3, 4)].map(|(boot, seq)| Number { boot, seq });
        assert!(numbers.is_sorted());
    }
}

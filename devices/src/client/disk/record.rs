//! A record's bytes, and how records are found in a segment's; pure.

use postcard::ser_flavors::Size;
use serde::{Deserialize, Serialize};

use crate::sequence::Number;

/// The version of a body.
const VERSION: u8 = 1;
/// Bytes before a body: its length and the checksum.
pub(super) const HEAD_BYTES: usize = 8;
/// Most bytes that are read to find the next whole record behind a damaged one, counted again for each try.
const SEARCH_BYTES_MAX: usize = 256 << 20;

/// What a record says.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Body<'a> {
    pub(super) boot: u64,
    pub(super) seq: u64,
    pub(super) timestamp_ms: i64,
    pub(super) topic: &'a str,
    #[serde(with = "crate::native::bytes")]
    pub(super) payload: &'a [u8],
    #[serde(borrow)]
    pub(super) properties: Vec<(&'a str, &'a str)>,
}

impl Body<'_> {
    /// The number, in a segment whose boots are raised by so much.
    pub(super) fn number(&self, boot_add: u64) -> Number {
        Number { boot: self.boot.saturating_add(boot_add), seq: self.seq }
    }

    /// How long the record is.
    pub(super) fn bytes(&self) -> u64 {
        let body = postcard::serialize_with_flavor(self, Size::default()).unwrap_or(usize::MAX - HEAD_BYTES - 1);
        (HEAD_BYTES + 1 + body) as u64
    }

    /// Appends the record. `None` where it is too long for a length of 32 bits, which payloads are not.
    pub(super) fn write(&self, to: &mut Vec<u8>) -> Option<()> {
        let begin = to.len();
        to.extend_from_slice(&[0; HEAD_BYTES]);
        to.push(VERSION);
        *to = postcard::to_extend(self, std::mem::take(to)).ok()?;
        let length = u32::try_from(to.len() - begin - HEAD_BYTES).ok()?.to_le_bytes();
        let sum = checksum(length, &to[begin + HEAD_BYTES..]);
        to[begin..begin + 4].copy_from_slice(&length);
        to[begin + 4..begin + HEAD_BYTES].copy_from_slice(&sum.to_le_bytes());
        Some(())
    }
}

fn checksum(length: [u8; 4], body: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&length), body)
}

/// What is at a place in a segment's bytes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step<'a> {
    /// A whole record, and where the next begins.
    Record { body: Body<'a>, end: usize },
    /// Nothing that can be read; the next whole record begins at `next`, if there is one.
    Damaged { next: Option<usize> },
    /// The end.
    End,
}

/// Reads what is at `at`.
pub(super) fn step(bytes: &[u8], at: usize) -> Step<'_> {
    if at >= bytes.len() {
        return Step::End;
    }
    match whole(bytes, at) {
        Some((body, end)) => Step::Record { body, end },
        None => Step::Damaged { next: search(bytes, at) },
    }
}

/// The record at a place, where it is whole.
fn whole(bytes: &[u8], at: usize) -> Option<(Body<'_>, usize)> {
    let (length, end) = extent(bytes, at)?;
    let body = bytes.get(at + HEAD_BYTES..end)?;
    let sum = u32::from_le_bytes(bytes.get(at + 4..at + HEAD_BYTES)?.try_into().ok()?);
    let (VERSION, rest) = (*body.first()?, body.get(1..)?) else { return None };
    if checksum(length, body) != sum {
        return None;
    }
    match postcard::take_from_bytes(rest) {
        Ok((body, [])) => Some((body, end)),
        _ => None,
    }
}

/// A record's length as it is written, and where it would end.
fn extent(bytes: &[u8], at: usize) -> Option<([u8; 4], usize)> {
    let length: [u8; 4] = bytes.get(at..at + 4)?.try_into().ok()?;
    let end = (at + HEAD_BYTES).checked_add(usize::try_from(u32::from_le_bytes(length)).ok()?)?;
    (end <= bytes.len()).then_some((length, end))
}

/// The next whole record behind a damaged one: where its length says first, else the nearest.
fn search(bytes: &[u8], at: usize) -> Option<usize> {
    if let Some((_, end)) = extent(bytes, at)
        && whole(bytes, end).is_some()
    {
        return Some(end);
    }
    let mut read = 0_usize;
    (at + 1..bytes.len()).find(|at| {
        let plausible = extent(bytes, *at).filter(|_| bytes.get(at + HEAD_BYTES) == Some(&VERSION));
        let Some((_, end)) = plausible else { return false };
        read = read.saturating_add(end - at);
        read <= SEARCH_BYTES_MAX && whole(bytes, *at).is_some()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(seq: u64, payload: &[u8]) -> Body<'_> {
        Body { boot: 3, seq, timestamp_ms: -2, topic: "a/b", payload, properties: vec![("unit", "C")] }
    }

    fn written(payloads: &[&[u8]]) -> (Vec<u8>, Vec<usize>) {
        let (mut bytes, mut ends) = (Vec::new(), Vec::new());
        for (seq, payload) in payloads.iter().enumerate() {
            body(seq as u64, payload).write(&mut bytes).unwrap();
            ends.push(bytes.len());
        }
        (bytes, ends)
    }

    /// All sequence numbers that are found, and how many places were damaged.
    fn read(bytes: &[u8]) -> (Vec<u64>, usize) {
        let (mut seqs, mut damaged, mut at) = (Vec::new(), 0, 0);
        loop {
            match step(bytes, at) {
                Step::Record { body, end } => {
                    seqs.push(body.seq);
                    at = end;
                }
                Step::Damaged { next } => {
                    damaged += 1;
                    let Some(next) = next else { return (seqs, damaged) };
                    assert!(next > at);
                    at = next;
                }
                Step::End => return (seqs, damaged),
            }
        }
    }

    #[test]
    fn has_golden_bytes() {
        let mut bytes = Vec::new();
        body(300, b"21.5").write(&mut bytes).unwrap();
        let expected: &[u8] = b"\x16\0\0\0\xd2\xc1\xc2\x9d\x01\x03\xac\x02\x03\x03a/b\x0421.5\x01\x04unit\x01C";
        assert_eq!(bytes, expected);
        assert_eq!(body(300, b"21.5").bytes(), bytes.len() as u64);
        let Step::Record { body: read, end } = step(&bytes, 0) else { panic!("a record") };
        assert_eq!((read, end), (body(300, b"21.5"), bytes.len()));
        assert_eq!(step(&bytes, end), Step::End);
    }

    #[test]
    fn a_record_cut_anywhere_is_damage_with_nothing_behind() {
        let (bytes, ends) = written(&[b"one", b"two", b"three"]);
        for cut in ends[1]..bytes.len() {
            let torn = usize::from(cut > ends[1]);
            assert_eq!(read(&bytes[..cut]), (vec![0, 1], torn), "cut at {cut}");
        }
    }

    #[test]
    fn a_bit_that_flips_anywhere_loses_one_record_alone() {
        let (bytes, ends) = written(&[b"one", b"two", b"three", b"four"]);
        for at in ends[0]..ends[2] {
            for bit in 0..8 {
                let mut flipped = bytes.clone();
                flipped[at] ^= 1 << bit;
                let lost = if at < ends[1] { 1 } else { 2 };
                let left: Vec<u64> = (0..4).filter(|seq| *seq != lost).collect();
                assert_eq!(read(&flipped), (left, 1), "byte {at}, bit {bit}");
            }
        }
    }

    #[test]
    fn zeros_and_noise_are_no_records() {
        let (good, _) = written(&[b"one"]);
        let mut random = 1_u64;
        for _ in 0..200 {
            let noise: Vec<u8> = (0..100).map(|_| crate::client::backoff::splitmix(&mut random) as u8).collect();
            let bytes = [vec![0; 50], noise, good.clone()].concat();
            assert_eq!(read(&bytes), (vec![0], 1));
        }
        assert_eq!(read(&[0; 1_000]), (vec![], 1));
    }
}

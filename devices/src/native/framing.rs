//! Frames on a stream: the length as LEB128, then postcard.

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The largest frame, in bytes without its length.
pub const FRAME_BYTES_MAX: usize = 256 << 10;
/// Bytes of a length: 21 bits are enough for [`FRAME_BYTES_MAX`].
const LENGTH_BYTES_MAX: usize = 3;

/// Why bytes are no frame. The stream cannot be read any further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FrameError {
    /// The length is over [`FRAME_BYTES_MAX`].
    #[error("a frame is longer than {FRAME_BYTES_MAX} bytes")]
    TooLarge,
    /// The bytes are not what the frame should be.
    #[error("a frame cannot be read")]
    Malformed,
}

/// What is at the beginning of the bytes that a stream brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framed<'a> {
    /// A whole frame's bytes, and how many bytes it took with its length.
    Whole {
        /// Postcard.
        frame: &'a [u8],
        /// Bytes to be consumed.
        taken: usize,
    },
    /// More must be read.
    More,
}

/// Finds the first frame.
///
/// # Errors
/// When its length is over the bound, or takes more bytes than it needs to.
pub fn next_frame(bytes: &[u8]) -> Result<Framed<'_>, FrameError> {
    let mut length = 0_usize;
    for at in 0..LENGTH_BYTES_MAX {
        let Some(byte) = bytes.get(at) else { return Ok(Framed::More) };
        length |= usize::from(byte & 0x7f) << (7 * at);
        if length > FRAME_BYTES_MAX {
            return Err(FrameError::TooLarge);
        }
        if byte & 0x80 == 0 {
            if at > 0 && *byte == 0 {
                return Err(FrameError::Malformed);
            }
            let (begin, end) = (at + 1, at + 1 + length);
            return Ok(bytes.get(begin..end).map_or(Framed::More, |frame| Framed::Whole { frame, taken: end }));
        }
    }
    Err(FrameError::TooLarge)
}

/// Reads a frame's postcard bytes; all of them must be used.
///
/// # Errors
/// When they are not a `T`.
pub fn decode<'a, T: Deserialize<'a>>(frame: &'a [u8]) -> Result<T, FrameError> {
    match postcard::take_from_bytes(frame) {
        Ok((value, [])) => Ok(value),
        _ => Err(FrameError::Malformed),
    }
}

/// Appends a frame with its length.
///
/// # Errors
/// When it would be longer than [`FRAME_BYTES_MAX`]; nothing is appended then.
pub fn encode<T: Serialize>(value: &T, to: &mut Vec<u8>) -> Result<(), FrameError> {
    let begin = to.len();
    // Room for the longest length; what is not needed is taken back.
    to.extend_from_slice(&[0; LENGTH_BYTES_MAX]);
    let written = postcard::to_extend(value, std::mem::take(to));
    *to = written.map_err(|_| FrameError::Malformed)?;
    let length = to.len() - begin - LENGTH_BYTES_MAX;
    if length > FRAME_BYTES_MAX {
        to.truncate(begin);
        return Err(FrameError::TooLarge);
    }
    let mut head = [0; LENGTH_BYTES_MAX];
    let mut used = 0;
    let mut left = length;
    loop {
        let more = left >= 0x80;
        head[used] = (left & 0x7f) as u8 | if more { 0x80 } else { 0 };
        used += 1;
        left >>= 7;
        if !more {
            break;
        }
    }
    to[begin..begin + used].copy_from_slice(&head[..used]);
    if used < LENGTH_BYTES_MAX {
        to.copy_within(begin + LENGTH_BYTES_MAX.., begin + used);
        to.truncate(begin + used + length);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{Event, Publish};
    use super::*;

    #[test]
    fn lengths_take_one_to_three_bytes() {
        for (length, head) in [(0, 1), (1, 1), (127, 1), (128, 2), (16_383, 2), (16_384, 3), (200_000, 3)] {
            let payload = vec![7_u8; length];
            let mut framed = vec![1, 2];
            encode(&serde_payload(&payload), &mut framed).unwrap();
            let Ok(Framed::Whole { frame, taken }) = next_frame(&framed[2..]) else { panic!("{length}") };
            assert_eq!(taken, framed.len() - 2);
            let extra = frame.len() - length;
            assert!((1..=3).contains(&extra), "postcard's own length");
            assert!(taken - frame.len() >= head);
            assert_eq!(decode::<Vec<u8>>(frame).unwrap(), payload);
            for cut in 0..taken.min(300) {
                assert_eq!(next_frame(&framed[2..2 + cut]), Ok(Framed::More), "{length} cut at {cut}");
            }
        }
    }

    fn serde_payload(payload: &[u8]) -> Vec<u8> {
        payload.to_vec()
    }

    #[test]
    fn what_is_too_large_is_refused_before_it_is_read() {
        assert_eq!(next_frame(&[0x80, 0x80, 0x11]), Err(FrameError::TooLarge));
        assert_eq!(next_frame(&[0xff, 0xff, 0xff]), Err(FrameError::TooLarge));
        assert_eq!(next_frame(&[0x80, 0x80, 0x10]), Ok(Framed::More), "the bound itself");
        assert_eq!(next_frame(&[0x81, 0x00]), Err(FrameError::Malformed), "longer than it needs to be");
        let mut out = vec![9];
        assert_eq!(encode(&vec![0_u8; FRAME_BYTES_MAX], &mut out), Err(FrameError::TooLarge));
        assert_eq!(out, [9], "nothing is left of it");
    }

    proptest! {
        #[test]
        fn noise_is_refused_or_read_and_never_more(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(Framed::Whole { frame, taken }) = next_frame(&bytes) {
                prop_assert!(taken <= bytes.len() && frame.len() < taken);
                let _ = decode::<Publish<'_>>(frame);
                let _ = decode::<super::super::Open<'_>>(frame);
                let _ = decode::<super::super::ToDevice<'_>>(frame);
            }
        }

        #[test]
        fn what_was_written_is_read(topic in "[a-z/]{1,20}", boot: u64, first in 0..u64::MAX / 2, payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 1..20)) {
            let events = payloads.iter().map(|payload| Event { skipped: 0, later_ms: -5, payload, properties: Vec::new() }).collect();
            let publish = Publish { topic: &topic, boot, first, timestamp_ms: 1_700_000_000_000, events };
            let mut bytes = Vec::new();
            encode(&publish, &mut bytes).unwrap();
            let Ok(Framed::Whole { frame, taken }) = next_frame(&bytes) else { return Err(TestCaseError::fail("a whole frame")) };
            prop_assert_eq!(taken, bytes.len());
            prop_assert_eq!(decode::<Publish<'_>>(frame).unwrap(), publish);
        }
    }
}

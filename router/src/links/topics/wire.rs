//! The first frames of a stream that brings topics down (pure): what the edge wants, and what it is given. What follows is `links::wire`, the other way round.

use super::super::wire::{WireError, body, with_body};
use super::lists::{PATTERN_BYTES_MAX, PATTERNS_MAX};

/// Frames from the edge.
const WISH: u8 = 15;
const WANTS: u8 = 12;
/// And from upstream.
const GIVES: u8 = 26;
/// The version of a wish.
const VERSION: u8 = 1;
/// Bytes of a list: patterns, and what postcard adds.
pub const LIST_BYTES_MAX: usize = PATTERNS_MAX * (PATTERN_BYTES_MAX + 2) + 16;

/// What the edge says first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wish {
    /// Its site: what has been there is not sent.
    pub site: u64,
    /// Bytes a second that may be sent at most; 0 sets no bound.
    pub rate_bytes_max: u64,
    /// The newest dictionary of packed frames that it knows; 0: batches are to come as they are stored.
    pub dictionary: u8,
}

/// Whether a stream's first frame is a wish, of whatever version.
pub fn is_wish(frame: &[u8]) -> bool {
    frame.first() == Some(&WISH)
}

impl Wish {
    /// The frame.
    pub fn encode(&self) -> Vec<u8> {
        with_body(WISH, &(VERSION, self.site, self.rate_bytes_max, self.dictionary))
    }

    /// Reads a frame.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn decode(frame: &[u8]) -> Result<Self, WireError> {
        match frame.split_first() {
            Some((&WISH, [VERSION, ..])) => {
                let (_, site, rate_bytes_max, dictionary): (u8, u64, u64, u8) = body(&frame[1..])?;
                Ok(Self { site, rate_bytes_max, dictionary })
            }
            Some((&WISH, _)) => Err(WireError::Form("the wish is of a version that is not known")),
            _ => Err(WireError::Form("it is no wish")),
        }
    }
}

/// The patterns that the edge lists.
pub fn encode_wants(patterns: &[String]) -> Vec<u8> {
    with_body(WANTS, &patterns)
}

/// Reads them.
///
/// # Errors
/// What is wrong with the frame.
pub fn decode_wants(frame: &[u8]) -> Result<Vec<String>, WireError> {
    patterns(WANTS, frame)
}

/// The patterns that upstream allows.
pub fn encode_gives(patterns: &[String]) -> Vec<u8> {
    with_body(GIVES, &patterns)
}

/// Reads them.
///
/// # Errors
/// What is wrong with the frame.
pub fn decode_gives(frame: &[u8]) -> Result<Vec<String>, WireError> {
    patterns(GIVES, frame)
}

fn patterns(kind: u8, frame: &[u8]) -> Result<Vec<String>, WireError> {
    let rest = match frame.split_first() {
        Some((found, rest)) if *found == kind => rest,
        _ => return Err(WireError::Form("it is no list")),
    };
    let patterns: Vec<String> = body(rest)?;
    if patterns.len() > PATTERNS_MAX || patterns.iter().any(|pattern| pattern.len() > PATTERN_BYTES_MAX) {
        return Err(WireError::Form("its list is too long"));
    }
    Ok(patterns)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_frames_have_these_bytes() {
        let wish = Wish { site: 7, rate_bytes_max: 300, dictionary: 1 };
        assert_eq!(wish.encode(), [15, 1, 7, 0xac, 2, 1]);
        assert_eq!(Wish::decode(&wish.encode()), Ok(wish));
        let list = ["a".to_owned(), "b/*".to_owned()];
        assert_eq!(encode_wants(&list), b"\x0c\x02\x01a\x03b/*");
        assert_eq!(encode_gives(&list), b"\x1a\x02\x01a\x03b/*");
        assert_eq!(
            (decode_wants(&encode_wants(&list)).unwrap(), decode_gives(&encode_gives(&list)).unwrap()),
            (list.to_vec(), list.to_vec())
        );
        let most = vec!["x".repeat(PATTERN_BYTES_MAX); PATTERNS_MAX];
        assert!(encode_wants(&most).len() <= LIST_BYTES_MAX && decode_wants(&encode_wants(&most)).is_ok());
        let many = vec!["x".to_owned(); PATTERNS_MAX + 1];
        let long = vec!["x".repeat(PATTERN_BYTES_MAX + 1)];
        for wrong in
            [vec![], vec![15], vec![15, 2, 7, 0, 1], vec![15, 1, 7, 0], vec![15, 1, 7, 0, 1, 9], encode_wants(&list)]
        {
            assert!(Wish::decode(&wrong).is_err(), "{wrong:?}");
        }
        for wrong in [vec![], vec![12], vec![12, 1, 9], encode_gives(&list), encode_wants(&many), encode_wants(&long)] {
            assert!(decode_wants(&wrong).is_err(), "{wrong:?}");
        }
    }
}

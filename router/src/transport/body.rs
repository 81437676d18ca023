//! Frames that are a kind byte and a body in postcard.

use serde::{Deserialize, Serialize};

/// The frame of this kind with this body.
pub fn with_body(kind: u8, body: &impl Serialize) -> Vec<u8> {
    // Writing numbers and short texts to memory does not fail; the reader would say so.
    postcard::to_extend(body, vec![kind]).unwrap_or_default()
}

/// Reads a body, which is all of a frame that follows its kind.
///
/// # Errors
/// What is wrong with it.
pub fn read_body<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, &'static str> {
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Ok(value),
        Ok(_) => Err("it is too long"),
        Err(_) => Err("its body"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_all_that_follows_the_kind() {
        let frame = with_body(7, &(300_u64, "a"));
        assert_eq!(frame, [7, 0xac, 2, 1, b'a']);
        assert_eq!(read_body::<(u64, String)>(&frame[1..]), Ok((300, "a".to_owned())));
        assert_eq!(read_body::<u64>(&frame[1..]), Err("it is too long"));
        assert_eq!(read_body::<(u64, String)>(&frame[1..4]), Err("its body"));
    }
}

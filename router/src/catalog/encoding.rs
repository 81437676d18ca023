//! How values are stored and sent: a version byte, then postcard.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Writes a value in a version.
pub(super) fn encode<T: Serialize>(version: u8, value: &T) -> Vec<u8> {
    // Plain structs always become postcard.
    postcard::to_extend(value, vec![version]).unwrap_or_default()
}

/// Reads a value; `None` where it is of another version, is not whole, or goes on after its end.
pub(super) fn decode<T: DeserializeOwned>(version: u8, bytes: &[u8]) -> Option<T> {
    let body = bytes.strip_prefix(&[version])?;
    match postcard::take_from_bytes(body) {
        Ok((value, [])) => Some(value),
        _ => None,
    }
}

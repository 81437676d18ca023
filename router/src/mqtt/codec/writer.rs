//! Writes the data representations of MQTT (section 1.5) to the end of a buffer.

use super::reader::VARIABLE_INTEGER_MAX;

/// Why a packet cannot be written.
#[derive(Copy, Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// A string or binary field is longer than its two-byte length can say.
    #[error("a field of {0} bytes is longer than 65535")]
    FieldTooLong(usize),
    /// The packet is longer than a remaining length can say.
    #[error("a packet of {0} bytes is longer than MQTT allows")]
    PacketTooLong(usize),
    /// The packet does not exist in this version of the protocol.
    #[error("this packet or field does not exist in MQTT 3.1.1")]
    NotInVersion,
}

pub(crate) fn put_binary(out: &mut Vec<u8>, bytes: &[u8]) -> Result<(), EncodeError> {
    let len = u16::try_from(bytes.len()).map_err(|_| EncodeError::FieldTooLong(bytes.len()))?;
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(bytes);
    Ok(())
}

pub(crate) fn put_text(out: &mut Vec<u8>, text: &str) -> Result<(), EncodeError> {
    put_binary(out, text.as_bytes())
}

/// Writes a variable byte integer; values above [`VARIABLE_INTEGER_MAX`] are the caller's to refuse.
#[inline]
pub(crate) fn put_variable(out: &mut Vec<u8>, mut value: u32) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// How many bytes a variable byte integer takes.
#[inline]
pub(crate) fn variable_len(value: u32) -> usize {
    match value {
        0..=0x7f => 1,
        0x80..=0x3fff => 2,
        0x4000..=0x1f_ffff => 3,
        _ => 4,
    }
}

/// A length as a variable byte integer can say it.
pub(crate) fn variable_from(len: usize) -> Result<u32, EncodeError> {
    u32::try_from(len).ok().filter(|&len| len <= VARIABLE_INTEGER_MAX).ok_or(EncodeError::PacketTooLong(len))
}

/// Writes a packet: its first byte, the length of what `body` writes, and that. On an error nothing is left in `out`.
pub(crate) fn put_packet(
    out: &mut Vec<u8>,
    first: u8,
    body: impl FnOnce(&mut Vec<u8>) -> Result<(), EncodeError>,
) -> Result<(), EncodeError> {
    let start = out.len();
    out.push(first);
    let body_at = out.len();
    let written = body(out).and_then(|()| variable_from(out.len() - body_at));
    match written {
        Ok(len) => {
            let mut length = Vec::with_capacity(4);
            put_variable(&mut length, len);
            out.splice(body_at..body_at, length);
            Ok(())
        }
        Err(error) => {
            out.truncate(start);
            Err(error)
        }
    }
}

//! Reads the data representations of MQTT (section 1.5) from a packet's body, borrowing from it.

use super::rules::{self, Rule};

/// What was read, or the rule that it breaks.
pub(crate) type Parsed<T> = Result<T, &'static Rule>;

/// The largest value of a variable byte integer, and so of a remaining length.
pub const VARIABLE_INTEGER_MAX: u32 = 268_435_455;

/// What is left of a packet's body.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    #[inline]
    pub(crate) fn new(body: &'a [u8]) -> Self {
        Self { rest: body }
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Everything that is left.
    #[inline]
    pub(crate) fn take_rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    /// The bytes between this place and a `later` one of the same body.
    pub(crate) fn until(&self, later: &Self) -> &'a [u8] {
        let count = self.rest.len().saturating_sub(later.rest.len());
        self.rest.get(..count).unwrap_or_default()
    }

    #[inline]
    pub(crate) fn bytes(&mut self, count: usize) -> Parsed<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(rules::CUT_SHORT)?;
        self.rest = rest;
        Ok(taken)
    }

    #[inline]
    pub(crate) fn u8(&mut self) -> Parsed<u8> {
        let (&first, rest) = self.rest.split_first().ok_or(rules::CUT_SHORT)?;
        self.rest = rest;
        Ok(first)
    }

    #[inline]
    pub(crate) fn u16(&mut self) -> Parsed<u16> {
        let (&taken, rest) = self.rest.split_first_chunk::<2>().ok_or(rules::CUT_SHORT)?;
        self.rest = rest;
        Ok(u16::from_be_bytes(taken))
    }

    #[inline]
    pub(crate) fn u32(&mut self) -> Parsed<u32> {
        let (&taken, rest) = self.rest.split_first_chunk::<4>().ok_or(rules::CUT_SHORT)?;
        self.rest = rest;
        Ok(u32::from_be_bytes(taken))
    }

    /// A packet identifier, which is never 0 ([MQTT-2.3.1-1], 5.0 [MQTT-2.2.1-3]).
    #[inline]
    pub(crate) fn packet_id(&mut self) -> Parsed<u16> {
        match self.u16()? {
            0 => Err(rules::PACKET_ID_ZERO),
            id => Ok(id),
        }
    }

    /// A variable byte integer in its shortest form ([MQTT-1.5.5-1]).
    #[inline]
    pub(crate) fn variable(&mut self) -> Parsed<u32> {
        match variable_prefix(self.rest)? {
            Some((value, len)) => {
                self.bytes(len)?;
                Ok(value)
            }
            None => Err(rules::CUT_SHORT),
        }
    }

    /// Binary data behind its two-byte length.
    #[inline]
    pub(crate) fn binary(&mut self) -> Parsed<&'a [u8]> {
        let count = self.u16()?;
        self.bytes(usize::from(count))
    }

    /// A UTF-8 string behind its two-byte length.
    #[inline]
    pub(crate) fn text(&mut self) -> Parsed<&'a str> {
        let bytes = self.binary()?;
        let text = std::str::from_utf8(bytes).map_err(|_| rules::UTF8)?;
        if bytes.contains(&0) { Err(rules::NUL) } else { Ok(text) }
    }

    /// The end of the packet.
    #[inline]
    pub(crate) fn finish(&self) -> Parsed<()> {
        if self.rest.is_empty() { Ok(()) } else { Err(rules::TRAILING) }
    }
}

/// The variable byte integer at the start of `bytes` and its length; `None` where more bytes are needed.
#[inline]
pub(crate) fn variable_prefix(bytes: &[u8]) -> Parsed<Option<(u32, usize)>> {
    let mut value = 0u32;
    for (index, &byte) in bytes.iter().take(4).enumerate() {
        value |= u32::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            let shortest = byte != 0 || index == 0;
            return if shortest { Ok(Some((value, index + 1))) } else { Err(rules::LENGTH_TOO_LONG) };
        }
    }
    if bytes.len() >= 4 { Err(rules::LENGTH_TOO_LONG) } else { Ok(None) }
}

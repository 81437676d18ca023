//! The frame of what is shipped: a version, a checksum over what no other checksum covers, and what follows.

use super::FollowedCommitError;

/// Bytes before what the checksum covers: version and checksum.
const START_BYTES: usize = 5;

/// Begins a frame in `out`; where it is.
pub(in crate::store) fn start(version: u8, out: &mut Vec<u8>) -> usize {
    let at = out.len();
    out.extend_from_slice(&[version, 0, 0, 0, 0]);
    at
}

/// Writes the checksum of the frame that begins at `at`, over the version and all that follows so far.
pub(in crate::store) fn finish(at: usize, out: &mut [u8]) {
    let crc = checksum(out[at], &out[at + START_BYTES..]);
    out[at + 1..at + START_BYTES].copy_from_slice(&crc.to_be_bytes());
}

fn checksum(version: u8, covered: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&[version]), covered)
}

/// Why a frame cannot be read.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub(in crate::store) enum FrameError {
    Short,
    Trailing,
    Checksum,
}

impl From<FrameError> for FollowedCommitError {
    fn from(error: FrameError) -> FollowedCommitError {
        match error {
            FrameError::Short => FollowedCommitError::Short,
            FrameError::Trailing => FollowedCommitError::Trailing,
            FrameError::Checksum => FollowedCommitError::Checksum,
        }
    }
}

/// Takes a frame apart from its front.
pub(in crate::store) struct Taker<'a> {
    version: u8,
    crc: u32,
    rest: &'a [u8],
}

impl<'a> Taker<'a> {
    pub(in crate::store) fn new(bytes: &'a [u8]) -> Taker<'a> {
        Taker { version: 0, crc: 0, rest: bytes }
    }

    /// The version; the checksum is taken with it.
    pub(in crate::store) fn version(&mut self) -> Result<u8, FrameError> {
        let start = self.take(START_BYTES)?;
        self.version = start[0];
        self.crc = u32::from_be_bytes([start[1], start[2], start[3], start[4]]);
        Ok(self.version)
    }

    /// Compares the checksum with the version and the next `len` bytes.
    pub(in crate::store) fn check(&self, len: usize) -> Result<(), FrameError> {
        if checksum(self.version, self.peek(len)?) == self.crc { Ok(()) } else { Err(FrameError::Checksum) }
    }

    /// How many bytes are left.
    pub(in crate::store) fn left(&self) -> usize {
        self.rest.len()
    }

    /// The next `len` bytes, which stay.
    pub(in crate::store) fn peek(&self, len: usize) -> Result<&'a [u8], FrameError> {
        self.rest.get(..len).ok_or(FrameError::Short)
    }

    /// The next `len` bytes.
    pub(in crate::store) fn take(&mut self, len: usize) -> Result<&'a [u8], FrameError> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(FrameError::Short)?;
        self.rest = rest;
        Ok(taken)
    }

    pub(in crate::store) fn u32(&mut self) -> Result<u32, FrameError> {
        let (taken, rest) = self.rest.split_first_chunk::<4>().ok_or(FrameError::Short)?;
        self.rest = rest;
        Ok(u32::from_be_bytes(*taken))
    }

    pub(in crate::store) fn u64(&mut self) -> Result<u64, FrameError> {
        let (taken, rest) = self.rest.split_first_chunk::<8>().ok_or(FrameError::Short)?;
        self.rest = rest;
        Ok(u64::from_be_bytes(*taken))
    }

    /// Whether all was taken.
    pub(in crate::store) fn end(&self) -> Result<(), FrameError> {
        if self.rest.is_empty() { Ok(()) } else { Err(FrameError::Trailing) }
    }
}

//! Frames out of a stream.

use quinn::{ReadError, RecvStream};
use thiserror::Error;

use crate::native::{FrameError, Framed, next_frame};

/// Bytes that are read at once.
const READ_BYTES_MAX: usize = 16 << 10;

/// Why there is no next frame.
#[derive(Debug, Error)]
pub(super) enum NoFrame {
    /// The node ended the stream, or reset it.
    #[error("the node ended a stream")]
    Ended,
    /// The connection.
    #[error(transparent)]
    Lost(ReadError),
    /// What was sent is no frame.
    #[error("what the node sent cannot be read: {0}")]
    Wrong(#[from] FrameError),
}

/// Reads frames. What was read of one is kept when waiting for its rest is broken off.
pub(super) struct Frames {
    stream: RecvStream,
    bytes: Vec<u8>,
    /// Up to here they have been given out.
    taken: usize,
}

impl Frames {
    pub(super) fn new(stream: RecvStream) -> Self {
        Self { stream, bytes: Vec::new(), taken: 0 }
    }

    /// The stream, of which no more is read.
    #[cfg(test)]
    pub(super) fn into_stream(self) -> RecvStream {
        self.stream
    }

    /// The next frame's bytes.
    pub(super) async fn next(&mut self) -> Result<&[u8], NoFrame> {
        let (begin, end) = loop {
            if let Framed::Whole { frame, taken } = next_frame(&self.bytes[self.taken..])? {
                let end = self.taken + taken;
                break (end - frame.len(), end);
            }
            self.bytes.drain(..self.taken);
            self.taken = 0;
            match self.stream.read_chunk(READ_BYTES_MAX, true).await {
                Ok(Some(chunk)) => self.bytes.extend_from_slice(&chunk.bytes),
                Ok(None) | Err(ReadError::Reset(_)) => return Err(NoFrame::Ended),
                Err(error) => return Err(NoFrame::Lost(error)),
            }
        };
        self.taken = end;
        Ok(&self.bytes[begin..end])
    }
}

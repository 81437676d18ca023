//! Frames on a QUIC stream: a length of four bytes, the lowest first, then as many bytes. And the few bytes without a
//! length with which a stream may begin.
//!
//! A stream that is dropped before it was finished is reset: what was half written is not taken for the whole.

use bytes::Bytes;
use quinn::{ReadError, RecvStream, SendStream, VarInt, WriteError};

use super::Ended;

/// Bytes of a frame's length.
const LENGTH_BYTES: usize = 4;
/// Bytes of a frame's body that are sent in one piece with its length.
const TOGETHER_BYTES: usize = 1_024;
/// The code of a stream that was left before its end.
const ABANDONED: u32 = 0;

/// Why nothing more comes from a stream, or goes into it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// A frame is longer than is taken.
    #[error("a frame of {bytes} bytes; at most {bytes_max} are taken")]
    TooLong {
        /// Its length, without the length's own bytes.
        bytes: usize,
        /// What is taken.
        bytes_max: usize,
    },
    /// The stream ended within a frame.
    #[error("the stream ended within a frame")]
    Cut,
    /// The other side gave the stream up, with a code of the protocol above.
    #[error("the other side gave the stream up (code {0})")]
    GivenUp(u32),
    /// The stream was finished here before.
    #[error("the stream was closed here")]
    Closed,
    /// The connection is gone.
    #[error(transparent)]
    Lost(#[from] Ended),
}

/// A code as QUIC carries it; what is larger than four bytes comes from none of ours.
fn small(code: VarInt) -> u32 {
    u32::try_from(code.into_inner()).unwrap_or(u32::MAX)
}

impl From<WriteError> for StreamError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Stopped(code) => Self::GivenUp(small(code)),
            WriteError::ConnectionLost(error) => Self::Lost(error.into()),
            WriteError::ClosedStream | WriteError::ZeroRttRejected => Self::Closed,
        }
    }
}

impl From<ReadError> for StreamError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Reset(code) => Self::GivenUp(small(code)),
            ReadError::ConnectionLost(error) => Self::Lost(error.into()),
            ReadError::ClosedStream | ReadError::IllegalOrderedRead | ReadError::ZeroRttRejected => Self::Closed,
        }
    }
}

/// The way out of a stream.
#[derive(Debug)]
pub struct FrameSender {
    stream: SendStream,
    is_done: bool,
}

impl FrameSender {
    pub(super) fn new(stream: SendStream) -> Self {
        Self { stream, is_done: false }
    }

    /// Sends bytes without a length: what a stream begins with, or a piece of a frame.
    ///
    /// # Errors
    /// When the other side gave the stream up, or the connection is gone.
    pub async fn send_head(&mut self, head: &[u8]) -> Result<(), StreamError> {
        Ok(self.stream.write_all(head).await?)
    }

    /// Sends a frame. Where this is broken off, part of the frame may be sent: reset the stream then, or drop it.
    ///
    /// # Errors
    /// When the frame is longer than its length can say, the other side gave the stream up, or the connection is gone.
    pub async fn send_frame(&mut self, body: &[u8]) -> Result<(), StreamError> {
        self.send_frame_after(&[], body).await
    }

    /// Sends bytes without a length and a frame behind them; small ones go in one packet.
    ///
    /// # Errors
    /// As those of [`Self::send_frame`].
    pub async fn send_frame_after(&mut self, head: &[u8], body: &[u8]) -> Result<(), StreamError> {
        let too_long = |_| StreamError::TooLong { bytes: body.len(), bytes_max: u32::MAX as usize };
        let length = u32::try_from(body.len()).map_err(too_long)?;
        let (with_it, rest) = body.split_at(body.len().min(TOGETHER_BYTES));
        let first = [head, &length.to_le_bytes(), with_it].concat();
        self.stream.write_all(&first).await?;
        Ok(self.stream.write_all(rest).await?)
    }

    /// Sends a frame of a kind byte and what several streams may share, which is not copied. Where this is broken off, part of the
    /// frame may be sent: reset the stream then, or drop it.
    ///
    /// # Errors
    /// As those of [`Self::send_frame`].
    pub async fn send_shared(&mut self, kind: u8, body: &Bytes) -> Result<(), StreamError> {
        let too_long = |_| StreamError::TooLong { bytes: body.len(), bytes_max: u32::MAX as usize };
        let length = u32::try_from(body.len() + 1).map_err(too_long)?.to_le_bytes();
        let head = Bytes::copy_from_slice(&[length[0], length[1], length[2], length[3], kind]);
        Ok(self.stream.write_all_chunks(&mut [head, body.clone()]).await?)
    }

    /// Nothing more comes; what was sent is brought over.
    pub fn finish(&mut self) {
        self.is_done = true;
        let _ = self.stream.finish();
    }

    /// Gives the stream up, with a code of the protocol above.
    pub fn reset(&mut self, code: u32) {
        self.is_done = true;
        let _ = self.stream.reset(VarInt::from_u32(code));
    }

    /// What is sent here goes before what waits on streams of a lower number; 0 where nothing is said.
    pub fn set_priority(&self, priority: i32) {
        let _ = self.stream.set_priority(priority);
    }

    /// Waits until the other side has all, or gave the stream up.
    pub async fn stopped(&mut self) {
        let _ = self.stream.stopped().await;
    }
}

impl Drop for FrameSender {
    fn drop(&mut self) {
        if !self.is_done {
            self.reset(ABANDONED);
        }
    }
}

/// The way in from a stream.
#[derive(Debug)]
pub struct FrameReceiver {
    stream: RecvStream,
    /// What has come of a head, of a length, or of a frame.
    begun: Vec<u8>,
    /// The length of the frame that has begun.
    length: Option<usize>,
}

impl FrameReceiver {
    pub(super) fn new(stream: RecvStream) -> Self {
        Self { stream, begun: Vec::new(), length: None }
    }

    /// The bytes with which the stream begins; `None` when it ends before the first. May be broken off and asked again.
    ///
    /// # Errors
    /// When the stream ends within, the other side gave it up, or the connection is gone.
    pub async fn receive_head<const N: usize>(&mut self) -> Result<Option<[u8; N]>, StreamError> {
        if !self.fill(N).await? {
            return Ok(None);
        }
        let head = <[u8; N]>::try_from(self.begun.as_slice()).map_err(|_| StreamError::Cut)?;
        self.begun.clear();
        Ok(Some(head))
    }

    /// The next frame; `None` when the stream has ended. May be broken off and asked again: nothing is lost. Memory is
    /// taken as the bytes come, not as the length promises.
    ///
    /// # Errors
    /// When the frame is longer than `bytes_max`, the stream ends within, the other side gave it up, or the
    /// connection is gone.
    pub async fn receive_frame(&mut self, bytes_max: usize) -> Result<Option<Vec<u8>>, StreamError> {
        let Some(length) = self.receive_length(bytes_max).await? else { return Ok(None) };
        self.receive_body(length).await.map(Some)
    }

    /// The length of the next frame; `None` when the stream has ended. Its body is to be received next.
    ///
    /// # Errors
    /// As those of [`Self::receive_frame`].
    pub async fn receive_length(&mut self, bytes_max: usize) -> Result<Option<usize>, StreamError> {
        let length = match self.length {
            Some(length) => length,
            None => {
                let Some(length) = self.receive_head::<LENGTH_BYTES>().await? else { return Ok(None) };
                *self.length.insert(u32::from_le_bytes(length) as usize)
            }
        };
        if length > bytes_max { Err(StreamError::TooLong { bytes: length, bytes_max }) } else { Ok(Some(length)) }
    }

    /// The first byte of the body whose length has come; it is received with the body once more.
    ///
    /// # Errors
    /// As those of [`Self::receive_frame`].
    pub async fn peek_body(&mut self) -> Result<u8, StreamError> {
        self.fill(1).await?;
        self.begun.first().copied().ok_or(StreamError::Cut)
    }

    /// How many bytes have come of the frame that has begun.
    pub fn begun_bytes(&self) -> usize {
        self.begun.len()
    }

    /// The body of the frame whose length has come. May be broken off and asked again: nothing is lost.
    ///
    /// # Errors
    /// As those of [`Self::receive_frame`].
    pub async fn receive_body(&mut self, length: usize) -> Result<Vec<u8>, StreamError> {
        if length > 0 && !self.fill(length).await? {
            return Err(StreamError::Cut);
        }
        self.length = None;
        Ok(std::mem::take(&mut self.begun))
    }

    /// Takes no more, with a code of the protocol above.
    pub fn stop(&mut self, code: u32) {
        let _ = self.stream.stop(VarInt::from_u32(code));
    }

    /// Reads until `count` bytes have begun; `false` when the stream ended before the first.
    async fn fill(&mut self, count: usize) -> Result<bool, StreamError> {
        while self.begun.len() < count {
            match self.stream.read_chunk(count - self.begun.len(), true).await? {
                Some(chunk) => self.begun.extend_from_slice(&chunk.bytes),
                None if self.begun.is_empty() => return Ok(false),
                None => return Err(StreamError::Cut),
            }
        }
        Ok(true)
    }
}

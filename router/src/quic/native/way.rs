//! One two-way stream with its buffers: what was read and not decoded, what waits to be written.

use std::task::{Context, Poll};
use std::time::Duration;

use devices::native::{Framed, decode, next_frame};
use quinn::{ReadError, RecvStream, SendStream, VarInt, WriteError};
use serde::Deserialize;
use tokio::time::Instant;

use super::Wrong;
use crate::transport::{Input, Outgoing};

/// Bytes that may wait to be written before nothing more is read that would be answered.
pub(super) const BACKLOG_BYTES_MAX: usize = 512 << 10;

/// A two-way stream.
pub(super) struct Way {
    pub(super) send: SendStream,
    pub(super) receive: RecvStream,
    pub(super) input: Input,
    pub(super) out: Outgoing,
    /// The client has ended its side.
    pub(super) ended: bool,
    /// Since when what waits has not moved.
    stuck_since: Option<Instant>,
    /// When something was read last, or nothing was wanted.
    read_at: Instant,
}

/// A stream or its connection is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gone {
    /// The client stopped or reset the stream.
    Stream,
    /// The connection is lost, or closed by the client.
    Connection,
}

impl Way {
    pub(super) fn new((send, receive): (SendStream, RecvStream), priority: i32) -> Self {
        // It can only fail where the stream is gone, which reading it says.
        let _ = send.set_priority(priority);
        let (input, out, read_at) = (Input::default(), Outgoing::default(), Instant::now());
        Self { send, receive, input, out, ended: false, stuck_since: None, read_at }
    }

    /// Sets how urgent it is among the connection's streams.
    pub(super) fn set_priority(&self, priority: i32) {
        let _ = self.send.set_priority(priority);
    }

    /// Whether it may be read: the client goes on, and takes what it is answered.
    pub(super) fn is_readable(&self) -> bool {
        !self.ended && self.out.len() < BACKLOG_BYTES_MAX
    }

    /// Reads what is there, as far as there is room for; whether anything came, or the end.
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>) -> Result<bool, Gone> {
        match self.receive.poll_read(cx, self.input.room()) {
            Poll::Ready(Ok(0)) => {
                self.ended = true;
                self.input.rest();
                Ok(true)
            }
            Poll::Ready(Ok(count)) => {
                self.read_at = Instant::now();
                self.input.filled(count);
                Ok(true)
            }
            Poll::Pending => {
                self.input.rest();
                Ok(false)
            }
            Poll::Ready(Err(ReadError::ConnectionLost(_))) => Err(Gone::Connection),
            Poll::Ready(Err(_)) => Err(Gone::Stream),
        }
    }

    /// Writes as much as the stream takes now; whether anything was written.
    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>) -> Result<bool, Gone> {
        let before = self.out.len();
        if before == 0 {
            return Ok(false);
        }
        match self.out.poll_write(&mut self.send, cx) {
            Poll::Ready(Ok(())) => {
                self.stuck_since = None;
                self.out.rest();
                Ok(true)
            }
            Poll::Ready(Err(error)) => Err(match error.downcast::<WriteError>() {
                Ok(WriteError::ConnectionLost(_)) => Gone::Connection,
                _ => Gone::Stream,
            }),
            Poll::Pending => {
                let moved = self.out.len() < before;
                if moved || self.stuck_since.is_none() {
                    self.stuck_since = Some(Instant::now());
                }
                Ok(moved)
            }
        }
    }

    /// When what waits will have waited for `most` without moving.
    pub(super) fn stuck_at(&self, most: Duration) -> Option<Instant> {
        self.stuck_since.map(|since| since + most)
    }

    /// It is not read for now, which is not the client's doing.
    pub(super) fn is_not_read(&mut self) {
        self.read_at = Instant::now();
    }

    /// When a frame that was begun will have waited for `most` without another byte.
    pub(super) fn unfinished_at(&self, most: Duration) -> Option<Instant> {
        let is_begun = !self.ended && !self.input.bytes().is_empty() && !self.has_frame();
        is_begun.then(|| self.read_at + most)
    }

    /// Whether what was read begins with a whole frame, or with what can be none.
    pub(super) fn has_frame(&self) -> bool {
        !matches!(next_frame(self.input.bytes()), Ok(Framed::More))
    }

    /// Ends both sides at once; what waits is dropped.
    pub(super) fn reset(mut self, code: u32) {
        // They can only fail where the stream is gone already.
        let _ = self.send.reset(VarInt::from_u32(code));
        let _ = self.receive.stop(VarInt::from_u32(code));
    }

    /// The first whole frame in what was read, and how many bytes it takes.
    ///
    /// # Errors
    /// When there cannot be one.
    pub(super) fn frame<'a, T: Deserialize<'a>>(&'a self) -> Result<Option<(T, usize)>, Wrong> {
        frame(self.input.bytes())
    }
}

/// The first whole frame in bytes, and how many of them it takes.
///
/// # Errors
/// When there cannot be one.
pub(super) fn frame<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<Option<(T, usize)>, Wrong> {
    match next_frame(bytes)? {
        Framed::Whole { frame, taken } => Ok(Some((decode(frame)?, taken))),
        Framed::More => Ok(None),
    }
}

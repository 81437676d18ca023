//! Bytes on their way out. Idle connections hold no large buffer: buffers are lent by the thread that writes.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::AsyncWrite;

/// Bytes already written that are dropped from the front of a buffer that is never written whole.
const WRITTEN_BYTES_MAX: usize = 64 << 10;
/// A buffer up to this stays with its connection, bytes.
const OWN_BYTES_MAX: usize = 4 << 10;
/// The largest buffer that a thread keeps for its connections, bytes.
const LENT_BYTES_MAX: usize = 1 << 20;
/// Buffers that a thread keeps.
const LENT_MAX: usize = 4;

thread_local! {
    static LENT: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// Bytes that wait to be written. As with what is read, idle connections hold no large buffer.
#[derive(Debug, Default)]
pub struct Outgoing {
    /// The bytes, those that are written already before them.
    pub bytes: Vec<u8>,
    written: usize,
}

impl Outgoing {
    /// How many bytes wait.
    pub fn len(&self) -> usize {
        self.bytes.len() - self.written
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes a buffer that another connection has laid down, where this one has none.
    pub fn borrow(&mut self) {
        if self.bytes.capacity() == 0
            && let Some(lent) = LENT.with_borrow_mut(Vec::pop)
        {
            self.bytes = lent;
        }
    }

    /// Lays a large buffer down when nothing is in it.
    pub fn rest(&mut self) {
        if !self.bytes.is_empty() || self.bytes.capacity() <= OWN_BYTES_MAX {
            return;
        }
        let buffer = std::mem::take(&mut self.bytes);
        LENT.with_borrow_mut(|lent| {
            if lent.len() < LENT_MAX && buffer.capacity() <= LENT_BYTES_MAX {
                lent.push(buffer);
            }
        });
    }

    /// Drops what is written from the front, when it is most of the buffer.
    fn drop_written(&mut self) {
        if self.written > WRITTEN_BYTES_MAX && self.written > self.bytes.len() / 2 {
            self.bytes.drain(..self.written);
            self.written = 0;
        }
    }

    /// Writes as much as the connection takes now; whether all is written.
    ///
    /// # Errors
    /// The connection's.
    pub fn poll_write<S: AsyncWrite + Unpin>(&mut self, io: &mut S, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.written < self.bytes.len() {
            match Pin::new(&mut *io).poll_write(cx, &self.bytes[self.written..]) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(count)) => self.written += count,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    self.drop_written();
                    return Poll::Pending;
                }
            }
        }
        self.bytes.clear();
        self.written = 0;
        Pin::new(&mut *io).poll_flush(cx)
    }

    /// Writes all that waits.
    ///
    /// # Errors
    /// The connection's.
    pub async fn write_all<S: AsyncWrite + Unpin>(&mut self, io: &mut S) -> io::Result<()> {
        std::future::poll_fn(|cx| self.poll_write(io, cx)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;

    #[tokio::test]
    async fn a_buffer_that_is_never_written_whole_does_not_grow() {
        let (mut near, mut far) = tokio::io::duplex(1_000);
        let mut outgoing = Outgoing::default();
        outgoing.bytes.extend(vec![7; 200_000]);
        let mut sink = vec![0; 1_000];
        let rounds = async {
            for _ in 0..5_000 {
                outgoing.bytes.extend(vec![7; 1_000]);
                std::future::poll_fn(|cx| {
                    assert!(outgoing.poll_write(&mut near, cx).is_pending());
                    Poll::Ready(())
                })
                .await;
                far.read_exact(&mut sink).await.unwrap();
            }
        };
        // A write that is put off for other tasks' sake would leave nothing to read.
        tokio::task::unconstrained(rounds).await;
        assert_eq!(outgoing.len(), 200_000);
        assert!(outgoing.bytes.len() <= 2 * 200_000 + WRITTEN_BYTES_MAX);
    }

    #[test]
    fn a_large_buffer_is_laid_down_and_taken_up() {
        let mut outgoing = Outgoing::default();
        outgoing.bytes.reserve(100_000);
        outgoing.rest();
        assert_eq!(outgoing.bytes.capacity(), 0);
        outgoing.borrow();
        assert!(outgoing.bytes.capacity() >= 100_000);
    }
}

//! One wait for everything that can happen to a connection: bytes in, room for bytes out, a ring, the clock.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use crate::event_log::Wake;
use crate::transport::{Input, Outgoing};

/// What happened; several things may have.
#[derive(Debug, Default)]
pub(super) struct Happened {
    /// Bytes were read into the buffer.
    pub(super) read: bool,
    /// The peer closed its side.
    pub(super) end: bool,
    /// Everything was written.
    pub(super) written: bool,
    /// Flags of [`Wake`].
    pub(super) rung: u32,
    /// The deadline has come.
    pub(super) deadline: bool,
}

/// What is waited for.
pub(super) struct Turn<'a, S> {
    pub(super) io: &'a mut S,
    pub(super) input: &'a mut Input,
    pub(super) outgoing: &'a mut Outgoing,
    pub(super) wake: &'a Wake,
    pub(super) deadline: Pin<&'a mut Sleep>,
    /// Whether to read at all: not while too much is open.
    pub(super) reads: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Turn<'_, S> {
    /// Waits until something happened.
    pub(super) async fn wait(mut self) -> io::Result<Happened> {
        std::future::poll_fn(|cx| self.poll(cx)).await
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Happened>> {
        let mut happened = Happened::default();
        self.wake.register(cx.waker());
        happened.rung = self.wake.take();
        if !self.outgoing.is_empty() {
            match self.outgoing.poll_write(self.io, cx) {
                Poll::Ready(Ok(())) => happened.written = true,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {}
            }
        }
        if self.reads {
            self.poll_read(cx, &mut happened)?;
        }
        if std::future::Future::poll(self.deadline.as_mut(), cx).is_ready() {
            happened.deadline = true;
        }
        let nothing = happened.rung == 0 && !(happened.read || happened.end || happened.written || happened.deadline);
        if nothing {
            self.outgoing.rest();
            return Poll::Pending;
        }
        Poll::Ready(Ok(happened))
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, happened: &mut Happened) -> io::Result<()> {
        let mut buffer = ReadBuf::new(self.input.room());
        let polled = Pin::new(&mut *self.io).poll_read(cx, &mut buffer);
        let count = buffer.filled().len();
        self.input.filled(count);
        match polled {
            Poll::Ready(Ok(())) if count == 0 => happened.end = true,
            Poll::Ready(Ok(())) => happened.read = true,
            Poll::Ready(Err(error)) => return Err(error),
            Poll::Pending => self.input.rest(),
        }
        Ok(())
    }
}

//! What an endpoint of QUIC takes for its UDP socket: datagrams wait here on their way from and to a stream of bytes.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, ErrorKind, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};
use tokio::sync::Notify;

use super::framing::put;

/// Bytes that wait to be written from which the endpoint is to wait; what TCP cannot take at once waits in its streams, by
/// their priorities.
const OUTGOING_BYTES_MAX: usize = 16 << 10;
/// Datagrams that wait for the endpoint from which no more is read.
const INCOMING_MAX: usize = 64;
/// Tasks that wait until there is room: the connection's, and the endpoint's. One more is woken for nothing.
const WAITING_MAX: usize = 4;

/// What the socket and the task that moves its bytes share.
#[derive(Debug, Default)]
pub(crate) struct Tunnel {
    state: Mutex<State>,
    /// There is something to write, or nothing more is to be said.
    to_write: Notify,
    /// There is room for more that is read.
    to_read: Notify,
    /// The stream is broken, or nothing more is to be said.
    ended: Notify,
}

#[derive(Default)]
struct State {
    incoming: VecDeque<Bytes>,
    outgoing: BytesMut,
    receiver: Option<Waker>,
    senders: Vec<Waker>,
    is_broken: bool,
    is_cut: bool,
    is_finished: bool,
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State").field("is_broken", &self.is_broken).finish_non_exhaustive()
    }
}

impl Tunnel {
    /// Whether the stream broke while there was more to say.
    pub(crate) fn is_cut(&self) -> bool {
        self.state.lock().is_cut
    }

    /// Nothing goes any more.
    pub(super) fn set_broken(&self) {
        let senders = {
            let mut state = self.state.lock();
            state.is_cut = !state.is_finished && !state.is_broken || state.is_cut;
            state.is_broken = true;
            state.outgoing.clear();
            std::mem::take(&mut state.senders)
        };
        senders.into_iter().for_each(Waker::wake);
        self.ended.notify_waiters();
    }

    /// Nothing more is to be said: what was is written, then the stream ends.
    pub(super) fn finish(&self) {
        {
            let mut state = self.state.lock();
            state.is_finished = true;
            // Nobody takes it any more.
            state.incoming.clear();
        }
        self.to_write.notify_waiters();
        self.to_read.notify_waiters();
        self.ended.notify_waiters();
    }

    /// Waits until the stream is broken.
    pub(super) async fn broken(&self) {
        self.until(|state| state.is_broken.then_some(()), &self.ended).await;
    }

    /// Waits until nothing more is to be said.
    pub(super) async fn finished(&self) {
        self.until(|state| state.is_finished.then_some(()), &self.ended).await;
    }

    /// Waits until more may be read.
    pub(super) async fn room(&self) {
        self.until(|state| (state.incoming.len() < INCOMING_MAX).then_some(()), &self.to_read).await;
    }

    /// Waits until the endpoint has taken all that has come.
    pub(super) async fn taken(&self) {
        self.until(|state| state.incoming.is_empty().then_some(()), &self.to_read).await;
    }

    /// What is to be written next; `None` when all was written and nothing more is to be said.
    pub(super) async fn next_outgoing(&self) -> Option<BytesMut> {
        let next = |state: &mut State| match (state.outgoing.is_empty(), state.is_finished) {
            (false, _) => Some(Some((std::mem::take(&mut state.outgoing), std::mem::take(&mut state.senders)))),
            (true, true) => Some(None),
            (true, false) => None,
        };
        let (bytes, senders) = self.until(next, &self.to_write).await?;
        senders.into_iter().for_each(Waker::wake);
        Some(bytes)
    }

    /// A datagram has come. Where nothing more is to be said, nobody takes it.
    pub(super) fn push(&self, datagram: Bytes) {
        let receiver = {
            let mut state = self.state.lock();
            if !state.is_finished {
                state.incoming.push_back(datagram);
            }
            state.receiver.take()
        };
        receiver.into_iter().for_each(Waker::wake);
    }

    async fn until<T>(&self, mut ready: impl FnMut(&mut State) -> Option<T>, changed: &Notify) -> T {
        loop {
            let mut notified = std::pin::pin!(changed.notified());
            // From now on nothing is missed.
            notified.as_mut().enable();
            if let Some(ready) = ready(&mut self.state.lock()) {
                return ready;
            }
            notified.await;
        }
    }
}

/// The endpoint's side. The tunnel ends with it.
#[derive(Debug)]
pub(super) struct TunnelSocket {
    pub(super) tunnel: Arc<Tunnel>,
    pub(super) local: SocketAddr,
    /// The only one whom it can reach.
    pub(super) peer: SocketAddr,
}

impl Drop for TunnelSocket {
    fn drop(&mut self) {
        self.tunnel.finish();
    }
}

/// Waits until there is room for one who sends.
#[derive(Debug)]
struct Room(Arc<TunnelSocket>);

impl UdpPoller for Room {
    fn poll_writable(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.0.tunnel.state.lock();
        if state.is_broken || state.outgoing.len() < OUTGOING_BYTES_MAX {
            return Poll::Ready(Ok(()));
        }
        if !state.senders.iter().any(|waiting| waiting.will_wake(context.waker())) {
            if state.senders.len() == WAITING_MAX {
                state.senders.remove(0).wake();
            }
            state.senders.push(context.waker().clone());
        }
        Poll::Pending
    }
}

impl AsyncUdpSocket for TunnelSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Room(self))
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let mut state = self.tunnel.state.lock();
        if state.is_broken {
            // As into a cut cable: whoever owns the connection is told otherwise.
            return Ok(());
        }
        if state.outgoing.len() >= OUTGOING_BYTES_MAX {
            return Err(ErrorKind::WouldBlock.into());
        }
        let one = transmit.segment_size.unwrap_or(transmit.contents.len()).max(1);
        transmit.contents.chunks(one).for_each(|datagram| put(datagram, &mut state.outgoing));
        drop(state);
        self.tunnel.to_write.notify_waiters();
        Ok(())
    }

    fn poll_recv(
        &self,
        context: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        about: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let mut state = self.tunnel.state.lock();
        let mut count = 0;
        for (buffer, about) in buffers.iter_mut().zip(about) {
            let Some(datagram) = state.incoming.pop_front() else { break };
            let length = datagram.len().min(buffer.len());
            buffer[..length].copy_from_slice(&datagram[..length]);
            *about = RecvMeta { addr: self.peer, len: length, stride: length, ecn: None, dst_ip: None };
            count += 1;
        }
        if count == 0 {
            state.receiver = Some(context.waker().clone());
            return Poll::Pending;
        }
        drop(state);
        self.tunnel.to_read.notify_waiters();
        Poll::Ready(Ok(count))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.local)
    }
}

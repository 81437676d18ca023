//! Takes TCP connections on the site's port, and makes of each an endpoint for one connection of QUIC.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::time::Duration;

use quinn::{Endpoint, Incoming, ServerConfig, VarInt};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, mpsc, oneshot, watch};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

use super::seats::{Seat, Seats};
use super::socket::Tunnel;
use super::{TUNNEL_ALPN, over, tend};

/// Connections that the system keeps until they are taken.
const BACKLOG: i32 = 64;
/// Attempts that wait to be looked at.
const ATTEMPTS_MAX: usize = 8;
/// How long TLS's handshake and QUIC's first packet may take.
const OPEN_WAIT: Duration = if cfg!(test) { Duration::from_millis(800) } else { Duration::from_secs(5) };
/// How long it may take from there until QUIC's handshake has ended, the wait for a place included.
const GREET_WAIT: Duration = Duration::from_secs(15);
/// The code with which a stranger's connection is closed whose seat another one has taken: links take it for "busy".
const CLOSE_CROWDED: u32 = 1;
/// Between two tries where the system gives no connection, as for want of descriptors.
const AGAIN_AFTER: Duration = Duration::from_millis(200);

/// What a connection within a tunnel came by.
#[derive(Debug)]
pub(in crate::transport::site) struct Greeting {
    /// The tunnel.
    pub(in crate::transport::site) tunnel: Arc<Tunnel>,
    /// To be told once the other side is known; dropped where it never will be.
    pub(in crate::transport::site) known: oneshot::Sender<()>,
}

/// An attempt, and what it came by.
type Attempt = (Incoming, Greeting);

/// How all are closed.
type Closing = watch::Receiver<Option<(VarInt, String)>>;

/// Those who come by TCP.
#[derive(Debug)]
pub(in crate::transport::site) struct Tunnels {
    attempts: Mutex<mpsc::Receiver<Attempt>>,
    closing: watch::Sender<Option<(VarInt, String)>>,
}

/// What the task of each connection needs.
struct Door {
    tls: TlsAcceptor,
    quic: ServerConfig,
    local: SocketAddr,
    attempts: mpsc::Sender<Attempt>,
}

impl Tunnels {
    /// Listens there.
    ///
    /// # Errors
    /// When the address cannot be had.
    pub(in crate::transport::site) fn listen(
        local: SocketAddr,
        mut tls: rustls::ServerConfig,
        quic: ServerConfig,
    ) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(local), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.bind(&local.into())?;
        socket.listen(BACKLOG)?;
        socket.set_nonblocking(true)?;
        let listener = TcpListener::from_std(StdListener::from(socket))?;
        tls.alpn_protocols = vec![TUNNEL_ALPN.to_vec()];
        let (attempts, taken) = mpsc::channel(ATTEMPTS_MAX);
        let door = Door { tls: TlsAcceptor::from(Arc::new(tls)), quic, local, attempts };
        let closing = watch::Sender::new(None);
        tokio::spawn(take_all(listener, Arc::new(door), closing.subscribe()));
        Ok(Self { attempts: Mutex::new(taken), closing })
    }

    /// The next attempt; never comes where there is none. May be broken off and asked again.
    pub(in crate::transport::site) async fn next(&self) -> Attempt {
        match self.attempts.lock().await.recv().await {
            Some(attempt) => attempt,
            None => std::future::pending().await,
        }
    }

    /// Closes all and takes no more; returns when those who are there have been told.
    pub(in crate::transport::site) async fn close(&self, code: u32, text: &str) {
        self.closing.send_replace(Some((VarInt::from_u32(code), text.to_owned())));
        // Those that wait are not looked at any more.
        {
            let mut attempts = self.attempts.lock().await;
            attempts.close();
            while attempts.try_recv().is_ok() {}
        }
        self.closing.closed().await;
    }
}

/// Takes connections until all are closed.
async fn take_all(listener: TcpListener, door: Arc<Door>, mut closing: Closing) {
    let seats = Arc::new(Seats::default());
    loop {
        let taken = tokio::select! {
            taken = listener.accept() => taken,
            _ = closing.wait_for(Option::is_some) => return,
        };
        match taken {
            Ok((stream, from)) => match seats.take(from.ip()) {
                Some(seat) => drop(tokio::spawn(serve(Arc::clone(&door), stream, from, seat, closing.clone()))),
                None => tracing::debug!(%from, "a connection by TCP has no seat"),
            },
            Err(error) => {
                tracing::debug!(%error, "no connection by TCP is taken");
                sleep(AGAIN_AFTER).await;
            }
        }
    }
}

async fn serve(door: Arc<Door>, stream: TcpStream, from: SocketAddr, mut seat: Seat, mut closing: Closing) {
    let opened = tokio::select! {
        opened = timeout(OPEN_WAIT, open(&door, stream, from)) => opened,
        () = seat.lost() => return tracing::debug!(%from, "a connection by TCP has lost its seat"),
        _ = closing.wait_for(Option::is_some) => return,
    };
    let (endpoint, tunnel, incoming) = match opened {
        Ok(Ok(Some(opened))) => opened,
        Ok(Err(error)) => return tracing::debug!(%from, %error, "a connection by TCP failed"),
        _ => return tracing::debug!(%from, "a connection by TCP came to nothing"),
    };
    // One connection for each tunnel.
    endpoint.set_server_config(None);
    let (known, is_known) = oneshot::channel();
    let greeting = Greeting { tunnel: Arc::clone(&tunnel), known };
    let greeted = async {
        // It fails where nobody takes any more.
        let _ = door.attempts.send((incoming, greeting)).await;
        is_known.await.is_ok()
    };
    let greeted = tokio::select! {
        greeted = timeout(GREET_WAIT, greeted) => greeted,
        () = seat.lost() => return tunnel.set_broken(),
    };
    let Ok(is_known) = greeted else { return tunnel.set_broken() };
    if is_known {
        seat.known();
    }
    tokio::select! {
        // Who accepts an invitation is a stranger to the end. One who is known has told its seat so, which ends this as well.
        () = seat.lost(), if !is_known => {
            tracing::debug!(%from, "a connection by TCP has lost its seat");
            endpoint.close(VarInt::from_u32(CLOSE_CROWDED), b"others have come: try again in a moment");
        }
        () = tend(endpoint.clone(), Arc::clone(&tunnel)) => {}
        closed = closing.wait_for(Option::is_some) => if let Ok(Some((code, text))) = closed.as_deref() {
            endpoint.close(*code, text.as_bytes());
        },
    }
    // Its last words are said.
    endpoint.wait_idle().await;
    drop(endpoint);
    tunnel.finish();
    tunnel.broken().await;
}

async fn open(
    door: &Door,
    stream: TcpStream,
    from: SocketAddr,
) -> io::Result<Option<(Endpoint, Arc<Tunnel>, Incoming)>> {
    stream.set_nodelay(true)?;
    let stream = door.tls.accept(stream).await?;
    if stream.get_ref().1.alpn_protocol() != Some(TUNNEL_ALPN) {
        return Ok(None);
    }
    let (endpoint, tunnel) = over(stream, (door.local, from), Some(door.quic.clone()))?;
    let incoming = endpoint.accept().await;
    Ok(incoming.map(|incoming| (endpoint, tunnel, incoming)))
}

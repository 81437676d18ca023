//! QUIC over one TCP connection, for links whose way lets no UDP through: each datagram of QUIC's with its length, within TLS 1.3.
//!
//! Inside nothing is different: streams, priorities and both sides' certificates are QUIC's. TCP loses nothing and keeps the order,
//! so QUIC never takes a packet for lost: that needs a later one that has come. `framing` are the bytes (pure), `socket` is what
//! the endpoint takes for UDP, `seats` bounds who may hold a connection (pure), `listen` takes them. Why it is so stands in
//! docs/decisions/2026-11-27-links-over-tcp.md.

mod framing;
mod listen;
mod seats;
mod socket;
#[cfg(test)]
mod tests;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use quinn::{Endpoint, EndpointConfig, ServerConfig, TokioRuntime, VarInt};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;

use super::connection::Ended;
use super::dial::builder;
use super::verify::SiteVerifier;
use framing::Splitter;
use socket::TunnelSocket;

pub(super) use listen::{Greeting, Tunnels};
pub(super) use socket::Tunnel;

/// What the TLS connection around it speaks.
const TUNNEL_ALPN: &[u8] = b"edgeway-tunnel/1";
/// Bytes that are read at once.
const READ_BYTES: usize = 16 << 10;
/// How long the other side may take none of what is written: a TCP that stalls longer is broken.
const WRITE_WAIT: Duration = Duration::from_secs(60);
/// How long last words may take: to be written, to come, and to be taken by the endpoint.
const LAST_WORDS_WAIT: Duration = Duration::from_secs(2);
/// The code with which a connection ends here whose TCP connection is gone.
const CLOSE_CUT: u32 = 0;
/// The first size of QUIC's packets within: it need not be found out, as TCP takes any.
pub(super) const PACKET_BYTES: u16 = 1_452;
/// What each datagram takes besides, at most: its length, and TLS's record.
pub(super) const BESIDES_BYTES: u64 = 24;

/// An endpoint of QUIC over a stream of bytes; whom it reaches is `peer`, whatever address is dialled.
fn over<S>(
    stream: S,
    (local, peer): (SocketAddr, SocketAddr),
    server: Option<ServerConfig>,
) -> io::Result<(Endpoint, Arc<Tunnel>)>
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let tunnel = Arc::new(Tunnel::default());
    let socket = Arc::new(TunnelSocket { tunnel: Arc::clone(&tunnel), local, peer });
    let config = EndpointConfig::default();
    let endpoint = Endpoint::new_with_abstract_socket(config, server, socket, Arc::new(TokioRuntime))?;
    tokio::spawn(carry(stream, Arc::clone(&tunnel)));
    Ok((endpoint, tunnel))
}

/// Moves bytes both ways until the stream is broken or the endpoint has let go.
async fn carry(stream: impl AsyncRead + AsyncWrite, tunnel: Arc<Tunnel>) {
    let (from, to) = tokio::io::split(stream);
    let last_words = async {
        tunnel.finished().await;
        sleep(LAST_WORDS_WAIT).await;
    };
    let reads = async {
        let why = read(from, &tunnel).await;
        // The last words of the other side have come with its end: the endpoint hears them before it is told that nothing goes any more.
        let _ = timeout(LAST_WORDS_WAIT, tunnel.taken()).await;
        why
    };
    let writes = async {
        let why = write(to, &tunnel).await;
        // The other side's may be on their way. And what was said last here is lost where a socket is closed before all that has come was read.
        sleep(LAST_WORDS_WAIT).await;
        why
    };
    tokio::select! {
        why = reads => tracing::debug!(?why, "a tunnel ends: nothing more comes"),
        why = writes => tracing::debug!(?why, "a tunnel ends: nothing more goes"),
        () = last_words => {}
    }
    tunnel.set_broken();
}

async fn read(mut from: impl AsyncRead + Unpin, tunnel: &Tunnel) -> io::Result<()> {
    let (mut bytes, mut splitter) = (vec![0; READ_BYTES], Splitter::default());
    loop {
        tunnel.room().await;
        let count = from.read(&mut bytes).await?;
        if count == 0 {
            return Ok(());
        }
        splitter.add(&bytes[..count]);
        while let Some(datagram) = splitter.next().map_err(io::Error::other)? {
            tunnel.push(datagram);
        }
    }
}

async fn write(mut to: impl AsyncWrite + Unpin, tunnel: &Tunnel) -> io::Result<()> {
    while let Some(bytes) = tunnel.next_outgoing().await {
        let written = async {
            to.write_all(&bytes).await?;
            to.flush().await
        };
        timeout(WRITE_WAIT, written).await??;
    }
    to.shutdown().await
}

/// Stays with an endpoint until its connection is over, which it is soon after the tunnel is; then ends the tunnel, whoever still has a
/// handle of the connection.
async fn tend(endpoint: Endpoint, tunnel: Arc<Tunnel>) {
    tokio::select! {
        () = endpoint.wait_idle() => {}
        () = tunnel.broken() => endpoint.close(VarInt::from_u32(CLOSE_CUT), b""),
    }
    tunnel.finish();
}

/// Connects by TCP to one who listens for tunnels; its certificate is judged as that within.
pub(super) async fn dial(
    address: SocketAddr,
    verifier: SiteVerifier,
    config: quinn::ClientConfig,
    name: &str,
) -> Result<(quinn::Connection, Arc<Tunnel>), Ended> {
    let other = |error: &dyn std::fmt::Display| Ended::Other(error.to_string());
    let tls = builder().map_err(|error| other(&error))?;
    let mut tls = tls.dangerous().with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth();
    tls.alpn_protocols = vec![TUNNEL_ALPN.to_vec()];
    tls.resumption = rustls::client::Resumption::disabled();
    tls.enable_sni = false;
    let server = ServerName::try_from(name.to_owned()).map_err(|error| other(&error))?;
    let stream = TcpStream::connect(address).await.map_err(|error| other(&error))?;
    stream.set_nodelay(true).map_err(|error| other(&error))?;
    let local = stream.local_addr().map_err(|error| other(&error))?;
    let stream = TlsConnector::from(Arc::new(tls)).connect(server, stream).await.map_err(|error| ended(&error))?;
    let (endpoint, tunnel) = over(stream, (local, address), None).map_err(|error| other(&error))?;
    let connecting = endpoint.connect_with(config, address, name).map_err(|error| other(&error))?;
    tokio::spawn(tend(endpoint, Arc::clone(&tunnel)));
    match connecting.await {
        Err(quinn::ConnectionError::LocallyClosed) => Err(Ended::Cut),
        connected => Ok((connected?, tunnel)),
    }
}

/// Why there is no TLS connection.
fn ended(error: &io::Error) -> Ended {
    use rustls::{AlertDescription, Error};
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        Some(Error::AlertReceived(AlertDescription::NoApplicationProtocol) | Error::NoApplicationProtocol) => {
            Ended::Protocol
        }
        Some(Error::InvalidCertificate(_)) => Ended::of_certificate(&error.to_string()),
        _ => Ended::Other(error.to_string()),
    }
}

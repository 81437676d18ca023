//! Endpoints: one UDP port each, with every bound that a peer could otherwise pass.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use quinn::congestion::CubicConfig;
use quinn::crypto::rustls::QuicServerConfig;
use quinn::{Endpoint, EndpointConfig, IdleTimeout, ServerConfig, TokioRuntime, TransportConfig, VarInt};
use rustls::crypto::aws_lc_rs::Ticketer;
use socket2::{Domain, Protocol, Socket, Type};

use super::last_words::parting;
use super::reset::lasting;
use super::{Identity, install_provider};

/// What the socket's buffers should hold, bytes; the system may grant less.
const SOCKET_BUFFER_BYTES: usize = 4 << 20;
/// Connection attempts that wait to be looked at.
const INCOMING_MAX: usize = 1_024;
/// Bytes kept of one attempt that waits.
const INCOMING_BYTES_MAX: u64 = 16 << 10;
/// Bytes kept of all attempts that wait.
const INCOMING_BYTES_TOTAL_MAX: u64 = 4 << 20;
/// How long an address that answered a Retry counts as proven.
const RETRY_LIFETIME: Duration = Duration::from_secs(15);

/// What a peer may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Two-way streams that a peer may have open at once.
    pub two_way_streams_max: u32,
    /// One-way streams that a peer may have open at once.
    pub one_way_streams_max: u32,
    /// Bytes that one stream may hold unread.
    pub stream_bytes_max: u32,
    /// Bytes that all streams of a connection may hold unread.
    pub unread_bytes_max: u32,
    /// Bytes that a connection holds until its peer has confirmed them.
    pub unsent_bytes_max: u64,
    /// Bytes of datagrams that a connection holds unread; beyond, the oldest are dropped. 0: datagrams are refused.
    pub datagram_bytes_max: usize,
    /// The longest silence, after which a connection is lost.
    pub idle_max: Duration,
    /// Silence after which the peer is asked for a sign of life; `None` asks never.
    pub ping_after: Option<Duration>,
}

/// A bound that QUIC cannot say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the longest silence is longer than QUIC can say")]
pub struct BoundsError;

/// Why there is no endpoint.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    /// The key, the certificate, or both together.
    #[error("the certificate cannot be used: {0}")]
    Certificate(#[from] rustls::Error),
    /// The provider lacks what QUIC's first packets are protected with.
    #[error("the cryptography provider does not know AES-128-GCM")]
    Cipher,
    /// A bound.
    #[error(transparent)]
    Bounds(#[from] BoundsError),
    /// The address cannot be had.
    #[error(transparent)]
    Address(#[from] io::Error),
}

impl Bounds {
    /// As quinn takes it.
    pub(super) fn to_transport(self) -> Result<TransportConfig, BoundsError> {
        let idle = IdleTimeout::try_from(self.idle_max).map_err(|_| BoundsError)?;
        let mut transport = TransportConfig::default();
        transport
            .max_concurrent_bidi_streams(VarInt::from_u32(self.two_way_streams_max))
            .max_concurrent_uni_streams(VarInt::from_u32(self.one_way_streams_max))
            .stream_receive_window(VarInt::from_u32(self.stream_bytes_max))
            .receive_window(VarInt::from_u32(self.unread_bytes_max))
            .send_window(self.unsent_bytes_max)
            .max_idle_timeout(Some(idle))
            .keep_alive_interval(self.ping_after)
            .congestion_controller_factory(parting(CubicConfig::default()))
            .datagram_receive_buffer_size((self.datagram_bytes_max > 0).then_some(self.datagram_bytes_max));
        Ok(transport)
    }
}

/// An endpoint that takes connections for the application protocols `alpn`, the first that both sides know; others
/// are refused in the TLS handshake. Sessions may be resumed, but no data is taken before the handshake has ended:
/// what comes early can be replayed. A peer's address may change (connection migration).
///
/// # Errors
/// When the certificate cannot be used or the address cannot be had.
pub fn serve(
    address: SocketAddr,
    identity: &Identity,
    alpn: &[&[u8]],
    bounds: Bounds,
) -> Result<Endpoint, EndpointError> {
    install_provider();
    let mut tls = rustls::ServerConfig::builder_with_protocol_versions(&[&rustls::version::TLS13])
        .with_no_client_auth()
        .with_single_cert(identity.chain.clone(), identity.key.clone_key())?;
    tls.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    tls.max_early_data_size = 0;
    // What a client needs to resume is kept by the client, encrypted: it costs nothing here, however many there are.
    tls.ticketer = Ticketer::new()?;
    Ok(bind(address, lasting(&identity.key), Some(server_config(tls, bounds.to_transport()?)?))?)
}

/// What every endpoint that takes connections has in common.
pub(super) fn server_config(
    tls: rustls::ServerConfig,
    transport: TransportConfig,
) -> Result<ServerConfig, EndpointError> {
    let crypto = QuicServerConfig::try_from(tls).map_err(|_| EndpointError::Cipher)?;
    let mut server = ServerConfig::with_crypto(Arc::new(crypto));
    server
        .transport_config(Arc::new(transport))
        .migration(true)
        .retry_token_lifetime(RETRY_LIFETIME)
        .max_incoming(INCOMING_MAX)
        .incoming_buffer_size(INCOMING_BYTES_MAX)
        .incoming_buffer_size_total(INCOMING_BYTES_TOTAL_MAX);
    Ok(server)
}

/// An endpoint that only connects.
///
/// # Errors
/// When the address cannot be had.
pub fn client(address: SocketAddr) -> Result<Endpoint, EndpointError> {
    Ok(bind(address, EndpointConfig::default(), None)?)
}

pub(super) fn bind(address: SocketAddr, config: EndpointConfig, server: Option<ServerConfig>) -> io::Result<Endpoint> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    // Every connection shares this socket; a small buffer loses packets whenever the node is busy for a moment.
    for granted in [socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES), socket.set_send_buffer_size(SOCKET_BUFFER_BYTES)]
    {
        if let Err(error) = granted {
            tracing::debug!(%error, "the socket keeps its buffer");
        }
    }
    let granted_bytes = socket.recv_buffer_size()?;
    if server.is_some() && granted_bytes < SOCKET_BUFFER_BYTES {
        tracing::info!(
            granted_bytes,
            wanted_bytes = SOCKET_BUFFER_BYTES,
            "the system grants a small UDP buffer: where many devices connect at once, packets are lost and sent again \
             after a second or more; on Linux net.core.rmem_max sets the limit"
        );
    }
    socket.bind(&address.into())?;
    Endpoint::new(config, server, UdpSocket::from(socket), Arc::new(TokioRuntime))
}

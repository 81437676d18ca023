//! A node's one endpoint of its site: it takes connections and it dials, from the same port.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use quinn::congestion::CubicConfig;
use quinn::{AckFrequencyConfig, Endpoint, Incoming, MtuDiscoveryConfig, TransportConfig, VarInt};
use rustls::server::NoServerSessionStorage;

use super::connection::{Ended, SiteConnection, SiteProtocol};
use super::tunnel::{Greeting, PACKET_BYTES, Tunnels};
use super::verify::SiteVerifier;
use super::{JOIN_ALPN, LINK_ALPN, LINK_JOIN_ALPN, SITE_ALPN, SiteIdentity, dial, names};
use crate::transport::endpoint::{bind, server_config};
use crate::transport::last_words::parting;
use crate::transport::reset::lasting;
use crate::transport::{Bounds, EndpointError, NodeId, install_provider};

/// Bytes that all streams of a connection may hold unread until the other side is known for a node of the site.
const UNKNOWN_UNREAD_BYTES_MAX: u32 = 64 << 10;
/// Streams that it may have open until then: the one by which it joins.
const UNKNOWN_STREAMS_MAX: u32 = 1;
/// How often a path that stands is tried for larger packets: the first try finds it, and idle traffic shall be small.
const MTU_EVERY: Duration = Duration::from_secs(3_600);
/// The largest packet that is tried for and taken, in bytes: ten of them are what the system takes at once (64 KiB).
const PACKET_BYTES_MAX: u16 = 6_500;
/// Packets that may come before they are confirmed, or 25 ms: what is sent in both directions confirms besides.
const PACKETS_UNCONFIRMED: u32 = 10;
/// Bytes that may be in flight before the first are confirmed: with fewer, the search for larger packets takes all of it.
const FIRST_WINDOW_BYTES: u64 = 5 * PACKET_BYTES_MAX as u64;
/// The code with which a connection is closed that shows no certificate.
const CLOSE_NAMELESS: u32 = 1;

/// A node's endpoint of its site.
#[derive(Debug, Clone)]
pub struct SiteEndpoint {
    endpoint: Endpoint,
    /// Those who come by TCP; none where its port is somebody else's.
    tunnels: Option<Arc<Tunnels>>,
    identity: Arc<SiteIdentity>,
    transport: Arc<TransportConfig>,
    bounds: Bounds,
}

/// A connection that somebody wants to make.
#[derive(Debug)]
pub struct Attempt {
    incoming: Incoming,
    bounds: Bounds,
    greeting: Option<Greeting>,
}

/// An endpoint at `address` for the nodes of the site and those that join it. What a peer may take is `bounds`, once
/// it has shown a certificate of the site; until then it may have one stream and 64 KiB. Links may come by TCP as well, at the same
/// port, where nobody else has it.
///
/// # Errors
/// When the certificate cannot be used or the address cannot be had.
pub fn site_endpoint(
    address: SocketAddr,
    identity: Arc<SiteIdentity>,
    bounds: Bounds,
) -> Result<SiteEndpoint, EndpointError> {
    install_provider();
    let verifier = SiteVerifier::new(identity.site, identity.ca(), None)?;
    let mut tls = rustls::ServerConfig::builder_with_protocol_versions(&[&rustls::version::TLS13])
        .with_client_cert_verifier(Arc::new(verifier))
        .with_single_cert(identity.chain.clone(), identity.key.clone_key())?;
    tls.alpn_protocols = [SITE_ALPN, JOIN_ALPN, LINK_ALPN, LINK_JOIN_ALPN].map(<[u8]>::to_vec).to_vec();
    tls.max_early_data_size = 0;
    // Each handshake is a whole one: what was true of a certificate once is not taken on trust.
    tls.send_tls13_tickets = 0;
    tls.session_storage = Arc::new(NoServerSessionStorage {});
    let server = server_config(tls, quiet(unknown(bounds))?)?;
    let mut config = lasting(&identity.key);
    config.max_udp_payload_size(PACKET_BYTES_MAX).map_err(|error| EndpointError::Address(io::Error::other(error)))?;
    let endpoint = bind(address, config, Some(server.clone()))?;
    let tunnels = tunnels(endpoint.local_addr()?, &identity, server, bounds)?;
    Ok(SiteEndpoint { endpoint, tunnels, transport: Arc::new(quiet(unknown(bounds))?), identity, bounds })
}

/// Listens by TCP beside UDP. A port that is somebody else's is told, and no more: links go by UDP all the same.
fn tunnels(
    address: SocketAddr,
    identity: &SiteIdentity,
    mut quic: quinn::ServerConfig,
    bounds: Bounds,
) -> Result<Option<Arc<Tunnels>>, EndpointError> {
    let mut tls = rustls::ServerConfig::builder_with_protocol_versions(&[&rustls::version::TLS13])
        .with_no_client_auth()
        .with_single_cert(identity.chain.clone(), identity.key.clone_key())?;
    tls.max_early_data_size = 0;
    tls.send_tls13_tickets = 0;
    tls.session_storage = Arc::new(NoServerSessionStorage {});
    let mut transport = quiet(unknown(bounds))?;
    transport.initial_mtu(PACKET_BYTES);
    // Each has one connection, and no other address.
    quic.max_incoming(1).migration(false).transport_config(Arc::new(transport));
    match Tunnels::listen(address, tls, quic) {
        Ok(tunnels) => Ok(Some(Arc::new(tunnels))),
        Err(error) => {
            tracing::warn!(%address, %error, "links cannot come by TCP: where UDP is blocked, they do not stand");
            Ok(None)
        }
    }
}

/// What a peer may take before it is known.
fn unknown(bounds: Bounds) -> Bounds {
    Bounds {
        two_way_streams_max: UNKNOWN_STREAMS_MAX.min(bounds.two_way_streams_max),
        unread_bytes_max: UNKNOWN_UNREAD_BYTES_MAX.min(bounds.unread_bytes_max),
        ..bounds
    }
}

fn quiet(bounds: Bounds) -> Result<TransportConfig, EndpointError> {
    let mut transport = bounds.to_transport()?;
    let mut mtu = MtuDiscoveryConfig::default();
    mtu.interval(MTU_EVERY).upper_bound(PACKET_BYTES_MAX);
    let mut cubic = CubicConfig::default();
    cubic.initial_window(FIRST_WINDOW_BYTES);
    transport.congestion_controller_factory(parting(cubic));
    let mut acks = AckFrequencyConfig::default();
    acks.ack_eliciting_threshold(VarInt::from_u32(PACKETS_UNCONFIRMED));
    transport.ack_frequency_config(Some(acks));
    transport.mtu_discovery_config(Some(mtu)).datagram_send_buffer_size(bounds.datagram_bytes_max);
    Ok(transport)
}

/// A peer that is known for a node of the site may take what is granted to nodes.
fn welcome(connection: &SiteConnection, bounds: Bounds) {
    let inner = connection.inner();
    inner.set_receive_window(VarInt::from_u32(bounds.unread_bytes_max));
    inner.set_max_concurrent_bi_streams(VarInt::from_u32(bounds.two_way_streams_max));
}

impl SiteEndpoint {
    /// Where it listens.
    ///
    /// # Errors
    /// The system's.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.endpoint.local_addr()
    }

    /// Who the node is.
    pub fn identity(&self) -> &SiteIdentity {
        &self.identity
    }

    /// Connects to the node `expected` at an address. Whether the other side takes this node's certificate is heard
    /// only afterwards: the connection ends with [`Ended::CertificateRefused`] then.
    ///
    /// # Errors
    /// When there is no answer, or the other side is not that node of this site.
    pub async fn dial(&self, address: SocketAddr, expected: NodeId) -> Result<SiteConnection, Ended> {
        let config = dial::to_node(&self.identity, expected, Arc::clone(&self.transport));
        let config = config.map_err(|error| Ended::Other(error.to_string()))?;
        let name = names::text(expected, self.identity.site);
        let connection = dial::connect(&self.endpoint, config, address, &name).await?;
        welcome(&connection, self.bounds);
        Ok(connection)
    }

    /// The next attempt; `None` once the endpoint is closed. May be broken off and asked again.
    pub async fn accept(&self) -> Option<Attempt> {
        let by_tcp = async {
            match &self.tunnels {
                Some(tunnels) => tunnels.next().await,
                None => std::future::pending().await,
            }
        };
        let (incoming, greeting) = tokio::select! {
            incoming = self.endpoint.accept() => (incoming?, None),
            (incoming, greeting) = by_tcp => (incoming, Some(greeting)),
        };
        Some(Attempt { incoming, bounds: self.bounds, greeting })
    }

    /// Closes all connections and takes no more; waits until those who are there have been told, `wait` at most.
    pub async fn close(&self, code: u32, text: &str, wait: Duration) {
        self.endpoint.close(VarInt::from_u32(code), text.as_bytes());
        let tunnels = async {
            if let Some(tunnels) = &self.tunnels {
                tunnels.close(code, text).await;
            }
        };
        let _ = tokio::time::timeout(wait, async { tokio::join!(self.endpoint.wait_idle(), tunnels) }).await;
    }
}

impl Attempt {
    /// Where it comes from.
    pub fn address(&self) -> SocketAddr {
        self.incoming.remote_address()
    }

    /// Whether the other side has shown that the address is its own.
    pub fn is_proven(&self) -> bool {
        self.greeting.is_some() || self.incoming.remote_address_validated()
    }

    /// Does not take it.
    pub fn refuse(self) {
        self.incoming.refuse();
    }

    /// Has the other side show first that the address is its own.
    pub fn ask_for_proof(self) {
        if let Err(error) = self.incoming.retry() {
            // It bears a token already, one that has aged: it may begin anew.
            error.into_incoming().refuse();
        }
    }

    /// Shakes hands. A connection of nodes has a peer that is one, by its certificate.
    ///
    /// # Errors
    /// When the other side fell silent, speaks something else, or shows no certificate or a wrong one.
    pub async fn shake_hands(self) -> Result<SiteConnection, Ended> {
        let (tunnel, known) = self.greeting.map(|greeting| (greeting.tunnel, greeting.known)).unzip();
        let connection = SiteConnection::new(self.incoming.accept()?.await?, tunnel).ok_or(Ended::Protocol)?;
        let is_known = match connection.protocol() {
            SiteProtocol::Site | SiteProtocol::Join if known.is_some() => {
                connection.close(CLOSE_NAMELESS, "links alone may come by TCP");
                return Err(Ended::Protocol);
            }
            SiteProtocol::Join | SiteProtocol::LinkJoin => None,
            SiteProtocol::Site => Some(connection.peer().is_some()),
            SiteProtocol::Link => Some(connection.link().is_some()),
        };
        match is_known {
            None => {}
            Some(true) => {
                welcome(&connection, self.bounds);
                // What fails is that it is gone again.
                let _ = known.map(|known| known.send(()));
            }
            Some(false) => {
                let what = "a node of the site shows its certificate; one that joins speaks edgeway-join/1";
                connection.close(CLOSE_NAMELESS, what);
                return Err(Ended::Certificate("the other side shows no certificate".to_owned()));
            }
        }
        Ok(connection)
    }
}

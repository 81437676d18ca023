//! The dialling side: to a node of the own site, or to a node of a site that one wants to join.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Endpoint, TransportConfig};
use rustls::client::Resumption;

use super::connection::{Ended, SiteConnection, Way};
use super::verify::SiteVerifier;
use super::{JOIN_ALPN, SITE_ALPN, SiteIdentity, names, tunnel};
use crate::transport::endpoint::client;
use crate::transport::{Bounds, BoundsError, Fingerprint, NodeId};

/// Why the node of a site that is to be joined is not reached.
#[derive(Debug, thiserror::Error)]
pub enum JoinDialError {
    /// A bound.
    #[error(transparent)]
    Bounds(#[from] BoundsError),
    /// No socket, or TLS cannot be used.
    #[error("no connection can be made from here: {0}")]
    Here(String),
    /// No connection came about.
    #[error(transparent)]
    Ended(#[from] Ended),
}

/// How to connect to one node of the own site.
pub(super) fn to_node(
    identity: &SiteIdentity,
    expected: NodeId,
    transport: Arc<TransportConfig>,
) -> Result<ClientConfig, rustls::Error> {
    let verifier = SiteVerifier::new(identity.site, identity.ca(), Some(expected))?;
    let tls = builder()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_auth_cert(identity.chain.clone(), identity.key.clone_key())?;
    config(tls, SITE_ALPN, transport)
}

/// Connects to a node of the site whose CA has this fingerprint, without a certificate of one's own.
///
/// # Errors
/// When no connection comes about: no answer, another site or another CA, or a node that takes none that join.
pub async fn dial_join(
    address: SocketAddr,
    site: u64,
    ca: Fingerprint,
    bounds: Bounds,
) -> Result<SiteConnection, JoinDialError> {
    dial_pinned(address, site, ca, (bounds, JOIN_ALPN), Way::Quic).await
}

/// Connects so for the application protocol `alpn`.
pub(super) async fn dial_pinned(
    address: SocketAddr,
    site: u64,
    ca: Fingerprint,
    (bounds, alpn): (Bounds, &[u8]),
    way: Way,
) -> Result<SiteConnection, JoinDialError> {
    let here = |error: &dyn std::fmt::Display| JoinDialError::Here(error.to_string());
    let verifier = || SiteVerifier::pinned(site, ca).map_err(|error| here(&error));
    let tls = builder().map_err(|error| here(&error))?;
    let tls = tls.dangerous().with_custom_certificate_verifier(Arc::new(verifier()?)).with_no_client_auth();
    let config = config(tls, alpn, Arc::new(bounds.to_transport()?)).map_err(|error| here(&error))?;
    reach(way, address, config, verifier()?, &names::text(NodeId(0), site)).await
}

/// Connects by one way, from a port of its own. `verifier` judges who is there by TCP.
pub(super) async fn reach(
    way: Way,
    address: SocketAddr,
    config: ClientConfig,
    verifier: SiteVerifier,
    name: &str,
) -> Result<SiteConnection, JoinDialError> {
    match way {
        Way::Quic => {
            let endpoint = client(any_port(address)).map_err(|error| JoinDialError::Here(error.to_string()))?;
            Ok(connect(&endpoint, config, address, name).await?)
        }
        Way::Tcp => {
            let (connection, tunnel) = tunnel::dial(address, verifier, config, name).await?;
            Ok(SiteConnection::new(connection, Some(tunnel)).ok_or(Ended::Protocol)?)
        }
    }
}

/// Any port of the kind of address that is dialled.
fn any_port(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    }
}

/// Shakes hands with what is at the address.
pub(super) async fn connect(
    endpoint: &Endpoint,
    config: ClientConfig,
    address: SocketAddr,
    name: &str,
) -> Result<SiteConnection, Ended> {
    let connecting = endpoint.connect_with(config, address, name).map_err(|error| Ended::Other(error.to_string()))?;
    SiteConnection::new(connecting.await?, None).ok_or(Ended::Protocol)
}

pub(super) fn builder() -> Result<rustls::ConfigBuilder<rustls::ClientConfig, rustls::WantsVerifier>, rustls::Error> {
    crate::transport::install_provider();
    Ok(rustls::ClientConfig::builder_with_protocol_versions(&[&rustls::version::TLS13]))
}

pub(super) fn config(
    mut tls: rustls::ClientConfig,
    alpn: &[u8],
    transport: Arc<TransportConfig>,
) -> Result<ClientConfig, rustls::Error> {
    tls.alpn_protocols = vec![alpn.to_vec()];
    // Each handshake is a whole one: what was true of a certificate once is not taken on trust.
    tls.resumption = Resumption::disabled();
    tls.enable_early_data = false;
    // The name that is expected is no secret, and no server chooses by it.
    tls.enable_sni = false;
    let crypto = QuicClientConfig::try_from(tls).map_err(|error| rustls::Error::General(error.to_string()))?;
    let mut config = ClientConfig::new(Arc::new(crypto));
    config.transport_config(transport);
    Ok(config)
}

/// Takes the nodes of one site, and shows a certificate of another.
#[cfg(test)]
pub(super) fn disguised(identity: &SiteIdentity, other: &SiteIdentity) -> ClientConfig {
    let verifier = SiteVerifier::new(other.site, other.ca(), None).unwrap();
    let tls = builder().unwrap().dangerous().with_custom_certificate_verifier(Arc::new(verifier));
    let tls = tls.with_client_auth_cert(identity.chain.clone(), identity.key.clone_key()).unwrap();
    config(tls, SITE_ALPN, Arc::default()).unwrap()
}

/// Shows no certificate.
#[cfg(test)]
pub(super) fn nameless(identity: &SiteIdentity, alpn: &[u8]) -> ClientConfig {
    let verifier = SiteVerifier::new(identity.site, identity.ca(), None).unwrap();
    let tls = builder().unwrap().dangerous().with_custom_certificate_verifier(Arc::new(verifier));
    config(tls.with_no_client_auth(), alpn, Arc::default()).unwrap()
}

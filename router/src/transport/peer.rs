//! The other side of a pin: a connection to the one node whose certificate has a known fingerprint.

use std::sync::Arc;

use quinn::ClientConfig;
use quinn::crypto::rustls::QuicClientConfig;
use rustls::crypto::CryptoProvider;

use super::{Bounds, BoundsError, Fingerprint, Pin, install_provider};

/// Why no connection can be made.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    /// The provider cannot do what QUIC asks for.
    #[error("the cryptography provider cannot be used: {0}")]
    Provider(String),
    /// A bound.
    #[error(transparent)]
    Bounds(#[from] BoundsError),
}

/// How to connect to the node with this fingerprint, for one application protocol. Names and dates of its
/// certificate do not matter; that it holds the certificate's key is proven in the handshake.
///
/// # Errors
/// When the provider or a bound cannot be used.
pub fn pinned(fingerprint: Fingerprint, alpn: &[u8], bounds: Bounds) -> Result<ClientConfig, PeerError> {
    install_provider();
    let unusable = |error: &dyn std::fmt::Display| PeerError::Provider(error.to_string());
    let provider = CryptoProvider::get_default().ok_or_else(|| unusable(&"none is installed"))?;
    let mut tls = rustls::ClientConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| unusable(&error))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Pin::new(fingerprint, Arc::clone(provider))))
        .with_no_client_auth();
    tls.alpn_protocols = vec![alpn.to_vec()];
    let crypto = QuicClientConfig::try_from(tls).map_err(|error| unusable(&error))?;
    let mut config = ClientConfig::new(Arc::new(crypto));
    config.transport_config(Arc::new(bounds.to_transport()?));
    Ok(config)
}

//! The other side of a pin: a connection to the one node whose certificate has a known fingerprint.

use std::sync::Arc;

use quinn::ClientConfig;
use quinn::crypto::rustls::QuicClientConfig;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, SignatureScheme};

use super::{Bounds, BoundsError, Fingerprint, install_provider};

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
        .with_custom_certificate_verifier(Arc::new(Pin { fingerprint, provider: Arc::clone(provider) }))
        .with_no_client_auth();
    tls.alpn_protocols = vec![alpn.to_vec()];
    let crypto = QuicClientConfig::try_from(tls).map_err(|error| unusable(&error))?;
    let mut config = ClientConfig::new(Arc::new(crypto));
    config.transport_config(Arc::new(bounds.to_transport()?));
    Ok(config)
}

#[derive(Debug)]
struct Pin {
    fingerprint: Fingerprint,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pin {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if Fingerprint::of(end_entity) == self.fingerprint {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(CertificateError::ApplicationVerificationFailure.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

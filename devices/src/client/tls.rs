//! By what the client trusts the node's certificate, and the TLS sessions that it can resume.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use thiserror::Error;

use crate::trust::{Fingerprint, Pin};

/// Largest file of certificates, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Certificates in it at most.
const CERTIFICATES_MAX: usize = 256;

/// Why there is no trust.
#[derive(Debug, Error)]
pub enum TlsError {
    /// The file cannot be read.
    #[error("{path} cannot be read: {error}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The file holds no certificate that can vouch for another.
    #[error("{0} holds no certificate in PEM form that can vouch for the node's")]
    Content(PathBuf),
    /// Neither a pin nor a file.
    #[error("nothing says by what the node's certificate is trusted: give its fingerprint or a file of certificates")]
    Nothing,
    /// TLS refuses what was put together.
    #[error("TLS cannot be set up: {0}")]
    Refused(String),
}

/// Trust in one node, with the sessions of earlier connections to it: whoever connects again with a clone of it need
/// not be shown the certificate. Nothing is ever sent before the handshake has ended, as that could be replayed.
#[derive(Clone)]
pub struct Tls {
    config: Arc<ClientConfig>,
}

impl Tls {
    /// Trusts the certificate with this fingerprint; its names and dates do not matter.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn pinned(fingerprint: Fingerprint) -> Result<Self, TlsError> {
        Self::new(Some(fingerprint), None)
    }

    /// Trusts what a certificate of this PEM file vouches for, where it names the host.
    ///
    /// # Errors
    /// When the file cannot be used.
    pub fn with_ca(file: &Path) -> Result<Self, TlsError> {
        Self::new(None, Some(file))
    }

    /// Trusts by a fingerprint, a file, or both, each of which must hold then.
    ///
    /// # Errors
    /// When neither is given, or the file cannot be used.
    pub fn new(pin: Option<Fingerprint>, ca: Option<&Path>) -> Result<Self, TlsError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let vouched = ca.map(|file| verifier(file, &provider)).transpose()?;
        let verifier: Arc<dyn ServerCertVerifier> = match (pin, vouched) {
            (Some(pin), Some(vouched)) => Arc::new(Pin::new(pin, Arc::clone(&provider)).and(vouched)),
            (Some(pin), None) => Arc::new(Pin::new(pin, Arc::clone(&provider))),
            (None, Some(vouched)) => vouched,
            (None, None) => return Err(TlsError::Nothing),
        };
        Self::with_verifier(verifier, provider)
    }

    pub(super) fn with_verifier(
        verifier: Arc<dyn ServerCertVerifier>,
        provider: Arc<CryptoProvider>,
    ) -> Result<Self, TlsError> {
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|error| TlsError::Refused(error.to_string()))?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth();
        Ok(Self { config: Arc::new(config) })
    }

    /// For MQTT.
    pub(super) fn config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.config)
    }

    /// For an application protocol, on the same sessions.
    #[cfg(feature = "quic")]
    pub(super) fn for_protocol(&self, alpn: &[u8]) -> ClientConfig {
        let mut config = ClientConfig::clone(&self.config);
        config.alpn_protocols = vec![alpn.to_vec()];
        config
    }
}

/// Checks a chain up to a certificate of the file, its dates, and the host's name.
fn verifier(file: &Path, provider: &Arc<CryptoProvider>) -> Result<Arc<dyn ServerCertVerifier>, TlsError> {
    let unreadable = |error| TlsError::File { path: file.to_owned(), error };
    let length = fs::metadata(file).map_err(unreadable)?.len();
    if length > FILE_BYTES_MAX {
        let text = format!("it has {length} bytes, at most {FILE_BYTES_MAX} are taken");
        return Err(unreadable(io::Error::other(text)));
    }
    let text = fs::read(file).map_err(unreadable)?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&text).take(CERTIFICATES_MAX).flatten() {
        // Others of the file may do.
        if let Err(error) = roots.add(certificate) {
            tracing::debug!(%error, file = %file.display(), "a certificate is left out");
        }
    }
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider)).build();
    Ok(verifier.map_err(|_| TlsError::Content(file.to_owned()))?)
}

#[cfg(test)]
#[path = "tls_tests.rs"]
mod tests;

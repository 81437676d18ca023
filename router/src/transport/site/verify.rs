//! Whether a certificate is one of a node of a site: signed by the site's CA, and naming the node.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, RootCertStore, SignatureScheme,
};

use super::names::{self, LinkPeer};
use crate::transport::{Fingerprint, NodeId, install_provider};

/// The moment at which every certificate is judged, seconds since 1970: within the validity of all that are made
/// here, whatever this machine's clock says.
pub(super) const JUDGED_AT_S: u64 = 1_767_225_600;

/// Why a certificate is not taken.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    /// It names no node.
    #[error("the certificate names no node of a site")]
    Nameless,
    /// It names another site.
    #[error("the certificate is of node {node} of another site, {site:016x}; this site is {own:016x}")]
    OtherSite {
        /// The node that it names.
        node: NodeId,
        /// The site that it names.
        site: u64,
        /// The site that was expected.
        own: u64,
    },
    /// It names this site, and the site's CA has not signed it.
    #[error("the certificate names node {node} of this site, but is not signed by this site's CA: {why}")]
    OtherCa {
        /// The node that it names.
        node: NodeId,
        /// What is wrong.
        why: String,
    },
    /// It is another node's.
    #[error("the certificate is that of node {node}; node {expected} was expected at this address")]
    OtherNode {
        /// The node that it names.
        node: NodeId,
        /// The node that should be there.
        expected: NodeId,
    },
    /// No certificate of the chain has the fingerprint of the token.
    #[error("the other side does not have the CA that the token names: another site, or somebody in between")]
    Unpinned,
    /// The CA's certificate cannot be used.
    #[error("the certificate of the site's CA cannot be used: {0}")]
    Ca(String),
}

impl fmt::Debug for Refusal {
    /// As for people: rustls says no more of it than this.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        CertificateError::Other(OtherError(Arc::new(refusal))).into()
    }
}

/// By what the site's CA is known.
#[derive(Debug)]
enum Anchor {
    /// The node has it.
    Known(Arc<WebPkiServerVerifier>),
    /// Its fingerprint; the other side shows it.
    Pinned(Fingerprint),
}

/// Judges the certificates of a site's nodes, be they servers or clients.
#[derive(Debug)]
pub(super) struct SiteVerifier {
    site: u64,
    anchor: Anchor,
    expected: Option<NodeId>,
    provider: Arc<CryptoProvider>,
}

impl SiteVerifier {
    /// Of the site with this CA; `expected`: the one node whose certificate is taken, `None` takes all.
    pub(super) fn new(site: u64, ca: &CertificateDer<'static>, expected: Option<NodeId>) -> Result<Self, Error> {
        let provider = provider()?;
        let anchor = Anchor::Known(anchored(ca, &provider)?);
        Ok(Self { site, anchor, expected, provider })
    }

    /// Of the site whose CA has this fingerprint.
    pub(super) fn pinned(site: u64, ca: Fingerprint) -> Result<Self, Error> {
        Ok(Self { site, anchor: Anchor::Pinned(ca), expected: None, provider: provider()? })
    }

    /// The node that a certificate is of.
    pub(super) fn judge(
        &self,
        certificate: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
    ) -> Result<NodeId, Refusal> {
        let (node, site) = names::of(certificate).ok_or(Refusal::Nameless)?;
        if site != self.site {
            return Err(Refusal::OtherSite { node, site, own: self.site });
        }
        let verifier = match &self.anchor {
            Anchor::Known(verifier) => Arc::clone(verifier),
            Anchor::Pinned(fingerprint) => {
                let ca = others.iter().find(|other| Fingerprint::of(other) == *fingerprint);
                let ca = ca.ok_or(Refusal::Unpinned)?.clone().into_owned();
                anchored(&ca, &self.provider).map_err(|error| Refusal::Ca(error.to_string()))?
            }
        };
        signed(&verifier, certificate, node, &names::text(node, site))?;
        match self.expected {
            Some(expected) if expected != node => Err(Refusal::OtherNode { node, expected }),
            _ => Ok(node),
        }
    }
}

impl SiteVerifier {
    /// Whether a certificate of the edge's end of a link is one that this site has given.
    pub(super) fn judge_link(
        &self,
        certificate: &CertificateDer<'_>,
        peer: LinkPeer,
        site: u64,
    ) -> Result<(), Refusal> {
        let LinkPeer { node, .. } = peer;
        if site != self.site {
            return Err(Refusal::OtherSite { node, site, own: self.site });
        }
        let Anchor::Known(verifier) = &self.anchor else { return Err(Refusal::Unpinned) };
        signed(verifier, certificate, node, &names::link_text(peer, site))
    }
}

/// Whether the CA has signed a certificate of this name.
fn signed(
    verifier: &WebPkiServerVerifier,
    certificate: &CertificateDer<'_>,
    node: NodeId,
    name: &str,
) -> Result<(), Refusal> {
    let name = ServerName::try_from(name).map_err(|_| Refusal::Nameless)?;
    let judged_at = UnixTime::since_unix_epoch(Duration::from_secs(JUDGED_AT_S));
    let judged = verifier.verify_server_cert(certificate, &[], &name, &[], judged_at);
    judged.map(drop).map_err(|error| Refusal::OtherCa { node, why: error.to_string() })
}

fn provider() -> Result<Arc<CryptoProvider>, Error> {
    install_provider();
    CryptoProvider::get_default().cloned().ok_or_else(|| Error::General("no cryptography provider".to_owned()))
}

fn anchored(ca: &CertificateDer<'static>, provider: &Arc<CryptoProvider>) -> Result<Arc<WebPkiServerVerifier>, Error> {
    let mut roots = RootCertStore::empty();
    roots.add(ca.clone())?;
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
        .build()
        .map_err(|error| Error::General(error.to_string()))
}

impl ServerCertVerifier for SiteVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(self.judge(end_entity, intermediates).map(|_| ServerCertVerified::assertion())?)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

impl ClientCertVerifier for SiteVerifier {
    /// One that joins has none; what it may speak without is decided once the protocol is known.
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        if let Some((peer, site)) = names::link_of(end_entity) {
            self.judge_link(end_entity, peer, site)?;
            return Ok(ClientCertVerified::assertion());
        }
        Ok(self.judge(end_entity, intermediates).map(|_| ClientCertVerified::assertion())?)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        ServerCertVerifier::verify_tls12_signature(self, message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        ServerCertVerifier::verify_tls13_signature(self, message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        ServerCertVerifier::supported_verify_schemes(self)
    }
}

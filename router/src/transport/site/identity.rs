//! Who a node is in its site: the site's CA with its key, and the node's own certificate with its key.

use std::path::PathBuf;

use rcgen::KeyPair;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::ParsedCertificate;

use super::verify::SiteVerifier;
use super::{LinkPeer, issue, names};
use crate::transport::{FileError, Fingerprint, NodeId};

/// Why a node has no place in a site.
#[derive(Debug, thiserror::Error)]
pub enum SiteError {
    /// A file cannot be read or made, or anybody may read a key.
    #[error(transparent)]
    File(#[from] FileError),
    /// A file of the folder is gone.
    #[error(
        "the site's folder {folder} lacks {file}: bring it back from a backup, or remove the folder and let the node \
         join anew"
    )]
    Incomplete {
        /// The folder.
        folder: PathBuf,
        /// The file that is not there.
        file: &'static str,
    },
    /// What is there does not belong together.
    #[error("the site's folder {folder} cannot be used: {what}")]
    Content {
        /// The folder.
        folder: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The node is of a site already.
    #[error("this node is of a site already ({0}); a node that shall join another is wiped first")]
    There(PathBuf),
    /// A public key that is none.
    #[error("what was sent is no public key of a node (65 bytes, P-256, uncompressed)")]
    PublicKey,
    /// A key or certificate could not be made.
    #[error("a certificate could not be made: {0}")]
    Made(#[from] rcgen::Error),
}

/// A node's own key.
pub struct NodeKey(pub(super) KeyPair);

impl std::fmt::Debug for NodeKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("NodeKey")
    }
}

impl NodeKey {
    /// A new one.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub fn draw() -> Result<Self, SiteError> {
        Ok(Self(issue::key_pair()?))
    }

    /// The half that others may know: 65 bytes, a point of P-256, uncompressed.
    pub fn public(&self) -> &[u8] {
        self.0.public_key_raw()
    }
}

/// What a node gets with which it is of the site, in PEM form.
#[derive(Clone, PartialEq, Eq)]
pub struct Admitted {
    /// Its certificate.
    pub certificate: String,
    /// The certificate of the site's CA.
    pub ca: String,
    /// The CA's key: every node may admit.
    pub ca_key: String,
}

impl Admitted {
    /// By what its site is known; `None` where the CA's certificate cannot be read.
    pub fn ca_fingerprint(&self) -> Option<Fingerprint> {
        certificate_of_ca(&self.ca).ok().map(|ca| Fingerprint::of(&ca))
    }
}

impl std::fmt::Debug for Admitted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Admitted").field("certificate", &self.certificate).field("ca", &self.ca).finish_non_exhaustive()
    }
}

/// A node's place in a site.
pub struct SiteIdentity {
    pub(super) site: u64,
    pub(super) node: NodeId,
    /// The node's certificate, then the CA's.
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) key: PrivateKeyDer<'static>,
    ca_pem: String,
    ca_key: KeyPair,
}

impl std::fmt::Debug for SiteIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SiteIdentity").field("site", &self.site).field("node", &self.node).finish_non_exhaustive()
    }
}

/// What a folder holds, in PEM form.
pub(super) struct Parts {
    pub(super) admitted: Admitted,
    pub(super) key: String,
}

impl SiteIdentity {
    /// Puts together what a folder holds; what is wrong with it otherwise.
    pub(super) fn of(parts: Parts) -> Result<Self, String> {
        let Parts { admitted, key } = parts;
        let certificate = certificate(&admitted.certificate, "the node's certificate")?;
        let ca = certificate_of_ca(&admitted.ca)?;
        let key = key_pair(&key, "the node's key")?;
        let ca_key = key_pair(&admitted.ca_key, "the CA's key")?;
        belongs(&certificate, &key, "the node's key")?;
        belongs(&ca, &ca_key, "the CA's key")?;
        let (node, site) = names::of(&certificate).ok_or("the node's certificate names no node of a site")?;
        let verifier = SiteVerifier::new(site, &ca, Some(node)).map_err(|error| error.to_string())?;
        verifier.judge(&certificate, &[]).map_err(|error| error.to_string())?;
        let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(str::to_owned)?;
        Ok(Self { site, node, chain: vec![certificate, ca], key, ca_pem: admitted.ca, ca_key })
    }

    /// The site's id.
    pub fn site(&self) -> u64 {
        self.site
    }

    /// The node's own id.
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// By what one that joins knows the site.
    pub fn ca_fingerprint(&self) -> Fingerprint {
        Fingerprint::of(self.ca())
    }

    pub(super) fn ca(&self) -> &CertificateDer<'static> {
        &self.chain[1]
    }

    /// Makes a certificate for a node that holds the other half of `public_key`; `name` is for people alone.
    ///
    /// # Errors
    /// When the public key is none, or the certificate cannot be made.
    pub fn admit(&self, node: NodeId, name: &str, public_key: &[u8]) -> Result<Admitted, SiteError> {
        if !issue::is_public_key(public_key) {
            return Err(SiteError::PublicKey);
        }
        let certificate = issue::node(self.site, &self.ca_key, node, name, public_key)?;
        Ok(Admitted { certificate, ca: self.ca_pem.clone(), ca_key: self.ca_key.serialize_pem() })
    }
}

impl SiteIdentity {
    /// Makes a certificate for the edge's end of a link into this site, whose node holds the other half of `public_key`:
    /// the certificate, and the CA's, in PEM form. It does not come with the CA's key. It is good until `until_s`, seconds since 1970, `None`: for
    /// ever.
    ///
    /// # Errors
    /// When the public key is none, or the certificate cannot be made.
    pub fn admit_link(
        &self,
        peer: LinkPeer,
        name: &str,
        public_key: &[u8],
        until_s: Option<u64>,
    ) -> Result<(String, String), SiteError> {
        if !issue::is_public_key(public_key) {
            return Err(SiteError::PublicKey);
        }
        let certificate = issue::link(self.site, &self.ca_key, peer, name, public_key, until_s)?;
        Ok((certificate, self.ca_pem.clone()))
    }
}

pub(super) fn certificate(pem: &str, what: &str) -> Result<CertificateDer<'static>, String> {
    CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|_| format!("{what} is not in PEM form"))
}

pub(super) fn certificate_of_ca(pem: &str) -> Result<CertificateDer<'static>, String> {
    certificate(pem, "the CA's certificate")
}

pub(super) fn key_pair(pem: &str, what: &str) -> Result<KeyPair, String> {
    KeyPair::from_pem(pem).map_err(|_| format!("{what} is not in PEM form"))
}

pub(super) fn belongs(certificate: &CertificateDer<'_>, key: &KeyPair, what: &str) -> Result<(), String> {
    use rcgen::PublicKeyData;
    let parsed = ParsedCertificate::try_from(certificate).map_err(|error| error.to_string())?;
    if parsed.subject_public_key_info().as_ref() == key.subject_public_key_info() {
        Ok(())
    } else {
        Err(format!("{what} does not belong to its certificate"))
    }
}

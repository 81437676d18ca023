//! The edge's end of a link: its certificate from the upstream site, kept in a folder, and the connection by it.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use devices::congestion::Paths;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::connection::{SiteConnection, Way};
use super::dial::{JoinDialError, builder, config, dial_pinned, reach};
use super::folder::{CA_CERTIFICATE, NODE_CERTIFICATE, NODE_KEY, PEM_BYTES_MAX, make_whole};
use super::identity::{belongs, certificate, certificate_of_ca, key_pair};
use super::steady::Steady;
use super::tunnel::PACKET_BYTES;
use super::verify::SiteVerifier;
use super::{LINK_ALPN, LINK_JOIN_ALPN, LinkPeer, NodeKey, SiteError, names, validity};
use crate::transport::files::{KEY_MODE, OPEN_MODE, read_file, read_key_file, sync_folder, write_file};
use crate::transport::last_words::parting;
use crate::transport::{Bounds, Fingerprint, NodeId};

/// The file of a key and a certificate that came later than the first ones, in one so that both are new or none.
const RENEWED: &str = "renewed.pem";
/// Where the certificate begins in it.
const CERTIFICATE_BEGIN: &str = "-----BEGIN CERTIFICATE-----";

/// The edge's end of a link.
pub struct LinkIdentity {
    site: u64,
    peer: LinkPeer,
    ca: CertificateDer<'static>,
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
}

impl std::fmt::Debug for LinkIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LinkIdentity").field("site", &self.site).field("peer", &self.peer).finish_non_exhaustive()
    }
}

impl LinkIdentity {
    /// The upstream site.
    pub fn site(&self) -> u64 {
        self.site
    }

    /// The link, and this node by the id that it has there.
    pub fn peer(&self) -> LinkPeer {
        self.peer
    }

    /// The fingerprint of the upstream site's CA, by which the link was accepted.
    pub fn ca_fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.ca)
    }

    /// Until when the certificate is good, seconds since 1970; `None`: for ever.
    pub fn until_s(&self) -> Option<u64> {
        validity::until_s(&self.certificate)
    }

    /// Keeps a new certificate and its key in the folder of this one. A crash in between leaves the old ones, or the new ones.
    ///
    /// # Errors
    /// When it is not of the same gateway and link, or the file cannot be made.
    pub fn renew(&self, folder: &Path, certificate: &str, key: &NodeKey) -> Result<Self, SiteError> {
        let wrong = |what| SiteError::Content { folder: folder.to_owned(), what };
        let key = key.0.serialize_pem();
        let renewed = Self::of(certificate, self.ca.clone(), &key).map_err(wrong)?;
        if (renewed.site, renewed.peer) != (self.site, self.peer) {
            return Err(wrong("the new certificate is that of another link".to_owned()));
        }
        let verifier = SiteVerifier::new(self.site, &self.ca, None);
        let verifier = verifier.map_err(|error| wrong(error.to_string()))?;
        let judged = verifier.judge_link(&renewed.certificate, renewed.peer, renewed.site);
        judged.map_err(|refusal| wrong(refusal.to_string()))?;
        write_file(&folder.join(RENEWED), format!("{key}{certificate}").as_bytes(), KEY_MODE)?;
        sync_folder(folder)?;
        // It is renewed: an older program alone would miss these.
        if let Err(error) = keep_for_older(folder, &key, certificate) {
            tracing::warn!(folder = %folder.display(), %error, "the files that an older program reads are not renewed");
        }
        Ok(renewed)
    }

    /// Makes the folder of a link's end, of certificates in PEM form and further files beside them. A crash in between leaves
    /// no folder or a whole one.
    ///
    /// # Errors
    /// When it is there already, what it is made of does not belong together, or a file cannot be made.
    pub fn install(
        folder: &Path,
        (certificate, ca): (&str, &str),
        key: &NodeKey,
        further: &[(&str, &[u8])],
    ) -> Result<Self, SiteError> {
        let key = key.0.serialize_pem();
        let files = [
            (NODE_KEY, key.as_bytes(), KEY_MODE),
            (NODE_CERTIFICATE, certificate.as_bytes(), OPEN_MODE),
            (CA_CERTIFICATE, ca.as_bytes(), OPEN_MODE),
        ];
        make_whole(folder, further, &files, Self::read)
    }

    /// Reads what a folder holds.
    ///
    /// # Errors
    /// When it cannot be used.
    pub fn read(folder: &Path) -> Result<Self, SiteError> {
        let text = |file: &'static str, is_key: bool| {
            let path = folder.join(file);
            let read = if is_key { read_key_file } else { read_file };
            Ok::<_, SiteError>(String::from_utf8_lossy(&read(&path, PEM_BYTES_MAX)?).into_owned())
        };
        let wrong = |what| SiteError::Content { folder: folder.to_owned(), what };
        let ca = certificate_of_ca(&text(CA_CERTIFICATE, false)?).map_err(wrong)?;
        if folder.join(RENEWED).exists() {
            let both = text(RENEWED, true)?;
            let (key, newer) = both.split_at(both.find(CERTIFICATE_BEGIN).unwrap_or(both.len()));
            match Self::of(newer, ca.clone(), key) {
                Ok(renewed) => {
                    // A crash may have come between the files.
                    if text(NODE_CERTIFICATE, false).is_ok_and(|before| before != newer) {
                        let _ = keep_for_older(folder, key, newer);
                    }
                    return Ok(renewed);
                }
                // The disk has lost it: the first one may be good still.
                Err(what) => tracing::warn!(folder = %folder.display(), what, "{RENEWED} cannot be used"),
            }
        }
        let (certificate, key) = (text(NODE_CERTIFICATE, false)?, text(NODE_KEY, true)?);
        Self::of(&certificate, ca, &key).map_err(wrong)
    }

    fn of(link: &str, ca: CertificateDer<'static>, key: &str) -> Result<Self, String> {
        let link = certificate(link, "the link's certificate")?;
        let key = key_pair(key, "the link's key")?;
        belongs(&link, &key, "the link's key")?;
        let (peer, site) = names::link_of(&link).ok_or("the certificate is not that of a link")?;
        let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(str::to_owned)?;
        Ok(Self { site, peer, ca, certificate: link, key })
    }
}

/// Writes a key and a certificate also where programs look that know of no renewal: one that is put back in an older one's place is let
/// in. They are two files, so a crash may leave one of each: they are looked at only where there is nothing newer.
fn keep_for_older(folder: &Path, key: &str, certificate: &str) -> Result<(), SiteError> {
    write_file(&folder.join(NODE_KEY), key.as_bytes(), KEY_MODE)?;
    write_file(&folder.join(NODE_CERTIFICATE), certificate.as_bytes(), OPEN_MODE)?;
    sync_folder(folder)?;
    Ok(())
}

/// A link of at most so many bytes a second sends the smallest packets that QUIC may: an alarm waits for one at the most.
const SMALL_PACKETS_BYTES_PER_S_MAX: u64 = 50_000;

/// Connects to a node of the site that a link goes to. Whether the site takes the certificate is heard only afterwards. `rate` is
/// how many bytes a second the path is to carry, where people have said so: its packets are sent by that then, whatever is lost. `way` is by
/// what.
///
/// # Errors
/// When no connection comes about: no answer, or another site.
pub async fn dial_link(
    address: SocketAddr,
    identity: &LinkIdentity,
    bounds: Bounds,
    rate: Option<u64>,
    way: Way,
) -> Result<SiteConnection, JoinDialError> {
    let here = |error: &dyn std::fmt::Display| JoinDialError::Here(error.to_string());
    let verifier = || SiteVerifier::new(identity.site, &identity.ca, None).map_err(|error| here(&error));
    let tls = builder().map_err(|error| here(&error))?;
    let tls = tls.dangerous().with_custom_certificate_verifier(Arc::new(verifier()?));
    let shown = vec![identity.certificate.clone(), identity.ca.clone()];
    let tls = tls.with_client_auth_cert(shown, identity.key.clone_key()).map_err(|error| here(&error))?;
    let mut transport = bounds.to_transport()?;
    transport.congestion_controller_factory(parting(Paths(move |packet_bytes| Steady::new(packet_bytes, rate))));
    if rate.is_some_and(|rate| rate <= SMALL_PACKETS_BYTES_PER_S_MAX) {
        transport.mtu_discovery_config(None);
    } else if way == Way::Tcp {
        transport.initial_mtu(PACKET_BYTES);
    }
    let config = config(tls, LINK_ALPN, Arc::new(transport)).map_err(|error| here(&error))?;
    reach(way, address, config, verifier()?, &names::text(NodeId(0), identity.site)).await
}

/// Connects to a node of the site whose CA has this fingerprint, to accept the invitation to a link.
///
/// # Errors
/// As those of [`dial_link`].
pub async fn dial_link_join(
    address: SocketAddr,
    site: u64,
    ca: Fingerprint,
    bounds: Bounds,
    way: Way,
) -> Result<SiteConnection, JoinDialError> {
    dial_pinned(address, site, ca, (bounds, LINK_JOIN_ALPN), way).await
}

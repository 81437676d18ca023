//! Makes certificates: the site's CA, and a node's under it.

use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, SignatureAlgorithm, date_time_ymd,
};

use super::names::{self, LinkPeer};
use super::verify::JUDGED_AT_S;
use crate::transport::NodeId;

/// Bytes of a public key of P-256, uncompressed.
const PUBLIC_KEY_BYTES: usize = 65;
/// The first byte of an uncompressed public key.
const UNCOMPRESSED: u8 = 4;

/// The latest end of a certificate that has one, seconds since 1970: in the year 3000.
const UNTIL_S_MAX: u64 = 32_503_680_000;

/// A public key that somebody else holds the other half of.
struct PublicKey<'a>(&'a [u8]);

impl PublicKeyData for PublicKey<'_> {
    fn der_bytes(&self) -> &[u8] {
        self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

/// Whether these bytes can be a node's public key.
pub(super) fn is_public_key(bytes: &[u8]) -> bool {
    bytes.len() == PUBLIC_KEY_BYTES && bytes[0] == UNCOMPRESSED
}

/// A key pair of the kind that nodes and CAs have.
pub(super) fn key_pair() -> Result<KeyPair, rcgen::Error> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)
}

/// The certificate of a site's CA, in PEM form.
pub(super) fn ca(site: u64, key: &KeyPair) -> Result<String, rcgen::Error> {
    Ok(ca_params(site).self_signed(key)?.pem())
}

/// A node's certificate, in PEM form; `name` is for people alone.
pub(super) fn node(
    site: u64,
    ca_key: &KeyPair,
    node: NodeId,
    name: &str,
    public_key: &[u8],
) -> Result<String, rcgen::Error> {
    leaf(site, ca_key, names::text(node, site), name, public_key, None)
}

/// The certificate of the edge's end of a link into the site, in PEM form; `name` is for people alone. It is good until `until_s`, seconds
/// since 1970, `None`: for ever. It is never made to end before the moment at which signatures are judged.
pub(super) fn link(
    site: u64,
    ca_key: &KeyPair,
    peer: LinkPeer,
    name: &str,
    public_key: &[u8],
    until_s: Option<u64>,
) -> Result<String, rcgen::Error> {
    let until_s = until_s.map(|until| until.clamp(JUDGED_AT_S + 1, UNTIL_S_MAX));
    leaf(site, ca_key, names::link_text(peer, site), name, public_key, until_s)
}

fn leaf(
    site: u64,
    ca_key: &KeyPair,
    dns_name: String,
    name: &str,
    public_key: &[u8],
    until_s: Option<u64>,
) -> Result<String, rcgen::Error> {
    let mut params = CertificateParams::new([dns_name])?;
    for_ever(&mut params);
    if let Some(until_s) = until_s {
        params.not_after = date_time_ymd(1970, 1, 1) + Duration::from_secs(until_s);
    }
    params.distinguished_name = common_name(&format!("edgeway {name}"));
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let issuer = ca_params(site);
    Ok(params.signed_by(&PublicKey(public_key), &Issuer::from_params(&issuer, ca_key))?.pem())
}

/// All that is in a CA's certificate besides its key: a function of the site, so that any node can sign.
fn ca_params(site: u64) -> CertificateParams {
    let mut params = CertificateParams::default();
    for_ever(&mut params);
    params.distinguished_name = common_name(&format!("edgeway site {site:016x}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

fn for_ever(params: &mut CertificateParams) {
    params.not_before = date_time_ymd(1970, 1, 1);
    params.not_after = date_time_ymd(9999, 12, 31);
}

fn common_name(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

//! What a node's certificate calls it (pure).

use rustls::pki_types::CertificateDer;
use webpki::EndEntityCert;

use crate::transport::NodeId;

/// The last part of every name.
const SUFFIX: &str = "edgeway";

/// The name of a node of a site.
pub(super) fn text(node: NodeId, site: u64) -> String {
    format!("{node}.{site:016x}.{SUFFIX}")
}

/// The node and the site of a name.
pub(super) fn parse(name: &str) -> Option<(NodeId, u64)> {
    let mut parts = name.split('.');
    let (node, site, suffix) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() || suffix != SUFFIX {
        return None;
    }
    Some((node.parse().ok()?, site.parse::<NodeId>().ok()?.0))
}

/// The node and the site that a certificate names: exactly one of each.
pub(super) fn of(certificate: &CertificateDer<'_>) -> Option<(NodeId, u64)> {
    let certificate = EndEntityCert::try_from(certificate).ok()?;
    let mut names = certificate.valid_dns_names();
    let named = parse(names.next()?);
    if names.next().is_some() { None } else { named }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_as_it_is_written_and_nothing_else_is() {
        let name = text(NodeId(0xab), 7);
        assert_eq!(name, "00000000000000ab.0000000000000007.edgeway");
        assert_eq!(parse(&name), Some((NodeId(0xab), 7)));
        let wrong = ["", "edgeway", "ab.7.edgeway", &name[1..], &name[..name.len() - 1], &format!("{name}.x")];
        for wrong in wrong {
            assert_eq!(parse(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn what_is_no_certificate_names_nobody() {
        assert_eq!(of(&CertificateDer::from(b"garbage".to_vec())), None);
    }
}

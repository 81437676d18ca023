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

/// What stands before the last part of the name of a link's end.
const LINK: &str = "link";

/// The edge's end of a link into a site: a node of the edge, and the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkPeer {
    /// The edge's node.
    pub node: NodeId,
    /// The link, by the id that the upstream site has given it.
    pub link: u64,
}

/// The name of the edge's end of a link into a site: five parts, so that it is never taken for a node of the site.
pub(super) fn link_text(peer: LinkPeer, site: u64) -> String {
    format!("{}.{:016x}.{site:016x}.{LINK}.{SUFFIX}", peer.node, peer.link)
}

/// The link's end and the site of a name.
fn parse_link(name: &str) -> Option<(LinkPeer, u64)> {
    let mut parts = name.split('.');
    let (node, link, site) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next() != Some(LINK) || parts.next() != Some(SUFFIX) || parts.next().is_some() {
        return None;
    }
    let id = |text: &str| text.parse::<NodeId>().ok().map(|id| id.0);
    Some((LinkPeer { node: NodeId(id(node)?), link: id(link)? }, id(site)?))
}

/// The link's end and the site that a certificate names: exactly one of each.
pub(super) fn link_of(certificate: &CertificateDer<'_>) -> Option<(LinkPeer, u64)> {
    let certificate = EndEntityCert::try_from(certificate).ok()?;
    let mut names = certificate.valid_dns_names();
    let named = parse_link(names.next()?);
    if names.next().is_some() { None } else { named }
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
    fn an_end_of_a_link_is_no_node_of_the_site() {
        let peer = LinkPeer { node: NodeId(0xab), link: 9 };
        let name = link_text(peer, 7);
        assert_eq!(name, "00000000000000ab.0000000000000009.0000000000000007.link.edgeway");
        assert_eq!((parse_link(&name), parse(&name)), (Some((peer, 7)), None));
        for wrong in [&text(NodeId(1), 2), "edgeway", &name[1..], &format!("{name}.x"), &name.replace("link", "lint")] {
            assert_eq!(parse_link(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn what_is_no_certificate_names_nobody() {
        assert_eq!(of(&CertificateDer::from(b"garbage".to_vec())), None);
        assert_eq!(link_of(&CertificateDer::from(b"garbage".to_vec())), None);
    }
}

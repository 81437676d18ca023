//! A site's own certificates and its one endpoint a node: who is of the site, and connections between its nodes.
//!
//! A site has a CA of its own. Each node's certificate names the node and the site, `NODE.SITE.edgeway`, both in 16
//! hexadecimal digits. Dates play no part: a gateway's clock may stand anywhere.

mod ask;
mod connection;
mod dial;
mod endpoint;
mod folder;
mod identity;
mod issue;
mod link;
mod names;
#[cfg(test)]
pub mod pair;
mod steady;
#[cfg(test)]
mod tests;
mod tunnel;
mod validity;
mod verify;

pub use ask::{Question, resolve};
pub use connection::{Ended, SiteConnection, SiteProtocol, Traffic, Way};
pub use dial::{JoinDialError, dial_join};
pub use endpoint::{Attempt, SiteEndpoint, site_endpoint};
pub use identity::{Admitted, NodeKey, SiteError, SiteIdentity};
pub use link::{LinkIdentity, dial_link, dial_link_join};
pub use names::LinkPeer;

/// What nodes of one site speak: both sides show a certificate of the site's CA.
const SITE_ALPN: &[u8] = b"edgeway-site/1";
/// What a node speaks that is not of the site yet: it shows no certificate.
const JOIN_ALPN: &[u8] = b"edgeway-join/1";
/// What the edge's end of a link speaks: it shows the certificate that this site has given it.
const LINK_ALPN: &[u8] = b"edgeway-link/1";
/// What an edge speaks that accepts an invitation: it shows no certificate.
const LINK_JOIN_ALPN: &[u8] = b"edgeway-link-join/1";

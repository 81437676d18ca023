//! Two nodes of a site and a connection between them on the loopback interface, as tests need them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::{NodeKey, SiteConnection, SiteEndpoint, SiteIdentity, site_endpoint};
use crate::transport::{Bounds, NodeId};

/// What peers of tests may take.
pub const BOUNDS: Bounds = Bounds {
    two_way_streams_max: 8,
    one_way_streams_max: 0,
    stream_bytes_max: 1 << 20,
    unread_bytes_max: 4 << 20,
    unsent_bytes_max: 4 << 20,
    datagram_bytes_max: 4 << 10,
    idle_max: Duration::from_secs(6),
    ping_after: None,
};

/// A connection's two ends.
pub struct Pair {
    /// What keeps both up: of the dialled node, of the dialling one.
    pub endpoints: [SiteEndpoint; 2],
    /// At the node that has dialled.
    pub dialled: SiteConnection,
    /// At the node that was dialled.
    pub taken: SiteConnection,
}

/// A node that founds a site, and another one of it that dials the first.
pub async fn pair(founder: NodeId, other: NodeId) -> Pair {
    let folder = tempfile::tempdir().unwrap();
    let first = Arc::new(SiteIdentity::init(&folder.path().join("a"), 1, founder, "n1").unwrap());
    let key = NodeKey::draw().unwrap();
    let admitted = first.admit(other, "n2", key.public()).unwrap();
    let second = Arc::new(SiteIdentity::install(&folder.path().join("b"), &admitted, &key, &[]).unwrap());
    let at = SocketAddr::from(([127, 0, 0, 1], 0));
    let (there, here) = (site_endpoint(at, first, BOUNDS).unwrap(), site_endpoint(at, second, BOUNDS).unwrap());
    let taken = async { there.accept().await.unwrap().shake_hands().await.unwrap() };
    let (dialled, taken) = tokio::join!(here.dial(there.address().unwrap(), founder), taken);
    Pair { dialled: dialled.unwrap(), taken, endpoints: [there, here] }
}

//! QUIC beneath everything that speaks it: who a node is, its endpoint, and how a peer's certificate is pinned;
//! the form of frames, and the buffers that connections of all kinds are lent.
//!
//! Nothing here knows what the streams carry.

mod body;
mod endpoint;
mod files;
mod framed;
mod identity;
mod input;
mod last_words;
mod node_id;
mod outgoing;
mod peer;
mod provider;
mod reset;
mod site;
mod tls;

pub use body::{read_body, with_body};
pub use devices::trust::{Fingerprint, FingerprintError, Pin};
pub use endpoint::{Bounds, BoundsError, EndpointError, client, serve};
pub use files::FileError;
pub use framed::{FrameReceiver, FrameSender, StreamError};
pub use identity::{Identity, IdentityError};
pub use input::Input;
pub use last_words::close;
pub use node_id::{NodeId, NodeIdError};
pub use outgoing::Outgoing;
pub use peer::{PeerError, pinned};
pub use provider::install_provider;
#[cfg(test)]
pub use site::pair;
pub use site::{
    Admitted, Attempt, Ended, JoinDialError, LinkIdentity, LinkPeer, NodeKey, Question, SiteConnection, SiteEndpoint,
    SiteError, SiteIdentity, SiteProtocol, Traffic, Way, dial_join, dial_link, dial_link_join, resolve, site_endpoint,
};
pub use tls::tls_server;

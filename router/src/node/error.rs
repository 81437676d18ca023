//! Why a node does not start.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use sled_data::OpenError as StoreError;

use super::{place, site};
use crate::{admin, catalog, commands, event_log, ingest, plugin_host, quic, transport, twins};

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data folder cannot be used.
    #[error("the data folder {path}: {error}; check its path, owner and free space")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The store did not open.
    #[error("the store in {path} does not open: {error}")]
    Store {
        /// The store's folder.
        path: PathBuf,
        /// Why.
        error: StoreError,
    },
    /// The event log did not start.
    #[error(transparent)]
    Log(#[from] event_log::OpenError),
    /// A topic that always exists could not be made.
    #[error(transparent)]
    Topic(#[from] event_log::TopicError),
    /// The catalog could not be read.
    #[error(transparent)]
    Catalog(#[from] catalog::OpenError),
    /// The node's place in its site cannot be used.
    #[error(transparent)]
    Site(#[from] transport::SiteError),
    /// The store is not the node's.
    #[error(transparent)]
    Place(#[from] place::PlaceError),
    /// The site's connections did not start.
    #[error(transparent)]
    SiteStart(#[from] site::SiteStartError),
    /// Links could not be read.
    #[error("links between sites cannot be used: {0}")]
    Links(String),
    /// The way in did not open.
    #[error(transparent)]
    Ingest(#[from] ingest::OpenError),
    /// What other nodes have seen of devices could not be read.
    #[error("what other nodes have seen of devices cannot be read: {0}; run `edgeway store verify`")]
    Sessions(sled_data::ReadError),
    /// The stored commands could not be read.
    #[error(transparent)]
    Commands(#[from] commands::OpenError),
    /// The stored twins could not be read.
    #[error(transparent)]
    Twins(#[from] twins::OpenError),
    /// The plugins could not be started.
    #[error(transparent)]
    Plugins(#[from] plugin_host::StartError),
    /// A door's address cannot be listened at.
    #[error("MQTT cannot listen at {address}: {error}; choose another with --mqtt or [listen] mqtt")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        error: io::Error,
    },
    /// MQTT over TLS cannot listen.
    #[error("MQTT over TLS cannot listen at {address}: {error}; choose another with --mqtts or [listen] mqtts")]
    ListenTls {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        error: io::Error,
    },
    /// The certificate for TLS cannot be had.
    #[error(transparent)]
    Identity(#[from] transport::IdentityError),
    /// The certificate for TLS cannot be used.
    #[error("the certificate cannot be used: {0}; look at [quic] certificate_file and key_file")]
    Tls(#[from] rustls::Error),
    /// The QUIC door did not start.
    #[error(transparent)]
    Quic(#[from] quic::StartError),
    /// The HTTP API did not start.
    #[error(transparent)]
    Admin(#[from] admin::StartError),
}

//! The doors: bound, named in files of the data folder while the node runs.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sled_data::Durability;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::{MQTTS_ADDRESS_FILE, QUIC_ADDRESS_FILE, QUIC_FINGERPRINT_FILE, StartError};
use crate::admin::Rooms;
use crate::config::Config;
use crate::transport::{self, Fingerprint};
use crate::{mqtt, quic};

/// How long the doors stay shut at a start until enough of the site's nodes are heard.
const OTHERS_WAIT: Duration = Duration::from_secs(3);

pub(super) async fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), StartError> {
    let refused = |error| StartError::Listen { address, error };
    let listener = TcpListener::bind(address).await.map_err(refused)?;
    let bound = listener.local_addr().map_err(refused)?;
    Ok((listener, bound))
}

/// Starts MQTT over TLS where it shall listen.
pub(super) async fn start_mqtts(
    config: &Config,
    door: &Arc<mqtt::task::Door>,
) -> Result<Option<((SocketAddr, Fingerprint), JoinHandle<()>)>, StartError> {
    let Some(address) = config.listen.mqtts else { return Ok(None) };
    let refused = |error| StartError::ListenTls { address, error };
    let data = &config.node.data;
    let identity = config.quic.identity(data, &config.node.name)?;
    let tls = transport::tls_server(&identity)?;
    let listener = TcpListener::bind(address).await.map_err(refused)?;
    let (mqtts_addr, fingerprint) = (listener.local_addr().map_err(refused)?, identity.fingerprint());
    write_address(data, QUIC_FINGERPRINT_FILE, fingerprint)?;
    write_address(data, MQTTS_ADDRESS_FILE, mqtts_addr)?;
    tracing::info!(%mqtts_addr, %fingerprint, "MQTT over TLS listens; clients may pin this fingerprint");
    let taking = tokio::spawn(mqtt::task::listen_tls(Arc::clone(door), listener, tls));
    Ok(Some(((mqtts_addr, fingerprint), taking)))
}

/// Starts the QUIC door where it shall listen.
pub(super) fn start_quic(
    config: &Config,
    door: &Arc<mqtt::task::Door>,
    rooms: &Rooms,
) -> Result<Option<quic::Listener>, StartError> {
    let Some(address) = config.listen.quic else { return Ok(None) };
    let data = &config.node.data;
    let native = quic::Native::new(
        &config.node.name,
        config.quic.clone(),
        Arc::clone(&rooms.ingest),
        Arc::clone(&rooms.sessions),
        Arc::clone(&rooms.quic),
    );
    let listener = quic::Listener::start(address, data, Arc::clone(door), native)?;
    let (quic_addr, fingerprint) = (listener.addr(), listener.fingerprint());
    write_address(data, QUIC_FINGERPRINT_FILE, fingerprint)?;
    write_address(data, QUIC_ADDRESS_FILE, quic_addr)?;
    tracing::info!(%quic_addr, %fingerprint, "QUIC listens; clients may pin this fingerprint");
    Ok(Some(listener))
}

/// Waits a moment until enough of the site's nodes are heard, where a topic needs them. A client of MQTT 5 takes a refusal for the end of
/// its message ([MQTT-4.4.0-2]): it would lose at each start what it had kept while the node was away.
pub(super) async fn await_others(rooms: &Rooms) {
    let needs_others = rooms.log.store().topics().iter().any(|topic| topic.config.durability == Durability::Quorum);
    if needs_others && !rooms.log.await_quorum_heard(OTHERS_WAIT).await {
        tracing::warn!(
            waited = ?OTHERS_WAIT,
            "too few of the site's nodes are heard: the doors open all the same, and events of quorum topics are refused until enough are"
        );
    }
}

/// Names a door's address, or by what it is known, in a file, whole or not at all.
pub(super) fn write_address(data: &Path, name: &str, what: impl std::fmt::Display) -> Result<(), StartError> {
    let (path, half) = (data.join(name), data.join(format!("{name}.new")));
    let written = std::fs::write(&half, what.to_string()).and_then(|()| std::fs::rename(&half, &path));
    written.map_err(|error| StartError::Folder { path, error })
}

pub(super) fn forget_address(data: &Path, name: &str) {
    if let Err(error) = std::fs::remove_file(data.join(name)) {
        tracing::debug!(%error, name, "the address file was gone already");
    }
}

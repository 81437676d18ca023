//! Takes connections for as long as the node runs.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use devices::native::{ALPN, Close};
use quinn::{Endpoint, Incoming, VarInt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::admission::{Attempt, Verdict, decide};
use super::connection::{self, MQTT};
use super::native::Native;
use super::stats::count;
use crate::mqtt::task::Door;
use crate::transport::{self, EndpointError, Fingerprint, IdentityError};

/// How long connections have to say their last words when the node stops.
const LAST_WORDS_WAIT: Duration = Duration::from_secs(2);
/// How long what says that the node stops may take to be sent.
const CLOSE_WAIT: Duration = Duration::from_millis(500);

/// Why the QUIC door did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Key or certificate.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The address cannot be listened at.
    #[error("QUIC cannot listen at {address}: {error}; choose another with --quic or [listen] quic")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        error: io::Error,
    },
    /// The endpoint cannot be made of what was configured.
    #[error("QUIC: {0}; look at [quic] certificate_file and key_file")]
    Endpoint(EndpointError),
}

/// The QUIC door while the node runs.
pub struct Listener {
    endpoint: Endpoint,
    address: SocketAddr,
    fingerprint: Fingerprint,
    refuses: Arc<AtomicBool>,
    taking: JoinHandle<()>,
}

impl Listener {
    /// Starts to listen. `data` is the folder that files are relative to and where an identity is made.
    ///
    /// # Errors
    /// When there is no identity or the address cannot be had.
    pub fn start(address: SocketAddr, data: &Path, door: Arc<Door>, native: Arc<Native>) -> Result<Self, StartError> {
        let (config, name) = (&native.config, &native.name);
        let identity = config.identity(data, name)?;
        let endpoint =
            transport::serve(address, &identity, &[ALPN, MQTT], config.bounds()).map_err(|error| match error {
                EndpointError::Address(error) => StartError::Listen { address, error },
                error => StartError::Endpoint(error),
            })?;
        let bound = endpoint.local_addr().map_err(|error| StartError::Listen { address, error })?;
        let refuses = Arc::new(AtomicBool::new(false));
        let taker = Taker { endpoint: endpoint.clone(), native, door, refuses: Arc::clone(&refuses) };
        let taking = tokio::spawn(taker.run());
        Ok(Self { endpoint, address: bound, fingerprint: identity.fingerprint(), refuses, taking })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.address
    }

    /// By what clients know this node.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// Takes no more connections, and tells those who ask; the connections that are there go on.
    pub fn refuse(&self) {
        self.refuses.store(true, Ordering::Relaxed);
    }

    /// Waits for the connections' last words, then closes what is left. The sessions have been told to end before.
    pub async fn stop(self) {
        self.refuse();
        if timeout(LAST_WORDS_WAIT, self.endpoint.wait_idle()).await.is_err() {
            self.endpoint.close(VarInt::from_u32(Close::Stopping as u32), b"the node stops");
            let _ = timeout(CLOSE_WAIT, self.endpoint.wait_idle()).await;
        }
        self.taking.abort();
    }
}

/// What takes connections.
struct Taker {
    endpoint: Endpoint,
    native: Arc<Native>,
    door: Arc<Door>,
    refuses: Arc<AtomicBool>,
}

impl Taker {
    async fn run(self) {
        let handshakes = Arc::new(Semaphore::new(self.native.config.handshakes_max));
        loop {
            // While all are in use, attempts wait in the endpoint, which has bounds of its own.
            let Ok(handshake) = Arc::clone(&handshakes).acquire_owned().await else { return };
            let Some(incoming) = self.endpoint.accept().await else { return };
            // This one holds one of them already.
            let others = self.native.config.handshakes_max.saturating_sub(handshakes.available_permits() + 1);
            self.judge(incoming, others, handshake);
        }
    }

    fn judge(&self, incoming: Incoming, handshakes: usize, handshake: OwnedSemaphorePermit) {
        let place = if self.refuses.load(Ordering::Relaxed) { None } else { self.door.try_place() };
        let attempt = Attempt { proven: incoming.remote_address_validated(), handshakes, place: place.is_some() };
        match (decide(attempt, self.native.config.retry_from), place) {
            (Verdict::Accept, Some(place)) => {
                let native = Arc::clone(&self.native);
                tokio::spawn(connection::serve(incoming, native, handshake, place));
            }
            (Verdict::Retry, _) => {
                count(&self.native.stats.retried);
                if let Err(error) = incoming.retry() {
                    // It bears a token already, one that has aged: it may begin anew.
                    error.into_incoming().refuse();
                }
            }
            (Verdict::Accept | Verdict::Refuse, _) => {
                count(&self.native.stats.refused_too_many);
                incoming.refuse();
            }
        }
    }
}

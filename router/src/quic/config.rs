//! `[quic]`: the certificate, and what a connection may take.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::transport::{Bounds, Identity, IdentityError};

/// Two-way streams that a client may have open before it is known what it speaks: the one that MQTT needs.
const TWO_WAY_STREAMS_MAX: u32 = 1;
/// Bytes from a client that wait to be read; beyond, it is told to wait.
pub(super) const UNREAD_BYTES_MAX: u32 = 512 << 10;
/// Bytes of datagrams that wait to be read; beyond, the oldest are dropped.
const DATAGRAM_BYTES_MAX: usize = 64 << 10;
/// Bytes to a client that it has not confirmed; beyond, they wait in the session.
const UNSENT_BYTES_MAX: u64 = 1 << 20;

/// The QUIC door's settings. Whether it listens at all is said by `[listen] quic`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The certificate with its chain, PEM, relative to the data folder; empty: one is made at the first start.
    pub certificate_file: PathBuf,
    /// Its private key, PEM, relative to the data folder; empty with `certificate_file` alone.
    pub key_file: PathBuf,
    /// Seconds that a client has for its handshake, and then for opening its stream.
    pub open_wait_s: u16,
    /// Seconds of silence after which a connection is lost.
    pub idle_s: u16,
    /// Seconds of silence after which the client is asked for a sign of life; 0 asks never.
    pub ping_s: u16,
    /// Seconds that what the node sends by `edgeway/1` may stay unread, and that a frame which was begun may wait for
    /// its next byte; then the connection is closed.
    pub not_reading_s: u16,
    /// Handshakes at once; more wait.
    pub handshakes_max: usize,
    /// Handshakes under way from which a new client must first prove its address; 0: always.
    pub retry_from: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            certificate_file: PathBuf::new(),
            key_file: PathBuf::new(),
            open_wait_s: 10,
            idle_s: 60,
            ping_s: 20,
            not_reading_s: 60,
            handshakes_max: 512,
            retry_from: 64,
        }
    }
}

impl Config {
    /// Whether a certificate of people's is named.
    pub fn has_certificate(&self) -> bool {
        !self.certificate_file.as_os_str().is_empty()
    }

    /// Who the node is: by the certificate that is named, or by the one that is made in the data folder.
    ///
    /// # Errors
    /// When it cannot be read or made.
    pub fn identity(&self, data: &Path, name: &str) -> Result<Identity, IdentityError> {
        if self.has_certificate() {
            Identity::read(&data.join(&self.certificate_file), &data.join(&self.key_file))
        } else {
            Identity::own(data, name)
        }
    }

    /// Certificate and key are named both, or neither is.
    pub fn is_paired(&self) -> bool {
        self.has_certificate() != self.key_file.as_os_str().is_empty()
    }

    pub(super) fn open_wait(&self) -> Duration {
        Duration::from_secs(u64::from(self.open_wait_s))
    }

    pub(super) fn not_reading(&self) -> Duration {
        Duration::from_secs(u64::from(self.not_reading_s))
    }

    pub(super) fn bounds(&self) -> Bounds {
        Bounds {
            two_way_streams_max: TWO_WAY_STREAMS_MAX,
            one_way_streams_max: 0,
            stream_bytes_max: UNREAD_BYTES_MAX,
            unread_bytes_max: UNREAD_BYTES_MAX,
            unsent_bytes_max: UNSENT_BYTES_MAX,
            datagram_bytes_max: DATAGRAM_BYTES_MAX,
            idle_max: Duration::from_secs(u64::from(self.idle_s)),
            ping_after: (self.ping_s > 0).then(|| Duration::from_secs(u64::from(self.ping_s))),
        }
    }
}

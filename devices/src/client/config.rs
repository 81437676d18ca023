//! What a client is told: where to, as whom, and its bounds.

use std::time::Duration;

use thiserror::Error;

#[cfg(feature = "quic")]
use super::quic::SharedEndpoint;
#[cfg(feature = "tls")]
use super::tls::Tls;
use super::twin::TwinHandler;
use crate::command::{NameError, check_device_name};

/// The MQTT version that is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Version {
    /// MQTT 5: refusals have reasons.
    #[default]
    V5,
    /// MQTT 3.1.1: a refusal is a closed connection.
    V311,
}

/// How the node is reached.
#[derive(Clone)]
pub enum Transport {
    /// MQTT.
    Mqtt {
        /// The node's host name or address.
        host: String,
        /// The node's port.
        port: u16,
        /// The MQTT version.
        version: Version,
    },
    /// MQTT over TLS.
    #[cfg(feature = "tls")]
    Mqtts {
        /// The node's host name or address.
        host: String,
        /// The node's port.
        port: u16,
        /// The MQTT version.
        version: Version,
        /// By what the node's certificate is trusted.
        tls: Tls,
    },
    /// `edgeway/1` over QUIC. A login's password is sent as the token, its user name is not sent.
    #[cfg(feature = "quic")]
    Quic {
        /// The node's host name or address.
        host: String,
        /// The node's UDP port.
        port: u16,
        /// By what the node's certificate is trusted.
        tls: Tls,
        /// The UDP port to leave by, shared with other clients; where absent, each connection has one of its own.
        endpoint: Option<SharedEndpoint>,
    },
}

/// What happens to a publish when the buffer is full.
///
/// Only what waits is ever dropped, never what is on its way to the node, and nothing is dropped for a publish that
/// is then refused. What is dropped resolves as [`super::Fate::Dropped`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Overflow {
    /// It is refused; what is buffered stays.
    #[default]
    Refuse,
    /// The oldest that wait are dropped for it, whatever their lane, until there is room. It is refused where all is
    /// on its way, or where it would not fit an empty buffer.
    DropOldest,
    /// The oldest that wait in the least urgent lane are dropped for it, then those of the next lane, as long as the
    /// lane is less urgent than its own. It is refused where that does not make room: a bulk publish drops nothing.
    KeepByPriority,
}

/// Bounds of the buffer of unacknowledged publishes in memory. With a buffer on disk, only quality of service 0 is
/// in it: numbered publishes count against the disk's bound.
#[derive(Clone, Copy, Debug)]
pub struct Buffer {
    /// Most publishes.
    pub publishes_max: usize,
    /// Most bytes of topics and payloads together.
    pub bytes_max: usize,
    /// What happens beyond.
    pub overflow: Overflow,
}

/// A user name and its password.
#[derive(Clone)]
pub struct Login {
    /// The user name.
    pub user: String,
    /// The password.
    pub password: String,
}

/// Everything a client is told.
#[derive(Clone)]
pub struct Config {
    /// How the node is reached.
    pub transport: Transport,
    /// The device's name, as in its command topic.
    pub device: String,
    /// The MQTT client identifier; the device's name where absent.
    pub client_id: Option<String>,
    /// The device's counter of its own starts: the first half of every publish's number. It has to rise from start
    /// to start. Where absent, a buffer on disk counts by itself; without one it is the milliseconds since 1970 at
    /// the start, which needs a clock that does not go back.
    pub boot: Option<u64>,
    /// What the device does when it is told of its twin; where absent, it does not listen for it.
    pub twin: Option<TwinHandler>,
    /// Credentials, where the node asks for them.
    pub login: Option<Login>,
    /// Time between pings; at least five seconds.
    pub keep_alive: Duration,
    /// Time that connecting may take; at least one second.
    pub connect_within: Duration,
    /// The buffer's bounds.
    pub buffer: Buffer,
    /// The buffer on disk, where there is to be one.
    #[cfg(feature = "disk")]
    pub disk: Option<super::disk::Disk>,
    /// Most publishes under way by MQTT without an acknowledgement; at least 1. What is urgent never waits for more
    /// than these.
    pub in_flight_max: u16,
    /// Largest payload, in bytes.
    pub payload_bytes_max: usize,
    /// The wait before the first attempt to reconnect; it doubles from then on.
    pub backoff_min: Duration,
    /// The longest wait before an attempt to reconnect.
    pub backoff_max: Duration,
    /// The seed of the waits' jitter.
    pub seed: u64,
}

/// Why a client cannot be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ConfigError {
    /// The device's name does not fit an MQTT topic level.
    #[error("device: {0}")]
    Device(#[from] NameError),
    /// A bound that is outside its own bounds.
    #[error("{0}")]
    Bound(&'static str),
}

impl Config {
    /// A device's configuration for MQTT 5 without TLS, with everything else at its default.
    pub fn new(host: impl Into<String>, port: u16, device: impl Into<String>) -> Self {
        let device = device.into();
        let seed = device
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        Self {
            transport: Transport::Mqtt { host: host.into(), port, version: Version::default() },
            device,
            client_id: None,
            boot: None,
            twin: None,
            login: None,
            keep_alive: Duration::from_secs(30),
            connect_within: Duration::from_secs(5),
            buffer: Buffer { publishes_max: 10_000, bytes_max: 8 * 1024 * 1024, overflow: Overflow::default() },
            #[cfg(feature = "disk")]
            disk: None,
            in_flight_max: 32,
            payload_bytes_max: 256 * 1024,
            backoff_min: Duration::from_millis(100),
            backoff_max: Duration::from_secs(30),
            seed,
        }
    }

    /// Checks names and bounds.
    pub fn check(&self) -> Result<(), ConfigError> {
        check_device_name(&self.device)?;
        let rules = [
            (self.in_flight_max >= 1, "in_flight_max is at least 1"),
            (self.keep_alive >= Duration::from_secs(5), "keep_alive is at least 5 seconds"),
            (self.keep_alive <= Duration::from_secs(u16::MAX as u64), "keep_alive is at most 65,535 seconds"),
            (self.connect_within >= Duration::from_secs(1), "connect_within is at least 1 second"),
            (
                self.backoff_min >= Duration::from_millis(1) && self.backoff_min <= self.backoff_max,
                "backoff_min lies between 1 ms and backoff_max",
            ),
            (self.buffer.publishes_max >= 1, "buffer.publishes_max is at least 1"),
        ];
        match rules.into_iter().find(|(holds, _)| !holds) {
            Some((_, rule)) => Err(ConfigError::Bound(rule)),
            None => self.check_disk(),
        }
    }

    #[cfg(feature = "disk")]
    fn check_disk(&self) -> Result<(), ConfigError> {
        let wrong = self.disk.as_ref().and_then(super::disk::Disk::wrong);
        wrong.map_or(Ok(()), |rule| Err(ConfigError::Bound(rule)))
    }

    #[cfg(not(feature = "disk"))]
    fn check_disk(&self) -> Result<(), ConfigError> {
        Ok(())
    }

    /// The node's host and UDP port, where it is reached by QUIC.
    #[cfg(feature = "quic")]
    pub fn quic_address(&self) -> Option<(String, u16)> {
        match &self.transport {
            Transport::Quic { host, port, .. } => Some((host.clone(), *port)),
            _ => None,
        }
    }

    /// Goes to another address than the one that was given, a relay's say; what is trusted stays the same.
    pub fn redirect(&mut self, address: std::net::SocketAddr) {
        let (host, port) = match &mut self.transport {
            Transport::Mqtt { host, port, .. } => (host, port),
            #[cfg(feature = "tls")]
            Transport::Mqtts { host, port, .. } => (host, port),
            #[cfg(feature = "quic")]
            Transport::Quic { host, port, .. } => (host, port),
        };
        (*host, *port) = (address.ip().to_string(), address.port());
    }

    /// The MQTT client identifier.
    pub fn client_id(&self) -> &str {
        self.client_id.as_deref().unwrap_or(&self.device)
    }
}

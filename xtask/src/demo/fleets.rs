//! The devices of the demo: one fleet by MQTT, one by QUIC.

use std::net::SocketAddr;
use std::time::Duration;

use devices::client;
use devices::fleet::{Config, DeviceStatus, Fault, Fleet, Ledger, Totals};

use crate::bench::BenchError;

/// Devices of each fleet.
const DEVICES: usize = 25;
/// Between two readings of one device.
const INTERVAL: Duration = Duration::from_millis(100);
/// The longest wait of a device before it connects again.
const RECONNECT_MAX: Duration = Duration::from_secs(1);

/// How a fleet reaches the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    Mqtt,
    Quic,
}

/// Where the devices look for the node, and by what they know its certificate.
#[derive(Debug, Clone)]
pub struct Doors {
    pub mqtt: SocketAddr,
    pub quic: SocketAddr,
    pub fingerprint: String,
}

/// What a fleet says at its end: every device's account, by its name.
pub struct Accounts {
    pub by: Transport,
    pub ledgers: Vec<(String, Ledger)>,
}

/// Both fleets.
pub struct Fleets {
    all: [(Transport, Fleet); 2],
}

impl Transport {
    pub fn name(self) -> &'static str {
        match self {
            Transport::Mqtt => "MQTT",
            Transport::Quic => "QUIC",
        }
    }

    /// The beginning of the devices' names.
    fn prefix(self) -> &'static str {
        match self {
            Transport::Mqtt => "mqtt",
            Transport::Quic => "quic",
        }
    }

    fn url(self, doors: &Doors) -> String {
        match self {
            Transport::Mqtt => format!("mqtt://{}", doors.mqtt),
            Transport::Quic => format!("quic://{}?pin={}", doors.quic, doors.fingerprint.trim()),
        }
    }

    fn start(self, doors: &Doors) -> Result<(Transport, Fleet), BenchError> {
        let mut client = client::Config::from_url(&self.url(doors), self.prefix()).map_err(failed)?;
        client.backoff_max = RECONNECT_MAX;
        let mut config = Config::of(client, DEVICES);
        config.prefix = self.prefix().to_owned();
        config.interval = INTERVAL;
        config.seed = self as u64 + 1;
        Ok((self, Fleet::start(config).map_err(failed)?))
    }
}

impl Fleets {
    /// Starts all devices on the current tokio runtime.
    pub fn start(doors: &Doors) -> Result<Fleets, BenchError> {
        Ok(Fleets { all: [Transport::Mqtt.start(doors)?, Transport::Quic.start(doors)?] })
    }

    /// Each fleet's number of devices and its sums.
    pub fn totals(&self) -> [(Transport, usize, Totals); 2] {
        self.all.each_ref().map(|(by, fleet)| (*by, DEVICES, fleet.totals()))
    }

    /// From a reading to the command that followed it, of all devices, in no order.
    pub fn latencies(&self) -> Vec<Duration> {
        self.all.iter().flat_map(|(_, fleet)| fleet.latencies()).collect()
    }

    /// A device of either fleet as it is now.
    pub fn status(&self, device: &str) -> Result<DeviceStatus, BenchError> {
        self.of(device).status(device).map_err(failed)
    }

    /// Makes something wrong with a device of either fleet.
    pub fn inject(&self, device: &str, fault: Fault) -> Result<(), BenchError> {
        self.of(device).inject(device, fault).map_err(failed)
    }

    /// Takes no more readings and waits until what was sent is acknowledged.
    pub async fn stop(self, within: Duration) -> Vec<Accounts> {
        let [(first, mqtt), (second, quic)] = self.all;
        let (mqtt, quic) = tokio::join!(mqtt.stop(within), quic.stop(within));
        vec![Accounts { by: first, ledgers: mqtt }, Accounts { by: second, ledgers: quic }]
    }

    /// The fleet of a device, as its name begins.
    fn of(&self, device: &str) -> &Fleet {
        let [(_, mqtt), (by, quic)] = &self.all;
        if device.starts_with(by.prefix()) { quic } else { mqtt }
    }
}

fn failed(error: impl std::error::Error) -> BenchError {
    BenchError::Program(error.to_string())
}

//! The devices of the site's demo: a fleet for each gateway, which knows that one alone.

use std::net::SocketAddr;
use std::time::Duration;

use devices::client;
use devices::fleet::{Config, Fleet, Ledger, Totals};

use crate::bench::BenchError;

/// Devices of each gateway.
pub const DEVICES: usize = 10;
/// Between two readings of one device.
const INTERVAL: Duration = Duration::from_millis(50);
/// The longest wait of a device before it connects again.
const RECONNECT_MAX: Duration = Duration::from_secs(1);

/// The devices of one gateway.
pub struct Devices {
    /// The gateway's name, with which theirs begin.
    pub gateway: String,
    fleet: Fleet,
}

/// What they know at the end: every device's account, by its name.
pub struct Accounts {
    pub gateway: String,
    pub ledgers: Vec<(String, Ledger)>,
}

impl Devices {
    /// Starts them on the current tokio runtime. They speak MQTT 5 and number their readings.
    pub fn start(gateway: &str, address: SocketAddr, seed: u64) -> Result<Devices, BenchError> {
        let mut client = client::Config::from_url(&format!("mqtt://{address}"), gateway).map_err(failed)?;
        client.backoff_max = RECONNECT_MAX;
        let mut config = Config::of(client, DEVICES);
        (config.prefix, config.interval, config.seed) = (gateway.to_owned(), INTERVAL, seed);
        Ok(Devices { gateway: gateway.to_owned(), fleet: Fleet::start(config).map_err(failed)? })
    }

    /// Their sums.
    pub fn totals(&self) -> Totals {
        self.fleet.totals()
    }

    /// Takes no more readings and waits until what was sent is acknowledged.
    pub async fn stop(self, within: Duration) -> Accounts {
        Accounts { gateway: self.gateway, ledgers: self.fleet.stop(within).await }
    }
}

fn failed(error: impl std::error::Error) -> BenchError {
    BenchError::Program(error.to_string())
}

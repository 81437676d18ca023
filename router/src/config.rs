//! The configuration file: a struct of the parts' own settings, with errors that name the line.

mod address;
mod file;
mod node;
mod ranges;
mod store;
mod topics;

use serde::{Deserialize, Serialize};

pub use address::{address, address_or_off};
pub use file::{ConfigError, load, parse};
pub use node::{ListenConfig, NodeConfig};
pub use store::StoreConfig;
pub use topics::{CompressionName, TopicDefaults};

/// Everything that `edgeway.toml` may say. Each part has a table of its own; what is left out has its default.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The node itself.
    pub node: NodeConfig,
    /// Where the doors listen.
    pub listen: ListenConfig,
    /// The HTTP API.
    pub http: crate::admin::Config,
    /// The MQTT door.
    pub mqtt: crate::mqtt::task::Config,
    /// The QUIC door.
    pub quic: crate::quic::Config,
    /// The site's other nodes.
    pub site: crate::replication::Config,
    /// Links to upstream sites: what each carries.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub link: Vec<crate::links::LinkConfig>,
    /// What may go down to the sites that feed this one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub downlink: Vec<crate::links::Downlink>,
    /// What people set of devices, and what makes a device known.
    pub catalog: crate::catalog::Config,
    /// Who may be connected, and for how long sessions are kept.
    pub sessions: crate::sessions::Config,
    /// Events out to subscribers.
    pub subscriptions: crate::subscriptions::Config,
    /// Commands out to devices.
    pub commands: crate::commands::Config,
    /// What devices shall be, and say they are.
    pub twins: crate::twins::Config,
    /// How MQTT topics become topics and keys.
    pub routing: crate::ingest::Config,
    /// Devices that number their events.
    pub lanes: crate::ingest::LanesConfig,
    /// The event log, and what new topics are set to.
    pub log: crate::event_log::Config,
    /// The store.
    pub store: StoreConfig,
}

/// A value that is well-formed and still cannot be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Table and key, as in `["log.topics", "partitions"]`.
    pub path: [&'static str; 2],
    /// What was found, as people write it.
    pub found: String,
    /// What would be right.
    pub expected: String,
}

impl Config {
    /// What is well-formed and still wrong, the first of it.
    ///
    /// # Errors
    /// The [`Problem`], which names the key.
    pub fn check(&self) -> Result<(), Problem> {
        self.node.check()?;
        self.http.check()?;
        self.store.check()?;
        self.log.topics.check()?;
        ranges::check(self)?;
        crate::links::LinkConfig::check_all(&self.link)?;
        crate::links::Downlink::check_all(&self.downlink)?;
        self.routing.check().map_err(|error| Problem {
            path: ["routing", "rules"],
            found: format!("wrong: {error}"),
            expected: "rules as docs/edgeway.example.toml shows them".to_owned(),
        })
    }
}

/// Refuses a number out of its range.
///
/// # Errors
/// The [`Problem`] with the range.
pub fn in_range<N>(path: [&'static str; 2], value: N, range: std::ops::RangeInclusive<N>) -> Result<(), Problem>
where
    N: PartialOrd + std::fmt::Display,
{
    if range.contains(&value) {
        return Ok(());
    }
    let expected = format!("a number from {} to {}", range.start(), range.end());
    Err(Problem { path, found: value.to_string(), expected })
}

#[cfg(test)]
mod tests;

//! `[node]` and `[listen]`: the node's name, where its data is, where its doors listen.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Problem;

/// Longest name of a node, in bytes.
pub const NAME_BYTES_MAX: usize = 64;

/// The node itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NodeConfig {
    /// What people call it: letters, digits, `.`, `-` and `_`.
    pub name: String,
    /// The folder of its store, token and plugins; relative to where the node is started.
    pub data: PathBuf,
}

impl Default for NodeConfig {
    fn default() -> Self {
        Self { name: "edgeway".to_owned(), data: PathBuf::from("edgeway-data") }
    }
}

/// Where the doors listen; port 0 takes a free one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ListenConfig {
    /// MQTT 3.1.1 and 5.
    #[serde(deserialize_with = "super::address")]
    pub mqtt: SocketAddr,
    /// The same over TLS; `off` where it does not listen.
    #[serde(with = "super::address_or_off")]
    pub mqtts: Option<SocketAddr>,
    /// The HTTP API.
    #[serde(deserialize_with = "super::address")]
    pub http: SocketAddr,
    /// QUIC, by UDP; `off` where it does not listen.
    #[serde(with = "super::address_or_off")]
    pub quic: Option<SocketAddr>,
}

impl Default for ListenConfig {
    fn default() -> Self {
        Self {
            mqtt: SocketAddr::from(([127, 0, 0, 1], 1883)),
            mqtts: None,
            http: SocketAddr::from(([127, 0, 0, 1], 7080)),
            quic: None,
        }
    }
}

impl NodeConfig {
    /// Whether name and folder can be.
    ///
    /// # Errors
    /// What is wrong with which key.
    pub fn check(&self) -> Result<(), Problem> {
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        if !(1..=NAME_BYTES_MAX).contains(&self.name.len()) || !self.name.chars().all(legal) {
            return Err(Problem {
                path: ["node", "name"],
                found: format!("{:?}", self.name),
                expected: format!("1 to {NAME_BYTES_MAX} letters, digits, '.', '-' and '_'"),
            });
        }
        if self.data.as_os_str().is_empty() {
            let expected = "the path of a folder".to_owned();
            return Err(Problem { path: ["node", "data"], found: "\"\"".to_owned(), expected });
        }
        Ok(())
    }
}

//! `[http]`: whom the API believes, and its bounds.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::config::{Problem, in_range};

/// Names that the API may be called by, at most.
const HOSTS_MAX: usize = 64;

/// The HTTP API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Names besides addresses and `localhost` by which it may be called.
    pub hosts: Vec<String>,
    /// The file of the token; relative to the data folder.
    pub token_file: PathBuf,
    /// Connections at once; more wait in the system's queue.
    pub connections_max: usize,
    /// Bytes of a request's body.
    pub body_bytes_max: usize,
    /// Tails at once.
    pub tails_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            hosts: Vec::new(),
            token_file: PathBuf::from("admin.token"),
            connections_max: 256,
            body_bytes_max: 2 << 20,
            tails_max: 32,
        }
    }
}

impl Config {
    /// Whether names and bounds can be.
    ///
    /// # Errors
    /// What is wrong with which key.
    pub fn check(&self) -> Result<(), Problem> {
        in_range(["http", "connections_max"], self.connections_max, 4..=65_536)?;
        in_range(["http", "body_bytes_max"], self.body_bytes_max, 1_024..=64 << 20)?;
        in_range(["http", "tails_max"], self.tails_max, 1..=1_024)?;
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        let wrong = self.hosts.iter().find(|host| host.is_empty() || !host.chars().all(legal));
        if wrong.is_some() || self.hosts.len() > HOSTS_MAX {
            return Err(Problem {
                path: ["http", "hosts"],
                found: wrong.map_or_else(|| format!("{} names", self.hosts.len()), |host| format!("{host:?}")),
                expected: format!("at most {HOSTS_MAX} names without scheme, port or path"),
            });
        }
        if self.token_file.as_os_str().is_empty() {
            let expected = "the path of a file".to_owned();
            return Err(Problem { path: ["http", "token_file"], found: "\"\"".to_owned(), expected });
        }
        Ok(())
    }
}

//! `[store]`: how much disk and memory the store may take.

use serde::{Deserialize, Serialize};
use sled_data::Options;

use super::{Problem, in_range};

/// The store's bounds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StoreConfig {
    /// Stored batches above which nothing is taken, in bytes; 0 sets no bound.
    pub bytes_max: u64,
    /// Free disk space below which nothing is taken, in bytes.
    pub reserve_bytes: u64,
    /// What the page cache tries to stay below, in bytes; a wish, not a bound.
    pub cache_bytes: u64,
}

impl Default for StoreConfig {
    fn default() -> Self {
        let Options { cache_bytes, reserve_bytes, batch_bytes_max, .. } = Options::default();
        Self { bytes_max: batch_bytes_max.unwrap_or(0), reserve_bytes, cache_bytes }
    }
}

impl StoreConfig {
    /// Whether the numbers can be.
    ///
    /// # Errors
    /// What is wrong with which key.
    pub fn check(&self) -> Result<(), Problem> {
        in_range(["store", "reserve_bytes"], self.reserve_bytes, 16 << 20..=1 << 50)?;
        in_range(["store", "cache_bytes"], self.cache_bytes, 1 << 20..=1 << 40)
    }

    /// As the store takes it.
    pub fn to_options(&self) -> Options {
        Options {
            cache_bytes: self.cache_bytes,
            reserve_bytes: self.reserve_bytes,
            batch_bytes_max: (self.bytes_max > 0).then_some(self.bytes_max),
            ..Options::default()
        }
    }
}

//! What other plugins keep, read for a guard.

use std::sync::Arc;

use sled_data::PARTITIONS_MAX;

use crate::event_log::EventLog;
use crate::plugin_host::registry::{STATE_TREE, state_key, state_prefix};
use crate::plugin_host::state::KEY_BYTES_MAX;

/// Values given for one key; more end the judgement.
const VALUES_MAX: usize = 64;
/// Bytes of values given for one key; more end the judgement.
const VALUES_BYTES_MAX: usize = 256 << 10;

/// Where the state of all plugins is.
pub trait Kept: Send + Sync {
    /// The stored values of a plugin's key, one for each partition that has it.
    ///
    /// # Errors
    /// The store's error, or the bound that was passed, in words.
    fn values(&self, plugin: &str, key: &[u8]) -> Result<Vec<Vec<u8>>, String>;
}

/// The state in the store.
pub struct StoredState(pub Arc<EventLog>);

impl Kept for StoredState {
    fn values(&self, plugin: &str, key: &[u8]) -> Result<Vec<Vec<u8>>, String> {
        if key.is_empty() || key.len() > KEY_BYTES_MAX {
            return Err(format!("a key of state has {} bytes; 1 to {KEY_BYTES_MAX} can be", key.len()));
        }
        let prefix = state_prefix(plugin);
        let mut values: Vec<Vec<u8>> = Vec::new();
        let mut bytes = 0;
        let mut after = None;
        // From partition to partition of those in which the plugin keeps anything.
        for _ in 0..=PARTITIONS_MAX {
            let next = self.0.state_scan(STATE_TREE, &prefix, after.as_deref(), 1);
            let next = next.map_err(|error| error.to_string())?;
            let Some(partition) = next.first().and_then(|(found, _)| partition_of(found, prefix.len())) else {
                break;
            };
            let value = self.0.state_get(STATE_TREE, &state_key(plugin, partition, key));
            if let Some(value) = value.map_err(|error| error.to_string())? {
                bytes += value.len();
                values.push(value);
            }
            if values.len() > VALUES_MAX || bytes > VALUES_BYTES_MAX {
                return Err(format!(
                    "`{plugin}` keeps more than {VALUES_MAX} values or {VALUES_BYTES_MAX} bytes under the key"
                ));
            }
            after = Some(state_key(plugin, partition, &BEHIND_ALL_KEYS));
        }
        Ok(values)
    }
}

/// Behind every key that a partition can have.
const BEHIND_ALL_KEYS: [u8; KEY_BYTES_MAX + 1] = [0xff; KEY_BYTES_MAX + 1];

/// The partition of a stored key whose plugin's prefix has so many bytes.
fn partition_of(stored: &[u8], prefix_bytes: usize) -> Option<u32> {
    let number = stored.get(prefix_bytes..)?.first_chunk::<4>()?;
    Some(u32::from_be_bytes(*number))
}

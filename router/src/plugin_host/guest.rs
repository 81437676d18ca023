//! What a running guest may ask for: the imports of the contract, bounded.

use std::sync::Arc;

use devices::twin::Half;
use parking_lot::Mutex;
use wasmtime::ResourceLimiter;

use super::bindings::edgeway::plugin::{host, state, twins, types};
use super::state::PendingState;

/// Lines a guest may log in one call.
const LOG_LINES_MAX: u32 = 32;
/// Bytes of a line that are kept.
const LOG_BYTES_MAX: usize = 2048;
/// Elements of all tables of a guest.
const TABLE_ELEMENTS_MAX: usize = 100_000;

/// Reads the wall clock, in ms since 1970-01-01 UTC.
pub type WallClock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// The data of one instance.
pub struct Guest {
    /// The plugin's name.
    pub plugin: Arc<str>,
    /// The manifest's settings.
    pub settings: Arc<[(String, String)]>,
    /// Its state, if granted. Shared with the sandbox, which outlives instances.
    pub state: Option<Arc<Mutex<PendingState>>>,
    /// The same, through which twins are read, if granted.
    pub twins: Option<Arc<Mutex<PendingState>>>,
    /// Whether `init` runs, in which there is no partition yet.
    pub starting: bool,
    /// The clock.
    pub now_ms: WallClock,
    /// Memory in use and allowed.
    pub memory: MemoryBound,
    /// The last error that the guest logged in this call: the text of a panic.
    pub last_error: Option<String>,
    /// The store's error that ended the call.
    pub store_error: Option<String>,
    /// Lines logged in this call.
    pub log_lines: u32,
}

impl Guest {
    /// Forgets what was said in the last call.
    pub fn begin_call(&mut self) {
        self.last_error = None;
        self.store_error = None;
        self.memory.refused = false;
        self.log_lines = 0;
    }

    fn state(&self) -> wasmtime::Result<&Mutex<PendingState>> {
        if self.starting {
            return Err(wasmtime::Error::msg("state is not available to `init`"));
        }
        match &self.state {
            Some(state) => Ok(state),
            None => Err(wasmtime::Error::msg("the manifest does not grant `state`")),
        }
    }

    /// Half of a device's twin, as far as it has ever changed.
    fn twin(&mut self, device: &str, half: Half) -> wasmtime::Result<Option<String>> {
        if self.starting {
            return Err(wasmtime::Error::msg("twins are not available to `init`"));
        }
        let Some(source) = &self.twins else {
            return Err(wasmtime::Error::msg("the manifest does not grant `twins`"));
        };
        let found = source.lock().twin(device);
        let twin = found.map_err(|error| {
            self.store_error = Some(error.clone());
            wasmtime::Error::msg(error)
        })?;
        let side = twin.map(|twin| twin.half(half).clone()).filter(|side| side.version > 0);
        Ok(side.map(|side| side.json))
    }

    fn put(&mut self, key: Vec<u8>, value: Option<Vec<u8>>) -> wasmtime::Result<()> {
        self.state()?.lock().put(key, value).map_err(wasmtime::Error::msg)
    }
}

impl types::Host for Guest {}

impl host::Host for Guest {
    fn log(&mut self, level: host::Level, mut text: String) -> wasmtime::Result<()> {
        if text.len() > LOG_BYTES_MAX {
            text.truncate(text.floor_char_boundary(LOG_BYTES_MAX));
        }
        self.log_lines = self.log_lines.saturating_add(1);
        if self.log_lines <= LOG_LINES_MAX {
            let plugin = &*self.plugin;
            match level {
                host::Level::Trace => tracing::trace!(plugin, "{text}"),
                host::Level::Debug => tracing::debug!(plugin, "{text}"),
                host::Level::Info => tracing::info!(plugin, "{text}"),
                host::Level::Warn => tracing::warn!(plugin, "{text}"),
                host::Level::Error => tracing::error!(plugin, "{text}"),
            }
        } else if self.log_lines == LOG_LINES_MAX + 1 {
            tracing::warn!(plugin = &*self.plugin, "logs too much in one call; the rest is dropped");
        }
        if level == host::Level::Error {
            self.last_error = Some(text);
        }
        Ok(())
    }

    fn now_ms(&mut self) -> wasmtime::Result<i64> {
        Ok((self.now_ms)())
    }

    fn config(&mut self, key: String) -> wasmtime::Result<Option<String>> {
        let found = self.settings.iter().find(|(name, _)| *name == key);
        Ok(found.map(|(_, value)| value.clone()))
    }
}

impl state::Host for Guest {
    fn get(&mut self, key: Vec<u8>) -> wasmtime::Result<Option<Vec<u8>>> {
        let found = self.state()?.lock().get(key);
        found.map_err(|error| {
            self.store_error = Some(error.clone());
            wasmtime::Error::msg(error)
        })
    }

    fn set(&mut self, key: Vec<u8>, value: Vec<u8>) -> wasmtime::Result<()> {
        self.put(key, Some(value))
    }

    fn delete(&mut self, key: Vec<u8>) -> wasmtime::Result<()> {
        self.put(key, None)
    }
}

impl twins::Host for Guest {
    fn reported(&mut self, device: String) -> wasmtime::Result<Option<String>> {
        self.twin(&device, Half::Reported)
    }

    fn desired(&mut self, device: String) -> wasmtime::Result<Option<String>> {
        self.twin(&device, Half::Desired)
    }
}

/// Bounds linear memory, over all memories of the instance.
#[derive(Debug)]
pub struct MemoryBound {
    bytes_max: usize,
    bytes: usize,
    table_elements: usize,
    /// Whether the guest was told that there is no more.
    pub refused: bool,
}

impl MemoryBound {
    /// Nothing is in use yet.
    #[must_use]
    pub fn new(bytes_max: usize) -> MemoryBound {
        MemoryBound { bytes_max, bytes: 0, table_elements: 0, refused: false }
    }
}

impl ResourceLimiter for MemoryBound {
    fn memory_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        let after = self.bytes.saturating_add(desired.saturating_sub(current));
        if after > self.bytes_max {
            self.refused = true;
            return Ok(false);
        }
        self.bytes = after;
        Ok(true)
    }

    fn table_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        let after = self.table_elements.saturating_add(desired.saturating_sub(current));
        if after > TABLE_ELEMENTS_MAX {
            return Ok(false);
        }
        self.table_elements = after;
        Ok(true)
    }
}

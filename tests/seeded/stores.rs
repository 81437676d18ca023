//! Stores in memory that lose what was not synced.

use std::sync::Arc;

use sled_data::{MemoryBackend, OpenError, Options, Recovered, Store};

use super::random::Random;

/// Opens a store; one that has lost commits is opened as a new life, as people would do it, and `lost` is told.
pub fn open(
    backend: &MemoryBackend,
    options: Options,
    lost: impl FnOnce(&OpenError),
) -> Result<(Store, Recovered), OpenError> {
    let backend = Arc::new(backend.clone());
    match Store::on(backend.clone(), options.clone()) {
        Err(error @ OpenError::Shorter { .. }) => {
            lost(&error);
            Store::on(backend, Options { accept_loss: true, ..options })
        }
        opened => opened,
    }
}

/// The power goes: what was not synced is lost, but for its first part.
pub fn power_cut(backend: &MemoryBackend, random: &mut Random) {
    let keep = random.place(backend.unsynced_writes() + 1);
    backend.power_cut(keep);
}

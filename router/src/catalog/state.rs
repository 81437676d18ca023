//! The devices of the catalog in memory. Pure.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use super::change::Applied;
use super::device::Device;

/// All devices of the catalog by name.
#[derive(Debug, Default)]
pub(super) struct Devices {
    by_name: BTreeMap<Arc<str>, Arc<Device>>,
    enrolled: usize,
    bytes: usize,
}

impl Devices {
    /// Takes over what a change came to.
    pub(super) fn apply(&mut self, applied: &Applied) {
        let before = match &applied.device {
            Some(device) => {
                self.enrolled += usize::from(device.enrolled);
                self.bytes += device.bytes(&applied.name);
                self.by_name.insert(Arc::clone(&applied.name), Arc::clone(device))
            }
            None => self.by_name.remove(&applied.name),
        };
        if let Some(before) = before {
            self.enrolled -= usize::from(before.enrolled);
            self.bytes -= before.bytes(&applied.name);
        }
    }

    pub(super) fn get(&self, name: &str) -> Option<Arc<Device>> {
        self.by_name.get(name).cloned()
    }

    pub(super) fn len(&self) -> usize {
        self.by_name.len()
    }

    /// How many are enrolled.
    pub(super) fn enrolled(&self) -> usize {
        self.enrolled
    }

    /// What they take in memory, roughly, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// At most `max` devices by name, those after `after`.
    pub(super) fn page(&self, after: Option<&str>, max: usize) -> Vec<(Arc<str>, Arc<Device>)> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let page = self.by_name.range::<str, _>((from, Bound::Unbounded)).take(max);
        page.map(|(name, device)| (Arc::clone(name), Arc::clone(device))).collect()
    }
}

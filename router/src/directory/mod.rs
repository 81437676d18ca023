//! All devices: what people set of them (catalog) and what was seen of them (sessions), as one.
//!
//! `walk` goes through both by name; `view` is a device as it is shown; `change` adds, tags and removes. For other
//! rooms: [`Directory::select`], [`Directory::is_known`], [`Directory::refuses_repeats`].

mod change;
mod view;
mod walk;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use devices::command::check_device_name;
use sled_data::ReadError as StoreError;

use crate::catalog::{Catalog, Filter, KnownBy};
use crate::clock::Clock;
use crate::event_log::EventLog;
use crate::sessions::Sessions;
use walk::{Row, Walk};

pub use change::{RemoveError, Removed};
pub use view::{DeviceView, Page};

/// Why devices were not chosen.
#[derive(Debug, thiserror::Error)]
pub enum SelectError {
    /// The filter takes more devices than asked for at most.
    #[error("the filter takes more than {max} devices; narrow it, or ask for more at once")]
    TooMany {
        /// How many were asked for at most.
        max: usize,
    },
    /// What was seen cannot be read.
    #[error("what was seen of devices cannot be read: {0}; run `edgeway store verify`")]
    Store(#[from] StoreError),
}

/// The devices of this node.
pub struct Directory {
    catalog: Arc<Catalog>,
    sessions: Arc<Sessions>,
    log: Arc<EventLog>,
}

impl Directory {
    /// Brings both together.
    pub fn new(catalog: Arc<Catalog>, sessions: Arc<Sessions>, log: Arc<EventLog>) -> Arc<Self> {
        Arc::new(Self { catalog, sessions, log })
    }

    /// What people set.
    pub fn catalog(&self) -> &Arc<Catalog> {
        &self.catalog
    }

    /// The names of the known devices that a filter takes, sorted. A device whose name can be no command's address
    /// (an MQTT client id may be anything) is none of them. Reads the store, and all that is known: call it where
    /// blocking is fine.
    ///
    /// # Errors
    /// When there are more than `max`, or the store cannot be read.
    pub fn select(&self, filter: &Filter, max: usize) -> Result<Vec<Arc<str>>, SelectError> {
        let now_ms = self.clock().wall_ms();
        let enrolment = self.catalog.known_by() == KnownBy::Enrolment;
        let live = self.live();
        let mut walk = Walk::new(self, &live, None);
        let mut names = Vec::new();
        while let Some(rows) = walk.next_rows()? {
            for row in rows.iter().filter(|row| row.is_enrolled() || !enrolment) {
                if !filter.takes(&row.facts(now_ms)) || check_device_name(&row.name).is_err() {
                    continue;
                }
                if names.len() >= max {
                    return Err(SelectError::TooMany { max });
                }
                names.push(row.name.as_str().into());
            }
        }
        Ok(names)
    }

    /// Whether the node knows a device, by what makes one known: people have added it; or, where contact is enough,
    /// something is set of it or it was seen. One entry of the store is read at most; where it cannot be read, the
    /// device is not known.
    pub fn is_known(&self, device: &str) -> bool {
        match self.catalog.known_by() {
            KnownBy::Enrolment => self.catalog.is_enrolled(device),
            KnownBy::Contact => self.catalog.get(device).is_some() || self.was_seen(device),
        }
    }

    /// Whether only devices that people added are known.
    pub fn knows_by_enrolment(&self) -> bool {
        self.catalog.known_by() == KnownBy::Enrolment
    }

    /// Whether people said of a device that it refuses a command whose id it has seen.
    pub fn refuses_repeats(&self, device: &str) -> bool {
        self.catalog.refuses_repeats(device)
    }

    fn was_seen(&self, device: &str) -> bool {
        self.sessions.live_of(device).is_some()
            || self.sessions.seen(device).is_ok_and(|seen| seen.is_some())
            || self.sessions.seen_elsewhere(device, None).is_ok_and(|seen| seen.is_some())
    }

    /// One device, known or only seen; `None` where it is neither.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn device(&self, name: &str) -> Result<Option<DeviceView>, StoreError> {
        let session = self.sessions.live_of(name);
        let (device, seen) = (self.catalog.get(name), self.sessions.seen(name)?);
        let elsewhere = self.sessions.seen_elsewhere(name, seen.as_ref())?;
        let record = seen.map(|seen| seen.device);
        let is_any = session.is_some() || device.is_some() || record.is_some() || elsewhere.is_some();
        let row = || Row { name: name.to_owned(), device, record, elsewhere, session: session.as_ref() };
        Ok(is_any.then(|| row().view()))
    }

    /// At most `max` devices that a filter takes by name, those after `after`. Reads the store: call it where blocking
    /// is fine.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn page(&self, filter: &Filter, after: Option<&str>, max: usize) -> Result<Page, StoreError> {
        let now_ms = self.clock().wall_ms();
        let live = self.live();
        let mut walk = Walk::new(self, &live, after.map(str::to_owned));
        let mut devices: Vec<DeviceView> = Vec::new();
        while let Some(rows) = walk.next_rows()? {
            for row in rows.iter().filter(|row| filter.takes(&row.facts(now_ms))) {
                if devices.len() >= max {
                    let next = devices.last().map(|device| device.device.clone());
                    return Ok(Page { devices, next });
                }
                devices.push(row.view());
            }
        }
        Ok(Page { devices, next: None })
    }

    fn clock(&self) -> &Clock {
        self.log.clock()
    }
}

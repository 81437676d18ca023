//! What people may change, and whether it can be. Pure: the same devices and the same change give the same answer on
//! every node.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use devices::command::{NameError, check_device_name};

use super::Config;
use super::device::{ATTRIBUTES_MAX, Device, NAME_BYTES_MAX, TAGS_MAX, TEXT_BYTES_MAX, Value, is_name};
use super::state::Devices;
use crate::event_log::{AppendError, CommitFailed};

/// A change of what people set.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// Enrols a device.
    AddDevice {
        /// Its name.
        device: String,
        /// Its tags; those that it has stay.
        tags: BTreeSet<String>,
        /// Its attributes; others that it has stay.
        attributes: BTreeMap<String, Value>,
        /// Whether it refuses a command whose id it has seen; `None` leaves it as it is.
        refuses_repeats: Option<bool>,
    },
    /// Takes a device and all that was set of it out of the catalog.
    RemoveDevice {
        /// Its name.
        device: String,
    },
    /// Adds and removes tags.
    SetTags {
        /// The device.
        device: String,
        /// Tags that it shall have.
        add: BTreeSet<String>,
        /// Tags that it shall not have.
        remove: BTreeSet<String>,
        /// It was seen: where the catalog does not have it, it comes in without being enrolled.
        seen: bool,
    },
    /// Sets and removes attributes.
    SetAttributes {
        /// The device.
        device: String,
        /// What each attribute shall say; `None` removes it.
        set: BTreeMap<String, Option<Value>>,
        /// Whether it refuses a command whose id it has seen: `Some(None)`: nobody says; `None` leaves it as it is.
        refuses_repeats: Option<Option<bool>>,
        /// As for [`Self::SetTags`].
        seen: bool,
    },
}

/// What a change comes to.
#[derive(Debug, Clone, PartialEq)]
pub struct Applied {
    /// The device.
    pub name: Arc<str>,
    /// What is set of it from now on; `None`: it is in the catalog no more.
    pub device: Option<Arc<Device>>,
}

/// Why a change was refused. Nothing was changed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// It cannot be a device's name.
    #[error("{name:?} cannot be a device's name: {why}")]
    DeviceName {
        /// The name.
        name: String,
        /// Why.
        why: NameError,
    },
    /// It cannot be the name of a tag or an attribute.
    #[error("{0:?} cannot name a tag or an attribute: 1 to {NAME_BYTES_MAX} bytes of letters, digits and _ - . : / @")]
    Name(String),
    /// An attribute's value is out of its bounds.
    #[error(
        "attribute {0} cannot say that: a flag, a finite number, or text of at most {TEXT_BYTES_MAX} bytes without control characters"
    )]
    Value(String),
    /// More tags than a device may have.
    #[error("device {0} would have more than {TAGS_MAX} tags; remove some")]
    TooManyTags(String),
    /// More attributes than a device may have.
    #[error("device {0} would have more than {ATTRIBUTES_MAX} attributes; remove some")]
    TooManyAttributes(String),
    /// It is enrolled already.
    #[error("device {0} is enrolled already; change it with `edgeway device tag` and `edgeway device set`")]
    Exists(String),
    /// There is no such device.
    #[error("there is no device {0}; `edgeway device list` names what there is")]
    Unknown(String),
    /// There are as many devices as there may be.
    #[error("there are {0} devices in the catalog already, as many as [catalog] devices_max allows")]
    TooMany(usize),
    /// The devices take as much memory as they may.
    #[error("the catalog would take more than {0} bytes of memory, the bound of [catalog] bytes_max")]
    Full(usize),
    /// The log took nothing.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// It did not become durable.
    #[error(transparent)]
    Commit(#[from] CommitFailed),
    /// The node stops.
    #[error("the node is stopping; try again later")]
    Stopping,
}

impl Refusal {
    /// A word that programs may rely on.
    pub fn code(&self) -> &'static str {
        match self {
            Self::DeviceName { .. } | Self::Name(_) | Self::Value(_) => "bad_request",
            Self::TooManyTags(_) => "too_many_tags",
            Self::TooManyAttributes(_) => "too_many_attributes",
            Self::Exists(_) => "conflict",
            Self::Unknown(_) => "not_found",
            Self::TooMany(_) => "too_many_devices",
            Self::Full(_) => "catalog_full",
            Self::Append(_) | Self::Commit(_) | Self::Stopping => "unavailable",
        }
    }
}

impl Change {
    /// The device that it is about.
    pub fn device(&self) -> &str {
        match self {
            Self::AddDevice { device, .. }
            | Self::RemoveDevice { device }
            | Self::SetTags { device, .. }
            | Self::SetAttributes { device, .. } => device,
        }
    }

    /// What it is called in the audit.
    pub fn act(&self) -> &'static str {
        match self {
            Self::AddDevice { .. } => "device.add",
            Self::RemoveDevice { .. } => "device.remove",
            Self::SetTags { .. } => "device.tag",
            Self::SetAttributes { .. } => "device.set",
        }
    }

    /// What it would come to. `at_ms` is when it was proposed, in milliseconds since 1970.
    ///
    /// # Errors
    /// Why it cannot be.
    pub(super) fn judge(&self, devices: &Devices, config: &Config, at_ms: i64) -> Result<Applied, Refusal> {
        let name = self.device();
        check_device_name(name).map_err(|why| Refusal::DeviceName { name: name.to_owned(), why })?;
        self.check_names()?;
        let before = devices.get(name);
        let device = self.after(before.as_deref(), at_ms)?;
        if let Some(device) = &device {
            check_bounds(name, device)?;
            if before.is_none() && devices.len() >= config.devices_max {
                return Err(Refusal::TooMany(devices.len()));
            }
            let taken = before.map_or(0, |before| before.bytes(name));
            let added = device.bytes(name);
            if added > taken && devices.bytes() - taken + added > config.bytes_max {
                return Err(Refusal::Full(config.bytes_max));
            }
        }
        Ok(Applied { name: name.into(), device: device.map(Arc::new) })
    }

    fn after(&self, before: Option<&Device>, at_ms: i64) -> Result<Option<Device>, Refusal> {
        let unknown = || Refusal::Unknown(self.device().to_owned());
        let new = Device { added_at_ms: at_ms, ..Device::default() };
        let known = |seen: bool| before.cloned().or(seen.then_some(new.clone())).ok_or_else(unknown);
        match self {
            Self::AddDevice { device, .. } if before.is_some_and(|before| before.enrolled) => {
                Err(Refusal::Exists(device.clone()))
            }
            Self::AddDevice { tags, attributes, refuses_repeats, .. } => {
                let mut device = known(true)?;
                device.enrolled = true;
                device.tags.extend(tags.iter().cloned());
                device.attributes.extend(attributes.clone());
                device.refuses_repeats = refuses_repeats.or(device.refuses_repeats);
                Ok(Some(device))
            }
            Self::RemoveDevice { .. } => before.map(|_| None).ok_or_else(unknown),
            Self::SetTags { add, remove, seen, .. } => {
                let mut device = known(*seen)?;
                device.tags.retain(|tag| !remove.contains(tag));
                device.tags.extend(add.iter().cloned());
                Ok(Some(device))
            }
            Self::SetAttributes { set, refuses_repeats, seen, .. } => {
                let mut device = known(*seen)?;
                for (name, value) in set {
                    match value {
                        Some(value) => device.attributes.insert(name.clone(), value.clone()),
                        None => device.attributes.remove(name),
                    };
                }
                device.refuses_repeats = refuses_repeats.unwrap_or(device.refuses_repeats);
                Ok(Some(device))
            }
        }
    }

    /// Checks all that is named, and how much: what is asked for goes into the audit.
    fn check_names(&self) -> Result<(), Refusal> {
        match self {
            Self::AddDevice { device, tags, attributes, .. } => {
                check_tags(device, tags)?;
                let set: Vec<_> = attributes.iter().map(|(name, value)| (name, Some(value))).collect();
                check_attributes(device, &set, ATTRIBUTES_MAX)
            }
            Self::SetTags { device, add, remove, .. } => check_tags(device, add).and(check_tags(device, remove)),
            Self::SetAttributes { device, set, .. } => {
                let set: Vec<_> = set.iter().map(|(name, value)| (name, value.as_ref())).collect();
                // All that it has may be removed, and as many set.
                check_attributes(device, &set, 2 * ATTRIBUTES_MAX)
            }
            Self::RemoveDevice { .. } => Ok(()),
        }
    }
}

fn check_tags(device: &str, tags: &BTreeSet<String>) -> Result<(), Refusal> {
    if tags.len() > TAGS_MAX {
        return Err(Refusal::TooManyTags(device.to_owned()));
    }
    match tags.iter().find(|tag| !is_name(tag)) {
        Some(wrong) => Err(Refusal::Name(wrong.clone())),
        None => Ok(()),
    }
}

fn check_attributes(device: &str, set: &[(&String, Option<&Value>)], max: usize) -> Result<(), Refusal> {
    if set.len() > max {
        return Err(Refusal::TooManyAttributes(device.to_owned()));
    }
    for (name, value) in set {
        if !is_name(name) {
            return Err(Refusal::Name((*name).clone()));
        }
        if value.is_some_and(|value| !value.is_fit()) {
            return Err(Refusal::Value((*name).clone()));
        }
    }
    Ok(())
}

fn check_bounds(name: &str, device: &Device) -> Result<(), Refusal> {
    if device.tags.len() > TAGS_MAX {
        return Err(Refusal::TooManyTags(name.to_owned()));
    }
    if device.attributes.len() > ATTRIBUTES_MAX {
        return Err(Refusal::TooManyAttributes(name.to_owned()));
    }
    Ok(())
}

//! How a change of a device is judged. Pure: the same devices and the same change give the same answer on every node.

use std::collections::BTreeSet;
use std::sync::Arc;

use devices::command::check_device_name;

use super::change::{Change, Terms};
use super::device::{ATTRIBUTES_MAX, Device, TAGS_MAX, Value, is_name};
use super::refusal::Refusal;
use super::state::Devices;
use super::write::Write;

/// What a change of device `name` comes to.
pub(super) fn judge(change: &Change, name: &str, devices: &Devices, terms: &Terms) -> Result<Vec<Write>, Refusal> {
    check_device_name(name).map_err(|why| Refusal::DeviceName { name: name.to_owned(), why })?;
    check_names(change)?;
    let before = devices.get(name);
    let device = after(change, name, before.as_deref(), terms.at_ms)?;
    if let Some(device) = &device {
        check_bounds(name, device)?;
        if before.is_none() && devices.len() >= terms.devices_max {
            return Err(Refusal::TooMany(devices.len()));
        }
        let taken = before.map_or(0, |before| before.bytes(name));
        let added = device.bytes(name);
        if added > taken && devices.bytes() - taken + added > terms.bytes_max {
            return Err(Refusal::Full(terms.bytes_max));
        }
    }
    Ok(vec![Write::Device(name.into(), device.map(Arc::new))])
}

fn after(change: &Change, name: &str, before: Option<&Device>, at_ms: i64) -> Result<Option<Device>, Refusal> {
    let unknown = || Refusal::Unknown(name.to_owned());
    let new = Device { added_at_ms: at_ms, ..Device::default() };
    let known = |seen: bool| before.cloned().or(seen.then_some(new.clone())).ok_or_else(unknown);
    match change {
        Change::AddDevice { device, .. } if before.is_some_and(|before| before.enrolled) => {
            Err(Refusal::Exists(device.clone()))
        }
        Change::AddDevice { tags, attributes, refuses_repeats, .. } => {
            let mut device = known(true)?;
            device.enrolled = true;
            device.tags.extend(tags.iter().cloned());
            device.attributes.extend(attributes.clone());
            device.refuses_repeats = refuses_repeats.or(device.refuses_repeats);
            Ok(Some(device))
        }
        Change::RemoveDevice { .. } => before.map(|_| None).ok_or_else(unknown),
        Change::SetTags { add, remove, seen, .. } => {
            let mut device = known(*seen)?;
            device.tags.retain(|tag| !remove.contains(tag));
            device.tags.extend(add.iter().cloned());
            Ok(Some(device))
        }
        Change::SetAttributes { set, refuses_repeats, seen, .. } => {
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
        _ => Ok(before.cloned()),
    }
}

/// Checks all that is named, and how much: what is asked for goes into the audit.
fn check_names(change: &Change) -> Result<(), Refusal> {
    match change {
        Change::AddDevice { device, tags, attributes, .. } => {
            check_tags(device, tags)?;
            let set: Vec<_> = attributes.iter().map(|(name, value)| (name, Some(value))).collect();
            check_attributes(device, &set, ATTRIBUTES_MAX)
        }
        Change::SetTags { device, add, remove, .. } => check_tags(device, add).and(check_tags(device, remove)),
        Change::SetAttributes { device, set, .. } => {
            let set: Vec<_> = set.iter().map(|(name, value)| (name, value.as_ref())).collect();
            // All that it has may be removed, and as many set.
            check_attributes(device, &set, 2 * ATTRIBUTES_MAX)
        }
        _ => Ok(()),
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

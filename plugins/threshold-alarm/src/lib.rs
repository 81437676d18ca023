//! Alarm and command when a reading passes a limit.
//!
//! Each key has its own alarm. It is raised by `readings` readings in a row
//! beyond `limit`, and cleared by the first one back at or behind `clear`.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod alarm;
mod settings;

use std::collections::{BTreeMap, HashMap};

use edgeway_plugin::json::{self, Problem};
use edgeway_plugin::{Action, Batch, Command, Config, Emit, Event, Host, Plugin, Reject, export};

use alarm::{Alarm, Change};
use settings::Settings;

/// A device's name has at most this many bytes.
const DEVICE_BYTES_MAX: usize = 128;
/// Alarms cached per partition; beyond that the cache starts anew.
const ALARMS_CACHED_MAX: usize = 100_000;

struct ThresholdAlarm {
    settings: Settings,
    /// What the node's state holds, by partition and key.
    cache: BTreeMap<u32, HashMap<Vec<u8>, Alarm>>,
}

impl Plugin for ThresholdAlarm {
    fn init(config: &Config) -> Result<Self, String> {
        Ok(ThresholdAlarm { settings: Settings::read(config)?, cache: BTreeMap::new() })
    }

    fn process<H: Host>(&mut self, batch: &Batch, host: &mut H) -> Result<Vec<Action>, String> {
        let settings = &self.settings;
        let alarms = self.cache.entry(batch.partition).or_default();
        let mut actions = Vec::new();
        for (index, event) in (0u32..).zip(&batch.events) {
            let value = match json::number_at(&event.value, &settings.path) {
                Ok(value) => value,
                Err(Problem::Absent) => continue,
                Err(problem) => {
                    actions.push(Reject::new(index, problem.to_string()).into());
                    continue;
                }
            };
            let key = event.key.as_deref().unwrap_or_default();
            load(alarms, key, host);
            let Some(alarm) = alarms.get_mut(key) else { continue };
            let before = *alarm;
            let change = alarm.read(value, &settings.threshold);
            if *alarm != before {
                store(host, key, *alarm);
            }
            if let Some(change) = change {
                respond(settings, &mut actions, index, event, value, change);
            }
        }
        Ok(actions)
    }
}

/// Sees to it that the key's alarm is in the cache.
fn load(alarms: &mut HashMap<Vec<u8>, Alarm>, key: &[u8], host: &mut impl Host) {
    if alarms.contains_key(key) {
        return;
    }
    if alarms.len() >= ALARMS_CACHED_MAX {
        alarms.clear();
    }
    let stored = host.state_get(key).map(|bytes| Alarm::decode(&bytes));
    alarms.insert(key.to_vec(), stored.unwrap_or_default());
}

fn store(host: &mut impl Host, key: &[u8], alarm: Alarm) {
    if alarm == Alarm::default() {
        host.state_delete(key);
    } else {
        host.state_set(key, &alarm.encode());
    }
}

/// Tells the world and the device about a change.
fn respond(settings: &Settings, actions: &mut Vec<Action>, index: u32, event: &Event, value: f64, change: Change) {
    let device = device(settings, event);
    let text = settings.alarm_text(change, &device, value, event);
    let emit = Emit::new(index, &settings.alarm_topic).key(event.key.as_deref()).value(text);
    actions.push(emit.into());
    let order = match change {
        Change::Raised => &settings.on_raise,
        Change::Cleared => &settings.on_clear,
    };
    if let Some(order) = order.as_ref().filter(|_| is_device_name(&device)) {
        let mut command = Command::new(index, &device, &order.name).payload(order.payload.as_str());
        command.deliver_within_ms = settings.deliver_within_ms;
        actions.push(command.into());
    }
}

/// The device's name: a field of the reading where so configured, else the key.
fn device(settings: &Settings, event: &Event) -> String {
    let named = settings.device_path.as_ref().and_then(|path| json::text_at(&event.value, path).ok());
    match named {
        Some(device) => device.to_owned(),
        None => String::from_utf8_lossy(event.key.as_deref().unwrap_or_default()).into_owned(),
    }
}

/// Whether a command can be addressed to it: one level of an MQTT topic.
fn is_device_name(name: &str) -> bool {
    let plain = |c: char| !c.is_control() && !matches!(c, '/' | '+' | '#');
    (1..=DEVICE_BYTES_MAX).contains(&name.len()) && name.chars().all(plain)
}

export!(ThresholdAlarm);

#[cfg(test)]
mod tests;

//! Mean, minimum and maximum per key and window.
//!
//! Windows are cut by the events' timestamps and begin at multiples of their
//! length. A key's window is closed, and its summary emitted, by the key's first
//! event of a later window.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod window;

use std::collections::{BTreeMap, HashMap};

use edgeway_plugin::json::{self, Path, Problem};
use edgeway_plugin::{Action, Batch, Config, Emit, Event, Host, Plugin, Reject, export};

use window::Window;

/// Windows cached per partition; beyond that the cache starts anew.
const WINDOWS_CACHED_MAX: usize = 100_000;
/// A window is at least a second and at most a day.
const WINDOW_MS_RANGE: std::ops::RangeInclusive<i64> = 1_000..=86_400_000;

struct Downsample {
    path: Path,
    topic: String,
    window_ms: i64,
    /// What the node's state holds, by partition and key; `None`: no window.
    cache: BTreeMap<u32, HashMap<Vec<u8>, Option<Window>>>,
}

impl Plugin for Downsample {
    fn init(config: &Config) -> Result<Self, String> {
        let window_ms = config.parsed("window_ms", 60_000)?;
        if !WINDOW_MS_RANGE.contains(&window_ms) {
            let (min, max) = WINDOW_MS_RANGE.into_inner();
            return Err(format!("setting `window_ms` = `{window_ms}`: expected {min} to {max}"));
        }
        Ok(Downsample {
            path: Path::new(config.text("path").unwrap_or_default()),
            topic: config.text("topic").unwrap_or("downsampled").to_owned(),
            window_ms,
            cache: BTreeMap::new(),
        })
    }

    fn process<H: Host>(&mut self, batch: &Batch, host: &mut H) -> Result<Vec<Action>, String> {
        let windows = self.cache.entry(batch.partition).or_default();
        if windows.len() >= WINDOWS_CACHED_MAX {
            windows.clear();
        }
        let mut actions = Vec::new();
        let mut changed: Vec<&[u8]> = Vec::new();
        for (index, event) in (0u32..).zip(&batch.events) {
            let value = match json::number_at(&event.value, &self.path) {
                Ok(value) => value,
                Err(Problem::Absent) => continue,
                Err(problem) => {
                    actions.push(Reject::new(index, problem.to_string()).into());
                    continue;
                }
            };
            let key = event.key.as_deref().unwrap_or_default();
            load(windows, key, host);
            let Some(window) = windows.get_mut(key) else { continue };
            let (next, closed) = Window::add(window.take(), event.timestamp_ms, value, self.window_ms);
            *window = Some(next);
            changed.push(key);
            if let Some(closed) = closed {
                actions.push(summary(&self.topic, self.window_ms, index, event, &closed));
            }
        }
        // Once per key, whatever the number of its events.
        changed.sort_unstable();
        changed.dedup();
        for key in changed {
            if let Some(Some(window)) = windows.get(key) {
                host.state_set(key, &window.encode());
            }
        }
        Ok(actions)
    }
}

/// Sees to it that the key's window, if any, is in the cache.
fn load(windows: &mut HashMap<Vec<u8>, Option<Window>>, key: &[u8], host: &mut impl Host) {
    if !windows.contains_key(key) {
        let stored = host.state_get(key).and_then(|bytes| Window::decode(&bytes));
        windows.insert(key.to_vec(), stored);
    }
}

/// The closed window as an event of the same key, at the window's end.
fn summary(topic: &str, window_ms: i64, index: u32, event: &Event, window: &Window) -> Action {
    let text = format!(
        r#"{{"window_start_ms":{},"window_ms":{window_ms},"count":{},"mean":{},"min":{},"max":{},"late":{}}}"#,
        window.start_ms,
        window.count,
        window.mean(),
        window.min,
        window.max,
        window.late,
    );
    Emit::new(index, topic)
        .key(event.key.as_deref())
        .value(text)
        .timestamp_ms(window.start_ms.saturating_add(window_ms))
        .into()
}

export!(Downsample);

#[cfg(test)]
mod tests;

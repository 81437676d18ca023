//! Keeps the last pressure of each device, for guards to read.
//!
//! State, by the event's key (the device): byte 1 (the version), the pressure as
//! a big-endian `f64`, and its time in ms since 1970-01-01 UTC as a big-endian
//! `i64`. The time is the event's own, or the node's where the event's lies in the
//! future: a reading never seems younger than it is known to be.
//!
//! The last one in the log counts, whatever its time says. A device whose clock
//! stepped back, or that sends what it had buffered, may make its reading seem old
//! for a while; a guard that asks for a young one then keeps commands back.
#![cfg_attr(test, allow(clippy::unwrap_used))]

use std::collections::BTreeMap;

use edgeway_plugin::json::{self, Path, Problem};
use edgeway_plugin::{Action, Batch, Config, Host, Plugin, Reject, export};

/// The version of a kept value.
const VERSION: u8 = 1;

struct PressureWatch {
    path: Path,
}

impl Plugin for PressureWatch {
    fn init(config: &Config) -> Result<Self, String> {
        Ok(PressureWatch { path: Path::new(config.text("path").unwrap_or_default()) })
    }

    fn process<H: Host>(&mut self, batch: &Batch, host: &mut H) -> Result<Vec<Action>, String> {
        let now_ms = host.now_ms();
        let mut actions = Vec::new();
        let mut last: BTreeMap<&[u8], (f64, i64)> = BTreeMap::new();
        for (index, event) in (0u32..).zip(&batch.events) {
            // Without a device there is nobody to ask for.
            let Some(key) = event.key.as_deref().filter(|key| !key.is_empty()) else { continue };
            match json::number_at(&event.value, &self.path) {
                Ok(pressure) if pressure.is_finite() => {
                    last.insert(key, (pressure, event.timestamp_ms.min(now_ms)));
                }
                Ok(_) => actions.push(Reject::new(index, "the reading is not finite").into()),
                Err(Problem::Absent) => {}
                Err(problem) => actions.push(Reject::new(index, problem.to_string()).into()),
            }
        }
        // Once per device, whatever the number of its readings.
        for (key, (pressure, at_ms)) in last {
            host.state_set(key, &encode(pressure, at_ms));
        }
        Ok(actions)
    }
}

fn encode(pressure: f64, at_ms: i64) -> Vec<u8> {
    [&[VERSION][..], &pressure.to_be_bytes(), &at_ms.to_be_bytes()].concat()
}

export!(PressureWatch);

#[cfg(test)]
mod tests {
    use edgeway_plugin::mock::Bench;

    use super::*;

    fn bench() -> Bench<PressureWatch> {
        let mut bench = Bench::<PressureWatch>::new([("path", "pressure")]).unwrap();
        bench.host.now_ms = 1_000;
        bench
    }

    fn kept(bench: &Bench<PressureWatch>, device: &str) -> Option<Vec<u8>> {
        bench.host.state.get(&(0, device.as_bytes().to_vec())).cloned()
    }

    #[test]
    fn the_last_pressure_of_each_device_is_kept() {
        let mut bench = bench();
        let events = [
            ("a", 1, r#"{"pressure":5.5}"#),
            ("b", 2, r#"{"pressure":1}"#),
            ("a", 3, r#"{"pressure":6.5}"#),
            ("a", 4, r#"{"temperature":70}"#),
        ];
        assert!(bench.feed(&events).unwrap().is_empty());
        assert_eq!(kept(&bench, "a"), Some(encode(6.5, 3)));
        assert_eq!(kept(&bench, "b"), Some(encode(1.0, 2)));
        bench.feed(&[("a", 2, r#"{"pressure":2}"#)]).unwrap();
        assert_eq!(kept(&bench, "a"), Some(encode(2.0, 2)), "later in the log, whatever its time says");
    }

    #[test]
    fn a_time_in_the_future_counts_as_now() {
        let mut bench = bench();
        bench.feed(&[("a", 5_000, r#"{"pressure":2}"#)]).unwrap();
        assert_eq!(kept(&bench, "a"), Some(encode(2.0, 1_000)));
    }

    #[test]
    fn what_is_no_pressure_is_set_aside_and_changes_nothing() {
        let mut bench = bench();
        bench.feed(&[("a", 1, r#"{"pressure":2}"#)]).unwrap();
        let bad = [("a", 2, "hello"), ("a", 3, r#"{"pressure":"high"}"#), ("a", 4, r#"{"pressure":1e999}"#)];
        assert_eq!(bench.feed(&bad).unwrap().len(), 3);
        assert_eq!(kept(&bench, "a"), Some(encode(2.0, 1)));
        assert!(bench.feed(&[("", 5, r#"{"pressure":2}"#)]).unwrap().is_empty());
    }

    #[test]
    fn kept_values_have_golden_bytes() {
        assert_eq!(encode(6.5, 258), b"\x01\x40\x1a\0\0\0\0\0\0\0\0\0\0\0\0\x01\x02");
    }
}

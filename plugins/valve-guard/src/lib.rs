//! Forbids to open a valve while the pressure is above a limit, or not known.
//!
//! The pressure is what `pressure-watch` keeps. It is as late as that plugin lags,
//! which is why it must be young: a reading of a sensor that fell silent, or that
//! waits in a backlog, opens nothing.
#![cfg_attr(test, allow(clippy::unwrap_used))]

use edgeway_plugin::guard::{AskedCommand, Guard, GuardHost, Verdict};
use edgeway_plugin::{Config, export_guard};

struct ValveGuard {
    /// The plugin that keeps the pressure.
    plugin: String,
    /// Whose pressure counts, if not that of the command's device.
    sensor: Option<String>,
    limit: f64,
    max_age_ms: Option<i64>,
}

impl Guard for ValveGuard {
    fn init(config: &Config) -> Result<Self, String> {
        config.required("limit")?;
        let limit: f64 = config.parsed("limit", 0.0)?;
        let max_age_ms: i64 = config.parsed("max_age_ms", 30_000)?;
        if !limit.is_finite() {
            return Err("setting `limit` must be finite".to_owned());
        }
        if max_age_ms < 0 {
            return Err(format!("setting `max_age_ms` = `{max_age_ms}`: must not be negative; 0 takes any age"));
        }
        Ok(ValveGuard {
            plugin: config.text("plugin").unwrap_or("pressure-watch").to_owned(),
            sensor: config.text("sensor").map(str::to_owned),
            limit,
            max_age_ms: Some(max_age_ms).filter(|ms| *ms > 0),
        })
    }

    fn judge<H: GuardHost>(&mut self, command: &AskedCommand, host: &mut H) -> Verdict {
        let sensor = self.sensor.as_deref().unwrap_or(&command.device);
        let kept = host.kept(&self.plugin, sensor.as_bytes());
        let now_ms = host.now_ms();
        let readings: Option<Vec<(f64, i64)>> = kept.iter().map(|value| decode(value)).collect();
        let Some(readings) = readings else {
            return Verdict::Deny(format!("what `{}` keeps of {sensor} cannot be read", self.plugin));
        };
        let Some(newest_ms) = readings.iter().map(|(_, at_ms)| *at_ms).max() else {
            return Verdict::Deny(format!("the pressure of {sensor} is not known"));
        };
        let young = |at_ms: i64| self.max_age_ms.is_none_or(|max| now_ms.saturating_sub(at_ms) <= max);
        if !young(newest_ms) {
            let age_s = now_ms.saturating_sub(newest_ms) / 1_000;
            return Verdict::Deny(format!("the pressure of {sensor} was last known {age_s} s ago"));
        }
        // More than one where events of the device are in several partitions: each must be fine.
        let young = readings.iter().filter(|(_, at_ms)| young(*at_ms));
        let highest = young.map(|(pressure, _)| *pressure).fold(f64::MIN, f64::max);
        if highest > self.limit {
            return Verdict::Deny(format!("the pressure of {sensor} is {highest}, above {}", self.limit));
        }
        Verdict::Allow
    }
}

/// A pressure and its time in ms, as `pressure-watch` keeps them.
fn decode(value: &[u8]) -> Option<(f64, i64)> {
    let [1, rest @ ..] = value else { return None };
    let (pressure, at_ms) = rest.split_first_chunk::<8>()?;
    let pressure = f64::from_be_bytes(*pressure);
    let at_ms = i64::from_be_bytes(at_ms.try_into().ok()?);
    pressure.is_finite().then_some((pressure, at_ms))
}

export_guard!(ValveGuard);

#[cfg(test)]
mod tests {
    use edgeway_plugin::guard::mock::GuardBench;

    use super::*;

    const NOW_MS: i64 = 100_000;

    fn bench(settings: &[(&str, &str)]) -> GuardBench<ValveGuard> {
        let mut bench = GuardBench::<ValveGuard>::new([("limit", "6")].iter().chain(settings).copied()).unwrap();
        bench.host.now_ms = NOW_MS;
        bench
    }

    fn value(pressure: f64, at_ms: i64) -> Vec<u8> {
        [&[1][..], &pressure.to_be_bytes(), &at_ms.to_be_bytes()].concat()
    }

    fn denied(reason: &str) -> Verdict {
        Verdict::Deny(reason.to_owned())
    }

    #[test]
    fn a_valve_opens_only_at_a_low_and_young_pressure() {
        let mut bench = bench(&[]);
        assert_eq!(bench.judge("v1", "open-valve", ""), denied("the pressure of v1 is not known"));
        let cases = [
            (6.0, NOW_MS, Verdict::Allow),
            (6.0, NOW_MS - 30_000, Verdict::Allow),
            (6.5, NOW_MS, denied("the pressure of v1 is 6.5, above 6")),
            (1.0, NOW_MS - 45_000, denied("the pressure of v1 was last known 45 s ago")),
            (1.0, i64::MIN, denied("the pressure of v1 was last known 9223372036854775 s ago")),
        ];
        for (pressure, at_ms, want) in cases {
            bench.host.keep("pressure-watch", "v1", value(pressure, at_ms));
            assert_eq!(bench.judge("v1", "open-valve", ""), want);
        }
    }

    #[test]
    fn of_several_partitions_each_young_pressure_must_be_low() {
        let mut bench = bench(&[]);
        bench.host.keep("pressure-watch", "v1", value(9.0, NOW_MS));
        let values = bench.host.kept.get_mut("pressure-watch").unwrap().get_mut(&b"v1"[..]).unwrap();
        values.push(value(1.0, NOW_MS));
        assert_eq!(bench.judge("v1", "open-valve", ""), denied("the pressure of v1 is 9, above 6"));
        bench.host.kept.get_mut("pressure-watch").unwrap().get_mut(&b"v1"[..]).unwrap()[0] = value(9.0, 0);
        assert_eq!(bench.judge("v1", "open-valve", ""), Verdict::Allow, "an old one is history");
    }

    #[test]
    fn sensor_plugin_and_age_are_settings() {
        let mut bench = bench(&[("sensor", "boiler"), ("plugin", "other"), ("max_age_ms", "0")]);
        bench.host.keep("other", "boiler", value(2.0, 0));
        assert_eq!(bench.judge("v1", "open-valve", ""), Verdict::Allow);
    }

    #[test]
    fn what_cannot_be_read_opens_nothing() {
        let mut bench = bench(&[]);
        for bad in [&b""[..], b"\x02", b"\x01123", &value(f64::NAN, NOW_MS), &[value(1.0, NOW_MS), vec![0]].concat()] {
            bench.host.keep("pressure-watch", "v1", bad);
            let verdict = bench.judge("v1", "open-valve", "");
            assert_eq!(verdict, denied("what `pressure-watch` keeps of v1 cannot be read"), "{bad:?}");
        }
    }

    #[test]
    fn wrong_settings_are_told() {
        let cases: [(&[(&str, &str)], &str); 4] = [
            (&[], "setting `limit` is missing"),
            (&[("limit", "x")], "setting `limit` = `x`"),
            (&[("limit", "inf")], "setting `limit` must be finite"),
            (&[("limit", "1"), ("max_age_ms", "-1")], "setting `max_age_ms` = `-1`"),
        ];
        for (settings, want) in cases {
            let error = GuardBench::<ValveGuard>::new(settings.iter().copied()).err().unwrap();
            assert!(error.starts_with(want), "{error}");
        }
    }
}

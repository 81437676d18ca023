//! A believable temperature: a daily cycle, correlated noise, drift, and faults on top; pure.

use std::f64::consts::TAU;

use crate::client::backoff::splitmix;

/// The shape of a device's temperature.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SignalConfig {
    /// The mean, in °C.
    pub base: f64,
    /// Half the daily swing, in °C.
    pub swing: f64,
    /// The length of a day, in milliseconds.
    pub day_ms: f64,
    /// The standard deviation of the noise, in °C.
    pub noise: f64,
    /// What it gains in a day, in °C.
    pub drift_per_day: f64,
    /// The time in which heat gets two thirds of the way to where it goes, in milliseconds.
    pub heat_ms: f64,
}

impl Default for SignalConfig {
    fn default() -> Self {
        Self { base: 45.0, swing: 4.0, day_ms: 86_400_000.0, noise: 0.3, drift_per_day: 0.05, heat_ms: 2_000.0 }
    }
}

/// What is wrong with a device.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    /// It heats up by this much, in °C, until it is cooled.
    Overheat(f64),
    /// It repeats its last reading.
    Stuck,
    /// One reading in `every` is off by `height` °C.
    Spikes {
        /// The mean number of readings from one spike to the next; at least 1.
        every: u32,
        /// The spike's height, in °C.
        height: f64,
    },
}

/// One device's temperature over time.
#[derive(Clone, Debug)]
pub struct Signal {
    config: SignalConfig,
    random: u64,
    phase: f64,
    offset: f64,
    noise: f64,
    heat: f64,
    heat_target: f64,
    fault: Option<Fault>,
    last: f64,
    last_ms: f64,
}

impl Signal {
    /// A signal; another seed gives another device of the same kind.
    pub fn new(config: SignalConfig, seed: u64) -> Self {
        let mut random = seed;
        let phase = unit(&mut random) * 0.1;
        let offset = normal(&mut random) * config.swing / 4.0;
        let last = config.base + offset;
        Self { config, random, phase, offset, noise: 0.0, heat: 0.0, heat_target: 0.0, fault: None, last, last_ms: 0.0 }
    }

    /// The temperature at a time since the start, in milliseconds; times must not fall.
    pub fn at(&mut self, time_ms: f64) -> f64 {
        let passed = (time_ms - self.last_ms).max(0.0);
        self.last_ms = time_ms;
        // Noise with a memory of three readings, so that the line wanders instead of bristling.
        self.noise = 0.7 * self.noise + (1.0f64 - 0.49).sqrt() * self.config.noise * normal(&mut self.random);
        let near = (-passed / self.config.heat_ms).exp();
        self.heat = self.heat_target + (self.heat - self.heat_target) * near;
        let days = time_ms / self.config.day_ms;
        let plain = self.config.base
            + self.offset
            + self.config.swing * (TAU * (days + self.phase)).sin()
            + self.config.drift_per_day * days
            + self.noise
            + self.heat;
        let value = match self.fault {
            Some(Fault::Stuck) => self.last,
            Some(Fault::Spikes { every, height })
                if splitmix(&mut self.random).is_multiple_of(u64::from(every.max(1))) =>
            {
                return plain + height;
            }
            _ => plain,
        };
        self.last = value;
        value
    }

    /// The newest value.
    pub fn last(&self) -> f64 {
        self.last
    }

    /// What is wrong now.
    pub fn fault(&self) -> Option<Fault> {
        self.fault
    }

    /// Makes something wrong, in place of what was.
    pub fn inject(&mut self, fault: Fault) {
        if let Fault::Overheat(rise) = fault {
            self.heat_target = rise;
        }
        self.fault = Some(fault);
    }

    /// Ends an overheating: the heat goes as it came. Other faults stay.
    pub fn cool(&mut self) {
        self.heat_target = 0.0;
        if matches!(self.fault, Some(Fault::Overheat(_))) {
            self.fault = None;
        }
    }

    /// Ends every fault.
    pub fn heal(&mut self) {
        self.heat_target = 0.0;
        self.fault = None;
    }
}

/// A number from 0 up to 1.
fn unit(random: &mut u64) -> f64 {
    (splitmix(random) >> 11) as f64 / (1u64 << 53) as f64
}

/// A normally distributed number (Box and Muller's transform).
fn normal(random: &mut u64) -> f64 {
    let radius = (-2.0 * (1.0 - unit(random)).ln()).sqrt();
    radius * (TAU * unit(random)).cos()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(signal: &mut Signal, from: u32, count: u32) -> Vec<f64> {
        (from..from + count).map(|n| signal.at(f64::from(n) * 1_000.0)).collect()
    }

    fn mean(values: &[f64]) -> f64 {
        values.iter().sum::<f64>() / values.len() as f64
    }

    #[test]
    fn a_seed_gives_one_line_and_another_seed_another() {
        let line = |seed| series(&mut Signal::new(SignalConfig::default(), seed), 0, 100);
        assert_eq!(line(1), line(1));
        assert_ne!(line(1), line(2));
    }

    #[test]
    fn a_day_rises_and_falls_and_drifts() {
        let config = SignalConfig { day_ms: 100_000.0, noise: 0.1, drift_per_day: 1.0, ..SignalConfig::default() };
        let mut signal = Signal::new(config, 3);
        let (day, next) = (series(&mut signal, 0, 100), series(&mut signal, 100, 100));
        let top = day.iter().copied().fold(f64::MIN, f64::max);
        let bottom = day.iter().copied().fold(f64::MAX, f64::min);
        assert!((top - bottom - 8.0).abs() < 1.5, "{bottom} to {top}");
        assert!((mean(&next) - mean(&day) - 1.0).abs() < 0.2);
    }

    #[test]
    fn an_overheated_device_is_cooled_by_cooling_alone() {
        let mut signal = Signal::new(SignalConfig::default(), 4);
        let before = mean(&series(&mut signal, 0, 20));
        signal.inject(Fault::Overheat(40.0));
        series(&mut signal, 20, 10);
        let hot = mean(&series(&mut signal, 30, 20));
        assert!(hot > before + 35.0, "{before} to {hot}");
        signal.cool();
        assert_eq!(signal.fault(), None);
        series(&mut signal, 50, 15);
        let cooled = mean(&series(&mut signal, 65, 20));
        assert!((cooled - before).abs() < 3.0, "{before} to {cooled}");
    }

    #[test]
    fn a_stuck_device_repeats_itself_until_healed() {
        let mut signal = Signal::new(SignalConfig::default(), 5);
        let last = signal.at(0.0);
        signal.inject(Fault::Stuck);
        assert_eq!(series(&mut signal, 1, 10), [last; 10]);
        signal.cool();
        assert_eq!(signal.fault(), Some(Fault::Stuck));
        signal.heal();
        assert_ne!(signal.at(20_000.0), last);
    }

    #[test]
    fn spikes_come_about_as_often_as_said() {
        let mut signal = Signal::new(SignalConfig::default(), 6);
        signal.inject(Fault::Spikes { every: 10, height: 100.0 });
        let spikes = series(&mut signal, 0, 1_000).into_iter().filter(|value| *value > 100.0).count();
        assert!((50..200).contains(&spikes), "{spikes}");
        assert!(signal.last() < 100.0);
    }
}

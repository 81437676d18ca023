//! What befalls a fleet's connections, and when (pure): churn, storms, an outage.

use std::time::Duration;

use crate::client::backoff::splitmix;

/// A link that is gone for a while, for all devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outage {
    /// When it begins, counted from the fleet's start.
    pub after: Duration,
    /// How long it lasts.
    pub lasts: Duration,
}

/// What befalls a fleet. Fair weather: nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weather {
    /// The mean time between two breaks of one device's connection; they come at random.
    pub churn_every: Option<Duration>,
    /// The time between two breaks of all connections at once.
    pub storm_every: Option<Duration>,
    /// A time in which no device is connected.
    pub outage: Option<Outage>,
}

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// One device's connection breaks.
    Break(usize),
    /// All connections break.
    Storm,
    /// The outage begins.
    Cut,
    /// The outage ends.
    Mended,
}

/// The events of one fleet, in order.
#[derive(Clone, Debug)]
pub struct Forecast {
    weather: Weather,
    devices: usize,
    random: u64,
    churn_at: Option<Duration>,
    storm_at: Option<Duration>,
    cut_at: Option<Duration>,
    mended_at: Option<Duration>,
}

impl Forecast {
    /// The same seed gives the same events.
    pub fn new(weather: Weather, devices: usize, seed: u64) -> Self {
        let mut forecast = Self {
            weather,
            devices,
            random: seed,
            churn_at: None,
            storm_at: weather.storm_every.filter(|every| !every.is_zero()),
            cut_at: weather.outage.map(|outage| outage.after),
            mended_at: weather.outage.map(|outage| outage.after + outage.lasts),
        };
        forecast.churn_at = forecast.next_churn(Duration::ZERO);
        forecast
    }

    /// The next event, and when it happens, counted from the fleet's start; `None` when nothing more will.
    pub fn next_event(&mut self) -> Option<(Duration, Event)> {
        let times = [self.cut_at, self.mended_at, self.storm_at, self.churn_at];
        let at = times.into_iter().flatten().min()?;
        let event = if self.cut_at == Some(at) {
            self.cut_at = None;
            Event::Cut
        } else if self.mended_at == Some(at) {
            self.mended_at = None;
            Event::Mended
        } else if self.storm_at == Some(at) {
            self.storm_at = self.weather.storm_every.map(|every| at + every);
            Event::Storm
        } else {
            self.churn_at = self.next_churn(at);
            Event::Break((splitmix(&mut self.random) % self.devices.max(1) as u64) as usize)
        };
        Some((at, event))
    }

    /// Breaks of many devices together come as a Poisson process does.
    fn next_churn(&mut self, now: Duration) -> Option<Duration> {
        let mean = self.weather.churn_every.filter(|every| !every.is_zero())?.as_secs_f64();
        let draw = ((splitmix(&mut self.random) >> 11) as f64 + 1.0) / (1_u64 << 53) as f64;
        let wait = -draw.ln() * mean / self.devices.max(1) as f64;
        Some(now + Duration::from_secs_f64(wait.min(1e9)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn events_come_in_order_and_the_outage_has_an_end() {
        let outage = Some(Outage { after: s(5), lasts: s(10) });
        let weather = Weather { storm_every: Some(s(4)), outage, ..Weather::default() };
        let mut forecast = Forecast::new(weather, 10, 1);
        let events: Vec<_> = (0..6).filter_map(|_| forecast.next_event()).collect();
        let expected = [
            (s(4), Event::Storm),
            (s(5), Event::Cut),
            (s(8), Event::Storm),
            (s(12), Event::Storm),
            (s(15), Event::Mended),
            (s(16), Event::Storm),
        ];
        assert_eq!(events, expected);
        assert_eq!(Forecast::new(Weather::default(), 10, 1).next_event(), None, "fair weather");
    }

    #[test]
    fn churn_breaks_each_device_as_often_as_it_says() {
        let weather = Weather { churn_every: Some(s(60)), ..Weather::default() };
        let mut forecast = Forecast::new(weather, 100, 7);
        let mut breaks = vec![0; 100];
        while let Some((at, Event::Break(device))) = forecast.next_event()
            && at < s(3_600)
        {
            breaks[device] += 1;
        }
        let total: u32 = breaks.iter().sum();
        assert!((5_500..6_500).contains(&total), "{total}: 100 devices, 60 breaks each");
        assert!(breaks.iter().all(|breaks| *breaks > 25), "{breaks:?}");
    }
}

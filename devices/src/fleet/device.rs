//! One simulated device: its state, its readings as JSON, and what it does when commanded.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde::Deserialize;

use super::ledger::Ledger;
use super::run::{LATENCIES_MAX, Source};
use super::signal::{Fault, Signal};
use crate::client::{Call, Handlers};

/// The shortest interval between readings that a command may set.
const INTERVAL_MIN: Duration = Duration::from_millis(1);
/// The longest interval between readings that a command may set.
const INTERVAL_MAX: Duration = Duration::from_secs(24 * 3_600);

/// The latest that a recorded point may be due: ten years after the start.
const DUE_MAX: Duration = Duration::from_secs(10 * 365 * 24 * 3_600);

/// A device as it is now.
#[derive(Clone, Debug, PartialEq)]
pub struct DeviceStatus {
    /// Its name.
    pub name: String,
    /// Its newest reading.
    pub temperature: f64,
    /// The time between its readings.
    pub interval: Duration,
    /// What is wrong with it.
    pub fault: Option<Fault>,
    /// Readings handed to its client.
    pub sent: u64,
    /// Readings acknowledged.
    pub acked: u64,
    /// Commands done.
    pub commands: u64,
    /// Whether it is connected.
    pub online: bool,
    /// Whether its recorded series has come to its end.
    pub finished: bool,
}

/// A device's own clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct DeviceClock {
    /// The true time at the fleet's start, in milliseconds since 1970.
    pub(super) begin_ms: i64,
    /// How much it is before the true time; behind where it is negative.
    pub(super) skew_ms: i64,
    /// How much faster than real the fleet's time runs.
    pub(super) speed: f64,
}

impl DeviceClock {
    /// What it shows, `elapsed` after the fleet's start.
    fn at_ms(&self, elapsed: Duration) -> i64 {
        let passed_ms = elapsed.as_secs_f64() * self.speed * 1_000.0;
        self.begin_ms.saturating_add(self.skew_ms).saturating_add(passed_ms as i64)
    }
}

/// A device's state, shared by the fleet's task and the command handlers.
pub(super) struct State {
    pub(super) signal: Signal,
    pub(super) source: Source,
    pub(super) interval: Duration,
    clock: DeviceClock,
    /// The word that each reading carries.
    pub(super) run: Option<String>,
    pub(super) value: f64,
    pub(super) ledger: Ledger,
    pub(super) commands: u64,
    pub(super) latencies: Vec<Duration>,
    /// When the newest reading was handed over.
    pub(super) last_reading: Option<Instant>,
    /// Time on the signal's own clock, so that a seed gives one line however fast the machine is.
    pub(super) signal_ms: f64,
    pub(super) next_point: usize,
    /// A reading that the client had no room for.
    held: Option<Reading>,
}

/// A reading that is due.
#[derive(Clone)]
pub(super) struct Reading {
    pub(super) seq: u64,
    /// When it was taken, as the device's clock says.
    pub(super) at_ms: i64,
    pub(super) payload: String,
}

impl State {
    pub(super) fn new(signal: Signal, source: Source, interval: Duration, clock: DeviceClock) -> Self {
        Self {
            value: signal.last(),
            signal,
            source,
            interval,
            clock,
            run: None,
            ledger: Ledger::default(),
            commands: 0,
            latencies: Vec::new(),
            last_reading: None,
            signal_ms: 0.0,
            next_point: 0,
            held: None,
        }
    }

    /// Whether there is nothing left to send.
    pub(super) fn finished(&self) -> bool {
        let played = match &self.source {
            Source::Simulated => false,
            Source::Replay { series, .. } => self.next_point >= series.points().len(),
        };
        self.held.is_none() && (played || self.ledger.next().is_none())
    }

    /// The reading that is due, taken `elapsed` after the fleet's start, noted as sent; `None` when finished. One that was
    /// [given back](State::give_back) comes first.
    pub(super) fn reading(&mut self, elapsed: Duration, now: Instant) -> Option<Reading> {
        let reading = match self.held.take() {
            Some(held) => held,
            None => self.new_reading(elapsed)?,
        };
        self.ledger.sent();
        self.last_reading = Some(now);
        Some(reading)
    }

    fn new_reading(&mut self, elapsed: Duration) -> Option<Reading> {
        let seq = self.ledger.next()?;
        let (at_ms, value) = match &self.source {
            Source::Simulated => {
                let value = round(self.signal.at(self.signal_ms));
                self.signal_ms += self.interval.as_secs_f64() * 1_000.0;
                (self.clock.at_ms(elapsed), value)
            }
            Source::Replay { series, .. } => {
                let point = series.points().get(self.next_point)?;
                self.next_point += 1;
                (point.at_ms, point.value)
            }
        };
        self.value = value;
        let run = self.run.as_ref().map_or_else(String::new, |run| format!(r#""run":"{run}","#));
        let payload = format!(r#"{{"seq":{seq},"ts":{at_ms},{run}"temperature":{value}}}"#);
        Some(Reading { seq, at_ms, payload })
    }

    /// Takes a reading back that the client had no room for; it is the next again.
    pub(super) fn give_back(&mut self, reading: Reading) {
        self.ledger.retract();
        self.held = Some(reading);
    }

    /// When the next reading is due, counted from the fleet's start.
    pub(super) fn next_due(&self, due: Duration) -> Duration {
        match &self.source {
            Source::Simulated => due + self.interval.div_f64(self.clock.speed),
            Source::Replay { series, speed } => {
                let ms = series.due_ms(self.next_point, *speed).unwrap_or(0.0);
                let planned = Duration::try_from_secs_f64(ms / 1_000.0).unwrap_or(DUE_MAX);
                // A little later than the last at least, so that all devices have their turn.
                planned.min(DUE_MAX).max(due + Duration::from_micros(1))
            }
        }
    }

    fn commanded(&mut self, now: Instant) {
        self.commands += 1;
        if let Some(reading) = self.last_reading
            && self.latencies.len() < LATENCIES_MAX
        {
            self.latencies.push(now.duration_since(reading));
        }
    }
}

/// Hundredths of a degree are enough.
fn round(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

/// What a device does with its commands: `cool`, and `set-interval` with `{"ms": 500}`.
pub(super) fn handlers(
    state: &Arc<Mutex<State>>,
    lock: fn(&Mutex<State>) -> std::sync::MutexGuard<'_, State>,
) -> Handlers {
    let (cooled, paced) = (state.clone(), state.clone());
    Handlers::new()
        .on("cool", move |call| {
            let mut state = lock(&cooled);
            state.commanded(Instant::now());
            state.signal.cool();
            let value = state.value;
            drop(state);
            call.succeed(format!(r#"{{"temperature":{value}}}"#));
        })
        .on("set-interval", move |call| {
            let mut state = lock(&paced);
            state.commanded(Instant::now());
            set_interval(&mut state, call);
        })
}

fn set_interval(state: &mut State, call: Call) {
    #[derive(Deserialize)]
    struct Wanted {
        ms: u64,
    }
    let wanted = serde_json::from_slice(&call.payload).map(|Wanted { ms }| Duration::from_millis(ms));
    match wanted {
        Ok(interval) if (INTERVAL_MIN..=INTERVAL_MAX).contains(&interval) => {
            state.interval = interval;
            call.succeed("");
        }
        _ => call.reject(r#"expected {"ms": N}, N from 1 to 86400000"#),
    }
}

//! The fleet itself: one task takes everybody's readings when they are due.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use thiserror::Error;
use tokio::task::JoinHandle;

use super::device::{DeviceStatus, State, handlers};
use super::ledger::Ledger;
use super::replay::Series;
use super::signal::{Fault, Signal, SignalConfig};
use crate::client::{self, Client, PublishError, PublishOptions};

/// Most latencies that a device keeps.
pub const LATENCIES_MAX: usize = 10_000;
/// Most devices of one fleet.
pub const DEVICES_MAX: usize = 100_000;
/// How long a device whose buffer is full waits before it tries again.
const FULL_WAIT: Duration = Duration::from_millis(2);
/// Readings taken before other tasks get a turn.
const READINGS_IN_A_ROW_MAX: usize = 64;

/// Where a device's readings come from.
#[derive(Clone, Debug)]
pub enum Source {
    /// The device's own [`Signal`].
    Simulated,
    /// A recorded series at a speed (2: twice as fast as recorded; 0: as fast as possible), each
    /// payload with the time that was recorded.
    Replay {
        /// The series.
        series: Arc<Series>,
        /// The speed.
        speed: f64,
    },
}

/// What a fleet is told.
#[derive(Clone)]
pub struct Config {
    /// How many devices, at most [`DEVICES_MAX`].
    pub devices: usize,
    /// Their names' beginning: `sensor` gives `sensor-0001` and so on.
    pub prefix: String,
    /// The time between a device's readings.
    pub interval: Duration,
    /// The seed of all signals and of the devices' places within the interval.
    pub seed: u64,
    /// The signals' shape.
    pub signal: SignalConfig,
    /// Where readings come from.
    pub source: Source,
    /// The last level of the readings' topic, `sensors/{device}/{metric}`.
    pub metric: String,
    /// What every client is told; the device's name is set by the fleet.
    pub client: client::Config,
}

impl Config {
    /// A fleet that sends a reading a second to a node.
    pub fn new(host: impl Into<String>, port: u16, devices: usize) -> Self {
        Self {
            devices,
            prefix: "sensor".into(),
            interval: Duration::from_secs(1),
            seed: 1,
            signal: SignalConfig::default(),
            source: Source::Simulated,
            metric: "temperature".into(),
            client: client::Config::new(host, port, "sensor"),
        }
    }
}

/// Why a fleet does not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// A client cannot be started.
    #[error(transparent)]
    Client(#[from] client::StartError),
    /// A bound of the fleet's own.
    #[error("{0}")]
    Bound(&'static str),
    /// A recorded series could not be read.
    #[error("{}: {why}", path.display())]
    Series {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
}

/// There is no device of that name in the fleet.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("the fleet has no device {0:?}")]
pub struct UnknownDevice(pub String);

/// Sums over the fleet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Devices that are connected.
    pub online: usize,
    /// Readings handed to the clients.
    pub sent: u64,
    /// Readings acknowledged.
    pub acked: u64,
    /// Commands done.
    pub commands: u64,
    /// Commands that came again and were not done again.
    pub repeats: u64,
    /// Connections that broke or failed.
    pub breaks: u64,
}

struct Device {
    name: String,
    topic: String,
    state: Arc<Mutex<State>>,
    client: Client,
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A running fleet. Dropping it ends all devices at once; [`Fleet::stop`] flushes first.
pub struct Fleet {
    devices: Arc<Vec<Device>>,
    task: Option<JoinHandle<()>>,
}

/// The name of a fleet's device by its number, from 1.
pub fn device_name(prefix: &str, number: usize) -> String {
    format!("{prefix}-{number:04}")
}

impl Source {
    /// A recorded series from a CSV file.
    pub fn from_csv(path: impl Into<PathBuf>, speed: f64) -> Result<Self, StartError> {
        let path = path.into();
        let text = std::fs::read_to_string(&path).map_err(|error| error.to_string());
        let series = text.and_then(|text| Series::parse(&text).map_err(|error| error.to_string()));
        match series {
            Ok(series) => Ok(Self::Replay { series: Arc::new(series), speed }),
            Err(why) => Err(StartError::Series { path, why }),
        }
    }
}

impl Fleet {
    /// Starts all devices on the current tokio runtime.
    pub fn start(config: Config) -> Result<Self, StartError> {
        if config.devices > DEVICES_MAX {
            return Err(StartError::Bound("a fleet has at most 100,000 devices"));
        }
        if config.interval.is_zero() {
            return Err(StartError::Bound("the interval is longer than nothing"));
        }
        let devices = (1..=config.devices).map(|number| Device::start(&config, number));
        let devices: Arc<Vec<Device>> = Arc::new(devices.collect::<Result<_, _>>()?);
        let task = tokio::spawn(take_readings(devices.clone(), config.interval, config.seed));
        Ok(Self { devices, task: Some(task) })
    }

    /// The devices' names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.devices.iter().map(|device| device.name.as_str())
    }

    /// Makes something wrong with a device.
    pub fn inject(&self, device: &str, fault: Fault) -> Result<(), UnknownDevice> {
        lock(&self.find(device)?.state).signal.inject(fault);
        Ok(())
    }

    /// Ends a device's faults.
    pub fn heal(&self, device: &str) -> Result<(), UnknownDevice> {
        lock(&self.find(device)?.state).signal.heal();
        Ok(())
    }

    /// A device as it is now.
    pub fn status(&self, device: &str) -> Result<DeviceStatus, UnknownDevice> {
        Ok(self.find(device)?.status())
    }

    /// Sums over all devices.
    pub fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for device in self.devices.iter() {
            let (status, counters) = (device.status(), device.client.counters());
            totals.online += usize::from(status.online);
            totals.sent += status.sent;
            totals.acked += status.acked;
            totals.commands += status.commands;
            totals.repeats += counters.repeats;
            totals.breaks += counters.breaks;
        }
        totals
    }

    /// The times from a reading to the command that followed it, as the devices measured them from
    /// their newest reading; unsorted.
    pub fn latencies(&self) -> Vec<Duration> {
        self.devices.iter().flat_map(|device| lock(&device.state).latencies.clone()).collect()
    }

    /// Whether every device has sent all it had (recorded series only) and all is acknowledged.
    pub fn is_finished(&self) -> bool {
        self.devices.iter().all(|device| lock(&device.state).finished() && device.client.unacked() == 0)
    }

    /// Every device's account, by name, as it is now.
    pub fn ledgers(&self) -> Vec<(String, Ledger)> {
        self.devices.iter().map(|device| (device.name.clone(), lock(&device.state).ledger.clone())).collect()
    }

    /// Takes no more readings, waits until what was sent is acknowledged, ends all devices, and gives
    /// their accounts.
    pub async fn stop(mut self, within: Duration) -> Vec<(String, Ledger)> {
        let deadline = Instant::now() + within;
        if let Some(task) = self.task.take() {
            task.abort();
            // It was told to end; that it was cancelled is no news.
            let _ = task.await;
        }
        let states: Vec<_> = self.devices.iter().map(|device| (device.name.clone(), device.state.clone())).collect();
        if let Some(devices) = Arc::get_mut(&mut self.devices) {
            let mut stopping = tokio::task::JoinSet::new();
            for device in devices.drain(..) {
                let left = deadline.saturating_duration_since(Instant::now());
                stopping.spawn(device.client.stop(left));
            }
            stopping.join_all().await;
        }
        states.into_iter().map(|(name, state)| (name, lock(&state).ledger.clone())).collect()
    }

    fn find(&self, name: &str) -> Result<&Device, UnknownDevice> {
        self.devices.iter().find(|device| device.name == name).ok_or_else(|| UnknownDevice(name.into()))
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
        }
    }
}

impl Device {
    fn start(config: &Config, number: usize) -> Result<Self, StartError> {
        let name = device_name(&config.prefix, number);
        let seed = config.seed.wrapping_mul(0x9e37_79b9).wrapping_add(number as u64);
        let signal = Signal::new(config.signal, seed);
        let state = Arc::new(Mutex::new(State::new(signal, config.source.clone(), config.interval)));
        let client = client::Config { device: name.clone(), client_id: None, seed, ..config.client.clone() };
        let client = Client::start(client, handlers(&state, lock))?;
        Ok(Self { topic: format!("sensors/{name}/{}", config.metric), name, state, client })
    }

    fn status(&self) -> DeviceStatus {
        let online = *self.client.online().borrow();
        let state = lock(&self.state);
        DeviceStatus {
            name: self.name.clone(),
            temperature: state.value,
            interval: state.interval,
            fault: state.signal.fault(),
            sent: state.ledger.sent_count(),
            acked: state.ledger.acked_count(),
            commands: state.commands,
            online,
            finished: state.finished(),
        }
    }

    /// Takes one reading; gives when the next is due, or `None` when there is none.
    fn take_reading(&self, due: Duration, elapsed: Duration) -> Option<Duration> {
        let wall_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_millis() as i64);
        // Noted before it is handed over, as its fate may come at once, and unlocked, as another's may.
        let reading = lock(&self.state).reading(wall_ms, Instant::now())?;
        let (seq, ledger) = (reading.seq, self.state.clone());
        let taken =
            self.client.publish_then(&self.topic, reading.payload.clone(), PublishOptions::default(), move |fate| {
                lock(&ledger).ledger.ended(seq, fate);
            });
        let mut state = lock(&self.state);
        match taken {
            Ok(()) => (!state.finished()).then(|| state.next_due(due)),
            Err(error) => {
                state.give_back(reading);
                (error == PublishError::Full).then_some(elapsed + FULL_WAIT)
            }
        }
    }
}

async fn take_readings(devices: Arc<Vec<Device>>, interval: Duration, seed: u64) {
    let begin = tokio::time::Instant::now();
    let mut random = seed;
    let mut due: BinaryHeap<Reverse<(Duration, usize)>> = (0..devices.len())
        .map(|index| {
            // Devices do not march in step.
            let part = (client::backoff::splitmix(&mut random) % 1_000) as u32;
            Reverse((interval * part / 1_000, index))
        })
        .collect();
    let mut in_a_row = 0;
    while let Some(Reverse((at, index))) = due.pop() {
        in_a_row += 1;
        if begin.elapsed() < at {
            in_a_row = 0;
            tokio::time::sleep_until(begin + at).await;
        } else if in_a_row >= READINGS_IN_A_ROW_MAX {
            in_a_row = 0;
            tokio::task::yield_now().await;
        }
        let Some(device) = devices.get(index) else { continue };
        let elapsed = begin.elapsed();
        // Who fell behind by more than one interval does not make up for it in a burst.
        if let Some(next) = device.take_reading(at.max(elapsed.saturating_sub(interval)), elapsed) {
            due.push(Reverse((next, index)));
        }
    }
}

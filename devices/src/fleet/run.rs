//! The fleet itself: one task takes everybody's readings when they are due.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use thiserror::Error;
use tokio::task::JoinSet;

use super::device::{DeviceClock, DeviceStatus, State, handlers};
use super::ledger::Ledger;
use super::replay::Series;
use super::signal::{Fault, Signal, SignalConfig};
use super::weather::{Event, Forecast, Weather};
use crate::client::{self, Client, PublishError, PublishOptions};

/// Most latencies that a device keeps.
pub const LATENCIES_MAX: usize = 10_000;
/// Most devices of one fleet.
pub const DEVICES_MAX: usize = 100_000;
/// The most that a device's clock may be wrong: ten years.
const SKEW_MAX: Duration = Duration::from_secs(10 * 365 * 24 * 3_600);
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
    /// How much faster than real a simulated fleet's time runs: at 60, an hour's readings are taken in a minute.
    pub speed: f64,
    /// Devices' clocks are wrong by up to this, before or behind, each by its own amount.
    pub skew: Duration,
    /// What befalls the connections.
    pub weather: Weather,
    /// A word that each reading carries, so that one run's readings are known among others'.
    pub run: Option<String>,
    /// What every client is told; the device's name is set by the fleet.
    pub client: client::Config,
}

impl Config {
    /// A fleet that sends a reading a second to a node.
    pub fn new(host: impl Into<String>, port: u16, devices: usize) -> Self {
        Self::of(client::Config::new(host, port, "sensor"), devices)
    }

    /// A fleet of clients like this one.
    pub fn of(client: client::Config, devices: usize) -> Self {
        Self {
            devices,
            prefix: "sensor".into(),
            interval: Duration::from_secs(1),
            seed: 1,
            signal: SignalConfig::default(),
            source: Source::Simulated,
            metric: "temperature".into(),
            speed: 1.0,
            skew: Duration::ZERO,
            weather: Weather::default(),
            run: None,
            client,
        }
    }

    /// The time between a device's readings as it passes here.
    fn pace(&self) -> Duration {
        self.interval.div_f64(self.speed)
    }

    fn check(&self) -> Result<(), StartError> {
        let wrong = [
            (self.devices > DEVICES_MAX, "a fleet has at most 100,000 devices"),
            (self.interval.is_zero(), "the interval is longer than nothing"),
            (!(1e-3..=1e6).contains(&self.speed), "the speed lies between 0.001 and 1,000,000"),
            (self.skew > SKEW_MAX, "clocks are wrong by at most ten years"),
        ];
        match wrong.into_iter().find(|(is_wrong, _)| *is_wrong) {
            Some((_, rule)) => Err(StartError::Bound(rule)),
            None => Ok(()),
        }
    }
}

/// Why a fleet does not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// A client cannot be started.
    #[error(transparent)]
    Client(#[from] client::StartError),
    /// The system gives no UDP port.
    #[error("no UDP port for the fleet: {0}")]
    Port(std::io::Error),
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
    tasks: JoinSet<()>,
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
    /// Starts all devices on the current tokio runtime. By QUIC they share one UDP port, unless the client's
    /// configuration names another.
    pub fn start(mut config: Config) -> Result<Self, StartError> {
        config.check()?;
        share_port(&mut config.client)?;
        let devices = (1..=config.devices).map(|number| Device::start(&config, number));
        let devices: Arc<Vec<Device>> = Arc::new(devices.collect::<Result<_, _>>()?);
        let mut tasks = JoinSet::new();
        tasks.spawn(take_readings(devices.clone(), config.pace(), config.seed));
        if config.weather != Weather::default() {
            let forecast = Forecast::new(config.weather, devices.len(), config.seed);
            tasks.spawn(keep_weather(devices.clone(), forecast));
        }
        Ok(Self { devices, tasks })
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

    /// Breaks all connections at once; the devices connect again by themselves.
    pub fn storm(&self) {
        self.devices.iter().for_each(|device| device.client.break_off());
    }

    /// Holds all devices offline, or lets them connect again.
    pub fn hold_offline(&self, hold: bool) {
        self.devices.iter().for_each(|device| device.client.hold_offline(hold));
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
        self.tasks.shutdown().await;
        self.hold_offline(false);
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

impl Device {
    fn start(config: &Config, number: usize) -> Result<Self, StartError> {
        let name = device_name(&config.prefix, number);
        let seed = config.seed.wrapping_mul(0x9e37_79b9).wrapping_add(number as u64);
        let signal = Signal::new(config.signal, seed);
        let clock = DeviceClock { begin_ms: wall_ms(), skew_ms: skew_ms(config.skew, seed), speed: config.speed };
        let mut state = State::new(signal, config.source.clone(), config.interval, clock);
        state.run.clone_from(&config.run);
        let state = Arc::new(Mutex::new(state));
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
        // Noted before it is handed over, as its fate may come at once, and unlocked, as another's may.
        let reading = lock(&self.state).reading(elapsed, Instant::now())?;
        let options = PublishOptions::default().at(reading.at_ms);
        let (seq, ledger) = (reading.seq, self.state.clone());
        let taken = self.client.publish_then(&self.topic, reading.payload.clone(), options, move |fate| {
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

/// Thousands of sockets are more than a system likes to give to one process.
#[cfg(feature = "quic")]
fn share_port(client: &mut client::Config) -> Result<(), StartError> {
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
    if let client::Transport::Quic { host, endpoint, .. } = &mut client.transport
        && endpoint.is_none()
    {
        let is_v6 = matches!(host.parse(), Ok(IpAddr::V6(_)));
        let any = if is_v6 { IpAddr::V6(Ipv6Addr::UNSPECIFIED) } else { IpAddr::V4(Ipv4Addr::UNSPECIFIED) };
        *endpoint = Some(client::SharedEndpoint::bind(SocketAddr::new(any, 0)).map_err(StartError::Port)?);
    }
    Ok(())
}

#[cfg(not(feature = "quic"))]
fn share_port(_client: &mut client::Config) -> Result<(), StartError> {
    Ok(())
}

fn wall_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_millis() as i64)
}

/// How wrong a device's clock is: up to `most` before or behind.
fn skew_ms(most: Duration, seed: u64) -> i64 {
    let mut random = seed ^ 0x5ca1_ab1e;
    let span = 2 * most.as_millis() as u64 + 1;
    (client::backoff::splitmix(&mut random) % span) as i64 - most.as_millis() as i64
}

/// Does to the connections what the forecast says.
async fn keep_weather(devices: Arc<Vec<Device>>, mut forecast: Forecast) {
    let begin = tokio::time::Instant::now();
    while let Some((at, event)) = forecast.next_event() {
        tokio::time::sleep_until(begin + at).await;
        match event {
            Event::Break(device) => devices.iter().skip(device).take(1).for_each(|device| device.client.break_off()),
            Event::Storm => devices.iter().for_each(|device| device.client.break_off()),
            Event::Cut => devices.iter().for_each(|device| device.client.hold_offline(true)),
            Event::Mended => devices.iter().for_each(|device| device.client.hold_offline(false)),
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

//! What the story is played with: a node on a store of its own, and two fleets.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use devices::fleet::Fault;
use serde_json::Value;

use crate::bench::error::io;
use crate::bench::{BenchError, Node, build};
use crate::demo::fleets::{Accounts, Doors, Fleets};
use crate::demo::panel::View;
use crate::demo::story::Seen;

/// How much the device on stage heats up, in °C.
const HEAT: f64 = 60.0;
/// How often the alarms are read from the node.
const ALARMS_EVERY: Duration = Duration::from_secs(1);

/// The node, the devices, and what was counted of them.
pub struct Stage {
    binary: PathBuf,
    node: Option<Node>,
    fleets: Fleets,
    /// Readings acknowledged at earlier times, for the rate.
    acked: (Instant, u64),
    per_second: u64,
    /// Where the devices look for the node.
    doors: Doors,
    alarms: (u64, u64),
    alarms_at: Instant,
    folder: tempfile::TempDir,
}

/// What is left when all has stopped.
pub struct Ending {
    /// The devices' accounts.
    pub fleets: Vec<Accounts>,
    /// The readings in the log, an event a line.
    pub tail: String,
    pub raised: u64,
    pub cleared: u64,
}

impl Stage {
    /// Builds and starts the node, deploys threshold-alarm and starts the devices.
    pub fn set(root: &Path) -> Result<Stage, BenchError> {
        let binary = build::release(root, &["--package", "edgeway"])?.join("edgeway");
        let folder = tempfile::tempdir().map_err(io("making a folder for the store"))?;
        let node = Node::start_with_quic(&binary, &folder.path().join("data"))?;
        let component = root.join("target/plugins/threshold-alarm.wasm");
        let manifest = root.join("plugins/threshold-alarm/manifest.toml");
        let (component, manifest) = (component.to_string_lossy(), manifest.to_string_lossy());
        node.cli(&["plugin", "deploy", &component, "--manifest", &manifest])?;
        let (quic, fingerprint) = node.quic()?;
        let doors = Doors { mqtt: node.mqtt, quic, fingerprint };
        let fleets = Fleets::start(&doors)?;
        let now = Instant::now();
        Ok(Stage {
            binary,
            node: Some(node),
            fleets,
            acked: (now, 0),
            per_second: 0,
            doors,
            alarms: (0, 0),
            alarms_at: now,
            folder,
        })
    }

    /// What the story goes by.
    pub fn seen(&self, device: &str) -> Result<Seen, BenchError> {
        let totals = self.fleets.totals();
        let status = self.fleets.status(device)?;
        Ok(Seen {
            devices: totals.iter().map(|(_, devices, _)| devices).sum(),
            online: totals.iter().map(|(_, _, totals)| totals.online).sum(),
            acked: totals.iter().map(|(_, _, totals)| totals.acked).sum(),
            temperature: status.temperature,
            commands: status.commands,
        })
    }

    /// What the panel shows; time and title are the story's.
    pub fn view(&mut self, device: &'static str) -> Result<View, BenchError> {
        let (seen, totals) = (self.seen(device)?, self.fleets.totals());
        let (since, before) = self.acked;
        if since.elapsed() >= Duration::from_secs(1) {
            self.per_second = ((seen.acked - before) as f64 / since.elapsed().as_secs_f64()) as u64;
            self.acked = (Instant::now(), seen.acked);
        }
        if self.alarms_at.elapsed() >= ALARMS_EVERY {
            self.alarms_at = Instant::now();
            self.read_alarms();
        }
        let mut latencies = self.fleets.latencies();
        latencies.sort_unstable();
        let median = latencies.get(latencies.len() / 2).copied();
        Ok(View {
            fleets: totals.map(|(by, devices, totals)| (by, totals.online, devices)).to_vec(),
            sent: totals.iter().map(|(_, _, totals)| totals.sent).sum(),
            acked: seen.acked,
            per_second: self.per_second,
            raised: self.alarms.0,
            cleared: self.alarms.1,
            commands: totals.iter().map(|(_, _, totals)| totals.commands).sum(),
            latency: median.zip(latencies.last().copied()),
            device,
            temperature: seen.temperature,
            ..View::default()
        })
    }

    /// Counts raised and cleared alarms. Until the first alarm there is no topic, and while the node is dead nobody to
    /// ask: the last count stands then.
    fn read_alarms(&mut self) {
        let tail = self.node.as_ref().and_then(|node| node.cli(&["tail", "alarms", "--from", "start", "--json"]).ok());
        if let Some(tail) = tail {
            let count = |kind: &str| tail.lines().filter(|line| alarm(line).as_deref() == Some(kind)).count() as u64;
            self.alarms = (count("raised"), count("cleared"));
        }
    }

    pub fn overheat(&mut self, device: &str) -> Result<(), BenchError> {
        self.fleets.inject(device, Fault::Overheat(HEAT))
    }

    /// Ends the node as a power switch would end its process.
    pub fn kill(&mut self) {
        self.node = None;
    }

    /// Starts it again on its store, where the devices look for it.
    pub fn restart(&mut self) -> Result<(), BenchError> {
        let (data, quic) = (self.folder.path().join("data"), self.doors.quic.to_string());
        self.node = Some(Node::start_with(&self.binary, &data, self.doors.mqtt, &["--quic", &quic])?);
        Ok(())
    }

    /// Stops the devices and the node, and gives what is left of them.
    pub async fn close(mut self, within: Duration) -> Result<Ending, BenchError> {
        self.read_alarms();
        let fleets = self.fleets.stop(within).await;
        let Some(node) = self.node else {
            return Err(BenchError::Program("the node is not running".to_owned()));
        };
        let tail = node.cli(&["tail", "telemetry", "--from", "start", "--json"])?;
        node.stop()?;
        Ok(Ending { fleets, tail, raised: self.alarms.0, cleared: self.alarms.1 })
    }
}

/// Whether a line of the alarm topic tells of a raised or a cleared alarm.
fn alarm(line: &str) -> Option<String> {
    let event: Value = serde_json::from_str(line).ok()?;
    let value = event.get("value")?;
    let alarm = match value.as_str() {
        Some(text) => serde_json::from_str::<Value>(text).ok()?.get("alarm")?.as_str()?.to_owned(),
        None => value.get("alarm")?.as_str()?.to_owned(),
    };
    Some(alarm)
}
